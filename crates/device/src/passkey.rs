//! A software authenticator: it creates a passkey and signs in with it, as a browser with a platform authenticator
//! does.
//!
//! Options and credentials have the JSON form of `PublicKeyCredential.parseCreationOptionsFromJSON()` and `toJSON()`
//! (Web Authentication section 5.1). Unlike a browser, this module does not compare the origin with the relying party,
//! so that a test can send a wrong one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::passkeys::sha256;
use crypto::{SigningKey, SystemEntropy};
use domain::Entropy;
use serde_json::{Value, json};

use crate::error::Error;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED_CREDENTIAL: u8 = 0x40;

/// The number of ES256 in the registry of COSE algorithms, the only algorithm of this authenticator.
const ES256: i64 = -7;

/// Length of a credential ID, in bytes.
const ID_BYTES: usize = 32;

/// A passkey and its private key. `Debug` does not show the key.
#[derive(Clone, Debug)]
pub struct Passkey {
    id: Vec<u8>,
    key: SigningKey,
    relying_party_id: String,
    user_handle: Vec<u8>,
    sign_count: u32,
    is_user_verified: bool,
}

impl Passkey {
    /// Creates a passkey from the creation options of the server, for a page with this origin. Returns the passkey and
    /// the credential to send. `options` is the object with the member `publicKey`, or that member.
    ///
    /// # Errors
    /// Returns [`Error::PasskeyOptions`] with the first member that an authenticator cannot use.
    pub fn register(options: &Value, origin: &str) -> Result<(Self, Value), Error> {
        let options = public_key(options);
        let algorithms =
            options["pubKeyCredParams"].as_array().ok_or_else(|| unusable("pubKeyCredParams"))?;
        if !algorithms.iter().any(|parameters| parameters["alg"] == ES256) {
            return Err(unusable("pubKeyCredParams"));
        }
        let mut id = vec![0; ID_BYTES];
        SystemEntropy.fill(&mut id);
        let passkey = Self {
            id,
            key: SigningKey::generate(),
            relying_party_id: text(&options["rp"]["id"], "rp.id")?.to_owned(),
            user_handle: bytes(&options["user"]["id"], "user.id")?,
            sign_count: 0,
            is_user_verified: true,
        };
        let challenge = text(&options["challenge"], "challenge")?;
        let credential = passkey.attestation(challenge, origin);
        Ok((passkey, credential))
    }

    /// Signs in with the request options of the server, from a page with this origin, and returns the credential to
    /// send. Each call increments the signature counter.
    ///
    /// # Errors
    /// Returns [`Error::PasskeyOptions`] with the first member that this passkey cannot use: `rpId` for another relying
    /// party, or `allowCredentials` without this passkey.
    pub fn sign_in(&mut self, options: &Value, origin: &str) -> Result<Value, Error> {
        let options = public_key(options);
        let challenge = text(&options["challenge"], "challenge")?;
        if text(&options["rpId"], "rpId")? != self.relying_party_id {
            return Err(unusable("rpId"));
        }
        let allowed = options["allowCredentials"].as_array().map_or(&[][..], Vec::as_slice);
        let is_allowed =
            allowed.is_empty() || allowed.iter().any(|allowed| allowed["id"] == self.credential_id());
        if !is_allowed {
            return Err(unusable("allowCredentials"));
        }
        self.sign_count = self.sign_count.saturating_add(1);
        Ok(self.assertion(challenge, origin))
    }

    /// Returns the ID of the credential in base64url.
    pub fn credential_id(&self) -> String {
        encode(&self.id)
    }

    /// Sets the signature counter. The next sign-in sends the number after it.
    pub fn set_sign_count(&mut self, sign_count: u32) {
        self.sign_count = sign_count;
    }

    /// Sets whether the authenticator verifies the user, for example by a fingerprint. By default, it does.
    pub fn set_user_verification(&mut self, is_user_verified: bool) {
        self.is_user_verified = is_user_verified;
    }

    fn attestation(&self, challenge: &str, origin: &str) -> Value {
        let key = self.key.public_key();
        let data = [&self.authenticator_data(ATTESTED_CREDENTIAL), &self.attested_credential()[..]].concat();
        // A CBOR map with `fmt`, `attStmt` and `authData`, as bytes with a length of two bytes.
        let object =
            [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59", &length_bytes(&data)[..], &data].concat();
        self.credential(json!({
            "clientDataJSON": encode(client_data("webauthn.create", challenge, origin)),
            "attestationObject": encode(object),
            "authenticatorData": encode(&data),
            "publicKey": encode(key.as_der()),
            "publicKeyAlgorithm": ES256,
            "transports": ["internal"],
        }))
    }

    fn assertion(&self, challenge: &str, origin: &str) -> Value {
        let client_data = client_data("webauthn.get", challenge, origin);
        let data = self.authenticator_data(0);
        let signature = self.key.sign_der(&[&data, &sha256(client_data.as_bytes())[..]].concat());
        self.credential(json!({
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(signature),
            "userHandle": encode(&self.user_handle),
        }))
    }

    fn credential(&self, response: Value) -> Value {
        json!({
            "id": self.credential_id(),
            "rawId": self.credential_id(),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        })
    }

    /// Returns the authenticator data up to the counter (Web Authentication section 6.1), with one more flag.
    fn authenticator_data(&self, flag: u8) -> Vec<u8> {
        let verified = if self.is_user_verified { USER_VERIFIED } else { 0 };
        let hash = sha256(self.relying_party_id.as_bytes());
        [&hash, &[USER_PRESENT | verified | flag][..], &self.sign_count.to_be_bytes()].concat()
    }

    /// Returns the rest of the authenticator data of a registration: the model of the authenticator, which is not
    /// disclosed, the ID, and the COSE key (RFC 9053 section 7.1).
    fn attested_credential(&self) -> Vec<u8> {
        let key = self.key.public_key();
        let (header, y) = key.as_der().split_at(key.as_der().len().saturating_sub(32));
        let (_, x) = header.split_at(header.len().saturating_sub(32));
        let members = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20";
        [&[0; 16], &length_bytes(&self.id)[..], &self.id, members, x, b"\x22\x58\x20", y].concat()
    }
}

/// Returns the member `publicKey` of `options`, or `options` itself if it has none.
fn public_key(options: &Value) -> &Value {
    options.get("publicKey").unwrap_or(options)
}

fn unusable(member: &'static str) -> Error {
    Error::PasskeyOptions { member }
}

fn text<'a>(value: &'a Value, member: &'static str) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| unusable(member))
}

fn bytes(value: &Value, member: &'static str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text(value, member)?).map_err(|_| unusable(member))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the length of `bytes` as two bytes. All lengths in this module are below 2¹⁶.
fn length_bytes(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// Returns the client data in the order and form of browsers (Web Authentication section 5.8.1.1).
fn client_data(ceremony: &str, challenge: &str, origin: &str) -> String {
    let (ceremony, challenge, origin) = (json!(ceremony), json!(challenge), json!(origin));
    format!(r#"{{"type":{ceremony},"challenge":{challenge},"origin":{origin},"crossOrigin":false}}"#)
}

#[cfg(test)]
mod tests {
    use crypto::passkeys::{
        Assertion, AssertionResponse, ExpectedAssertion, ExpectedRegistration, PasskeyChallenge,
        Registration, RegistrationResponse, Rejection, StoredCredential,
    };

    use super::*;

    const ORIGIN: &str = "https://example.com";
    const ENTITY_SID: &str = "YE019a7d1b00007e33a5c1d90b42f68a00";

    fn challenge() -> PasskeyChallenge {
        PasskeyChallenge::generate("YF04019a7d1c00007e33a5c1d90b42f68a", &SystemEntropy)
    }

    fn creation_options(challenge: &PasskeyChallenge) -> Value {
        json!({ "publicKey": {
            "rp": { "id": "example.com", "name": "Example Bank" },
            "user": { "id": encode(ENTITY_SID), "name": "Anna's laptop", "displayName": "Anna's laptop" },
            "challenge": challenge.to_base64url(),
            "pubKeyCredParams": [{ "type": "public-key", "alg": -257 }, { "type": "public-key", "alg": -7 }],
        } })
    }

    fn request_options(challenge: &PasskeyChallenge, allowed: &[&Passkey]) -> Value {
        let allowed: Vec<Value> =
            allowed.iter().map(|passkey| json!({ "id": passkey.credential_id() })).collect();
        json!({ "publicKey": {
            "challenge": challenge.to_base64url(),
            "rpId": "example.com",
            "allowCredentials": allowed,
        } })
    }

    fn verify(credential: &Value, challenge: &PasskeyChallenge) -> Result<Registration, Rejection> {
        RegistrationResponse::parse(credential)?.verify(&ExpectedRegistration {
            challenge_digest: &challenge.digest(),
            origins: &[ORIGIN.to_owned()],
            relying_party_id: "example.com",
            requires_user_verification: true,
        })
    }

    fn verify_sign_in(
        credential: &Value,
        challenge: &PasskeyChallenge,
        registration: &Registration,
    ) -> Result<Assertion, Rejection> {
        let response = AssertionResponse::parse(credential)?;
        let checked = response.check(&challenge.digest(), &[ORIGIN.to_owned()])?;
        checked.verify(&ExpectedAssertion {
            relying_party_id: "example.com",
            requires_user_verification: true,
            user_handle: ENTITY_SID,
            requires_user_handle: true,
            credential: StoredCredential {
                public_key: &registration.public_key,
                sign_count: registration.sign_count,
                is_backup_eligible: registration.is_backup_eligible,
            },
        })
    }

    #[test]
    fn registration_and_sign_ins_are_accepted_by_the_server() {
        let first = challenge();
        let (mut passkey, credential) = Passkey::register(&creation_options(&first), ORIGIN).unwrap();
        let mut registration = verify(&credential, &first).unwrap();
        assert_eq!(encode(registration.credential_id.as_bytes()), passkey.credential_id());
        let response = &credential["response"];
        assert_eq!(response["publicKey"], encode(registration.public_key.as_der()));
        for sign_count in [1, 2] {
            let challenge = challenge();
            let allowed = [&passkey];
            // The first challenge is for any passkey of the relying party.
            let options = request_options(&challenge, if sign_count == 1 { &[] } else { &allowed });
            let credential = passkey.sign_in(&options, ORIGIN).unwrap();
            let assertion = verify_sign_in(&credential, &challenge, &registration).unwrap();
            assert_eq!(assertion.sign_count, sign_count);
            registration.sign_count = assertion.sign_count;
            assert_eq!(
                verify_sign_in(&credential, &challenge, &registration),
                Err(Rejection::Counter),
                "repeated"
            );
        }
    }

    #[test]
    fn settings_of_a_passkey_reach_the_server() {
        let challenge = challenge();
        let (mut passkey, credential) = Passkey::register(&creation_options(&challenge), ORIGIN).unwrap();
        let registration = verify(&credential, &challenge).unwrap();
        let options = request_options(&challenge, &[]);
        passkey.set_sign_count(6);
        let credential = passkey.sign_in(&options, ORIGIN).unwrap();
        assert_eq!(verify_sign_in(&credential, &challenge, &registration).unwrap().sign_count, 7);
        let elsewhere = passkey.sign_in(&options, "https://example.org").unwrap();
        assert_eq!(verify_sign_in(&elsewhere, &challenge, &registration), Err(Rejection::Origin));
        passkey.set_user_verification(false);
        let credential = passkey.sign_in(&options, ORIGIN).unwrap();
        let rejection = verify_sign_in(&credential, &challenge, &registration).unwrap_err();
        assert_eq!(rejection, Rejection::UserVerification);
    }

    #[test]
    fn error_names_the_unusable_member_of_the_options() {
        let challenge = challenge();
        let unusable = |error: Error| match error {
            Error::PasskeyOptions { member } => member,
            other => panic!("{other}"),
        };
        for (pointer, member) in [
            ("/publicKey/rp/id", "rp.id"),
            ("/publicKey/user/id", "user.id"),
            ("/publicKey/challenge", "challenge"),
            ("/publicKey/pubKeyCredParams", "pubKeyCredParams"),
            ("/publicKey/pubKeyCredParams/1/alg", "pubKeyCredParams"),
        ] {
            let mut options = creation_options(&challenge);
            *options.pointer_mut(pointer).unwrap() = Value::Null;
            assert_eq!(unusable(Passkey::register(&options, ORIGIN).unwrap_err()), member);
        }
        let (mut passkey, _) = Passkey::register(&creation_options(&challenge), ORIGIN).unwrap();
        let (other, _) = Passkey::register(&creation_options(&challenge), ORIGIN).unwrap();
        let mut options = request_options(&challenge, &[&other]);
        assert_eq!(unusable(passkey.sign_in(&options, ORIGIN).unwrap_err()), "allowCredentials");
        options["publicKey"]["rpId"] = json!("example.org");
        assert_eq!(unusable(passkey.sign_in(&options, ORIGIN).unwrap_err()), "rpId");
        options["publicKey"]["challenge"] = Value::Null;
        assert_eq!(unusable(passkey.sign_in(&options, ORIGIN).unwrap_err()), "challenge");
    }
}
