//! Handlers for `/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges` (docs/protocol/resources.md, section 4).

use actix_web::HttpResponse;
use app::challenges::{ChallengeFilter, NewChallenge};
use app::{Backend, BackendOrDevice};
use domain::challenges::{Details, Field, SIGNATURE_FIELDS};
use domain::parameter::Expected;
use domain::{Challenge, Entity, EntityRef, FactorType, Problem, Timestamp};
use serde_json::{Value, json};

use crate::error::Error;
use crate::form::Form;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

/// The response header that lists the names of the fields that a device signs. Its capitalization matters because an
/// app's own network provider may look the header up by exactly this name (docs/protocol/device.md, section 5).
const SIGNATURE_FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

pub(crate) async fn create(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    let new = NewChallenge {
        factor_sid: request.form.required("FactorSid")?,
        message: request.form.required("Details.Message")?,
        fields: fields(&request.form)?,
        hidden_details: request.form.optional("HiddenDetails")?,
        expires_at: request.form.optional("ExpirationDate")?,
    };
    let challenge =
        request.app.create_challenge(&request.origin, request.caller, request.resource.path(), new).await?;
    Ok(HttpResponse::Created().json(view(&challenge, challenge.created_at, &request.public_url)))
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<Challenge, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().insert_header((SIGNATURE_FIELDS_HEADER, SIGNATURE_FIELDS)).json(view(
        &request.resource,
        request.app.now(),
        &request.public_url,
    )))
}

pub(crate) async fn list(
    request: AuthorizedRequest<EntityRef, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    // Check the factor before the other parameters, because the caller may not be allowed to use it.
    let factor_sid = request.query.optional("FactorSid")?;
    factor_sid.map_or(Ok(()), |sid| request.caller.require_factor(sid))?;
    let order = request.query.optional("Order")?.unwrap_or_default();
    let listing = Listing::of(&request, order, &["FactorSid", "Status", "Order"])?;
    let filter = ChallengeFilter { factor_sid, status: request.query.optional("Status")? };
    let entity = &request.resource;
    let (page, now) = request.app.challenges(&request.caller, entity, filter, listing.page).await?;
    Ok(listing.body("challenges", &page, |challenge| view(challenge, now, &request.public_url)))
}

/// Answers the challenge with `AuthPayload`, sets its `Metadata`, or both.
pub(crate) async fn update(
    request: AuthorizedRequest<Challenge, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let AuthorizedRequest { app, caller, origin, resource: challenge, form, .. } = &request;
    let metadata = form.optional("Metadata")?;
    let payload: Option<String> = form.optional("AuthPayload")?;
    let challenge = match (payload, metadata) {
        (Some(payload), metadata) => {
            app.answer_challenge(origin, caller, challenge.clone(), &payload, metadata).await?
        }
        (None, Some(metadata)) => app.set_challenge_metadata(origin, caller, challenge, metadata).await?,
        (None, None) => return Err(Problem::missing("AuthPayload").into()),
    };
    Ok(HttpResponse::Ok().json(view(&challenge, request.app.now(), &request.public_url)))
}

fn fields(form: &Form) -> Result<Vec<Field>, Problem> {
    let fields: Vec<Field> = form.all("Details.Fields")?;
    if fields.len() > Details::MAX_FIELDS {
        return Err(Problem::invalid("Details.Fields", &Expected::new("must be sent at most 20 times")));
    }
    Ok(fields)
}

/// Returns the JSON body for a challenge. The values of the signed fields come from the domain, so that the device is
/// shown exactly the values against which its signature is checked.
fn view(challenge: &Challenge, now: Timestamp, public_url: &str) -> Value {
    let entity =
        format!("{public_url}/v2/Services/{}/Entities/{}", challenge.service_sid, challenge.identity);
    let url = format!("{entity}/Challenges/{}", challenge.sid);
    let mut body = challenge.signed_fields(now);
    let rest = [
        ("entity_sid", json!(challenge.entity_sid)),
        ("date_updated", json!(challenge.updated_at)),
        ("date_responded", json!(challenge.responded_at())),
        ("responded_reason", json!("none")),
        ("metadata", json!(challenge.metadata)),
        ("factor_type", json!(FactorType::Push.as_str())),
        ("url", json!(url)),
        ("links", json!({ "notifications": format!("{url}/Notifications") })),
    ];
    body.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(body)
}
