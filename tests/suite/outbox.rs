//! What is owed arrives, whatever receivers do, and whoever is killed.

mod killed;

use std::time::{Duration, Instant};

use harness::{Answer, Receiver, Server, wait_until};
use serde_json::Value;

use crate::webhooks::{
    ALLOWED, IMPATIENT, PATIENCE, Shown, attempts, calls, event, only, settled, signed, webhook,
};
use crate::world::{World, on_every_database};

/// The codes of the attempts that failed.
fn codes(delivery: &Shown) -> Vec<u32> {
    delivery.attempts.iter().filter_map(|attempt| attempt.code).collect()
}

/// The alerts that there are, newest first: code and what they are about.
async fn alerts(world: &World) -> Vec<(String, String)> {
    let reply = world.backend().get("/v1/Alerts", &[]).await.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = reply["alerts"].as_array().unwrap().iter();
    alerts.map(|alert| (text(&alert["error_code"]), text(&alert["resource_sid"]))).collect()
}

on_every_database! {
    serving IMPATIENT;
    async fn a_receiver_that_fails_ten_times_is_told_in_the_end(world: World) {
        let failing = vec![Answer::of("500 Oh", "", "not today"); 10];
        let receiver = Receiver::start([failing, vec![Answer::ok()]].concat());
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/hook?a=b"), &[]).await;
        event(&world, &service, "zoe-0001").await;

        let calls = calls(&receiver, 11).await;
        let delivery = only(&world, &sid).await;
        let endings = [vec!["again"; 10], vec!["delivered"]].concat();
        assert_eq!((delivery.state.as_str(), delivery.endings()), ("delivered", endings));
        assert_eq!(codes(&delivery), [11200; 10]);
        // Each time the same, under the same name.
        for call in &calls {
            assert_eq!(call.header("I-Twilio-Idempotency-Token"), delivery.id);
            assert_eq!(call.form(), calls[0].form());
            assert_eq!(call.header("X-Twilio-Signature"), calls[0].header("X-Twilio-Signature"));
        }
        // The longest wait is a second, and the first is never shorter.
        let span = calls[10].at - calls[0].at;
        assert!(span >= Duration::from_secs(9), "{span:?}");
        assert_eq!((receiver.calls().len(), alerts(&world).await), (11, vec![]));
    }
}

#[tokio::test]
async fn whatever_a_receiver_does_it_is_told_in_the_end() {
    let world = World::sqlite_with(IMPATIENT);
    let service = world.service().await;
    // In milliseconds for an answer, and for all of it.
    let hasty = "/#rt=2000&tt=15000";
    let mut receivers = Vec::new();
    for (what, path, answer, code) in [
        ("hangs", hasty, Answer::silence(), 11200),
        (
            "hangs in the middle of its headers",
            hasty,
            Answer::Stall("HTTP/1.1 200 OK\r\nContent".into()),
            11200,
        ),
        ("closes at once", "/", Answer::HangUp(String::new()), 11205),
        ("closes in the middle of its headers", "/", Answer::HangUp("HTTP/1.1 200 OK\r\nCont".into()), 11205),
        ("is busy", "/", Answer::of("503 Busy", "", ""), 11200),
        ("is late", "/", Answer::of("408 Late", "", ""), 11200),
        ("fails, and goes on about it", "/", Answer::of("500 Oh", "", &"x".repeat(10 << 20)), 11200),
        ("fails, and never ends", hasty, Answer::Flood("HTTP/1.1 502 Oh\r\n\r\n".into()), 11200),
    ] {
        let receiver = Receiver::start([answer.clone(), answer, Answer::ok()]);
        let sid = webhook(&world, &service, &receiver.at(path), &[]).await;
        receivers.push((what, receiver, sid, code));
    }
    event(&world, &service, "zoe-0001").await;
    for (what, receiver, sid, code) in receivers {
        let delivery = only(&world, &sid).await;
        assert_eq!(delivery.endings(), ["again", "again", "delivered"], "{what}: {delivery:?}");
        assert_eq!(codes(&delivery), [code, code], "{what}: {delivery:?}");
        let calls = receiver.calls();
        let tokens = calls.iter().map(|call| call.header("I-Twilio-Idempotency-Token"));
        assert!(tokens.eq([delivery.id.as_str(); 3]), "{what}: {calls:?}");
    }
    assert_eq!(alerts(&world).await, []);
}

#[tokio::test]
async fn what_a_receiver_has_said_is_final() {
    let world = World::sqlite_with(IMPATIENT);
    let service = world.service().await;
    let much = "x".repeat(10 << 20);
    let mut receivers = Vec::new();
    for (answer, state, code) in [
        (Answer::of("204 No Content", "", ""), "delivered", None),
        (Answer::of("200 OK", "", &much), "delivered", None),
        (Answer::Flood("HTTP/1.1 200 OK\r\n\r\n".into()), "delivered", None),
        // The event is theirs, however the rest of the answer fares.
        (Answer::Stall("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".into()), "delivered", None),
        (Answer::HangUp("HTTP/1.1 202 OK\r\nContent-Length: 9\r\n\r\n".into()), "delivered", None),
        (Answer::of("400 Bad", "", ""), "failed", Some(11200)),
        (Answer::of("404 Not Found", "", "no such hook"), "failed", Some(11200)),
        (Answer::of("404 Not Found", "", &much), "failed", Some(11200)),
        (Answer::of("410 Gone", "", ""), "failed", Some(11200)),
        (Answer::of("304 Not Modified", "", ""), "failed", Some(11215)),
        (Answer::HangUp("SSH-2.0-OpenSSH_9.9\r\n".into()), "failed", Some(11206)),
    ] {
        let receiver = Receiver::start([answer]);
        let sid = webhook(&world, &service, &receiver.at("/#rt=5000"), &[]).await;
        receivers.push((receiver, sid, state, code));
    }
    event(&world, &service, "zoe-0001").await;
    let mut expected = Vec::new();
    for (receiver, sid, state, code) in receivers {
        let delivery = only(&world, &sid).await;
        assert_eq!((delivery.state.as_str(), delivery.endings()), (state, vec![state]), "{delivery:?}");
        assert_eq!((delivery.attempts[0].code, receiver.calls().len()), (code, 1), "{delivery:?}");
        expected.extend(code.map(|code| (code.to_string(), sid)));
    }
    let mut alerts = alerts(&world).await;
    alerts.sort();
    expected.sort();
    assert_eq!(alerts, expected);
}

#[tokio::test]
async fn a_receiver_can_ask_for_time() {
    let world = World::sqlite_with(&["--webhook-allow", "127.0.0.0/8", "--delivery-longest-wait", "5"]);
    let service = world.service().await;
    let wait = Duration::from_secs(3);
    let mut receivers = Vec::new();
    for status in ["429 Too Many", "503 Busy"] {
        let busy = Answer::of(status, "Retry-After: 3\r\n", "");
        let receiver = Receiver::start([busy, Answer::ok()]);
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        receivers.push((receiver, sid));
    }
    event(&world, &service, "zoe-0001").await;
    for (receiver, sid) in receivers {
        let calls = calls(&receiver, 2).await;
        // Without being asked it would have waited for one second.
        let waited = calls[1].at - calls[0].at;
        assert!(waited >= wait, "{waited:?}");
        assert_eq!(only(&world, &sid).await.endings(), ["again", "delivered"]);
    }
}

/// In seconds, in milliseconds by mistake, or as a date: the longest wait caps it, and the end of the delivery is no
/// nearer.
#[tokio::test]
async fn receiver_that_asks_for_too_much_time_is_told_in_the_end() {
    let world = World::sqlite_with(IMPATIENT);
    let service = world.service().await;
    let wishes =
        ["86400", "120000", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "2147483648"];
    let mut receivers = Vec::new();
    for wish in wishes {
        let busy = Answer::of("503 Busy", &format!("Retry-After: {wish}\r\n"), "");
        let receiver = Receiver::start([busy.clone(), busy, Answer::ok()]);
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        receivers.push((wish, receiver, sid));
    }
    event(&world, &service, "zoe-0001").await;
    for (wish, receiver, sid) in receivers {
        calls(&receiver, 3).await;
        assert_eq!(only(&world, &sid).await.endings(), ["again", "again", "delivered"], "{wish}");
    }
    assert_eq!(alerts(&world).await, []);
}

on_every_database! {
    serving &["--webhook-allow", "127.0.0.0/8", "--delivery-lease", "1", "--webhook-patience", "1"];
    /// Killed in the middle of its first attempt, and started again when its time is over.
    async fn delivery_whose_time_is_over_after_a_restart_is_attempted_once_more(world: World) {
        let mut world = world;
        let receiver = Receiver::start([Answer::silence(), Answer::ok()]);
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        event(&world, &service, "zoe-0001").await;
        let first = calls(&receiver, 1).await[0].at;
        world.server.kill9();
        tokio::time::sleep(Duration::from_secs(2).saturating_sub(first.elapsed())).await;
        world.server.restart();
        calls(&receiver, 2).await;
        let delivery = only(&world, &sid).await;
        assert_eq!((delivery.state.as_str(), delivery.endings()), ("delivered", vec!["delivered"]), "{delivery:?}");
    }
}

/// The log says what was given up and why, and that a webhook leads nowhere when it is made.
#[tokio::test]
async fn delivery_that_is_given_up_is_a_warning_with_the_reason() {
    let world = World::sqlite_with(&["--delivery-longest-wait", "1"]);
    let service = world.service().await;
    let warnings = |id: &str| -> Vec<String> {
        let log = world.server.log();
        log.lines().filter(|line| line.contains("WARN") && line.contains(id)).map(str::to_owned).collect()
    };
    // The log is read while it is written.
    let warned = async |id: &str| {
        let some = async || Some(warnings(id)).filter(|lines| !lines.is_empty());
        let lines = wait_until("there is a warning", PATIENCE, some).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    };
    for host in ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254"] {
        let sid = webhook(&world, &service, &format!("http://{host}:9/hook?key=hoot"), &[]).await;
        let made = warned(&sid).await;
        for words in ["leads to an address that is not public", "--webhook-allow", &format!("{host}:9")] {
            assert!(made.contains(words), "{made}");
        }
    }
    // A name may lead anywhere; a new address is looked at too.
    let sid = webhook(&world, &service, "https://receiver.invalid/#rc=0", &[("Status", "disabled")]).await;
    let path = format!("{}/{sid}", crate::webhooks::webhooks(&service));
    world.backend().post(&path, &[("WebhookUrl", "http://127.0.0.1:9/")]).await;
    assert!(warned(&sid).await.contains("127.0.0.1:9"));

    event(&world, &service, "zoe-0001").await;
    let deliveries = settled(&world, &[]).await;
    assert_eq!(deliveries.len(), 5);
    for delivery in deliveries {
        let given_up = warned(&delivery.id).await;
        for words in ["delivery failed, given up", "11210", "address is not public", "--webhook-allow"] {
            assert!(given_up.contains(words), "{given_up}");
        }
        assert!(!given_up.contains("hoot"), "{given_up}");
    }
}

on_every_database! {
    serving IMPATIENT;
    async fn a_receiver_may_be_down_for_a_while(world: World) {
        let mut receiver = Receiver::start([Answer::ok()]);
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        event(&world, &service, "zoe-0000").await;
        calls(&receiver, 1).await;
        // With it goes the connection that was kept.
        receiver.down().await;
        for number in 1..=5 {
            event(&world, &service, &format!("zoe-000{number}")).await;
        }
        let refused = async || {
            let owed = attempts(&world, &[&sid, "--state", "owed"]);
            (owed.len() == 5 && owed.iter().all(|delivery| delivery.attempts.len() >= 2)).then_some(owed)
        };
        for delivery in wait_until("each was attempted twice", PATIENCE, refused).await {
            assert!(codes(&delivery).iter().all(|code| *code == 11205), "{delivery:?}");
        }
        receiver.up();
        calls(&receiver, 6).await;
        let deliveries = settled(&world, &[&sid]).await;
        assert!(deliveries.iter().all(|delivery| delivery.state == "delivered"), "{deliveries:?}");
        let mut identities: Vec<_> =
            receiver.calls().iter().map(|call| call.value("entity_identity").unwrap()).collect();
        identities.sort();
        assert_eq!(identities, [0, 1, 2, 3, 4, 5].map(|number| format!("zoe-000{number}")));
    }
}

/// An address may say how often it is to be tried, and on what: then nothing else counts.
#[tokio::test]
async fn overrides_decide_on_retries() {
    let world = World::sqlite_with(IMPATIENT);
    let service = world.service().await;
    let (oh, gone, busy) = (
        Answer::of("500 Oh", "", ""),
        Answer::of("404 Not Found", "", ""),
        Answer::of("429 Too Many", "Retry-After: 60\r\n", ""),
    );
    let mut receivers = Vec::new();
    for (fragment, answer, count) in [
        ("rc=2&rp=5xx", &oh, 3),
        ("rc=5&rp=4xx,5xx", &oh, 6),
        ("rc=0&rp=all", &oh, 1),
        ("rp=5xx", &oh, 2),
        // Only failures to connect are tried again, unless it says so.
        ("rc=3", &oh, 1),
        ("rc=3&rp=4xx", &oh, 1),
        ("rc=3&rp=4xx", &gone, 4),
        ("rc=2&rp=all", &busy, 3),
        ("rc=2&rp=rt", &Answer::HangUp(String::new()), 3),
        ("rc=2&rp=rt&rt=200", &Answer::silence(), 3),
        ("rc=2&rp=ct&rt=200", &Answer::silence(), 1),
        // A redirect is final whatever the address says.
        ("rc=2&rp=all", &Answer::of("302 Found", "Location: /x\r\n", ""), 1),
        // All of it within this time.
        ("rc=5&rp=all&rt=5000&tt=9000", &Answer::silence(), 2),
    ] {
        let receiver = Receiver::start([answer.clone()]);
        let sid = webhook(&world, &service, &receiver.at(&format!("/hook?a=b#{fragment}")), &[]).await;
        receivers.push((fragment, receiver, sid, count));
    }
    let mut closed = Receiver::start([Answer::ok()]);
    closed.down().await;
    let refused = webhook(&world, &service, &closed.at("/#rc=2"), &[]).await;
    let began = Instant::now();
    event(&world, &service, "zoe-0001").await;

    for (fragment, receiver, sid, count) in receivers {
        let delivery = only(&world, &sid).await;
        let endings = [vec!["again"; count - 1], vec!["failed"]].concat();
        assert_eq!(
            (delivery.state.as_str(), delivery.endings()),
            ("failed", endings),
            "{fragment}: {delivery:?}"
        );
        let calls = receiver.calls();
        assert_eq!(calls.len(), count, "{fragment}");
        for call in &calls {
            // What is said about connecting is neither sent nor signed.
            assert_eq!(call.line, "POST /hook?a=b HTTP/1.1");
            assert_eq!(call.header("I-Twilio-Idempotency-Token"), delivery.id);
            let signature = signed(&world, &receiver.at("/hook?a=b"), &call.form());
            assert_eq!(call.header("X-Twilio-Signature"), signature, "{fragment}");
        }
    }
    let delivery = only(&world, &refused).await;
    assert_eq!(delivery.endings(), ["again", "again", "failed"], "{delivery:?}");
    assert_eq!(codes(&delivery), [11205; 3]);
    // One alert for each, however many attempts there were, and at once rather than on the schedule.
    assert_eq!(alerts(&world).await.len(), 14);
    println!("all of it took {:?}", began.elapsed());
}

/// What is to be tried again at once does not wait for a lease to run out, nor for anything else.
#[tokio::test]
async fn retries_of_overrides_come_at_once() {
    let world = World::sqlite_with(ALLOWED);
    let receiver = Receiver::start([Answer::of("500 Oh", "", "")]);
    let service = world.service().await;
    for number in 0..20 {
        webhook(&world, &service, &receiver.at(&format!("/{number}#rc=5&rp=5xx")), &[]).await;
    }
    event(&world, &service, "zoe-0001").await;
    let began = Instant::now();
    let deliveries = settled(&world, &[]).await;
    for delivery in &deliveries {
        assert_eq!(delivery.endings().len(), 6, "{delivery:?}");
    }
    assert_eq!((deliveries.len(), receiver.calls().len()), (20, 120));
    // The schedule would take 31 seconds at least, a lease 30 each time.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// What signs is the token of the moment.
#[tokio::test]
async fn a_rotated_token_signs_what_is_still_owed() {
    let world = World::sqlite_with(IMPATIENT);
    let receiver =
        Receiver::start([Answer::of("500 Oh", "", ""), Answer::of("500 Oh", "", ""), Answer::ok()]);
    let service = world.service().await;
    webhook(&world, &service, &receiver.at("/"), &[]).await;
    event(&world, &service, "zoe-0001").await;
    let first = calls(&receiver, 1).await.remove(0);
    assert_eq!(first.header("X-Twilio-Signature"), signed(&world, &first.url(), &first.form()));
    let printed = world.command(&["account", "rotate-token", world.server.account_sid()]);
    let rotated = printed.split_whitespace().last().unwrap();
    let last = calls(&receiver, 3).await.remove(2);
    let rotated = domain::accounts::AuthToken::parse(rotated).unwrap();
    assert_eq!(last.header("X-Twilio-Signature"), webhook_client::sign(&rotated, &last.url(), &last.form()));
    assert_ne!(last.header("X-Twilio-Signature"), first.header("X-Twilio-Signature"));
}

on_every_database! {
    serving ALLOWED;
    async fn a_host_that_hangs_delays_nobody_else(world: World) {
        let hanging = Receiver::start([Answer::silence()]);
        let quick = Receiver::start([Answer::ok()]);
        let service = world.service().await;
        let url = hanging.at("/");
        for _ in 0..40 {
            webhook(&world, &service, &url, &[]).await;
        }
        let sid = webhook(&world, &service, &quick.at("/"), &[]).await;
        // The first stands at the end of the line; the others come when all turns of the hanging host are taken.
        let identities = ["zoe-0001", "zoe-0002", "zoe-0003", "zoe-0004"];
        let mut taken = Vec::new();
        for (number, identity) in identities.iter().enumerate() {
            let began = Instant::now();
            event(&world, &service, identity).await;
            let calls = calls(&quick, number + 1).await;
            assert_eq!(calls[number].value("entity_identity").as_deref(), Some(*identity));
            taken.push(began.elapsed());
            // Nobody there has been given up: an attempt takes 15 seconds.
            assert_eq!(hanging.ends_left(), 0, "{taken:?}");
        }
        let all = calls(&hanging, 16).await.len();
        assert_eq!((all, hanging.ends_left()), (16, 0), "at one time, and no more: {taken:?}");
        assert_eq!(settled(&world, &[&sid]).await.len(), 4);
        assert_eq!(attempts(&world, &["--state", "owed"]).len(), 160);
    }
}

on_every_database! {
    serving &["--webhook-allow", "127.0.0.0/8", "--webhook-concurrency", "3", "--delivery-longest-wait", "1"];
    async fn so_many_at_one_time_and_no_more(world: World) {
        let now = std::sync::Arc::new(std::sync::Mutex::new((0_usize, 0_usize)));
        // Nobody is answered before there are three.
        let three = std::sync::Arc::new(tokio::sync::Barrier::new(3));
        let count = now.clone();
        let receiver = Receiver::reacting(move |_| {
            let (count, three) = (count.clone(), three.clone());
            async move {
                {
                    let mut count = count.lock().unwrap();
                    count.0 += 1;
                    count.1 = count.1.max(count.0);
                }
                three.wait().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                count.lock().unwrap().0 -= 1;
                Answer::ok()
            }
        });
        let service = world.service().await;
        for number in 0..30 {
            webhook(&world, &service, &receiver.at(&format!("/{number}")), &[]).await;
        }
        event(&world, &service, "zoe-0001").await;
        let deliveries = settled(&world, &[]).await;
        assert_eq!(deliveries.len(), 30);
        assert!(deliveries.iter().all(|delivery| delivery.endings() == ["delivered"]), "{deliveries:?}");
        assert_eq!((receiver.calls().len(), now.lock().unwrap().1), (30, 3));
    }
}

/// However short a lease is, it lasts as long as the attempt: two servers don't do the same twice.
#[tokio::test]
async fn a_long_attempt_is_made_once() {
    let serving = &["--webhook-allow", "127.0.0.0/8", "--delivery-lease", "3"];
    let test = "outbox::a_long_attempt_is_made_once";
    let Some(world) = World::postgres_with(test, serving) else { return };
    let other = Server::start(crate::world::BINARY, world.storage.clone(), serving);
    let receiver = Receiver::reacting(|_| async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        Answer::ok()
    });
    let service = world.service().await;
    let mut sids = Vec::new();
    // More than are under way at one time: those that wait for their turn are leased too.
    for _ in 0..20 {
        sids.push(webhook(&world, &service, &receiver.at("/"), &[]).await);
    }
    event(&world, &service, "zoe-0001").await;
    for sid in sids {
        let delivery = only(&world, &sid).await;
        assert_eq!(
            (delivery.state.as_str(), delivery.endings()),
            ("delivered", vec!["delivered"]),
            "{delivery:?}"
        );
    }
    assert_eq!(receiver.calls().len(), 20);
    assert!(!other.log().contains("ERROR") && !world.server.log().contains("ERROR"));
}

on_every_database! {
    serving &["--webhook-allow", "127.0.0.0/8", "--delivery-longest-wait", "1", "--webhook-patience", "12"];
    async fn what_never_succeeds_is_given_up(world: World) {
        let receiver = Receiver::start([Answer::of("500 Oh", "", "never")]);
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        event(&world, &service, "zoe-0001").await;
        let delivery = only(&world, &sid).await;
        assert_eq!(delivery.state, "failed");
        let (last, before) = delivery.endings().split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
        assert_eq!(last, "failed");
        assert!(!before.is_empty() && before.iter().all(|ending| *ending == "again"), "{delivery:?}");
        assert_eq!(receiver.calls().len(), before.len() + 1);
        assert_eq!(alerts(&world).await, [("11200".to_owned(), sid)]);
    }
}

/// A server that is asked to stop finishes what it has begun.
#[tokio::test]
async fn stopping_waits_for_attempts_that_are_under_way() {
    let mut world = World::sqlite_with(ALLOWED);
    let receiver = Receiver::reacting(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Answer::ok()
    });
    let service = world.service().await;
    let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
    event(&world, &service, "zoe-0001").await;
    calls(&receiver, 1).await;
    assert!(world.server.terminate().success(), "{}", world.server.log());
    let delivery = attempts(&world, &[&sid]).remove(0);
    assert_eq!((delivery.state.as_str(), delivery.endings()), ("delivered", vec!["delivered"]));
    assert_eq!(receiver.calls().len(), 1);
}
