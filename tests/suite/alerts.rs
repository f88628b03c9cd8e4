//! Alerts about failed deliveries: in lists, as resources, and at the account's debugger webhook.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Clock as _, Parameter as _, Timestamp};
use harness::{Answer, Auth, Http, Receiver, wait_until};
use serde_json::{Value, json};

use crate::webhooks::{
    FAST_RETRY_ARGUMENTS, LOOPBACK_ARGUMENTS, WAIT_TIMEOUT, calls, event, only, settled, signed, webhook,
};
use crate::world::{World, assert_error, on_every_database};

/// Returns the alerts in the list response for `query`.
async fn list(backend: &Http, query: &[(&str, &str)]) -> Vec<Value> {
    let reply = backend.get("/v1/Alerts", query).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["alerts"].as_array().unwrap().clone()
}

/// Sends an event to `count` webhooks that all fail, and waits until their deliveries are finished.
async fn fail(world: &World, count: usize) -> Vec<String> {
    let service = world.service().await;
    let gone = Receiver::start([Answer::of("404 Not Found", "", "gone")]);
    let mut sids = Vec::new();
    for _ in 0..count {
        sids.push(webhook(world, &service, &gone.at("/"), &[]).await);
    }
    event(world, &service, "zoe-0001").await;
    settled(world, &[]).await;
    sids
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn failed_delivery_creates_an_alert_with_its_details(world: World) {
        let headers = "X-Why: ünknown & gone\r\nSet-Cookie: session=secret\r\n";
        let receiver = Receiver::start([Answer::of("404 Not Found", headers, "no such hook: ü")]);
        let (service, backend) = (world.service().await, world.backend());
        assert_eq!(list(&backend, &[]).await, [] as [Value; 0]);
        let sid = webhook(&world, &service, &receiver.at("/hook?a=b#rt=9000"), &[]).await;
        event(&world, &service, "zoe-0001").await;
        only(&world, &sid).await;

        let alerts = list(&backend, &[]).await;
        assert_eq!(alerts.len(), 1);
        let alert = &alerts[0];
        let name = alert["sid"].as_str().unwrap();
        assert!(name.starts_with("NO") && name.len() == 34, "{alert}");
        let date = alert["date_created"].as_str().unwrap();
        assert!(date.len() == 20 && date.ends_with('Z'), "{alert}");
        assert!(!alert["alert_text"].as_str().unwrap().is_empty(), "{alert}");
        let expected = json!({
            "sid": name,
            "account_sid": world.server.account_sid(),
            "service_sid": service,
            "resource_sid": sid,
            "error_code": "11200",
            "log_level": "error",
            "alert_text": alert["alert_text"],
            "more_info": "https://www.twilio.com/docs/errors/11200",
            "api_version": "2010-04-01",
            "request_method": "POST",
            "request_url": receiver.at("/hook?a=b"),
            "date_created": date,
            "date_generated": date,
            "date_updated": date,
            "url": format!("{}/v1/Alerts/{name}", world.server.url()),
        });
        assert_eq!(*alert, expected);

        // The single alert has more keys than the list shows.
        let reply = backend.get(&format!("/v1/Alerts/{name}"), &[]).await;
        let alone = reply.json();
        assert_eq!(reply.status, 200, "{reply:?}");
        let rest: BTreeMap<_, _> = alone.as_object().unwrap().iter().filter(|(key, _)| expected.get(key).is_none()).collect();
        let keys = ["request_headers", "request_variables", "response_body", "response_headers"];
        assert!(rest.keys().eq(&keys), "{rest:?}");
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(alone[key], *value, "{key}");
        }
        assert_eq!(alone["response_body"], "no such hook: ü");
        let pairs = |key: &str| -> BTreeMap<String, String> {
            let query = format!("form:?{}", alone[key].as_str().unwrap());
            reqwest::Url::parse(&query).unwrap().query_pairs().into_owned().collect()
        };
        let (variables, headers) = (pairs("request_variables"), pairs("response_headers"));
        assert_eq!(headers["x-why"], "ünknown & gone");
        // The variables identify the event, but contain neither user-provided text nor the receiver's
        // secrets.
        assert_eq!((variables["type"].as_str(), variables.get("factor_friendly_name")), ("factor.created", None));
        assert!(!alone.to_string().contains("secret"), "{alone}");

        // Another account does not see the alert.
        let other_account = other_account(&world);
        assert_eq!(list(&other_account, &[]).await, [] as [Value; 0]);
        assert_error(&other_account.get(&format!("/v1/Alerts/{name}"), &[]).await, 404, 20404);
        let nothing = format!("/v1/Alerts/NO{}", "0".repeat(32));
        assert_error(&backend.get(&nothing, &[]).await, 404, 20404);
    }
}

/// Creates another account on the same server, and returns a client with its credentials.
fn other_account(world: &World) -> Http {
    let made = world.command(&["account", "create", "--name", "Stranger"]);
    let value = |label: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(label)).unwrap();
        line.trim().to_owned()
    };
    Http::new(world.server.url()).auth(Auth::Basic(value("account sid"), value("auth token")))
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn alerts_can_be_filtered_by_level_and_time(world: World) {
        let backend = world.backend();
        let sids: BTreeSet<_> = fail(&world, 3).await.into_iter().collect();
        let all = list(&backend, &[]).await;
        let about: BTreeSet<_> =
            all.iter().map(|alert| alert["resource_sid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(about, sids);

        // The alerts were created at about the same time.
        let dates: Vec<_> = all.iter().map(|alert| alert["date_created"].as_str().unwrap()).collect();
        let (last, first) = (dates[0], dates[2]);
        let moved = |date: &str, seconds| Timestamp::from_parameter(date).unwrap().plus_seconds(seconds).to_string();
        let day = |date: &str| date[..10].to_owned();
        for (query, count) in [
            (&[("LogLevel", "error")][..], 3),
            (&[("LogLevel", "warning")], 0),
            (&[("LogLevel", "notice")], 0),
            (&[("LogLevel", "debug")], 0),
            // Both bounds are inclusive.
            (&[("StartDate", first)], 3),
            (&[("EndDate", last)], 3),
            (&[("StartDate", first), ("EndDate", last)], 3),
            (&[("StartDate", &moved(last, 1))], 0),
            (&[("EndDate", &moved(first, -1))], 0),
            // A date without a time covers the whole day.
            (&[("StartDate", &day(first))], 3),
            (&[("EndDate", &day(last))], 3),
            (&[("StartDate", &day(first)), ("EndDate", &day(last))], 3),
            (&[("StartDate", &day(&moved(last, 86_400)))], 0),
            (&[("EndDate", &day(&moved(first, -86_400)))], 0),
            (&[("LogLevel", "error"), ("StartDate", first), ("PageSize", "1000")], 3),
            (&[("LogLevel", "warning"), ("StartDate", first)], 0),
            // An empty parameter counts as absent.
            (&[("LogLevel", ""), ("StartDate", ""), ("EndDate", "")], 3),
        ] {
            assert_eq!(list(&backend, query).await.len(), count, "{query:?}");
        }
        for bad in [
            ("LogLevel", "fatal"),
            ("LogLevel", "ERROR"),
            ("StartDate", "yesterday"),
            ("StartDate", "2026-13-01"),
            ("EndDate", "2026-01-01T00:00"),
            ("EndDate", "1767225600"),
        ] {
            assert_error(&backend.get("/v1/Alerts", &[bad]).await, 400, 60306);
        }
        assert!(first <= last && Timestamp::from_parameter(last).unwrap() <= app::SystemClock.now());
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn alerts_can_be_paged_newest_first(world: World) {
        let backend = world.backend();
        fail(&world, 5).await;
        let all = list(&backend, &[]).await;
        let dates = all.iter().map(|alert| alert["date_created"].as_str().unwrap());
        assert!(dates.is_sorted_by(|one, next| one >= next), "{all:?}");
        for filter in ["", "&LogLevel=error&StartDate=2026-01-01"] {
            let (mut listed, mut sizes) = (Vec::new(), Vec::new());
            let mut next = Some(format!("/v1/Alerts?PageSize=2{filter}"));
            while let Some(url) = next {
                let page = backend.get(&url, &[]).await.json();
                assert_eq!(page["meta"]["key"], "alerts");
                sizes.push(page["alerts"].as_array().unwrap().len());
                listed.extend(page["alerts"].as_array().unwrap().clone());
                next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
                let kept = next.iter().all(|url| url.contains("LogLevel=error") != filter.is_empty());
                assert!(kept, "{next:?}");
            }
            assert_eq!((listed, sizes), (all.clone(), vec![2, 2, 1]));
        }
    }
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn debugger_webhook_receives_every_alert(world: World) {
        // The debugger webhook is retried like every webhook.
        let debugger = Receiver::start([Answer::of("500 Oh", "", ""), Answer::ok()]);
        let account = world.server.account_sid();
        let url = debugger.at("/debugger?who=%C3%BC#rt=9000");
        world.command(&["account", "set", account, "--debugger-webhook", &url]);
        assert!(world.command(&["account", "show"]).contains(&url));

        let receiver = Receiver::start([Answer::of("404 Not Found", "X-Why: gone\r\n", "no such hook")]);
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/hook"), &[]).await;
        event(&world, &service, "zoe-0001").await;
        let calls = calls(&debugger, 2).await;
        settled(&world, &["--all"]).await;

        let alerts = list(&world.backend(), &[]).await;
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        let (first, call) = (&calls[0], &calls[1]);
        assert_eq!(call.line, "POST /debugger?who=%C3%BC HTTP/1.1");
        assert_eq!(call.header("Content-Type"), "application/x-www-form-urlencoded");
        assert_eq!(call.header("X-Twilio-Signature"), signed(&world, &call.url(), &call.form()));
        let token = "I-Twilio-Idempotency-Token";
        assert_eq!((call.header(token), call.form()), (first.header(token), first.form()));

        let form: BTreeMap<String, String> = call.form().into_iter().collect();
        let names = ["AccountSid", "Level", "Payload", "PayloadType", "Sid", "Timestamp"];
        assert!(form.keys().eq(&names), "{form:?}");
        assert_eq!(form["Sid"], alerts[0]["sid"].as_str().unwrap());
        assert_eq!(form["Timestamp"], alerts[0]["date_created"].as_str().unwrap());
        assert_eq!((form["AccountSid"].as_str(), form["Level"].as_str()), (account, "ERROR"));
        assert_eq!(form["PayloadType"], "application/json");
        let payload: Value = serde_json::from_str(&form["Payload"]).unwrap();
        assert_eq!((&payload["resource_sid"], &payload["service_sid"]), (&json!(sid), &json!(service)));
        assert_eq!(payload["error_code"], "11200");
        assert!(payload["more_info"].is_object(), "{payload}");
        let (request, response) = (&payload["webhook"]["request"], &payload["webhook"]["response"]);
        assert_eq!((&request["url"], &request["method"]), (&json!(receiver.at("/hook")), &json!("POST")));
        assert_eq!((&response["status_code"], &response["body"]), (&json!(404), &json!("no such hook")));
        assert_eq!(response["headers"]["x-why"], "gone");
    }
}

/// A failed delivery to the debugger webhook must not be reported to the debugger webhook itself.
#[tokio::test]
async fn failed_debugger_webhook_delivery_creates_no_further_alert() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
    let debugger = Receiver::start([Answer::of("404 Not Found", "", "")]);
    let account = world.server.account_sid();
    world.command(&["account", "set", account, "--debugger-webhook", &debugger.at("/")]);
    fail(&world, 2).await;
    let all = settled(&world, &["--all"]).await;
    let kinds = |kind: &str| all.iter().filter(|delivery| delivery.way.starts_with(kind)).count();
    assert_eq!((kinds("webhook"), kinds("debugger"), all.len()), (2, 2, 4), "{all:?}");
    assert!(all.iter().all(|delivery| delivery.endings() == ["failed"]), "{all:?}");
    assert_eq!(debugger.calls().len(), 2);
}

#[tokio::test]
async fn debugger_webhook_receives_alerts_only_while_configured() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
    let mut debugger = Receiver::start([Answer::ok()]);
    let account = world.server.account_sid();
    let set = |url: &str| world.command(&["account", "set", account, "--debugger-webhook", url]);
    for bad in ["h.example", "ftp://h.example", "https://user:password@h.example"] {
        let refusal = world.refusal(&["account", "set", account, "--debugger-webhook", bad]);
        assert!(refusal.contains("--debugger-webhook must"), "{refusal}");
    }
    let unknown_sid = format!("AC{}", "0".repeat(32));
    let refusal = world.refusal(&["account", "set", &unknown_sid, "--debugger-webhook", "https://h.example"]);
    assert!(refusal.contains(&format!("there is no {unknown_sid}")), "{refusal}");

    // Nothing is sent before the debugger webhook is set or after it is removed; the alert exists in any case.
    fail(&world, 1).await;
    set(&debugger.at("/"));
    fail(&world, 1).await;
    let first = calls(&debugger, 1).await.remove(0);
    debugger.down().await;
    fail(&world, 1).await;
    let refused = async || {
        let all = crate::webhooks::attempts(&world, &["--all", "--state", "pending"]);
        all.into_iter().next().filter(|delivery| !delivery.attempts.is_empty())
    };
    wait_until("the delivery to the debugger webhook has failed", WAIT_TIMEOUT, refused).await;
    set("");
    assert!(!world.command(&["account", "show"]).contains("debugger"));
    debugger.up();
    fail(&world, 1).await;

    let alerts = list(&world.backend(), &[]).await;
    assert_eq!(alerts.len(), 4);
    // Pending deliveries were skipped when the debugger webhook was removed.
    let all = settled(&world, &["--all"]).await;
    let states: Vec<_> = all
        .iter()
        .filter(|delivery| delivery.way.starts_with("debugger"))
        .map(|delivery| delivery.state.as_str())
        .collect();
    assert_eq!(states, ["skipped", "delivered"]);
    assert_eq!(debugger.calls().len(), 1);
    assert_eq!(first.value("Sid").as_deref(), alerts[2]["sid"].as_str());
}
