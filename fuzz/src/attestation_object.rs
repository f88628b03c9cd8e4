//! Attestation objects of passkeys: our decoder compared with `ciborium`, which accepts more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use crypto::passkeys::{CoseAlgorithm, Registration, Rejection};
use p256::pkcs8::DecodePublicKey;

use crate::authenticator_data::register;

/// Interprets the input as an attestation object.
pub fn check(data: &[u8]) {
    let result = register(data);
    if matches!(result, Err(Rejection::AttestationObject)) {
        return;
    }
    // Every object that our decoder accepts has the same authenticator data for the other decoder.
    let mut rest = data;
    let object: Value = ciborium::from_reader(&mut rest).unwrap();
    assert!(rest.is_empty() && data.len() <= 64 * 1024);
    let members = object.as_map().unwrap();
    let member = |name: &str| {
        let found: Vec<&Value> =
            members.iter().filter(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]
    };
    assert!(member("fmt").is_text() && member("attStmt").is_map());
    let authenticator_data = member("authData").as_bytes().unwrap();
    if let Ok(registration) = result {
        accepted(&registration, authenticator_data);
    }
}

/// Checks that an accepted registration has the values of its authenticator data, and a key that another library parses.
fn accepted(registration: &Registration, data: &[u8]) {
    let id = registration.credential_id.as_bytes();
    assert_eq!(data[37..53], registration.aaguid);
    assert_eq!(usize::from(data[53]) << 8 | usize::from(data[54]), id.len());
    assert_eq!(&data[55..55 + id.len()], id);
    let mut rest = &data[55 + id.len()..];
    let key: Value = ciborium::from_reader(&mut rest).unwrap();
    let algorithm = key.as_map().unwrap().iter().find(|(label, _)| *label == Value::from(3)).unwrap();
    assert_eq!(algorithm.1, Value::from(registration.public_key.algorithm().identifier()));
    if registration.public_key.algorithm() == CoseAlgorithm::Es256 {
        assert!(p256::PublicKey::from_public_key_der(registration.public_key.as_der()).is_ok());
    }
    assert!(!registration.public_key.verify(data, URL_SAFE_NO_PAD.encode(id).as_bytes()));
}
