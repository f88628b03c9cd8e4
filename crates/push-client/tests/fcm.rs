//! Pushing to Google.

use std::sync::Arc;
use std::time::Duration;

use harness::stand_in::google::error;
use harness::stand_in::pki::Key;
use harness::stand_in::{Answer, Authority, Google, ManualClock, Reply};
use push_client::fcm::ErrorCode;
use push_client::{Credential, Message, Outcome, Pusher, Verdict};
use serde_json::json;

use crate::pushing::{HASTY, PATIENT, burst, is_delivered, message, pusher, verdict};

/// A stand-in, a clock, a pusher and a service account.
struct World {
    google: Google,
    clock: Arc<ManualClock>,
    pusher: Arc<Pusher>,
    credential: Credential,
}

impl World {
    async fn new() -> Self {
        Self::with_timeout(PATIENT).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let google = Google::start(&authority, clock.clone()).await;
        let pusher = pusher(google.server().url(), &authority, timeout, clock.clone());
        let credential = Credential::fcm(&google.service_account("owl-bank", &Key::rsa())).unwrap();
        Self { google, clock, pusher, credential }
    }

    async fn send(&self) -> Outcome {
        self.pusher.send("CR1", &self.credential, &message()).await
    }
}

#[tokio::test]
async fn a_push_is_what_google_demands() {
    let world = World::new().await;
    let name = "projects/owl-bank/messages/1".to_owned();
    assert_eq!(world.send().await, Outcome::Delivered { provider_id: Some(name) });
    let pushes = world.google.pushes();
    let [push] = pushes.as_slice() else { panic!("{pushes:?}") };
    assert_eq!(push.project, "owl-bank");
    assert_eq!(
        push.message,
        json!({
            "token": message().token.as_str(),
            "data": {
                "type": "verify_push_challenge",
                "challenge_sid": "YC03444444444444444444444444444444",
                "factor_sid": "YF03333333333333333333333333333333",
                "message": "Log in to Owl Bank?",
            },
            "android": {"priority": "HIGH", "ttl": "300s"},
        })
    );

    let now_or_never = Message { ttl: 0, ..message() };
    assert!(is_delivered(&world.pusher.send("CR1", &world.credential, &now_or_never).await));
    assert_eq!(world.google.pushes()[1].message["android"]["ttl"], "0s");
}

#[tokio::test]
async fn a_stored_credential_is_as_good() {
    let world = World::new().await;
    let stored = Credential::from_bytes(&world.credential.to_bytes()).unwrap();
    assert!(is_delivered(&world.pusher.send("CR2", &stored, &message()).await));
}

#[tokio::test]
async fn an_access_token_is_used_until_five_minutes_before_its_end() {
    let world = World::new().await;
    for (seconds, requests) in [(0, 1), (3298, 1), (1, 2), (3298, 2), (3600, 3)] {
        world.clock.advance(seconds);
        assert!(is_delivered(&world.send().await));
        assert_eq!(world.google.token_requests(), requests, "{seconds} seconds later");
    }
    world.clock.advance(-7200);
    assert!(is_delivered(&world.send().await));
    assert_eq!(world.google.token_requests(), 4, "a clock that was set back");
}

#[tokio::test]
async fn two_credentials_have_two_tokens_and_one_connection() {
    let world = World::new().await;
    let other = Credential::fcm(&world.google.service_account("owl-shop", &Key::new_rsa())).unwrap();
    for _ in 0..2 {
        assert!(is_delivered(&world.send().await));
        assert!(is_delivered(&world.pusher.send("CR2", &other, &message()).await));
    }
    assert_eq!(world.google.token_requests(), 2);
    assert_eq!(world.google.server().connections(), 1);
}

#[tokio::test]
async fn a_cold_burst_takes_one_connection_and_one_token() {
    let world = World::new().await;
    assert!(burst(&world.pusher, &world.credential, 200).await.iter().all(is_delivered));
    assert_eq!(world.google.pushes().len(), 200);
    assert_eq!(world.google.token_requests(), 1);
    assert_eq!(world.google.server().connections(), 1);
}

#[tokio::test]
async fn a_token_that_google_revoked_is_replaced_once() {
    let world = World::new().await;
    assert!(is_delivered(&world.send().await));
    world.clock.advance(60);
    world.google.revoke_tokens();
    assert!(is_delivered(&world.send().await));
    assert_eq!((world.google.token_requests(), world.google.send_requests()), (2, 3));

    world.clock.advance(60);
    for _ in 0..2 {
        world.google.next_send(Reply::Answer(error(401, "UNAUTHENTICATED", None, "no")));
    }
    assert_eq!(
        world.send().await,
        Outcome::Refused { code: 52109, reason: "401 UNAUTHENTICATED no".to_owned() }
    );
    assert_eq!((world.google.token_requests(), world.google.send_requests()), (3, 5), "not a third time");

    world.google.revoke_tokens();
    assert_eq!(verdict(&world.send().await), ("refused", 52109));
    assert_eq!(world.google.token_requests(), 3, "it is not a minute old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_replaced_once_for_all() {
    let world = World::new().await;
    assert!(is_delivered(&world.send().await));
    world.clock.advance(60);
    world.google.revoke_tokens();
    assert!(burst(&world.pusher, &world.credential, 50).await.iter().all(is_delivered));
    assert_eq!(world.google.token_requests(), 2);
}

/// On one thread all of them wait for a token before the first answer is there.
#[tokio::test]
async fn who_waited_for_a_token_that_did_not_come_does_not_ask_again() {
    let world = World::new().await;
    let busy = Answer::new(503, r#"{"error":"unavailable"}"#).header("retry-after", "9");
    world.google.next_token(Reply::Answer(busy));
    for outcome in burst(&world.pusher, &world.credential, 50).await {
        assert_eq!(
            outcome,
            Outcome::RetryAfter {
                after: Some(Duration::from_secs(9)),
                code: 52110,
                reason: "503 unavailable".to_owned()
            }
        );
    }
    assert_eq!((world.google.token_requests(), world.google.send_requests()), (1, 0));
    assert!(is_delivered(&world.send().await));
}

#[tokio::test]
async fn a_token_that_is_still_good_helps_over_a_gap() {
    let world = World::new().await;
    assert!(is_delivered(&world.send().await));
    world.clock.advance(3400);
    world.google.next_token(Reply::Answer(Answer::new(500, "")));
    assert!(is_delivered(&world.send().await));
    world.clock.advance(199);
    world.google.next_token(Reply::Answer(Answer::new(500, "")));
    assert_eq!(verdict(&world.send().await), ("retry", 52110), "it has ended");
}

#[tokio::test]
async fn a_service_account_that_google_does_not_know_is_refused() {
    let world = World::new().await;
    let file = world.google.service_account("owl-bank", &Key::rsa());
    let stranger = file.replace("push@owl-bank", "stranger@owl-bank");
    let stranger = Credential::fcm(&stranger).unwrap();
    assert_eq!(
        world.pusher.send("CR2", &stranger, &message()).await,
        Outcome::Refused { code: 52101, reason: "400 invalid_grant account not found".to_owned() }
    );
    world.google.service_account("owl-bank", &Key::new_rsa());
    assert_eq!(
        world.send().await,
        Outcome::Refused { code: 52101, reason: "400 invalid_grant Invalid JWT Signature.".to_owned() }
    );
}

#[tokio::test]
async fn what_the_token_endpoint_says_is_judged() {
    let world = World::new().await;
    for (status, body, expected) in [
        (200, "{}", ("retry", 52111)),
        (200, "<html>", ("retry", 52111)),
        (200, r#"{"access_token":7}"#, ("retry", 52111)),
        (200, r#"{"access_token":"a\nb"}"#, ("retry", 52111)),
        (200, r#"{"access_token":"x","expires_in":-5}"#, ("retry", 52110)),
        (302, "", ("refused", 52101)),
        (401, r#"{"error":"invalid_client"}"#, ("refused", 52101)),
        (403, "", ("refused", 52101)),
        (429, "", ("retry", 52110)),
        (500, "", ("retry", 52110)),
    ] {
        world.google.next_token(Reply::Answer(Answer::new(status, body)));
        let outcome = world.send().await;
        assert_eq!(verdict(&outcome), expected, "{status} {body}: {outcome:?}");
    }
    assert_eq!(world.google.send_requests(), 0);
}

#[tokio::test]
async fn every_error_of_googles_becomes_an_outcome() {
    let world = World::new().await;
    for code in ErrorCode::KNOWN {
        let (status, expected, number) = code.entry().unwrap();
        let words = if *code == ErrorCode::InvalidToken {
            "The registration token is not a valid FCM registration token"
        } else {
            "words"
        };
        let answer = error(status, "GENERAL", Some(code.name()), words).header("retry-after", "3");
        world.google.next_send(Reply::Answer(answer));
        let outcome = world.send().await;
        let expected = match expected {
            Verdict::Retry => ("retry", number),
            Verdict::Gone => ("gone", number),
            Verdict::Refused => ("refused", number),
        };
        assert_eq!(verdict(&outcome), expected, "{outcome:?}");
        if let Outcome::RetryAfter { after, .. } = outcome {
            assert_eq!(after, Some(Duration::from_secs(3)));
        }
    }
    assert_eq!(world.google.token_requests(), 1, "a token that was just made is not replaced");
}

#[tokio::test]
async fn a_missing_key_for_iphones_is_not_a_matter_of_the_access_token() {
    let world = World::new().await;
    assert!(is_delivered(&world.send().await));
    world.clock.advance(600);
    let answer = error(401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), "");
    world.google.next_send(Reply::Answer(answer));
    assert_eq!(verdict(&world.send().await), ("refused", 52109));
    assert_eq!(world.google.token_requests(), 1);
}

#[tokio::test]
async fn a_wrong_address_kills_no_token() {
    let world = World::new().await;
    world.google.next_send(Reply::Answer(Answer::new(404, "<!DOCTYPE html>")));
    assert_eq!(world.send().await, Outcome::Refused { code: 52111, reason: "404".to_owned() });
}

#[tokio::test]
async fn silence_ends_with_the_timeout() {
    let world = World::with_timeout(HASTY).await;
    let silence = || Outcome::RetryAfter { after: None, code: 52110, reason: "no answer in time".to_owned() };
    world.google.next_token(Reply::Silence);
    assert_eq!(world.send().await, silence());
    world.google.next_send(Reply::Silence);
    assert_eq!(world.send().await, silence());
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_for_the_next_push() {
    let world = World::new().await;
    assert!(is_delivered(&world.send().await));
    world.google.next_send(Reply::HangUp);
    assert_eq!(verdict(&world.send().await), ("retry", 52110));
    assert!(is_delivered(&world.send().await));
    world.google.server().go_away().await;
    assert!(is_delivered(&world.send().await));
    assert_eq!(world.google.server().connections(), 3);
}

/// Not even to another port or path of the relay's host: tokens come from where pushes go.
#[tokio::test]
async fn token_uri_of_a_file_is_no_address_to_call() {
    let world = World::new().await;
    let file = world.google.service_account("owl-bank", &Key::rsa());
    let inside = Google::start(&Authority::new(), world.clock.clone()).await;
    let other_port = format!("{}/token", inside.server().url());
    let other_path = format!("{}/v1/projects/owl-bank/messages:send", world.google.server().url());
    let uris = ["https://169.254.169.254/token", "http://localhost/token", &other_port, &other_path];
    for (number, uri) in uris.iter().enumerate() {
        let mut file: serde_json::Value = serde_json::from_str(&file).unwrap();
        file["token_uri"] = (*uri).into();
        let credential = Credential::fcm(&file.to_string()).unwrap();
        let outcome = world.pusher.send(uri, &credential, &message()).await;
        let refused = Outcome::Refused { code: 52101, reason: "400 invalid_grant audience".to_owned() };
        assert_eq!((outcome, world.google.token_requests()), (refused, number + 1), "{uri}");
    }
    assert_eq!((inside.server().connections(), world.google.send_requests()), (0, 0));
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let world = World::new().await;
    let long = Message { text: "x".repeat(4096), ..message() };
    assert_eq!(verdict(&world.pusher.send("CR1", &world.credential, &long).await), ("refused", 52106));
    assert_eq!(world.google.server().connections(), 0);
}
