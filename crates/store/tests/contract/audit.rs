//! The audit log and the audit chain.

use std::net::IpAddr;

use domain::audit::{Actor, AuditAction, AuditRecord, ChainPosition, Change, Mac};
use domain::{Account, EventSid, RequestSid, Sealed};
use store::{AuditChain, AuditFilter, Error, Location, Read, Store, UnchainedPosition, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    audit_record_is_read_back_unchanged,
    audit_record_does_not_require_its_account,
    event_is_found_only_by_its_account,
    events_are_listed_in_pages,
    events_are_filtered,
    audit_records_of_all_accounts_are_listed_newest_first,
    audit_records_are_chained_in_order,
    chained_audit_record_and_its_number_cannot_change,
    only_records_before_the_start_of_the_chain_are_deleted,
    audit_chain_is_created_once,
    audit_tail_reports_unchained_and_foreign_records,
    unchained_record_keeps_its_mac_until_it_is_chained,
    unchained_records_are_read_in_batches,
}

contract! { on postgres:
    locked_audit_chain_is_unavailable_to_other_servers,
}

contract! { on disk:
    altered_audit_records_are_reported_as_unreadable,
    audit_records_cannot_be_deleted_or_changed_with_sql,
    duplicate_and_half_chained_audit_records_are_reported,
    altered_unchained_record_is_reported_without_its_content,
    audit_record_that_the_database_drops_is_an_error,
}

contract! { on sqlite:
    audit_records_of_a_resource_are_found_by_index,
}

fn record(account: &Account) -> &'static AuditRecord {
    leak(AuditRecord::new(
        sid(),
        &Actor::Account(account.sid),
        Change::new(AuditAction::ServiceCreated, account.sid, sid::<domain::ServiceSid>()),
        Some(IpAddr::from([192, 0, 2, 1])),
        Some(sid::<RequestSid>()),
        NOW,
    ))
}

/// Returns the chain position with this number and an arbitrary MAC.
fn position(number: i64) -> ChainPosition {
    ChainPosition { number, mac: Mac([number as u8; 32]) }
}

fn audit_key() -> Sealed<()> {
    Sealed::from_bytes(all_bytes())
}

fn chain() -> AuditChain {
    AuditChain { removed: ChainPosition::START, head: ChainPosition::START, seal: Mac([1; 32]) }
}

/// Creates the audit chain and adds `count` chained records.
async fn insert_chain(store: &Store, account: &Account, count: i64) -> Vec<&'static AuditRecord> {
    let records: Vec<_> = (0..count).map(|_| record(account)).collect();
    add(store, records.clone()).await;
    let positions: Vec<_> =
        records.iter().zip(1..).map(|(record, number)| (record.sid, position(number))).collect();
    let write = async move |tx: &mut Write| {
        tx.insert_audit_chain(&chain(), &audit_key()).await?;
        tx.append_to_audit_chain(&positions).await?;
        tx.update_audit_chain(&ChainPosition::START, &position(count), &Mac([2; 32])).await
    };
    store.write(write).await.unwrap();
    records
}

/// Returns the records that are not chained yet.
async fn unchained(store: &Store) -> Vec<AuditRecord> {
    let found = read!(store, |db| db.unchained_records(&UnchainedPosition::START, 1000)).unwrap();
    found.into_iter().map(|waiting| waiting.record.unwrap()).collect()
}

async fn audit_record_is_read_back_unchanged(store: Store) {
    let account = account();
    let plain = record(account);
    let awkward = changed(plain, |record| {
        record.sid = sid();
        record.actor_type = TRICKY_TEXT.to_owned();
        record.actor = Some(TRICKY_TEXT.to_owned());
        record.event_type = TRICKY_TEXT.to_owned();
        record.resource_sid = Some(TRICKY_TEXT.to_owned());
        record.data = format!("{{ \"not\":  \"canonical\" }} {TRICKY_TEXT}");
        record.address = Some(TRICKY_TEXT.to_owned());
        record.request_sid = Some(TRICKY_TEXT.to_owned());
        record.created_at = MAX_TIME;
    });
    let bare = changed(plain, |record| {
        record.sid = sid();
        (record.actor, record.account_sid, record.resource_sid) = (None, None, None);
        (record.address, record.request_sid) = (None, None);
        record.created_at = MIN_TIME;
    });
    add(&store, [plain, awkward, bare]).await;
    assert_eq!(unchained(&store).await, [bare.clone(), plain.clone(), awkward.clone()], "oldest first");
    let event = async |record: &AuditRecord| {
        let sid = record.sid;
        read!(store, |db| db.event(account.sid, sid)).unwrap()
    };
    assert_eq!(event(plain).await.as_ref(), Some(plain));
    assert_eq!(event(awkward).await.as_ref(), Some(awkward));
    assert_eq!(event(bare).await, None);
}

async fn audit_record_does_not_require_its_account(store: Store) {
    let missing = account();
    add(&store, [record(missing)]).await;
    assert_eq!(unchained(&store).await.len(), 1);
}

async fn event_is_found_only_by_its_account(store: Store) {
    let (one, other) = (account(), account());
    let event = record(one);
    add(&store, [event]).await;
    for (account_sid, sid) in [(other.sid, event.sid), (one.sid, sid())] {
        assert_eq!(read!(store, |db| db.event(account_sid, sid)).unwrap(), None);
    }
}

async fn events_are_listed_in_pages(store: Store) {
    let (one, other) = (account(), account());
    let of = |account: &'static Account| {
        move |sid: EventSid, time| {
            changed(record(account), |record| (record.sid, record.created_at) = (sid, time))
        }
    };
    let records = scattered(of(one));
    add(&store, records.clone()).await;
    add(&store, [record(other)]).await;
    let filter = AuditFilter { event_type: Some("service.created".into()), ..AuditFilter::default() };
    for filter in [AuditFilter::default(), filter] {
        let page = async |request| {
            let filter = filter.clone();
            read!(store, |db| db.events(one.sid, &filter, &request)).unwrap()
        };
        assert_paged_list(&records, page).await;
    }
}

async fn events_are_filtered(store: Store) {
    let account = account();
    let created_at = |second, change: fn(&mut AuditRecord)| {
        changed(record(account), |record| {
            record.created_at = NOW.plus_seconds(second);
            change(record);
        })
    };
    let a = created_at(1, |record| record.actor = Some("SK01".into()));
    let b = created_at(2, |record| record.event_type = "service.deleted".into());
    let c = created_at(3, |record| record.address = Some("2001:db8::1".into()));
    add(&store, [a, b, c]).await;
    let none = AuditFilter::default;
    let at = |second| Some(NOW.plus_seconds(second));
    for (filter, expected) in [
        (none(), vec![a, b, c]),
        (AuditFilter { actor: a.actor.clone(), ..none() }, vec![a]),
        (AuditFilter { actor: Some(account.sid.to_string()), ..none() }, vec![b, c]),
        (AuditFilter { event_type: Some("service.deleted".into()), ..none() }, vec![b]),
        (AuditFilter { resource_sid: b.resource_sid.clone(), ..none() }, vec![b]),
        (AuditFilter { address: c.address.clone(), ..none() }, vec![c]),
        (AuditFilter { from: at(2), ..none() }, vec![b, c]),
        (AuditFilter { to: at(2), ..none() }, vec![a]),
        (AuditFilter { from: at(2), to: at(3), address: a.address.clone(), ..none() }, vec![b]),
        (AuditFilter { actor: Some("x' OR 'a' = 'a".into()), ..none() }, vec![]),
    ] {
        let (filter, newest) = (filter.clone(), filter);
        let found = read!(store, |db| db.events(account.sid, &filter, &ALL)).unwrap().items;
        assert_eq!(found, expected.iter().map(|record| (*record).clone()).collect::<Vec<_>>());
        let found = read!(store, |db| db.newest_audit_records(&newest, 100)).unwrap();
        let found: Vec<_> = found.into_iter().map(|found| found.record).collect();
        assert_eq!(found, expected.iter().rev().map(|record| (*record).clone()).collect::<Vec<_>>());
    }
}

async fn audit_records_of_all_accounts_are_listed_newest_first(store: Store) {
    let records = insert_chain(&store, account(), 2).await;
    let last = changed(record(account()), |record| record.account_sid = None);
    add(&store, [last]).await;
    let found = read!(store, |db| db.newest_audit_records(&AuditFilter::default(), 2)).unwrap();
    let found: Vec<_> = found.iter().map(|found| (&found.record, found.position)).collect();
    assert_eq!(found, [(last, None), (records[1], Some(position(2)))]);
}

async fn audit_records_are_chained_in_order(store: Store) {
    let records = insert_chain(&store, account(), 3).await;
    assert_eq!(unchained(&store).await, []);
    let numbers = async |after, up_to, limit| {
        let found = read!(store, |db| db.chained_records(after, up_to, limit)).unwrap();
        found.iter().map(|record| record.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 9, 9).await, [1, 2, 3]);
    assert_eq!(numbers(1, 2, 9).await, [2]);
    assert_eq!(numbers(0, 9, 2).await, [1, 2]);
    assert_eq!(numbers(3, 9, 9).await, [0; 0]);
    let found = read!(store, |db| db.chained_records(1, 2, 1)).unwrap();
    assert_eq!(found[0].contents, Some((position(2).mac, records[1].clone())));
    // An empty list is accepted.
    transact!(store, |tx| tx.append_to_audit_chain(&[])).unwrap();
}

async fn chained_audit_record_and_its_number_cannot_change(store: Store) {
    let records = insert_chain(&store, account(), 2).await;
    let sid = records[0].sid;
    assert!(transact!(store, |tx| tx.append_to_audit_chain(&[(sid, position(7))])).is_err());
    assert_eq!(read!(store, |db| db.chained_records(0, 9, 1)).unwrap()[0].number, 1);
    // A number cannot be assigned twice.
    let late = record(account());
    add(&store, [late]).await;
    assert!(transact!(store, |tx| tx.append_to_audit_chain(&[(late.sid, position(2))])).is_err());
    assert_eq!(unchained(&store).await, std::slice::from_ref(late));
}

async fn only_records_before_the_start_of_the_chain_are_deleted(store: Store) {
    let records = insert_chain(&store, account(), 4).await;
    add(&store, [record(account())]).await;
    assert_eq!(transact!(store, |tx| tx.delete_removed_records(0)).unwrap(), 0);
    let write = async move |tx: &mut Write| {
        tx.update_audit_chain(&position(3), &position(4), &Mac([3; 32])).await?;
        tx.delete_removed_records(0).await
    };
    assert_eq!(store.write(write).await.unwrap(), 3);
    let left = read!(store, |db| db.newest_audit_records(&AuditFilter::default(), 9)).unwrap();
    assert_eq!(left.iter().map(|found| found.position).collect::<Vec<_>>(), [None, Some(position(4))]);
    assert_eq!(left[1].record, *records[3]);
}

async fn audit_chain_is_created_once(store: Store) {
    let none = read!(store, |db| db.audit_chain()).unwrap();
    assert!(none.is_none() && read!(store, |db| db.check_audit_log()).unwrap().is_none());
    assert!(transact!(store, |tx| tx.try_lock_audit_chain()).unwrap().is_none());
    let seals = run_concurrently(8, |number| {
        let store = store.clone();
        let mut chain = chain();
        chain.seal = Mac([number as u8; 32]);
        let create = async move |tx: &mut Write| {
            tx.insert_audit_chain(&chain, &audit_key()).await?;
            Ok::<_, Error>(tx.audit_chain().await?.map(|chain| chain.seal))
        };
        async move { store.write(create).await.unwrap().unwrap() }
    });
    let seals = seals.await;
    assert!(seals.iter().all(|seal| *seal == seals[0]), "{seals:?}");

    transact!(store, |tx| tx.update_audit_chain(&position(5), &position(9), &Mac([7; 32]))).unwrap();
    let chain = transact!(store, |tx| tx.try_lock_audit_chain()).unwrap().unwrap();
    assert_eq!((chain.removed, chain.head, chain.seal), (position(5), position(9), Mac([7; 32])));
    let key = read!(store, |db| db.audit_key::<()>()).unwrap().unwrap();
    assert_eq!(key.as_bytes(), all_bytes());
}

async fn audit_tail_reports_unchained_and_foreign_records(store: Store) {
    insert_chain(&store, account(), 2).await;
    let late = record(account());
    add(&store, [late, record(account())]).await;
    let tail = async || {
        let tail = read!(store, |db| db.check_audit_log()).unwrap().unwrap();
        (tail.outside_ends, tail.unchained)
    };
    assert_eq!(tail().await, (None, 2));
    transact!(store, |tx| tx.append_to_audit_chain(&[(late.sid, position(9))])).unwrap();
    assert_eq!(tail().await, (Some(9), 1));
    // A number before the start of the chain is reported too.
    transact!(store, |tx| tx.update_audit_chain(&position(1), &position(9), &Mac([2; 32]))).unwrap();
    assert_eq!(tail().await, (Some(1), 1));
    transact!(store, |tx| tx.delete_removed_records(0)).unwrap();
    assert_eq!(tail().await, (None, 1));
}

async fn unchained_record_keeps_its_mac_until_it_is_chained(store: Store) {
    let late = record(account());
    add(&store, [late]).await;
    let found = async || read!(store, |db| db.unchained_records(&UnchainedPosition::START, 9)).unwrap();
    assert_eq!(found().await[0].mac, Some(Mac([5; 32])));
    transact!(store, |tx| tx.set_unchained_mac(late.sid, &Mac([6; 32]))).unwrap();
    assert_eq!(found().await[0].mac, Some(Mac([6; 32])));
    transact!(store, |tx| tx.append_to_audit_chain(&[(late.sid, position(1))])).unwrap();
    assert!(found().await.is_empty());
    assert_eq!(read!(store, |db| db.newest_audit_record_at()).unwrap(), Some(late.created_at));
}

async fn unchained_records_are_read_in_batches(store: Store) {
    let records: Vec<_> = (0..5)
        .map(|second| changed(record(account()), |record| record.created_at = NOW.plus_seconds(second)))
        .collect();
    add(&store, records.iter().rev().copied()).await;
    let (mut after, mut found) = (UnchainedPosition::START, Vec::new());
    loop {
        let start = after.clone();
        let batch = read!(store, |db| db.unchained_records(&start, 2)).unwrap();
        let Some(last) = batch.last() else { break };
        after = last.position.clone();
        found.extend(batch.into_iter().filter_map(|waiting| waiting.record));
    }
    assert_eq!(found, records.into_iter().cloned().collect::<Vec<_>>());
}

async fn duplicate_and_half_chained_audit_records_are_reported(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 3).await;
    let tail = async || read!(store, |db| db.check_audit_log()).unwrap().unwrap();
    let sound = tail().await;
    assert_eq!(
        (sound.repeated_number, sound.repeated_sid, sound.half_chained, sound.end_rows),
        (None, None, None, 1)
    );
    let is_postgres = matches!(database.location, Location::Postgres(_));
    database.sql("DROP INDEX audit_log_chained").await;
    let columns = "actor_type, event_type, data, created_at";
    let copy = |sid: &str, number: &str, mac: &str| {
        format!(
            "INSERT INTO audit_log (sid, number, mac, {columns}) SELECT {sid}, {number}, {mac}, {columns} \
             FROM audit_log WHERE number = 2 LIMIT 1"
        )
    };
    database.sql(&copy("'AE00000000000000000000000000000002'", "2", "mac")).await;
    assert_eq!(tail().await.repeated_number, Some(2));
    let half = "AE00000000000000000000000000000003";
    let unchecked = if is_postgres {
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_check"
    } else {
        "PRAGMA ignore_check_constraints = ON"
    };
    database.sql(&format!("{unchecked}; {}", copy(&format!("'{half}'"), "NULL", "mac"))).await;
    assert_eq!(tail().await.half_chained.as_deref(), Some(half));
    if is_postgres {
        database.sql("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey").await;
        database.sql(&copy(&format!("'{half}'"), "9", "mac")).await;
        assert_eq!(tail().await.repeated_sid.as_deref(), Some(half));
        database.sql("ALTER TABLE audit_chain DROP CONSTRAINT audit_chain_pkey").await;
        database.sql("INSERT INTO audit_chain SELECT * FROM audit_chain").await;
        assert_eq!(tail().await.end_rows, 2);
    }
}

async fn altered_unchained_record_is_reported_without_its_content(database: TestDatabase) {
    let store = database.open().await;
    add(&store, [record(account()), record(account())]).await;
    database.sql("UPDATE audit_log SET waiting_mac = 'none'").await;
    database.sql("UPDATE audit_log SET sid = 'none' WHERE sid = (SELECT MIN(sid) FROM audit_log)").await;
    let found = read!(store, |db| db.unchained_records(&UnchainedPosition::START, 9)).unwrap();
    assert!(found.iter().all(|waiting| waiting.mac.is_none()));
    let readable: Vec<_> =
        found.iter().map(|waiting| (waiting.position.sid == "none", waiting.record.is_some())).collect();
    assert!(readable.contains(&(true, false)) && readable.contains(&(false, true)), "{readable:?}");
}

async fn audit_record_that_the_database_drops_is_an_error(database: TestDatabase) {
    let store = database.open().await;
    let trigger = match database.location {
        Location::Postgres(_) => {
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER swallow BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION swallow()"
        }
        _ => "CREATE TRIGGER swallow BEFORE INSERT ON audit_log BEGIN SELECT RAISE(IGNORE); END",
    };
    database.sql(trigger).await;
    let record = record(account());
    assert!(transact!(store, |tx| tx.insert_audit_record(record, &Mac([5; 32]))).is_err());
}

async fn locked_audit_chain_is_unavailable_to_other_servers(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    insert_chain(&one, account(), 1).await;
    let lock = async move |tx: &mut Write| {
        tx.try_lock_audit_chain().await?.ok_or(Error::ParentGone)?;
        // The other server does not wait for the lock and does not get the chain.
        let other = other.clone();
        let elsewhere = transact!(other, |tx| tx.try_lock_audit_chain())?;
        Ok::<_, Error>(elsewhere.is_none())
    };
    assert!(one.write(lock).await.unwrap());
    assert!(transact!(one, |tx| tx.try_lock_audit_chain()).unwrap().is_some());
}

async fn altered_audit_records_are_reported_as_unreadable(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 3).await;
    // The trigger prevents accidents. A role that may change the schema can drop it.
    let on_table = if matches!(database.location, Location::Postgres(_)) { " ON audit_log" } else { "" };
    database.sql(&format!("DROP TRIGGER audit_log_stays{on_table}")).await;
    database.sql("UPDATE audit_log SET mac = 'no mac' WHERE number = 1").await;
    database.sql("UPDATE audit_log SET sid = 'no sid' WHERE number = 2").await;
    let read = async move |db: &mut Read| db.chained_records(0, 9, 9).await;
    let found = store.read::<_, _, Error>(read).await.unwrap();
    let readable: Vec<_> = found.iter().map(|record| (record.number, record.contents.is_some())).collect();
    assert_eq!(readable, [(1, false), (2, false), (3, true)]);
}

async fn audit_records_cannot_be_deleted_or_changed_with_sql(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 2).await;
    add(&store, [record(account())]).await;
    for statement in [
        "DELETE FROM audit_log WHERE number = 1",
        "DELETE FROM audit_log WHERE number IS NULL",
        "UPDATE audit_log SET event_type = 'none' WHERE number = 1",
    ] {
        let refused = match database.location {
            // A failing statement would make the `psql` helper panic.
            Location::Postgres(_) => {
                let sql =
                    format!("DO $$ BEGIN {statement}; EXCEPTION WHEN raise_exception THEN NULL; END $$");
                database.sql(&sql).await.is_empty()
            }
            _ => sqlx::raw_sql(statement).execute(&mut database.connect_directly().await).await.is_err(),
        };
        assert!(refused, "{statement}");
    }
    let left = database.sql("SELECT count(*), count(number), min(event_type) FROM audit_log").await;
    assert_eq!(left, "3|2|service.created");
}

/// SQLite has no statistics about the number of rows, so the index must match more columns than any other.
async fn audit_records_of_a_resource_are_found_by_index(database: TestDatabase) {
    database.open().await;
    for condition in
        ["", "AND (created_at, sid) < (1, 'AE')", "AND created_at >= 1 AND event_type = 'service.created'"]
    {
        let found = database
            .sql(&format!(
                "EXPLAIN QUERY PLAN SELECT data FROM audit_log WHERE account_sid = 'AC' AND resource_sid = 'VA' \
                 {condition} ORDER BY created_at DESC, sid DESC LIMIT 51"
            ))
            .await;
        assert!(found.contains("INDEX audit_log_of_resource (resource_sid=? AND account_sid=?"), "{found}");
        assert!(!found.contains("ORDER BY"), "{found}");
    }
}
