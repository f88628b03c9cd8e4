//! The audit chain against an attacker with write access to the database but without the master key: what a
//! running server refuses, and what checkpoints outside the database detect.

use std::process::Command;

use harness::{Server, Storage, wait_until};

use super::{exported, head, sql};
use crate::metrics;
use crate::world::{WAIT_TIMEOUT, World, on_every_database};

/// Returns whether SQLite's command-line program, which the tests write with, is missing.
fn lacks_sqlite3(world: &World) -> bool {
    let lacks = matches!(world.storage, Storage::Sqlite(_))
        && Command::new("sqlite3").arg("-version").output().is_err();
    if lacks {
        eprintln!("SKIPPED on SQLite: there is no sqlite3");
    }
    lacks
}

/// Saves a copy of the stored chain ends in the database.
fn save_end(world: &World) {
    sql(world, "CREATE TABLE kept_chain AS SELECT * FROM audit_chain");
}

/// Restores the copied end and unchains the records after it, in one transaction together with the statements
/// `and`.
fn restore_end(world: &World, and: &str) {
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

/// The log text of a server that finds an older end.
const ROLLBACK_REFUSAL: &str = "the audit log was rolled back or rewritten";

on_every_database! {
    serving &metrics::LISTEN;
    async fn running_server_refuses_a_rolled_back_and_rewritten_audit_chain(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        let mut world = world;
        world.service().await;
        let before = exported(&world).await.len();
        save_end(&world);
        for _ in 0..3 {
            world.service().await;
        }
        assert_eq!(exported(&world).await.len(), before + 3);
        // A command may have chained the last records.
        has_seen(&world.server, before + 3).await;
        let noted = head(&world);
        restore_end(
            &world,
            "UPDATE audit_log SET event_type = 'service.updated' WHERE sid = \
             (SELECT sid FROM audit_log WHERE number IS NULL ORDER BY sid LIMIT 1); DELETE FROM audit_log WHERE sid = \
             (SELECT sid FROM audit_log WHERE number IS NULL ORDER BY sid DESC LIMIT 1)",
        );
        wait_until("the server refuses the older end", WAIT_TIMEOUT, async || {
            world.server.log().contains(ROLLBACK_REFUSAL).then_some(())
        })
        .await;
        let address = metrics::address(|| world.server.log()).await;
        assert!(metrics::read(&address).await.sum("countersign_audit_chain_refusals", &[]) > 0.0);
        // The server keeps serving, and keeps refusing to chain.
        world.service().await;
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("2 unchained records carry no valid MAC"), "{refusal}");
        let refusal = world.refusal(&["audit", "verify", "--checkpoint", &noted]);
        assert!(refusal.contains("cut off") || refusal.contains("carry no valid MAC"), "{refusal}");

        // A restarted server has seen no later end, but does not chain altered records either.
        world.server.restart();
        wait_until("the server reports lines without a valid MAC", WAIT_TIMEOUT, async || {
            world.server.log().contains("they carry no valid MAC").then_some(())
        })
        .await;
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("2 unchained records"), "{refusal}");
        let address = metrics::address(|| world.server.log()).await;
        assert_eq!(metrics::read(&address).await.sum("countersign_audit_lines_unauthenticated", &[]), 2.0);

        // An operator who has checked them can accept them, which leaves a record.
        world.server.terminate();
        assert_eq!(world.command(&["audit", "accept"]), "accepted      2 records\n");
        world.command(&["audit", "verify"]);
        assert!(world.command(&["audit", "list"]).contains("events.accepted"));
    }
}

on_every_database! {
    async fn audit_record_altered_before_chaining_is_never_chained(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        world.service().await;
        exported(&world).await;
        // The triggers permit this, because the record is not chained yet.
        sql(
            &world,
            "INSERT INTO audit_log (sid, actor_type, event_type, data, created_at, waiting_mac) \
             SELECT account_sid, actor_type, event_type, data, created_at, mac \
             FROM audit_log WHERE number = 1",
        );
        let refusal = world.refusal(&["audit", "verify"]);
        assert!(refusal.contains("1 unchained records carry no valid MAC"), "{refusal}");
        // Valid records are chained nevertheless.
        let before = world.command(&["audit", "export"]).lines().count();
        world.service().await;
        wait_until("the next record is chained", WAIT_TIMEOUT, async || {
            (world.command(&["audit", "export"]).lines().count() == before + 1).then_some(())
        })
        .await;
    }
}

/// Waits until the server reports that it has read `lines` chained records.
async fn has_seen(server: &Server, lines: usize) {
    let address = metrics::address(|| server.log()).await;
    wait_until("the server has seen the end", WAIT_TIMEOUT, async || {
        let seen = metrics::read(&address).await.sum("countersign_audit_chain_head", &[]);
        (seen >= lines as f64).then_some(())
    })
    .await;
}

/// Neither the server that chained nor one that only watched accepts an older end, while a newly started one
/// does.
#[tokio::test]
async fn servers_that_wrote_or_read_a_newer_chain_end_refuse_an_older_one() {
    let test = "audit::rollback::servers_that_wrote_or_read_a_newer_chain_end_refuse_an_older_one";
    let Some(world) = World::postgres_with(test, &metrics::LISTEN) else { return };
    let other = world.another_server(&metrics::LISTEN);
    save_end(&world);
    for _ in 0..3 {
        world.service().await;
    }
    let lines = exported(&world).await.len();
    for server in [&world.server, &other] {
        has_seen(server, lines).await;
    }
    restore_end(&world, "DELETE FROM audit_log WHERE number IS NULL");
    let third = world.another_server(&[]);
    world.service().await;
    for server in [&world.server, &other] {
        wait_until("the server refuses the older end", WAIT_TIMEOUT, async || {
            server.log().contains(ROLLBACK_REFUSAL).then_some(())
        })
        .await;
    }
    assert!(!third.log().contains(ROLLBACK_REFUSAL));
    drop(third);
}

/// Checks that a server does not start, and returns its error output.
fn start_refusal(world: &World, file: &str) -> String {
    world.refusal(&["serve", "--listen", "127.0.0.1:0", "--audit-checkpoint-file", file])
}

on_every_database! {
    async fn server_does_not_start_if_the_audit_chain_lacks_its_last_checkpoint(world: World) {
        if lacks_sqlite3(&world) {
            return;
        }
        let mut world = world;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoints").display().to_string();
        let option = ["--audit-checkpoint-file", &*file];
        world.server.terminate();
        save_end(&world);
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
        let output = world.command(&[&["audit", "verify"], &option[..]].concat());
        assert!(output.contains(&format!("checkpoints   {count}, all consistent with the records")), "{output}");

        // An older copy of the whole log, which nothing in the database reveals.
        restore_end(&world, "DELETE FROM audit_log WHERE number IS NULL");
        world.command(&["audit", "verify"]);
        let refusal = world.refusal(&[&["audit", "verify"], &option[..]].concat());
        assert!(refusal.contains("cut off"), "{refusal}");
        let refusal = start_refusal(&world, &file);
        assert!(refusal.contains(ROLLBACK_REFUSAL) && refusal.contains("countersign audit accept"), "{refusal}");
        // An incomplete last line, as after a crash, changes nothing.
        std::fs::write(&file, format!("{text}{}", &last[..60])).unwrap();
        assert!(start_refusal(&world, &file).contains(ROLLBACK_REFUSAL));
        // Neither does an altered line.
        std::fs::write(&file, text.replace(" reached ", " accepted ")).unwrap();
        assert!(start_refusal(&world, &file).contains("not signed with the audit key"));
        std::fs::write(&file, format!("{text}{}", &last[..60])).unwrap();

        let output = world.command(&[&["audit", "accept"], &option[..]].concat());
        assert!(output.contains("accepted      head "), "{output}");
        world.command(&[&["audit", "verify"], &option[..]].concat());
        world.server.restart();
        world.service().await;
        world.server.terminate();
        assert!(world.command(&["audit", "list"]).contains("events.accepted"));

        // A new, empty audit log has another key.
        sql(&world, "DELETE FROM audit_log; DELETE FROM audit_chain");
        let refusal = start_refusal(&world, &file);
        assert!(refusal.contains("not signed with the audit key of this database"), "{refusal}");
    }
}

/// A server without a checkpoint file writes its checkpoints to its log.
#[tokio::test]
async fn server_logs_an_audit_checkpoint_at_start_and_stop() {
    let mut world = World::sqlite();
    world.service().await;
    world.server.terminate();
    let log = world.server.log();
    let checkpoints: Vec<_> =
        log.lines().filter(|line| line.contains("audit checkpoint published")).collect();
    assert!(checkpoints.len() >= 2, "{log}");
    let noted = head(&world);
    assert!(checkpoints.last().unwrap().contains(&noted), "{log}");
    assert!(world.command(&["audit", "verify", "--checkpoint", &noted]).contains(&noted));
}
