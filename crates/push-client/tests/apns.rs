//! Tests pushes to a stand-in for APNs.

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use domain::factors::{AppId, RegistrationToken};
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Answer, Apple, Authority, ManualClock, Reply, jws};
use push_client::apns::Reason;
use push_client::{Credential, FailureKind, Message, Outcome, PushClient, Settings};
use serde_json::json;

use crate::fixtures::{
    LONG_TIMEOUT, SHORT_TIMEOUT, create_client, is_delivered, kind_and_code, message, send_burst,
};

const TEAM: &str = "TEAM123456";
const KEY_ID: &str = "ABC123DEFG";

/// A stand-in for APNs, a clock, and a client that sends to the stand-in.
struct Fixture {
    apple: Apple,
    authority: Authority,
    clock: Arc<ManualClock>,
    client: Arc<PushClient>,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_timeout(LONG_TIMEOUT).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let apple = Apple::start(&authority, clock.clone()).await;
        let client = create_client(apple.server().url(), &authority, timeout, clock.clone());
        Self { apple, authority, clock, client }
    }

    fn token_credential(&self) -> Credential {
        self.token_credential_of(TEAM, KEY_ID)
    }

    fn token_credential_of(&self, team: &str, key_id: &str) -> Credential {
        let key = Key::p256();
        self.apple.register_key(team, key_id, &key);
        Credential::apns_token(&key.pkcs8(), key_id, team, false).unwrap()
    }

    fn certificate_credential(&self, key: Key, pem: impl Fn(&Key) -> String) -> Credential {
        let certificate =
            self.authority.push_certificate(PushCertificate { key, ..PushCertificate::default() });
        self.apple.register_certificate(&certificate, "com.example.app");
        Credential::apns_certificate(&certificate.pem(), &pem(&certificate.key), false, self.clock.now())
            .unwrap()
    }

    async fn send(&self, credential: &Credential) -> Outcome {
        self.client.send("CR1", credential, &message()).await
    }
}

#[tokio::test]
async fn push_with_a_provider_token_has_the_documented_format() {
    let fixture = Fixture::new().await;
    let expires_at = Some(fixture.clock.now().plus_seconds(300));
    let credential = fixture.token_credential();
    let outcome = fixture.client.send("CR1", &credential, &Message { expires_at, ..message() }).await;
    assert_eq!(outcome, Outcome::Delivered { provider_id: Some(message().id) });

    let pushes = fixture.apple.pushes();
    let [push] = pushes.as_slice() else { panic!("{pushes:?}") };
    assert_eq!(push.device, message().token.as_str());
    assert_eq!(push.topic, "com.example.app");
    assert_eq!(push.expiration, 1_767_225_900);
    assert_eq!(push.id, message().id);
    assert_eq!(
        push.payload,
        json!({
            "aps": {"alert": "Log in to Owl Bank?", "category": "verify_push_challenge"},
            "message": "Log in to Owl Bank?",
            "challenge_sid": "YC03444444444444444444444444444444",
            "factor_sid": "YF03333333333333333333333333333333",
            "type": "verify_push_challenge",
        })
    );
    let tokens = fixture.apple.tokens();
    let token = jws::Unverified::parse(&tokens[0]).unwrap();
    assert_eq!(token.header, json!({"alg": "ES256", "kid": KEY_ID}));
    assert_eq!(token.claims, json!({"iss": TEAM, "iat": 1_767_225_600}));
}

#[tokio::test]
async fn push_without_an_expiry_has_an_apns_expiration_of_zero() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send(&fixture.token_credential()).await));
    assert_eq!(fixture.apple.pushes()[0].expiration, 0);
}

#[tokio::test]
async fn certificate_key_is_accepted_as_pkcs8_pkcs1_and_sec1() {
    let fixture = Fixture::new().await;
    let credentials = [
        fixture.certificate_credential(Key::p256(), Key::pkcs8),
        fixture.certificate_credential(Key::p256(), Key::sec1),
        fixture.certificate_credential(Key::p256(), Key::bare),
        fixture.certificate_credential(Key::rsa(), Key::pkcs8),
        fixture.certificate_credential(Key::rsa(), Key::pkcs1),
    ];
    for (number, credential) in credentials.iter().enumerate() {
        let stored = Credential::from_bytes(&credential.to_bytes()).unwrap();
        for (name, credential) in [("new", credential), ("stored", &stored)] {
            let outcome = fixture.client.send(&format!("{name} {number}"), credential, &message()).await;
            assert!(is_delivered(&outcome), "{name} {number}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn push_to_a_topic_outside_the_certificate_is_refused() {
    let fixture = Fixture::new().await;
    let credential = fixture.certificate_credential(Key::p256(), Key::pkcs8);
    let app_id = AppId::from_stored("com.example.other".to_owned());
    let outcome = fixture.client.send("CR1", &credential, &Message { app_id, ..message() }).await;
    assert_eq!(outcome, Outcome::Refused { code: 52143, reason: "400 TopicDisallowed".to_owned() });
}

#[tokio::test]
async fn push_with_an_expired_certificate_is_not_sent() {
    let fixture = Fixture::new().await;
    let certificate = fixture
        .authority
        .push_certificate(PushCertificate { not_after: (2026, 6, 1), ..PushCertificate::default() });
    let credential = Credential::apns_certificate(
        &certificate.pem(),
        &certificate.key.pkcs8(),
        false,
        fixture.clock.now(),
    )
    .unwrap();
    fixture.clock.advance(200 * 86_400);
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Refused {
            code: 52005,
            reason: "the certificate expired on 2026-06-01T00:00:00Z".to_owned()
        }
    );
    assert_eq!(fixture.apple.server().connections(), 0);
}

/// Uses TLS 1.2, in which the rejection is part of the handshake. In TLS 1.3 the rejection comes later and
/// may be lost with the connection; the push is then retried.
#[tokio::test]
async fn untrusted_client_certificate_is_refused_without_retry() {
    let (ours, theirs, clock) = (Authority::new(), Authority::new(), Arc::new(ManualClock::new()));
    let tls = ours.server(&theirs, &[&rustls::version::TLS12]);
    let apple = Apple::start_with(tls, 1, clock.clone()).await;
    let client = create_client(apple.server().url(), &ours, LONG_TIMEOUT, clock.clone());
    let forged = ours.push_certificate(PushCertificate::default());
    let credential =
        Credential::apns_certificate(&forged.pem(), &forged.key.pkcs8(), false, clock.now()).unwrap();
    let outcome = client.send("CR1", &credential, &message()).await;
    assert_eq!(kind_and_code(&outcome), ("refused", 52131), "{outcome:?}");
    assert_eq!(apple.requests(), 0);
}

#[tokio::test]
async fn every_apns_reason_leads_to_the_documented_outcome() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    for reason in Reason::KNOWN {
        let (status, expected, code) = reason.definition().unwrap();
        fixture.apple.refuse_next(status, reason.name());
        let outcome = fixture.send(&credential).await;
        let expected = match expected {
            FailureKind::Retry => ("retry", code),
            FailureKind::DeadToken => ("dead token", code),
            FailureKind::Refused => ("refused", code),
        };
        assert_eq!(kind_and_code(&outcome), expected, "{outcome:?}");
        assert!(is_delivered(&fixture.send(&credential).await), "after {}", reason.name());
    }
}

#[tokio::test]
async fn outcome_contains_the_retry_after_delay_and_the_reason_from_apns() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    let busy = Answer::new(503, r#"{"reason":"ServiceUnavailable"}"#).header("retry-after", "17");
    fixture.apple.next(Reply::Answer(busy));
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Retry {
            after: Some(Duration::from_secs(17)),
            code: 52139,
            reason: "503 ServiceUnavailable".to_owned()
        }
    );
    let gone = r#"{"reason":"Unregistered","timestamp":1767229200000}"#;
    fixture.apple.next(Reply::Answer(Answer::new(410, gone)));
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::DeadToken { code: 52141, reason: "410 Unregistered since 2026-01-01T01:00:00Z".to_owned() }
    );
    fixture.apple.refuse_next(400, "SomethingNew");
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Refused { code: 52140, reason: "400 SomethingNew".to_owned() }
    );
}

#[tokio::test]
async fn malformed_apns_response_is_classified_by_its_status() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    for (status, body, expected) in [
        (200, "x".repeat(1_000_000), ("delivered", 0)),
        (301, String::new(), ("refused", 52140)),
        (400, "<html>".repeat(1_000_000), ("refused", 52140)),
        (410, "{".to_owned(), ("dead token", 52141)),
        (502, "[".repeat(100_000), ("retry", 52140)),
        (599, "\u{0}\u{fffd}".to_owned(), ("retry", 52140)),
    ] {
        let answer = Answer::new(status, body).header("location", "https://example.com/");
        fixture.apple.next(Reply::Answer(answer.header("apns-id", "\t").header("retry-after", "soon")));
        assert_eq!(kind_and_code(&fixture.send(&credential).await), expected, "{status}");
    }
}

#[tokio::test]
async fn provider_token_is_reused_for_fifty_minutes() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    for (minutes, tokens) in [(0, 1), (25, 1), (24, 1), (1, 2), (49, 2), (1, 3)] {
        fixture.clock.advance(minutes * 60);
        assert!(is_delivered(&fixture.send(&credential).await));
        assert_eq!(fixture.apple.tokens().len(), tokens, "{minutes} minutes later");
    }
    assert_eq!(fixture.apple.server().connections(), 1);
}

#[tokio::test]
async fn expired_provider_token_is_replaced_once_per_push() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    assert!(is_delivered(&fixture.send(&credential).await));

    fixture.clock.advance(25 * 60);
    fixture.apple.refuse_next(403, "ExpiredProviderToken");
    assert!(is_delivered(&fixture.send(&credential).await));
    assert_eq!(fixture.apple.tokens().len(), 2);

    fixture.clock.advance(25 * 60);
    fixture.apple.refuse_next(403, "ExpiredProviderToken");
    fixture.apple.refuse_next(403, "ExpiredProviderToken");
    assert_eq!(
        kind_and_code(&fixture.send(&credential).await),
        ("retry", 52148),
        "the push is sent at most twice"
    );
    assert_eq!(fixture.apple.requests(), 5);
}

#[tokio::test]
async fn provider_token_is_not_replaced_within_twenty_minutes_even_if_rejected() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    assert!(is_delivered(&fixture.send(&credential).await));
    fixture.clock.advance(5 * 60);
    fixture.apple.refuse_next(403, "ExpiredProviderToken");
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Retry {
            after: Some(Duration::from_secs(15 * 60)),
            code: 52148,
            reason: "403 ExpiredProviderToken".to_owned()
        }
    );
    assert!(is_delivered(&fixture.send(&credential).await));
    assert_eq!(fixture.apple.tokens().len(), 1);
}

#[tokio::test]
async fn provider_token_signed_with_an_unknown_key_is_refused() {
    let fixture = Fixture::new().await;
    let credential = Credential::apns_token(&Key::p256().pkcs8(), KEY_ID, TEAM, false).unwrap();
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Refused { code: 52149, reason: "403 InvalidProviderToken".to_owned() }
    );
}

#[tokio::test]
async fn each_credential_has_its_own_connection() {
    let fixture = Fixture::new().await;
    let credentials = [
        fixture.token_credential_of("TEAM000001", "KEY0000001"),
        fixture.token_credential_of("TEAM000002", "KEY0000002"),
        fixture.certificate_credential(Key::p256(), Key::pkcs8),
        fixture.certificate_credential(Key::p256(), Key::pkcs8),
    ];
    for _ in 0..2 {
        for (number, credential) in credentials.iter().enumerate() {
            let outcome = fixture.client.send(&format!("CR{number}"), credential, &message()).await;
            assert!(is_delivered(&outcome), "{outcome:?}");
        }
    }
    assert_eq!(fixture.apple.server().connections(), credentials.len());
}

#[tokio::test]
async fn connection_that_apns_bound_to_another_signing_key_is_replaced() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    assert!(is_delivered(&fixture.send(&credential).await));
    fixture.apple.refuse_next(403, "UnrelatedKeyIdInToken");
    assert_eq!(kind_and_code(&fixture.send(&credential).await), ("retry", 52149));
    assert!(is_delivered(&fixture.send(&credential).await));
    assert_eq!(fixture.apple.server().connections(), 2);
}

/// Runs on one thread. With several threads, a race in reqwest's pool sometimes opens a second connection,
/// which is closed immediately.
#[tokio::test]
async fn burst_of_pushes_opens_one_connection_and_signs_one_provider_token() {
    let fixture = Fixture::new().await;
    let token = fixture.token_credential();
    assert!(send_burst(&fixture.client, &token, 200).await.iter().all(is_delivered));
    assert_eq!(fixture.apple.pushes().len(), 200);
    assert_eq!(fixture.apple.tokens().len(), 1);
    assert_eq!(fixture.apple.server().connections(), 1);

    let fixture = Fixture::new().await;
    let certificate = fixture.certificate_credential(Key::p256(), Key::pkcs8);
    assert!(send_burst(&fixture.client, &certificate, 200).await.iter().all(is_delivered));
    assert_eq!(fixture.apple.server().connections(), 1);
}

/// APNs permits only one concurrent stream until it has received a valid token. A client learns this limit
/// only from the server's HTTP/2 settings.
#[tokio::test]
async fn burst_of_pushes_respects_a_limit_of_one_concurrent_stream() {
    let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
    let tls = authority.server(&authority, rustls::ALL_VERSIONS);
    let apple = Apple::start_with(tls, 1, clock.clone()).await;
    let key = Key::p256();
    apple.register_key(TEAM, KEY_ID, &key);
    let credential = Credential::apns_token(&key.pkcs8(), KEY_ID, TEAM, false).unwrap();
    let client = create_client(apple.server().url(), &authority, LONG_TIMEOUT, clock);
    let outcomes = send_burst(&client, &credential, 200).await;
    assert!(
        outcomes.iter().all(is_delivered),
        "{:?}",
        outcomes.iter().find(|outcome| !is_delivered(outcome))
    );
    assert_eq!(apple.server().connections(), 1);
}

#[tokio::test]
async fn push_is_resent_on_a_new_connection_after_goaway() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    assert!(is_delivered(&fixture.send(&credential).await));
    fixture.apple.server().go_away().await;
    assert!(is_delivered(&fixture.send(&credential).await));
    assert_eq!(fixture.apple.server().connections(), 2);

    fixture.apple.next(Reply::GoAway);
    let outcome = fixture.send(&credential).await;
    assert!(is_delivered(&outcome), "a request that GOAWAY excluded is resent immediately: {outcome:?}");
    assert_eq!(fixture.apple.pushes().len(), 3);
}

#[tokio::test]
async fn broken_connection_is_replaced_for_the_next_push() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    assert!(is_delivered(&fixture.send(&credential).await));
    fixture.apple.next(Reply::HangUp);
    let outcome = fixture.send(&credential).await;
    assert_eq!(kind_and_code(&outcome), ("retry", 52139), "{outcome:?}");
    assert!(is_delivered(&fixture.send(&credential).await));
    assert_eq!(fixture.apple.server().connections(), 2);
}

#[tokio::test]
async fn push_without_a_response_is_retried_after_the_timeout() {
    let fixture = Fixture::with_timeout(SHORT_TIMEOUT).await;
    let credential = fixture.token_credential();
    fixture.apple.next(Reply::Silence);
    assert_eq!(
        fixture.send(&credential).await,
        Outcome::Retry { after: None, code: 52139, reason: "timed out waiting for a response".to_owned() }
    );
}

#[tokio::test]
async fn push_to_an_unreachable_server_is_retried_and_the_reason_hides_url_and_token() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    let Fixture { apple, authority, clock, .. } = fixture;
    let url = apple.server().url();
    drop(apple);
    let outcome = create_client(url.clone(), &authority, LONG_TIMEOUT, clock)
        .send("CR1", &credential, &message())
        .await;
    assert_eq!(kind_and_code(&outcome), ("retry", 52139), "{outcome:?}");
    let Outcome::Retry { reason, .. } = outcome else { unreachable!() };
    assert!(!reason.contains(message().token.as_str()) && !reason.contains(&url), "{reason}");
}

#[tokio::test]
async fn server_with_an_untrusted_certificate_receives_no_request() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    let other_authority = Authority::new();
    let client =
        create_client(fixture.apple.server().url(), &other_authority, LONG_TIMEOUT, fixture.clock.clone());
    let outcome = client.send("CR1", &credential, &message()).await;
    assert_eq!(kind_and_code(&outcome), ("retry", 52139), "{outcome:?}");
    assert_eq!(fixture.apple.requests(), 0);
}

#[tokio::test]
async fn message_with_an_invalid_token_app_id_or_length_is_not_sent_to_apns() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    let token = |text: &str| RegistrationToken::from_stored(text.to_owned());
    for (message, expected) in [
        (Message { token: token("../../3/device/00"), ..message() }, ("dead token", 52134)),
        (Message { token: token("00?a=b"), ..message() }, ("dead token", 52134)),
        (Message { token: token("00\r\nx: y"), ..message() }, ("dead token", 52134)),
        (Message { app_id: AppId::from_stored("a\r\nb".to_owned()), ..message() }, ("refused", 52143)),
        (Message { text: "ü".repeat(2000), ..message() }, ("refused", 52138)),
    ] {
        assert_eq!(kind_and_code(&fixture.client.send("CR1", &credential, &message).await), expected);
    }
    assert_eq!(fixture.apple.server().connections(), 0);
}

#[tokio::test]
async fn message_id_that_is_not_a_uuid_is_not_sent_as_apns_id() {
    let fixture = Fixture::new().await;
    let outcome = fixture
        .client
        .send("CR1", &fixture.token_credential(), &Message { id: "7".to_owned(), ..message() })
        .await;
    // The stand-in for APNs rejects a push whose id is missing, so this outcome shows that no id was sent.
    assert_eq!(outcome, Outcome::Refused { code: 52140, reason: "400 BadMessageId".to_owned() });
}

#[test]
fn push_client_cannot_be_created_with_invalid_settings() {
    let clock = || -> Arc<dyn Clock> { Arc::new(ManualClock::new()) };
    let create_with = |change: fn(&mut Settings)| {
        let mut settings =
            Settings { extra_ca: Some(Authority::new().pem().into_bytes()), ..Settings::default() };
        change(&mut settings);
        PushClient::new(settings, clock()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(create_with(|_| {}), Ok(()));
    let error =
        create_with(|settings| settings.apns_endpoint = Some("api.push.apple.com".to_owned())).unwrap_err();
    assert!(error.starts_with("api.push.apple.com is not the URL of a server"), "{error}");
    assert!(create_with(|settings| settings.fcm_endpoint = Some(String::new())).is_err());
    let error = create_with(|settings| settings.extra_ca = Some(b"no PEM".to_vec())).unwrap_err();
    assert_eq!(error, "there is no certificate in PEM among the additional certificate authorities");
}

#[test]
fn debug_output_of_a_message_hides_text_and_token() {
    let printed = format!("{:?}", message());
    assert!(printed.contains("YC03444444444444444444444444444444"));
    assert!(!printed.contains("Owl Bank") && !printed.contains(message().token.as_str()), "{printed}");
}

/// The device registered its token after the time at which APNs reports that the token became invalid
/// (docs/protocol/decisions.md, No. 36).
#[tokio::test]
async fn push_is_retried_if_the_token_was_registered_later_than_the_apns_timestamp() {
    let fixture = Fixture::new().await;
    let credential = fixture.token_credential();
    let registered = fixture.clock.now().seconds() * 1000;
    for (timestamp, expected) in [
        (registered - 1, ("retry", 52141)),
        (registered - 86_400_000, ("retry", 52141)),
        (registered, ("dead token", 52141)),
        (registered + 1, ("dead token", 52141)),
    ] {
        let body = json!({ "reason": "Unregistered", "timestamp": timestamp });
        fixture.apple.next(Reply::Answer(Answer::new(410, body.to_string())));
        let outcome = fixture.send(&credential).await;
        assert_eq!(kind_and_code(&outcome), expected, "{outcome:?}");
    }
    fixture.apple.refuse_next(410, "Unregistered");
    assert_eq!(kind_and_code(&fixture.send(&credential).await), ("dead token", 52141), "without a timestamp");
}
