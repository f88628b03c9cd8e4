//! Streams on one server of changes that were made through another.

use std::time::Instant;

use device::{Answer, Style};
use harness::{Auth, Server};

use super::*;

/// Returns a client of another server of this world, with the credentials of the world's account.
fn backend_of(world: &World, server: &Server) -> Http {
    let (sid, token) = (world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
    server.http().auth(Auth::Basic(sid, token))
}

/// Follows challenges on a second server, answers them on the first, and returns the longest time that an answer took.
async fn longest_delay(world: &World, count: u32) -> Duration {
    let other = world.another_server(&[]);
    let backend = backend_of(world, &other);
    let service = world.service().await;
    let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let challenge = world.challenge(&enrollment, &[]).await;
        let mut of_factor = open(&backend, &factor_path(&enrollment)).await;
        let mut events = open(&backend, &challenge_path(&challenge)).await;
        assert_eq!(named(&mut events).await.0, "challenge.pending");
        assert_eq!(named(&mut of_factor).await.0, "challenge.pending");
        assert_eq!(named(&mut of_factor).await.0, "snapshot");
        let began = Instant::now();
        answer(&phone, &enrollment, &challenge, Answer::Approved).await;
        assert_eq!(named(&mut events).await.0, "challenge.approved");
        assert_eq!(named(&mut of_factor).await.0, "challenge.approved");
        longest = longest.max(began.elapsed());
    }
    longest
}

fn factor_path(enrollment: &Enrollment) -> String {
    let entity = entity(&enrollment.service_sid, &enrollment.identity);
    format!("{entity}/Factors/{}", enrollment.factor_sid)
}

#[tokio::test]
async fn answer_through_another_server_reaches_the_stream() {
    let test = "streams::nodes::answer_through_another_server_reaches_the_stream";
    let Some(world) = World::postgres_with(test, &[]) else { return };
    let delay = longest_delay(&world, 5).await;
    // A stream reads without a notice only every fifteen seconds.
    assert!(delay < Duration::from_secs(5), "{delay:?}");
    // Servers whose connection for announcements was cut open a new one.
    let database = world.database.as_ref().unwrap();
    database.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    );
    longest_delay(&world, 1).await;
}

/// Without announcements, a stream finds a change when it reads again.
#[tokio::test]
async fn answer_through_another_server_reaches_the_stream_without_announcements() {
    let test = "streams::nodes::answer_through_another_server_reaches_the_stream_without_announcements";
    let Some(world) = World::pooled_with(test, &[]) else { return };
    let delay = longest_delay(&world, 1).await;
    assert!(delay < Duration::from_secs(20), "{delay:?}");
}
