//! Deletion of large services and entities: it returns at once, and other requests proceed while rows are
//! removed.

use std::process::Command;
use std::time::{Duration, Instant};

use device::{Answer, Style};
use harness::{Storage, wait_until};

use crate::world::{World, assert_error, created, entity, on_every_database};

/// The number of entities inserted into a service past the server, each with three challenges.
const ENTITY_COUNT: u32 = 4000;

/// The longest wait until the rows are removed.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs SQL past the server and returns its output. Returns `None` and prints a notice if there is no program
/// to run it.
pub(crate) fn sql(world: &World, text: &str) -> Option<String> {
    let Storage::Sqlite(data_dir) = &world.storage else {
        return Some(world.database.as_ref().unwrap().psql(text));
    };
    let file = data_dir.join("countersign.db");
    let Ok(output) = Command::new("sqlite3").args(["-cmd", ".timeout 10000"]).arg(file).arg(text).output()
    else {
        eprintln!("SKIPPED: there is no sqlite3");
        return None;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{text}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Returns an SQL `WITH` clause for a table `n (i)` that holds the numbers from 1 to `count`.
fn numbers(count: u32) -> String {
    format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
}

/// Returns an SQL expression for the 16 bytes of a SID, which contain `begin` and the number `i`.
fn numbered_sid(world: &World, begin: &str) -> String {
    match world.storage {
        Storage::Postgres { .. } => {
            format!("CAST('{begin}' || lpad(CAST(i AS TEXT), {}, '0') AS UUID)", 32 - begin.len())
        }
        _ => format!("CAST('{begin}' || printf('%0{}d', i) AS BLOB)", 16 - begin.len()),
    }
}

/// Returns an SQL expression for the 16 bytes of `sid`, as the database stores them.
pub(crate) fn stored_sid(world: &World, sid: &str) -> String {
    let digits = &sid[2..];
    match world.storage {
        Storage::Postgres { .. } => format!("CAST('{digits}' AS UUID)"),
        _ => format!("X'{digits}'"),
    }
}

/// Returns an SQL expression for the columns of a challenge after its keys: pending until long after the test.
fn challenge_columns(world: &World) -> String {
    let factor = stored_sid(world, "YF03000000000000000000000000000000");
    format!("{factor}, 'push', 'pending', 'Sign in?', '[]', 4102444800000000, 1, 1 FROM")
}

/// Inserts [`ENTITY_COUNT`] entities and their challenges into a service. Returns `None` if SQL cannot be
/// run.
fn fill(world: &World, account: &str, service: &str) -> Option<()> {
    let numbers = numbers(ENTITY_COUNT);
    let (entity, challenge) = (numbered_sid(world, "e"), |kind| numbered_sid(world, kind));
    let (account, service) = (stored_sid(world, account), stored_sid(world, service));
    sql(
        world,
        &format!(
            "{numbers} INSERT INTO entities (sid, account_sid, service_sid, identity, created_at, updated_at) \
             SELECT {entity}, {account}, {service}, 'crowd-' || i, i, i FROM n"
        ),
    )?;
    for kind in ["a", "b", "c"] {
        sql(
            world,
            &format!(
                "{numbers} INSERT INTO challenges (sid, account_sid, service_sid, entity_sid, identity, factor_sid, \
                 factor_type, status, message, fields, expires_at, created_at, updated_at) \
                 SELECT {}, {account}, {service}, {entity}, 'crowd-' || i, {} n",
                challenge(kind),
                challenge_columns(world)
            ),
        )?;
    }
    Some(())
}

/// Returns the number of rows of this service in a table.
fn rows(world: &World, table: &str, service: &str) -> u32 {
    let count = format!("SELECT count(*) FROM {table} WHERE service_sid = {}", stored_sid(world, service));
    sql(world, &count).unwrap().parse().unwrap()
}

on_every_database! {
    async fn deleting_a_large_service_does_not_block_other_writes(world: World) {
        let mut world = world;
        let backend = world.backend();
        let (doomed, other) = (world.service().await, world.service().await);
        let (phone, enrollment) = world.enrolled(Style::Android, &doomed, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let challenge = challenge["sid"].as_str().unwrap();
        let path = format!("/v2/Services/{doomed}");
        let account = backend.get(&path, &[]).await.json()["account_sid"].as_str().unwrap().to_owned();
        if fill(&world, &account, &doomed).is_none() {
            return;
        }

        assert_eq!(backend.delete(&path, &[]).await.status, 204);

        // Most rows still exist, but no request finds them.
        assert!(rows(&world, "challenges", &doomed) > ENTITY_COUNT);
        let gone = entity(&doomed, "user-0001");
        let factor = format!("{gone}/Factors/{}", enrollment.factor_sid);
        for gone in [
            path.clone(),
            gone.clone(),
            factor,
            format!("{gone}/Factors"),
            format!("{gone}/Challenges"),
            format!("{gone}/Challenges/{challenge}"),
            format!("{path}/Entities"),
            format!("{path}/Webhooks"),
            entity(&doomed, "crowd-4000"),
        ] {
            assert_error(&backend.get(&gone, &[]).await, 404, 20404);
        }
        assert_error(&backend.delete(&path, &[]).await, 404, 20404);
        assert_error(&backend.post(&format!("{path}/Entities"), &[("Identity", "user-0002")]).await, 404, 20404);
        assert!(phone.answer(&enrollment, challenge, Answer::Approved).await.is_err());
        assert!(backend.get("/v2/Services", &[]).await.json().to_string().contains(&other));
        assert!(!backend.get("/v2/Services", &[]).await.json().to_string().contains(&doomed));

        // After a kill in the middle, the restarted server continues.
        world.server.kill9();
        world.server.restart();
        let backend = world.backend();
        let (mut longest, mut written) = (Duration::ZERO, 0);
        wait_until("all rows are gone", WAIT_TIMEOUT, async || {
            let began = Instant::now();
            let identity = format!("user-{written:04}");
            let path = format!("/v2/Services/{other}/Entities");
            created(&backend.post(&path, &[("Identity", identity.as_str())]).await);
            longest = longest.max(began.elapsed());
            written += 1;
            (written % 10 == 0 && rows(&world, "entities", &doomed) == 0).then_some(())
        })
        .await;
        assert!(longest < Duration::from_secs(4), "a write took {longest:?}");
        wait_until("the service is deleted", WAIT_TIMEOUT, async || {
            let count = format!("SELECT count(*) FROM services WHERE sid = {}", stored_sid(&world, &doomed));
            (sql(&world, &count).unwrap() == "0").then_some(())
        })
        .await;
        for table in ["challenges", "factors", "access_tokens", "webhooks"] {
            assert_eq!(rows(&world, table, &doomed), 0, "{table}");
        }
        assert_eq!(rows(&world, "entities", &other), written);
    }
}

on_every_database! {
    async fn deleted_identity_can_be_recreated_while_its_challenges_are_being_removed(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let challenge = challenge["sid"].as_str().unwrap();
        let path = entity(&service, "user-0001");
        let old = backend.get(&path, &[]).await.json();
        let many = format!(
            "{} INSERT INTO challenges (sid, account_sid, service_sid, entity_sid, identity, factor_sid, factor_type, status, message, \
             fields, expires_at, created_at, updated_at) SELECT {}, {}, {}, {}, 'user-0001', {} n",
            numbers(10_000),
            numbered_sid(&world, "d"),
            stored_sid(&world, old["account_sid"].as_str().unwrap()),
            stored_sid(&world, &service),
            stored_sid(&world, old["sid"].as_str().unwrap()),
            challenge_columns(&world),
        );
        if sql(&world, &many).is_none() {
            return;
        }

        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        let entities = format!("/v2/Services/{service}/Entities");
        let new = created(&backend.post(&entities, &[("Identity", "user-0001")]).await);

        assert!(rows(&world, "challenges", &service) > 0, "they are removed afterwards");
        assert_ne!(new["sid"], old["sid"]);
        let listed = backend.get(&entities, &[]).await.json();
        assert_eq!(listed["entities"].as_array().unwrap().len(), 1, "{listed}");
        for list in ["Factors", "Challenges"] {
            let listed = backend.get(&format!("{path}/{list}"), &[]).await.json();
            assert_eq!(listed[list.to_lowercase()].as_array().unwrap().len(), 0, "{listed}");
        }
        assert_error(&backend.get(&format!("{path}/Challenges/{challenge}"), &[]).await, 404, 20404);
        assert!(phone.answer(&enrollment, challenge, Answer::Approved).await.is_err());
        wait_until("its rows are gone", WAIT_TIMEOUT, async || {
            let is_gone = rows(&world, "challenges", &service) == 0 && rows(&world, "entities", &service) == 1;
            is_gone.then_some(())
        })
        .await;
        assert_eq!(backend.get(&path, &[]).await.json()["sid"], new["sid"]);
    }
}
