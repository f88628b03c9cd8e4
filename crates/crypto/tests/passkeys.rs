//! Registrations and sign-ins with passkeys: vectors from other implementations, and one test for each check.
//!
//! A test of a check starts with a valid response, changes one thing in it, and signs it again.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::passkeys::{
    Assertion, AssertionResponse, CoseAlgorithm, ExpectedAssertion, ExpectedRegistration, PasskeyChallenge,
    Registration, RegistrationResponse, Rejection, StoredCredential, format_credential_id,
};
use crypto::{SigningKey, SystemEntropy};
use serde_json::{Value, json};

const FACTOR_SID: &str = "YF04019a7d1c00007e33a5c1d90b42f68a";
const CHALLENGE_SID: &str = "YC04019a7d1c00007e33a5c1d90b42f68a";
const ENTITY_SID: &str = "YE019a7d1b00007e33a5c1d90b42f68a00";
const ORIGIN: &str = "https://example.com";

const UP: u8 = 0x01;
const UV: u8 = 0x04;
const BE: u8 = 0x08;
const BS: u8 = 0x10;
const AT: u8 = 0x40;
const ED: u8 = 0x80;

/// A change of a test, and the check that then fails.
type Case<T> = (fn(&mut T), Rejection);

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// Encodes the head of a CBOR value with a two-byte argument.
fn head(major_type: u8, argument: usize) -> Vec<u8> {
    [&[major_type << 5 | 25], &u16::try_from(argument).unwrap().to_be_bytes()[..]].concat()
}

/// A registration and the device that makes it, with all parts that a test may change.
struct NewPasskey {
    key: SigningKey,
    challenge: PasskeyChallenge,
    client_data: Value,
    relying_party_id: &'static str,
    flags: u8,
    credential_id: Vec<u8>,
    cose_key: Vec<u8>,
    /// The bytes after the COSE key.
    tail: Vec<u8>,
    /// The bytes after the attestation object.
    object_tail: Vec<u8>,
    attestation_statement: Vec<u8>,
    /// Changes the JSON of the credential at the end.
    edit: fn(&mut Value),
    requires_user_verification: bool,
}

impl NewPasskey {
    fn new() -> Self {
        let key = SigningKey::generate();
        let der = key.public_key().as_der().to_vec();
        let challenge = PasskeyChallenge::generate(FACTOR_SID, &SystemEntropy);
        Self {
            client_data: json!({
                "type": "webauthn.create",
                "challenge": challenge.to_base64url(),
                "origin": ORIGIN,
                "crossOrigin": false,
            }),
            key,
            challenge,
            relying_party_id: "example.com",
            flags: UP | UV | AT,
            credential_id: vec![7; 32],
            cose_key: [
                &[0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32],
                &der[27..59],
                &[0x22, 0x58, 32],
                &der[59..],
            ]
            .concat(),
            tail: Vec::new(),
            object_tail: Vec::new(),
            attestation_statement: vec![0xa0],
            edit: |_| {},
            requires_user_verification: true,
        }
    }

    fn authenticator_data(&self) -> Vec<u8> {
        [
            &sha256(self.relying_party_id.as_bytes()),
            &[self.flags, 0, 0, 0, 0][..],
            &[0xaa; 16],
            &u16::try_from(self.credential_id.len()).unwrap().to_be_bytes(),
            &self.credential_id,
            &self.cose_key,
            &self.tail,
        ]
        .concat()
    }

    fn attestation_object(&self, authenticator_data: &[u8]) -> Vec<u8> {
        [
            b"\xa3\x63fmt\x64none\x67attStmt",
            &self.attestation_statement[..],
            b"\x68authData",
            &head(2, authenticator_data.len()),
            authenticator_data,
            &self.object_tail,
        ]
        .concat()
    }

    fn credential(&self) -> Value {
        let object = self.attestation_object(&self.authenticator_data());
        let mut credential = json!({
            "id": encode(&self.credential_id),
            "rawId": encode(&self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "response": {
                "clientDataJSON": encode(self.client_data.to_string()),
                "attestationObject": encode(object),
                "transports": ["internal", "hybrid"],
            },
        });
        (self.edit)(&mut credential);
        credential
    }

    fn verify(&self) -> Result<Registration, Rejection> {
        let response = RegistrationResponse::parse(&self.credential())?;
        assert_eq!(response.challenge().sid(), Some(FACTOR_SID));
        response.verify(&ExpectedRegistration {
            challenge_digest: &self.challenge.digest(),
            origins: &["https://login.example.com".to_owned(), ORIGIN.to_owned()],
            relying_party_id: "example.com",
            requires_user_verification: self.requires_user_verification,
        })
    }
}

/// Returns why a registration with this change is rejected.
fn registration(change: impl FnOnce(&mut NewPasskey)) -> Rejection {
    let mut passkey = NewPasskey::new();
    change(&mut passkey);
    passkey.verify().unwrap_err()
}

/// Asserts that a registration with this change is accepted.
fn accepted(change: impl FnOnce(&mut NewPasskey)) -> Registration {
    let mut passkey = NewPasskey::new();
    change(&mut passkey);
    passkey.verify().unwrap()
}

#[test]
fn registration_without_a_change_is_accepted() {
    let registration = accepted(|_| {});
    assert_eq!(registration.credential_id.as_bytes(), [7; 32]);
    assert_eq!(registration.public_key.algorithm(), CoseAlgorithm::Es256);
    assert_eq!((registration.sign_count, registration.aaguid), (0, [0xaa; 16]));
    assert!(registration.is_user_verified && !registration.is_backup_eligible && !registration.is_backed_up);
    assert_eq!(registration.transports, ["internal", "hybrid"]);
}

#[test]
fn registration_response_must_be_an_object_with_all_members() {
    let edits: [fn(&mut Value); 9] = [
        |credential| *credential = json!([]),
        |credential| credential["response"] = Value::Null,
        |credential| credential["response"] = json!([]),
        |credential| _ = credential.as_object_mut().unwrap().remove("response"),
        |credential| credential["response"]["clientDataJSON"] = Value::Null,
        |credential| credential["response"]["clientDataJSON"] = json!(1),
        |credential| credential["response"]["attestationObject"] = Value::Null,
        |credential| credential["response"]["attestationObject"] = json!({}),
        |credential| credential["response"]["transports"] = json!("internal"),
    ];
    for edit in edits {
        assert_eq!(registration(|passkey| passkey.edit = edit), Rejection::Response);
    }
}

#[test]
fn type_ids_and_attachment_of_a_credential_are_checked() {
    let edits: [Case<Value>; 10] = [
        (|credential| credential["type"] = json!("password"), Rejection::Type),
        (|credential| credential["type"] = json!(1), Rejection::Type),
        (|credential| credential["id"] = json!("AAAA"), Rejection::RawId),
        (|credential| credential["id"] = json!("+"), Rejection::Id),
        (|credential| credential["rawId"] = json!("AAAA"), Rejection::RawId),
        (|credential| credential["rawId"] = json!(7), Rejection::RawId),
        (
            |credential| {
                credential["id"] = json!("AAAA");
                credential["rawId"] = Value::Null;
            },
            Rejection::Id,
        ),
        (
            |credential| *credential = json!({ "rawId": "AAAA", "response": credential["response"] }),
            Rejection::RawId,
        ),
        (|credential| credential["authenticatorAttachment"] = json!("any"), Rejection::Attachment),
        (|credential| credential["authenticatorAttachment"] = json!(false), Rejection::Attachment),
    ];
    for (edit, rejection) in edits {
        assert_eq!(registration(|passkey| passkey.edit = edit), rejection);
    }
}

#[test]
fn optional_members_of_a_credential_may_be_absent_or_null() {
    accepted(|passkey| {
        passkey.edit = |credential| *credential = json!({ "response": credential["response"] });
    });
    let registration = accepted(|passkey| {
        passkey.edit = |credential| {
            for name in ["id", "rawId", "type", "authenticatorAttachment"] {
                credential[name] = Value::Null;
            }
            credential["response"]["transports"] = Value::Null;
            credential["clientExtensionResults"] = json!({ "credProps": { "rk": true } });
        };
    });
    assert!(registration.transports.is_empty());
}

#[test]
fn credential_in_snake_case_is_accepted() {
    accepted(|passkey| {
        passkey.edit = |credential| {
            *credential = json!({
                "id": credential["id"],
                "raw_id": credential["rawId"],
                "type": "public-key",
                "authenticator_attachment": "cross-platform",
                "response": {
                    "client_data_json": credential["response"]["clientDataJSON"],
                    "attestation_object": credential["response"]["attestationObject"],
                },
            });
        };
    });
    let attachment = registration(|passkey| {
        passkey.edit = |credential| {
            credential["authenticatorAttachment"] = Value::Null;
            credential["authenticator_attachment"] = json!("any");
        };
    });
    assert_eq!(attachment, Rejection::Attachment);
}

#[test]
fn malformed_transports_are_left_out() {
    let registration = accepted(|passkey| {
        passkey.edit = |credential| {
            credential["response"]["transports"] = json!([
                "usb",
                "usb",
                1,
                "",
                "USB",
                "a b",
                "x".repeat(33),
                "new-2",
                "a",
                "b",
                "c",
                "d",
                "e",
                "f",
                "g"
            ]);
        };
    });
    assert_eq!(registration.transports, ["usb", "new-2", "a", "b", "c", "d", "e", "f"]);
}

#[test]
fn client_data_must_be_a_json_object_of_at_most_4096_bytes() {
    let edits: [fn(&mut Value); 6] = [
        |credential| credential["response"]["clientDataJSON"] = json!("e30="),
        |credential| credential["response"]["clientDataJSON"] = json!("!"),
        |credential| credential["response"]["clientDataJSON"] = json!(encode(b"\xff")),
        |credential| credential["response"]["clientDataJSON"] = json!(encode("[]")),
        |credential| credential["response"]["clientDataJSON"] = json!(encode("{}")),
        |credential| credential["response"]["clientDataJSON"] = json!(encode("")),
    ];
    for edit in edits {
        assert_eq!(registration(|passkey| passkey.edit = edit), Rejection::ClientData);
    }
    let length = NewPasskey::new().client_data.to_string().len() + r#","x":"""#.len();
    let padded = |bytes: usize| {
        move |passkey: &mut NewPasskey| passkey.client_data["x"] = json!("x".repeat(bytes - length))
    };
    accepted(padded(4096));
    assert_eq!(registration(padded(4097)), Rejection::ClientData);
}

#[test]
fn each_member_of_the_client_data_is_required() {
    for name in ["type", "challenge", "origin"] {
        for value in [Value::Null, json!(1)] {
            assert_eq!(registration(|passkey| passkey.client_data[name] = value), Rejection::ClientData);
        }
    }
    for (name, value) in [("challenge", "AA=="), ("challenge", "A"), ("challenge", " ")] {
        assert_eq!(registration(|passkey| passkey.client_data[name] = json!(value)), Rejection::ClientData);
    }
    assert_eq!(
        registration(|passkey| passkey.client_data["crossOrigin"] = json!("no")),
        Rejection::ClientData
    );
    assert_eq!(registration(|passkey| passkey.client_data["topOrigin"] = json!(true)), Rejection::ClientData);
}

#[test]
fn byte_order_mark_before_the_client_data_is_ignored() {
    accepted(|passkey| {
        passkey.edit = |credential| {
            let text = credential["response"]["clientDataJSON"].as_str().unwrap();
            let json = [b"\xef\xbb\xbf", &URL_SAFE_NO_PAD.decode(text).unwrap()[..]].concat();
            credential["response"]["clientDataJSON"] = json!(encode(json));
        };
    });
}

#[test]
fn client_data_of_a_sign_in_does_not_register() {
    for kind in ["webauthn.get", "webauthn.Create", "payment.get", ""] {
        assert_eq!(registration(|passkey| passkey.client_data["type"] = json!(kind)), Rejection::Ceremony);
    }
}

#[test]
fn challenge_must_be_the_stored_one() {
    // The SID is the same, the random bytes differ.
    let other = PasskeyChallenge::generate(FACTOR_SID, &SystemEntropy);
    let rejection = registration(|passkey| passkey.client_data["challenge"] = json!(other.to_base64url()));
    assert_eq!(rejection, Rejection::Challenge);
    let bare = encode(FACTOR_SID);
    assert_eq!(registration(|passkey| passkey.client_data["challenge"] = json!(bare)), Rejection::Challenge);
}

#[test]
fn origin_must_be_one_of_the_list() {
    accepted(|passkey| passkey.client_data["origin"] = json!("https://login.example.com"));
    for origin in
        ["https://example.org", "https://example.com:8443", "http://example.com", "https://a.example.com", ""]
    {
        assert_eq!(registration(|passkey| passkey.client_data["origin"] = json!(origin)), Rejection::Origin);
    }
}

#[test]
fn page_in_a_frame_of_another_origin_is_rejected() {
    assert_eq!(
        registration(|passkey| passkey.client_data["crossOrigin"] = json!(true)),
        Rejection::CrossOrigin
    );
    let top_origin =
        registration(|passkey| passkey.client_data["topOrigin"] = json!("https://login.example.com"));
    assert_eq!(top_origin, Rejection::TopOrigin);
    accepted(|passkey| passkey.client_data["topOrigin"] = json!(ORIGIN));
    accepted(|passkey| passkey.client_data["topOrigin"] = Value::Null);
    accepted(|passkey| passkey.client_data["crossOrigin"] = Value::Null);
    accepted(|passkey| _ = passkey.client_data.as_object_mut().unwrap().remove("crossOrigin"));
}

/// Returns a change that replaces the attestation object by these bytes.
fn with_object(bytes: &[u8]) -> Rejection {
    let passkey = NewPasskey::new();
    let mut credential = passkey.credential();
    credential["response"]["attestationObject"] = json!(encode(bytes));
    let response = RegistrationResponse::parse(&credential).unwrap();
    let expected = ExpectedRegistration {
        challenge_digest: &passkey.challenge.digest(),
        origins: &[ORIGIN.to_owned()],
        relying_party_id: "example.com",
        requires_user_verification: true,
    };
    response.verify(&expected).unwrap_err()
}

#[test]
fn attestation_object_must_be_a_cbor_map_with_three_members() {
    let passkey = NewPasskey::new();
    let whole = passkey.attestation_object(&passkey.authenticator_data());
    for length in 0..whole.len() {
        assert_eq!(with_object(&whole[..length]), Rejection::AttestationObject, "cut to {length}");
    }
    for (from, to) in [("fmt", "fmx"), ("attStmt", "attStmx"), ("authData", "authDatx")] {
        let place = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut other = whole.clone();
        other[place..place + to.len()].copy_from_slice(to.as_bytes());
        assert_eq!(with_object(&other), Rejection::AttestationObject, "{to}");
    }
    for other in [
        &b"\x80"[..],
        b"\xa3\x63fmt\x01\x67attStmt\xa0\x68authData\x40",
        b"\xa3\x63fmt\x60\x67attStmt\x80\x68authData\x40",
        b"\xa3\x63fmt\x60\x67attStmt\xa0\x68authData\x60",
        b"\xa4\x63fmt\x60\x63fmt\x60\x67attStmt\xa0\x68authData\x40",
        b"\xbf\x63fmt\x60\x67attStmt\xa0\x68authData\x40\xff",
    ] {
        assert_eq!(with_object(other), Rejection::AttestationObject, "{other:02x?}");
    }
    // The same object without a mistake gets as far as its empty authenticator data.
    let empty = b"\xa3\x63fmt\x60\x67attStmt\xa0\x68authData\x40";
    assert_eq!(with_object(empty), Rejection::AuthenticatorData);
    assert_eq!(registration(|passkey| passkey.object_tail = vec![0]), Rejection::AttestationObject);
}

#[test]
fn attestation_object_has_a_maximum_size_and_depth() {
    let deep = |levels| {
        move |passkey: &mut NewPasskey| {
            passkey.attestation_statement = [&b"\xa1\x61x".repeat(levels)[..], &[0]].concat();
        }
    };
    accepted(deep(7));
    assert_eq!(registration(deep(8)), Rejection::AttestationObject);

    let passkey = NewPasskey::new();
    let length = passkey.attestation_object(&passkey.authenticator_data()).len();
    let large = |bytes: usize| {
        move |passkey: &mut NewPasskey| {
            let padding = bytes - length - 4;
            passkey.attestation_statement =
                [&b"\xa1\x61x"[..], &head(2, padding - 1), &vec![0; padding - 1]].concat();
        }
    };
    accepted(large(64 * 1024));
    assert_eq!(registration(large(64 * 1024 + 1)), Rejection::AttestationObject);
}

#[test]
fn attestation_statement_is_not_verified() {
    accepted(|passkey| passkey.attestation_statement = b"\xa2\x63alg\x26\x63sig\x41\x00".to_vec());
}

#[test]
fn authenticator_data_must_be_for_the_relying_party() {
    let short = b"\xa3\x63fmt\x60\x67attStmt\xa0\x68authData\x58\x24";
    assert_eq!(with_object(&[&short[..], &[0; 36]].concat()), Rejection::AuthenticatorData);
    for id in ["example.org", "login.example.com", "Example.com", ""] {
        assert_eq!(registration(|passkey| passkey.relying_party_id = id), Rejection::RelyingParty, "{id}");
    }
}

#[test]
fn flags_of_a_registration_are_checked() {
    for (flags, rejection) in [
        (UV | AT, Rejection::UserPresence),
        (UP | AT, Rejection::UserVerification),
        (UP | UV | BS | AT, Rejection::BackupState),
        (UP | UV, Rejection::AttestedCredential),
    ] {
        assert_eq!(registration(|passkey| passkey.flags = flags), rejection, "{flags:02x}");
    }
    accepted(|passkey| (passkey.flags, passkey.requires_user_verification) = (UP | AT, false));
    let synchronized = accepted(|passkey| passkey.flags = UP | UV | BE | BS | AT);
    assert!(synchronized.is_backup_eligible && synchronized.is_backed_up);
    assert!(!accepted(|passkey| passkey.flags = UP | UV | BE | AT).is_backed_up);
}

#[test]
fn attested_credential_id_has_1_to_1023_bytes() {
    let with_length = |length| {
        move |passkey: &mut NewPasskey| {
            passkey.credential_id = vec![9; length];
            passkey.edit = |credential| *credential = json!({ "response": credential["response"] });
        }
    };
    for length in [1, 1023] {
        assert_eq!(accepted(with_length(length)).credential_id.as_bytes().len(), length);
    }
    for length in [0, 1024] {
        assert_eq!(registration(with_length(length)), Rejection::CredentialIdLength, "{length}");
    }
    let cut = registration(|passkey| {
        passkey.cose_key.clear();
        passkey.edit = |credential| {
            let object = b"\xa3\x63fmt\x60\x67attStmt\xa0\x68authData";
            let data =
                [&sha256(b"example.com"), &[UP | UV | AT, 0, 0, 0, 0][..], &[0; 16], &[0, 2, 7]].concat();
            let object = [&object[..], &head(2, data.len()), &data].concat();
            credential["response"]["attestationObject"] = json!(encode(object));
        };
    });
    assert_eq!(cut, Rejection::CredentialIdLength);
}

/// The tests of the module have all forms of keys; these are the ones that depend on what surrounds the key.
#[test]
fn public_key_of_a_registration_is_checked() {
    assert_eq!(registration(|passkey| passkey.cose_key.clear()), Rejection::PublicKey);
    assert_eq!(registration(|passkey| passkey.cose_key[0] = 0xa4), Rejection::PublicKey);
    assert_eq!(registration(|passkey| _ = passkey.cose_key.pop()), Rejection::PublicKey);
    assert_eq!(registration(|passkey| *passkey.cose_key.last_mut().unwrap() ^= 1), Rejection::PublicKey);
    assert_eq!(registration(|passkey| passkey.cose_key[4] = 0x28), Rejection::Algorithm);
}

#[test]
fn authenticator_data_end_after_the_key_or_the_extensions() {
    let with = |flags: u8, tail: &'static [u8]| {
        move |passkey: &mut NewPasskey| {
            passkey.flags |= flags;
            passkey.tail = tail.to_vec();
        }
    };
    accepted(with(ED, b"\xa1\x6bcredProtect\x02"));
    for (flags, tail) in [
        (0, &b"\x00"[..]),
        (0, b"\xa0"),
        (ED, b""),
        (ED, b"\x80"),
        (ED, b"\xa1"),
        (ED, b"\xa0\x00"),
        (ED, b"\xbf\xff"),
    ] {
        assert_eq!(registration(with(flags, tail)), Rejection::TrailingData, "{flags} {tail:02x?}");
    }
}

/// A sign-in and the device that makes it, with all parts that a test may change.
struct SignIn {
    passkey: NewPasskey,
    challenge: PasskeyChallenge,
    client_data: Value,
    relying_party_id: &'static str,
    flags: u8,
    sign_count: u32,
    stored_sign_count: u32,
    is_backup_eligible: bool,
    requires_user_verification: bool,
    requires_user_handle: bool,
    user_handle: Value,
    /// The bytes after the counter.
    tail: Vec<u8>,
    /// Changes the JSON of the credential at the end.
    edit: fn(&mut Value),
}

impl SignIn {
    fn new() -> Self {
        let challenge = PasskeyChallenge::generate(CHALLENGE_SID, &SystemEntropy);
        Self {
            passkey: NewPasskey::new(),
            client_data: json!({
                "type": "webauthn.get",
                "challenge": challenge.to_base64url(),
                "origin": ORIGIN,
                "crossOrigin": false,
            }),
            challenge,
            relying_party_id: "example.com",
            flags: UP | UV,
            sign_count: 8,
            stored_sign_count: 7,
            is_backup_eligible: false,
            requires_user_verification: true,
            requires_user_handle: true,
            user_handle: json!(encode(ENTITY_SID)),
            tail: Vec::new(),
            edit: |_| {},
        }
    }

    fn credential(&self) -> Value {
        let data = [
            &sha256(self.relying_party_id.as_bytes()),
            &[self.flags][..],
            &self.sign_count.to_be_bytes(),
            &self.tail,
        ]
        .concat();
        let client_data = self.client_data.to_string();
        let signature = self.passkey.key.sign_der(&[&data[..], &sha256(client_data.as_bytes())].concat());
        let mut credential = json!({
            "id": encode(&self.passkey.credential_id),
            "rawId": encode(&self.passkey.credential_id),
            "type": "public-key",
            "authenticatorAttachment": null,
            "response": {
                "clientDataJSON": encode(client_data),
                "authenticatorData": encode(data),
                "signature": encode(signature),
                "userHandle": self.user_handle,
            },
        });
        (self.edit)(&mut credential);
        credential
    }

    fn verify(&self) -> Result<Assertion, Rejection> {
        let response = AssertionResponse::parse(&self.credential())?;
        assert_eq!(response.challenge().sid(), Some(CHALLENGE_SID));
        let checked = response.check(&self.challenge.digest(), &[ORIGIN.to_owned()])?;
        assert_eq!(checked.credential_id().as_bytes(), self.passkey.credential_id);
        let public_key = &self.passkey.verify().unwrap().public_key;
        checked.verify(&ExpectedAssertion {
            relying_party_id: "example.com",
            requires_user_verification: self.requires_user_verification,
            user_handle: ENTITY_SID,
            requires_user_handle: self.requires_user_handle,
            credential: StoredCredential {
                public_key,
                sign_count: self.stored_sign_count,
                is_backup_eligible: self.is_backup_eligible,
            },
        })
    }
}

/// Returns the result of a sign-in with this change.
fn sign_in(change: impl FnOnce(&mut SignIn)) -> Result<Assertion, Rejection> {
    let mut sign_in = SignIn::new();
    change(&mut sign_in);
    sign_in.verify()
}

#[test]
fn sign_in_without_a_change_is_accepted() {
    let assertion = Assertion { sign_count: 8, is_user_verified: true, is_backed_up: false };
    assert_eq!(sign_in(|_| {}), Ok(assertion));
}

#[test]
fn sign_in_response_must_have_all_members() {
    let edits: [fn(&mut Value); 6] = [
        |credential| credential["response"] = Value::Null,
        |credential| credential["response"]["clientDataJSON"] = Value::Null,
        |credential| credential["response"]["authenticatorData"] = Value::Null,
        |credential| credential["response"]["authenticatorData"] = json!([]),
        |credential| credential["response"]["signature"] = Value::Null,
        |credential| credential["response"]["userHandle"] = json!(1),
    ];
    for edit in edits {
        assert_eq!(sign_in(|it| it.edit = edit), Err(Rejection::Response));
    }
    let without_ids = sign_in(|it| {
        it.edit = |credential| {
            credential["id"] = Value::Null;
            credential["rawId"] = Value::Null;
        };
    });
    assert_eq!(without_ids, Err(Rejection::Id));
    assert!(sign_in(|it| it.edit = |credential| credential["id"] = Value::Null).is_ok());
    assert!(sign_in(|it| it.edit = |credential| credential["rawId"] = Value::Null).is_ok());
    let snake_case = sign_in(|it| {
        it.edit = |credential| {
            let response = credential["response"].clone();
            credential["response"] = json!({
                "client_data_json": response["clientDataJSON"],
                "authenticator_data": response["authenticatorData"],
                "signature": response["signature"],
                "user_handle": response["userHandle"],
            });
        };
    });
    assert!(snake_case.is_ok());
}

#[test]
fn client_data_of_a_sign_in_is_checked() {
    let other = PasskeyChallenge::generate(CHALLENGE_SID, &SystemEntropy).to_base64url();
    for (name, value, rejection) in [
        ("type", json!("webauthn.create"), Rejection::Ceremony),
        ("challenge", json!(other), Rejection::Challenge),
        ("origin", json!("https://login.example.com"), Rejection::Origin),
        ("crossOrigin", json!(true), Rejection::CrossOrigin),
        ("topOrigin", json!("https://example.org"), Rejection::TopOrigin),
        ("origin", Value::Null, Rejection::ClientData),
    ] {
        assert_eq!(sign_in(|it| it.client_data[name] = value), Err(rejection), "{name}");
    }
}

#[test]
fn user_handle_must_be_that_of_the_entity() {
    for absent in [Value::Null, json!("")] {
        assert_eq!(sign_in(|it| it.user_handle = absent.clone()), Err(Rejection::MissingUserHandle));
        let known = sign_in(|it| (it.user_handle, it.requires_user_handle) = (absent, false));
        assert!(known.is_ok());
    }
    for other in
        [encode("YE019a7d1b00007e33a5c1d90b42f68a01"), ENTITY_SID.to_owned(), "!".to_owned(), encode([1; 65])]
    {
        for requires_user_handle in [false, true] {
            let other = json!(other);
            let result =
                sign_in(|it| (it.user_handle, it.requires_user_handle) = (other, requires_user_handle));
            assert_eq!(result, Err(Rejection::UserHandle));
        }
    }
}

#[test]
fn authenticator_data_of_a_sign_in_are_checked() {
    assert_eq!(sign_in(|it| it.relying_party_id = "example.org"), Err(Rejection::RelyingParty));
    for (flags, rejection) in [
        (UV, Rejection::UserPresence),
        (UP, Rejection::UserVerification),
        (UP | UV | BS, Rejection::BackupState),
        (UP | UV | BE, Rejection::BackupEligibility),
        (UP | UV | AT, Rejection::CredentialIdLength),
        (UP | UV | ED, Rejection::TrailingData),
    ] {
        assert_eq!(sign_in(|it| it.flags = flags), Err(rejection), "{flags:02x}");
    }
    assert_eq!(sign_in(|it| it.is_backup_eligible = true), Err(Rejection::BackupEligibility));
    assert_eq!(sign_in(|it| it.tail = vec![0]), Err(Rejection::TrailingData));
    let not_verified = sign_in(|it| (it.flags, it.requires_user_verification) = (UP, false)).unwrap();
    assert!(!not_verified.is_user_verified);
    let backed_up = sign_in(|it| (it.flags, it.is_backup_eligible) = (UP | UV | BE | BS, true)).unwrap();
    assert!(backed_up.is_backed_up);
    assert!(sign_in(|it| (it.flags, it.tail) = (UP | UV | ED, b"\xa1\x63uvm\x80".to_vec())).is_ok());
    let edits: [fn(&mut Value); 3] = [
        |credential| credential["response"]["authenticatorData"] = json!("="),
        |credential| credential["response"]["authenticatorData"] = json!(encode([0; 36])),
        |credential| credential["response"]["authenticatorData"] = json!("A".repeat(88_000)),
    ];
    for edit in edits {
        assert_eq!(sign_in(|it| it.edit = edit), Err(Rejection::AuthenticatorData));
    }
}

#[test]
fn attested_credential_in_a_sign_in_is_skipped() {
    let with = |more: &'static [u8]| {
        move |it: &mut SignIn| {
            it.flags |= AT;
            it.tail = [&[0; 16], &[0, 1, 9][..], &it.passkey.cose_key, more].concat();
        }
    };
    assert!(sign_in(with(&[])).is_ok());
    assert_eq!(sign_in(with(&[0])), Err(Rejection::TrailingData));
}

#[test]
fn signature_must_be_by_the_stored_key_over_both_data() {
    assert_eq!(sign_in(|it| it.passkey.key = SigningKey::generate()), Err(Rejection::Signature));
    let edits: [fn(&mut Value); 5] = [
        // The counter and the origin are signed.
        |credential| {
            let data = [sha256(b"example.com"), vec![UP | UV, 0, 0, 0, 9]].concat();
            credential["response"]["authenticatorData"] = json!(encode(data));
        },
        |credential| {
            let text = credential["response"]["clientDataJSON"].as_str().unwrap();
            let mut json = URL_SAFE_NO_PAD.decode(text).unwrap();
            json.push(b' ');
            credential["response"]["clientDataJSON"] = json!(encode(json));
        },
        |credential| credential["response"]["signature"] = json!(""),
        |credential| credential["response"]["signature"] = json!("="),
        |credential| credential["response"]["signature"] = json!(encode([0; 1025])),
    ];
    for edit in edits {
        assert_eq!(sign_in(|it| it.edit = edit), Err(Rejection::Signature));
    }
}

#[test]
fn signature_counter_must_grow_unless_both_are_zero() {
    for (stored, sent, is_accepted) in [
        (0, 0, true),
        (0, 1, true),
        (7, 8, true),
        (7, u32::MAX, true),
        (7, 7, false),
        (7, 6, false),
        (1, 0, false),
        (u32::MAX, u32::MAX, false),
        (u32::MAX, 0, false),
    ] {
        let result = sign_in(|it| (it.stored_sign_count, it.sign_count) = (stored, sent));
        let expected = if is_accepted { Ok(sent) } else { Err(Rejection::Counter) };
        assert_eq!(result.map(|assertion| assertion.sign_count), expected, "{stored} {sent}");
    }
}

/// The first failed check answers. Each change breaks a later check than the one before it.
#[test]
fn checks_of_a_registration_have_a_fixed_order() {
    let changes: [Case<NewPasskey>; 12] = [
        (|it| it.tail = vec![0], Rejection::TrailingData),
        (|it| *it.cose_key.last_mut().unwrap() ^= 1, Rejection::PublicKey),
        (|it| it.cose_key[4] = 0x28, Rejection::Algorithm),
        (|it| it.credential_id.clear(), Rejection::CredentialIdLength),
        (|it| it.flags = BS | UP | UV, Rejection::BackupState),
        (|it| it.flags = BS | UP, Rejection::UserVerification),
        (|it| it.flags = BS, Rejection::UserPresence),
        (|it| it.relying_party_id = "example.org", Rejection::RelyingParty),
        (|it| it.object_tail = vec![0], Rejection::AttestationObject),
        (|it| it.client_data["topOrigin"] = json!("x"), Rejection::TopOrigin),
        (|it| it.client_data["origin"] = json!("x"), Rejection::Origin),
        (|it| it.client_data["type"] = json!("x"), Rejection::Ceremony),
    ];
    let mut passkey = NewPasskey::new();
    passkey.edit = |credential| *credential = json!({ "response": credential["response"] });
    for (change, rejection) in changes {
        change(&mut passkey);
        assert_eq!(passkey.verify(), Err(rejection));
    }
}

#[test]
fn checks_of_a_sign_in_have_a_fixed_order() {
    let changes: [Case<SignIn>; 9] = [
        (|it| it.sign_count = 7, Rejection::Counter),
        (|it| it.passkey.key = SigningKey::generate(), Rejection::Signature),
        (|it| it.flags = UP | UV | BE, Rejection::BackupEligibility),
        (|it| it.flags = UP, Rejection::UserVerification),
        (|it| it.flags = 0, Rejection::UserPresence),
        (|it| it.relying_party_id = "example.org", Rejection::RelyingParty),
        (|it| it.user_handle = json!("x"), Rejection::UserHandle),
        (|it| it.client_data["origin"] = json!("x"), Rejection::Origin),
        (|it| it.client_data["challenge"] = json!(encode(CHALLENGE_SID)), Rejection::Challenge),
    ];
    let mut sign_in = SignIn::new();
    for (change, rejection) in changes {
        change(&mut sign_in);
        assert_eq!(sign_in.verify(), Err(rejection));
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// Verifies a vector: a registration, and a sign-in with its credential.
fn verify_vector(
    registration: &Value,
    assertion: &Value,
    (relying_party_id, origin): (&str, &str),
    user_handle: Option<&str>,
    requires_user_verification: bool,
) -> Result<(Registration, Assertion), Rejection> {
    let challenge = |ceremony: &Value| PasskeyChallenge::from_base64url(text(ceremony, "challenge")).unwrap();
    let origins = [origin.to_owned()];
    let registered =
        RegistrationResponse::parse(&registration["credential"])?.verify(&ExpectedRegistration {
            challenge_digest: &challenge(registration).digest(),
            origins: &origins,
            relying_party_id,
            requires_user_verification,
        })?;
    let response = AssertionResponse::parse(&assertion["credential"])?;
    let checked = response.check(&challenge(assertion).digest(), &origins)?;
    assert_eq!(checked.credential_id(), &registered.credential_id);
    let asserted = checked.verify(&ExpectedAssertion {
        relying_party_id,
        requires_user_verification,
        user_handle: user_handle.unwrap_or_default(),
        requires_user_handle: user_handle.is_some(),
        credential: StoredCredential {
            public_key: &registered.public_key,
            sign_count: registered.sign_count,
            is_backup_eligible: registered.is_backup_eligible,
        },
    })?;
    Ok((registered, asserted))
}

#[test]
fn fixture_of_the_mobile_sdk_is_accepted() {
    let fixture: Value = serde_json::from_str(include_str!("vectors/sdk.json")).unwrap();
    let (registration, assertion) = (&fixture["registration"], &fixture["assertion"]);
    for ceremony in [registration, assertion] {
        let challenge = PasskeyChallenge::from_base64url(text(ceremony, "challenge")).unwrap();
        assert_eq!(challenge.sid(), Some(text(ceremony, "sid")));
    }
    let party = (text(&fixture, "rp_id"), text(&fixture, "origin"));
    let handle = Some(text(&fixture, "user_handle"));
    let (registered, asserted) = verify_vector(registration, assertion, party, handle, true).unwrap();
    assert_eq!(
        format_credential_id(&registered.credential_id),
        "6ySmhJd6qGUMCthiqszyb4Od4U6TFn0v3DLz-1EZrNQ"
    );
    assert_eq!((registered.sign_count, asserted.sign_count), (0, 1));
    assert!(!registered.is_backup_eligible);
    assert_eq!(registered.transports, ["internal", "hybrid"]);
}

/// Verifies each case of a file of vectors, and checks that exactly those with the member `refusal` are refused, for
/// that reason. Every accepted sign-in grows the signature counter by `growth`.
fn verify_vectors(vectors: &Value, requires_user_verification: bool, growth: u32) {
    let party = (text(vectors, "rp_id"), text(vectors, "origin"));
    for case in vectors["cases"].as_array().unwrap() {
        let (registration, assertion) = (&case["registration"], &case["assertion"]);
        let result = verify_vector(registration, assertion, party, None, requires_user_verification);
        let refusal = result.as_ref().err().map(|rejection| json!(format!("{rejection:?}")));
        assert_eq!(refusal.unwrap_or_default(), case["refusal"], "{}", case["name"]);
        if let Ok((registered, asserted)) = result {
            assert_eq!(asserted.sign_count, registered.sign_count + growth, "{}", case["name"]);
        }
    }
}

#[test]
fn vectors_of_python_fido2_have_the_expected_result() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/passkeys.json")).unwrap();
    assert_eq!(vectors["cases"].as_array().unwrap().len(), 15);
    verify_vectors(&vectors, true, 1);
}

/// Web Authentication Level 3, section 16. The specification expects relying parties to accept all of them if they
/// support the algorithm and frames of other origins.
#[test]
fn vectors_of_web_authentication_have_the_expected_result() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/webauthn.json")).unwrap();
    assert_eq!(vectors["cases"].as_array().unwrap().len(), 14);
    verify_vectors(&vectors, false, 0);
    // Each signature covers every byte of the client data and of the authenticator data.
    let party = (text(&vectors, "rp_id"), text(&vectors, "origin"));
    for case in vectors["cases"].as_array().unwrap().iter().filter(|case| case["refusal"].is_null()) {
        let mut assertion = case["assertion"].clone();
        let data = text(&assertion["credential"]["response"], "authenticatorData");
        let mut bytes = URL_SAFE_NO_PAD.decode(data).unwrap();
        bytes[36] ^= 1;
        assertion["credential"]["response"]["authenticatorData"] = encode(bytes).into();
        let result = verify_vector(&case["registration"], &assertion, party, None, false);
        assert_eq!(result.err(), Some(Rejection::Signature), "{}", case["name"]);
    }
}
