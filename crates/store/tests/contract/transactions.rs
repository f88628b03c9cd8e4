//! The guarantees of reads and writes: atomicity, visibility, durability, cancellation and limits.

use std::future::{Ready, ready};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::{Account, AccountSid, Challenge, Sid as _};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use store::{ChallengeFilter, Conflict, Error, Read, Store, Write};
use tokio::sync::{Barrier, mpsc};

use crate::concurrency::{BlockedWrite, Gate, MAX_WAIT, poll_once, run_concurrently};
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::ALL;

contract! {
    reads_and_writes_return_the_results_of_their_closures,
    write_sees_its_own_changes,
    committed_write_is_visible_to_all_later_reads,
    read_returns_the_error_of_its_closure,
    schema_of_a_newly_opened_store_is_current,
    error_returned_by_the_closure_rolls_back_the_write,
    panic_in_the_closure_rolls_back_the_write_and_is_reported,
    panic_before_the_first_await_is_reported,
    ignored_statement_error_rolls_back_the_write,
    statement_error_mapped_by_the_closure_is_returned_and_rolls_back_the_write,
    many_concurrent_writes_all_succeed,
    concurrent_writes_succeed_or_fail_independently,
    queued_write_completes_after_its_caller_was_dropped,
    running_write_completes_after_its_caller_was_dropped,
    canceled_statement_does_not_affect_later_statements,
    writes_beyond_the_queue_limit_are_refused,
    no_challenges_remain_if_their_entity_is_deleted_while_they_are_created,
    closing_the_store_completes_queued_writes_and_refuses_later_calls,
    store_can_be_closed_twice,
}

contract! {
    on disk:
    uncommitted_write_is_not_visible_to_reads,
    committed_and_queued_writes_survive_closing_and_reopening,
    committed_writes_survive_reopening_without_closing,
    committed_write_is_visible_to_other_servers,
}

contract! {
    on postgres:
    deadlocked_write_is_repeated_and_succeeds,
}

contract! {
    on sqlite:
    closing_the_store_leaves_only_the_database_file,
    writes_are_refused_and_reads_succeed_while_another_process_locks_the_file,
    write_waits_until_another_process_releases_its_lock,
    write_queued_for_too_long_is_refused_and_never_runs,
}

/// An error type that a caller of the store could define.
#[derive(Debug)]
enum CallerError {
    Unwanted,
    Store(Error),
}

impl From<Error> for CallerError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Panics without printing a message to standard error.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("a bug"))
}

/// Returns the SIDs of all accounts in the store, oldest first.
async fn sids(store: &Store) -> Vec<AccountSid> {
    read!(store, |db| db.accounts()).unwrap().iter().map(|account| account.sid).collect()
}

async fn reads_and_writes_return_the_results_of_their_closures(store: Store) {
    assert_eq!(store.write(async |_| Ok::<_, Error>("a value")).await.unwrap(), "a value");
    assert_refused!(store.write(async |_| Err::<(), _>(CallerError::Unwanted)).await, CallerError::Unwanted);
    assert_eq!(store.read(async |_| Ok::<_, Error>("a value")).await.unwrap(), "a value");
}

async fn write_sees_its_own_changes(store: Store) {
    let account = account();
    let insert_and_read = async move |tx: &mut Write| {
        let before = tx.account(account.sid).await?;
        tx.insert_account(account).await?;
        Ok::<_, Error>((before, tx.account(account.sid).await?))
    };
    let (before, after) = store.write(insert_and_read).await.unwrap();
    assert_same!(before, None::<Account>);
    assert_same!(after, Some(account));
}

async fn committed_write_is_visible_to_all_later_reads(store: Store) {
    for _ in 0..50 {
        let account = account();
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        let reads = (0..8).map(|_| async { read!(store, |db| db.account(account.sid)).unwrap() });
        assert_same!(join_all(reads).await, [Some(account); 8]);
    }
}

async fn read_returns_the_error_of_its_closure(store: Store) {
    let refused = store.read(async |db: &mut Read| {
        db.accounts().await?;
        Err::<(), _>(CallerError::Unwanted)
    });
    assert_refused!(refused.await, CallerError::Unwanted);
}

async fn schema_of_a_newly_opened_store_is_current(store: Store) {
    read!(store, |db| db.require_current_schema()).unwrap();
    transact!(store, |tx| tx.require_current_schema()).unwrap();
}

async fn error_returned_by_the_closure_rolls_back_the_write(store: Store) {
    let existing = enrolled_user(&store).await;
    let refused = store.write(async move |tx: &mut Write| {
        tx.insert_account(account()).await?;
        tx.delete_service(existing.account.sid, existing.service.sid, NOW).await?;
        Err::<(), _>(CallerError::Unwanted)
    });
    assert_refused!(refused.await, CallerError::Unwanted);
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [existing.account]);
    assert_same!(
        read!(store, |db| db.factor(existing.path, existing.factor.sid)).unwrap(),
        Some(existing.factor)
    );
}

async fn panic_in_the_closure_rolls_back_the_write_and_is_reported(store: Store) {
    let (lost, later) = (account(), account());
    let panicked = store.write(async move |tx: &mut Write| {
        tx.insert_account(lost).await?;
        if tx.account(lost.sid).await?.is_some() {
            panic_quietly();
        }
        Ok::<_, CallerError>(())
    });
    assert_refused!(panicked.await, CallerError::Store(Error::Panicked));
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
    assert_eq!(sids(&store).await, [later.sid]);
}

async fn panic_before_the_first_await_is_reported(store: Store) {
    // The body of a function that returns a future runs before the future is polled. The body of an async closure runs
    // only when its future is polled.
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

async fn ignored_statement_error_rolls_back_the_write(store: Store) {
    let EnrolledUser { account: known, service, .. } = enrolled_user(&store).await;
    let (before, after) = (account(), account());
    let result = store.write(async move |tx: &mut Write| {
        tx.insert_account(before).await?;
        let conflict = tx.insert_service(service).await;
        assert_refused!(conflict, Error::Conflict(Conflict::Other));
        // PostgreSQL refuses statements after the failed one. SQLite would execute them.
        let _ = tx.insert_account(after).await;
        Ok::<_, Error>(())
    });
    assert_refused!(result.await, Error::Conflict(Conflict::Other));
    assert_eq!(sids(&store).await, [known.sid]);
}

async fn statement_error_mapped_by_the_closure_is_returned_and_rolls_back_the_write(store: Store) {
    let EnrolledUser { account: known, service, .. } = enrolled_user(&store).await;
    let refused = store.write(async move |tx: &mut Write| {
        tx.insert_account(account()).await?;
        tx.insert_service(service).await.map_err(|_| CallerError::Unwanted)
    });
    assert_refused!(refused.await, CallerError::Unwanted);
    assert_eq!(sids(&store).await, [known.sid]);
}

async fn many_concurrent_writes_all_succeed(store: Store) {
    let accounts: Vec<_> = (0..300).map(|_| account()).collect();
    let inserted = run_concurrently(accounts.len(), |number| {
        let (store, account) = (store.clone(), accounts[number]);
        async move { transact!(store, |tx| tx.insert_account(account)).unwrap() }
    });
    assert!(inserted.await.into_iter().all(|inserted| inserted));
    assert_same!(read!(store, |db| db.accounts()).unwrap(), accounts);
}

async fn concurrent_writes_succeed_or_fail_independently(store: Store) {
    let EnrolledUser { account: known, service, .. } = enrolled_user(&store).await;
    let accounts: Vec<_> = (0..300).map(|_| account()).collect();
    let write = |number: usize| {
        let account = accounts[number];
        store.write(async move |tx: &mut Write| {
            tx.insert_account(account).await?;
            match number % 5 {
                1 => Err(CallerError::Unwanted),
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
    // Block the writer until all writes are queued, so that on SQLite they share transactions.
    let blocked = BlockedWrite::start(&store).await;
    let mut writes = pin!(join_all((0..accounts.len()).map(write)));
    poll_once(writes.as_mut());
    blocked.finish().await;

    for (number, result) in writes.await.into_iter().enumerate() {
        match (number % 5, &result) {
            (0, Ok(()))
            | (1, Err(CallerError::Unwanted))
            | (2, Err(CallerError::Store(Error::Panicked)))
            | (3 | 4, Err(CallerError::Store(Error::Conflict(Conflict::Other)))) => {}
            _ => panic!("{number}: {result:?}"),
        }
    }
    let succeeded = accounts.iter().step_by(5).map(|account| account.sid);
    assert_eq!(sids(&store).await, [known.sid].into_iter().chain(succeeded).collect::<Vec<_>>());
}

async fn queued_write_completes_after_its_caller_was_dropped(store: Store) {
    let (one, other) = (account(), account());
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let write = async move |tx: &mut Write| {
        let _alive = &alive;
        tx.insert_account(one).await?;
        tx.insert_account(other).await
    };
    let blocked = BlockedWrite::start(&store).await;
    // Queue the write and drop its future.
    assert!(store.write(write).now_or_never().is_none());
    blocked.finish().await;

    assert_eq!(ended.recv().await, None, "the closure must be dropped when it has finished");
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn running_write_completes_after_its_caller_was_dropped(store: Store) {
    let (one, other) = (account(), account());
    let (in_progress, proceed) = (Gate::closed(), Gate::closed());
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let write = async move |tx: &mut Write| {
        let _alive = &alive;
        tx.insert_account(one).await?;
        in_progress.open();
        proceed.wait_until_open().await;
        tx.insert_account(other).await
    };
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.write(write).await }
    });
    in_progress.wait_until_open().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    proceed.open();

    assert_eq!(ended.recv().await, None, "the closure must be dropped when it has finished");
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn canceled_statement_does_not_affect_later_statements(store: Store) {
    let accounts: Vec<_> = (0..20).map(|_| account()).collect();
    add(&store, accounts.clone()).await;
    for account in accounts {
        // Cancel the read after each number of polls, because a client may disconnect at any time.
        for polls in 0..8 {
            let mut read = pin!(store.read(async |db: &mut Read| db.accounts().await));
            for _ in 0..polls {
                if read.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let read_after_cancel = store.write(async move |tx: &mut Write| {
            let _ = tx.accounts().now_or_never();
            let _ = tx.delete_api_key(sid()).now_or_never();
            tx.account(account.sid).await
        });
        assert_same!(read_after_cancel.await.unwrap(), Some(account));
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    }
}

async fn writes_beyond_the_queue_limit_are_refused(store: Store) {
    let proceed = Gate::closed();
    let accounts: Vec<_> = (0..1200).map(|_| account()).collect();
    let mut writes = pin!(join_all(accounts.iter().map(|&account| {
        store.write(async move |tx: &mut Write| {
            proceed.wait_until_open().await;
            tx.insert_account(account).await
        })
    })));
    poll_once(writes.as_mut());
    proceed.open();
    let results = writes.await;

    let refused = results.iter().filter(|result| matches!(result, Err(Error::Unavailable(_)))).count();
    assert!(refused > 0);
    let succeeded = accounts.iter().zip(results).filter(|(_, result)| matches!(result, Ok(true)));
    let succeeded: Vec<_> = succeeded.map(|(account, _)| account.sid).collect();
    assert_eq!(succeeded.len(), accounts.len() - refused);
    assert_eq!(sids(&store).await, succeeded);
}

async fn write_queued_for_too_long_is_refused_and_never_runs(database: TestDatabase) {
    let store = database.open().await;
    let (late, next) = (account(), account());
    let blocked = BlockedWrite::start(&store).await;
    let started_at = Instant::now();
    // The blocked write does not end by itself, so the second write is refused while it is still queued.
    let refused = transact!(store, |tx| tx.insert_account(late));
    assert_refused!(refused, Error::Unavailable(_));
    assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
    blocked.finish().await;
    assert!(transact!(store, |tx| tx.insert_account(next)).unwrap());
    assert_same!(read!(store, |db| db.account(late.sid)).unwrap(), None::<Account>);
}

async fn no_challenges_remain_if_their_entity_is_deleted_while_they_are_created(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    for number in 0..5 {
        let entity = entity(service, &format!("deleted-{number}"));
        let (path, factor) = (path_of(entity), factor(entity));
        add(&store, [entity]).await;
        add(&store, [factor]).await;
        let outcomes = run_concurrently(9, |number| {
            let store = store.clone();
            let open = async move |tx: &mut Write| {
                let Some(held) = tx.lock_push_factor_shared(path, factor.sid).await? else {
                    return Ok(false);
                };
                tx.insert_push_challenge(challenge(&held)).await?;
                Ok::<_, Error>(true)
            };
            let delete =
                async move |tx: &mut Write| tx.delete_entity(path, NOW).await.map(|sid| sid.is_some());
            async move { if number == 4 { store.write(delete).await } else { store.write(open).await } }
        });
        for outcome in outcomes.await {
            // After a write has locked the factor, it may find that the entity was deleted meanwhile.
            assert!(matches!(outcome, Ok(_) | Err(Error::ParentGone)), "{outcome:?}");
        }
        while transact!(store, |tx| tx.remove_deleted(100)).unwrap() > 0 {}
        let left =
            read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW)).unwrap();
        assert_same!(left, Vec::<Challenge>::new());
    }
}

async fn closing_the_store_completes_queued_writes_and_refuses_later_calls(store: Store) {
    let (before, after) = (account(), account());
    let blocked = BlockedWrite::start(&store).await;
    let mut writes = pin!(join_all((0..20).map(|number| {
        let account = if number == 0 { before } else { account() };
        store.write(async move |tx: &mut Write| {
            tx.insert_account(account).await?;
            tx.account(before.sid).await
        })
    })));
    poll_once(writes.as_mut());
    let mut closed = pin!(store.clone().close());
    poll_once(closed.as_mut());
    blocked.finish().await;
    closed.await;

    for written in writes.await {
        written.unwrap();
    }
    assert_refused!(transact!(store, |tx| tx.insert_account(after)), Error::Unavailable(_));
    assert_refused!(read!(store, |db| db.account(before.sid)), Error::Unavailable(_));
    assert_refused!(read!(store, |db| db.require_current_schema()), Error::Unavailable(_));
}

async fn store_can_be_closed_twice(store: Store) {
    let clone = store.clone();
    store.close().await;
    clone.close().await;
}

async fn uncommitted_write_is_not_visible_to_reads(database: TestDatabase) {
    let store = database.open().await;
    let (one, other) = (account(), account());
    let (in_progress, proceed) = (Gate::closed(), Gate::closed());
    let mut write = pin!(store.write(async move |tx: &mut Write| {
        tx.insert_account(one).await?;
        in_progress.open();
        proceed.wait_until_open().await;
        tx.insert_account(other).await
    }));
    poll_once(write.as_mut());
    in_progress.wait_until_open().await;
    assert_eq!(sids(&store).await, []);
    proceed.open();
    write.await.unwrap();
    assert_eq!(sids(&store).await, [one.sid, other.sid]);
}

async fn committed_and_queued_writes_survive_closing_and_reopening(database: TestDatabase) {
    let store = database.open().await;
    let tree = AccountTree::create(&store).await;
    let late = account();
    let blocked = BlockedWrite::start(&store).await;
    // This write is still queued when the store is closed.
    assert!(store.write(async |tx: &mut Write| tx.insert_account(late).await).now_or_never().is_none());
    let mut closed = pin!(store.close());
    poll_once(closed.as_mut());
    blocked.finish().await;
    closed.await;

    let store = database.open().await;
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
    let challenge = read!(store, |db| db.challenge(tree.user.path, tree.challenge.sid)).unwrap();
    assert_same!(challenge, Some(tree.challenge));
    assert_same!(read!(store, |db| db.account(late.sid)).unwrap(), Some(late));
}

async fn committed_writes_survive_reopening_without_closing(database: TestDatabase) {
    let store = database.open().await;
    let account = account();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    let count =
        format!("SELECT count(*) FROM accounts WHERE sid = {}", database.literal(account.sid.to_bytes()));
    assert_eq!(database.sql(&count).await, "1");
    drop(store);
    let store = database.open().await;
    assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
}

async fn committed_write_is_visible_to_other_servers(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    for (writer, reader) in [(&one, &other), (&other, &one), (&one, &other)] {
        let account = account();
        assert!(transact!(writer, |tx| tx.insert_account(account)).unwrap());
        assert_same!(read!(reader, |db| db.account(account.sid)).unwrap(), Some(account));
        assert!(!transact!(reader, |tx| tx.insert_account(account)).unwrap());
    }
}

async fn deadlocked_write_is_repeated_and_succeeds(database: TestDatabase) {
    let store = database.open().await;
    let EnrolledUser { account, service: one, .. } = enrolled_user(&store).await;
    let other = service(account);
    add(&store, [other]).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let met = Arc::new(Barrier::new(2));
    let results = run_concurrently(2, |number| {
        let (store, runs, met) = (store.clone(), Arc::clone(&runs), Arc::clone(&met));
        let (first, second) = if number == 0 { (one, other) } else { (other, one) };
        let lock_both = async move |tx: &mut Write| {
            tx.lock_service(account.sid, first.sid).await?;
            // In its first run, each transaction holds the lock that the other requests next.
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
    assert!(runs.load(Ordering::Relaxed) > 2, "one of the two writes must have been repeated");
    assert_eq!(sids(&store).await.len(), 3);
}

async fn closing_the_store_leaves_only_the_database_file(database: TestDatabase) {
    let store = database.open().await;
    let account = account();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    store.close().await;

    // No write-ahead log is left, so a copy of this file alone is a complete database.
    let file = database.file();
    let files = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(files.collect::<Vec<_>>(), [file]);
}

async fn writes_are_refused_and_reads_succeed_while_another_process_locks_the_file(database: TestDatabase) {
    let store = database.open().await;
    let known = account();
    add(&store, [known]).await;
    let process = database.connect_directly();
    process.execute_batch("BEGIN IMMEDIATE").unwrap();

    let started_at = Instant::now();
    let writes = (0..4).map(async |_| {
        let account = account();
        assert_refused!(transact!(store, |tx| tx.insert_account(account)), Error::Unavailable(_));
    });
    let reads = async {
        assert_eq!(sids(&store).await, [known.sid]);
        assert!(
            started_at.elapsed() < Duration::from_secs(6),
            "a read must not wait for the lock, but took {:?}",
            started_at.elapsed()
        );
    };
    tokio::join!(join_all(writes), reads);
    assert!(started_at.elapsed() < MAX_WAIT, "the last write was refused after {:?}", started_at.elapsed());

    drop(process);
    let after = account();
    assert!(transact!(store, |tx| tx.insert_account(after)).unwrap());
    assert_eq!(sids(&store).await, [known.sid, after.sid]);
}

async fn write_waits_until_another_process_releases_its_lock(database: TestDatabase) {
    let store = database.open().await;
    let process = database.connect_directly();
    process.execute_batch("BEGIN IMMEDIATE").unwrap();
    let account = account();
    let mut write = pin!(store.write(async move |tx: &mut Write| tx.insert_account(account).await));
    poll_once(write.as_mut());
    process.execute_batch("COMMIT").unwrap();
    assert!(write.await.unwrap());
}
