//! Simulated failures, and devices that enroll by rules.

use std::time::{Duration, Instant};

use harness::{Answer, Receiver, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::{TestServer, text};
use crate::webhooks::{event, webhook};
use crate::world::{WAIT_TIMEOUT, assert_error};

impl TestServer {
    /// Replaces the failures to simulate.
    async fn simulate(&self, plan: Value) {
        let reply = self.send(Method::PUT, "/chaos", Some(plan.clone())).await;
        assert_eq!((reply.status, reply.json()), (200, plan));
    }
}

#[tokio::test]
async fn exactly_the_next_two_pushes_fail() {
    let server = TestServer::with(&["--delivery-max-backoff", "1"]);
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({ "behaviour": "approve" })).await;
    server.simulate(json!({ "push": { "next": 2, "as": "unavailable" } })).await;
    let challenge = server.challenge(&device, &[]).await;
    wait_until("the third attempt succeeds, and the device approves", WAIT_TIMEOUT, async || {
        (server.status(&device, &challenge).await == "approved").then_some(())
    })
    .await;
    let pushes = server.get(&format!("/pushes?challenge_sid={challenge}")).await;
    let outcomes: Vec<_> = pushes.as_array().unwrap().iter().map(|push| text(&push["outcome"])).collect();
    assert_eq!(outcomes, ["unavailable", "unavailable", "delivered"]);
    assert_eq!(server.get("/chaos").await, json!({}));
}

#[tokio::test]
async fn refused_and_gone_pushes_raise_the_alerts_of_the_providers() {
    let server = TestServer::start();
    let service = server.world.service().await;
    for (index, (effect, push, code)) in [
        ("gone", "fcm", "52103"),
        ("gone", "apn", "52141"),
        ("refused", "fcm", "52101"),
        ("refused", "apn", "52131"),
    ]
    .into_iter()
    .enumerate()
    {
        let device = server.device(&service, &format!("zoe-{index:05}"), json!({ "push": push })).await;
        server.simulate(json!({ "push": { "next": 1, "as": effect } })).await;
        let challenge = server.challenge(&device, &[]).await;
        let captured = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
        assert_eq!(captured["outcome"], effect);
        wait_until("the alert is raised", WAIT_TIMEOUT, async || {
            let alerts = server.world.backend().get("/v1/Alerts", &[]).await.json();
            let of_challenge =
                |alert: &&Value| alert["resource_sid"] == json!(challenge) && alert["error_code"] == code;
            alerts["alerts"].as_array()?.iter().find(of_challenge).map(|_| ())
        })
        .await;
    }
}

#[tokio::test]
async fn webhook_fails_as_simulated_and_arrives_afterwards() {
    let server = TestServer::with(&["--delivery-max-backoff", "1"]);
    let receiver = Receiver::start([Answer::ok()]);
    let service = server.world.service().await;
    webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    for (index, (effect, status)) in
        [("timeout", Value::Null), ("connection", Value::Null), ("500", json!(500)), ("429", json!(429))]
            .into_iter()
            .enumerate()
    {
        server.simulate(json!({ "webhook": { "next": 1, "as": effect } })).await;
        let factor = event(&server.world, &service, &format!("zoe-{index:05}")).await.factor_sid;
        let query = format!("/webhooks/latest?wait=5&factor_sid={factor}");
        let attempts = wait_until("the second attempt is captured", WAIT_TIMEOUT, async || {
            let attempts = server.get(&query).await["attempts"].as_array().unwrap().clone();
            (attempts.len() == 2).then_some(attempts)
        })
        .await;
        assert_eq!((&attempts[0]["ending"], &attempts[0]["status"]), (&json!("again"), &status), "{effect}");
        assert_eq!(attempts[1]["ending"], "delivered", "{effect}: {attempts:?}");
        assert_eq!(receiver.calls().len(), index + 1, "{effect}");
    }
}

#[tokio::test]
async fn captured_only_webhook_is_not_sent() {
    let server = TestServer::start();
    let receiver = Receiver::start([Answer::ok()]);
    let service = server.world.service().await;
    webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    server.simulate(json!({ "webhooks": "capture-only" })).await;
    event(&server.world, &service, "zoe-00001").await;
    let captured = server.get("/webhooks/latest?wait=5&type=factor.created").await;
    assert_eq!(captured["attempts"][0]["ending"], "kept", "{captured}");
    assert_eq!(receiver.calls().len(), 0);
    server.delete("/chaos").await;
    event(&server.world, &service, "zoe-00002").await;
    let since = text(&captured["id"]);
    let captured = server.get(&format!("/webhooks/latest?wait=5&type=factor.created&since={since}")).await;
    assert_eq!(captured["attempts"][0]["ending"], "delivered", "{captured}");
}

#[tokio::test]
async fn api_fails_exactly_where_and_as_often_as_requested() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    let api = json!({
        "match": { "method": "POST", "path": "/v2/*/Challenges" },
        "next": 1,
        "status": 503,
        "retry_after": 7,
        "latency": "PT0.3S",
    });
    server.simulate(json!({ "api": api })).await;
    assert_eq!(server.world.backend().get("/v2/Services", &[]).await.status, 200);
    let form = [("FactorSid", text(&device["factor_sid"])), ("Details.Message", "Sign in?")];
    let began = Instant::now();
    let failed = server.world.backend().post(&super::challenges(&device), &form).await;
    assert_error(&failed, 503, 20503);
    assert_eq!(
        (failed.header("retry-after"), began.elapsed() >= Duration::from_millis(300)),
        (Some("7"), true)
    );
    assert_eq!(server.world.backend().post(&super::challenges(&device), &form).await.status, 201);

    // The control endpoints and probes never fail, so a test can always end the failures.
    server.simulate(json!({ "api": { "share": 1.0, "status": 500 } })).await;
    assert_error(&server.world.backend().get("/v2/Services", &[]).await, 500, 20500);
    assert_eq!(server.http.get("/readyz", &[]).await.status, 200);
    server.delete("/chaos").await;
    assert_eq!(server.world.backend().get("/v2/Services", &[]).await.status, 200);
    for body in [
        json!({ "push": { "as": "gone" } }),
        json!({ "api": { "next": 1, "status": 200 } }),
        json!({ "x": 1 }),
    ] {
        assert_error(&server.send(Method::PUT, "/chaos", Some(body)).await, 400, 60306);
    }
}

#[tokio::test]
async fn rule_lets_a_device_spend_the_access_token_of_the_app_under_test() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let rule =
        json!({ "when": { "identity": "^auto-" }, "device": { "behaviour": "approve", "push": "none" } });
    let created = server.post("/rules", rule).await;
    assert_eq!(created.status, 201, "{created:?}");
    server.world.access_token(&service, "auto-0001").await;
    let device = wait_until("the device has enrolled", WAIT_TIMEOUT, async || {
        let devices = server.get("/devices").await;
        devices.as_array()?.iter().find(|device| device["status"] == "verified").cloned()
    })
    .await;
    assert_eq!((&device["identity"], &device["behaviour"]), (&json!("auto-0001"), &json!("approve")));
    // A device that the test creates itself needs its own token.
    server.device(&service, "auto-0002", json!({})).await;
    server.world.access_token(&service, "user-0003").await;
    assert_eq!(server.get("/").await["counts"]["devices"], 2);

    let path = format!("/rules/{}", text(&created.json()["id"]));
    server.delete(&path).await;
    assert_error(&server.send(Method::DELETE, &path, None).await, 404, 20404);
    server.world.access_token(&service, "auto-0004").await;
    assert_eq!(server.get("/").await["counts"]["devices"], 2);
    for body in [
        json!({ "when": { "identity": "(" }, "device": {} }),
        json!({ "when": { "identity": "a" }, "device": { "identity": "auto-0001" } }),
        json!({ "when": { "identity": "a" }, "device": { "behaviour": "sleep" } }),
        json!({ "when": {}, "device": {} }),
    ] {
        assert_error(&server.post("/rules", body).await, 400, 60306);
    }
}
