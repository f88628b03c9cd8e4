//! `/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges` (docs/protocol/resources.md, section 4).

use actix_web::HttpResponse;
use app::challenges::{Filter, NewChallenge};
use domain::challenges::{Details, Field, SIGNATURE_FIELDS};
use domain::parameter::Expected;
use domain::{Challenge, Entity, FactorType, Problem, Timestamp};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::form::Form;
use crate::list::Listing;

/// The header that tells a device what to sign. The spelling matters: an app's own network provider may
/// look it up by this key (docs/protocol/device.md, section 5).
const SIGNATURE_FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

pub(crate) async fn create(call: Call<Entity>) -> Result<HttpResponse, Error> {
    let new = NewChallenge {
        factor_sid: call.form.required("FactorSid")?,
        message: call.form.required("Details.Message")?,
        fields: fields(&call.form)?,
        hidden_details: call.form.optional("HiddenDetails")?,
        expires_at: call.form.optional("ExpirationDate")?,
    };
    let challenge = call.app.create_challenge(&call.origin, call.resource.path(), new).await?;
    Ok(HttpResponse::Created().json(view(&challenge, challenge.created_at, &call.base)))
}

pub(crate) async fn fetch(call: Call<Challenge>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().insert_header((SIGNATURE_FIELDS_HEADER, SIGNATURE_FIELDS)).json(view(
        &call.resource,
        call.app.now(),
        &call.base,
    )))
}

pub(crate) async fn list(call: Call<Entity>) -> Result<HttpResponse, Error> {
    // First, since it may name a factor that the caller may not ask about.
    let factor_sid = call.query.optional("FactorSid")?;
    factor_sid.map_or(Ok(()), |sid| call.caller.concerns(sid))?;
    let order = call.query.optional("Order")?.unwrap_or_default();
    let listing = Listing::of(&call, order, &["FactorSid", "Status", "Order"])?;
    let filter = Filter { factor_sid, status: call.query.optional("Status")? };
    let entity_sid = call.resource.sid;
    let (page, now) = call.app.challenges(&call.caller, entity_sid, filter, listing.page).await?;
    Ok(listing.body("challenges", &page, |challenge| view(challenge, now, &call.base)))
}

/// Answers the challenge with `AuthPayload`, sets its `Metadata`, or both.
pub(crate) async fn update(call: Call<Challenge>) -> Result<HttpResponse, Error> {
    let metadata = call.form.optional("Metadata")?;
    let payload: Option<String> = call.form.optional("AuthPayload")?;
    let challenge = match (payload, metadata) {
        (Some(payload), metadata) => {
            call.app.answer_challenge(&call.origin, call.resource, &payload, metadata).await?
        }
        (None, Some(metadata)) => {
            call.app.set_challenge_metadata(&call.origin, &call.resource, metadata).await?
        }
        (None, None) => return Err(Problem::missing("AuthPayload").into()),
    };
    Ok(HttpResponse::Ok().json(view(&challenge, call.app.now(), &call.base)))
}

fn fields(form: &Form) -> Result<Vec<Field>, Problem> {
    let fields: Vec<Field> = form.all("Details.Fields")?;
    if fields.len() > Details::MAX_FIELDS {
        return Err(Problem::invalid("Details.Fields", &Expected::new("must be sent at most 20 times")));
    }
    Ok(fields)
}

/// The body, with the values of the signed fields as the domain gives them, so that what a device is
/// shown is what its signature is compared with.
fn view(challenge: &Challenge, now: Timestamp, base: &str) -> Value {
    let entity = format!("{base}/Services/{}/Entities/{}", challenge.service_sid, challenge.identity);
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
