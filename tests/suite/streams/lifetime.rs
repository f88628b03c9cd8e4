//! Streams over time: signs of life, credentials that become invalid, and the stop of the server.

use std::time::Instant;

use device::{Answer, Style};
use harness::Auth;

use super::*;
use crate::world::on_every_database;

/// Creates an API key and returns a client with it, and the key's SID.
fn api_key(world: &World) -> (Http, String) {
    let printed = world.command(&["api-key", "create", world.server.account_sid()]);
    let words: Vec<_> = printed.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    let auth = Auth::Basic(words[0].to_owned(), words[1].to_owned());
    (Http::new(world.server.url()).auth(auth), words[0].to_owned())
}

on_every_database! {
    async fn stream_ends_before_its_next_event_if_the_credentials_were_revoked(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let (client, key) = api_key(&world);
        let mut of_key = open(&client, &challenge_path(&challenge)).await;
        let mut of_account = open(&world.backend(), &challenge_path(&challenge)).await;
        for events in [&mut of_key, &mut of_account] {
            assert_eq!(named(events).await.0, "challenge.pending");
        }
        world.command(&["api-key", "revoke", &key]);
        world.command(&["account", "rotate-token", world.server.account_sid()]);
        answer(&phone, &enrollment, &challenge, Answer::Approved).await;
        assert_ends(&mut of_key, "unauthorized").await;
        assert_ends(&mut of_account, "unauthorized").await;
    }
}

/// The credentials are also checked while there is nothing to send: after a minute, when the stream next reads.
#[tokio::test]
async fn idle_stream_sends_signs_of_life_and_ends_if_the_credentials_were_revoked() {
    let world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let (client, key) = api_key(&world);
    let mut events = client.events(&stream_path(&challenge_path(&challenge)), Duration::from_secs(60)).await;
    assert_eq!(named(&mut events).await.0, "challenge.pending");
    world.command(&["api-key", "revoke", &key]);
    let revoked_at = Instant::now();
    let mut comments = 0;
    let end = loop {
        let event = events.next().await.unwrap();
        if event.comment.is_none() {
            break event;
        }
        assert_eq!(event.comment.as_deref(), Some("keep-alive"));
        comments += 1;
    };
    assert_eq!(end.json(), json!({ "why": "unauthorized" }));
    assert!(comments >= 3, "{comments}");
    assert!(revoked_at.elapsed() < Duration::from_secs(120), "{:?}", revoked_at.elapsed());
}

#[tokio::test]
async fn stopping_server_ends_all_streams_at_once() {
    let mut world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let path = challenge_path(&challenge);
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut events = open(&world.backend(), &path).await;
        next(&mut events).await;
        streams.push(events);
    }
    let backend = world.backend();
    let poll_path = format!("{}?Wait=20", stream_path(&path));
    let poll = tokio::spawn(async move { backend.get(&poll_path, &[]).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || (world.server.terminate(), world));
    for mut events in streams {
        assert_ends(&mut events, "draining").await;
    }
    assert_eq!(poll.await.unwrap().json()["status"], "pending");
    let (status, _world) = stopped.await.unwrap();
    assert!(status.success());
    // Three seconds on an undisturbed machine.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
