//! The parameters and the view of passkeys on the routes of all factors. The file `passkeys.rs` has their own routes.

use app::BackendOrDevice;
use domain::factors::PasskeyFactor;
use domain::{Code, Factor, FriendlyName, Problem};
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;

/// Renames the passkey. Its own route verifies it.
pub(super) async fn update(request: &AuthorizedRequest<Factor, BackendOrDevice>) -> Result<Factor, Error> {
    if request.form.optional::<String>("AuthPayload")?.is_some() {
        let advice = "a passkey is verified at /v2/Services/{ServiceSid}/Passkeys/VerifyFactor";
        return Err(Problem::with_advice(Code::IllegalFactorStatus, advice).into());
    }
    let Some(name) = request.form.optional::<FriendlyName>("FriendlyName")? else {
        return Ok(request.resource.clone());
    };
    let (path, sid) = (request.resource.path(), request.resource.sid);
    Ok(request.app.rename_passkey(&request.origin, &request.caller, path, sid, name).await?.into())
}

/// Returns the member `config` of a passkey.
pub(super) fn config(passkey: &PasskeyFactor) -> Value {
    json!({
        "relying_party": passkey.relying_party,
        "authenticator_attachment": passkey.authenticator_attachment,
        "discoverable_credentials": passkey.discoverable_credentials,
        "user_verification": passkey.user_verification,
    })
}

/// Returns the member `metadata` of a passkey: the model of its authenticator, and the time of the last sign-in. It is
/// null as long as the passkey is unverified (docs/protocol/decisions.md, No. 38).
pub(super) fn metadata(passkey: &PasskeyFactor) -> Value {
    let Some(credential) = &passkey.credential else { return Value::Null };
    let mut metadata = json!({ "aaguid": credential.aaguid_text() });
    if let Some(last_used_at) = credential.last_used_at {
        metadata["date_last_approved"] = json!(last_used_at);
    }
    metadata
}
