//! The chain of the audit log against an attacker who may write into the database and lacks the master key: what a
//! server that runs refuses, and what checkpoints outside of the database show.

use std::process::Command;
use std::time::Duration;

use harness::{Server, Storage, wait_until};

use crate::audit::{exported, head, sql};
use crate::metrics;
use crate::world::{World, on_every_database};

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this machine lacks what the tests write into the database with.
fn lacks_sqlite3(world: &World) -> bool {
    let lacks = matches!(world.storage, Storage::Sqlite(_))
        && Command::new("sqlite3").arg("-version").output().is_err();
    if lacks {
        eprintln!("SKIPPED on SQLite: there is no sqlite3");
    }
    lacks
}

/// Keeps the end of the chain, as an attacker does.
fn note_end(world: &World) {
    sql(world, "CREATE TABLE kept_chain AS SELECT * FROM audit_chain");
}

/// Puts the kept end back and makes the lines behind it wait, in one transaction; `and` does something to them.
fn put_end_back(world: &World, and: &str) {
    let of_the_table = if world.database.is_some() { " ON audit_log" } else { "" };
    let triggers = ["audit_log_stays", "audit_log_is_kept"]
        .map(|trigger| format!("DROP TRIGGER IF EXISTS {trigger}{of_the_table};"))
        .concat();
    sql(
        world,
        &format!(
            "BEGIN; {triggers} DELETE FROM audit_chain; INSERT INTO audit_chain SELECT * FROM kept_chain; \
             UPDATE audit_log SET number = NULL, mac = NULL WHERE number > (SELECT head_number FROM audit_chain); \
             {and}; COMMIT"
        ),
    );
}

/// The refusal of a server that finds an older end.
const REFUSAL: &str = "the audit log was put back or rewritten";

on_every_database! {
    serving &metrics::LISTEN;
    async fn chain_that_is_put_back_and_rewritten_is_refused(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        let mut world = world;
        world.service().await;
        let before = exported(&world).await.len();
        note_end(&world);
        for _ in 0..3 {
            world.service().await;
        }
        assert_eq!(exported(&world).await.len(), before + 3);
        // A command may have chained the last ones.
        has_seen(&world.server, before + 3).await;
        let noted = head(&world);
        put_end_back(
            &world,
            "UPDATE audit_log SET event_type = 'service.updated' WHERE sid = \
             (SELECT MIN(sid) FROM audit_log WHERE number IS NULL); DELETE FROM audit_log WHERE sid = \
             (SELECT MAX(sid) FROM audit_log WHERE number IS NULL)",
        );
        wait_until("the server refuses the older end", PATIENCE, async || {
            world.server.log().contains(REFUSAL).then_some(())
        })
        .await;
        let address = metrics::address(|| world.server.log()).await;
        assert!(metrics::read(&address).await.sum("countersign_audit_chain_refusals", &[]) > 0.0);
        // It goes on serving, and refusing.
        world.service().await;
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("2 of the lines that are not chained yet carry no valid MAC"), "{refusal}");
        let refusal = world.refusal(&["audit", "verify", "--since", &noted]);
        assert!(refusal.contains("cut off") || refusal.contains("carry no valid MAC"), "{refusal}");

        // A server that starts has seen no later end, but does not chain what was altered either.
        world.server.restart();
        wait_until("the server reports lines without a valid MAC", PATIENCE, async || {
            world.server.log().contains("they carry no valid MAC").then_some(())
        })
        .await;
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("2 of the lines"), "{refusal}");
        let address = metrics::address(|| world.server.log()).await;
        assert_eq!(metrics::read(&address).await.sum("countersign_audit_lines_unauthenticated", &[]), 2.0);

        // An operator who has looked at them can accept them, and that leaves a line.
        world.server.terminate();
        assert_eq!(world.command(&["audit", "accept"]), "accepted      2 lines\n");
        world.command(&["audit", "verify"]);
        assert!(world.command(&["audit", "list"]).contains("events.accepted"));
    }
}

on_every_database! {
    async fn line_that_is_altered_while_it_waits_is_not_chained(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        world.service().await;
        exported(&world).await;
        // The triggers permit this: the line is not chained yet.
        sql(
            &world,
            "INSERT INTO audit_log (sid, actor_type, event_type, data, created_at, waiting_mac) \
             SELECT 'AE00000000000000000000000000000000', actor_type, event_type, data, created_at, mac \
             FROM audit_log WHERE number = 1",
        );
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("1 of the lines that are not chained yet carry no valid MAC"), "{refusal}");
        // Those that are right are chained all the same.
        let before = world.command(&["audit", "export"]).lines().count();
        world.service().await;
        wait_until("the next line is chained", PATIENCE, async || {
            (world.command(&["audit", "export"]).lines().count() == before + 1).then_some(())
        })
        .await;
    }
}

/// Waits until a server has seen this many chained lines.
async fn has_seen(server: &Server, lines: usize) {
    let address = metrics::address(|| server.log()).await;
    wait_until("the server has seen the end", PATIENCE, async || {
        let seen = metrics::read(&address).await.sum("countersign_audit_chain_head", &[]);
        (seen >= lines as f64).then_some(())
    })
    .await;
}

/// Neither the server that chained nor one that only looked on goes back, while a third one starts from the older end.
#[tokio::test]
async fn servers_on_one_database_refuse_an_older_end() {
    let test = "chain::servers_on_one_database_refuse_an_older_end";
    let Some(world) = World::postgres_with(test, &metrics::LISTEN) else { return };
    let other = world.another_server(&metrics::LISTEN);
    note_end(&world);
    for _ in 0..3 {
        world.service().await;
    }
    let lines = exported(&world).await.len();
    for server in [&world.server, &other] {
        has_seen(server, lines).await;
    }
    put_end_back(&world, "DELETE FROM audit_log WHERE number IS NULL");
    let third = world.another_server(&[]);
    world.service().await;
    for server in [&world.server, &other] {
        wait_until("the server refuses the older end", PATIENCE, async || {
            server.log().contains(REFUSAL).then_some(())
        })
        .await;
    }
    assert!(!third.log().contains(REFUSAL));
    drop(third);
}

/// Tries to start a server, which must refuse, and returns why.
fn start_refused(world: &World, file: &str) -> String {
    world.refusal(&["serve", "--listen", "127.0.0.1:0", "--audit-checkpoint-file", file])
}

on_every_database! {
    async fn server_refuses_to_start_behind_its_checkpoint_file(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        let mut world = world;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoints").display().to_string();
        let option = ["--audit-checkpoint-file", &*file];
        world.server.terminate();
        note_end(&world);
        world.server.restart_with(&option);
        for _ in 0..3 {
            world.service().await;
        }
        world.server.terminate();
        let noted = head(&world);
        let text = std::fs::read_to_string(&file).unwrap();
        let (last, count) = (text.lines().last().unwrap(), text.lines().count());
        assert!(count >= 2 && last.contains(&format!(" reached {noted} ")), "{text}");
        assert!(world.server.log().contains(&format!("head={noted}")), "{}", world.server.log());
        let said = world.command(&[&["audit", "verify"], &option[..]].concat());
        assert!(said.contains(&format!("checkpoints   {count}, none contradicts them")), "{said}");

        // An older copy of the whole log: nothing in the database shows it.
        put_end_back(&world, "DELETE FROM audit_log WHERE number IS NULL");
        world.command(&["audit", "verify"]);
        let refusal = world.refusal(&[&["audit", "verify"], &option[..]].concat());
        assert!(refusal.contains("cut off"), "{refusal}");
        let refusal = start_refused(&world, &file);
        assert!(refusal.contains(REFUSAL) && refusal.contains("countersign audit accept"), "{refusal}");
        // A line that a crash cut off changes nothing.
        std::fs::write(&file, format!("{text}{}", &last[..60])).unwrap();
        assert!(start_refused(&world, &file).contains(REFUSAL));
        // Nor does one that was altered.
        std::fs::write(&file, text.replace(" reached ", " accepted ")).unwrap();
        assert!(start_refused(&world, &file).contains("not signed with the audit key"));
        std::fs::write(&file, format!("{text}{}", &last[..60])).unwrap();

        let said = world.command(&[&["audit", "accept"], &option[..]].concat());
        assert!(said.contains("accepted      head "), "{said}");
        world.command(&[&["audit", "verify"], &option[..]].concat());
        world.server.restart();
        world.service().await;
        world.server.terminate();
        assert!(world.command(&["audit", "list"]).contains("events.accepted"));

        // A log that was begun anew has another key.
        sql(&world, "DELETE FROM audit_log; DELETE FROM audit_chain");
        let refusal = start_refused(&world, &file);
        assert!(refusal.contains("not signed with the audit key of this database"), "{refusal}");
    }
}

/// A server without a file publishes its checkpoints in its log.
#[tokio::test]
async fn checkpoints_are_in_the_log_at_start_and_stop() {
    let mut world = World::sqlite();
    world.service().await;
    world.server.terminate();
    let log = world.server.log();
    let checkpoints: Vec<_> =
        log.lines().filter(|line| line.contains("checkpoint of the audit log")).collect();
    assert!(checkpoints.len() >= 2, "{log}");
    let noted = head(&world);
    assert!(checkpoints.last().unwrap().contains(&noted), "{log}");
    assert!(world.command(&["audit", "verify", "--since", &noted]).contains(&noted));
}
