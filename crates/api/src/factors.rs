//! `/v2/Services/{ServiceSid}/Entities/{Identity}/Factors` (docs/protocol/resources.md, section 3).

use actix_web::HttpResponse;
use app::factors::{FactorUpdate, NewFactor};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::factors::{Changes, Notification, Platform, PublicKey};
use domain::parameter::Expected;
use domain::{Code, Entity, EntityPath, Factor, FactorType, Order, Problem};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::form::Form;
use crate::list::Listing;

pub(crate) async fn create(call: Call<EntityPath>) -> Result<HttpResponse, Error> {
    let factor_type: FactorType = call.form.required("FactorType")?;
    call.caller.may_create(factor_type)?;
    factor_type.served()?;
    let new = NewFactor {
        friendly_name: call.form.required("FriendlyName")?,
        public_key: public_key(&call.form)?,
        app_id: call.form.required("Config.AppId")?,
        notification: Notification::new(
            call.form.required::<Platform>("Config.NotificationPlatform")?,
            call.form.optional("Config.NotificationToken")?,
        )?,
        sdk_version: call.form.optional("Config.SdkVersion")?,
        metadata: call.form.optional("Metadata")?,
    };
    let factor = call.app.create_factor(&call.origin, &call.caller, call.resource, new).await?;
    // Only the answer to its creation shows what the factor is bound to.
    let mut body = view(&factor, &call.base);
    body["binding"] = json!({ "alg": "ES256", "public_key": STANDARD.encode(factor.public_key.as_der()) });
    body["options"] = Value::Null;
    Ok(HttpResponse::Created().json(body))
}

pub(crate) async fn fetch(call: Call<Factor>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.base)))
}

pub(crate) async fn list(call: Call<Entity>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let page = call.app.factors(call.resource.path(), listing.page).await?;
    Ok(listing.body("factors", &page, |factor| view(factor, &call.base)))
}

/// Verifies the factor with `AuthPayload`, updates it, or both.
pub(crate) async fn update(call: Call<Factor>) -> Result<HttpResponse, Error> {
    let update = FactorUpdate {
        proof: proof(&call.form)?,
        changes: Changes {
            friendly_name: call.form.optional("FriendlyName")?,
            notification_token: call.form.optional("Config.NotificationToken")?,
            notification_platform: call.form.optional("Config.NotificationPlatform")?,
            sdk_version: call.form.optional("Config.SdkVersion")?,
        },
    };
    let (path, sid) = (call.resource.path(), call.resource.sid);
    let factor = call.app.update_factor(&call.origin, &call.caller, path, sid, update).await?;
    Ok(HttpResponse::Ok().json(view(&factor, &call.base)))
}

pub(crate) async fn delete(call: Call<Factor>) -> Result<HttpResponse, Error> {
    let (path, sid) = (call.resource.path(), call.resource.sid);
    call.app.delete_factor(&call.origin, &call.caller, path, sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `Binding.PublicKey` and `Binding.Alg`, which have an error code of their own.
fn public_key(form: &Form) -> Result<PublicKey, Problem> {
    let invalid = |advice| Problem::with(Code::InvalidBinding, advice);
    if form.optional::<String>("Binding.Alg")?.is_some_and(|alg| alg != "ES256") {
        return Err(invalid("Binding.Alg must be ES256"));
    }
    let text: String = form.required("Binding.PublicKey")?;
    let expected =
        "Binding.PublicKey must be the base64 of a P-256 key as DER SubjectPublicKeyInfo, 91 bytes";
    crypto::signatures::parse_public_key(&text).ok_or_else(|| invalid(expected))
}

/// `AuthPayload` of a push factor: a DER signature in base64 (docs/protocol/device.md, section 5).
fn proof(form: &Form) -> Result<Option<Vec<u8>>, Problem> {
    let Some(text) = form.optional::<String>("AuthPayload")? else { return Ok(None) };
    let expected = Expected::new("must be the base64 of a DER signature of the factor's SID");
    STANDARD.decode(text).map(Some).map_err(|_| Problem::invalid("AuthPayload", &expected))
}

fn view(factor: &Factor, base: &str) -> Value {
    let entity = format!("{base}/Services/{}/Entities/{}", factor.service_sid, factor.identity);
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
