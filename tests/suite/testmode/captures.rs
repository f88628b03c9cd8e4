//! Captured pushes and webhooks.

use std::time::{Duration, Instant};

use harness::{Answer, Receiver, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::{TestServer, challenges, text};
use crate::webhooks::{event, webhook};
use crate::world::{WAIT_TIMEOUT, assert_error, created};

#[tokio::test]
async fn push_is_captured_as_it_would_be_sent() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let android = server.device(&service, "zoe-00001", json!({})).await;
    let iphone = server.device(&service, "zoe-00002", json!({ "style": "ios" })).await;
    let challenge = server.challenge(&android, &[]).await;
    let push = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    let expected = json!({
        "type": "verify_push_challenge",
        "challenge_sid": challenge,
        "factor_sid": android["factor_sid"],
        "message": "Sign in to Owl Bank?",
    });
    assert_eq!(push["body"]["message"]["data"], expected);
    assert_eq!(push["body"]["message"]["android"], json!({ "priority": "HIGH", "ttl": "300s" }));
    assert_eq!(push["body"]["message"]["token"], push["token"]);
    // The members are in the order in which they would be sent.
    assert!(push["body"].to_string().starts_with(r#"{"message":{"token":"#), "{push}");
    for (name, value) in [
        ("provider", json!("fcm")),
        ("account_sid", json!(server.world.server.account_sid())),
        ("service_sid", json!(service)),
        ("factor_sid", android["factor_sid"].clone()),
        ("challenge_sid", json!(challenge)),
        ("notification_sid", Value::Null),
        ("headers", json!({ "content-type": "application/json" })),
        ("outcome", json!("delivered")),
        // The service has no credential, so a server with real providers would give up this push.
        ("would_fail", json!(52004)),
    ] {
        assert_eq!(push[name], value, "{name}: {push}");
    }

    let challenge = server.challenge(&iphone, &[]).await;
    let push = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    assert_eq!(
        (&push["provider"], &push["body"]["aps"]["alert"]),
        (&json!("apn"), &json!("Sign in to Owl Bank?"))
    );
    assert_eq!(push["headers"]["apns-topic"], "countersign.testmode", "{push}");
    assert_eq!(push["headers"]["apns-push-type"], "alert", "{push}");
}

#[tokio::test]
async fn resent_push_has_its_notification() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    let challenge = server.challenge(&device, &[]).await;
    let first = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    let path = format!("{}/{challenge}/Notifications", challenges(&device));
    let notification = server.world.backend().post(&path, &[]).await.json();
    let since = text(&first["id"]);
    let again = server.get(&format!("/pushes/latest?wait=5&since={since}")).await;
    assert_eq!(again["notification_sid"], notification["sid"], "{again}");
}

#[tokio::test]
async fn waiting_request_returns_within_100_ms_of_the_push() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    // On a busy machine, some rounds take longer than the server needs.
    let mut late = Vec::new();
    while late.len() < 10 && late.last().is_none_or(|late| *late >= Duration::from_millis(100)) {
        server.delete("/pushes").await;
        let path = format!("/pushes?wait=30&factor_sid={}", text(&device["factor_sid"]));
        let waiting = async { (server.get(&path).await, Instant::now()) };
        let creating = async {
            // Long enough that the request above waits already.
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.challenge(&device, &[]).await;
            Instant::now()
        };
        let ((pushes, returned), created) = tokio::join!(waiting, creating);
        assert_eq!(pushes.as_array().unwrap().len(), 1, "{pushes}");
        late.push(returned.saturating_duration_since(created));
    }
    assert!(late.last().is_some_and(|late| *late < Duration::from_millis(100)), "{late:?}");

    let began = Instant::now();
    assert_eq!(server.get("/pushes?wait=1&challenge_sid=YC").await, json!([]));
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(20), "{waited:?}");
}

#[tokio::test]
async fn filter_selects_and_deletes_captures() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let first = server.device(&service, "zoe-00001", json!({})).await;
    let second = server.device(&service, "zoe-00002", json!({})).await;
    for device in [&first, &first, &second] {
        let challenge = server.challenge(device, &[]).await;
        server.get(&format!("/pushes?wait=5&challenge_sid={challenge}")).await;
    }
    let count = async |query: &str| server.get(&format!("/pushes{query}")).await.as_array().unwrap().len();
    let of_first = format!("?factor_sid={}", text(&first["factor_sid"]));
    assert_eq!((count("").await, count(&of_first).await, count("?limit=1").await), (3, 2, 1));
    assert_eq!(count(&format!("?account_sid={}", server.world.server.account_sid())).await, 3);
    assert_eq!(count("?account_sid=AC00000000000000000000000000000000").await, 0);
    let all = server.get("/pushes").await;
    assert_eq!(count(&format!("?since={}", text(&all[0]["id"]))).await, 2);
    assert_eq!(count(&format!("?since={}", text(&all[0]["at"]))).await, 3);
    server.delete(&format!("/pushes{of_first}")).await;
    assert_eq!((count("").await, count(&of_first).await), (1, 0));
    server.delete("/pushes").await;
    assert_eq!(count("").await, 0);
    assert_error(&server.send(Method::GET, "/pushes/latest", None).await, 404, 20404);
    for query in ["?chalenge_sid=YC", "?wait=61", "?wait=x", "?limit=0", "?since=yesterday", "?type=a&type=b"]
    {
        assert_error(&server.send(Method::GET, &format!("/pushes{query}"), None).await, 400, 60306);
    }
}

#[tokio::test]
async fn webhook_is_captured_with_its_attempts_and_really_sent() {
    let server = TestServer::with(&["--delivery-max-backoff", "1"]);
    let mut receiver = Receiver::start([Answer::of("503 Busy", "", "later"), Answer::ok()]);
    let service = server.world.service().await;
    let webhook_sid = webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    let factor = event(&server.world, &service, "zoe-00001").await.factor_sid;
    let query = format!("/webhooks/latest?wait=5&type=factor.created&factor_sid={factor}");
    let captured = server.get(&query).await;
    let call = receiver.call().await;
    assert_eq!(captured["headers"]["X-Twilio-Signature"], call.header("X-Twilio-Signature"));
    assert_eq!(captured["headers"]["I-Twilio-Idempotency-Token"], call.header("I-Twilio-Idempotency-Token"));
    assert_eq!(captured["headers"]["Countersign-Test-Mode"], "on");
    assert_eq!((&captured["webhook_sid"], &captured["service_sid"]), (&json!(webhook_sid), &json!(service)));
    assert_eq!(captured["url"], receiver.at("/hook"));
    assert_eq!(captured["id"], captured["headers"]["I-Twilio-Idempotency-Token"]);
    for (name, value) in call.form() {
        assert_eq!(captured["parameters"][&name], value, "{name}");
    }
    let settled = wait_until("the second attempt is captured", WAIT_TIMEOUT, async || {
        let captured = server.get(&query).await;
        (captured["attempts"].as_array().unwrap().len() == 2).then_some(captured)
    })
    .await;
    let attempts: Vec<_> =
        settled["attempts"].as_array().unwrap().iter().map(|it| (&it["ending"], &it["status"])).collect();
    assert_eq!(attempts, [(&json!("again"), &json!(503)), (&json!("delivered"), &json!(200))]);
}

#[tokio::test]
async fn waiting_for_a_webhook_ends_after_the_receiver_has_handled_it() {
    let server = TestServer::start();
    let handled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&handled);
    let receiver = Receiver::reacting(move |_| {
        let seen = std::sync::Arc::clone(&seen);
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
            Answer::ok()
        }
    });
    let service = server.world.service().await;
    webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    event(&server.world, &service, "zoe-00001").await;
    server.get("/webhooks/latest?wait=5&type=factor.created").await;
    assert!(handled.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test]
async fn stopping_server_ends_requests_that_wait() {
    let mut server = TestServer::start();
    let http = server.http.clone();
    let waiting = tokio::spawn(async move { http.get("/_countersign/v1/pushes?wait=30", &[]).await });
    wait_until("the request waits", WAIT_TIMEOUT, async || {
        // The request is in progress once it was accepted; nothing reports that, so leave it some time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Some(())
    })
    .await;
    let began = Instant::now();
    assert!(server.world.server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(waiting.await.unwrap().text, "[]");
}

#[tokio::test]
async fn verification_event_is_captured_with_its_body() {
    let server = TestServer::start();
    let receiver = Receiver::start([Answer::ok()]);
    let (world, url) = (&server.world, receiver.at("/events"));
    let account = format!("/accounts/{}", world.server.account_sid());
    let reply = server.post(&account, json!({ "verification_events_url": url })).await;
    assert_eq!((reply.status, &reply.json()["verification_events_url"]), (200, &json!(url)));
    assert_eq!(reply.json()["debugger_webhook"], Value::Null);
    for (path, body, expected) in [
        (account.as_str(), json!({ "verification_events_url": "ftp://h.example" }), (400, 60306)),
        (account.as_str(), json!({ "friendly_name": "Owl" }), (400, 60306)),
        ("/accounts/AC00000000000000000000000000000000", json!({ "debugger_webhook": "" }), (404, 20404)),
        ("/accounts/x", json!({}), (404, 20404)),
    ] {
        assert_error(&server.post(path, body).await, expected.0, expected.1);
    }
    let service = world.service().await;
    let (backend, path) = (world.backend(), format!("/v2/Services/{service}"));
    assert_eq!(backend.post(&path, &[("VerifyEventSubscriptionEnabled", "true")]).await.status, 200);
    let form = [("To", "+4366412345678"), ("Channel", "sms")];
    let verification = created(&backend.post(&format!("{path}/Verifications"), &form).await);

    let event_type = "com.twilio.accountsecurity.verify.verification.pending";
    let sid = text(&verification["sid"]);
    let query = format!("type={event_type}&verification_sid={sid}&service_sid={service}");
    let captured = server.get(&format!("/webhooks/latest?wait=5&{query}")).await;
    assert_eq!(captured["body"][0]["data"]["verification_sid"], verification["sid"]);
    assert_eq!((&captured["webhook_sid"], &captured["parameters"]), (&Value::Null, &json!({})));
    let call = &receiver.calls()[0];
    assert_eq!(captured["url"], call.url());
    assert_eq!(captured["body"], serde_json::from_slice::<Value>(&call.bytes()).unwrap());

    let new = json!({ "verification_events_url": url, "debugger_webhook": url });
    let other = server.post("/accounts", new).await;
    assert_eq!(other.status, 201, "{other:?}");
    let other = format!("/accounts/{}", text(&other.json()["account_sid"]));
    assert_eq!(server.post(&other, json!({})).await.json()["debugger_webhook"], json!(url));
    assert_eq!(server.post("/reset", json!({})).await.status, 204);
    assert_eq!(server.post(&account, json!({})).await.json()["verification_events_url"], Value::Null);
}
