//! The parameters and the view of push factors.

use actix_web::HttpResponse;
use app::factors::{NewPushFactor, PushFactorUpdate};
use app::{BackendOrDevice, BackendOrEnrollee};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::factors::{Notification, Platform, PublicKey, PushChanges, PushFactor};
use domain::parameter::Expected;
use domain::{Code, EntityPath, Factor, Problem};
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::factors::view;
use crate::request::AuthorizedRequest;

pub(super) async fn create(
    request: AuthorizedRequest<EntityPath, BackendOrEnrollee>,
) -> Result<HttpResponse, Error> {
    let new = NewPushFactor {
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
    let factor =
        request.app.create_push_factor(&request.origin, &request.caller, request.resource, new).await?;
    // Only the response to a factor's creation contains its binding.
    let public_key = STANDARD.encode(factor.kind.public_key.as_der());
    let mut body = view(&factor.into(), &request.public_url);
    body["binding"] = json!({ "alg": "ES256", "public_key": public_key });
    body["options"] = Value::Null;
    Ok(HttpResponse::Created().json(body))
}

/// Verifies the factor with `AuthPayload`, updates its settings, or both.
pub(super) async fn update(
    request: &AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<Factor<PushFactor>, Error> {
    let update = PushFactorUpdate {
        proof: proof(&request.form)?,
        changes: PushChanges {
            friendly_name: request.form.optional("FriendlyName")?,
            notification_token: request.form.optional("Config.NotificationToken")?,
            notification_platform: request.form.optional("Config.NotificationPlatform")?,
            sdk_version: request.form.optional("Config.SdkVersion")?,
        },
    };
    let (path, sid) = (request.resource.path(), request.resource.sid);
    Ok(request.app.update_push_factor(&request.origin, &request.caller, path, sid, update).await?)
}

/// Returns the member `config` of a push factor.
pub(super) fn config(push: &PushFactor) -> Value {
    json!({
        "sdk_version": push.sdk_version,
        "app_id": push.app_id,
        "notification_platform": push.notification.platform().as_str(),
        "notification_token": push.notification.token(),
        "credential_sid": push.credential_sid,
    })
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
