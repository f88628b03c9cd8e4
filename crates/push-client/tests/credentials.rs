//! What is taken for a credential, and what is said of everything else.

use domain::credentials::CredentialType;
use domain::{Clock, Timestamp};
use harness::stand_in::ManualClock;
use harness::stand_in::pki::{Authority, Key, PRODUCTION, PushCertificate, Pushing, SANDBOX, TOPICS};
use push_client::{Credential, Environment, Summary};
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

fn words<T: std::fmt::Debug>(result: Result<T, push_client::Invalid>) -> String {
    result.unwrap_err().to_string()
}

/// The list of topics as Apple writes it: each with its kinds.
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
fn a_certificate_tells_what_it_is_for() {
    let null = vec![5, 0];
    let listed = topics(&[("com.example.app", "app"), ("com.example.app.voip", "voip")]);
    let extensions = [(SANDBOX, null.clone()), (PRODUCTION, null), (TOPICS, listed)];
    let universal = certificate(PushCertificate { extensions: &extensions, ..PushCertificate::default() });
    assert_eq!(
        accepted(&universal).summary(),
        Summary {
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
fn a_certificate_for_one_environment_is_not_taken_for_the_other() {
    let null = vec![5, 0];
    let try_both = |extensions: &[(&[u64], Vec<u8>)]| {
        let certificate = certificate(PushCertificate { extensions, ..PushCertificate::default() });
        [false, true].map(|sandbox| {
            let (pem, key) = (certificate.pem(), certificate.key.pkcs8());
            match Credential::apns_certificate(&pem, &key, sandbox, now()) {
                Ok(credential) => {
                    assert_eq!(credential.summary().environment, Some(Environment::of(sandbox)));
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
        ["the certificate is good for sandbox only, so Sandbox must be true", ""]
    );
    assert_eq!(
        try_both(&[(PRODUCTION, null)]),
        ["", "the certificate is good for production only, so Sandbox must be false"]
    );
}

#[test]
fn a_credential_can_move_to_the_other_environment_unless_it_says_otherwise() {
    let null = [(PRODUCTION, vec![5, 0])];
    let production = certificate(PushCertificate { extensions: &null, ..PushCertificate::default() });
    let token = Credential::apns_token(&Key::p256().pkcs8(), "ABC123DEFG", "TEAM123456", false).unwrap();
    for credential in [accepted(&certificate(PushCertificate::default())), token] {
        let before = credential.summary();
        let moved = credential.clone().in_environment(Environment::Sandbox).unwrap();
        assert_eq!(moved.summary(), Summary { environment: Some(Environment::Sandbox), ..before.clone() });
        let back = moved.in_environment(Environment::Production).unwrap();
        assert_eq!((back.summary(), back.to_bytes()), (before, credential.to_bytes()));
    }
    assert_eq!(
        words(accepted(&production).in_environment(Environment::Sandbox)),
        "the certificate is good for production only, so Sandbox must be false"
    );
    let account = Credential::fcm(&service_account().to_string()).unwrap();
    assert_eq!(account.in_environment(Environment::Sandbox).unwrap().summary().environment, None);
}

#[test]
fn what_people_paste_is_understood() {
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
        // The issuer first, as some tools write it.
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
fn what_is_wrong_with_a_certificate_is_said() {
    let good = certificate(PushCertificate::default());
    let try_it =
        |certificate: &str, key: &str| words(Credential::apns_certificate(certificate, key, false, now()));
    let (pem, key) = (good.pem(), good.key.pkcs8());

    let expired = certificate(PushCertificate { not_after: (2025, 11, 30), ..PushCertificate::default() });
    assert_eq!(
        try_it(&expired.pem(), &expired.key.pkcs8()),
        "the certificate expired on 2025-11-30T00:00:00Z"
    );
    assert_eq!(try_it(&pem, &Key::p256().pkcs8()), "the private key does not belong to the certificate");
    assert_eq!(try_it(&pem, &Key::rsa().pkcs1()), "the private key does not belong to the certificate");
    let not_pem = "is not a PEM: send the text from its BEGIN line to its END line";
    assert_eq!(try_it("hello!", &key), format!("the certificate {not_pem}"));
    assert_eq!(try_it("", &key), format!("the certificate {not_pem}"));
    assert_eq!(try_it(&pem[..pem.len() - 40], &key), format!("the certificate {not_pem}"));
    assert_eq!(try_it(&pem, "hello!"), format!("the private key {not_pem}"));
    assert_eq!(try_it(&key, &key), "the certificate has no section BEGIN CERTIFICATE");
    assert_eq!(try_it(&pem, &pem), "the private key has no section BEGIN PRIVATE KEY");
    assert_eq!(try_it("aGVsbG8=", &key), "the certificate is not an X.509 certificate");
    assert_eq!(try_it(&good.key.bare(), &key), "the certificate is not an X.509 certificate");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    assert_eq!(try_it(&format!("{pem}{junk}"), &key), "the certificate is not an X.509 certificate");
    let unusable = "the private key is not a key that can be used here: it must be RSA with 2048 to 8192 bits, or \
                    EC on P-256, P-384 or P-521, in PKCS#8, PKCS#1 or SEC1";
    assert_eq!(try_it(&pem, "aGVsbG8="), unusable);
    assert_eq!(
        try_it(&pem, &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
        "the private key is encrypted: export it without a passphrase"
    );
}

#[test]
fn a_key_for_tokens_is_ten_characters_twice_and_a_point_on_p256() {
    let key = Key::p256();
    let take = |key: &str, key_id: &str, team_id: &str| Credential::apns_token(key, key_id, team_id, true);
    for text in [key.pkcs8(), key.bare(), key.sec1(), key.pkcs8().replace('\n', "\\n")] {
        let credential = take(&text, " ABC123DEFG", "TEAM123456\n").unwrap();
        let summary = credential.summary();
        assert_eq!((summary.kind, summary.team.as_deref()), (CredentialType::Apn, Some("TEAM123456")));
        assert_eq!((summary.environment, summary.not_after), (Some(Environment::Sandbox), None));
    }
    let ten = "must be the 10 letters and digits that Apple shows";
    for bad in ["", "ABC123DEF", "ABC123DEFGH", "ABC123DEF/", "ABC123DEé"] {
        assert_eq!(words(take(&key.pkcs8(), bad, "TEAM123456")), format!("the key id {ten}"), "{bad}");
        assert_eq!(words(take(&key.pkcs8(), "ABC123DEFG", bad)), format!("the team id {ten}"), "{bad}");
    }
    let other_curve = "the private key is not on the curve P-256, so it is not an APNs key (.p8) of Apple's";
    for other in [Key::of(&PKCS_ECDSA_P384_SHA384), Key::rsa()] {
        assert_eq!(words(take(&other.pkcs8(), "ABC123DEFG", "TEAM123456")), other_curve);
    }
    let unusable =
        "the private key is not a key that can be used here: it must be EC on P-256, in PKCS#8 or SEC1";
    for other in [Key::of(&PKCS_ED25519).pkcs8(), "aGVsbG8=".to_owned()] {
        assert_eq!(words(take(&other, "ABC123DEFG", "TEAM123456")), unusable);
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

#[test]
fn a_service_account_is_a_file_of_googles() {
    let file = service_account();
    assert!(Credential::fcm(&format!("\u{feff}{file:#}\r\n")).is_ok(), "with a byte-order mark");
    let summary = Credential::fcm(&format!("\n{file:#}\n")).unwrap().summary();
    assert_eq!((summary.kind, summary.project.as_deref()), (CredentialType::Fcm, Some("owl-bank")));
    assert_eq!((summary.environment, summary.team, summary.topics.len()), (None, None, 0));

    let with = |change: fn(&mut Value)| {
        let mut file = service_account();
        change(&mut file);
        Credential::fcm(&file.to_string())
    };
    for good in [
        with(|file| file["private_key"] = Key::rsa().pkcs1().into()),
        with(|file| file["private_key"] = Key::rsa().pkcs8().replace('\n', "\\n").into()),
        with(|file| file["project_id"] = "example.com:owl-bank".into()),
        with(|file| drop(file.as_object_mut().unwrap().remove("token_uri"))),
        with(|file| drop(file.as_object_mut().unwrap().remove("private_key_id"))),
    ] {
        good.unwrap();
    }

    let key =
        "the service account has a field private_key that is not an RSA key of 2048 to 8192 bits in PEM";
    let missing = "the service account is not the JSON file of a service account: the field";
    for (bad, expected) in [
        (with(|file| file["private_key"] = Key::p256().pkcs8().into()), key.to_owned()),
        (with(|file| file["private_key"] = "secret!".into()), key.to_owned()),
        (with(|file| file["private_key"] = 7.into()), format!("{missing} private_key is missing")),
        (with(|file| file["project_id"] = "".into()), format!("{missing} project_id is missing")),
        (
            with(|file| drop(file.as_object_mut().unwrap().remove("client_email"))),
            format!("{missing} client_email is missing"),
        ),
        (
            with(|file| drop(file.as_object_mut().unwrap().remove("type"))),
            format!("{missing} type is missing"),
        ),
        (
            with(|file| file["type"] = "authorized_user".into()),
            "the service account has a field type that is not service_account".to_owned(),
        ),
        (
            with(|file| file["project_id"] = "../x".into()),
            "the service account has a field project_id that is not a project id".to_owned(),
        ),
        (
            with(|file| file["token_uri"] = "file:///etc/passwd".into()),
            "the service account has a field token_uri that is not a web address".to_owned(),
        ),
        (Credential::fcm(r#"{"project_info":{}}"#), format!("{missing} type is missing")),
    ] {
        assert_eq!(words(bad), expected);
    }

    let no_json = "the service account is not the JSON file of a service account";
    for bad in ["", "hello", "[]", "null", "{", "\"AAAA:\""] {
        assert_eq!(words(Credential::fcm(bad)), no_json, "{bad}");
    }
    let legacy = "the service account is a server key of FCM's legacy API, which was shut down in 2024: create a \
                  service account and send its JSON";
    for key in [format!("AAAA1234567:{}", "a_-B".repeat(35)), format!("AIza{}", "Sy-_x".repeat(7))] {
        assert_eq!(words(Credential::fcm(&key)), legacy);
    }
}

#[test]
fn what_is_stored_comes_back_and_nothing_else_does() {
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
fn an_expired_certificate_can_still_be_read() {
    let expiring = certificate(PushCertificate { not_after: (2026, 1, 2), ..PushCertificate::default() });
    let stored = accepted(&expiring).to_bytes();
    let not_after = Credential::from_bytes(&stored).unwrap().summary().not_after;
    assert_eq!(not_after.map(|end| end.to_string()).as_deref(), Some("2026-01-02T00:00:00Z"));
}

#[test]
fn no_key_prints() {
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
