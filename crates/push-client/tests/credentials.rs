//! Tests the parsing and validation of push credentials.

use domain::credentials::CredentialType;
use domain::{Clock, Timestamp};
use harness::stand_in::ManualClock;
use harness::stand_in::pki::{Authority, Key, PRODUCTION, PushCertificate, Pushing, SANDBOX, TOPICS};
use push_client::{Credential, CredentialSummary, Environment};
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

fn now() -> Timestamp {
    ManualClock::new().now()
}

fn certificate(wanted: PushCertificate<'_>) -> Pushing {
    Authority::new().push_certificate(wanted)
}

fn accepted(certificate: &Pushing) -> Credential {
    Credential::apns_certificate(&certificate.pem(), &certificate.key.pkcs8(), false, now()).unwrap()
}

/// Returns the message of the validation error in `result`.
fn error_text<T: std::fmt::Debug>(result: Result<T, push_client::InvalidCredential>) -> String {
    result.unwrap_err().to_string()
}

/// Encodes the topics extension as Apple does: each topic is followed by the list of its kinds.
fn topics(topics: &[(&str, &str)]) -> Vec<u8> {
    let text = |tag, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
    let sequence = |content: Vec<u8>| [&[0x30, content.len() as u8], content.as_slice()].concat();
    sequence(
        topics
            .iter()
            .flat_map(|(topic, kind)| [text(0x0c, topic), sequence(text(0x0c, kind))].concat())
            .collect(),
    )
}

#[test]
fn summary_of_a_certificate_has_topics_team_environment_and_expiry() {
    let null = vec![5, 0];
    let listed = topics(&[("com.example.app", "app"), ("com.example.app.voip", "voip")]);
    let extensions = [(SANDBOX, null.clone()), (PRODUCTION, null), (TOPICS, listed)];
    let universal = certificate(PushCertificate { extensions: &extensions, ..PushCertificate::default() });
    assert_eq!(
        accepted(&universal).summary(),
        CredentialSummary {
            kind: CredentialType::Apn,
            topics: vec!["com.example.app".to_owned(), "com.example.app.voip".to_owned()],
            team: Some("TEAM123456".to_owned()),
            project: None,
            environment: Some(Environment::Production),
            not_after: Some(Timestamp::from_seconds(2_398_291_200)),
        }
    );

    let common_name = "Apple Production IOS Push Services: com.example.old";
    let old = certificate(PushCertificate { user_id: None, common_name, ..PushCertificate::default() });
    assert_eq!(accepted(&old).summary().topics, ["com.example.old"]);
    let other =
        certificate(PushCertificate { user_id: None, common_name: "Me: You", ..PushCertificate::default() });
    assert!(accepted(&other).summary().topics.is_empty());
    let odd = [(TOPICS, vec![0x30, 0x7f, 0])];
    let odd = certificate(PushCertificate { extensions: &odd, ..PushCertificate::default() });
    assert_eq!(accepted(&odd).summary().topics, ["com.example.app"]);
}

#[test]
fn certificate_limited_to_one_environment_is_refused_for_the_other() {
    let null = vec![5, 0];
    let try_both = |extensions: &[(&[u64], Vec<u8>)]| {
        let certificate = certificate(PushCertificate { extensions, ..PushCertificate::default() });
        [false, true].map(|sandbox| {
            let (pem, key) = (certificate.pem(), certificate.key.pkcs8());
            match Credential::apns_certificate(&pem, &key, sandbox, now()) {
                Ok(credential) => {
                    assert_eq!(credential.summary().environment, Some(Environment::from_sandbox(sandbox)));
                    String::new()
                }
                Err(invalid) => invalid.to_string(),
            }
        })
    };
    assert_eq!(try_both(&[]), ["", ""]);
    assert_eq!(try_both(&[(SANDBOX, null.clone()), (PRODUCTION, null.clone())]), ["", ""]);
    assert_eq!(
        try_both(&[(SANDBOX, null.clone())]),
        ["the certificate is valid for sandbox only, so Sandbox must be true", ""]
    );
    assert_eq!(
        try_both(&[(PRODUCTION, null)]),
        ["", "the certificate is valid for production only, so Sandbox must be false"]
    );
}

#[test]
fn apns_environment_can_be_changed_unless_the_credential_is_limited_to_one() {
    let null = [(PRODUCTION, vec![5, 0])];
    let production = certificate(PushCertificate { extensions: &null, ..PushCertificate::default() });
    let token = Credential::apns_token(&Key::p256().pkcs8(), "ABC123DEFG", "TEAM123456", false).unwrap();
    for credential in [accepted(&certificate(PushCertificate::default())), token] {
        let before = credential.summary();
        let moved = credential.clone().in_environment(Environment::Sandbox).unwrap();
        assert_eq!(
            moved.summary(),
            CredentialSummary { environment: Some(Environment::Sandbox), ..before.clone() }
        );
        let back = moved.in_environment(Environment::Production).unwrap();
        assert_eq!((back.summary(), back.to_bytes()), (before, credential.to_bytes()));
    }
    assert_eq!(
        error_text(accepted(&production).in_environment(Environment::Sandbox)),
        "the certificate is valid for production only, so Sandbox must be false"
    );
    let account = Credential::fcm(&service_account().to_string()).unwrap();
    assert_eq!(account.in_environment(Environment::Sandbox).unwrap().summary().environment, None);
}

#[test]
fn common_pem_variants_of_certificates_and_keys_are_accepted() {
    let pushing = certificate(PushCertificate::default());
    let (pem, key) = (pushing.pem(), pushing.key.pkcs8());
    let bare =
        |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>().join("\n");
    let both = format!("Bag Attributes\n    localKeyID: 01\nsubject=/UID=com.example.app\n{pem}{key}");
    for (certificate, key) in [
        (pem.clone(), key.clone()),
        (pem.replace('\n', "\r\n"), key.replace('\n', "\r\n")),
        (pem.replace('\n', "\\n"), key.replace('\n', "\\n")),
        (pem.replace('\n', " "), key.replace('\n', " ")),
        (bare(&pem), bare(&key)),
        (bare(&pem).replace('\n', ""), bare(&key).replace('\n', "")),
        (pem.clone(), pushing.key.sec1()),
        (both.clone(), both.clone()),
        (format!("{both}{}", Authority::new().pem()), key.clone()),
        // Some tools write the issuer's certificate first.
        (format!("{}{pem}", Authority::new().pem()), key.clone()),
        (
            format!("{}{}{pem}{}", Authority::new().pem(), Authority::new().pem(), Authority::new().pem()),
            key.clone(),
        ),
        (format!("\u{feff}{pem}"), format!("\u{feff}{key}")),
        (format!("\u{feff}{}", bare(&pem)), format!("\u{feff}{}", bare(&key))),
    ] {
        let credential = Credential::apns_certificate(&certificate, &key, false, now());
        assert_eq!(credential.unwrap().summary().topics, ["com.example.app"], "{certificate}");
    }
}

#[test]
fn invalid_certificate_or_key_is_refused_with_the_reason() {
    let good = certificate(PushCertificate::default());
    let parse_error = |certificate: &str, key: &str| {
        error_text(Credential::apns_certificate(certificate, key, false, now()))
    };
    let (pem, key) = (good.pem(), good.key.pkcs8());

    let expired = certificate(PushCertificate { not_after: (2025, 11, 30), ..PushCertificate::default() });
    assert_eq!(
        parse_error(&expired.pem(), &expired.key.pkcs8()),
        "the certificate expired on 2025-11-30T00:00:00Z"
    );
    assert_eq!(parse_error(&pem, &Key::p256().pkcs8()), "the private key does not belong to the certificate");
    assert_eq!(parse_error(&pem, &Key::rsa().pkcs1()), "the private key does not belong to the certificate");
    let not_pem = "is not in PEM format: send the text from its BEGIN line to its END line";
    assert_eq!(parse_error("hello!", &key), format!("the certificate {not_pem}"));
    assert_eq!(parse_error("", &key), format!("the certificate {not_pem}"));
    assert_eq!(parse_error(&pem[..pem.len() - 40], &key), format!("the certificate {not_pem}"));
    assert_eq!(parse_error(&pem, "hello!"), format!("the private key {not_pem}"));
    assert_eq!(parse_error(&key, &key), "the certificate has no PEM section BEGIN CERTIFICATE");
    assert_eq!(parse_error(&pem, &pem), "the private key has no PEM section BEGIN PRIVATE KEY");
    assert_eq!(parse_error("aGVsbG8=", &key), "the certificate is not an X.509 certificate");
    assert_eq!(parse_error(&good.key.bare(), &key), "the certificate is not an X.509 certificate");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    assert_eq!(parse_error(&format!("{pem}{junk}"), &key), "the certificate is not an X.509 certificate");
    let unusable = "the private key is not supported: it must be RSA with 2048 to 8192 bits, or \
                    EC on P-256, P-384 or P-521, in PKCS#8, PKCS#1 or SEC1";
    assert_eq!(parse_error(&pem, "aGVsbG8="), unusable);
    assert_eq!(
        parse_error(&pem, &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
        "the private key is encrypted: export it without a passphrase"
    );
}

#[test]
fn apns_token_requires_two_ten_character_ids_and_a_p256_key() {
    let key = Key::p256();
    let parse = |key: &str, key_id: &str, team_id: &str| Credential::apns_token(key, key_id, team_id, true);
    for text in [key.pkcs8(), key.bare(), key.sec1(), key.pkcs8().replace('\n', "\\n")] {
        let credential = parse(&text, " ABC123DEFG", "TEAM123456\n").unwrap();
        let summary = credential.summary();
        assert_eq!((summary.kind, summary.team.as_deref()), (CredentialType::Apn, Some("TEAM123456")));
        assert_eq!((summary.environment, summary.not_after), (Some(Environment::Sandbox), None));
    }
    let ten = "must be the 10 letters and digits that Apple shows";
    for bad in ["", "ABC123DEF", "ABC123DEFGH", "ABC123DEF/", "ABC123DEé"] {
        assert_eq!(error_text(parse(&key.pkcs8(), bad, "TEAM123456")), format!("the key id {ten}"), "{bad}");
        assert_eq!(error_text(parse(&key.pkcs8(), "ABC123DEFG", bad)), format!("the team id {ten}"), "{bad}");
    }
    let other_curve = "the private key is not on the curve P-256, so it is not an APNs key (.p8) from Apple";
    for other in [Key::of(&PKCS_ECDSA_P384_SHA384), Key::rsa()] {
        assert_eq!(error_text(parse(&other.pkcs8(), "ABC123DEFG", "TEAM123456")), other_curve);
    }
    let unusable = "the private key is not supported: it must be EC on P-256, in PKCS#8 or SEC1";
    for other in [Key::of(&PKCS_ED25519).pkcs8(), "aGVsbG8=".to_owned()] {
        assert_eq!(error_text(parse(&other, "ABC123DEFG", "TEAM123456")), unusable);
    }
}

fn service_account() -> Value {
    json!({
        "type": "service_account",
        "project_id": "owl-bank",
        "private_key_id": "0123456789abcdef",
        "private_key": Key::rsa().pkcs8(),
        "client_email": "push@owl-bank.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "client_id": "1",
    })
}

/// Applies `change` to a valid service account file and parses the result.
fn parse_changed(change: fn(&mut Value)) -> Result<Credential, push_client::InvalidCredential> {
    let mut file = service_account();
    change(&mut file);
    Credential::fcm(&file.to_string())
}

#[test]
fn valid_service_account_is_accepted() {
    let file = service_account();
    assert!(Credential::fcm(&format!("\u{feff}{file:#}\r\n")).is_ok(), "with a byte-order mark");
    let summary = Credential::fcm(&format!("\n{file:#}\n")).unwrap().summary();
    assert_eq!((summary.kind, summary.project.as_deref()), (CredentialType::Fcm, Some("owl-bank")));
    assert_eq!((summary.environment, summary.team, summary.topics.len()), (None, None, 0));

    for good in [
        parse_changed(|file| file["private_key"] = Key::rsa().pkcs1().into()),
        parse_changed(|file| file["private_key"] = Key::rsa().pkcs8().replace('\n', "\\n").into()),
        parse_changed(|file| file["project_id"] = "example.com:owl-bank".into()),
        parse_changed(|file| drop(file.as_object_mut().unwrap().remove("token_uri"))),
        parse_changed(|file| drop(file.as_object_mut().unwrap().remove("private_key_id"))),
    ] {
        good.unwrap();
    }
}

#[test]
fn invalid_service_account_is_refused_with_the_reason() {
    let key = "the service account has an invalid field private_key: expected an RSA key of 2048 to 8192 bits in PEM";
    let missing = "the service account is not the JSON file of a service account: the field";
    for (bad, expected) in [
        (parse_changed(|file| file["private_key"] = Key::p256().pkcs8().into()), key.to_owned()),
        (parse_changed(|file| file["private_key"] = "secret!".into()), key.to_owned()),
        (parse_changed(|file| file["private_key"] = 7.into()), format!("{missing} private_key is missing")),
        (parse_changed(|file| file["project_id"] = "".into()), format!("{missing} project_id is missing")),
        (
            parse_changed(|file| drop(file.as_object_mut().unwrap().remove("client_email"))),
            format!("{missing} client_email is missing"),
        ),
        (
            parse_changed(|file| drop(file.as_object_mut().unwrap().remove("type"))),
            format!("{missing} type is missing"),
        ),
        (
            parse_changed(|file| file["type"] = "authorized_user".into()),
            "the service account has an invalid field type: expected service_account".to_owned(),
        ),
        (
            parse_changed(|file| file["project_id"] = "../x".into()),
            "the service account has an invalid field project_id: expected a project id".to_owned(),
        ),
        (
            parse_changed(|file| file["token_uri"] = "file:///etc/passwd".into()),
            "the service account has an invalid field token_uri: expected a web address".to_owned(),
        ),
        (Credential::fcm(r#"{"project_info":{}}"#), format!("{missing} type is missing")),
    ] {
        assert_eq!(error_text(bad), expected);
    }

    let not_json = "the service account is not the JSON file of a service account";
    for bad in ["", "hello", "[]", "null", "{", "\"AAAA:\""] {
        assert_eq!(error_text(Credential::fcm(bad)), not_json, "{bad}");
    }
    let legacy = "the service account is a server key of FCM's legacy API, which was shut down in 2024: create a \
                  service account and send its JSON";
    for key in [format!("AAAA1234567:{}", "a_-B".repeat(35)), format!("AIza{}", "Sy-_x".repeat(7))] {
        assert_eq!(error_text(Credential::fcm(&key)), legacy);
    }
}

#[test]
fn serialized_credential_is_restored_and_malformed_bytes_are_refused() {
    let token = Credential::apns_token(&Key::p256().pkcs8(), "ABC123DEFG", "TEAM123456", true).unwrap();
    let account = Credential::fcm(&service_account().to_string()).unwrap();
    for credential in [accepted(&certificate(PushCertificate::default())), token, account] {
        let bytes = credential.to_bytes();
        let again = Credential::from_bytes(&bytes).unwrap();
        assert_eq!(again.summary(), credential.summary());
        assert_eq!(again.to_bytes(), bytes);
        for length in 0..bytes.len() {
            assert!(Credential::from_bytes(&bytes[..length]).is_none());
        }
    }
    for bad in ["", "{}", r#"{"kind":"gcm"}"#, r#"{"kind":"fcm"}"#] {
        assert!(Credential::from_bytes(bad.as_bytes()).is_none());
    }
}

#[test]
fn expired_certificate_can_still_be_deserialized() {
    let expiring = certificate(PushCertificate { not_after: (2026, 1, 2), ..PushCertificate::default() });
    let stored = accepted(&expiring).to_bytes();
    let not_after = Credential::from_bytes(&stored).unwrap().summary().not_after;
    assert_eq!(not_after.map(|end| end.to_string()).as_deref(), Some("2026-01-02T00:00:00Z"));
}

#[test]
fn debug_output_of_a_credential_contains_no_key() {
    let (pushing, key) =
        (certificate(PushCertificate { key: Key::rsa(), ..PushCertificate::default() }), Key::p256());
    let rsa = pushing.key.bare();
    for (credential, secret) in [
        (accepted(&pushing), &rsa),
        (Credential::apns_token(&key.pkcs8(), "ABC123DEFG", "TEAM123456", true).unwrap(), &key.bare()),
        (Credential::fcm(&service_account().to_string()).unwrap(), &rsa),
    ] {
        let printed = format!("{credential:?} {credential:#?}");
        assert!(printed.contains("Summary"), "{printed}");
        for at in (0..secret.len() - 16).step_by(8) {
            assert!(!printed.contains(&secret[at..at + 16]), "{printed}");
        }
        assert!(printed.len() < 1000, "{printed}");
    }
}
