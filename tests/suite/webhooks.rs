//! Webhooks: the resource, the requests that receivers get, and the operator's commands for deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use app::SystemClock;
use device::{Answer as Word, Enrollment, NewFactor, Style, signing};
use domain::Clock as _;
use harness::{Answer, Call, Http, Receiver, wait_until};
use serde_json::{Value, json};

use crate::node::node_or_skip;
use crate::python::{python_or_skip, sdks};
pub(crate) use crate::world::WAIT_TIMEOUT;
use crate::world::{World, assert_error, created, entity, on_every_database, signed_in};

/// Arguments that allow webhooks to this machine, where the receivers run.
pub(crate) const LOOPBACK_ARGUMENTS: &[&str] = &["--webhook-allow-network", "127.0.0.0/8"];

/// The same arguments, with at most a second between two attempts.
pub(crate) const FAST_RETRY_ARGUMENTS: &[&str] =
    &["--webhook-allow-network", "127.0.0.0/8", "--delivery-max-backoff", "1"];

const EVENT_TYPES: [&str; 5] =
    ["factor.created", "factor.verified", "factor.deleted", "challenge.approved", "challenge.denied"];

const NAME: &str = "Zoë’s phone 📱 = 50% & more + ~";
const MESSAGE: &str = "5 € an „Zoë“ überweisen?\nJa & nein";
const FIELDS: &str = r#"{"label":"Empfänger","value":"Zoë; <b>"}"#;
const HIDDEN: &str = r#"{"naïve":"日本"}"#;
const METADATA: &str = r#"{"ort":"Köln + Umgebung"}"#;

/// Returns the path of a service's webhooks.
pub(crate) fn webhooks(service: &str) -> String {
    format!("/v2/Services/{service}/Webhooks")
}

/// Creates a webhook with this URL for all events, unless `more` has event types, and returns its SID.
pub(crate) async fn webhook(world: &World, service: &str, url: &str, more: &[(&str, &str)]) -> String {
    let mut form = vec![("FriendlyName", "Backend"), ("WebhookUrl", url)];
    form.extend_from_slice(more);
    if more.iter().all(|(name, _)| *name != "EventTypes") {
        form.push(("EventTypes", "*"));
    }
    let made = created(&world.backend().post(&webhooks(service), &form).await);
    made["sid"].as_str().unwrap().to_owned()
}

/// Creates a factor without verifying it, which is the cheapest event.
pub(crate) async fn event(world: &World, service: &str, identity: &str) -> Enrollment {
    let new = world.new_factor(service, identity).await;
    world.phone(Style::Android).create_factor(&new).await.unwrap()
}

/// Waits until a receiver has this many calls, and returns them.
pub(crate) async fn calls(receiver: &Receiver, count: usize) -> Vec<Call> {
    let enough = async || Some(receiver.calls()).filter(|calls| calls.len() >= count);
    wait_until(&format!("{count} calls have come"), WAIT_TIMEOUT, enough).await
}

/// A delivery as `countersign webhooks attempts` shows it.
#[derive(Clone, Debug)]
pub(crate) struct ShownDelivery {
    pub(crate) id: String,
    pub(crate) state: String,
    /// The delivery's kind, resource, and destination.
    pub(crate) way: String,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    #[expect(dead_code, reason = "to explain a failure")]
    began: String,
    number: usize,
    pub(crate) ending: String,
    pub(crate) code: Option<u32>,
    pub(crate) detail: String,
}

impl ShownDelivery {
    /// Returns the results of the attempts, and checks that none is running.
    #[track_caller]
    pub(crate) fn endings(&self) -> Vec<&str> {
        let numbers = self.attempts.iter().map(|attempt| attempt.number);
        assert!(numbers.eq(1..=self.attempts.len()), "{self:?}");
        self.attempts.iter().map(|attempt| attempt.ending.as_str()).collect()
    }
}

/// Returns the deliveries that `countersign webhooks attempts` shows, newest first.
pub(crate) fn attempts(world: &World, arguments: &[&str]) -> Vec<ShownDelivery> {
    let all = [&["webhooks", "attempts", "--limit", "10000"], arguments].concat();
    let mut deliveries: Vec<ShownDelivery> = Vec::new();
    for line in world.command(&all).lines() {
        let words: Vec<&str> = line.trim_start().split("  ").collect();
        match (line.starts_with(' '), words.as_slice()) {
            (false, [id, _, state, way]) => {
                let [id, state, way] = [id, state, way].map(|word| (*word).to_owned());
                deliveries.push(ShownDelivery { id, state, way, attempts: Vec::new() });
            }
            (true, [_, next]) if next.starts_with("next") => {}
            (true, [began, number, ending, rest @ ..]) => {
                let code = rest[0].strip_prefix("error ").map(|code| code.parse().unwrap());
                let detail = rest[usize::from(code.is_some())..].join("  ");
                let attempts = &mut deliveries.last_mut().unwrap().attempts;
                let number = number.strip_prefix("attempt ").unwrap().parse().unwrap();
                let (began, ending) = ((*began).to_owned(), (*ending).to_owned());
                attempts.push(Attempt { began, number, ending, code, detail });
            }
            _ => panic!("{line}"),
        }
    }
    deliveries
}

/// Waits until there are deliveries and none is pending, and returns them as [`attempts`] does.
pub(crate) async fn settled(world: &World, arguments: &[&str]) -> Vec<ShownDelivery> {
    let done = async || {
        let deliveries = attempts(world, arguments);
        let all = !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery.state != "pending");
        if !all {
            // Each check starts a process.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        all.then_some(deliveries)
    };
    wait_until("no delivery is pending", WAIT_TIMEOUT, done).await
}

/// Waits until the only delivery to a webhook is finished, and returns it.
pub(crate) async fn only(world: &World, webhook: &str) -> ShownDelivery {
    let deliveries = settled(world, &[webhook]).await;
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.into_iter().next().unwrap()
}

on_every_database! {
    async fn webhook_can_be_created_updated_and_deleted(world: World) {
        let service = world.service().await;
        let backend = world.backend();
        let form = [
            ("FriendlyName", "Zoë’s backend"),
            ("EventTypes", "factor.deleted"),
            ("EventTypes", "factor.verified"),
            ("EventTypes", "factor.deleted"),
            ("WebhookUrl", "https://owlbank.example:8443/hook?a=%7e&b=ü#ct=2000&rc=2"),
        ];
        let made = created(&backend.post(&webhooks(&service), &form).await);
        let sid = made["sid"].as_str().unwrap();
        assert!(sid.starts_with("YW") && sid.len() == 34, "{sid}");
        let path = format!("{}/{sid}", webhooks(&service));
        assert!(made["date_created"].as_str().unwrap().ends_with('Z'), "{made}");
        let expected = json!({
            "sid": sid,
            "account_sid": world.server.account_sid(),
            "service_sid": service,
            "friendly_name": "Zoë’s backend",
            // Each event type once, in the given order.
            "event_types": ["factor.deleted", "factor.verified"],
            "status": "enabled",
            "version": "v2",
            "webhook_url": "https://owlbank.example:8443/hook?a=%7e&b=ü#ct=2000&rc=2",
            "webhook_method": "POST",
            "date_created": made["date_created"],
            "date_updated": made["date_created"],
            "url": format!("{}{path}", world.server.url()),
        });
        assert_eq!(made, expected);
        let fetched = backend.get(&path, &[]).await;
        assert_eq!((fetched.status, fetched.json()), (200, expected.clone()));

        let mut expected = expected;
        for (form, key, value) in [
            (&[("FriendlyName", "New")][..], "friendly_name", json!("New")),
            (&[("EventTypes", "*")], "event_types", json!(["*"])),
            (&[("Status", "disabled")], "status", json!("disabled")),
            (&[("Version", "v1")], "version", json!("v1")),
            (&[("WebhookUrl", "http://h.example")], "webhook_url", json!("http://h.example")),
            // An empty update changes nothing.
            (&[], "status", json!("disabled")),
        ] {
            let changed = backend.post(&path, form).await;
            let body = changed.json();
            expected[key] = value;
            expected["date_updated"] = body["date_updated"].clone();
            assert!(body["date_updated"].as_str() >= body["date_created"].as_str(), "{body}");
            assert_eq!((changed.status, body), (200, expected.clone()), "{form:?}");
        }
        assert_eq!(backend.get(&path, &[]).await.json(), expected);

        let deleted = backend.delete(&path, &[]).await;
        assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
        for reply in [
            backend.get(&path, &[]).await,
            backend.post(&path, &[("FriendlyName", "New")]).await,
            backend.delete(&path, &[]).await,
        ] {
            assert_error(&reply, 404, 20404);
        }
    }
}

on_every_database! {
    async fn webhooks_can_be_paged(world: World) {
        let (service, other, backend) = (world.service().await, world.service().await, world.backend());
        let mut made = Vec::new();
        for number in 0..5 {
            made.push(webhook(&world, &service, &format!("https://h.example/{number}"), &[]).await);
        }
        webhook(&world, &other, "https://h.example/", &[]).await;

        let (mut listed, mut sizes) = (Vec::new(), Vec::new());
        let mut next = Some(format!("{}?PageSize=2", webhooks(&service)));
        while let Some(url) = next {
            let reply = backend.get(&url, &[]).await;
            let page = reply.json();
            assert_eq!((reply.status, &page["meta"]["key"]), (200, &json!("webhooks")), "{page}");
            let items = page["webhooks"].as_array().unwrap();
            sizes.push(items.len());
            for item in items {
                let path = format!("{}/{}", webhooks(&service), item["sid"].as_str().unwrap());
                assert_eq!(*item, backend.get(&path, &[]).await.json());
                listed.push(item["sid"].as_str().unwrap().to_owned());
            }
            next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
        }
        assert_eq!((listed, sizes), (made, vec![2, 2, 1]));

        let nowhere = webhooks(&format!("VA{}", "0".repeat(32)));
        assert_error(&backend.get(&nowhere, &[]).await, 404, 20404);
        let form = [("FriendlyName", "x"), ("EventTypes", "*"), ("WebhookUrl", "https://h.example")];
        assert_error(&backend.post(&nowhere, &form).await, 404, 20404);
    }
}

on_every_database! {
    async fn webhooks_per_service_are_limited(world: World) {
        let (service, backend) = (world.service().await, world.backend());
        let form = [("FriendlyName", "Backend"), ("EventTypes", "*"), ("WebhookUrl", "https://h.example")];
        let mut made = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let (backend, path) = (backend.clone(), webhooks(&service));
            made.spawn(async move { backend.post(&path, &form).await });
        }
        let replies = made.join_all().await;
        let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
        assert_eq!((made.len(), refused.len()), (50, 10));
        for reply in refused {
            assert_error(reply, 400, 60306);
        }
        // Deleting one makes room, and the limit of the other service is separate.
        let path = format!("{}/{}", webhooks(&service), made[0].json()["sid"].as_str().unwrap());
        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        webhook(&world, &service, "https://h.example/", &[]).await;
        assert_error(&backend.post(&webhooks(&service), &form).await, 400, 60306);
        webhook(&world, &world.service().await, "https://h.example/", &[]).await;
    }
}

#[tokio::test]
async fn invalid_webhook_parameters_are_refused_with_the_matching_code() {
    let world = World::ephemeral();
    let (service, backend) = (world.service().await, world.backend());
    let good = [("FriendlyName", "Backend"), ("EventTypes", "*"), ("WebhookUrl", "https://h.example/hook")];
    let path = webhooks(&service);

    for missing in good {
        let form: Vec<_> = good.into_iter().filter(|pair| *pair != missing).collect();
        let reply = backend.post(&path, &form).await;
        assert_error(&reply, 400, 20001);
        let message = format!("Missing required parameter {} in the post body", missing.0);
        assert_eq!(reply.json()["message"], message);
    }

    let (long, far) = ("x".repeat(65), format!("https://h.example/{}", "x".repeat(2048)));
    let bad = [
        ("FriendlyName", vec![long.as_str(), "two\nlines"]),
        (
            "EventTypes",
            vec!["challenge.expired", "factor.Created", "factor", "**", "factor.created,factor.deleted"],
        ),
        ("Status", vec!["on", "Enabled", "true"]),
        ("Version", vec!["v3", "2", "V1"]),
        (
            "WebhookUrl",
            vec![
                "h.example/hook",
                "/hook",
                "ftp://h.example/",
                "file:///etc/passwd",
                "javascript:alert(1)",
                "https:h.example",
                "https://",
                "https://user@h.example/",
                "https://user:password@h.example/",
                "http://127.0.0.1\\@h.example/",
                "https://h.example/a b",
                "https://h.example/a\nb",
                "https://h.example:99999/",
                "https://h.example/#rc=6",
                "https://h.example/#rt=99",
                "https://h.example/#tt=15001",
                "https://h.example/#ct=x",
                "https://h.example/#rp=sometimes",
                &far,
            ],
        ),
    ];
    let existing = webhook(&world, &service, "https://h.example/first", &[]).await;
    let existing = format!("{path}/{existing}");
    let before = backend.get(&existing, &[]).await.json();
    for (name, values) in &bad {
        for value in values {
            let mut form: Vec<_> = good.into_iter().filter(|(other, _)| other != name).collect();
            form.push((name, value));
            for reply in [
                backend.post(&path, &form).await,
                backend.post(&existing, &[("Status", "disabled"), (name, value)]).await,
            ] {
                // A repeated parameter is refused as such.
                assert_error(&reply, 400, 60306);
                let message = reply.json()["message"].as_str().unwrap().to_owned();
                assert!(message.starts_with(&format!("Invalid Request: {name} must")), "{message}");
            }
        }
    }
    let twice = [good.as_slice(), &[("WebhookUrl", "https://h.example/other")]].concat();
    assert_error(&backend.post(&path, &twice).await, 400, 60306);
    // No webhook was created, and none partially changed.
    let listed = backend.get(&path, &[]).await.json();
    assert_eq!(listed["webhooks"], json!([before]));
}

/// The resources for which events were caused.
struct EventResources {
    enrollment: Enrollment,
    approved: Value,
    denied: Value,
}

/// Causes all five events with values beyond ASCII: a phone enrolls, approves, denies, and is deleted.
async fn cause_every_event(world: &World, service: &str, identity: &str) -> EventResources {
    let (phone, backend) = (world.phone(Style::Android), world.backend());
    let new = NewFactor { friendly_name: NAME.to_owned(), ..world.new_factor(service, identity).await };
    let mut enrollment = phone.create_factor(&new).await.unwrap();
    phone.verify_factor(&mut enrollment).await.unwrap();

    let challenges = format!("{}/Challenges", entity(service, identity));
    let form = [
        ("FactorSid", enrollment.factor_sid.as_str()),
        ("Details.Message", MESSAGE),
        ("Details.Fields", FIELDS),
        ("HiddenDetails", HIDDEN),
    ];
    let approved = created(&backend.post(&challenges, &form).await);
    let path = format!("{challenges}/{}", approved["sid"].as_str().unwrap());
    let shown = phone.get_challenge(&enrollment, approved["sid"].as_str().unwrap()).await.unwrap();
    let payload = signing::sign_answer(Style::Android, &enrollment, &shown, Word::Approved).unwrap();
    let token = signing::sign_device_token(Style::Android, &enrollment, SystemClock.now());
    let device = world.backend().auth(signed_in(token));
    let answered = device.post(&path, &[("AuthPayload", &payload), ("Metadata", METADATA)]).await;
    assert_eq!((answered.status, &answered.json()["status"]), (200, &json!("approved")), "{answered:?}");
    let approved = backend.get(&path, &[]).await.json();

    let denied = world.challenge(&enrollment, &[]).await;
    phone.answer(&enrollment, denied["sid"].as_str().unwrap(), Word::Denied).await.unwrap();
    phone.delete_factor(&enrollment).await.unwrap();
    EventResources { enrollment, approved, denied }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn every_event_is_sent_in_both_webhook_versions(world: World) {
        let receiver = Receiver::start([Answer::ok()]);
        let service = world.service().await;
        for version in ["v1", "v2"] {
            webhook(&world, &service, &receiver.at(&format!("/{version}")), &[("Version", version)]).await;
        }
        let EventResources { enrollment, approved, denied } = cause_every_event(&world, &service, "zoe-0001").await;
        calls(&receiver, 10).await;

        // Each event was delivered at the first attempt, and there are no other deliveries.
        let deliveries = settled(&world, &[]).await;
        assert_eq!(deliveries.len(), 10, "{deliveries:?}");
        for delivery in &deliveries {
            assert_eq!((delivery.state.as_str(), delivery.endings()), ("delivered", vec!["delivered"]));
            assert!(delivery.way.starts_with("webhook "), "{delivery:?}");
            assert!(delivery.way.ends_with(&format!(" to 127.0.0.1:{}", receiver.port)), "{delivery:?}");
        }
        let calls = receiver.calls();
        let ids: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.id.as_str()).collect();
        let tokens = calls.iter().map(|call| call.header("I-Twilio-Idempotency-Token"));
        assert_eq!(ids, tokens.collect(), "each delivery has its own idempotency token");

        let mut received = BTreeMap::new();
        for call in &calls {
            assert_eq!(call.header("Content-Type"), "application/x-www-form-urlencoded");
            assert_eq!(call.header("User-Agent"), "TwilioProxy/1.1");
            let form = call.form();
            let map: BTreeMap<String, String> = form.iter().cloned().collect();
            assert_eq!(map.len(), form.len(), "a parameter name occurs twice: {form:?}");
            let signature = call.header("X-Twilio-Signature");
            assert_eq!(signature, signed(&world, &call.url(), &form));
            let version = call.line.strip_prefix("POST /").unwrap().strip_suffix(" HTTP/1.1").unwrap();
            assert!(received.insert((version.to_owned(), map["type"].clone()), map).is_none(), "{call:?}");
        }

        let mut uuids = BTreeSet::new();
        for event_type in EVENT_TYPES {
            let [v1, v2] = ["v1", "v2"].map(|version| &received[&(version.to_owned(), event_type.to_owned())]);
            let uuid = &v1["uuid"];
            assert_eq!((uuid.len(), uuid.as_bytes()[14], uuid.matches('-').count()), (36, b'4', 4), "{uuid}");
            assert!(uuids.insert(uuid.clone()), "two events have the same UUID");

            let mut expected: BTreeMap<String, String> = [
                ("uuid", uuid.as_str()),
                ("type", event_type),
                ("account_sid", world.server.account_sid()),
                ("service_sid", &service),
                ("entity_identity", "zoe-0001"),
                ("factor_sid", &enrollment.factor_sid),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
            let challenge = match event_type {
                "challenge.approved" => Some(&approved),
                "challenge.denied" => Some(&denied),
                _ => None,
            };
            if let Some(challenge) = challenge {
                expected.insert("challenge_sid".to_owned(), challenge["sid"].as_str().unwrap().to_owned());
            }
            assert_eq!(*v1, expected, "{event_type}");

            let mut v2 = v2.clone();
            if let Some(challenge) = challenge {
                for name in ["details", "hidden_details", "metadata"] {
                    let received = v2.remove(&format!("challenge_{name}"));
                    let received: Value = received.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
                    assert_eq!(received, challenge[name], "{event_type} {name}");
                }
            }
            expected.insert("factor_type".to_owned(), "push".to_owned());
            expected.insert("factor_friendly_name".to_owned(), NAME.to_owned());
            assert_eq!(v2, expected, "{event_type}");
        }
        // The approved challenge has every optional value; the denied one has none.
        assert_eq!(approved["details"]["message"], MESSAGE);
        assert!(approved["hidden_details"].is_object() && approved["metadata"].is_object(), "{approved}");
        assert!(denied["hidden_details"].is_null() && denied["metadata"].is_null(), "{denied}");
    }
}

/// Returns the expected webhook signature of `url` and `form` under the account's auth token.
pub(crate) fn signed(world: &World, url: &str, form: &[(String, String)]) -> String {
    let auth_token = domain::accounts::AuthToken::parse(world.server.auth_token()).unwrap();
    webhook_client::sign(&auth_token, url, form)
}

#[tokio::test]
async fn webhook_receives_only_its_event_types() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let receiver = Receiver::start([Answer::ok()]);
    let (service, other) = (world.service().await, world.service().await);
    for event_type in EVENT_TYPES {
        let url = receiver.at(&format!("/{event_type}"));
        webhook(&world, &service, &url, &[("EventTypes", event_type)]).await;
    }
    let two = [("EventTypes", "challenge.approved"), ("EventTypes", "challenge.denied")];
    webhook(&world, &service, &receiver.at("/two"), &two).await;
    webhook(&world, &service, &receiver.at("/disabled"), &[("Status", "disabled")]).await;
    webhook(&world, &other, &receiver.at("/other"), &[]).await;
    let deleted = webhook(&world, &service, &receiver.at("/deleted"), &[]).await;
    let path = format!("{}/{deleted}", webhooks(&service));
    assert_eq!(world.backend().delete(&path, &[]).await.status, 204);

    cause_every_event(&world, &service, "zoe-0001").await;
    // The list has all deliveries.
    assert_eq!(settled(&world, &[]).await.len(), 7);
    let heard: BTreeSet<_> = receiver
        .calls()
        .iter()
        .map(|call| (call.line.split(' ').nth(1).unwrap().to_owned(), call.value("type").unwrap()))
        .collect();
    let mut expected: BTreeSet<_> = EVENT_TYPES.map(|it| (format!("/{it}"), it.to_owned())).into();
    expected.extend(two.map(|(_, it)| ("/two".to_owned(), it.to_owned())));
    assert_eq!(heard, expected);
    assert_eq!(receiver.calls().len(), 7);
}

/// Repeated and refused changes cause no events.
#[tokio::test]
async fn repeated_and_refused_changes_send_no_second_webhook() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let receiver = Receiver::start([Answer::ok()]);
    let (service, backend) = (world.service().await, world.backend());
    webhook(&world, &service, &receiver.at("/"), &[]).await;

    let (phone, key) = (world.phone(Style::Android), device::SigningKey::generate());
    let new = world.new_factor(&service, "zoe-0001").await;
    let first = phone.create_factor_with(&new, key.clone()).await.unwrap();
    let mut enrollment = phone.create_factor_with(&new, key).await.unwrap();
    assert_eq!(first.factor_sid, enrollment.factor_sid);
    for _ in 0..2 {
        phone.verify_factor(&mut enrollment).await.unwrap();
    }
    let path = format!("{}/Factors/{}", entity(&service, "zoe-0001"), enrollment.factor_sid);
    let renamed = backend.post(&path, &[("FriendlyName", "Renamed")]).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");

    let challenge = world.challenge(&enrollment, &[]).await;
    let sid = challenge["sid"].as_str().unwrap();
    let shown = phone.get_challenge(&enrollment, sid).await.unwrap();
    phone.send_answer(&enrollment, &shown, Word::Approved).await.unwrap();
    assert!(phone.send_answer(&enrollment, &shown, Word::Denied).await.is_err());
    // A software phone signs deterministically, so this repeats the answer byte for byte.
    phone.send_answer(&enrollment, &shown, Word::Approved).await.unwrap();

    assert_eq!(backend.delete(&path, &[]).await.status, 204);
    assert_error(&backend.delete(&path, &[]).await, 404, 20404);

    assert_eq!(settled(&world, &[]).await.len(), 4);
    let received: BTreeSet<_> = receiver.calls().iter().map(|call| call.value("type").unwrap()).collect();
    let expected = ["factor.created", "factor.verified", "challenge.approved", "factor.deleted"];
    assert_eq!(received, expected.map(str::to_owned).into());
    let name = receiver.calls().iter().find_map(|call| {
        (call.value("type")? == "factor.deleted").then(|| call.value("factor_friendly_name"))?
    });
    assert_eq!(name.as_deref(), Some("Renamed"), "as it was in the end");
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn pending_deliveries_follow_changes_to_their_webhook(world: World) {
        let mut closed = Receiver::start([Answer::ok()]);
        closed.down().await;
        let open = Receiver::start([Answer::ok()]);
        let (service, backend) = (world.service().await, world.backend());
        let [moved, disabled, deleted] = [(); 3].map(|()| webhook(&world, &service, "http://127.0.0.1:1/", &[]));
        let [moved, disabled, deleted] = [moved.await, disabled.await, deleted.await];
        for sid in [&moved, &disabled, &deleted] {
            let path = format!("{}/{sid}", webhooks(&service));
            assert_eq!(backend.post(&path, &[("WebhookUrl", &closed.at("/"))]).await.status, 200);
        }
        event(&world, &service, "zoe-0001").await;
        let failing = async || {
            let deliveries = attempts(&world, &[]);
            deliveries.iter().all(|delivery| !delivery.attempts.is_empty()).then_some(deliveries)
        };
        let failing = wait_until("each delivery was attempted", WAIT_TIMEOUT, failing).await;
        assert!(failing.len() == 3 && failing.iter().all(|delivery| delivery.state == "pending"), "{failing:?}");

        let path = |sid: &str| format!("{}/{sid}", webhooks(&service));
        let elsewhere = backend.post(&path(&moved), &[("WebhookUrl", &open.at("/new"))]).await;
        assert_eq!(elsewhere.status, 200);
        assert_eq!(backend.post(&path(&disabled), &[("Status", "disabled")]).await.status, 200);
        assert_eq!(backend.delete(&path(&deleted), &[]).await.status, 204);

        assert_eq!(only(&world, &moved).await.state, "delivered");
        assert_eq!(only(&world, &disabled).await.state, "skipped");
        assert_eq!(only(&world, &deleted).await.state, "skipped");
        closed.up();
        assert_eq!(calls(&open, 1).await[0].line, "POST /new HTTP/1.1");

        // From now on it receives events again, but not the ones that it missed.
        let back = [("Status", "enabled"), ("WebhookUrl", &open.at("/back"))];
        assert_eq!(backend.post(&path(&disabled), &back).await.status, 200);
        event(&world, &service, "zoe-0002").await;
        settled(&world, &[]).await;
        let heard = open.calls().into_iter().filter(|call| call.line.contains("/back"));
        let heard: Vec<_> = heard.map(|call| call.value("entity_identity").unwrap()).collect();
        assert_eq!(heard, ["zoe-0002"]);
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn change_is_visible_through_the_api_before_its_webhook_arrives(world: World) {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::new()));
        let (backend, notes) = (world.backend(), seen.clone());
        // The receiver fetches the resource before it responds, as backends do.
        let receiver = Receiver::reacting(move |call| {
            let (backend, notes): (Http, _) = (backend.clone(), notes.clone());
            async move {
                let value = |name: &str| call.value(name).unwrap();
                let entity = entity(&value("service_sid"), &value("entity_identity"));
                let (path, of) = match call.value("challenge_sid") {
                    Some(sid) => (format!("{entity}/Challenges/{sid}"), sid),
                    None => (format!("{entity}/Factors/{}", value("factor_sid")), value("factor_sid")),
                };
                let reply = backend.get(&path, &[]).await;
                let found = match reply.status {
                    200 => reply.json()["status"].as_str().unwrap().to_owned(),
                    status => status.to_string(),
                };
                notes.lock().unwrap().insert((value("type"), of), found);
                Answer::ok()
            }
        });
        let service = world.service().await;
        webhook(&world, &service, &receiver.at("/"), &[]).await;
        let phone = world.phone(Style::Android);
        let mut expected = BTreeMap::new();
        let mut expect = |event_type: &str, sid: &str, status: &str| {
            expected.insert((event_type.to_owned(), sid.to_owned()), status.to_owned());
        };

        let mut enrollment = event(&world, &service, "zoe-0001").await;
        // Wait, because otherwise the factor might be verified before the receiver fetches it.
        wait_until("the receiver fetched the resource", WAIT_TIMEOUT, async || (seen.lock().unwrap().len() == 1).then_some(())).await;
        expect("factor.created", &enrollment.factor_sid, "unverified");
        phone.verify_factor(&mut enrollment).await.unwrap();
        wait_until("the receiver fetched the resource", WAIT_TIMEOUT, async || (seen.lock().unwrap().len() == 2).then_some(())).await;
        expect("factor.verified", &enrollment.factor_sid, "verified");
        for (answer, count) in [(Word::Approved, 10), (Word::Denied, 10)] {
            for _ in 0..count {
                let challenge = world.challenge(&enrollment, &[]).await;
                let sid = challenge["sid"].as_str().unwrap();
                phone.answer(&enrollment, sid, answer).await.unwrap();
                expect(&format!("challenge.{}", answer.as_str()), sid, answer.as_str());
            }
        }
        phone.delete_factor(&enrollment).await.unwrap();
        expect("factor.deleted", &enrollment.factor_sid, "404");
        let all = async || Some(seen.lock().unwrap().clone()).filter(|seen| seen.len() == expected.len());
        assert_eq!(wait_until("the receiver fetched every resource", WAIT_TIMEOUT, all).await, expected);
    }
}

#[tokio::test]
async fn webhooks_to_internal_addresses_are_sent_only_if_allowed() {
    let world = World::sqlite();
    let receiver = Receiver::start([Answer::ok()]);
    let service = world.service().await;
    let port = receiver.port;
    let mut sids = Vec::new();
    for host in
        ["127.0.0.1", "127.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
    {
        sids.push(webhook(&world, &service, &format!("http://{host}:{port}/hook"), &[]).await);
    }
    event(&world, &service, "zoe-0001").await;

    let deliveries = settled(&world, &[]).await;
    assert_eq!(deliveries.len(), sids.len());
    for delivery in deliveries {
        assert_eq!((delivery.state.as_str(), delivery.endings()), ("failed", vec!["failed"]), "{delivery:?}");
        let attempt = &delivery.attempts[0];
        assert_eq!(attempt.code, Some(11210), "{delivery:?}");
        assert!(attempt.detail.contains("--webhook-allow-network permits its network: "), "{delivery:?}");
    }
    assert_eq!(receiver.calls().len(), 0);

    let alerts = world.backend().get("/v1/Alerts", &[]).await.json();
    let alerts = alerts["alerts"].as_array().unwrap();
    assert!(alerts.iter().all(|alert| alert["error_code"] == "11210"), "{alerts:?}");
    let about: BTreeSet<_> = alerts.iter().map(|alert| alert["resource_sid"].as_str().unwrap()).collect();
    assert_eq!(about, sids.iter().map(String::as_str).collect());

    // An address allows only itself, and a network only its own addresses.
    let narrow = World::sqlite_with(&["--webhook-allow-network", "127.0.0.2/32,::1/128"]);
    let service = narrow.service().await;
    let refused = webhook(&narrow, &service, &receiver.at("/hook"), &[]).await;
    event(&narrow, &service, "zoe-0001").await;
    assert_eq!(only(&narrow, &refused).await.attempts[0].code, Some(11210));
    assert_eq!(receiver.calls().len(), 0);
}

#[tokio::test]
async fn webhook_redirects_are_not_followed() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let elsewhere = Receiver::start([Answer::ok()]);
    let location = format!("Location: {}\r\n", elsewhere.at("/there"));
    let service = world.service().await;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
    {
        let receiver = Receiver::start([Answer::of(status, &location, "")]);
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        event(&world, &service, &format!("zoe-{}", &status[..3].repeat(2))).await;
        let delivery = only(&world, &sid).await;
        assert_eq!((delivery.state.as_str(), delivery.endings()), ("failed", vec!["failed"]), "{delivery:?}");
        assert_eq!((delivery.attempts[0].code, receiver.calls().len()), (Some(11215), 1), "{status}");
        let path = format!("{}/{sid}", webhooks(&service));
        assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
    }
    let alerts = world.backend().get("/v1/Alerts", &[]).await.json();
    let codes: Vec<_> =
        alerts["alerts"].as_array().unwrap().iter().map(|alert| &alert["error_code"]).collect();
    assert_eq!(codes, ["11215"; 5]);
    assert_eq!(elsewhere.calls().len(), 0);
}

/// Returns requests of every kind: every event, both versions, and URLs with every optional part.
async fn requests(world: &World) -> Vec<Call> {
    let receiver = Receiver::start([Answer::ok()]);
    let service = world.service().await;
    let debugger = receiver.at("/debugger?who=%C3%BC");
    world.command(&["account", "set", world.server.account_sid(), "--debugger-webhook", &debugger]);
    let paths = [
        "/",
        "/hook",
        "/hook?tenant=7&x=%7e&y=a+b&z=%C3%BC&&=",
        "/a%20b/c;d=e?f#rt=3000",
        "/x?a='b'",
        "/o'hare/{id}|[7]/a/../b?f={a|b}",
    ];
    for path in paths {
        for version in ["v1", "v2"] {
            webhook(world, &service, &receiver.at(path), &[("Version", version)]).await;
        }
    }
    let named = format!("http://localhost:{}/named?a=b", receiver.port);
    webhook(world, &service, &named, &[]).await;
    // This failing webhook causes a debugger webhook.
    let gone = Receiver::start([Answer::of("404 Not Found", "", "")]);
    let only = [("EventTypes", "factor.created")];
    webhook(world, &service, &gone.at("/ü?ü=ü"), &only).await;

    cause_every_event(world, &service, "zoe-0001").await;
    let expected = (paths.len() * 2 + 1) * EVENT_TYPES.len() + 1;
    let calls = calls(&receiver, expected).await;
    assert_eq!(calls.len(), expected);
    assert!(calls.iter().any(|call| call.line.contains("/debugger")));
    calls
}

/// Returns a call as the scripts expect it. `url` is the configured URL, or `null` where the script
/// reconstructs it from the request.
pub(crate) fn script_input(call: &Call, url: Option<&str>) -> Value {
    let is_json = call.header("Content-Type") == "application/json";
    let form = if is_json { Vec::new() } else { call.form() };
    json!({
        "host": call.header("Host"),
        "target": call.line.split(' ').nth(1).unwrap(),
        "url": url,
        "form": form.into_iter().collect::<BTreeMap<_, _>>(),
        "body": is_json.then(|| String::from_utf8(call.bytes()).unwrap()),
        "signature": call.header("X-Twilio-Signature"),
    })
}

/// Has a script check the signatures of requests of every kind.
async fn check_signatures_of_all_kinds(script: Command) {
    let world = World::sqlite_with(&["--webhook-allow-network", "127.0.0.0/8,::1/128"]);
    let calls = requests(&world).await;
    check_signatures(script, &world, &calls.iter().map(|call| script_input(call, None)).collect::<Vec<_>>());
}

/// Has a script check the signatures of these calls.
pub(crate) fn check_signatures(mut script: Command, world: &World, calls: &[Value]) {
    script.env("AUTH_TOKEN", world.server.auth_token());
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(calls).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert_eq!(stdout, format!("{} signatures hold\n", calls.len()), "{stderr}");
}

#[tokio::test]
async fn python_library_accepts_webhook_signatures() {
    let Some(mut python) = python_or_skip("webhooks::python_library_accepts_webhook_signatures") else {
        return;
    };
    python.arg(sdks("python/signatures.py"));
    check_signatures_of_all_kinds(python).await;
}

#[tokio::test]
async fn node_library_accepts_webhook_signatures() {
    let Some(mut node) = node_or_skip("webhooks::node_library_accepts_webhook_signatures") else { return };
    node.arg(sdks("node/signatures.js"));
    check_signatures_of_all_kinds(node).await;
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn operator_can_list_and_repeat_deliveries(world: World) {
        assert_eq!(world.command(&["webhooks", "list"]), "");
        assert_eq!(world.command(&["webhooks", "attempts"]), "");
        let receiver = Receiver::start([Answer::ok()]);
        let mut closed = Receiver::start([Answer::ok()]);
        closed.down().await;
        let service = world.service().await;
        let url = receiver.at("/hook?a=b#rt=9000");
        let types = [("EventTypes", "factor.created"), ("EventTypes", "challenge.approved")];
        let first = webhook(&world, &service, &url, &types).await;
        let second = webhook(&world, &service, &closed.at("/"), &[("Status", "disabled")]).await;
        let expected = format!(
            "{first}  enabled   {url}  factor.created,challenge.approved\n{second}  disabled  {}  *\n",
            closed.at("/"),
        );
        assert_eq!(world.command(&["webhooks", "list"]), expected);

        event(&world, &service, "zoe-0001").await;
        let delivery = only(&world, &first).await;
        assert_eq!((delivery.state.as_str(), delivery.endings()), ("delivered", vec!["delivered"]));
        assert!(delivery.attempts[0].detail.contains("status 200"), "{delivery:?}");
        let shown = world.command(&["webhooks", "attempts"]);
        assert!(!shown.contains("zoe-0001") && shown.contains(&delivery.id), "{shown}");

        // A test event names only the account and the service.
        let tested = world.command(&["webhooks", "test", &first]);
        assert!(tested.contains("  delivered  ") && tested.contains("attempt 1  delivered"), "{tested}");
        let calls = receiver.calls();
        assert_eq!(calls.len(), 2);
        let form: BTreeMap<_, _> = calls[1].form().into_iter().collect();
        assert_eq!(form.keys().collect::<Vec<_>>(), ["account_sid", "service_sid", "type", "uuid"]);
        assert_eq!((form["type"].as_str(), &form["service_sid"]), ("webhook.test", &service));
        assert_eq!(calls[1].header("X-Twilio-Signature"), signed(&world, &calls[1].url(), &calls[1].form()));
        // A failing test event has one attempt, whether the webhook is enabled or not.
        let refusal = world.refusal(&["webhooks", "test", &second]);
        assert!(refusal.contains("did not accept the test event"), "{refusal}");
        let failed = only(&world, &second).await;
        assert_eq!((failed.state.as_str(), failed.endings()), ("failed", vec!["failed"]));

        // A finished delivery can be sent again with the same contents.
        assert_eq!(
            world.command(&["webhooks", "redeliver", &delivery.id]),
            format!("enqueued again: {}\n", delivery.id)
        );
        let again = &self::calls(&receiver, 3).await[2];
        assert_eq!(again.header("I-Twilio-Idempotency-Token"), delivery.id);
        assert_eq!(again.form(), calls[0].form());
        let twice = async || {
            let shown = attempts(&world, &[&first]).into_iter().find(|shown| shown.id == delivery.id).unwrap();
            (shown.endings() == ["delivered"; 2] && shown.state == "delivered").then_some(())
        };
        wait_until("both attempts are shown", WAIT_TIMEOUT, twice).await;

        // A pending delivery cannot be sent again.
        let path = format!("{}/{second}", webhooks(&service));
        assert_eq!(world.backend().post(&path, &[("Status", "enabled")]).await.status, 200);
        event(&world, &service, "zoe-0002").await;
        let owed = || attempts(&world, &[&second, "--state", "pending"]);
        let owed = wait_until("one delivery is pending", WAIT_TIMEOUT, async || owed().into_iter().next()).await;
        let refusal = world.refusal(&["webhooks", "redeliver", &owed.id]);
        let words = format!("there is no finished delivery {} ", owed.id);
        assert!(refusal.contains(&words) && refusal.contains("it may still be pending"), "{refusal}");
        closed.up();
        settled(&world, &[]).await;

        let states = |state: &str| attempts(&world, &["--state", state]).len();
        assert_eq!(["pending", "delivered", "skipped", "failed"].map(states), [0, 4, 0, 1]);
        assert_eq!(attempts(&world, &[&second]).len(), 2);
        // Only the newest deliveries are shown; delivery ids sort by time.
        let all: Vec<_> = attempts(&world, &[]).into_iter().map(|delivery| delivery.id).collect();
        assert!(all.is_sorted_by(|one, next| one > next), "{all:?}");
        let newest = world.command(&["webhooks", "attempts", "--limit", "1"]);
        assert!(newest.starts_with(&all[0]) && !newest.contains(&all[1]), "{newest}");

        let unknown_sid = format!("YW{}", "0".repeat(32));
        assert!(world.refusal(&["webhooks", "test", &unknown_sid]).contains(&format!("there is no {unknown_sid}")));
        let unknown = "019b76da-a800-7fff-bfff-ffffffffffff";
        assert!(world.refusal(&["webhooks", "redeliver", unknown]).contains(unknown));
        assert!(world.refusal(&["webhooks", "redeliver", "x"]).contains("expected the id of a delivery"));
    }
}
