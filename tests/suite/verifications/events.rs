//! Events about verifications, which are sent to a URL of the account.

use aws_lc_rs::digest::{SHA256, digest};
use harness::{Answer, Call, Receiver, wait_until};
use serde_json::{Value, json};

use super::{Gateway, NUMBER, wrong};
use crate::deletion;
use crate::node::node_or_skip;
use crate::python::{python_or_skip, sdks};
use crate::webhooks::{
    FAST_RETRY_ARGUMENTS, LOOPBACK_ARGUMENTS, calls, check_signatures, script_input, settled, signed,
};
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

/// A gateway, whose service sends events to a receiver.
struct Events {
    gateway: Gateway,
    receiver: Receiver,
}

impl Events {
    /// The receiver answers with `answers`, and then accepts everything.
    async fn answering(world: World, answers: impl IntoIterator<Item = Answer>) -> Self {
        let receiver = Receiver::start(answers.into_iter().chain([Answer::ok()]));
        let url = receiver.at("/events?tenant=7#rt=9000");
        world.command(&["account", "set", world.server.account_sid(), "--verification-events-url", &url]);
        let gateway = Gateway::new(world).await;
        let events = Self { gateway, receiver };
        events.subscribe("true").await;
        events
    }

    async fn new(world: World) -> Self {
        Self::answering(world, []).await
    }

    /// Sets whether the service sends events.
    async fn subscribe(&self, is_enabled: &str) {
        let form = [("VerifyEventSubscriptionEnabled", is_enabled)];
        let path = format!("/v2/Services/{}", self.gateway.service);
        assert_eq!(self.gateway.world.backend().post(&path, &form).await.status, 200);
    }

    /// Waits until `count` events have arrived, checks the signature of the last one, and returns that event.
    async fn event(&self, count: usize) -> Value {
        let call = &calls(&self.receiver, count).await[count - 1];
        let body = String::from_utf8(call.bytes()).unwrap();
        let hash = hex::encode(digest(&SHA256, body.as_bytes()));
        assert_eq!(call.line, format!("POST /events?tenant=7&bodySHA256={hash} HTTP/1.1"));
        assert_eq!(call.header("Content-Type"), "application/json");
        assert_eq!(call.header("X-Twilio-Signature"), signed(&self.gateway.world, &call.url(), &[]));
        let events: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        events[0].clone()
    }

    /// Like [`event`](Self::event), but returns only the event's type, without the prefix that all types have.
    async fn event_type(&self, count: usize) -> String {
        let event = self.event(count).await;
        let name = event["type"].as_str().unwrap();
        name.strip_prefix("com.twilio.accountsecurity.verify.verification.").unwrap().to_owned()
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn approved_verification_is_sent_with_all_attempts_and_checks(world: World) {
        let events = Events::new(world).await;
        let gateway = &events.gateway;
        let more = [("CustomFriendlyName", "Night owl"), ("Tags", r#"{"campaign":"spring"}"#), ("Locale", "it")];
        let verification = created(&gateway.send(&more).await);
        let code = gateway.message(1).await["code"].as_str().unwrap().to_owned();
        let pending = events.event(1).await;

        let (account, service, sid) = (gateway.world.server.account_sid(), &gateway.service, &verification["sid"]);
        let sid = sid.as_str().unwrap();
        assert_eq!(pending["type"], "com.twilio.accountsecurity.verify.verification.pending");
        assert_eq!(
            pending["source"],
            format!("/v1/Accounts/{account}/Services/{service}/Verifications/{sid}")
        );
        assert_eq!((&pending["specversion"], &pending["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
        let data = &pending["data"];
        assert_eq!((&data["verification_sid"], &data["to"]), (&json!(sid), &json!(NUMBER)));
        assert_eq!((&data["verification_status"], &data["country"]), (&json!("PENDING"), &json!("AT")));
        assert_eq!((&data["code_length"], &data["custom_friendly_name"]), (&json!(6), &json!("Night owl")));
        assert_eq!(data["check_attempts"], json!({ "count": 0 }));
        let attempt = &data["send_code_attempts"]["attempts"][0];
        assert_eq!(attempt["attempt_sid"], verification["send_code_attempts"][0]["attempt_sid"]);
        assert_eq!((&attempt["channel"], &attempt["locale"]), (&json!("SMS"), &json!("it")));
        assert_eq!(attempt["tags"], json!({ "campaign": "spring" }));
        assert!(data.get("verified_at").is_none(), "{data}");

        assert_eq!(gateway.check(&[("To", NUMBER), ("Code", &wrong(&code))]).await.json()["valid"], false);
        assert_eq!(gateway.check(&[("To", NUMBER), ("Code", &code)]).await.json()["valid"], true);
        let approved = events.event(2).await;
        assert_ne!(approved["id"], pending["id"]);
        let data = &approved["data"];
        assert_eq!(data["verification_status"], "APPROVED");
        assert!(data["verified_at"].as_str().unwrap() > data["created_at"].as_str().unwrap(), "{data}");
        assert_eq!(data["custom_friendly_name"], "Night owl");
        let checks = data["check_attempts"]["attempts"].as_array().unwrap();
        let statuses: Vec<_> = checks.iter().map(|check| check["status"].as_str().unwrap()).collect();
        assert_eq!((&data["check_attempts"]["count"], statuses), (&json!(2), vec!["FAILURE", "SUCCESS"]));
        assert_eq!(checks[1]["time"], data["verified_at"]);
        settled(&gateway.world, &["--all"]).await;
        assert_eq!(events.receiver.calls().len(), 2);
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn every_end_of_a_verification_is_sent_once(world: World) {
        let events = Events::new(world).await;
        let (gateway, backend) = (&events.gateway, events.gateway.world.backend());
        let conclude = async |sid: &Value, status| {
            let path = format!("{}/{}", gateway.path(), sid.as_str().unwrap());
            backend.post(&path, &[("Status", status)]).await
        };
        let (first, _) = gateway.started().await;
        assert_eq!(events.event_type(1).await, "pending");
        created(&gateway.send(&[]).await);
        let again = events.event(2).await;
        assert_eq!(again["data"]["send_code_attempts"]["count"], 2);
        assert_eq!(conclude(&first["sid"], "canceled").await.status, 200);
        assert_eq!(events.event_type(3).await, "canceled");
        assert_error(&conclude(&first["sid"], "canceled").await, 404, 20404);

        let (second, _) = gateway.started().await;
        assert_eq!(events.event_type(4).await, "pending");
        assert_eq!(conclude(&second["sid"], "approved").await.status, 200);
        let approved = events.event(5).await;
        assert_eq!(approved["data"]["verification_status"], "APPROVED");
        assert_eq!(approved["data"]["check_attempts"], json!({ "count": 0 }));

        let (_, code) = gateway.started().await;
        assert_eq!(events.event_type(6).await, "pending");
        for _ in 0..5 {
            gateway.check(&[("To", NUMBER), ("Code", &wrong(&code))]).await;
        }
        let used_up = events.event(7).await;
        assert_eq!(used_up["type"], "com.twilio.accountsecurity.verify.verification.max-attempts-reached");
        assert_eq!(used_up["data"]["check_attempts"]["count"], 5);
        assert_error(&gateway.check(&[("To", NUMBER), ("Code", &code)]).await, 429, 60202);
        settled(&gateway.world, &["--all"]).await;
        assert_eq!(events.receiver.calls().len(), 7);
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn expired_verification_is_sent_when_it_is_found(world: World) {
        if deletion::sql(&world, "SELECT 1").is_none() {
            return;
        }
        let mut events = Events::new(world).await;
        let (first, _) = events.gateway.started().await;
        assert_eq!(events.event_type(1).await, "pending");
        let expire = "UPDATE verifications SET expires_at = created_at - 120000000 WHERE closed_at IS NULL";
        // The next message to the recipient finds it.
        deletion::sql(&events.gateway.world, expire);
        let (second, code) = events.gateway.started().await;
        assert_ne!(second["sid"], first["sid"]);
        let both = [events.event(2).await, events.event(3).await];
        let expired = both.iter().find(|event| event["data"]["verification_status"] == "EXPIRED").unwrap();
        assert_eq!(expired["data"]["verification_sid"], first["sid"]);
        assert_eq!(expired["data"]["send_code_attempts"]["count"], 1);

        // Housekeeping finds it, which runs when a server starts. Of a verification whose checks are used up, the event
        // was sent before.
        for _ in 0..5 {
            events.gateway.check(&[("To", NUMBER), ("Code", &wrong(&code))]).await;
        }
        assert_eq!(events.event_type(4).await, "max-attempts-reached");
        let third = created(&events.gateway.send_to("+4366412345679", "sms", &[("CustomFriendlyName", "Owl")]).await);
        assert_eq!(events.event_type(5).await, "pending");
        settled(&events.gateway.world, &["--all"]).await;
        events.gateway.world.server.terminate();
        deletion::sql(&events.gateway.world, expire);
        events.gateway.world.server.restart();
        let expired = events.event(6).await;
        assert_eq!(expired["data"]["verification_status"], "EXPIRED");
        assert_eq!(expired["data"]["verification_sid"], third["sid"]);
        assert_eq!(expired["data"]["custom_friendly_name"], "Owl");
        // What the messages were made of is forgotten with the verifications.
        let count = "SELECT count(*) FROM verification_attempts WHERE message IS NOT NULL";
        let forgotten = async || (deletion::sql(&events.gateway.world, count)? == "0").then_some(());
        wait_until("the messages are forgotten", WAIT_TIMEOUT, forgotten).await;
        settled(&events.gateway.world, &["--all"]).await;
        assert_eq!(events.receiver.calls().len(), 6);
    }
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn refused_event_raises_an_alert_without_the_recipient(world: World) {
        let unavailable = Answer::of("503 Service Unavailable", "", "");
        // Receivers often repeat what they refuse.
        let refusal = Answer::of("404 Not Found", "X-To: +4366412345678\r\n", "no handler for +4366412345678, spring");
        let events = Events::answering(world, [unavailable, refusal]).await;
        let tags = ("Tags", r#"{"campaign":"spring"}"#);
        let verification = created(&events.gateway.send(&[tags]).await);
        let both: Vec<Call> = calls(&events.receiver, 2).await;
        assert_eq!((&both[0].body, &both[0].line), (&both[1].body, &both[1].line));
        let backend = events.gateway.world.backend();
        let raised = async || {
            let alerts = backend.get("/v1/Alerts", &[]).await.json();
            alerts["alerts"].as_array().unwrap().first().cloned()
        };
        let alert = wait_until("an alert is raised", WAIT_TIMEOUT, raised).await;
        assert_eq!((&alert["resource_sid"], &alert["error_code"]), (&verification["sid"], &json!("11200")));
        assert_eq!(alert["service_sid"], json!(events.gateway.service));
        let alert = backend.get(&format!("/v1/Alerts/{}", alert["sid"].as_str().unwrap()), &[]).await;
        let log = events.gateway.world.server.log();
        for personal in ["664123", "spring"] {
            assert!(!alert.json().to_string().contains(personal) && !log.contains(personal), "{alert:?}{log}");
        }

        // An operator finds the event by the verification, and can send it again.
        let sid = verification["sid"].as_str().unwrap();
        let world = &events.gateway.world;
        let shown = settled(world, &[sid]).await;
        let event = shown.iter().find(|delivery| delivery.way.starts_with("event")).unwrap();
        assert_eq!((event.endings(), event.way.contains(sid)), (vec!["again", "failed"], true));
        world.command(&["webhooks", "redeliver", &event.id]);
        assert_eq!(calls(&events.receiver, 3).await[2].body, both[0].body);
    }
}

#[tokio::test]
async fn events_are_sent_only_if_the_account_has_a_url_and_the_service_sends_them() {
    let events = Events::new(World::sqlite_with(LOOPBACK_ARGUMENTS)).await;
    let (world, account) = (&events.gateway.world, events.gateway.world.server.account_sid());
    let set = |url: &str| world.command(&["account", "set", account, "--verification-events-url", url]);
    assert!(world.command(&["account", "show"]).contains("/events?tenant=7#rt=9000"));
    events.subscribe("false").await;
    events.gateway.started().await;
    events.subscribe("true").await;
    set("");
    events.gateway.started().await;
    settled(world, &["--all"]).await;
    assert_eq!(events.receiver.calls().len(), 0);

    set(&events.receiver.at("/events?tenant=7"));
    events.gateway.started().await;
    assert_eq!(events.event(1).await["data"]["send_code_attempts"]["count"], 3);
    let refusal = world.refusal(&["account", "set", account, "--verification-events-url", "ftp://h.example"]);
    assert!(refusal.contains("--verification-events-url must"), "{refusal}");
    // Receivers that compute the URL from the request see a slash that is not signed.
    let arguments = ["account", "set", account, "--verification-events-url", "https://backend.example.com"];
    let output = world.run(&arguments);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warning.contains("not sent exactly as it is written"), "{warning}");
    let refusal = world.refusal(&["account", "set", account]);
    assert!(refusal.contains("--debugger-webhook"), "{refusal}");
}

#[tokio::test]
async fn event_that_waits_is_skipped_if_it_is_no_longer_wanted() {
    let mut events = Events::new(World::sqlite_with(FAST_RETRY_ARGUMENTS)).await;
    events.receiver.down().await;
    events.gateway.started().await;
    events.subscribe("false").await;
    let skipped = async |events: &Events, reason: &str| {
        let world = &events.gateway.world;
        let all = settled(world, &["--all"]).await;
        let event = all.iter().find(|delivery| delivery.way.starts_with("event")).unwrap();
        let last = event.attempts.last().unwrap();
        assert_eq!((event.state.as_str(), last.detail.as_str()), ("skipped", reason));
    };
    skipped(&events, "the service was deleted or sends no events any more").await;

    events.subscribe("true").await;
    events.gateway.started().await;
    let (world, account) = (&events.gateway.world, events.gateway.world.server.account_sid());
    world.command(&["account", "set", account, "--verification-events-url", ""]);
    skipped(&events, "the account has no URL for verification events").await;
    events.receiver.up();
    assert_eq!(events.receiver.calls_left(), 0);
}

#[tokio::test]
async fn libraries_accept_the_signatures_of_events() {
    let name = "verifications::events::libraries_accept_the_signatures_of_events";
    let (Some(mut python), Some(mut node)) = (python_or_skip(name), node_or_skip(name)) else { return };
    let events = Events::new(World::sqlite_with(LOOPBACK_ARGUMENTS)).await;
    let (_, code) = events.gateway.started().await;
    events.gateway.check(&[("To", NUMBER), ("Code", &code)]).await;
    let calls = calls(&events.receiver, 2).await;
    let input: Vec<_> = calls.iter().map(|call| script_input(call, None)).collect();
    python.arg(sdks("python/signatures.py"));
    check_signatures(python, &events.gateway.world, &input);
    node.arg(sdks("node/signatures.js"));
    check_signatures(node, &events.gateway.world, &input);
}
