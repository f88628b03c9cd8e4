//! Deliveries: each one arrives despite receiver failures and killed servers.

mod killed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Answer, Receiver, Server, wait_until};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::webhooks::{
    FAST_RETRY_ARGUMENTS, LOOPBACK_ARGUMENTS, ShownDelivery, WAIT_TIMEOUT, attempts, calls, event, only,
    settled, signed, webhook,
};
use crate::world::{World, on_every_database};

/// Returns the error codes of the failed attempts.
fn codes(delivery: &ShownDelivery) -> Vec<u32> {
    delivery.attempts.iter().filter_map(|attempt| attempt.code).collect()
}

/// Returns the error code and resource SID of each alert, newest first.
async fn alerts(world: &World) -> Vec<(String, String)> {
    let reply = world.backend().get("/v1/Alerts", &[]).await.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = reply["alerts"].as_array().unwrap().iter();
    alerts.map(|alert| (text(&alert["error_code"]), text(&alert["resource_sid"]))).collect()
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn delivery_succeeds_after_ten_failures(world: World) {
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
        // Every attempt sends the same body with the same signature and idempotency token.
        for call in &calls {
            assert_eq!(call.header("I-Twilio-Idempotency-Token"), delivery.id);
            assert_eq!(call.form(), calls[0].form());
            assert_eq!(call.header("X-Twilio-Signature"), calls[0].header("X-Twilio-Signature"));
        }
        // The longest wait is a second, and the first wait is never shorter.
        let span = calls[10].at - calls[0].at;
        assert!(span >= Duration::from_secs(9), "{span:?}");
        assert_eq!((receiver.calls().len(), alerts(&world).await), (11, vec![]));
    }
}

#[tokio::test]
async fn delivery_is_retried_after_every_kind_of_temporary_failure() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
    let service = world.service().await;
    // The timeouts for the response and for the whole request, in milliseconds.
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
        ("fails with an endless body", "/", Answer::of("500 Oh", "", &"x".repeat(10 << 20)), 11200),
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
async fn success_or_permanent_failure_ends_the_delivery_after_one_attempt() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
    let service = world.service().await;
    let much = "x".repeat(10 << 20);
    let mut receivers = Vec::new();
    for (answer, state, code) in [
        (Answer::of("204 No Content", "", ""), "delivered", None),
        (Answer::of("200 OK", "", &much), "delivered", None),
        (Answer::Flood("HTTP/1.1 200 OK\r\n\r\n".into()), "delivered", None),
        // Only the status determines the result; reading the rest of the response may fail.
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
async fn retry_after_delays_the_next_attempt() {
    let world =
        World::sqlite_with(&["--webhook-allow-network", "127.0.0.0/8", "--delivery-max-backoff", "5"]);
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
        // Without `Retry-After` the wait would have been one second.
        let waited = calls[1].at - calls[0].at;
        assert!(waited >= wait, "{waited:?}");
        assert_eq!(only(&world, &sid).await.endings(), ["again", "delivered"]);
    }
}

/// `Retry-After` in seconds, in milliseconds by mistake, or as a date is capped at the longest wait, and does
/// not shorten the life of the delivery.
#[tokio::test]
async fn retry_after_beyond_the_maximum_wait_is_capped() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
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
    serving &["--webhook-allow-network", "127.0.0.0/8", "--delivery-lease", "1", "--webhook-max-age", "1"];
    /// The server is killed during the first attempt and restarted after the delivery has expired.
    async fn delivery_expired_during_downtime_is_attempted_once_more(world: World) {
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

/// The log names the abandoned delivery with its reason, and warns when a webhook with an unreachable address
/// is created.
#[tokio::test]
async fn abandoned_delivery_is_logged_as_warning_with_the_reason() {
    let world = World::sqlite_with(&["--delivery-max-backoff", "1"]);
    let service = world.service().await;
    let warnings = |id: &str| -> Vec<String> {
        let log = world.server.log();
        log.lines().filter(|line| line.contains("WARN") && line.contains(id)).map(str::to_owned).collect()
    };
    // Poll, because the server may still be writing the log.
    let warned = async |id: &str| {
        let some = async || Some(warnings(id)).filter(|lines| !lines.is_empty());
        let lines = wait_until("the warning is logged", WAIT_TIMEOUT, some).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    };
    for host in ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254"] {
        let sid = webhook(&world, &service, &format!("http://{host}:9/hook?key=hoot"), &[]).await;
        let made = warned(&sid).await;
        for expected in ["has an address that is not public", "--webhook-allow-network", &format!("{host}:9")]
        {
            assert!(made.contains(expected), "{made}");
        }
    }
    // A host name is not resolved at creation; a changed URL is checked again.
    let sid = webhook(&world, &service, "https://receiver.invalid/#rc=0", &[("Status", "disabled")]).await;
    let path = format!("{}/{sid}", crate::webhooks::webhooks(&service));
    world.backend().post(&path, &[("WebhookUrl", "http://127.0.0.1:9/")]).await;
    assert!(warned(&sid).await.contains("127.0.0.1:9"));

    event(&world, &service, "zoe-0001").await;
    let deliveries = settled(&world, &[]).await;
    assert_eq!(deliveries.len(), 5);
    for delivery in deliveries {
        let given_up = warned(&delivery.id).await;
        for expected in
            ["delivery failed, given up", "11210", "address is not public", "--webhook-allow-network"]
        {
            assert!(given_up.contains(expected), "{given_up}");
        }
        assert!(!given_up.contains("hoot"), "{given_up}");
    }
}

on_every_database! {
    serving FAST_RETRY_ARGUMENTS;
    async fn delivery_succeeds_after_the_receiver_was_down(world: World) {
        let mut receiver = Receiver::start([Answer::ok()]);
        let service = world.service().await;
        let sid = webhook(&world, &service, &receiver.at("/"), &[]).await;
        event(&world, &service, "zoe-0000").await;
        settled(&world, &[&sid]).await;
        // This also closes the reused connection.
        receiver.down().await;
        for number in 1..=5 {
            event(&world, &service, &format!("zoe-000{number}")).await;
        }
        let refused = async || {
            let owed = attempts(&world, &[&sid, "--state", "pending"]);
            (owed.len() == 5 && owed.iter().all(|delivery| delivery.attempts.len() >= 2)).then_some(owed)
        };
        for delivery in wait_until("each delivery was attempted twice", WAIT_TIMEOUT, refused).await {
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

/// Overrides in the URL decide how often and on which failures to retry; the schedule no longer counts.
#[tokio::test]
async fn overrides_in_the_webhook_url_fragment_control_retries() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
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
        // By default only failures to connect are retried.
        ("rc=3", &oh, 1),
        ("rc=3&rp=4xx", &oh, 1),
        ("rc=3&rp=4xx", &gone, 4),
        ("rc=2&rp=all", &busy, 3),
        ("rc=2&rp=rt", &Answer::HangUp(String::new()), 3),
        ("rc=2&rp=rt&rt=200", &Answer::silence(), 3),
        ("rc=2&rp=ct&rt=200", &Answer::silence(), 1),
        // A redirect is final whatever the overrides say.
        ("rc=2&rp=all", &Answer::of("302 Found", "Location: /x\r\n", ""), 1),
        // `tt` limits the total time of all attempts.
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
            // The fragment is neither sent nor signed.
            assert_eq!(call.line, "POST /hook?a=b HTTP/1.1");
            assert_eq!(call.header("I-Twilio-Idempotency-Token"), delivery.id);
            let signature = signed(&world, &receiver.at("/hook?a=b"), &call.form());
            assert_eq!(call.header("X-Twilio-Signature"), signature, "{fragment}");
        }
    }
    let delivery = only(&world, &refused).await;
    assert_eq!(delivery.endings(), ["again", "again", "failed"], "{delivery:?}");
    assert_eq!(codes(&delivery), [11205; 3]);
    // Each failed delivery has one alert, however many attempts it had, and at once rather than on the
    // schedule.
    assert_eq!(alerts(&world).await.len(), 14);
    println!("all of it took {:?}", began.elapsed());
}

/// An immediate retry must not wait until the delivery's lease expires.
#[tokio::test]
async fn retries_configured_in_the_webhook_url_fragment_are_immediate() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
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
    // The schedule would take at least 31 seconds, and a lease 30 seconds for each retry.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Each attempt is signed with the current auth token.
#[tokio::test]
async fn pending_deliveries_are_signed_with_the_new_auth_token_after_a_rotation() {
    let world = World::sqlite_with(FAST_RETRY_ARGUMENTS);
    let is_rotated = Arc::new(AtomicBool::new(false));
    let receiver = {
        let is_rotated = Arc::clone(&is_rotated);
        Receiver::reacting(move |_| {
            let answer =
                if is_rotated.load(Ordering::SeqCst) { Answer::ok() } else { Answer::of("500 Oh", "", "") };
            async { answer }
        })
    };
    let service = world.service().await;
    webhook(&world, &service, &receiver.at("/"), &[]).await;
    event(&world, &service, "zoe-0001").await;
    let first = calls(&receiver, 1).await.remove(0);
    assert_eq!(first.header("X-Twilio-Signature"), signed(&world, &first.url(), &first.form()));
    let printed = world.command(&["account", "rotate-token", world.server.account_sid()]);
    is_rotated.store(true, Ordering::SeqCst);
    let rotated = printed.split_whitespace().last().unwrap();
    settled(&world, &[]).await;
    let last = receiver.calls().pop().unwrap();
    let rotated = domain::accounts::AuthToken::parse(rotated).unwrap();
    assert_eq!(last.header("X-Twilio-Signature"), webhook_client::sign(&rotated, &last.url(), &last.form()));
    assert_ne!(last.header("X-Twilio-Signature"), first.header("X-Twilio-Signature"));
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn hanging_host_does_not_delay_other_deliveries(world: World) {
        let hanging = Receiver::start([Answer::silence()]);
        let quick = Receiver::start([Answer::ok()]);
        let service = world.service().await;
        let url = hanging.at("/");
        for _ in 0..40 {
            webhook(&world, &service, &url, &[]).await;
        }
        let sid = webhook(&world, &service, &quick.at("/"), &[]).await;
        // The first event's delivery is last in the queue; the others are enqueued after the hanging host has
        // used up its permits.
        let identities = ["zoe-0001", "zoe-0002", "zoe-0003", "zoe-0004"];
        let mut taken = Vec::new();
        for (number, identity) in identities.iter().enumerate() {
            let began = Instant::now();
            event(&world, &service, identity).await;
            let calls = calls(&quick, number + 1).await;
            assert_eq!(calls[number].value("entity_identity").as_deref(), Some(*identity));
            taken.push(began.elapsed());
            // No attempt at the hanging host has ended, because one takes 15 seconds.
            assert_eq!(hanging.ends_left(), 0, "{taken:?}");
        }
        let all = calls(&hanging, 16).await.len();
        assert_eq!((all, hanging.ends_left()), (16, 0), "at one time, and no more: {taken:?}");
        assert_eq!(settled(&world, &[&sid]).await.len(), 4);
        assert_eq!(attempts(&world, &["--state", "pending"]).len(), 160);
    }
}

on_every_database! {
    serving &["--webhook-allow-network", "127.0.0.0/8", "--webhook-concurrency", "3", "--delivery-max-backoff", "1"];
    async fn concurrent_attempts_to_one_host_are_limited(world: World) {
        let now = std::sync::Arc::new(std::sync::Mutex::new((0_usize, 0_usize)));
        // No request is answered before three have arrived.
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

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn deliveries_that_wait_for_a_hanging_host_are_made_later_and_do_not_delay_those_to_others(world: World) {
        const HANGING: usize = 40;
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let hanging = Receiver::reacting(move |_| {
            let held = held.clone();
            async move {
                let _ = held.acquire().await;
                Answer::ok()
            }
        });
        let (service, other_service) = (world.service().await, world.service().await);
        for _ in 0..HANGING {
            webhook(&world, &service, &hanging.at("/"), &[]).await;
        }
        // More than a host has slots, so some wait for others, and some cannot be leased.
        event(&world, &service, "zoe-0001").await;
        calls(&hanging, 1).await;
        let other = Receiver::start([Answer::ok()]);
        webhook(&world, &other_service, &other.at("/"), &[]).await;
        for number in 0..3 {
            event(&world, &other_service, &format!("ida-000{number}")).await;
            event(&world, &service, &format!("zoe-001{number}")).await;
            calls(&other, number + 1).await;
        }
        gate.close();
        let deliveries = settled(&world, &[]).await;
        assert_eq!(deliveries.len(), 4 * HANGING + 3);
        assert!(deliveries.iter().all(|delivery| delivery.endings() == ["delivered"]), "{deliveries:?}");
        assert_eq!((hanging.calls().len(), other.calls().len()), (4 * HANGING, 3));
    }
}

/// A lease lasts as long as its attempt, however short it is: two servers do not make the same attempt twice.
#[tokio::test]
async fn attempt_longer_than_its_lease_is_made_exactly_once() {
    let serving = &["--webhook-allow-network", "127.0.0.0/8", "--delivery-lease", "3"];
    let test = "outbox::attempt_longer_than_its_lease_is_made_exactly_once";
    let Some(world) = World::postgres_with(test, serving) else { return };
    let other = Server::start(crate::world::BINARY, world.storage.clone(), serving);
    // Closed once the attempts have outlasted their leases.
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let receiver = Receiver::reacting(move |_| {
        let held = held.clone();
        async move {
            let _ = held.acquire().await;
            Answer::ok()
        }
    });
    let service = world.service().await;
    let mut sids = Vec::new();
    // More than the concurrent attempts: deliveries that wait for a permit are leased too.
    for _ in 0..20 {
        sids.push(webhook(&world, &service, &receiver.at("/"), &[]).await);
    }
    event(&world, &service, "zoe-0001").await;
    calls(&receiver, 1).await;
    // A leased delivery is due at the end of its lease, so this grows with every renewal.
    let first_lease_end = || {
        let sql = "SELECT coalesce(min(due_at), 0) FROM deliveries WHERE state = 'owed'";
        world.database.as_ref().unwrap().psql(sql).trim().parse::<i64>().unwrap()
    };
    let two_leases = first_lease_end() + 2 * 3 * 1_000_000;
    wait_until("every lease was renewed twice", WAIT_TIMEOUT, async || {
        (first_lease_end() >= two_leases).then_some(())
    })
    .await;
    gate.close();
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
    serving &["--webhook-allow-network", "127.0.0.0/8", "--delivery-max-backoff", "1", "--webhook-max-age", "12"];
    async fn delivery_that_never_succeeds_is_abandoned(world: World) {
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

/// A server that receives SIGTERM finishes the running attempts.
#[tokio::test]
async fn stopping_server_waits_for_running_attempts() {
    let mut world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let address = world.server.url().strip_prefix("http://").unwrap().to_owned();
    // The attempt ends only after the server has begun to stop, and so accepts no connection any more.
    let receiver = Receiver::reacting(move |_| {
        let address = address.clone();
        async move {
            while TcpStream::connect(&address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Answer::ok()
        }
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
