//! Lost database connections, and connections that several runtimes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domain::{Account, Secret};
use futures_util::future::join_all;
use harness::wait_until;
use sqlx::postgres::PgConnectOptions;
use store::{Error, Location, OldSchema, Read, Store, Write};
use tokio::sync::Barrier;

use crate::concurrency::{Gate, MAX_WAIT, block_on_new_runtime, run_concurrently};
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::proxy::Proxy;

contract! {
    more_concurrent_reads_than_connections_all_succeed,
}

contract! {
    on disk:
    size_of_a_database_on_disk_is_reported,
    store_works_after_the_runtime_that_opened_it_ended,
    short_lived_runtimes_can_share_a_store,
}

contract! {
    on memory:
    size_of_a_database_in_memory_is_zero,
}

contract! {
    on postgres:
    running_write_succeeds_when_the_runtime_that_opened_its_connection_ends,
    killed_idle_connections_are_replaced_without_an_error,
    reported_write_outcomes_are_correct_while_connections_are_killed,
    reported_write_outcome_is_correct_if_the_connection_is_killed_before_commit,
    write_is_repeated_if_its_connection_is_lost_before_commit,
    read_is_repeated_if_its_connection_is_lost,
    connection_lost_at_commit_is_reported_as_outcome_unknown,
    database_that_closes_connections_is_unreachable_until_it_recovers,
    unreachable_database_is_reported_with_its_address_within_two_seconds,
    only_temporary_database_errors_are_reported_as_unavailable,
    connections_closed_by_the_idle_session_timeout_are_replaced,
    connection_is_not_reused_after_it_refused_a_write_as_read_only,
    database_with_an_encoding_other_than_utf8_is_refused,
    missing_database_is_a_permanent_error_and_unreachable_server_a_temporary_one,
}

/// SQL that terminates the store's connections to this database, waits at most five seconds for each to end, and
/// returns how many connections it terminated.
const KILL_CONNECTIONS: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'countersign'";

/// SQL that counts the store's connections to this database.
const COUNT_CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND application_name = 'countersign'";

/// Makes the store open `connections` connections, by running that many reads at the same time.
async fn warm_up(store: &Store, connections: usize) {
    let all_started = Arc::new(Barrier::new(connections));
    let reads = (0..connections).map(|_| {
        let all_started = Arc::clone(&all_started);
        store.read(async move |db: &mut Read| {
            db.require_current_schema().await?;
            all_started.wait().await;
            Ok::<_, Error>(())
        })
    });
    for read in join_all(reads).await {
        read.unwrap();
    }
}

/// Returns whether the store contains `account`.
async fn contains(store: &Store, account: &'static Account) -> bool {
    read!(store, |db| db.account(account.sid)).unwrap().is_some()
}

async fn size_of_a_database_on_disk_is_reported(database: TestDatabase) {
    let store = database.open().await;
    let size = store.size().await.unwrap();
    // The tables take up space even without rows. On SQLite, most of it is still in the write-ahead log.
    assert!(size.database > 0, "{size:?}");
    let all = size.database + size.write_ahead_log;
    assert!((100_000..100_000_000).contains(&all), "{size:?}");
    let is_sqlite = matches!(database.location, Location::Sqlite(_));
    assert_eq!(size.write_ahead_log > 0, is_sqlite, "{size:?}");
}

async fn size_of_a_database_in_memory_is_zero(database: TestDatabase) {
    assert_eq!(database.open().await.size().await.unwrap(), store::Size::default());
}

/// Asserts that `account` exists if its insertion succeeded and does not exist if it failed. An unknown outcome permits
/// both.
///
/// # Panics
/// Panics if the assertion fails or `outcome` is any other error.
async fn assert_outcome_holds(store: &Store, account: &'static Account, outcome: &Result<bool, Error>) {
    match outcome {
        Ok(true) => {
            assert!(contains(store, account).await, "the write succeeded, but the account is missing")
        }
        Err(Error::Unavailable(_) | Error::Unreachable { .. }) => {
            assert!(!contains(store, account).await, "the write failed, but the account exists")
        }
        Err(Error::OutcomeUnknown(_)) => {}
        other => panic!("{other:?}"),
    }
}

async fn more_concurrent_reads_than_connections_all_succeed(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let reads = (0..200).map(|_| async { read!(store, |db| db.account(account.sid)).unwrap() });
    for found in join_all(reads).await {
        assert_same!(found, Some(account));
    }
}

async fn store_works_after_the_runtime_that_opened_it_ended(database: TestDatabase) {
    let open = async || {
        let store = database.open().await;
        add(&store, [account()]).await;
        warm_up(&store, 4).await;
        store
    };
    let store = thread::scope(|scope| scope.spawn(|| block_on_new_runtime(open())).join().unwrap());
    for _ in 0..8 {
        let account = account();
        add(&store, [account]).await;
        assert!(contains(&store, account).await);
    }
    store.close().await;
}

async fn running_write_succeeds_when_the_runtime_that_opened_its_connection_ends(database: TestDatabase) {
    const CONNECTIONS: usize = 8;
    const WRITES: usize = 5;
    let store = database.open().await;
    let (connected, end) = (Gate::closed(), Gate::closed());
    let clone = store.clone();
    let other = thread::spawn(move || {
        block_on_new_runtime(async move {
            warm_up(&clone, CONNECTIONS).await;
            connected.open();
            end.wait_until_open().await;
        });
    });
    connected.wait_until_open().await;

    let (all_started, proceed) = (Arc::new(Barrier::new(WRITES + 1)), Gate::closed());
    let writes = (0..WRITES).map(|_| {
        let all_started = Arc::clone(&all_started);
        store.write(async move |tx: &mut Write| {
            let inserted = tx.insert_account(account()).await?;
            all_started.wait().await;
            proceed.wait_until_open().await;
            Ok::<_, Error>(inserted)
        })
    });
    let ends = async {
        all_started.wait().await;
        end.open();
        tokio::task::block_in_place(|| other.join().unwrap());
        proceed.open();
    };
    let (written, ()) = tokio::join!(join_all(writes), ends);
    for inserted in written {
        assert!(inserted.unwrap());
    }
}

async fn short_lived_runtimes_can_share_a_store(database: TestDatabase) {
    let store = database.open().await;
    // The numbers differ, so that some runtimes continue to use connections that an ended runtime has opened.
    let rounds = [1, 6, 11, 16];
    let work = async |rounds| {
        for _ in 0..rounds {
            let account = account();
            add(&store, [account]).await;
            let seen = (0..5).map(|_| contains(&store, account));
            assert!(join_all(seen).await.into_iter().all(|seen| seen));
        }
    };
    thread::scope(|scope| {
        for rounds in rounds {
            scope.spawn(move || block_on_new_runtime(work(rounds)));
        }
    });
    assert_eq!(read!(store, |db| db.accounts()).unwrap().len(), rounds.iter().sum::<usize>());
}

async fn killed_idle_connections_are_replaced_without_an_error(database: TestDatabase) {
    let store = &database.open().await;
    let kill = async || {
        warm_up(store, 8).await;
        // Connections that the store opened to find out how to reach PostgreSQL may still be closing.
        wait_until("only the 8 pooled connections are left", MAX_WAIT, async || {
            (database.sql(COUNT_CONNECTIONS).await == "8").then_some(())
        })
        .await;
        assert_eq!(database.sql(KILL_CONNECTIONS).await, "8");
    };
    for _ in 0..3 {
        let account = account();
        kill().await;
        assert!(!contains(store, account).await);
        kill().await;
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        kill().await;
        // Use the store concurrently, so that one read or write may encounter several killed connections.
        let uses = (0..20).map(async |_| {
            add(store, [self::account()]).await;
            assert!(contains(store, account).await);
        });
        join_all(uses).await;
    }
}

async fn reported_write_outcomes_are_correct_while_connections_are_killed(database: TestDatabase) {
    let store = database.open().await;
    let running = Arc::new(AtomicBool::new(true));
    let writes = run_concurrently(8, |_| {
        let (store, running) = (store.clone(), Arc::clone(&running));
        async move {
            let mut outcomes = Vec::new();
            while running.load(Ordering::Relaxed) {
                let account = account();
                outcomes.push((account, transact!(store, |tx| tx.insert_account(account))));
            }
            outcomes
        }
    });
    let kills = async {
        for _ in 0..10 {
            database.sql(KILL_CONNECTIONS).await;
        }
        running.store(false, Ordering::Relaxed);
    };
    let (outcomes, ()) = tokio::join!(writes, kills);
    for (account, outcome) in outcomes.into_iter().flatten() {
        assert_outcome_holds(&store, account, &outcome).await;
    }
}

async fn reported_write_outcome_is_correct_if_the_connection_is_killed_before_commit(database: TestDatabase) {
    let database = Arc::new(database);
    let store = database.open().await;
    let account = account();
    let killer = Arc::clone(&database);
    let killed = store.write(async move |tx: &mut Write| {
        let inserted = tx.insert_account(account).await?;
        killer.sql(KILL_CONNECTIONS).await;
        Ok(inserted)
    });
    let outcome = killed.await;
    assert_outcome_holds(&store, account, &outcome).await;
}

async fn write_is_repeated_if_its_connection_is_lost_before_commit(database: TestDatabase) {
    let proxy = leak(Proxy::to(database.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let (one, other) = (account(), account());
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let write = store.write(async move |tx: &mut Write| {
        tx.insert_account(one).await?;
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            proxy.cut().await;
        }
        tx.insert_account(other).await
    });
    assert!(write.await.unwrap());
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [one, other]);
}

async fn read_is_repeated_if_its_connection_is_lost(database: TestDatabase) {
    let proxy = leak(Proxy::to(database.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let account = account();
    add(&store, [account]).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let read = store.read(async move |db: &mut Read| {
        db.require_current_schema().await?;
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            proxy.cut().await;
        }
        db.account(account.sid).await
    });
    assert_same!(read.await.unwrap(), Some(account));
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

async fn connection_lost_at_commit_is_reported_as_outcome_unknown(database: TestDatabase) {
    let proxy = leak(Proxy::to(database.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let cut = store.write(async |tx: &mut Write| {
        let inserted = tx.insert_account(account()).await?;
        proxy.cut().await;
        Ok(inserted)
    });
    assert_refused!(cut.await, Error::OutcomeUnknown(_));
    let later = account();
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
}

async fn database_that_closes_connections_is_unreachable_until_it_recovers(database: TestDatabase) {
    let proxy = leak(Proxy::to(database.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let account = account();
    warm_up(&store, 8).await;
    proxy.hang_up().await;
    assert_refused!(transact!(store, |tx| tx.insert_account(account)), Error::Unreachable { .. });
    assert_refused!(read!(store, |db| db.require_current_schema()), Error::Unreachable { .. });
    let opened = Store::open(&proxy.location, OldSchema::Migrate).await.map(|_| ());
    assert_refused!(opened, Error::Unreachable { .. });

    proxy.resume().await;
    read!(store, |db| db.require_current_schema()).unwrap();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    assert!(contains(&store, account).await);
}

async fn unreachable_database_is_reported_with_its_address_within_two_seconds(database: TestDatabase) {
    let proxy = leak(Proxy::to(database.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    warm_up(&store, 8).await;
    proxy.stop().await;
    let started_at = Instant::now();
    let writes = (0..20).map(async |_| {
        let account = account();
        transact!(store, |tx| tx.insert_account(account)).map(drop).unwrap_err()
    });
    let reads = (0..20).map(async |_| read!(store, |db| db.require_current_schema()).unwrap_err());
    let (writes, reads) = tokio::join!(join_all(writes), join_all(reads));
    // The store waits one second. Allow another second for slow machines.
    assert!(
        started_at.elapsed() < Duration::from_secs(2),
        "the last call failed after {:?}",
        started_at.elapsed()
    );
    let Location::Postgres(url) = &proxy.location else { unreachable!() };
    let options: PgConnectOptions = url.expose().parse().unwrap();
    let (port, name) = (options.get_port(), options.get_database().unwrap());
    for error in writes.into_iter().chain(reads) {
        let text = domain::error_report(&error);
        let expected = format!("cannot connect to PostgreSQL at 127.0.0.1:{port}, database {name}: ");
        assert!(text.starts_with(&expected) && text.contains("Connection refused"), "{text}");
    }

    // The failed writes had no effect, and the store does not repeat them later.
    proxy.resume().await;
    let later = account();
    add(&store, [later]).await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [later]);
}

async fn only_temporary_database_errors_are_reported_as_unavailable(database: TestDatabase) {
    let store = database.open().await;
    let refuse_with = async |code: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$; \
             CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        database.sql(&sql).await;
        let account = account();
        transact!(store, |tx| tx.insert_account(account))
    };
    let temporary = [
        "08000", "08003", "08006", "08P01", "25006", "25P03", "25P04", "40001", "40P01", "53000", "53100",
        "53200", "53300", "53400", "55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58000",
        "58030",
    ];
    for code in temporary {
        match refuse_with(code).await {
            Err(Error::Unavailable(_)) => {}
            other => panic!("{code}: {other:?}"),
        }
    }
    for code in ["22P05", "22023", "42501", "42P01", "57P04", "XX000", "P0001"] {
        match refuse_with(code).await {
            Err(Error::Database(_)) => {}
            other => panic!("{code}: {other:?}"),
        }
    }
}

async fn connections_closed_by_the_idle_session_timeout_are_replaced(database: TestDatabase) {
    database.open().await.close().await;
    set_database_option(&database, "idle_session_timeout = '300ms'").await;
    let store = database.open().await;
    for _ in 0..3 {
        warm_up(&store, 8).await;
        wait_until("PostgreSQL ends the connections", MAX_WAIT, async || {
            (database.sql(COUNT_CONNECTIONS).await == "0").then_some(())
        })
        .await;
        let account = account();
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        let all = (0..20).map(async |_| assert!(contains(&store, account).await));
        join_all(all).await;
    }
}

async fn connection_is_not_reused_after_it_refused_a_write_as_read_only(database: TestDatabase) {
    database.open().await.close().await;
    // New sessions are read-only, as on a PostgreSQL primary that was demoted to a standby.
    set_database_option(&database, "default_transaction_read_only = on").await;
    let store = database.open().await;
    warm_up(&store, 8).await;
    let (refused, later) = (account(), account());
    assert_refused!(transact!(store, |tx| tx.insert_account(refused)), Error::Unavailable(_));
    set_database_option(&database, "default_transaction_read_only = off").await;
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [later]);
}

/// Changes a setting of this database. The change affects only sessions that are opened later.
async fn set_database_option(database: &TestDatabase, setting: &str) {
    let name = database.sql("SELECT current_database()").await;
    // An explicit read-write transaction can change the setting even if transactions are read-only by default.
    let alter = format!("BEGIN READ WRITE; ALTER DATABASE \"{name}\" SET {setting}; COMMIT");
    database.sql(&alter).await;
}

async fn database_with_an_encoding_other_than_utf8_is_refused(_: TestDatabase) {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let test = "database_with_an_encoding_other_than_utf8_is_refused";
        let Some(database) = harness::postgres_in_encoding_or_skip(test, encoding) else { return };
        let location = Location::Postgres(Secret::new(database.url.clone()));
        let results = [
            Store::open(&location, OldSchema::Migrate).await.map(drop),
            Store::open(&location, OldSchema::Refuse).await.map(drop),
            Store::missing_migrations(&location).await.map(drop),
        ];
        for result in results {
            let error = result.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(encoding) && text.contains("ENCODING 'UTF8'"), "{text}");
            assert!(matches!(error, Error::Encoding { .. }) && !error.is_temporary(), "{error:?}");
        }
        assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    }
}

async fn missing_database_is_a_permanent_error_and_unreachable_server_a_temporary_one(
    database: TestDatabase,
) {
    let open = async |location: &Location| Store::open(location, OldSchema::Migrate).await.map(drop);
    let missing = Location::Postgres(Secret::new(format!("{}_of_another_name", database.url())));
    let error = open(&missing).await.unwrap_err();
    assert!(!error.is_temporary(), "{error:?}");
    assert!(domain::error_report(&error).contains("does not exist"), "{error:?}");

    let proxy = Proxy::to(database.url()).await;
    proxy.stop().await;
    let error = open(&proxy.location).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}
