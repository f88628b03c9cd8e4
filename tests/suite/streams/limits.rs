//! Limits on streams, and what they leave alone.

use std::time::Instant;

use device::Style;
use harness::wait_until;

use super::*;
use crate::matrix::Backends;
use crate::metrics;
use crate::world::{WAIT_TIMEOUT, assert_error};

#[tokio::test]
async fn streams_beyond_the_limit_of_the_process_are_refused_and_requests_are_served() {
    let world =
        World::sqlite_with(&[&["--max-streams", "3", "--max-requests", "1"], &metrics::LISTEN[..]].concat());
    let metrics = metrics::address(|| world.server.log()).await;
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let path = challenge_path(&challenge);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = open(&world.backend(), &path).await;
        next(&mut events).await;
        streams.push(events);
    }
    for query in ["", "?Wait=1"] {
        let refused = world.backend().get(&format!("{}{query}", stream_path(&path)), &[]).await;
        assert_error(&refused, 503, 20503);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    // The streams count neither as requests in progress nor as reads.
    assert_eq!(world.backend().get(&path, &[]).await.status, 200);
    let found = metrics::read(&metrics).await;
    assert_eq!(found.sum("countersign_streams_open", &[("kind", "challenge")]), 3.0);
    assert_eq!(found.sum("countersign_streams_refused", &[("limit", "total")]), 2.0);
    // A closed connection gives its place back before the server writes to it again.
    let closed_at = Instant::now();
    drop(streams.pop());
    wait_until("a place is free", WAIT_TIMEOUT, async || {
        let found = metrics::read(&metrics).await;
        (found.sum("countersign_streams_open", &[]) == 2.0).then_some(())
    })
    .await;
    assert!(closed_at.elapsed() < Duration::from_secs(10), "{:?}", closed_at.elapsed());
    next(&mut open(&world.backend(), &path).await).await;
}

#[tokio::test]
async fn streams_of_an_account_are_limited_for_backends_and_devices_separately() {
    let arguments = ["--account-streams", "2", "--account-concurrency", "1"];
    let world = World::sqlite_with(&arguments);
    let service = world.service().await;
    let device = world.device(&service, "user-0001").await;
    let challenge = world.challenge(&device.enrollment, &[]).await;
    let path = challenge_path(&challenge);
    let of_device = Http::new(world.server.url()).auth(device.auth());
    let mut streams = Vec::new();
    for client in [world.backend(), of_device] {
        for _ in 0..2 {
            let mut events = open(&client, &path).await;
            next(&mut events).await;
            streams.push(events);
        }
        let refused = client.get(&stream_path(&path), &[]).await;
        assert_error(&refused, 429, 20429);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    // Another account is not affected.
    let backends = Backends::create(&world);
    let other = Http::new(world.server.url());
    let (sid, token) = backends.other();
    let other = other.auth(harness::Auth::Basic(sid, token));
    let service = created_sid(&other).await;
    let events = open(&other, &format!("/v2/Services/{service}")).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
}

/// Creates a service of the client's account and returns its SID.
async fn created_sid(client: &Http) -> String {
    let made = crate::world::created(&client.post("/v2/Services", &[("FriendlyName", "Other")]).await);
    made["sid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn fifth_stream_of_a_factor_ends_the_oldest() {
    let world = World::sqlite();
    let service = world.service().await;
    let device = world.device(&service, "user-0001").await;
    let challenge = world.challenge(&device.enrollment, &[]).await;
    let of_device = Http::new(world.server.url()).auth(device.auth());
    let mut streams = Vec::new();
    for (client, path) in [
        (of_device.clone(), device.path()),
        (world.backend(), device.path()),
        (of_device.clone(), challenge_path(&challenge)),
        (of_device.clone(), device.path()),
        // Streams of backends for a challenge do not count.
        (world.backend(), challenge_path(&challenge)),
    ] {
        let mut events = open(&client, &path).await;
        assert_eq!(named(&mut events).await.0, "challenge.pending");
        streams.push(events);
    }
    next(&mut open(&of_device, &device.path()).await).await;
    let oldest = &mut streams[0];
    assert_eq!(named(oldest).await.0, "snapshot");
    let end = next(oldest).await;
    assert_eq!((end.name.as_deref(), end.retry.as_deref()), (Some("end"), Some("30000")));
    assert_eq!(end.json(), json!({ "why": "overload" }));
    assert_eq!(oldest.next().await, None);
    // The others go on.
    assert_eq!(world.backend().delete(&device.path(), &[]).await.status, 204);
    assert_eq!(named(&mut streams[1]).await.0, "snapshot");
    assert_eq!(named(&mut streams[1]).await.0, "challenge.expired");
}

/// A client repeats a poll that ends early, so polls must not end each other.
#[tokio::test]
async fn fifth_poll_of_a_device_is_refused_and_ends_no_other() {
    let world = World::sqlite_with(&metrics::LISTEN);
    let service = world.service().await;
    let device = world.device(&service, "user-0001").await;
    let challenge = world.challenge(&device.enrollment, &[]).await;
    let of_device = Http::new(world.server.url()).auth(device.auth());
    let path = stream_path(&challenge_path(&challenge));
    let polls: Vec<_> = (0..4)
        .map(|_| {
            let (client, path) = (of_device.clone(), path.clone());
            tokio::spawn(async move { client.get(&path, &[("Wait", "60")]).await })
        })
        .collect();
    let address = metrics::address(|| world.server.log()).await;
    wait_until("four polls are open", WAIT_TIMEOUT, async || {
        let open = metrics::read(&address).await.sum("countersign_streams_open", &[("kind", "poll")]);
        (open >= 4.0).then_some(())
    })
    .await;
    let refused = of_device.get(&path, &[("Wait", "1")]).await;
    assert_error(&refused, 429, 20429);
    assert_eq!(refused.header("retry-after"), Some("5"));
    for poll in polls {
        assert!(!poll.is_finished());
        poll.abort();
    }
}

#[tokio::test]
async fn server_without_streams_refuses_them_after_authorization() {
    let world = World::sqlite_with(&["--max-streams", "0"]);
    let service = world.service().await;
    let device = world.device(&service, "user-0001").await;
    let challenge = world.challenge(&device.enrollment, &[]).await;
    for path in [challenge_path(&challenge), device.path(), format!("/v2/Services/{service}")] {
        assert_error(&world.backend().get(&stream_path(&path), &[]).await, 501, 20501);
        assert_error(&Http::new(world.server.url()).get(&stream_path(&path), &[]).await, 401, 20003);
    }
}
