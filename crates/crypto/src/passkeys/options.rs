//! The options that a web page passes to `navigator.credentials.create()` and `get()`, in the JSON form of Web
//! Authentication sections 5.1.8 and 5.1.9.

use domain::Factor;
use domain::factors::PasskeyFactor;
use domain::factors::passkey::{CoseAlgorithm, PasskeyCredential, RelyingPartyId};
use domain::services::{Attachment, Requirement};
use serde_json::{Value, json};

use super::{PasskeyChallenge, format_credential_id};
use crate::compact;

/// Time that a user has to register a passkey, in milliseconds. The server accepts the registration for as long.
const REGISTRATION_TIMEOUT_MS: i64 = domain::factors::passkey::REGISTRATION_LIFETIME_SECONDS * 1000;

/// Time that a user has to sign in, in milliseconds. The challenge expires after it.
const SIGN_IN_TIMEOUT_MS: i64 = domain::challenges::DEFAULT_LIFETIME_SECONDS * 1000;

/// Returns the options with which a browser registers a passkey. `existing` are the user's passkeys of the same relying
/// party, whose authenticators must not register again.
pub fn creation_options(
    factor: &Factor<PasskeyFactor>,
    challenge: &PasskeyChallenge,
    existing: &[&PasskeyCredential],
) -> Value {
    let passkey = &factor.kind;
    let is_required = passkey.discoverable_credentials == Requirement::Required;
    let mut selection = json!({
        "requireResidentKey": is_required,
        "residentKey": passkey.discoverable_credentials,
        "userVerification": passkey.user_verification,
    });
    if passkey.authenticator_attachment != Attachment::Any {
        selection["authenticatorAttachment"] = json!(passkey.authenticator_attachment);
    }
    let algorithms =
        CoseAlgorithm::ALL.map(|algorithm| json!({ "type": "public-key", "alg": algorithm.identifier() }));
    json!({ "publicKey": {
        "rp": { "id": passkey.relying_party.id, "name": passkey.relying_party.name },
        "user": {
            "id": compact::encode(factor.entity_sid.to_string().as_bytes()),
            "name": factor.friendly_name,
            "displayName": factor.friendly_name,
        },
        "challenge": challenge.to_base64url(),
        "pubKeyCredParams": algorithms,
        "timeout": REGISTRATION_TIMEOUT_MS,
        "excludeCredentials": descriptors(existing),
        "authenticatorSelection": selection,
        "attestation": "none",
    } })
}

/// Returns the options with which a browser signs in, without the challenge, so that they can be stored. `allowed` are
/// the passkeys that may be used; if it is empty, any discoverable passkey of the relying party may be.
pub fn request_options(
    relying_party_id: &RelyingPartyId,
    allowed: &[&PasskeyCredential],
    user_verification: Requirement,
) -> Value {
    json!({ "publicKey": {
        "timeout": SIGN_IN_TIMEOUT_MS,
        "rpId": relying_party_id,
        "allowCredentials": descriptors(allowed),
        "userVerification": user_verification,
    } })
}

/// Returns the options of [`request_options`] with the challenge.
pub fn with_challenge(mut options: Value, challenge: &PasskeyChallenge) -> Value {
    options["publicKey"]["challenge"] = challenge.to_base64url().into();
    options
}

/// Returns the descriptors of credentials. Each has the member `transports`, which Twilio's SDKs require.
fn descriptors(credentials: &[&PasskeyCredential]) -> Vec<Value> {
    let descriptor = |credential: &&PasskeyCredential| {
        json!({
            "type": "public-key",
            "id": format_credential_id(&credential.id),
            "transports": credential.transports,
        })
    };
    credentials.iter().map(descriptor).collect()
}
