//! The clock, housekeeping on request, and the reset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use device::{Answer as Word, Style};
use harness::{Answer, Auth, Receiver, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};

use super::{TestServer, text};
use crate::python::python_or_skip;
use crate::webhooks::{event, webhook};
use crate::world::{WAIT_TIMEOUT, assert_error, signed_in};

impl TestServer {
    /// Moves the clock, and returns its description.
    async fn travel(&self, step: Value) -> Value {
        let reply = self.post("/clock", step).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}

#[tokio::test]
async fn clock_goes_forward_only_and_shows_in_the_date_header() {
    let server = TestServer::start();
    assert_eq!(server.travel(json!({ "advance": "P400D" })).await["offset_seconds"], 34_560_000.0);
    let moved = server.travel(json!({ "advance": 60 })).await;
    assert_eq!(moved["offset_seconds"], 34_560_060.0);
    let year = text(&moved["now"])[..4].to_owned();
    let reply = server.world.backend().get("/v2/Services", &[]).await;
    assert!(reply.header("date").unwrap().contains(&year), "{reply:?}");

    let refused = server.post("/clock", json!({ "to": "2026-01-01T00:00:00Z" })).await;
    assert_error(&refused, 409, 20409);
    assert!(text(&refused.json()["message"]).contains("only goes forward"), "{refused:?}");
    let there = server.travel(json!({ "to": "2099-01-01T00:00:00Z" })).await;
    assert!(text(&there["now"]).starts_with("2099-01-01T00:00:0"), "{there}");

    let frozen = server.travel(json!({ "freeze": true })).await;
    assert_eq!(server.get("/clock").await, frozen);
    let later = server.travel(json!({ "advance": 1 })).await;
    assert_ne!(later["now"], frozen["now"]);
    assert_eq!(server.travel(json!({ "resume": true })).await["frozen"], false);
    for body in
        [json!({}), json!({ "freeze": false }), json!({ "advance": 1, "freeze": true }), json!({ "back": 1 })]
    {
        assert_error(&server.post("/clock", body).await, 400, 60306);
    }
}

#[tokio::test]
async fn stream_reads_again_when_the_clock_advances() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00002", json!({})).await;
    let challenge = server.challenge(&device, &[]).await;
    let path = format!("{}/{}/Events", super::challenges(&device), challenge);
    let path = path.replacen("/v2", "/countersign/v1", 1);
    let mut events = server.world.backend().events(&path, WAIT_TIMEOUT).await;
    let mut next = async || events.next_event().await.unwrap().name.unwrap();
    assert_eq!(next().await, "challenge.pending");
    let began = Instant::now();
    server.travel(json!({ "advance": "PT6M" })).await;
    assert_eq!(next().await, "challenge.expired");
    // Without a notice, a stream reads every 15 seconds.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn challenge_expires_when_the_clock_advances() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({ "behaviour": "late" })).await;
    server.travel(json!({ "freeze": true })).await;
    let challenge = server.challenge(&device, &[]).await;
    server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    wait_until("the device has fetched the challenge", WAIT_TIMEOUT, async || {
        let steps = server.steps(&device).await;
        steps.iter().any(|step| step["words"] == "pending").then_some(())
    })
    .await;
    server.travel(json!({ "advance": "PT5M" })).await;
    assert_eq!(server.status(&device, &challenge).await, "expired");
    // The device still waits, because a second after the expiry has not come.
    server.travel(json!({ "advance": "PT2S" })).await;
    wait_until("the late answer is refused", WAIT_TIMEOUT, async || {
        let steps = server.steps(&device).await;
        steps.iter().any(|step| step["status"] == 403 && step["code"] == 60323).then_some(())
    })
    .await;
    let path = format!("/devices/{}/approve", text(&device["id"]));
    let refused = server.post(&path, json!({ "challenge_sid": challenge })).await;
    assert_error(&refused, 409, 60323);
}

#[tokio::test]
async fn webhook_is_retried_at_once_after_the_clock_advanced() {
    // The worker also looks every second; the request to look at once is faster, except on a busy machine.
    let mut waits = Vec::new();
    while waits.len() < 5 && waits.iter().filter(|wait| **wait < Duration::from_millis(700)).count() < 3 {
        waits.push(wait_for_the_retry_after_an_advance().await);
    }
    assert!(waits.iter().filter(|wait| **wait < Duration::from_millis(700)).count() >= 3, "{waits:?}");
}

/// Returns how long after an advance of the clock by two hours a webhook is retried that was busy for an hour.
async fn wait_for_the_retry_after_an_advance() -> Duration {
    let server = TestServer::start();
    let receiver = Receiver::start([Answer::of("503 Busy", "Retry-After: 3600\r\n", ""), Answer::ok()]);
    let service = server.world.service().await;
    webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    server.travel(json!({ "freeze": true })).await;
    event(&server.world, &service, "zoe-00001").await;
    let query = "/webhooks/latest?wait=30&type=factor.created";
    assert_eq!(server.get(query).await["attempts"][0]["ending"], "again");
    server.travel(json!({ "advance": "PT2H" })).await;
    let moved = Instant::now();
    let attempts = wait_until("the second attempt is captured", WAIT_TIMEOUT, async || {
        let attempts = server.get(query).await["attempts"].as_array().unwrap().clone();
        (attempts.len() == 2).then_some(attempts)
    })
    .await;
    assert_eq!(attempts[1]["ending"], "delivered", "{attempts:?}");
    moved.elapsed()
}

#[tokio::test]
async fn unverified_factor_is_removed_by_housekeeping_after_a_day() {
    let server = TestServer::start();
    let service = server.world.service().await;
    event(&server.world, &service, "zoe-00001").await;
    let round = async || {
        let reply = server.post("/housekeeping", json!({})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    assert_eq!(round().await["factors"], 0);
    server.travel(json!({ "advance": "PT25H" })).await;
    let removed = round().await;
    assert_eq!((&removed["factors"], &removed["challenges"]), (&json!(1), &json!(0)), "{removed}");
    assert_eq!(round().await["factors"], 0);
}

#[tokio::test]
async fn phones_of_the_app_under_test_keep_working_after_a_jump() {
    let server = TestServer::start();
    let service = server.world.service().await;
    // This phone has the machine's clock, and corrects it by the `Date` header as the SDKs do.
    for (style, identity) in [(Style::Android, "zoe-00001"), (Style::Ios, "zoe-00002")] {
        let (phone, enrollment) = server.world.enrolled(style, &service, identity).await;
        server.travel(json!({ "advance": "PT10M" })).await;
        let challenge = server.world.challenge(&enrollment, &[]).await;
        let answered = phone.answer(&enrollment, text(&challenge["sid"]), Word::Approved).await.unwrap();
        assert_eq!(answered.status, device::Status::Approved);
    }
    let Some(mut python) = python_or_skip("phones_of_the_app_under_test_keep_working_after_a_jump") else {
        return;
    };
    let script = "import sys, twilio.rest\n\
                  client = twilio.rest.Client(sys.argv[1], sys.argv[2])\n\
                  client.verify.base_url = sys.argv[3]\n\
                  print(client.verify.v2.services(sys.argv[4]).fetch().friendly_name)";
    let world = &server.world.server;
    python.args(["-c", script, world.account_sid(), world.auth_token(), world.url(), &service]);
    let output = python.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Owl Bank", "{output:?}");
}

#[tokio::test]
async fn reset_leaves_a_server_as_after_its_start() {
    let server = TestServer::start();
    let service = server.world.service().await;
    let phone = server.world.device(&service, "zoe-00001").await;
    let device = server.device(&service, "zoe-00002", json!({ "behaviour": "approve" })).await;
    let challenge = server.challenge(&device, &[]).await;
    server.get(&format!("/pushes/latest?wait=5&challenge_sid={challenge}")).await;
    let other = server.post("/accounts", json!({})).await.json();
    let other = server
        .http
        .clone()
        .auth(Auth::Basic(text(&other["account_sid"]).to_owned(), text(&other["auth_token"]).to_owned()));
    let credential = server.world.backend().get("/v1/Credentials", &[]).await;
    assert_eq!(credential.status, 200, "{credential:?}");
    server.travel(json!({ "advance": "P1D" })).await;

    let kept = server.post("/reset", json!({ "keep": ["accounts", "credentials"] })).await;
    assert_eq!(kept.status, 204, "{kept:?}");
    assert_eq!(other.get("/v2/Services", &[]).await.status, 200);
    assert_eq!(server.post("/reset", json!({})).await.status, 204);
    assert_eq!(other.get("/v2/Services", &[]).await.status, 401);
    assert_error(&server.post("/reset", json!({ "keep": ["everything"] })).await, 400, 60306);

    let described = server.get("/").await;
    assert_eq!(described["counts"], json!({ "devices": 0, "pushes": 0, "webhooks": 0 }));
    assert_eq!(
        (&described["clock"]["offset_seconds"], &described["clock"]["frozen"]),
        (&json!(0.0), &json!(false))
    );
    let backend = server.world.backend();
    for (path, key) in
        [("/v2/Services", "services"), ("/v1/Credentials", "credentials"), ("/v1/Alerts", "alerts")]
    {
        let listed = backend.get(path, &[]).await;
        assert_eq!((listed.status, &listed.json()[key]), (200, &json!([])), "{listed:?}");
    }
    let token = device::signing::sign_device_token(
        Style::Android,
        &phone.enrollment,
        domain::Clock::now(&app::SystemClock),
    );
    let path = format!("/v2/Services/{service}/Entities/zoe-00001/Challenges");
    assert_error(&server.http.clone().auth(signed_in(token)).get(&path, &[]).await, 401, 20003);
    assert_error(
        &server.send(Method::GET, &format!("/devices/{}", text(&device["id"])), None).await,
        404,
        20404,
    );

    // The server goes on as after its start.
    let service = server.world.service().await;
    let device = server.device(&service, "zoe-00001", json!({})).await;
    server.challenge(&device, &[]).await;
    let approved = server.post(&format!("/devices/{}/approve", text(&device["id"])), json!({})).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    let log = server.world.server.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn eight_accounts_with_fifty_tests_each_do_not_affect_each_other() {
    let server = Arc::new(TestServer::start());
    LocalSet::new()
        .run_until(async {
            let mut tests = JoinSet::new();
            for account in 0..8_usize {
                let server = Arc::clone(&server);
                tests.spawn_local(async move {
                    let account_of_test = server.post("/accounts", json!({})).await.json();
                    let (sid, token) =
                        (text(&account_of_test["account_sid"]), text(&account_of_test["auth_token"]));
                    let backend = server.http.clone().auth(Auth::Basic(sid.to_owned(), token.to_owned()));
                    let made = backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await.json();
                    let service = text(&made["sid"]);
                    for test in 0..50 {
                        let approves = (account + test) % 2 == 0;
                        let new = json!({
                            "account_sid": sid,
                            "service_sid": service,
                            // The same identities in all accounts.
                            "identity": format!("user-{test:05}"),
                            "behaviour": if approves { "approve" } else { "ignore" },
                        });
                        let device = server.post("/devices", new).await;
                        assert_eq!(device.status, 201, "{device:?}");
                        let device = device.json();
                        let form =
                            [("FactorSid", text(&device["factor_sid"])), ("Details.Message", "Sign in?")];
                        let challenge = backend.post(&super::challenges(&device), &form).await.json();
                        let challenge = text(&challenge["sid"]);
                        let query = format!("/pushes?wait=20&account_sid={sid}&challenge_sid={challenge}");
                        assert_eq!(server.get(&query).await.as_array().unwrap().len(), 1);
                        let path = format!("{}/{challenge}", super::challenges(&device));
                        let status =
                            async || text(&backend.get(&path, &[]).await.json()["status"]).to_owned();
                        if approves {
                            wait_until("the device approves", WAIT_TIMEOUT, async || {
                                (status().await == "approved").then_some(())
                            })
                            .await;
                        } else {
                            assert_eq!(status().await, "pending");
                            let path = format!("/devices/{}/deny", text(&device["id"]));
                            assert_eq!(
                                server.post(&path, json!({ "challenge_sid": challenge })).await.status,
                                200
                            );
                        }
                    }
                    assert_eq!(
                        server.get(&format!("/pushes?account_sid={sid}")).await.as_array().unwrap().len(),
                        50
                    );
                });
            }
            while let Some(ended) = tests.join_next().await {
                ended.unwrap();
            }
        })
        .await;
    assert_eq!(server.get("/").await["counts"]["devices"], 400);
}
