//! Tampering with the audit log in the database is detected by `audit verify`, by the server and by housekeeping.

use std::process::Command;

use harness::{Storage, wait_until};

use super::{WAIT_TIMEOUT, exported, head, sql, text};
use crate::world::{World, on_every_database};

/// SQL that inserts a copy of record 6 as record 7. Its SID has the bytes of the account's SID.
const ADD_RECORD_7: &str = "INSERT INTO audit_log \
    (sid, number, mac, actor_type, event_type, data, created_at) \
    SELECT account_sid, 7, mac, actor_type, event_type, data, created_at \
    FROM audit_log WHERE number = 6";

/// A chain of six records, of which the database keeps a copy, while no server runs.
struct Chain {
    world: World,
    /// The checkpoint of record 6.
    checkpoint: String,
}

impl Chain {
    /// Creates the chain and drops the triggers that forbid changes; `None`, with a notice, if SQLite's
    /// command-line program is missing.
    async fn create(mut world: World) -> Option<Self> {
        let is_sqlite = matches!(world.storage, Storage::Sqlite(_));
        if is_sqlite && Command::new("sqlite3").arg("-version").output().is_err() {
            eprintln!("SKIPPED audit::tampering on SQLite: there is no sqlite3");
            return None;
        }
        for _ in 0..5 {
            world.service().await;
        }
        let records = exported(&world).await;
        assert_eq!(records.len(), 6);
        world.server.terminate();
        let checkpoint = head(&world);
        assert_eq!(checkpoint, format!("6:{}", text(&records[5], "mac")));
        let of_the_table = if world.database.is_some() { " ON audit_log" } else { "" };
        for trigger in ["audit_log_stays", "audit_log_is_kept"] {
            sql(&world, &format!("DROP TRIGGER {trigger}{of_the_table}"));
        }
        sql(&world, "CREATE TABLE kept_log AS SELECT * FROM audit_log");
        sql(&world, "CREATE TABLE kept_chain AS SELECT * FROM audit_chain");
        Some(Self { world, checkpoint })
    }

    /// Runs `statement`, checks that `audit verify` fails with an error that contains `expected`, and restores the
    /// chain.
    #[track_caller]
    fn assert_detects(&self, statement: &str, expected: &str) {
        sql(&self.world, statement);
        self.assert_verification_fails(statement, expected);
        self.restore();
    }

    #[track_caller]
    fn assert_verification_fails(&self, statement: &str, expected: &str) {
        let refusal = self.world.refusal(&["audit", "verify"]);
        assert!(refusal.contains(expected), "{statement}: {refusal}");
    }

    fn restore(&self) {
        sql(&self.world, "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept_log");
        sql(&self.world, "DELETE FROM audit_chain; INSERT INTO audit_chain SELECT * FROM kept_chain");
    }

    /// Waits until the server's log contains `expected` more than `before` times.
    async fn wait_for_log(&self, expected: &str, before: usize) {
        wait_until(&format!("the server logs {expected:?}"), WAIT_TIMEOUT, async || {
            (self.log_count(expected) > before).then_some(())
        })
        .await;
    }

    fn log_count(&self, expected: &str) -> usize {
        self.world.server.log().matches(expected).count()
    }
}

on_every_database! {
    async fn altered_audit_record_is_detected(world: World) {
        let Some(chain) = Chain::create(world).await else { return };
        for change in [
            "actor_type = 'operator'",
            "actor = NULL",
            "event_type = 'service.deleted'",
            "resource_sid = 'VA00000000000000000000000000000000'",
            "data = '{} '",
            "address = '192.0.2.1'",
            "request_sid = NULL",
            "created_at = created_at + 1",
            "account_sid = NULL",
            "mac = (SELECT key FROM audit_chain)",
            "sid = account_sid",
        ] {
            let update = format!("UPDATE audit_log SET {change} WHERE number = 3");
            chain.assert_detects(&update, "record 3 was altered");
        }
    }
}

on_every_database! {
    async fn removed_moved_and_added_audit_records_are_detected(world: World) {
        let Some(chain) = Chain::create(world).await else { return };
        chain.assert_detects("DELETE FROM audit_log WHERE number = 1", "records are missing: 1 to 1");
        chain.assert_detects("DELETE FROM audit_log WHERE number IN (3, 4)", "records are missing: 3 to 4");
        chain.assert_detects("DELETE FROM audit_log WHERE number = 6", "records are missing: 6 to 6");
        chain.assert_detects("DELETE FROM audit_log", "records are missing: 1 to 6");
        let swap = "UPDATE audit_log SET number = 100 WHERE number = 2; \
                    UPDATE audit_log SET number = 2 WHERE number = 4; \
                    UPDATE audit_log SET number = 4 WHERE number = 100";
        chain.assert_detects(swap, "record 2 now has number 4");
        let renumber = "UPDATE audit_log SET number = 7 WHERE number = 6";
        chain.assert_detects(renumber, "records are missing: 6 to 6");
        chain.assert_detects(ADD_RECORD_7, "record 7 was added");
        chain.assert_detects(&ADD_RECORD_7.replace(", 7, mac", ", 0, mac"), "record 0 was added");
    }
}

on_every_database! {
    async fn truncated_audit_chain_with_an_adjusted_stored_end_is_detected(world: World) {
        let Some(chain) = Chain::create(world).await else { return };
        // The seal covers both ends, so an attacker without the key cannot move them.
        let expected = "the stored ends of the chain";
        let without_newest = "DELETE FROM audit_log WHERE number > 4; UPDATE audit_chain SET head_number = 4, \
                              head_mac = (SELECT mac FROM audit_log WHERE number = 4)";
        chain.assert_detects(without_newest, expected);
        let without_oldest = "UPDATE audit_chain SET removed_number = 2, \
                              removed_mac = (SELECT mac FROM audit_log WHERE number = 2); \
                              DELETE FROM audit_log WHERE number <= 2";
        chain.assert_detects(without_oldest, expected);
        chain.assert_detects("UPDATE audit_chain SET seal = head_mac", expected);
    }
}

on_every_database! {
    async fn audit_records_that_violate_schema_constraints_are_detected(world: World) {
        let Some(chain) = Chain::create(world).await else { return };
        // An attacker who may change the schema can drop the constraints that keep numbers distinct, and that
        // require a number and a MAC together.
        sql(&chain.world, "DROP INDEX audit_log_chained");
        chain.assert_detects(&ADD_RECORD_7.replace(", 7, mac", ", 3, mac"), "record 3 ");
        let copy = ADD_RECORD_7.replace("number = 6", "number = 3").replace(", 7, mac", ", 3, mac");
        // The database decides which of the two is read first: it is a changed record, or the other a duplicate.
        chain.assert_detects(&copy, "record 3 ");
        let unchecked = if chain.world.database.is_some() {
            "ALTER TABLE audit_log DROP CONSTRAINT audit_log_check"
        } else {
            "PRAGMA ignore_check_constraints = ON"
        };
        let without_number = ADD_RECORD_7.replace(", 7, mac", ", NULL, mac");
        let expected = "has a number but no MAC, or a MAC but no number";
        chain.assert_detects(&format!("{unchecked}; {without_number}"), expected);
        // A record that no server wrote never becomes part of the chain.
        let unchained = without_number.replace("number, mac,", "").replace("NULL, mac,", "");
        chain.assert_detects(&unchained, "carry no valid MAC");
    }
}

on_every_database! {
    async fn server_stops_chaining_after_the_stored_chain_ends_are_altered(world: World) {
        let Some(mut chain) = Chain::create(world).await else { return };
        let expected = "audit chaining failed, will retry";
        for change in ["UPDATE audit_chain SET head_number = 4", "DELETE FROM audit_chain"] {
            chain.world.server.restart();
            let before = chain.log_count(expected);
            sql(&chain.world, change);
            chain.world.service().await;
            chain.wait_for_log(expected, before).await;
            chain.world.server.terminate();
            chain.restore();
        }
    }
}

on_every_database! {
    async fn housekeeping_keeps_altered_audit_records_that_appear_expired(world: World) {
        let Some(mut chain) = Chain::create(world).await else { return };
        let failure = "housekeeping failed";
        for (change, words) in [
            ("UPDATE audit_log SET created_at = 0 WHERE number <= 3", "record 1 was altered"),
            (
                "DELETE FROM audit_log WHERE number < 3; UPDATE audit_log SET created_at = 0 WHERE number = 3",
                "records are missing: 1 to 2",
            ),
        ] {
            let before = chain.log_count(failure);
            // With the lease deleted, the new server runs housekeeping immediately.
            sql(&chain.world, &format!("DELETE FROM leases; {change}"));
            chain.world.server.restart();
            chain.wait_for_log(failure, before).await;
            chain.world.server.terminate();
            chain.assert_verification_fails(change, words);
            chain.restore();
        }
    }
}

on_every_database! {
    async fn later_checkpoint_reveals_a_restored_older_chain(world: World) {
        let Some(mut chain) = Chain::create(world).await else { return };
        let checkpoint = chain.checkpoint.clone();
        let verify = |world: &World| world.command(&["audit", "verify", "--checkpoint", &checkpoint]);
        assert!(verify(&chain.world).contains("records       6,"));
        chain.world.server.restart();
        chain.world.service().await;
        assert_eq!(exported(&chain.world).await.len(), 7);
        chain.world.server.terminate();
        let later = head(&chain.world);
        assert!(verify(&chain.world).contains(&later));

        // An older copy with its own ends is valid in itself; only a later checkpoint shows that it is old.
        chain.restore();
        assert_eq!(head(&chain.world), checkpoint);
        let refusal = chain.world.refusal(&["audit", "verify", "--checkpoint", &later]);
        assert!(refusal.contains("cut off: it ends with record 6, before the checkpoint at record 7"), "{refusal}");
        let another = format!("5:{}", &checkpoint[2..]);
        let refusal = chain.world.refusal(&["audit", "verify", "--checkpoint", &another]);
        assert!(refusal.contains("record 5 does not match the checkpoint"), "{refusal}");
        assert!(chain.world.refusal(&["audit", "verify", "--checkpoint", "6"]).contains("NUMBER:MAC"));
    }
}
