//! Tests pushes to a stand-in for FCM.

use std::sync::Arc;
use std::time::Duration;

use harness::stand_in::google::error;
use harness::stand_in::pki::Key;
use harness::stand_in::{Answer, Authority, Google, ManualClock, Reply};
use push_client::fcm::ErrorCode;
use push_client::{Credential, FailureKind, Message, Outcome, PushClient};
use serde_json::json;

use crate::fixtures::{
    LONG_TIMEOUT, SHORT_TIMEOUT, create_client, is_delivered, kind_and_code, message, send_burst,
};

/// A stand-in for FCM, a clock, a client that sends to the stand-in, and a service account.
struct Fixture {
    google: Google,
    clock: Arc<ManualClock>,
    client: Arc<PushClient>,
    credential: Credential,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_timeout(LONG_TIMEOUT).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let google = Google::start(&authority, clock.clone()).await;
        let client = create_client(google.server().url(), &authority, timeout, clock.clone());
        let credential = Credential::fcm(&google.service_account("owl-bank", &Key::rsa())).unwrap();
        Self { google, clock, client, credential }
    }

    async fn send(&self) -> Outcome {
        self.client.send("CR1", &self.credential, &message()).await
    }
}

#[tokio::test]
async fn fcm_push_request_has_the_documented_format() {
    let fixture = Fixture::new().await;
    let name = "projects/owl-bank/messages/1".to_owned();
    assert_eq!(fixture.send().await, Outcome::Delivered { provider_id: Some(name) });
    let pushes = fixture.google.pushes();
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
    assert!(is_delivered(&fixture.client.send("CR1", &fixture.credential, &now_or_never).await));
    assert_eq!(fixture.google.pushes()[1].message["android"]["ttl"], "0s");
}

#[tokio::test]
async fn deserialized_credential_can_send_a_push() {
    let fixture = Fixture::new().await;
    let stored = Credential::from_bytes(&fixture.credential.to_bytes()).unwrap();
    assert!(is_delivered(&fixture.client.send("CR2", &stored, &message()).await));
}

#[tokio::test]
async fn access_token_is_reused_until_five_minutes_before_expiry() {
    let fixture = Fixture::new().await;
    for (seconds, requests) in [(0, 1), (3298, 1), (1, 2), (3298, 2), (3600, 3)] {
        fixture.clock.advance(seconds);
        assert!(is_delivered(&fixture.send().await));
        assert_eq!(fixture.google.token_requests(), requests, "{seconds} seconds later");
    }
    fixture.clock.advance(-7200);
    assert!(is_delivered(&fixture.send().await));
    assert_eq!(fixture.google.token_requests(), 4, "the clock was set back");
}

#[tokio::test]
async fn two_credentials_share_one_connection_but_use_separate_access_tokens() {
    let fixture = Fixture::new().await;
    let other = Credential::fcm(&fixture.google.service_account("owl-shop", &Key::new_rsa())).unwrap();
    for _ in 0..2 {
        assert!(is_delivered(&fixture.send().await));
        assert!(is_delivered(&fixture.client.send("CR2", &other, &message()).await));
    }
    assert_eq!(fixture.google.token_requests(), 2);
    assert_eq!(fixture.google.server().connections(), 1);
}

#[tokio::test]
async fn burst_of_pushes_opens_one_connection_and_requests_one_access_token() {
    let fixture = Fixture::new().await;
    assert!(send_burst(&fixture.client, &fixture.credential, 200).await.iter().all(is_delivered));
    assert_eq!(fixture.google.pushes().len(), 200);
    assert_eq!(fixture.google.token_requests(), 1);
    assert_eq!(fixture.google.server().connections(), 1);
}

#[tokio::test]
async fn revoked_access_token_is_replaced_once_per_push() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send().await));
    fixture.clock.advance(60);
    fixture.google.revoke_tokens();
    assert!(is_delivered(&fixture.send().await));
    assert_eq!((fixture.google.token_requests(), fixture.google.send_requests()), (2, 3));

    fixture.clock.advance(60);
    for _ in 0..2 {
        fixture.google.next_send(Reply::Answer(error(401, "UNAUTHENTICATED", None, "no")));
    }
    assert_eq!(
        fixture.send().await,
        Outcome::Refused { code: 52109, reason: "401 UNAUTHENTICATED no".to_owned() }
    );
    assert_eq!(
        (fixture.google.token_requests(), fixture.google.send_requests()),
        (3, 5),
        "the push is sent at most twice"
    );

    fixture.google.revoke_tokens();
    assert_eq!(kind_and_code(&fixture.send().await), ("refused", 52109));
    assert_eq!(fixture.google.token_requests(), 3, "the token is less than a minute old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_access_token_is_replaced_only_once_for_a_burst_of_pushes() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send().await));
    fixture.clock.advance(60);
    fixture.google.revoke_tokens();
    assert!(send_burst(&fixture.client, &fixture.credential, 50).await.iter().all(is_delivered));
    assert_eq!(fixture.google.token_requests(), 2);
}

/// Runs on one thread, so that all pushes wait for the token before the first response arrives.
#[tokio::test]
async fn pushes_that_wait_for_a_token_request_share_its_failure() {
    let fixture = Fixture::new().await;
    let busy = Answer::new(503, r#"{"error":"unavailable"}"#).header("retry-after", "9");
    fixture.google.next_token(Reply::Answer(busy));
    for outcome in send_burst(&fixture.client, &fixture.credential, 50).await {
        assert_eq!(
            outcome,
            Outcome::Retry {
                after: Some(Duration::from_secs(9)),
                code: 52110,
                reason: "503 unavailable".to_owned()
            }
        );
    }
    assert_eq!((fixture.google.token_requests(), fixture.google.send_requests()), (1, 0));
    assert!(is_delivered(&fixture.send().await));
}

#[tokio::test]
async fn access_token_is_used_until_expiry_if_renewal_fails() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send().await));
    fixture.clock.advance(3400);
    fixture.google.next_token(Reply::Answer(Answer::new(500, "")));
    assert!(is_delivered(&fixture.send().await));
    fixture.clock.advance(199);
    fixture.google.next_token(Reply::Answer(Answer::new(500, "")));
    assert_eq!(kind_and_code(&fixture.send().await), ("retry", 52110), "the token has expired");
}

#[tokio::test]
async fn service_account_unknown_to_google_is_refused() {
    let fixture = Fixture::new().await;
    let file = fixture.google.service_account("owl-bank", &Key::rsa());
    let unknown = file.replace("push@owl-bank", "unknown@owl-bank");
    let unknown = Credential::fcm(&unknown).unwrap();
    assert_eq!(
        fixture.client.send("CR2", &unknown, &message()).await,
        Outcome::Refused { code: 52101, reason: "400 invalid_grant account not found".to_owned() }
    );
    fixture.google.service_account("owl-bank", &Key::new_rsa());
    assert_eq!(
        fixture.send().await,
        Outcome::Refused { code: 52101, reason: "400 invalid_grant Invalid JWT Signature.".to_owned() }
    );
}

#[tokio::test]
async fn token_endpoint_response_determines_the_outcome() {
    let fixture = Fixture::new().await;
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
        fixture.google.next_token(Reply::Answer(Answer::new(status, body)));
        let outcome = fixture.send().await;
        assert_eq!(kind_and_code(&outcome), expected, "{status} {body}: {outcome:?}");
    }
    assert_eq!(fixture.google.send_requests(), 0);
}

#[tokio::test]
async fn every_fcm_error_leads_to_the_documented_outcome() {
    let fixture = Fixture::new().await;
    for code in ErrorCode::KNOWN {
        let (status, expected, number) = code.definition().unwrap();
        let message = if *code == ErrorCode::InvalidToken {
            "The registration token is not a valid FCM registration token"
        } else {
            "message"
        };
        let answer = error(status, "GENERAL", Some(code.name()), message).header("retry-after", "3");
        fixture.google.next_send(Reply::Answer(answer));
        let outcome = fixture.send().await;
        let expected = match expected {
            FailureKind::Retry => ("retry", number),
            FailureKind::DeadToken => ("dead token", number),
            FailureKind::Refused => ("refused", number),
        };
        assert_eq!(kind_and_code(&outcome), expected, "{outcome:?}");
        if let Outcome::Retry { after, .. } = outcome {
            assert_eq!(after, Some(Duration::from_secs(3)));
        }
    }
    assert_eq!(fixture.google.token_requests(), 1, "a token that was just issued is not replaced");
}

#[tokio::test]
async fn third_party_auth_error_does_not_replace_the_access_token() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send().await));
    fixture.clock.advance(600);
    let answer = error(401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), "");
    fixture.google.next_send(Reply::Answer(answer));
    assert_eq!(kind_and_code(&fixture.send().await), ("refused", 52109));
    assert_eq!(fixture.google.token_requests(), 1);
}

#[tokio::test]
async fn status_404_without_an_error_code_does_not_mark_the_device_token_dead() {
    let fixture = Fixture::new().await;
    fixture.google.next_send(Reply::Answer(Answer::new(404, "<!DOCTYPE html>")));
    assert_eq!(fixture.send().await, Outcome::Refused { code: 52111, reason: "404".to_owned() });
}

#[tokio::test]
async fn push_without_a_response_is_retried_after_the_timeout() {
    let fixture = Fixture::with_timeout(SHORT_TIMEOUT).await;
    let timeout =
        || Outcome::Retry { after: None, code: 52110, reason: "timed out waiting for a response".to_owned() };
    fixture.google.next_token(Reply::Silence);
    assert_eq!(fixture.send().await, timeout());
    fixture.google.next_send(Reply::Silence);
    assert_eq!(fixture.send().await, timeout());
}

#[tokio::test]
async fn broken_connection_is_replaced_for_the_next_push() {
    let fixture = Fixture::new().await;
    assert!(is_delivered(&fixture.send().await));
    fixture.google.next_send(Reply::HangUp);
    assert_eq!(kind_and_code(&fixture.send().await), ("retry", 52110));
    assert!(is_delivered(&fixture.send().await));
    fixture.google.server().go_away().await;
    assert!(is_delivered(&fixture.send().await));
    assert_eq!(fixture.google.server().connections(), 3);
}

/// Another port or path on the relay's host is not called either.
#[tokio::test]
async fn service_account_with_foreign_token_uri_is_refused() {
    let fixture = Fixture::new().await;
    let file = fixture.google.service_account("owl-bank", &Key::rsa());
    let internal = Google::start(&Authority::new(), fixture.clock.clone()).await;
    let other_port = format!("{}/token", internal.server().url());
    let other_path = format!("{}/v1/projects/owl-bank/messages:send", fixture.google.server().url());
    let uris = ["https://169.254.169.254/token", "http://localhost/token", &other_port, &other_path];
    for (number, uri) in uris.iter().enumerate() {
        let mut file: serde_json::Value = serde_json::from_str(&file).unwrap();
        file["token_uri"] = (*uri).into();
        let credential = Credential::fcm(&file.to_string()).unwrap();
        let outcome = fixture.client.send(uri, &credential, &message()).await;
        let refused = Outcome::Refused { code: 52101, reason: "400 invalid_grant audience".to_owned() };
        assert_eq!((outcome, fixture.google.token_requests()), (refused, number + 1), "{uri}");
    }
    assert_eq!((internal.server().connections(), fixture.google.send_requests()), (0, 0));
}

#[tokio::test]
async fn message_over_the_fcm_size_limit_is_not_sent() {
    let fixture = Fixture::new().await;
    let long = Message { text: "x".repeat(4096), ..message() };
    assert_eq!(
        kind_and_code(&fixture.client.send("CR1", &fixture.credential, &long).await),
        ("refused", 52106)
    );
    assert_eq!(fixture.google.server().connections(), 0);
}
