//! The stream of a service: records of the audit log, each at least once.

use std::collections::BTreeSet;
use std::process::Command;

use device::{Answer, Style};
use harness::wait_until;

use super::*;
use crate::world::{WAIT_TIMEOUT, assert_error, on_every_database};

fn service_path(service: &str) -> String {
    format!("/v2/Services/{service}")
}

/// Returns the next event with data.
async fn next_data(events: &mut Events) -> Event {
    loop {
        let event = next(events).await;
        if event.data.is_some() {
            return event;
        }
    }
}

/// Returns the next position.
async fn next_position(events: &mut Events) -> i64 {
    loop {
        if let Some(id) = next(events).await.id {
            return id.parse().unwrap();
        }
    }
}

on_every_database! {
    async fn stream_sends_the_events_of_its_service_with_their_audit_records(world: World) {
        let (service, other) = (world.service().await, world.service().await);
        let mut events = open(&world.backend(), &service_path(&service)).await;
        let query = format!("{}?Types=challenge.denied,factor.*", stream_path(&service_path(&service)));
        let mut selected = world.backend().events(&query, EVENT_TIMEOUT).await;
        for events in [&mut events, &mut selected] {
            next_position(events).await;
        }
        world.enrolled(Style::Ios, &other, "user-0001").await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let mut names = Vec::new();
        for expected in ["factor.created", "factor.verified", "challenge.created"] {
            let event = next_data(&mut events).await;
            assert_eq!(event.name.as_deref(), Some(expected));
            names.push(event);
        }
        answer(&phone, &enrollment, &challenge, Answer::Denied).await;
        let denied = next_data(&mut events).await;
        let path = challenge_path(&challenge).replace(&format!("/Challenges/{}", challenge["sid"].as_str().unwrap()), "");
        let factor = format!("{path}/Factors/{}", enrollment.factor_sid);
        assert_eq!(world.backend().delete(&factor, &[]).await.status, 204);
        let deleted = next_data(&mut events).await;

        let mut expected = shown(&world, &challenge).await;
        expected["event_sid"] = denied.json()["event_sid"].clone();
        assert_eq!((denied.name.as_deref(), denied.json()), (Some("challenge.denied"), expected));
        let pending = names[2].json();
        assert_eq!((&pending["status"], &pending["date_responded"]), (&json!("pending"), &json!(null)));
        let deletion = deleted.json();
        assert_eq!(
            deletion,
            json!({
                "sid": enrollment.factor_sid,
                "service_sid": service,
                "entity_sid": deletion["entity_sid"],
                "identity": "user-0001",
                "status": "verified",
                "date_updated": deletion["date_updated"],
                "event_sid": deletion["event_sid"],
            })
        );
        for event in names.iter().chain([&denied, &deleted]) {
            let record = format!("/v1/Events/{}", event.json()["event_sid"].as_str().unwrap());
            let record = world.backend().get(&record, &[]).await.json();
            assert_eq!(record["event_type"], event.name.clone().unwrap());
            assert_eq!(record["resource_sid"], event.json()["sid"]);
        }
        for expected in ["factor.created", "factor.verified", "challenge.denied", "factor.deleted"] {
            assert_eq!(next_data(&mut selected).await.name.as_deref(), Some(expected));
        }
    }
}

#[tokio::test]
async fn deletion_of_the_service_ends_the_stream() {
    let world = World::sqlite();
    let service = world.service().await;
    let mut events = open(&world.backend(), &service_path(&service)).await;
    next_position(&mut events).await;
    assert_eq!(world.backend().delete(&service_path(&service), &[]).await.status, 204);
    assert_ends(&mut events, "gone").await;
}

#[tokio::test]
async fn stream_reports_a_position_from_which_it_cannot_continue() {
    let world = World::sqlite();
    let service = world.service().await;
    let path = service_path(&service);
    for (last_event_id, why) in [("9000000", "unknown"), ("x", "unknown"), ("-1", "removed")] {
        let client = world.backend().header("Last-Event-ID", last_event_id);
        let mut events = open(&client, &path).await;
        assert_eq!(named(&mut events).await, ("resync".to_owned(), json!({ "why": why })));
        assert!(next_position(&mut events).await >= 0);
    }
    for types in ["nothing", "challenge", "*", "service.*", ","] {
        assert_error(&world.backend().get(&stream_path(&path), &[("Types", types)]).await, 400, 60306);
    }
}

/// A client that follows a service, and continues after its position when it connects again.
#[derive(Default)]
struct Follower {
    position: Option<String>,
    /// SIDs of the audit records of created challenges.
    seen: BTreeSet<String>,
}

impl Follower {
    /// Follows the service on a new connection until `is_done`.
    async fn follow(&mut self, world: &World, service: &str, is_done: impl Fn(&Self) -> bool) {
        let client = match &self.position {
            Some(position) => world.backend().header("Last-Event-ID", position),
            None => world.backend(),
        };
        let mut events = client.events(&stream_path(&service_path(service)), WAIT_TIMEOUT).await;
        while !is_done(self) {
            let event = next(&mut events).await;
            match (&event.id, event.name.as_deref()) {
                (Some(id), None) => self.position = Some(id.clone()),
                (None, Some("challenge.created")) => {
                    self.seen.insert(event.json()["event_sid"].as_str().unwrap().to_owned());
                }
                (None, Some("factor.created" | "factor.verified")) => {}
                _ => panic!("{event:?}"),
            }
        }
    }
}

/// Returns the SIDs of the audit records of all created challenges.
async fn records_of_challenges(world: &World) -> BTreeSet<String> {
    let mut sids = BTreeSet::new();
    let mut path = Some("/v1/Events?EventType=challenge.created&PageSize=1000".to_owned());
    while let Some(url) = path {
        let page = world.backend().get(&url, &[]).await.json();
        let found = page["events"].as_array().unwrap().iter();
        sids.extend(found.map(|event| event["sid"].as_str().unwrap().to_owned()));
        path = page["meta"]["next_page_url"].as_str().map(str::to_owned);
    }
    sids
}

on_every_database! {
    async fn every_event_is_seen_over_kills_and_restarts(world: World) {
        let mut world = world;
        let service = world.service().await;
        let mut enrollments = Vec::new();
        for number in 0..4 {
            enrollments.push(world.enrolled(Style::Android, &service, &format!("user-{number:04}")).await.1);
        }
        let mut follower = Follower::default();
        follower.follow(&world, &service, |follower| follower.position.is_some()).await;
        for _ in 0..3 {
            let create = async |enrollment: &Enrollment| {
                for _ in 0..25 {
                    world.challenge(enrollment, &[]).await;
                }
            };
            let [a, b, c, d] = [0, 1, 2, 3].map(|index| create(&enrollments[index]));
            tokio::join!(a, b, c, d);
            // Some records are seen before the server is killed, which leaves others unchained.
            let enough = follower.seen.len() + 20;
            follower.follow(&world, &service, |follower| follower.seen.len() >= enough).await;
            world.server.kill9();
            world.server.restart();
        }
        let expected = records_of_challenges(&world).await;
        assert_eq!(expected.len(), 300);
        follower.follow(&world, &service, |follower| follower.seen.len() >= expected.len()).await;
        assert_eq!(follower.seen, expected);
    }
}

/// On PostgreSQL a transaction may commit after others that began later, and after the chain has moved past their
/// records.
#[tokio::test]
async fn event_of_a_transaction_that_commits_late_is_seen() {
    let test = "streams::service::event_of_a_transaction_that_commits_late_is_seen";
    let Some(world) = World::postgres_with(test, &[]) else { return };
    let service = world.service().await;
    let (_, late) = world.enrolled(Style::Android, &service, "user-late").await;
    let (_, other) = world.enrolled(Style::Android, &service, "user-0001").await;
    let mut follower = Follower::default();
    follower.follow(&world, &service, |follower| follower.position.is_some()).await;
    // The lock holds up the transaction of one challenge, after its time was read.
    let database = world.database.as_ref().unwrap();
    let lock = format!("SELECT sid FROM factors WHERE sid = '{}' FOR UPDATE", &late.factor_sid[2..]);
    let sql = format!("BEGIN; {lock}; SELECT pg_sleep(3); COMMIT");
    let psql = harness::postgres_program("psql").unwrap();
    let mut locking = Command::new(psql).args([&database.url, "-qc", &sql]).spawn().unwrap();
    wait_until("the factor is locked", WAIT_TIMEOUT, async || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (database.psql(sleeping) == "1").then_some(())
    })
    .await;
    let others = async {
        for _ in 0..5 {
            world.challenge(&other, &[]).await;
        }
        let start: i64 = follower.position.as_ref().unwrap().parse().unwrap();
        let is_past = |follower: &Follower| {
            let position: i64 = follower.position.as_ref().unwrap().parse().unwrap();
            follower.seen.len() == 5 && position >= start + 5
        };
        follower.follow(&world, &service, is_past).await;
    };
    tokio::join!(world.challenge(&late, &[]), others);
    assert!(locking.wait().unwrap().success());
    let expected = records_of_challenges(&world).await;
    assert_eq!(expected.len(), 6);
    follower.follow(&world, &service, |follower| follower.seen.len() == 6).await;
    assert_eq!(follower.seen, expected);
}
