//! The audit log and its chain.

use std::net::IpAddr;

use domain::audit::{Act, Actor, Change, Line, Mac, Mark};
use domain::{Account, EventSid, RequestSid, Sealed};
use store::{AuditChain, AuditFilter, Error, Location, Read, Store, WaitingPlace, Write};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::places::Place;
use crate::together::at_once;

contract! {
    a_line_comes_back_as_it_was_written,
    a_line_outlives_what_it_is_about,
    an_event_is_only_found_by_its_account,
    events_are_listed_in_pages,
    events_are_chosen,
    lines_of_all_are_listed_newest_first,
    lines_are_chained_in_their_order,
    a_chained_line_does_not_change,
    only_what_was_removed_goes,
    there_is_one_chain,
    the_tail_tells_what_waits_and_what_was_added,
    waiting_line_has_its_mac_until_it_is_chained,
    waiting_lines_are_read_in_pieces,
}

contract! { on postgres:
    whoever_chains_keeps_others_from_it,
}

contract! { on disk:
    what_was_altered_is_still_found,
    no_line_goes_by_hand,
    repeated_and_half_chained_lines_are_found,
    altered_waiting_line_can_be_read,
    line_that_the_database_drops_is_an_error,
}

contract! { on sqlite:
    the_lines_of_a_thing_are_found_without_walking_all,
}

fn line(account: &Account) -> &'static Line {
    keep(Line::new(
        sid(),
        &Actor::Account(account.sid),
        Change::new(Act::ServiceCreated, account.sid, sid::<domain::ServiceSid>()),
        Some(IpAddr::from([192, 0, 2, 1])),
        Some(sid::<RequestSid>()),
        NOW,
    ))
}

/// The place with this number, under some MAC.
fn mark(number: i64) -> Mark {
    Mark { number, mac: Mac([number as u8; 32]) }
}

fn chain() -> AuditChain<()> {
    let key = Sealed::from_bytes(all_bytes());
    AuditChain { key, removed: Mark::START, head: Mark::START, seal: Mac([1; 32]) }
}

/// A store with a chain of so many lines.
async fn chained(store: &Store, account: &Account, count: i64) -> Vec<&'static Line> {
    let lines: Vec<_> = (0..count).map(|_| line(account)).collect();
    add(store, lines.clone()).await;
    let marks: Vec<_> = lines.iter().zip(1..).map(|(line, number)| (line.sid, mark(number))).collect();
    let write = async move |tx: &mut Write| {
        tx.insert_audit_chain(&chain()).await?;
        tx.chain_lines(&marks).await?;
        tx.move_audit_ends(&Mark::START, &mark(count), &Mac([2; 32])).await
    };
    store.write(write).await.unwrap();
    lines
}

async fn waiting(store: &Store) -> Vec<Line> {
    let found = read!(store, |db| db.waiting_lines(&WaitingPlace::START, 1000)).unwrap();
    found.into_iter().map(|waiting| waiting.line.unwrap()).collect()
}

async fn a_line_comes_back_as_it_was_written(store: Store) {
    let account = account();
    let plain = line(account);
    let awkward = changed(plain, |line| {
        line.sid = sid();
        line.actor_type = AWKWARD.to_owned();
        line.actor = Some(AWKWARD.to_owned());
        line.event_type = AWKWARD.to_owned();
        line.resource_sid = Some(AWKWARD.to_owned());
        line.data = format!("{{ \"not\":  \"canonical\" }} {AWKWARD}");
        line.address = Some(AWKWARD.to_owned());
        line.request_sid = Some(AWKWARD.to_owned());
        line.created_at = LAST;
    });
    let bare = changed(plain, |line| {
        line.sid = sid();
        (line.actor, line.account_sid, line.resource_sid) = (None, None, None);
        (line.address, line.request_sid) = (None, None);
        line.created_at = FIRST;
    });
    add(&store, [plain, awkward, bare]).await;
    assert_eq!(waiting(&store).await, [bare.clone(), plain.clone(), awkward.clone()], "oldest first");
    let event = async |line: &Line| {
        let sid = line.sid;
        read!(store, |db| db.event(account.sid, sid)).unwrap()
    };
    assert_eq!(event(plain).await.as_ref(), Some(plain));
    assert_eq!(event(awkward).await.as_ref(), Some(awkward));
    assert_eq!(event(bare).await, None);
}

async fn a_line_outlives_what_it_is_about(store: Store) {
    let nobody = account();
    add(&store, [line(nobody)]).await;
    assert_eq!(waiting(&store).await.len(), 1);
}

async fn an_event_is_only_found_by_its_account(store: Store) {
    let (one, other) = (account(), account());
    let event = line(one);
    add(&store, [event]).await;
    for (account_sid, sid) in [(other.sid, event.sid), (one.sid, sid())] {
        assert_eq!(read!(store, |db| db.event(account_sid, sid)).unwrap(), None);
    }
}

async fn events_are_listed_in_pages(store: Store) {
    let (one, other) = (account(), account());
    let of = |account: &'static Account| {
        move |sid: EventSid, time| changed(line(account), |line| (line.sid, line.created_at) = (sid, time))
    };
    let lines = scattered(of(one));
    add(&store, lines.clone()).await;
    add(&store, [line(other)]).await;
    let filter = AuditFilter { event_type: Some("service.created".into()), ..AuditFilter::default() };
    for filter in [AuditFilter::default(), filter] {
        let page = async |request| {
            let filter = filter.clone();
            read!(store, |db| db.events(one.sid, &filter, &request)).unwrap()
        };
        assert_list(&lines, page).await;
    }
}

async fn events_are_chosen(store: Store) {
    let account = account();
    let made = |second, change: fn(&mut Line)| {
        changed(line(account), |line| {
            line.created_at = NOW.plus_seconds(second);
            change(line);
        })
    };
    let a = made(1, |line| line.actor = Some("SK01".into()));
    let b = made(2, |line| line.event_type = "service.deleted".into());
    let c = made(3, |line| line.address = Some("2001:db8::1".into()));
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
        assert_eq!(found, expected.iter().map(|line| (*line).clone()).collect::<Vec<_>>());
        let found = read!(store, |db| db.audit_lines(&newest, 100)).unwrap();
        let found: Vec<_> = found.into_iter().map(|found| found.line).collect();
        assert_eq!(found, expected.iter().rev().map(|line| (*line).clone()).collect::<Vec<_>>());
    }
}

async fn lines_of_all_are_listed_newest_first(store: Store) {
    let lines = chained(&store, account(), 2).await;
    let last = changed(line(account()), |line| line.account_sid = None);
    add(&store, [last]).await;
    let found = read!(store, |db| db.audit_lines(&AuditFilter::default(), 2)).unwrap();
    let found: Vec<_> = found.iter().map(|found| (&found.line, found.mark)).collect();
    assert_eq!(found, [(last, None), (lines[1], Some(mark(2)))]);
}

async fn lines_are_chained_in_their_order(store: Store) {
    let lines = chained(&store, account(), 3).await;
    assert_eq!(waiting(&store).await, []);
    let numbers = async |after, up_to, limit| {
        let found = read!(store, |db| db.chained_lines(after, up_to, limit)).unwrap();
        found.iter().map(|line| line.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 9, 9).await, [1, 2, 3]);
    assert_eq!(numbers(1, 2, 9).await, [2]);
    assert_eq!(numbers(0, 9, 2).await, [1, 2]);
    assert_eq!(numbers(3, 9, 9).await, [0; 0]);
    let found = read!(store, |db| db.chained_lines(1, 2, 1)).unwrap();
    assert_eq!(found[0].contents, Some((mark(2).mac, lines[1].clone())));
    // None at all is nothing to do.
    transact!(store, |tx| tx.chain_lines(&[])).unwrap();
}

async fn a_chained_line_does_not_change(store: Store) {
    let lines = chained(&store, account(), 2).await;
    let sid = lines[0].sid;
    assert!(transact!(store, |tx| tx.chain_lines(&[(sid, mark(7))])).is_err());
    assert_eq!(read!(store, |db| db.chained_lines(0, 9, 1)).unwrap()[0].number, 1);
    // And no number is given twice.
    let late = line(account());
    add(&store, [late]).await;
    assert!(transact!(store, |tx| tx.chain_lines(&[(late.sid, mark(2))])).is_err());
    assert_eq!(waiting(&store).await, std::slice::from_ref(late));
}

async fn only_what_was_removed_goes(store: Store) {
    let lines = chained(&store, account(), 4).await;
    add(&store, [line(account())]).await;
    assert_eq!(transact!(store, |tx| tx.delete_removed_lines(0)).unwrap(), 0);
    let write = async move |tx: &mut Write| {
        tx.move_audit_ends(&mark(3), &mark(4), &Mac([3; 32])).await?;
        tx.delete_removed_lines(0).await
    };
    assert_eq!(store.write(write).await.unwrap(), 3);
    let left = read!(store, |db| db.audit_lines(&AuditFilter::default(), 9)).unwrap();
    assert_eq!(left.iter().map(|found| found.mark).collect::<Vec<_>>(), [None, Some(mark(4))]);
    assert_eq!(left[1].line, *lines[3]);
}

async fn there_is_one_chain(store: Store) {
    let none = read!(store, |db| db.audit_chain::<()>()).unwrap();
    assert!(none.is_none() && read!(store, |db| db.audit_tail()).unwrap().is_none());
    assert!(transact!(store, |tx| tx.hold_audit_chain::<()>()).unwrap().is_none());
    let made = at_once(8, |number| {
        let store = store.clone();
        let mut chain = chain();
        chain.seal = Mac([number as u8; 32]);
        let make = async move |tx: &mut Write| {
            tx.insert_audit_chain(&chain).await?;
            Ok::<_, Error>(tx.audit_chain::<()>().await?.map(|chain| chain.seal))
        };
        async move { store.write(make).await.unwrap().unwrap() }
    });
    let made = made.await;
    assert!(made.iter().all(|seal| *seal == made[0]), "{made:?}");

    transact!(store, |tx| tx.move_audit_ends(&mark(5), &mark(9), &Mac([7; 32]))).unwrap();
    let chain = transact!(store, |tx| tx.hold_audit_chain::<()>()).unwrap().unwrap();
    assert_eq!((chain.removed, chain.head, chain.seal), (mark(5), mark(9), Mac([7; 32])));
    assert_eq!(chain.key.as_bytes(), all_bytes());
}

async fn the_tail_tells_what_waits_and_what_was_added(store: Store) {
    chained(&store, account(), 2).await;
    let late = line(account());
    add(&store, [late, line(account())]).await;
    let tail = async || {
        let tail = read!(store, |db| db.audit_tail()).unwrap().unwrap();
        (tail.added, tail.waiting)
    };
    assert_eq!(tail().await, (None, 2));
    transact!(store, |tx| tx.chain_lines(&[(late.sid, mark(9))])).unwrap();
    assert_eq!(tail().await, (Some(9), 1));
    // In front of the chain too.
    transact!(store, |tx| tx.move_audit_ends(&mark(1), &mark(9), &Mac([2; 32]))).unwrap();
    assert_eq!(tail().await, (Some(1), 1));
    transact!(store, |tx| tx.delete_removed_lines(0)).unwrap();
    assert_eq!(tail().await, (None, 1));
}

async fn waiting_line_has_its_mac_until_it_is_chained(store: Store) {
    let late = line(account());
    add(&store, [late]).await;
    let found = async || read!(store, |db| db.waiting_lines(&WaitingPlace::START, 9)).unwrap();
    assert_eq!(found().await[0].mac, Some(Mac([5; 32])));
    transact!(store, |tx| tx.set_waiting_mac(late.sid, &Mac([6; 32]))).unwrap();
    assert_eq!(found().await[0].mac, Some(Mac([6; 32])));
    transact!(store, |tx| tx.chain_lines(&[(late.sid, mark(1))])).unwrap();
    assert!(found().await.is_empty());
    assert_eq!(read!(store, |db| db.newest_audit_line_at()).unwrap(), Some(late.created_at));
}

async fn waiting_lines_are_read_in_pieces(store: Store) {
    let lines: Vec<_> = (0..5)
        .map(|second| changed(line(account()), |line| line.created_at = NOW.plus_seconds(second)))
        .collect();
    add(&store, lines.iter().rev().copied()).await;
    let (mut after, mut found) = (WaitingPlace::START, Vec::new());
    loop {
        let place = after.clone();
        let piece = read!(store, |db| db.waiting_lines(&place, 2)).unwrap();
        let Some(last) = piece.last() else { break };
        after = last.place.clone();
        found.extend(piece.into_iter().filter_map(|waiting| waiting.line));
    }
    assert_eq!(found, lines.into_iter().cloned().collect::<Vec<_>>());
}

async fn repeated_and_half_chained_lines_are_found(place: Place) {
    let store = place.open().await;
    chained(&store, account(), 3).await;
    let tail = async || read!(store, |db| db.audit_tail()).unwrap().unwrap();
    let sound = tail().await;
    assert_eq!(
        (sound.repeated_number, sound.repeated_sid, sound.half_chained, sound.ends),
        (None, None, None, 1)
    );
    let is_postgres = matches!(place.location, Location::Postgres(_));
    place.sql("DROP INDEX audit_log_chained").await;
    let columns = "actor_type, event_type, data, created_at";
    let copy = |sid: &str, number: &str, mac: &str| {
        format!(
            "INSERT INTO audit_log (sid, number, mac, {columns}) SELECT {sid}, {number}, {mac}, {columns} \
             FROM audit_log WHERE number = 2 LIMIT 1"
        )
    };
    place.sql(&copy("'AE00000000000000000000000000000002'", "2", "mac")).await;
    assert_eq!(tail().await.repeated_number, Some(2));
    let half = "AE00000000000000000000000000000003";
    let unchecked = if is_postgres {
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_check"
    } else {
        "PRAGMA ignore_check_constraints = ON"
    };
    place.sql(&format!("{unchecked}; {}", copy(&format!("'{half}'"), "NULL", "mac"))).await;
    assert_eq!(tail().await.half_chained.as_deref(), Some(half));
    if is_postgres {
        place.sql("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey").await;
        place.sql(&copy(&format!("'{half}'"), "9", "mac")).await;
        assert_eq!(tail().await.repeated_sid.as_deref(), Some(half));
        place.sql("ALTER TABLE audit_chain DROP CONSTRAINT audit_chain_pkey").await;
        place.sql("INSERT INTO audit_chain SELECT * FROM audit_chain").await;
        assert_eq!(tail().await.ends, 2);
    }
}

async fn altered_waiting_line_can_be_read(place: Place) {
    let store = place.open().await;
    add(&store, [line(account()), line(account())]).await;
    place.sql("UPDATE audit_log SET waiting_mac = 'none'").await;
    place.sql("UPDATE audit_log SET sid = 'none' WHERE sid = (SELECT MIN(sid) FROM audit_log)").await;
    let found = read!(store, |db| db.waiting_lines(&WaitingPlace::START, 9)).unwrap();
    assert!(found.iter().all(|waiting| waiting.mac.is_none()));
    let readable: Vec<_> =
        found.iter().map(|waiting| (waiting.place.sid == "none", waiting.line.is_some())).collect();
    assert!(readable.contains(&(true, false)) && readable.contains(&(false, true)), "{readable:?}");
}

async fn line_that_the_database_drops_is_an_error(place: Place) {
    let store = place.open().await;
    let trigger = match place.location {
        Location::Postgres(_) => {
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER swallow BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION swallow()"
        }
        _ => "CREATE TRIGGER swallow BEFORE INSERT ON audit_log BEGIN SELECT RAISE(IGNORE); END",
    };
    place.sql(trigger).await;
    let line = line(account());
    assert!(transact!(store, |tx| tx.insert_audit_line(line, &Mac([5; 32]))).is_err());
}

async fn whoever_chains_keeps_others_from_it(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    chained(&one, account(), 1).await;
    let holds = async move |tx: &mut Write| {
        tx.hold_audit_chain::<()>().await?.ok_or(Error::ParentGone)?;
        // Nobody waits, and nobody gets it.
        let other = other.clone();
        let elsewhere = transact!(other, |tx| tx.hold_audit_chain::<()>())?;
        Ok::<_, Error>(elsewhere.is_none())
    };
    assert!(one.write(holds).await.unwrap());
    assert!(transact!(one, |tx| tx.hold_audit_chain::<()>()).unwrap().is_some());
}

async fn what_was_altered_is_still_found(place: Place) {
    let store = place.open().await;
    chained(&store, account(), 3).await;
    // The guard against mistakes is none against those who may change the schema.
    let of_the_table = if matches!(place.location, Location::Postgres(_)) { " ON audit_log" } else { "" };
    place.sql(&format!("DROP TRIGGER audit_log_stays{of_the_table}")).await;
    place.sql("UPDATE audit_log SET mac = 'no mac' WHERE number = 1").await;
    place.sql("UPDATE audit_log SET sid = 'no sid' WHERE number = 2").await;
    let read = async move |db: &mut Read| db.chained_lines(0, 9, 9).await;
    let found = store.read::<_, _, Error>(read).await.unwrap();
    let readable: Vec<_> = found.iter().map(|line| (line.number, line.contents.is_some())).collect();
    assert_eq!(readable, [(1, false), (2, false), (3, true)]);
}

async fn no_line_goes_by_hand(place: Place) {
    let store = place.open().await;
    chained(&store, account(), 2).await;
    add(&store, [line(account())]).await;
    for by_hand in [
        "DELETE FROM audit_log WHERE number = 1",
        "DELETE FROM audit_log WHERE number IS NULL",
        "UPDATE audit_log SET event_type = 'none' WHERE number = 1",
    ] {
        let refused = match place.location {
            // `psql` would say so with a panic.
            Location::Postgres(_) => {
                let sql = format!("DO $$ BEGIN {by_hand}; EXCEPTION WHEN raise_exception THEN NULL; END $$");
                place.sql(&sql).await.is_empty()
            }
            _ => sqlx::raw_sql(by_hand).execute(&mut place.stranger().await).await.is_err(),
        };
        assert!(refused, "{by_hand}");
    }
    let left = place.sql("SELECT count(*), count(number), min(event_type) FROM audit_log").await;
    assert_eq!(left, "3|2|service.created");
}

/// SQLite knows nothing of how many lines there are, so the index has to promise more than any other.
async fn the_lines_of_a_thing_are_found_without_walking_all(place: Place) {
    place.open().await;
    for beyond in
        ["", "AND (created_at, sid) < (1, 'AE')", "AND created_at >= 1 AND event_type = 'service.created'"]
    {
        let found = place
            .sql(&format!(
                "EXPLAIN QUERY PLAN SELECT data FROM audit_log WHERE account_sid = 'AC' AND resource_sid = 'VA' \
                 {beyond} ORDER BY created_at DESC, sid DESC LIMIT 51"
            ))
            .await;
        assert!(found.contains("INDEX audit_log_of_resource (resource_sid=? AND account_sid=?"), "{found}");
        assert!(!found.contains("ORDER BY"), "{found}");
    }
}
