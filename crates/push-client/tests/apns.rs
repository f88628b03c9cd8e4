//! Pushing to Apple.

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use domain::factors::{AppId, RegistrationToken};
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Answer, Apple, Authority, ManualClock, Reply, jws};
use push_client::apns::Reason;
use push_client::{Credential, Message, Outcome, Pusher, Settings, Verdict};
use serde_json::json;

use crate::pushing::{HASTY, PATIENT, burst, is_delivered, message, pusher, verdict};

const TEAM: &str = "TEAM123456";
const KEY_ID: &str = "ABC123DEFG";

/// A stand-in, a clock, and a pusher with a credential of either kind.
struct World {
    apple: Apple,
    authority: Authority,
    clock: Arc<ManualClock>,
    pusher: Arc<Pusher>,
}

impl World {
    async fn new() -> Self {
        Self::with_timeout(PATIENT).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let apple = Apple::start(&authority, clock.clone()).await;
        let pusher = pusher(apple.server().url(), &authority, timeout, clock.clone());
        Self { apple, authority, clock, pusher }
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
        self.pusher.send("CR1", credential, &message()).await
    }
}

#[tokio::test]
async fn a_push_with_a_token_is_what_apple_demands() {
    let world = World::new().await;
    let expires_at = Some(world.clock.now().plus_seconds(300));
    let credential = world.token_credential();
    let outcome = world.pusher.send("CR1", &credential, &Message { expires_at, ..message() }).await;
    assert_eq!(outcome, Outcome::Delivered { provider_id: Some(message().id) });

    let pushes = world.apple.pushes();
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
    let tokens = world.apple.tokens();
    let token = jws::Unverified::parse(&tokens[0]).unwrap();
    assert_eq!(token.header, json!({"alg": "ES256", "kid": KEY_ID}));
    assert_eq!(token.claims, json!({"iss": TEAM, "iat": 1_767_225_600}));
}

#[tokio::test]
async fn now_or_never_has_no_expiration() {
    let world = World::new().await;
    assert!(is_delivered(&world.send(&world.token_credential()).await));
    assert_eq!(world.apple.pushes()[0].expiration, 0);
}

#[tokio::test]
async fn a_certificate_opens_the_door_in_every_encoding_of_its_key() {
    let world = World::new().await;
    let credentials = [
        world.certificate_credential(Key::p256(), Key::pkcs8),
        world.certificate_credential(Key::p256(), Key::sec1),
        world.certificate_credential(Key::p256(), Key::bare),
        world.certificate_credential(Key::rsa(), Key::pkcs8),
        world.certificate_credential(Key::rsa(), Key::pkcs1),
    ];
    for (number, credential) in credentials.iter().enumerate() {
        let stored = Credential::from_bytes(&credential.to_bytes()).unwrap();
        for (name, credential) in [("new", credential), ("stored", &stored)] {
            let outcome = world.pusher.send(&format!("{name} {number}"), credential, &message()).await;
            assert!(is_delivered(&outcome), "{name} {number}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_topic() {
    let world = World::new().await;
    let credential = world.certificate_credential(Key::p256(), Key::pkcs8);
    let app_id = AppId::from_stored("com.example.other".to_owned());
    let outcome = world.pusher.send("CR1", &credential, &Message { app_id, ..message() }).await;
    assert_eq!(outcome, Outcome::Refused { code: 52143, reason: "400 TopicDisallowed".to_owned() });
}

#[tokio::test]
async fn an_expired_certificate_is_not_shown() {
    let world = World::new().await;
    let certificate = world
        .authority
        .push_certificate(PushCertificate { not_after: (2026, 6, 1), ..PushCertificate::default() });
    let credential =
        Credential::apns_certificate(&certificate.pem(), &certificate.key.pkcs8(), false, world.clock.now())
            .unwrap();
    world.clock.advance(200 * 86_400);
    assert_eq!(
        world.send(&credential).await,
        Outcome::Refused {
            code: 52005,
            reason: "the certificate expired on 2026-06-01T00:00:00Z".to_owned()
        }
    );
    assert_eq!(world.apple.server().connections(), 0);
}

/// In TLS 1.2 the refusal is part of the handshake. In 1.3 it comes later, and may be lost with the
/// connection; the push is then tried again.
#[tokio::test]
async fn a_certificate_that_apple_does_not_believe_is_for_people_to_mend() {
    let (ours, apples, clock) = (Authority::new(), Authority::new(), Arc::new(ManualClock::new()));
    let tls = ours.server(&apples, &[&rustls::version::TLS12]);
    let apple = Apple::start_with(tls, 1, clock.clone()).await;
    let pusher = pusher(apple.server().url(), &ours, PATIENT, clock.clone());
    let forged = ours.push_certificate(PushCertificate::default());
    let credential =
        Credential::apns_certificate(&forged.pem(), &forged.key.pkcs8(), false, clock.now()).unwrap();
    let outcome = pusher.send("CR1", &credential, &message()).await;
    assert_eq!(verdict(&outcome), ("refused", 52131), "{outcome:?}");
    assert_eq!(apple.requests(), 0);
}

#[tokio::test]
async fn every_reason_of_apples_becomes_an_outcome() {
    let world = World::new().await;
    let credential = world.token_credential();
    for reason in Reason::KNOWN {
        let (status, expected, code) = reason.entry().unwrap();
        world.apple.refuse_next(status, reason.name());
        let outcome = world.send(&credential).await;
        let expected = match expected {
            Verdict::Retry => ("retry", code),
            Verdict::Gone => ("gone", code),
            Verdict::Refused => ("refused", code),
        };
        assert_eq!(verdict(&outcome), expected, "{outcome:?}");
        assert!(is_delivered(&world.send(&credential).await), "after {}", reason.name());
    }
}

#[tokio::test]
async fn what_apple_says_besides_is_passed_on() {
    let world = World::new().await;
    let credential = world.token_credential();
    let busy = Answer::new(503, r#"{"reason":"ServiceUnavailable"}"#).header("retry-after", "17");
    world.apple.next(Reply::Answer(busy));
    assert_eq!(
        world.send(&credential).await,
        Outcome::RetryAfter {
            after: Some(Duration::from_secs(17)),
            code: 52139,
            reason: "503 ServiceUnavailable".to_owned()
        }
    );
    let gone = r#"{"reason":"Unregistered","timestamp":1767229200000}"#;
    world.apple.next(Reply::Answer(Answer::new(410, gone)));
    assert_eq!(
        world.send(&credential).await,
        Outcome::Gone { code: 52141, reason: "410 Unregistered since 2026-01-01T01:00:00Z".to_owned() }
    );
    world.apple.refuse_next(400, "SomethingNew");
    assert_eq!(
        world.send(&credential).await,
        Outcome::Refused { code: 52140, reason: "400 SomethingNew".to_owned() }
    );
}

#[tokio::test]
async fn nobody_is_believed_who_talks_nonsense() {
    let world = World::new().await;
    let credential = world.token_credential();
    for (status, body, expected) in [
        (200, "x".repeat(1_000_000), ("delivered", 0)),
        (301, String::new(), ("refused", 52140)),
        (400, "<html>".repeat(1_000_000), ("refused", 52140)),
        (410, "{".to_owned(), ("gone", 52141)),
        (502, "[".repeat(100_000), ("retry", 52140)),
        (599, "\u{0}\u{fffd}".to_owned(), ("retry", 52140)),
    ] {
        let answer = Answer::new(status, body).header("location", "https://example.com/");
        world.apple.next(Reply::Answer(answer.header("apns-id", "\t").header("retry-after", "soon")));
        assert_eq!(verdict(&world.send(&credential).await), expected, "{status}");
    }
}

#[tokio::test]
async fn a_provider_token_is_used_for_fifty_minutes() {
    let world = World::new().await;
    let credential = world.token_credential();
    for (minutes, tokens) in [(0, 1), (25, 1), (24, 1), (1, 2), (49, 2), (1, 3)] {
        world.clock.advance(minutes * 60);
        assert!(is_delivered(&world.send(&credential).await));
        assert_eq!(world.apple.tokens().len(), tokens, "{minutes} minutes later");
    }
    assert_eq!(world.apple.server().connections(), 1);
}

#[tokio::test]
async fn a_token_that_apple_finds_too_old_is_replaced_once() {
    let world = World::new().await;
    let credential = world.token_credential();
    assert!(is_delivered(&world.send(&credential).await));

    world.clock.advance(25 * 60);
    world.apple.refuse_next(403, "ExpiredProviderToken");
    assert!(is_delivered(&world.send(&credential).await));
    assert_eq!(world.apple.tokens().len(), 2);

    world.clock.advance(25 * 60);
    world.apple.refuse_next(403, "ExpiredProviderToken");
    world.apple.refuse_next(403, "ExpiredProviderToken");
    assert_eq!(verdict(&world.send(&credential).await), ("retry", 52148), "not a third time");
    assert_eq!(world.apple.requests(), 5);
}

#[tokio::test]
async fn a_token_is_not_replaced_within_twenty_minutes_whatever_apple_says() {
    let world = World::new().await;
    let credential = world.token_credential();
    assert!(is_delivered(&world.send(&credential).await));
    world.clock.advance(5 * 60);
    world.apple.refuse_next(403, "ExpiredProviderToken");
    assert_eq!(
        world.send(&credential).await,
        Outcome::RetryAfter {
            after: Some(Duration::from_secs(15 * 60)),
            code: 52148,
            reason: "403 ExpiredProviderToken".to_owned()
        }
    );
    assert!(is_delivered(&world.send(&credential).await));
    assert_eq!(world.apple.tokens().len(), 1);
}

#[tokio::test]
async fn a_key_that_apple_does_not_know_is_refused() {
    let world = World::new().await;
    let credential = Credential::apns_token(&Key::p256().pkcs8(), KEY_ID, TEAM, false).unwrap();
    assert_eq!(
        world.send(&credential).await,
        Outcome::Refused { code: 52149, reason: "403 InvalidProviderToken".to_owned() }
    );
}

#[tokio::test]
async fn every_credential_has_a_connection_of_its_own() {
    let world = World::new().await;
    let credentials = [
        world.token_credential_of("TEAM000001", "KEY0000001"),
        world.token_credential_of("TEAM000002", "KEY0000002"),
        world.certificate_credential(Key::p256(), Key::pkcs8),
        world.certificate_credential(Key::p256(), Key::pkcs8),
    ];
    for _ in 0..2 {
        for (number, credential) in credentials.iter().enumerate() {
            let outcome = world.pusher.send(&format!("CR{number}"), credential, &message()).await;
            assert!(is_delivered(&outcome), "{outcome:?}");
        }
    }
    assert_eq!(world.apple.server().connections(), credentials.len());
}

#[tokio::test]
async fn a_connection_that_is_tied_to_another_key_is_left() {
    let world = World::new().await;
    let credential = world.token_credential();
    assert!(is_delivered(&world.send(&credential).await));
    world.apple.refuse_next(403, "UnrelatedKeyIdInToken");
    assert_eq!(verdict(&world.send(&credential).await), ("retry", 52149));
    assert!(is_delivered(&world.send(&credential).await));
    assert_eq!(world.apple.server().connections(), 2);
}

/// On one thread, since between two of them there is a gap in reqwest's pool, through which a second
/// connection slips now and then, which is closed again at once.
#[tokio::test]
async fn a_cold_burst_takes_one_connection_and_one_token() {
    let world = World::new().await;
    let token = world.token_credential();
    assert!(burst(&world.pusher, &token, 200).await.iter().all(is_delivered));
    assert_eq!(world.apple.pushes().len(), 200);
    assert_eq!(world.apple.tokens().len(), 1);
    assert_eq!(world.apple.server().connections(), 1);

    let world = World::new().await;
    let certificate = world.certificate_credential(Key::p256(), Key::pkcs8);
    assert!(burst(&world.pusher, &certificate, 200).await.iter().all(is_delivered));
    assert_eq!(world.apple.server().connections(), 1);
}

/// Until Apple has seen a good token it lets in one request at a time, which nobody knows who has not
/// heard its settings yet.
#[tokio::test]
async fn a_cold_burst_waits_for_a_server_that_lets_in_one_at_a_time() {
    let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
    let tls = authority.server(&authority, rustls::ALL_VERSIONS);
    let apple = Apple::start_with(tls, 1, clock.clone()).await;
    let key = Key::p256();
    apple.register_key(TEAM, KEY_ID, &key);
    let credential = Credential::apns_token(&key.pkcs8(), KEY_ID, TEAM, false).unwrap();
    let pusher = pusher(apple.server().url(), &authority, PATIENT, clock);
    let outcomes = burst(&pusher, &credential, 200).await;
    assert!(
        outcomes.iter().all(is_delivered),
        "{:?}",
        outcomes.iter().find(|outcome| !is_delivered(outcome))
    );
    assert_eq!(apple.server().connections(), 1);
}

#[tokio::test]
async fn a_server_that_is_shut_down_is_left_without_a_loss() {
    let world = World::new().await;
    let credential = world.token_credential();
    assert!(is_delivered(&world.send(&credential).await));
    world.apple.server().go_away().await;
    assert!(is_delivered(&world.send(&credential).await));
    assert_eq!(world.apple.server().connections(), 2);

    world.apple.next(Reply::GoAway);
    let outcome = world.send(&credential).await;
    assert!(is_delivered(&outcome), "what was refused unseen is sent again at once: {outcome:?}");
    assert_eq!(world.apple.pushes().len(), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_for_the_next_push() {
    let world = World::new().await;
    let credential = world.token_credential();
    assert!(is_delivered(&world.send(&credential).await));
    world.apple.next(Reply::HangUp);
    let outcome = world.send(&credential).await;
    assert_eq!(verdict(&outcome), ("retry", 52139), "{outcome:?}");
    assert!(is_delivered(&world.send(&credential).await));
    assert_eq!(world.apple.server().connections(), 2);
}

#[tokio::test]
async fn silence_ends_with_the_timeout() {
    let world = World::with_timeout(HASTY).await;
    let credential = world.token_credential();
    world.apple.next(Reply::Silence);
    assert_eq!(
        world.send(&credential).await,
        Outcome::RetryAfter { after: None, code: 52139, reason: "no answer in time".to_owned() }
    );
}

#[tokio::test]
async fn nobody_there_is_for_another_time() {
    let world = World::new().await;
    let credential = world.token_credential();
    let World { apple, authority, clock, .. } = world;
    let url = apple.server().url();
    drop(apple);
    let outcome = pusher(url.clone(), &authority, PATIENT, clock).send("CR1", &credential, &message()).await;
    assert_eq!(verdict(&outcome), ("retry", 52139), "{outcome:?}");
    let Outcome::RetryAfter { reason, .. } = outcome else { unreachable!() };
    assert!(!reason.contains(message().token.as_str()) && !reason.contains(&url), "{reason}");
}

#[tokio::test]
async fn a_server_that_is_not_apple_gets_nothing() {
    let world = World::new().await;
    let credential = world.token_credential();
    let stranger = Authority::new();
    let pusher = pusher(world.apple.server().url(), &stranger, PATIENT, world.clock.clone());
    let outcome = pusher.send("CR1", &credential, &message()).await;
    assert_eq!(verdict(&outcome), ("retry", 52139), "{outcome:?}");
    assert_eq!(world.apple.requests(), 0);
}

#[tokio::test]
async fn what_is_wrong_from_the_start_is_not_sent() {
    let world = World::new().await;
    let credential = world.token_credential();
    let token = |text: &str| RegistrationToken::from_stored(text.to_owned());
    for (message, expected) in [
        (Message { token: token("../../3/device/00"), ..message() }, ("gone", 52134)),
        (Message { token: token("00?a=b"), ..message() }, ("gone", 52134)),
        (Message { token: token("00\r\nx: y"), ..message() }, ("gone", 52134)),
        (Message { app_id: AppId::from_stored("a\r\nb".to_owned()), ..message() }, ("refused", 52143)),
        (Message { text: "ü".repeat(2000), ..message() }, ("refused", 52138)),
    ] {
        assert_eq!(verdict(&world.pusher.send("CR1", &credential, &message).await), expected);
    }
    assert_eq!(world.apple.server().connections(), 0);
}

#[tokio::test]
async fn an_id_that_is_no_uuid_is_left_to_apple() {
    let world = World::new().await;
    let outcome = world
        .pusher
        .send("CR1", &world.token_credential(), &Message { id: "7".to_owned(), ..message() })
        .await;
    // The stand-in insists on an id, so that one that went missing would be seen.
    assert_eq!(outcome, Outcome::Refused { code: 52140, reason: "400 BadMessageId".to_owned() });
}

#[test]
fn settings_are_checked_at_the_start() {
    let clock = || -> Arc<dyn Clock> { Arc::new(ManualClock::new()) };
    let with = |change: fn(&mut Settings)| {
        let mut settings =
            Settings { extra_ca: Some(Authority::new().pem().into_bytes()), ..Settings::default() };
        change(&mut settings);
        Pusher::new(settings, clock()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(with(|_| {}), Ok(()));
    let words = with(|settings| settings.apns_endpoint = Some("api.push.apple.com".to_owned())).unwrap_err();
    assert!(words.starts_with("api.push.apple.com is not the address of a server"), "{words}");
    assert!(with(|settings| settings.fcm_endpoint = Some(String::new())).is_err());
    let words = with(|settings| settings.extra_ca = Some(b"no PEM".to_vec())).unwrap_err();
    assert_eq!(words, "the additional certificate authorities are not certificates in PEM");
}

#[test]
fn a_message_prints_neither_its_text_nor_its_token() {
    let printed = format!("{:?}", message());
    assert!(printed.contains("YC03444444444444444444444444444444"));
    assert!(!printed.contains("Owl Bank") && !printed.contains(message().token.as_str()), "{printed}");
}

/// The device has registered anew since Apple was told that the app is gone (docs/protocol/decisions.md, No. 36).
#[tokio::test]
async fn outdated_word_of_a_dead_token_is_tried_again() {
    let world = World::new().await;
    let credential = world.token_credential();
    let registered = world.clock.now().seconds() * 1000;
    for (timestamp, expected) in [
        (registered - 1, ("retry", 52141)),
        (registered - 86_400_000, ("retry", 52141)),
        (registered, ("gone", 52141)),
        (registered + 1, ("gone", 52141)),
    ] {
        let body = json!({ "reason": "Unregistered", "timestamp": timestamp });
        world.apple.next(Reply::Answer(Answer::new(410, body.to_string())));
        let outcome = world.send(&credential).await;
        assert_eq!(verdict(&outcome), expected, "{outcome:?}");
    }
    world.apple.refuse_next(410, "Unregistered");
    assert_eq!(verdict(&world.send(&credential).await), ("gone", 52141), "without a timestamp");
}
