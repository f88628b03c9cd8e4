//! Authenticator data of passkeys, in registrations and in signed sign-ins.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::SigningKey;
use crypto::passkeys::{
    Assertion, AssertionResponse, CoseAlgorithm, ExpectedAssertion, ExpectedRegistration, PasskeyPublicKey,
    Registration, RegistrationResponse, Rejection, StoredCredential, sha256,
};
use serde_json::json;

use crate::PHONE;

const RELYING_PARTY_ID: &str = "example.com";
const ORIGIN: &str = "https://example.com";
const USER_HANDLE: &str = "YE019a7d1b00007e33a5c1d90b42f68a00";
const STORED_SIGN_COUNT: u32 = 7;

static ORIGINS: LazyLock<[String; 1]> = LazyLock::new(|| [ORIGIN.to_owned()]);
static KEY: LazyLock<PasskeyPublicKey> = LazyLock::new(|| key_of(&PHONE));
static OTHER_KEY: LazyLock<PasskeyPublicKey> = LazyLock::new(|| key_of(&SigningKey::generate()));

fn key_of(phone: &SigningKey) -> PasskeyPublicKey {
    PasskeyPublicKey::from_checked_der(CoseAlgorithm::Es256, phone.public_key().as_der().to_vec())
}

/// Interprets the input as authenticator data, and as what follows the hash of the relying party's ID in them.
pub fn check(data: &[u8]) {
    registered(data);
    signed_in(data);
    let data = [&sha256(RELYING_PARTY_ID.as_bytes()), data].concat();
    registered(&data);
    signed_in(&data);
}

/// Returns the result of a registration with this attestation object and valid client data.
pub(crate) fn register(attestation_object: &[u8]) -> Result<Registration, Rejection> {
    let credential = json!({ "response": {
        "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data("webauthn.create")),
        "attestationObject": URL_SAFE_NO_PAD.encode(attestation_object),
    } });
    RegistrationResponse::parse(&credential).unwrap().verify(&ExpectedRegistration {
        challenge_digest: &sha256(b"challenge"),
        origins: &*ORIGINS,
        relying_party_id: RELYING_PARTY_ID,
        requires_user_verification: true,
    })
}

fn client_data(ceremony: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode("challenge");
    json!({ "type": ceremony, "challenge": challenge, "origin": ORIGIN }).to_string()
}

fn registered(data: &[u8]) {
    let head = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59";
    let Ok(length) = u16::try_from(data.len()) else { return };
    let result = register(&[&head[..], &length.to_be_bytes(), data].concat());
    assert_ne!(result, Err(Rejection::AttestationObject));
    let header = Header::parse(data);
    match header.and_then(|header| header.rejection()) {
        None if header.is_none() => assert_eq!(result, Err(Rejection::AuthenticatorData)),
        Some(rejection) => assert_eq!(result, Err(rejection)),
        None => {}
    }
    if let Ok(registration) = result {
        let header = header.unwrap();
        assert!(header.flags & 0x40 != 0);
        assert_eq!(registration.sign_count, header.sign_count);
        assert_eq!(registration.is_backed_up, header.flags & 0x10 != 0);
    }
}

fn signed_in(data: &[u8]) {
    let client_data = client_data("webauthn.get");
    let signature = PHONE.sign_der(&[data, &sha256(client_data.as_bytes())[..]].concat());
    let credential = json!({ "id": "AA", "response": {
        "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
        "authenticatorData": URL_SAFE_NO_PAD.encode(data),
        "signature": URL_SAFE_NO_PAD.encode(signature),
    } });
    let result = verify(&credential, &KEY, false);
    let Some(header) = Header::parse(data) else {
        assert_eq!(result, Err(Rejection::AuthenticatorData));
        return;
    };
    let is_backup_eligible = header.flags & 0x08 != 0;
    let expected = match header.rejection() {
        Some(rejection) => Err(rejection),
        None if is_backup_eligible => Err(Rejection::BackupEligibility),
        // What follows the counter is compared with another decoder in the target `attestation_object`.
        None if header.flags & 0xc0 != 0 => result.and(Ok(header.sign_count)),
        None if data.len() > 37 => Err(Rejection::TrailingData),
        None if header.sign_count <= STORED_SIGN_COUNT => Err(Rejection::Counter),
        None => Ok(header.sign_count),
    };
    assert_eq!(result.map(|assertion| assertion.sign_count), expected);
    if result.is_ok() {
        assert_eq!(verify(&credential, &OTHER_KEY, false), Err(Rejection::Signature));
        assert_eq!(verify(&credential, &KEY, true), Err(Rejection::BackupEligibility));
    }
}

fn verify(
    credential: &serde_json::Value,
    public_key: &PasskeyPublicKey,
    is_backup_eligible: bool,
) -> Result<Assertion, Rejection> {
    let response = AssertionResponse::parse(credential).unwrap();
    let checked = response.check(&sha256(b"challenge"), &*ORIGINS).unwrap();
    checked.verify(&ExpectedAssertion {
        relying_party_id: RELYING_PARTY_ID,
        requires_user_verification: true,
        user_handle: USER_HANDLE,
        requires_user_handle: false,
        credential: StoredCredential { public_key, sign_count: STORED_SIGN_COUNT, is_backup_eligible },
    })
}

/// The first 37 bytes of authenticator data, read at fixed places.
#[derive(Clone, Copy)]
struct Header {
    is_for_relying_party: bool,
    flags: u8,
    sign_count: u32,
}

impl Header {
    fn parse(data: &[u8]) -> Option<Self> {
        (data.len() >= 37).then(|| Self {
            is_for_relying_party: data[..32] == sha256(RELYING_PARTY_ID.as_bytes()),
            flags: data[32],
            sign_count: data[33..37].iter().fold(0, |number, byte| number * 256 + u32::from(*byte)),
        })
    }

    /// Returns the first check of the relying party and the flags that fails.
    fn rejection(self) -> Option<Rejection> {
        match self.flags {
            _ if !self.is_for_relying_party => Some(Rejection::RelyingParty),
            flags if flags & 0x01 == 0 => Some(Rejection::UserPresence),
            flags if flags & 0x04 == 0 => Some(Rejection::UserVerification),
            flags if flags & 0x18 == 0x10 => Some(Rejection::BackupState),
            _ => None,
        }
    }
}
