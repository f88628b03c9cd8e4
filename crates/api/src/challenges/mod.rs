//! Handlers for `/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges` (docs/protocol/resources.md, section 4). The
//! file of a factor type has its parameters.

mod push;
mod totp;

use std::sync::Arc;

use actix_web::HttpResponse;
use app::challenges::ChallengeFilter;
use app::{App, Backend, BackendOrDevice, Origin};
use domain::challenges::{ChallengeKind, Details, Field, PasskeyTarget, SIGNATURE_FIELDS};
use domain::parameter::Expected;
use domain::text::StringMap;
use domain::{Challenge, Entity, EntityRef, FactorSid, FactorType, Problem, Timestamp};
use serde_json::{Map, Value, json};
use web::Form;

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

/// The response header that lists the names of the fields that a device signs. Its capitalization matters because an
/// app's own network provider may look the header up by exactly this name (docs/protocol/device.md, section 5).
const SIGNATURE_FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

/// Creates a challenge. Its type, and so which parameters are required, follows from the SID of the factor.
pub(crate) async fn create(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    let factor_sid: FactorSid = request.form.required("FactorSid")?;
    match factor_sid.factor_type() {
        Some(FactorType::Totp) => totp::create(request, factor_sid).await,
        Some(FactorType::Passkeys) => Err(FactorType::Passkeys.not_served().into()),
        // A SID of no type is that of an unknown factor.
        Some(FactorType::Push) | None => push::create(request, factor_sid).await,
    }
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

/// The parameters of a request to update a challenge, for the file of its type.
struct Update {
    app: Arc<App>,
    caller: BackendOrDevice,
    origin: Origin,
    /// `AuthPayload`, whose form depends on the type.
    payload: Option<String>,
    metadata: Option<StringMap>,
}

/// Answers the challenge with `AuthPayload`, sets its `Metadata`, or both.
pub(crate) async fn update(
    request: AuthorizedRequest<Challenge, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let metadata = request.form.optional("Metadata")?;
    let payload = request.form.optional("AuthPayload")?;
    let AuthorizedRequest { app, caller, origin, resource, public_url, .. } = request;
    let update = Update { app: Arc::clone(&app), caller, origin, payload, metadata };
    let (challenge, kind) = resource.split();
    let challenge = match kind {
        ChallengeKind::Push(push) => push::update(update, challenge.with(push)).await?,
        ChallengeKind::Totp(totp) => totp::update(update, challenge.with(totp)).await?,
        ChallengeKind::Passkey(_) => return Err(FactorType::Passkeys.not_served().into()),
    };
    Ok(HttpResponse::Ok().json(view(&challenge, app.now(), &public_url)))
}

/// Returns the labeled details of a new challenge.
///
/// # Errors
/// Returns error code 60306 if there are more than 20, or if one cannot be parsed.
fn fields(form: &Form) -> Result<Vec<Field>, Problem> {
    let fields: Vec<Field> = form.all("Details.Fields")?;
    if fields.len() > Details::MAX_FIELDS {
        return Err(Problem::invalid("Details.Fields", &Expected::new("must be sent at most 20 times")));
    }
    Ok(fields)
}

/// Returns the JSON body for a challenge. The values of the signed fields come from the domain, so that the device is
/// shown exactly the values against which its signature is checked.
pub(crate) fn view(challenge: &Challenge, now: Timestamp, public_url: &str) -> Value {
    let (entity_sid, mut body) = match &challenge.kind {
        ChallengeKind::Push(push) => (json!(push.target.entity_sid), push.signed_fields(challenge, now)),
        ChallengeKind::Totp(totp) => (json!(totp.target.entity_sid), totp.shown_fields(challenge, now)),
        ChallengeKind::Passkey(passkey) => {
            let entity_sid = passkey.entity_sid().map_or(json!(""), |sid| json!(sid));
            (entity_sid, passkey_fields(passkey, challenge, now))
        }
    };
    let identity = body.get("identity").and_then(Value::as_str).unwrap_or_default();
    let entity = format!("{public_url}/v2/Services/{}/Entities/{identity}", challenge.service_sid);
    let url = format!("{entity}/Challenges/{}", challenge.sid);
    // A passkey receives no pushes.
    let links = match challenge.factor_type() {
        FactorType::Push | FactorType::Totp => json!({ "notifications": format!("{url}/Notifications") }),
        FactorType::Passkeys => Value::Null,
    };
    let rest = [
        ("entity_sid", entity_sid),
        ("date_updated", json!(challenge.updated_at)),
        ("date_responded", json!(challenge.responded_at())),
        ("responded_reason", json!("none")),
        ("metadata", json!(challenge.metadata)),
        ("factor_type", json!(challenge.factor_type().as_str())),
        ("url", json!(url)),
        ("links", links),
    ];
    body.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(body)
}

/// Returns, for a passkey challenge, the members that a device would sign in a push challenge. Members that are unknown
/// before the answer are empty strings, as in the examples of the official OpenAPI document.
fn passkey_fields(target: &PasskeyTarget, challenge: &Challenge, now: Timestamp) -> Map<String, Value> {
    let fields = [
        ("hidden_details", Value::Null),
        ("account_sid", json!(challenge.account_sid)),
        ("sid", json!(challenge.sid)),
        ("expiration_date", Value::Null),
        ("date_created", json!(challenge.created_at)),
        ("status", json!(challenge.status(now).as_str())),
        ("factor_sid", target.factor_sid().map_or(json!(""), |sid| json!(sid))),
        ("details", Value::Null),
        ("service_sid", json!(challenge.service_sid)),
        ("identity", target.identity().map_or(json!(""), |identity| json!(identity))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
