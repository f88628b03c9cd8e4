//! Virtual devices: on request, and by themselves.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::wait_until;
use reqwest::Method;
use serde_json::{Value, json};

use super::{TestServer, challenges, text};
use crate::world::{WAIT_TIMEOUT, assert_error};

/// Waits until a device has made this step, and returns it.
async fn step(server: &TestServer, device: &Value, expected: &[(&str, Value)]) -> Value {
    wait_until(&format!("the device has the step {expected:?}"), WAIT_TIMEOUT, async || {
        let steps = server.steps(device).await;
        let fits = |step: &&Value| expected.iter().all(|(name, value)| step[*name] == *value);
        steps.iter().find(fits).cloned()
    })
    .await
}

#[tokio::test]
async fn created_device_has_a_verified_factor_and_a_known_key() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let more = json!({ "friendly_name": "Zoë’s phone", "metadata": { "os": "Android" } });
    let device = server.device(&service, "zoe-00001", more).await;
    assert_eq!((&device["status"], &device["behaviour"]), (&json!("verified"), &json!("ignore")), "{device}");
    let path = format!("/v2/Services/{service}/Entities/zoe-00001/Factors/{}", text(&device["factor_sid"]));
    let factor = server.world.backend().get(&path, &[]).await.json();
    assert_eq!(
        (&factor["friendly_name"], &factor["metadata"]),
        (&json!("Zoë’s phone"), &json!({ "os": "Android" }))
    );
    assert_eq!(factor["config"]["credential_sid"], device["credential_sid"]);
    for (name, value) in [("kty", "EC"), ("crv", "P-256")] {
        assert_eq!(device["key"][name], value);
    }
    let public: Vec<u8> = ["x", "y"]
        .iter()
        .flat_map(|name| URL_SAFE_NO_PAD.decode(text(&device["key"][name])).unwrap())
        .collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text(&device["public_key"])).unwrap();
    assert!(der.ends_with(&public) && public.len() == 64);
    assert_eq!(URL_SAFE_NO_PAD.decode(text(&device["key"]["d"])).unwrap().len(), 32);
    assert_eq!(server.get("/devices").await, json!([device]));
    assert_eq!(server.get(&format!("/devices/{}", text(&device["id"]))).await, device);
}

#[tokio::test]
async fn approval_on_request_is_visible_to_the_backend_when_the_request_returns() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({ "style": "ios" })).await;
    let id = text(&device["id"]);
    for (word, status) in [("approve", "approved"), ("deny", "denied")] {
        let challenge = server.challenge(&device, &[]).await;
        assert_eq!(server.get(&format!("/devices/{id}")).await["pending"], json!([challenge]));
        let answered = server.post(&format!("/devices/{id}/{word}"), json!({})).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        let path = format!("{}/{challenge}", challenges(&device));
        let fetched = server.world.backend().get(&path, &[]).await.json();
        assert_eq!(fetched["status"], status);
        for name in ["sid", "status", "details", "date_created", "responded_reason"] {
            assert_eq!(answered.json()[name], fetched[name], "{name}");
        }
        let again =
            server.post(&format!("/devices/{id}/approve"), json!({ "challenge_sid": challenge })).await;
        assert_error(&again, 409, 60322);
    }
    assert_error(&server.post(&format!("/devices/{id}/approve"), json!({})).await, 404, 20404);
    let missing = server.post(&format!("/devices/YF03{}/approve", "0".repeat(30)), json!({})).await;
    assert_error(&missing, 404, 20404);
}

#[tokio::test]
async fn approval_waits_for_the_challenge_if_the_request_allows_it() {
    let server = TestServer::start();
    let service = server.world.service().await;
    for push in ["fcm", "none"] {
        let device = server.device(&service, "zoe-00001", json!({ "push": push })).await;
        let path = format!("/devices/{}/approve", text(&device["id"]));
        let approving = server.post(&path, json!({ "wait": 20 }));
        let creating = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.challenge(&device, &[]).await
        };
        let (approved, challenge) = tokio::join!(approving, creating);
        assert_eq!((approved.status, &approved.json()["sid"]), (200, &json!(challenge)), "{approved:?}");
    }
}

#[tokio::test]
async fn newest_pending_challenge_is_answered_first() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    let mut created = Vec::new();
    for _ in 0..3 {
        created.push(server.challenge(&device, &[]).await);
    }
    for expected in created.iter().rev() {
        let approved = server.post(&format!("/devices/{}/approve", text(&device["id"])), json!({})).await;
        assert_eq!(approved.json()["sid"], json!(expected), "{approved:?}");
    }
}

/// A reaction, the final status of the challenge, and the HTTP status and code of the last response.
type Expected = (&'static str, &'static str, u16, Option<u32>);

const REACTIONS: [Expected; 8] = [
    ("approve", "approved", 200, None),
    ("deny", "denied", 200, None),
    ("twice", "approved", 403, Some(60322)),
    ("wrong_signature", "pending", 403, Some(60324)),
    ("tampered", "pending", 403, Some(60324)),
    ("stale_token", "pending", 401, Some(20003)),
    ("wrong_clock", "approved", 200, None),
    ("lost_answer", "approved", 200, None),
];

#[tokio::test]
async fn each_reaction_has_its_documented_result() {
    let server = TestServer::start();
    let service = server.world.service().await;
    for (index, (reaction, status, http_status, code)) in REACTIONS.into_iter().enumerate() {
        let push = if index % 2 == 0 { "fcm" } else { "none" };
        let identity = format!("zoe-{index:05}");
        let device = server.device(&service, &identity, json!({ "behaviour": reaction, "push": push })).await;
        let challenge = server.challenge(&device, &[]).await;
        step(&server, &device, &[("what", json!("heard")), ("do", json!(reaction))]).await;
        let mut last = vec![("what", json!("got")), ("status", json!(http_status)), ("do", json!(reaction))];
        match code {
            Some(code) => last.push(("code", json!(code))),
            None => last.push(("words", json!(status))),
        }
        step(&server, &device, &last).await;
        assert_eq!(server.status(&device, &challenge).await, status, "{reaction}");
        let steps = server.steps(&device).await;
        let gave_up = steps.iter().any(|step| step["what"] == "gave up");
        assert_eq!(gave_up, code.is_some(), "{reaction}: {steps:?}");
        if reaction == "wrong_clock" {
            assert!(steps.iter().any(|step| step["status"] == 401), "{steps:?}");
        }
    }
}

#[tokio::test]
async fn device_without_the_app_is_reported_as_gone() {
    let server = TestServer::start();
    let service = server.world.service().await;
    for (push, code) in [("fcm", "52103"), ("apn", "52141")] {
        let more = json!({ "behaviour": "uninstall", "push": push });
        let device = server.device(&service, &format!("zoe-{code}"), more).await;
        let challenge = server.challenge(&device, &[]).await;
        let captured = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
        assert_eq!(captured["outcome"], "gone");
        wait_until("the alert is raised", WAIT_TIMEOUT, async || {
            let alerts = server.world.backend().get("/v1/Alerts", &[]).await.json();
            let found = alerts["alerts"].as_array()?.iter().any(|alert| alert["error_code"] == code);
            found.then_some(())
        })
        .await;
        // The device is unreachable now, so the next challenge causes no push.
        let challenge = server.challenge(&device, &[]).await;
        assert_eq!(server.get(&format!("/pushes?challenge_sid={challenge}&wait=0.3")).await, json!([]));
        assert!(server.steps(&device).await.iter().all(|step| step["what"] != "heard"));
    }
}

#[tokio::test]
async fn offline_device_does_not_hear_of_a_delivered_push() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({ "behaviour": "offline" })).await;
    let challenge = server.challenge(&device, &[]).await;
    let captured = server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    assert_eq!(captured["outcome"], "delivered");
    assert!(server.steps(&device).await.iter().all(|step| step["what"] != "heard"));
    assert_eq!(server.status(&device, &challenge).await, "pending");
}

#[tokio::test]
async fn rules_precede_the_script_and_the_script_the_default() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let behaviour = json!({
        "default": { "do": "approve" },
        "script": [{ "do": "deny" }, { "do": "approve", "after": "PT0.3S" }],
        "rules": [
            { "when": { "message": "Transfer", "field": { "Amount": "^[0-9]{5,}$" } }, "do": "wrong_signature" },
            { "when": { "hidden": { "risk": "high" } }, "do": "ignore" },
        ],
    });
    let device = server.device(&service, "zoe-00001", json!({ "behaviour": behaviour })).await;
    assert_eq!(device["behaviour"], behaviour);
    let field = r#"{"label":"Amount","value":"10000"}"#;
    let small = r#"{"label":"Amount","value":"9999"}"#;
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("Details.Message", "Transfer?"), ("Details.Fields", field)], "wrong_signature"),
        (&[], "deny"),
        (&[("HiddenDetails", r#"{"risk":"high"}"#)], "ignore"),
        (&[("Details.Message", "Transfer?"), ("Details.Fields", small)], "approve"),
        (&[], "approve"),
        (&[], "approve"),
    ];
    for (more, expected) in cases {
        let message = [("Details.Message", "Sign in to Owl Bank?")];
        let mut form = vec![("FactorSid", text(&device["factor_sid"]))];
        form.extend(if more.iter().any(|(name, _)| *name == "Details.Message") {
            &[][..]
        } else {
            &message[..]
        });
        form.extend_from_slice(more);
        let created = server.world.backend().post(&challenges(&device), &form).await;
        assert_eq!(created.status, 201, "{created:?}");
        let sid = created.json()["sid"].clone();
        step(&server, &device, &[("what", json!("heard")), ("challenge_sid", sid), ("do", json!(expected))])
            .await;
    }
    step(&server, &device, &[("what", json!("waited")), ("words", json!("0.3 s"))]).await;

    let path = format!("/devices/{}", text(&device["id"]));
    let changed = server.send(Method::PATCH, &path, Some(json!({ "behaviour": "deny" }))).await;
    assert_eq!((changed.status, &changed.json()["behaviour"]), (200, &json!("deny")), "{changed:?}");
    let challenge = server.challenge(&device, &[]).await;
    step(&server, &device, &[("challenge_sid", json!(challenge)), ("words", json!("denied"))]).await;
}

#[tokio::test]
async fn device_enrolls_with_the_access_token_of_the_app_under_test() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let token = server.world.access_token(&service, "zoe-00001").await;
    let device = server.device(&service, "zoe-00001", json!({ "access_token": token })).await;
    assert_eq!(device["status"], "verified");
    let more = json!({ "service_sid": service, "identity": "zoe-00001", "access_token": token });
    assert_error(&server.post("/devices", more).await, 401, 20003);
}

#[tokio::test]
async fn deleted_device_deletes_its_factor() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    let factor = format!("/v2/Services/{service}/Entities/zoe-00001/Factors/{}", text(&device["factor_sid"]));
    let path = format!("/devices/{}", text(&device["id"]));
    server.delete(&path).await;
    assert_eq!(server.world.backend().get(&factor, &[]).await.status, 404);
    assert_error(&server.send(Method::GET, &path, None).await, 404, 20404);

    // A factor that the backend deletes stays visible as a device.
    let device = server.device(&service, "zoe-00001", json!({})).await;
    let factor = format!("/v2/Services/{service}/Entities/zoe-00001/Factors/{}", text(&device["factor_sid"]));
    assert_eq!(server.world.backend().delete(&factor, &[]).await.status, 204);
    let path = format!("/devices/{}", text(&device["id"]));
    assert_eq!(server.get(&path).await["status"], "removed");
    assert_error(&server.post(&format!("{path}/approve"), json!({})).await, 409, 20003);
}

#[tokio::test]
async fn invalid_device_is_refused_with_a_reason() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let account = server.world.server.account_sid();
    let unknown_service = format!("VA{}", "0".repeat(32));
    for (change, status, code, word) in [
        (json!({ "identity": "short" }), 400, 60306, "identity"),
        (json!({ "behaviour": "sleep" }), 400, 60306, "approve"),
        (json!({ "behaviour": { "script": [{ "after": 3 }] } }), 400, 60306, "do"),
        (json!({ "behaviour": { "rules": [{ "when": {}, "do": "deny" }] } }), 400, 60306, "when"),
        (
            json!({ "behaviour": { "rules": [{ "when": { "message": "(" }, "do": "deny" }] } }),
            400,
            60306,
            "regular",
        ),
        (json!({ "behaviour": { "default": { "do": "deny", "after": "3 s" } } }), 400, 60306, "PT1M30S"),
        (json!({ "behavior": "deny" }), 400, 60306, "behaviour"),
        (json!({ "style": "windows" }), 400, 60306, "android"),
        (json!({ "service_sid": unknown_service }), 404, 20404, "not found"),
    ] {
        let mut new = json!({ "account_sid": account, "service_sid": service, "identity": "zoe-00001" });
        for (name, value) in change.as_object().unwrap() {
            new[name] = value.clone();
        }
        let reply = server.post("/devices", new).await;
        assert_error(&reply, status, code);
        assert!(text(&reply.json()["message"]).contains(word), "{word}: {reply:?}");
    }
}
