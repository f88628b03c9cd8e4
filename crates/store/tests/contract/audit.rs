//! The audit log and the audit chain.

use std::collections::HashMap;
use std::net::IpAddr;

use domain::audit::{Actor, AuditAction, AuditRecord, ChainPosition, Change, Mac};
use domain::{Account, EventSid, RequestSid, Sealed, Sid as _};
use store::{AuditChain, AuditFilter, Error, Location, Read, Store, UnchainedPosition, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    audit_record_is_read_back_unchanged,
    audit_record_can_be_inserted_without_its_account,
    event_is_not_found_with_a_wrong_account_or_sid,
    event_list_is_complete_and_ordered_with_every_page_size,
    events_are_filtered_by_actor_event_type_resource_address_and_time,
    audit_records_of_all_accounts_are_listed_newest_first,
    chained_audit_records_are_read_in_order_of_their_numbers,
    chained_record_cannot_be_renumbered_and_its_number_cannot_be_reused,
    only_audit_records_before_the_start_of_the_chain_are_deleted,
    audit_chain_is_created_by_exactly_one_of_several_concurrent_writes,
    audit_log_check_reports_unchained_records_and_numbers_outside_the_chain,
    macs_of_unchained_records_can_be_replaced_until_they_are_chained,
    unchained_records_are_read_in_batches_oldest_first,
}

contract! { on postgres:
    audit_chain_locked_by_one_server_cannot_be_locked_by_another,
    check_of_the_audit_log_may_take_longer_than_the_statements_of_a_server,
}

contract! { on disk:
    chained_records_with_an_invalid_mac_or_sid_are_reported_as_unreadable,
    sql_statements_cannot_delete_or_change_audit_records,
    duplicate_and_half_chained_audit_records_are_reported,
    invalid_parts_of_an_unchained_record_are_reported_as_missing,
    inserting_an_audit_record_fails_if_a_trigger_discards_it,
}

/// Returns a new audit record of the creation of a service by `account`.
pub(crate) fn record(account: &Account) -> &'static AuditRecord {
    leak(AuditRecord::new(
        sid(),
        &Actor::Account(account.sid),
        Change::new(AuditAction::ServiceCreated, account.sid, sid::<domain::ServiceSid>()),
        Some(IpAddr::from([192, 0, 2, 1])),
        Some(sid::<RequestSid>()),
        NOW,
    ))
}

/// Returns the chain position with this number. Its MAC is arbitrary but depends only on the number.
fn position(number: i64) -> ChainPosition {
    ChainPosition { number, mac: Mac([number as u8; 32]) }
}

/// Returns a sealed audit key with arbitrary content.
fn audit_key() -> Sealed<()> {
    Sealed::from_bytes(all_bytes())
}

/// Returns an empty audit chain.
fn chain() -> AuditChain {
    AuditChain { removed: ChainPosition::START, head: ChainPosition::START, seal: Mac([1; 32]) }
}

/// Creates the audit chain and inserts `count` records of `account`, chained with the numbers from 1. Returns the
/// records in this order.
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

/// Returns all audit records that are not chained yet, oldest first.
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
        record.created_at = MAX_TIME;
    });
    let bare = changed(plain, |record| {
        record.sid = sid();
        (record.actor, record.account_sid, record.resource_sid) = (None, None, None);
        (record.address, record.request_sid) = (None, None);
        record.created_at = MIN_TIME;
    });
    add(&store, [plain, awkward, bare]).await;
    assert_eq!(
        unchained(&store).await,
        [bare.clone(), plain.clone(), awkward.clone()],
        "unchained records must be listed oldest first"
    );
    let event = async |record: &AuditRecord| {
        let sid = record.sid;
        read!(store, |db| db.event(account.sid, sid)).unwrap()
    };
    assert_eq!(event(plain).await.as_ref(), Some(plain));
    assert_eq!(event(awkward).await.as_ref(), Some(awkward));
    assert_eq!(event(bare).await, None);
}

async fn audit_record_can_be_inserted_without_its_account(store: Store) {
    let missing = account();
    add(&store, [record(missing)]).await;
    assert_eq!(unchained(&store).await.len(), 1);
}

async fn event_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (one, other) = (account(), account());
    let event = record(one);
    add(&store, [event]).await;
    for (account_sid, sid) in [(other.sid, event.sid), (one.sid, sid())] {
        assert_eq!(read!(store, |db| db.event(account_sid, sid)).unwrap(), None);
    }
}

async fn event_list_is_complete_and_ordered_with_every_page_size(store: Store) {
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

async fn events_are_filtered_by_actor_event_type_resource_address_and_time(store: Store) {
    let account = account();
    let created_at = |second, change: fn(&mut AuditRecord)| {
        changed(record(account), |record| {
            record.created_at = NOW.plus_seconds(second);
            // The SID of an audit record begins with its creation time in milliseconds.
            let mut bytes = record.sid.to_bytes();
            bytes[..6].copy_from_slice(&(record.created_at.micros() / 1000).to_be_bytes()[2..]);
            record.sid = EventSid::from_bytes(bytes);
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

async fn chained_audit_records_are_read_in_order_of_their_numbers(store: Store) {
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
    // Appending no records succeeds.
    transact!(store, |tx| tx.append_to_audit_chain(&[])).unwrap();
}

async fn chained_record_cannot_be_renumbered_and_its_number_cannot_be_reused(store: Store) {
    let records = insert_chain(&store, account(), 2).await;
    let sid = records[0].sid;
    assert!(transact!(store, |tx| tx.append_to_audit_chain(&[(sid, position(7))])).is_err());
    assert_eq!(read!(store, |db| db.chained_records(0, 9, 1)).unwrap()[0].number, 1);
    // A number cannot be assigned to a second record.
    let late = record(account());
    add(&store, [late]).await;
    assert!(transact!(store, |tx| tx.append_to_audit_chain(&[(late.sid, position(2))])).is_err());
    assert_eq!(unchained(&store).await, std::slice::from_ref(late));
}

async fn only_audit_records_before_the_start_of_the_chain_are_deleted(store: Store) {
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

async fn audit_chain_is_created_by_exactly_one_of_several_concurrent_writes(store: Store) {
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

async fn audit_log_check_reports_unchained_records_and_numbers_outside_the_chain(store: Store) {
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
    // A record before the start of the chain is reported too.
    transact!(store, |tx| tx.update_audit_chain(&position(1), &position(9), &Mac([2; 32]))).unwrap();
    assert_eq!(tail().await, (Some(1), 1));
    transact!(store, |tx| tx.delete_removed_records(0)).unwrap();
    assert_eq!(tail().await, (None, 1));
}

async fn macs_of_unchained_records_can_be_replaced_until_they_are_chained(store: Store) {
    let (late, later) = (record(account()), record(account()));
    let kept = record(account());
    add(&store, [late, later, kept]).await;
    let macs = async || {
        let found = read!(store, |db| db.unchained_records(&UnchainedPosition::START, 9)).unwrap();
        found
            .into_iter()
            .map(|found| (found.record.unwrap().sid, found.mac.unwrap()))
            .collect::<HashMap<_, _>>()
    };
    assert_eq!(macs().await[&late.sid], Mac([5; 32]));
    let new = [(late.sid, Mac([6; 32])), (later.sid, Mac([7; 32]))];
    transact!(store, |tx| tx.set_unchained_macs(&new)).unwrap();
    assert_eq!(macs().await, HashMap::from([new[0], new[1], (kept.sid, Mac([5; 32]))]));
    transact!(store, |tx| tx.append_to_audit_chain(&[(late.sid, position(1))])).unwrap();
    transact!(store, |tx| tx.set_unchained_macs(&[(late.sid, Mac([8; 32])), (kept.sid, Mac([9; 32]))]))
        .unwrap();
    assert_eq!(macs().await, HashMap::from([new[1], (kept.sid, Mac([9; 32]))]));
    let chained = read!(store, |db| db.chained_records(0, 1, 9)).unwrap();
    assert_eq!(chained[0].contents.as_ref().unwrap().0, position(1).mac);
    assert_eq!(read!(store, |db| db.newest_audit_record_at()).unwrap(), Some(late.created_at));
}

async fn unchained_records_are_read_in_batches_oldest_first(store: Store) {
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
    let sid = |last: u8| EventSid::from_bytes(u128::from(last).to_be_bytes().map(|byte| byte | 0xa0));
    database.sql(&copy(&database.literal(sid(2).to_bytes()), "2", "mac")).await;
    assert_eq!(tail().await.repeated_number, Some(2));
    let (half, half_text) = (database.literal(sid(3).to_bytes()), sid(3).to_string());
    let unchecked = if is_postgres {
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_check"
    } else {
        "PRAGMA ignore_check_constraints = ON"
    };
    database.sql(&format!("{unchecked}; {}", copy(&half, "NULL", "mac"))).await;
    assert_eq!(tail().await.half_chained, Some(half_text.clone()));
    if is_postgres {
        database.sql("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey").await;
        database.sql(&copy(&half, "9", "mac")).await;
        assert_eq!(tail().await.repeated_sid, Some(half_text));
        database.sql("ALTER TABLE audit_chain DROP CONSTRAINT audit_chain_pkey").await;
        database.sql("INSERT INTO audit_chain SELECT * FROM audit_chain").await;
        assert_eq!(tail().await.end_rows, 2);
    }
}

async fn invalid_parts_of_an_unchained_record_are_reported_as_missing(database: TestDatabase) {
    let store = database.open().await;
    add(&store, [record(account()), record(account())]).await;
    let invalid = database.invalid_bytes();
    database.sql(&format!("UPDATE audit_log SET waiting_mac = {invalid}")).await;
    let found = read!(store, |db| db.unchained_records(&UnchainedPosition::START, 9)).unwrap();
    assert!(found.len() == 2 && found.iter().all(|waiting| waiting.mac.is_none()));
    // PostgreSQL's type of SIDs has only valid values.
    if matches!(database.location, Location::Sqlite(_)) {
        let first = "sid = (SELECT MIN(sid) FROM audit_log)";
        database.sql(&format!("UPDATE audit_log SET sid = {invalid} WHERE {first}")).await;
        let found = read!(store, |db| db.unchained_records(&UnchainedPosition::START, 9)).unwrap();
        let readable: Vec<_> = found
            .iter()
            .map(|waiting| (!waiting.position.sid().starts_with("AE"), waiting.record.is_some()))
            .collect();
        assert!(readable.contains(&(true, false)) && readable.contains(&(false, true)), "{readable:?}");
    }
}

async fn inserting_an_audit_record_fails_if_a_trigger_discards_it(database: TestDatabase) {
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

async fn audit_chain_locked_by_one_server_cannot_be_locked_by_another(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    insert_chain(&one, account(), 1).await;
    let lock = async move |tx: &mut Write| {
        tx.try_lock_audit_chain().await?.ok_or(Error::ParentGone)?;
        // Without waiting for the lock, the other server gets `None`.
        let other = other.clone();
        let elsewhere = transact!(other, |tx| tx.try_lock_audit_chain())?;
        Ok::<_, Error>(elsewhere.is_none())
    };
    assert!(one.write(lock).await.unwrap());
    assert!(transact!(one, |tx| tx.try_lock_audit_chain()).unwrap().is_some());
}

async fn chained_records_with_an_invalid_mac_or_sid_are_reported_as_unreadable(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 3).await;
    // The trigger prevents only accidental changes, because a role that may change the schema can drop it.
    let on_table = if matches!(database.location, Location::Postgres(_)) { " ON audit_log" } else { "" };
    database.sql(&format!("DROP TRIGGER audit_log_stays{on_table}")).await;
    let invalid = database.invalid_bytes();
    database.sql(&format!("UPDATE audit_log SET mac = {invalid} WHERE number = 1")).await;
    // PostgreSQL's type of SIDs has only valid values.
    let unreadable = match database.location {
        Location::Sqlite(_) => format!("sid = {invalid}"),
        _ => "account_sid = NULL, mac = '\\x00'".to_owned(),
    };
    database.sql(&format!("UPDATE audit_log SET {unreadable} WHERE number = 2")).await;
    let read = async move |db: &mut Read| db.chained_records(0, 9, 9).await;
    let found = store.read::<_, _, Error>(read).await.unwrap();
    let readable: Vec<_> = found.iter().map(|record| (record.number, record.contents.is_some())).collect();
    assert_eq!(readable, [(1, false), (2, false), (3, true)]);
}

async fn sql_statements_cannot_delete_or_change_audit_records(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 2).await;
    add(&store, [record(account())]).await;
    for statement in [
        "DELETE FROM audit_log WHERE number = 1",
        "DELETE FROM audit_log WHERE number IS NULL",
        "UPDATE audit_log SET event_type = 'none' WHERE number = 1",
    ] {
        let refused = match database.location {
            // The block catches the exception, because the `psql` helper panics if a statement fails.
            Location::Postgres(_) => {
                let sql =
                    format!("DO $$ BEGIN {statement}; EXCEPTION WHEN raise_exception THEN NULL; END $$");
                database.sql(&sql).await.is_empty()
            }
            _ => database.connect_directly().execute_batch(statement).is_err(),
        };
        assert!(refused, "{statement}");
    }
    let left = database.sql("SELECT count(*), count(number), min(event_type) FROM audit_log").await;
    assert_eq!(left, "3|2|service.created");
}

async fn check_of_the_audit_log_may_take_longer_than_the_statements_of_a_server(database: TestDatabase) {
    let store = database.open().await;
    insert_chain(&store, account(), 2).await;
    // The check reads this table twice. The statements of a server may take eight seconds.
    let slow = "ALTER TABLE audit_chain RENAME TO ends; \
                CREATE VIEW audit_chain AS SELECT ends.* FROM ends, pg_sleep(4.5)";
    database.sql(slow).await;
    let check = read!(store, |db| db.check_audit_log()).unwrap();
    assert_eq!(check.unwrap().unchained, 0);
}
