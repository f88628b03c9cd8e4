//! Handlers for `/v2/Services/{ServiceSid}/Entities/{Identity}/Factors` (docs/protocol/resources.md, section 3).

use actix_web::HttpResponse;
use app::factors::{FactorUpdate, NewFactor};
use app::{Backend, BackendOrDevice, BackendOrEnrollee};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::factors::{Changes, Notification, Platform, PublicKey};
use domain::parameter::Expected;
use domain::{Code, Entity, EntityPath, Factor, FactorType, Order, Problem};
use serde_json::{Value, json};

use crate::error::Error;
use crate::form::Form;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(
    request: AuthorizedRequest<EntityPath, BackendOrEnrollee>,
) -> Result<HttpResponse, Error> {
    let factor_type: FactorType = request.form.required("FactorType")?;
    request.caller.require_factor_type(factor_type)?;
    factor_type.require_served()?;
    let new = NewFactor {
        friendly_name: request.form.required("FriendlyName")?,
        public_key: public_key(&request.form)?,
        app_id: request.form.required("Config.AppId")?,
        notification: Notification::new(
            request.form.required::<Platform>("Config.NotificationPlatform")?,
            request.form.optional("Config.NotificationToken")?,
        )?,
        sdk_version: request.form.optional("Config.SdkVersion")?,
        metadata: request.form.optional("Metadata")?,
    };
    let factor = request.app.create_factor(&request.origin, &request.caller, request.resource, new).await?;
    // Only the response to a factor's creation contains its binding.
    let mut body = view(&factor, &request.public_url);
    body["binding"] = json!({ "alg": "ES256", "public_key": STANDARD.encode(factor.public_key.as_der()) });
    body["options"] = Value::Null;
    Ok(HttpResponse::Created().json(body))
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.factors(request.caller, request.resource.path(), listing.page).await?;
    Ok(listing.body("factors", &page, |factor| view(factor, &request.public_url)))
}

/// Verifies the factor with `AuthPayload`, updates its settings, or both.
pub(crate) async fn update(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let update = FactorUpdate {
        proof: proof(&request.form)?,
        changes: Changes {
            friendly_name: request.form.optional("FriendlyName")?,
            notification_token: request.form.optional("Config.NotificationToken")?,
            notification_platform: request.form.optional("Config.NotificationPlatform")?,
            sdk_version: request.form.optional("Config.SdkVersion")?,
        },
    };
    let (path, sid) = (request.resource.path(), request.resource.sid);
    let factor = request.app.update_factor(&request.origin, &request.caller, path, sid, update).await?;
    Ok(HttpResponse::Ok().json(view(&factor, &request.public_url)))
}

pub(crate) async fn delete(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let (path, sid) = (request.resource.path(), request.resource.sid);
    request.app.delete_factor(&request.origin, &request.caller, path, sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Parses `Binding.PublicKey` and checks `Binding.Alg`, which must be `ES256` if present. Returns the public key.
///
/// # Errors
/// Returns error code 20001 if the key is missing, 60306 if a parameter was sent twice, or 60314 if a value is invalid.
fn public_key(form: &Form) -> Result<PublicKey, Problem> {
    let invalid = |advice| Problem::with_advice(Code::InvalidBinding, advice);
    if form.optional::<String>("Binding.Alg")?.is_some_and(|alg| alg != "ES256") {
        return Err(invalid("Binding.Alg must be ES256"));
    }
    let text: String = form.required("Binding.PublicKey")?;
    let expected =
        "Binding.PublicKey must be the base64 of a P-256 key as DER SubjectPublicKeyInfo, 91 bytes";
    crypto::signatures::parse_public_key(&text).ok_or_else(|| invalid(expected))
}

/// Parses `AuthPayload`, a base64-encoded DER signature (docs/protocol/device.md, section 5). Returns the signature, or
/// `None` if the parameter is absent.
fn proof(form: &Form) -> Result<Option<Vec<u8>>, Problem> {
    let Some(text) = form.optional::<String>("AuthPayload")? else { return Ok(None) };
    let expected = Expected::new("must be the base64 of a DER signature of the factor's SID");
    STANDARD.decode(text).map(Some).map_err(|_| Problem::invalid("AuthPayload", &expected))
}

fn view(factor: &Factor, public_url: &str) -> Value {
    let entity = format!("{public_url}/v2/Services/{}/Entities/{}", factor.service_sid, factor.identity);
    json!({
        "sid": factor.sid,
        "account_sid": factor.account_sid,
        "service_sid": factor.service_sid,
        "entity_sid": factor.entity_sid,
        "identity": factor.identity,
        "date_created": factor.created_at,
        "date_updated": factor.updated_at,
        "friendly_name": factor.friendly_name,
        "status": factor.status.as_str(),
        "factor_type": FactorType::Push.as_str(),
        "config": {
            "sdk_version": factor.sdk_version,
            "app_id": factor.app_id,
            "notification_platform": factor.notification.platform().as_str(),
            "notification_token": factor.notification.token(),
            "credential_sid": factor.credential_sid,
        },
        "metadata": factor.metadata,
        "url": format!("{entity}/Factors/{}", factor.sid),
    })
}
