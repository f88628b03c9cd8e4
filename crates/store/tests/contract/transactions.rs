//! What a write promises, whatever it writes, and what a read sees of it.

use std::future::{Ready, ready};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::{Account, AccountSid, Challenge};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use sqlx::{Connection as _, Executor as _};
use store::{Conflict, Error, Filter, Read, Store, Write};
use tokio::sync::{Barrier, mpsc};

use crate::fixtures::*;
use crate::pages::ALL;
use crate::places::Place;
use crate::together::{Gate, PATIENCE, Pause, at_once, begin};

contract! {
    a_write_hands_back_what_its_closure_returned,
    a_write_sees_what_it_wrote,
    a_write_that_was_answered_is_seen_by_all_later_reads,
    a_read_hands_back_its_closures_error,
    the_database_answers,
    an_error_undoes_everything,
    a_panic_undoes_everything_and_is_reported,
    a_panic_before_the_first_await_is_no_different,
    a_failed_statement_undoes_everything_even_if_nobody_minds,
    a_failed_statement_is_reported_as_the_closure_says,
    many_writes_at_once_all_land,
    each_of_many_writes_stands_or_falls_alone,
    a_write_is_done_although_its_caller_left_before_it_began,
    a_write_is_done_although_its_caller_left_in_the_middle,
    a_statement_that_is_given_up_spoils_nothing,
    too_many_waiting_writes_are_refused_at_once,
    nothing_hangs_on_an_entity_that_is_deleted_meanwhile,
    closing_finishes_what_was_asked_for_and_refuses_the_rest,
    a_store_can_be_closed_twice,
}

contract! {
    on disk:
    nobody_sees_half_a_write,
    what_was_answered_is_there_when_the_store_is_opened_again,
    what_was_answered_is_there_without_closing,
    a_write_is_seen_by_other_servers,
}

contract! {
    on postgres:
    a_deadlock_is_met_by_running_again,
}

contract! {
    on sqlite:
    a_closed_store_leaves_nothing_but_its_file,
    nobody_waits_long_for_another_process,
    a_write_waits_for_another_process_that_ends_in_time,
    a_write_that_waits_too_long_is_refused_in_time_and_never_run,
}

/// A caller's own error.
#[derive(Debug)]
enum Refusal {
    Unwanted,
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A panic that standard error is spared.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("a bug"))
}

async fn sids(store: &Store) -> Vec<AccountSid> {
    read!(store, |db| db.accounts()).unwrap().iter().map(|account| account.sid).collect()
}

async fn a_write_hands_back_what_its_closure_returned(store: Store) {
    assert_eq!(store.write(async |_| Ok::<_, Error>("a value")).await.unwrap(), "a value");
    assert_refused!(store.write(async |_| Err::<(), _>(Refusal::Unwanted)).await, Refusal::Unwanted);
    assert_eq!(store.read(async |_| Ok::<_, Error>("a value")).await.unwrap(), "a value");
}

async fn a_write_sees_what_it_wrote(store: Store) {
    let account = account();
    let seen = async move |tx: &mut Write| {
        let before = tx.account(account.sid).await?;
        tx.insert_account(account).await?;
        Ok::<_, Error>((before, tx.account(account.sid).await?))
    };
    let (before, after) = store.write(seen).await.unwrap();
    assert_same!(before, None::<Account>);
    assert_same!(after, Some(account));
}

async fn a_write_that_was_answered_is_seen_by_all_later_reads(store: Store) {
    for _ in 0..50 {
        let account = account();
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        let reads = (0..8).map(|_| async { read!(store, |db| db.account(account.sid)).unwrap() });
        assert_same!(join_all(reads).await, [Some(account); 8]);
    }
}

async fn a_read_hands_back_its_closures_error(store: Store) {
    let refused = store.read(async |db: &mut Read| {
        db.accounts().await?;
        Err::<(), _>(Refusal::Unwanted)
    });
    assert_refused!(refused.await, Refusal::Unwanted);
}

async fn the_database_answers(store: Store) {
    read!(store, |db| db.ready()).unwrap();
    transact!(store, |tx| tx.ready()).unwrap();
}

async fn an_error_undoes_everything(store: Store) {
    let stays = family(&store).await;
    let refused = store.write(async move |tx: &mut Write| {
        tx.insert_account(account()).await?;
        tx.delete_service(stays.account.sid, stays.service.sid, NOW).await?;
        Err::<(), _>(Refusal::Unwanted)
    });
    assert_refused!(refused.await, Refusal::Unwanted);
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [stays.account]);
    assert_same!(read!(store, |db| db.factor(stays.path, stays.factor.sid)).unwrap(), Some(stays.factor));
}

async fn a_panic_undoes_everything_and_is_reported(store: Store) {
    let (lost, later) = (account(), account());
    let panicked = store.write(async move |tx: &mut Write| {
        tx.insert_account(lost).await?;
        if tx.account(lost.sid).await?.is_some() {
            panic_quietly();
        }
        Ok::<_, Refusal>(())
    });
    assert_refused!(panicked.await, Refusal::Store(Error::Panicked));
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
    assert_eq!(sids(&store).await, [later.sid]);
}

async fn a_panic_before_the_first_await_is_no_different(store: Store) {
    // Not an async closure, whose code runs when it is awaited, but one that makes a future.
    fn panicking(_: &mut Write) -> Ready<Result<(), Error>> {
        if true {
            panic_quietly();
        }
        ready(Ok(()))
    }
    assert_refused!(store.write(panicking).await, Error::Panicked);
    let later = account();
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
    assert_eq!(sids(&store).await, [later.sid]);
}

async fn a_failed_statement_undoes_everything_even_if_nobody_minds(store: Store) {
    let Family { account: known, service, .. } = family(&store).await;
    let (before, after) = (account(), account());
    let swallowed = store.write(async move |tx: &mut Write| {
        tx.insert_account(before).await?;
        let conflict = tx.insert_service(service).await;
        assert_refused!(conflict, Error::Conflict(Conflict::Other));
        // PostgreSQL refuses what follows; SQLite would do it.
        let _ = tx.insert_account(after).await;
        Ok::<_, Error>(())
    });
    assert_refused!(swallowed.await, Error::Conflict(Conflict::Other));
    assert_eq!(sids(&store).await, [known.sid]);
}

async fn a_failed_statement_is_reported_as_the_closure_says(store: Store) {
    let Family { account: known, service, .. } = family(&store).await;
    let refused = store.write(async move |tx: &mut Write| {
        tx.insert_account(account()).await?;
        tx.insert_service(service).await.map_err(|_| Refusal::Unwanted)
    });
    assert_refused!(refused.await, Refusal::Unwanted);
    assert_eq!(sids(&store).await, [known.sid]);
}

async fn many_writes_at_once_all_land(store: Store) {
    let accounts: Vec<_> = (0..300).map(|_| account()).collect();
    let inserted = at_once(accounts.len(), |number| {
        let (store, account) = (store.clone(), accounts[number]);
        async move { transact!(store, |tx| tx.insert_account(account)).unwrap() }
    });
    assert!(inserted.await.into_iter().all(|inserted| inserted));
    assert_same!(read!(store, |db| db.accounts()).unwrap(), accounts);
}

async fn each_of_many_writes_stands_or_falls_alone(store: Store) {
    let Family { account: known, service, .. } = family(&store).await;
    let accounts: Vec<_> = (0..300).map(|_| account()).collect();
    let write = |number: usize| {
        let account = accounts[number];
        store.write(async move |tx: &mut Write| {
            tx.insert_account(account).await?;
            match number % 5 {
                1 => Err(Refusal::Unwanted),
                2 => panic_quietly(),
                3 => Ok(tx.insert_service(service).await?),
                4 => {
                    let _ = tx.insert_service(service).await;
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    };
    // They wait until all are there, so that on SQLite they share transactions.
    let pause = Pause::begin(&store).await;
    let mut writes = pin!(join_all((0..accounts.len()).map(write)));
    begin(writes.as_mut());
    pause.end().await;

    for (number, result) in writes.await.into_iter().enumerate() {
        match (number % 5, &result) {
            (0, Ok(()))
            | (1, Err(Refusal::Unwanted))
            | (2, Err(Refusal::Store(Error::Panicked)))
            | (3 | 4, Err(Refusal::Store(Error::Conflict(Conflict::Other)))) => {}
            _ => panic!("{number}: {result:?}"),
        }
    }
    let landed = accounts.iter().step_by(5).map(|account| account.sid);
    assert_eq!(sids(&store).await, [known.sid].into_iter().chain(landed).collect::<Vec<_>>());
}

async fn a_write_is_done_although_its_caller_left_before_it_began(store: Store) {
    let (one, other) = (account(), account());
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let write = async move |tx: &mut Write| {
        let _alive = &alive;
        tx.insert_account(one).await?;
        tx.insert_account(other).await
    };
    let pause = Pause::begin(&store).await;
    // Asked for, and dropped.
    assert!(store.write(write).now_or_never().is_none());
    pause.end().await;

    assert_eq!(ended.recv().await, None, "the closure goes when it is done");
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn a_write_is_done_although_its_caller_left_in_the_middle(store: Store) {
    let (one, other) = (account(), account());
    let (middle, go_on) = (Gate::closed(), Gate::closed());
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let write = async move |tx: &mut Write| {
        let _alive = &alive;
        tx.insert_account(one).await?;
        middle.open();
        go_on.pass().await;
        tx.insert_account(other).await
    };
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.write(write).await }
    });
    middle.pass().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go_on.open();

    assert_eq!(ended.recv().await, None, "the closure goes when it is done");
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn a_statement_that_is_given_up_spoils_nothing(store: Store) {
    let accounts: Vec<_> = (0..20).map(|_| account()).collect();
    add(&store, accounts.clone()).await;
    for account in accounts {
        // A client that hangs up, at any moment.
        for polls in 0..8 {
            let mut read = pin!(store.read(async |db: &mut Read| db.accounts().await));
            for _ in 0..polls {
                if read.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let impatient = store.write(async move |tx: &mut Write| {
            let _ = tx.accounts().now_or_never();
            let _ = tx.delete_api_key(sid()).now_or_never();
            tx.account(account.sid).await
        });
        assert_same!(impatient.await.unwrap(), Some(account));
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    }
}

async fn too_many_waiting_writes_are_refused_at_once(store: Store) {
    let go_on = Gate::closed();
    let accounts: Vec<_> = (0..1200).map(|_| account()).collect();
    let mut writes = pin!(join_all(accounts.iter().map(|&account| {
        store.write(async move |tx: &mut Write| {
            go_on.pass().await;
            tx.insert_account(account).await
        })
    })));
    begin(writes.as_mut());
    go_on.open();
    let results = writes.await;

    let refused = results.iter().filter(|result| matches!(result, Err(Error::Unavailable(_)))).count();
    assert!(refused > 0);
    let landed = accounts.iter().zip(results).filter(|(_, result)| matches!(result, Ok(true)));
    let landed: Vec<_> = landed.map(|(account, _)| account.sid).collect();
    assert_eq!(landed.len(), accounts.len() - refused);
    assert_eq!(sids(&store).await, landed);
}

async fn a_write_that_waits_too_long_is_refused_in_time_and_never_run(place: Place) {
    let store = place.open().await;
    let (late, next) = (account(), account());
    let pause = Pause::begin(&store).await;
    let began = Instant::now();
    // The pause does not end by itself: what refuses the write is not the write ahead of it.
    let refused = transact!(store, |tx| tx.insert_account(late));
    assert_refused!(refused, Error::Unavailable(_));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    pause.end().await;
    assert!(transact!(store, |tx| tx.insert_account(next)).unwrap());
    assert_same!(read!(store, |db| db.account(late.sid)).unwrap(), None::<Account>);
}

async fn nothing_hangs_on_an_entity_that_is_deleted_meanwhile(store: Store) {
    let Family { service, .. } = family(&store).await;
    for number in 0..5 {
        let entity = entity(service, &format!("doomed-{number}"));
        let (path, factor) = (path_of(entity), factor(entity));
        add(&store, [entity]).await;
        add(&store, [factor]).await;
        let outcomes = at_once(9, |number| {
            let store = store.clone();
            let open = async move |tx: &mut Write| {
                let Some(held) = tx.hold_factor(path, factor.sid).await? else { return Ok(false) };
                tx.insert_challenge(challenge(&held)).await?;
                Ok::<_, Error>(true)
            };
            let delete =
                async move |tx: &mut Write| tx.delete_entity(path, NOW).await.map(|sid| sid.is_some());
            async move { if number == 4 { store.write(delete).await } else { store.write(open).await } }
        });
        for outcome in outcomes.await {
            // One that found the factor may find that the entity has gone since.
            assert!(matches!(outcome, Ok(_) | Err(Error::ParentGone)), "{outcome:?}");
        }
        while transact!(store, |tx| tx.remove_deleted(100)).unwrap() > 0 {}
        let left = read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, NOW)).unwrap();
        assert_same!(left, Vec::<Challenge>::new());
    }
}

async fn closing_finishes_what_was_asked_for_and_refuses_the_rest(store: Store) {
    let (before, after) = (account(), account());
    let pause = Pause::begin(&store).await;
    let mut writes = pin!(join_all((0..20).map(|number| {
        let account = if number == 0 { before } else { account() };
        store.write(async move |tx: &mut Write| {
            tx.insert_account(account).await?;
            tx.account(before.sid).await
        })
    })));
    begin(writes.as_mut());
    let mut closed = pin!(store.clone().close());
    begin(closed.as_mut());
    pause.end().await;
    closed.await;

    for written in writes.await {
        written.unwrap();
    }
    assert_refused!(transact!(store, |tx| tx.insert_account(after)), Error::Unavailable(_));
    assert_refused!(read!(store, |db| db.account(before.sid)), Error::Unavailable(_));
    assert_refused!(read!(store, |db| db.ready()), Error::Unavailable(_));
}

async fn a_store_can_be_closed_twice(store: Store) {
    let clone = store.clone();
    store.close().await;
    clone.close().await;
}

async fn nobody_sees_half_a_write(place: Place) {
    let store = place.open().await;
    let (one, other) = (account(), account());
    let (middle, go_on) = (Gate::closed(), Gate::closed());
    let mut write = pin!(store.write(async move |tx: &mut Write| {
        tx.insert_account(one).await?;
        middle.open();
        go_on.pass().await;
        tx.insert_account(other).await
    }));
    begin(write.as_mut());
    middle.pass().await;
    assert_eq!(sids(&store).await, []);
    go_on.open();
    write.await.unwrap();
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn what_was_answered_is_there_when_the_store_is_opened_again(place: Place) {
    let store = place.open().await;
    let clan = Clan::settle(&store).await;
    let late = account();
    let pause = Pause::begin(&store).await;
    // Still waiting when the store is closed.
    assert!(store.write(async |tx: &mut Write| tx.insert_account(late).await).now_or_never().is_none());
    let mut closed = pin!(store.close());
    begin(closed.as_mut());
    pause.end().await;
    closed.await;

    let store = place.open().await;
    assert_eq!(clan.remains(&store).await, Clan::ALL);
    let challenge = read!(store, |db| db.challenge(clan.family.path, clan.challenge.sid)).unwrap();
    assert_same!(challenge, Some(clan.challenge));
    assert_same!(read!(store, |db| db.account(late.sid)).unwrap(), Some(late));
}

async fn what_was_answered_is_there_without_closing(place: Place) {
    let store = place.open().await;
    let account = account();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    assert_eq!(place.sql("SELECT sid FROM accounts").await, account.sid.to_string());
    drop(store);
    let store = place.open().await;
    assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
}

async fn a_write_is_seen_by_other_servers(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    for (writer, reader) in [(&one, &other), (&other, &one), (&one, &other)] {
        let account = account();
        assert!(transact!(writer, |tx| tx.insert_account(account)).unwrap());
        assert_same!(read!(reader, |db| db.account(account.sid)).unwrap(), Some(account));
        assert!(!transact!(reader, |tx| tx.insert_account(account)).unwrap());
    }
}

async fn a_deadlock_is_met_by_running_again(place: Place) {
    let store = place.open().await;
    let Family { account, service: one, .. } = family(&store).await;
    let other = service(account);
    add(&store, [other]).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let met = Arc::new(Barrier::new(2));
    let results = at_once(2, |number| {
        let (store, runs, met) = (store.clone(), Arc::clone(&runs), Arc::clone(&met));
        let (first, second) = if number == 0 { (one, other) } else { (other, one) };
        let lock_both = async move |tx: &mut Write| {
            tx.lock_service(account.sid, first.sid).await?;
            // Each has what the other wants, the first time.
            if runs.fetch_add(1, Ordering::Relaxed) < 2 {
                met.wait().await;
            }
            tx.lock_service(account.sid, second.sid).await?;
            tx.insert_account(self::account()).await
        };
        async move { store.write(lock_both).await }
    });
    for result in results.await {
        assert!(result.unwrap());
    }
    assert!(runs.load(Ordering::Relaxed) > 2, "one of the two was run again");
    assert_eq!(sids(&store).await.len(), 3);
}

async fn a_closed_store_leaves_nothing_but_its_file(place: Place) {
    let store = place.open().await;
    let account = account();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    store.close().await;

    // Whoever copies the file now has everything.
    let file = place.file();
    let files = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(files.collect::<Vec<_>>(), [file]);
}

async fn nobody_waits_long_for_another_process(place: Place) {
    let store = place.open().await;
    let known = account();
    add(&store, [known]).await;
    let mut process = place.stranger().await;
    process.execute("BEGIN IMMEDIATE").await.unwrap();

    let begun = Instant::now();
    let writes = (0..4).map(async |_| {
        let account = account();
        assert_refused!(transact!(store, |tx| tx.insert_account(account)), Error::Unavailable(_));
    });
    let reads = async {
        assert_eq!(sids(&store).await, [known.sid]);
        assert!(
            begun.elapsed() < Duration::from_secs(6),
            "a read has nothing to wait for: {:?}",
            begun.elapsed()
        );
    };
    tokio::join!(join_all(writes), reads);
    assert!(begun.elapsed() < PATIENCE, "the last was refused after {:?}", begun.elapsed());

    process.close().await.unwrap();
    let after = account();
    assert!(transact!(store, |tx| tx.insert_account(after)).unwrap());
    assert_eq!(sids(&store).await, [known.sid, after.sid]);
}

async fn a_write_waits_for_another_process_that_ends_in_time(place: Place) {
    let store = place.open().await;
    let mut process = place.stranger().await;
    process.execute("BEGIN IMMEDIATE").await.unwrap();
    let account = account();
    let mut write = pin!(store.write(async move |tx: &mut Write| tx.insert_account(account).await));
    begin(write.as_mut());
    process.execute("COMMIT").await.unwrap();
    assert!(write.await.unwrap());
}
