//! Client data of passkeys, compared with a reference that reads the JSON member by member.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::passkeys::{AssertionResponse, ExpectedRegistration, RegistrationResponse, Rejection};
use serde_json::{Map, Value, json};

const ORIGIN: &str = "https://example.com";

/// Interprets the input as the client data of a registration and of a sign-in.
pub fn check(data: &[u8]) {
    let credential = json!({
        "id": "AA",
        "response": {
            "clientDataJSON": URL_SAFE_NO_PAD.encode(data),
            "attestationObject": "",
            "authenticatorData": "",
            "signature": "",
        },
    });
    let expected = slowly(data);
    let registration = RegistrationResponse::parse(&credential);
    let assertion = AssertionResponse::parse(&credential);
    let Some(expected) = expected else {
        assert!(registration.is_err() && assertion.is_err());
        return;
    };
    assert_eq!(registration.is_ok(), expected.ceremony == "webauthn.create");
    assert_eq!(assertion.is_ok(), expected.ceremony == "webauthn.get");
    if let Ok(registration) = registration {
        let digest = registration.challenge().digest();
        assert_eq!(registration.challenge().to_base64url(), expected.challenge);
        assert_eq!(registration.clone().verify(&of(&[0; 32])).err(), Some(Rejection::Challenge));
        // With the right client data, the next check fails: the attestation object is empty.
        let rejection = expected.rejection.unwrap_or(Rejection::AttestationObject);
        assert_eq!(registration.verify(&of(&digest)).err(), Some(rejection));
    }
    if let Ok(assertion) = assertion {
        let digest = assertion.challenge().digest();
        assert_eq!(assertion.check(&digest, &*ORIGINS).err(), expected.rejection);
    }
}

static ORIGINS: LazyLock<[String; 1]> = LazyLock::new(|| [ORIGIN.to_owned()]);

fn of(challenge_digest: &[u8; 32]) -> ExpectedRegistration<'_> {
    ExpectedRegistration {
        challenge_digest,
        origins: &*ORIGINS,
        relying_party_id: "example.com",
        requires_user_verification: true,
    }
}

/// The members of well-formed client data.
struct Expected {
    ceremony: String,
    challenge: String,
    /// The first check that the origins do not pass.
    rejection: Option<Rejection>,
}

fn slowly(data: &[u8]) -> Option<Expected> {
    if data.len() > 4096 {
        return None;
    }
    let text = str::from_utf8(data).ok()?;
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    let object: Map<String, Value> = serde_json::from_str(json).ok()?;
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let origin = text("origin")?;
    let challenge = text("challenge").filter(|text| URL_SAFE_NO_PAD.decode(text).is_ok())?;
    let is_cross_origin = match object.get("crossOrigin").cloned().unwrap_or_default() {
        Value::Null => false,
        Value::Bool(value) => value,
        _ => return None,
    };
    let top_origin = match object.get("topOrigin").cloned().unwrap_or_default() {
        Value::Null => origin.clone(),
        Value::String(value) => value,
        _ => return None,
    };
    let rejection = match () {
        () if origin != ORIGIN => Some(Rejection::Origin),
        () if is_cross_origin => Some(Rejection::CrossOrigin),
        () if top_origin != ORIGIN => Some(Rejection::TopOrigin),
        () => None,
    };
    Some(Expected { ceremony: text("type")?, challenge, rejection })
}
