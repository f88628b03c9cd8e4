//! The connections behind a store: lost ones, and ones that several runtimes share.

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

use crate::fixtures::*;
use crate::places::Place;
use crate::proxy::Proxy;
use crate::together::{Gate, PATIENCE, at_once};

contract! {
    more_readers_than_connections_take_turns,
}

contract! {
    on disk:
    a_database_on_disk_has_a_size,
    a_store_outlives_the_runtime_that_opened_it,
    a_store_is_shared_by_runtimes_that_come_and_go,
}

contract! {
    on memory:
    a_database_in_memory_has_none,
}

contract! {
    on postgres:
    a_write_outlives_the_runtime_in_which_its_connection_was_first_used,
    killed_connections_are_replaced_unnoticed,
    what_was_answered_holds_while_connections_are_killed,
    a_connection_that_is_killed_before_the_commit_leaves_nothing_behind,
    a_connection_that_is_lost_during_a_write_is_met_by_running_again,
    a_connection_that_is_lost_during_a_read_is_met_by_running_again,
    a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown,
    a_database_that_hangs_up_is_unavailable_until_it_is_back,
    a_database_that_is_away_is_named_at_once,
    a_failure_that_passes_is_unavailable,
    connections_that_postgres_ends_for_idling_are_replaced,
    a_connection_to_a_replica_is_not_used_again,
    a_database_in_another_encoding_is_refused,
    what_waiting_can_not_mend_is_told_apart,
}

/// Kills all connections to this database, and waits until they are gone.
const KILL: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'countersign'";

/// The store's connections to this database.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND application_name = 'countersign'";

/// Has as many connections made, all in use at the same time.
async fn warm_up(store: &Store, connections: usize) {
    let all_there = Arc::new(Barrier::new(connections));
    let reads = (0..connections).map(|_| {
        let all_there = Arc::clone(&all_there);
        store.read(async move |db: &mut Read| {
            db.ready().await?;
            all_there.wait().await;
            Ok::<_, Error>(())
        })
    });
    for read in join_all(reads).await {
        read.unwrap();
    }
}

async fn has(store: &Store, account: &'static Account) -> bool {
    read!(store, |db| db.account(account.sid)).unwrap().is_some()
}

async fn a_database_on_disk_has_a_size(place: Place) {
    let store = place.open().await;
    let size = store.size().await.unwrap();
    // With the schema alone, which on SQLite is still in the write-ahead log.
    assert!(size.database > 0, "{size:?}");
    let all = size.database + size.write_ahead_log;
    assert!((100_000..100_000_000).contains(&all), "{size:?}");
    let is_sqlite = matches!(place.location, Location::Sqlite(_));
    assert_eq!(size.write_ahead_log > 0, is_sqlite, "{size:?}");
}

async fn a_database_in_memory_has_none(place: Place) {
    assert_eq!(place.open().await.size().await.unwrap(), store::Size::default());
}

/// That an account is there if its insertion was answered with yes, and isn't if that was refused.
async fn assert_holds(store: &Store, account: &'static Account, outcome: &Result<bool, Error>) {
    match outcome {
        Ok(true) => assert!(has(store, account).await, "it was promised"),
        Err(Error::Unavailable(_) | Error::Unreachable { .. }) => {
            assert!(!has(store, account).await, "it was refused")
        }
        Err(Error::OutcomeUnknown(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// Runs what a server's worker runs: in a runtime of its own, on one thread.
fn in_a_runtime_of_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn more_readers_than_connections_take_turns(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let reads = (0..200).map(|_| async { read!(store, |db| db.account(account.sid)).unwrap() });
    for found in join_all(reads).await {
        assert_same!(found, Some(account));
    }
}

async fn a_store_outlives_the_runtime_that_opened_it(place: Place) {
    let open = async || {
        let store = place.open().await;
        add(&store, [account()]).await;
        warm_up(&store, 4).await;
        store
    };
    let store = thread::scope(|scope| scope.spawn(|| in_a_runtime_of_its_own(open())).join().unwrap());
    for _ in 0..8 {
        let account = account();
        add(&store, [account]).await;
        assert!(has(&store, account).await);
    }
    store.close().await;
}

async fn a_write_outlives_the_runtime_in_which_its_connection_was_first_used(place: Place) {
    const CONNECTIONS: usize = 8;
    const WRITES: usize = 5;
    let store = place.open().await;
    let (warm, end) = (Gate::closed(), Gate::closed());
    let used = store.clone();
    let other = thread::spawn(move || {
        in_a_runtime_of_its_own(async move {
            warm_up(&used, CONNECTIONS).await;
            warm.open();
            end.pass().await;
        });
    });
    warm.pass().await;

    let (all_begun, go_on) = (Arc::new(Barrier::new(WRITES + 1)), Gate::closed());
    let writes = (0..WRITES).map(|_| {
        let all_begun = Arc::clone(&all_begun);
        store.write(async move |tx: &mut Write| {
            let inserted = tx.insert_account(account()).await?;
            all_begun.wait().await;
            go_on.pass().await;
            Ok::<_, Error>(inserted)
        })
    });
    let ends = async {
        all_begun.wait().await;
        end.open();
        tokio::task::block_in_place(|| other.join().unwrap());
        go_on.open();
    };
    let (written, ()) = tokio::join!(join_all(writes), ends);
    for inserted in written {
        assert!(inserted.unwrap());
    }
}

async fn a_store_is_shared_by_runtimes_that_come_and_go(place: Place) {
    let store = place.open().await;
    // Some leave early, with connections that others go on to use.
    let rounds = [1, 6, 11, 16];
    let work = async |rounds| {
        for _ in 0..rounds {
            let account = account();
            add(&store, [account]).await;
            let seen = (0..5).map(|_| has(&store, account));
            assert!(join_all(seen).await.into_iter().all(|seen| seen));
        }
    };
    thread::scope(|scope| {
        for rounds in rounds {
            scope.spawn(move || in_a_runtime_of_its_own(work(rounds)));
        }
    });
    assert_eq!(read!(store, |db| db.accounts()).unwrap().len(), rounds.iter().sum::<usize>());
}

async fn killed_connections_are_replaced_unnoticed(place: Place) {
    let store = &place.open().await;
    let kill = async || {
        warm_up(store, 8).await;
        // Those that found out how PostgreSQL is reached may be on their way out.
        wait_until("only the pool's are left", PATIENCE, async || {
            (place.sql(CONNECTIONS).await == "8").then_some(())
        })
        .await;
        assert_eq!(place.sql(KILL).await, "8");
    };
    for _ in 0..3 {
        let account = account();
        kill().await;
        assert!(!has(store, account).await);
        kill().await;
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        kill().await;
        // All at once, so that each may meet several that were killed.
        let uses = (0..20).map(async |_| {
            add(store, [self::account()]).await;
            assert!(has(store, account).await);
        });
        join_all(uses).await;
    }
}

async fn what_was_answered_holds_while_connections_are_killed(place: Place) {
    let store = place.open().await;
    let busy = Arc::new(AtomicBool::new(true));
    let writes = at_once(8, |_| {
        let (store, busy) = (store.clone(), Arc::clone(&busy));
        async move {
            let mut outcomes = Vec::new();
            while busy.load(Ordering::Relaxed) {
                let account = account();
                outcomes.push((account, transact!(store, |tx| tx.insert_account(account))));
            }
            outcomes
        }
    });
    let kills = async {
        for _ in 0..10 {
            place.sql(KILL).await;
        }
        busy.store(false, Ordering::Relaxed);
    };
    let (outcomes, ()) = tokio::join!(writes, kills);
    for (account, outcome) in outcomes.into_iter().flatten() {
        assert_holds(&store, account, &outcome).await;
    }
}

async fn a_connection_that_is_killed_before_the_commit_leaves_nothing_behind(place: Place) {
    let place = Arc::new(place);
    let store = place.open().await;
    let account = account();
    let killer = Arc::clone(&place);
    let killed = store.write(async move |tx: &mut Write| {
        let inserted = tx.insert_account(account).await?;
        killer.sql(KILL).await;
        Ok(inserted)
    });
    let outcome = killed.await;
    assert_holds(&store, account, &outcome).await;
}

async fn a_connection_that_is_lost_during_a_write_is_met_by_running_again(place: Place) {
    let proxy = keep(Proxy::to(place.url()).await);
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

async fn a_connection_that_is_lost_during_a_read_is_met_by_running_again(place: Place) {
    let proxy = keep(Proxy::to(place.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let account = account();
    add(&store, [account]).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let read = store.read(async move |db: &mut Read| {
        db.ready().await?;
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            proxy.cut().await;
        }
        db.account(account.sid).await
    });
    assert_same!(read.await.unwrap(), Some(account));
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

async fn a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown(place: Place) {
    let proxy = keep(Proxy::to(place.url()).await);
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

async fn a_database_that_hangs_up_is_unavailable_until_it_is_back(place: Place) {
    let proxy = keep(Proxy::to(place.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    let account = account();
    warm_up(&store, 8).await;
    proxy.hang_up().await;
    assert_refused!(transact!(store, |tx| tx.insert_account(account)), Error::Unreachable { .. });
    assert_refused!(read!(store, |db| db.ready()), Error::Unreachable { .. });
    let opened = Store::open(&proxy.location, OldSchema::Migrate).await.map(|_| ());
    assert_refused!(opened, Error::Unreachable { .. });

    proxy.resume().await;
    read!(store, |db| db.ready()).unwrap();
    assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
    assert!(has(&store, account).await);
}

async fn a_database_that_is_away_is_named_at_once(place: Place) {
    let proxy = keep(Proxy::to(place.url()).await);
    let (store, _) = Store::open(&proxy.location, OldSchema::Migrate).await.unwrap();
    warm_up(&store, 8).await;
    proxy.stop().await;
    let begun = Instant::now();
    let writes = (0..20).map(async |_| {
        let account = account();
        transact!(store, |tx| tx.insert_account(account)).map(drop).unwrap_err()
    });
    let reads = (0..20).map(async |_| read!(store, |db| db.ready()).unwrap_err());
    let (writes, reads) = tokio::join!(join_all(writes), join_all(reads));
    // One second, and another for a slow machine.
    assert!(begun.elapsed() < Duration::from_secs(2), "the last was refused after {:?}", begun.elapsed());
    let Location::Postgres(url) = &proxy.location else { unreachable!() };
    let options: PgConnectOptions = url.expose().parse().unwrap();
    let (port, database) = (options.get_port(), options.get_database().unwrap());
    for error in writes.into_iter().chain(reads) {
        let words = domain::causes(&error);
        let named = format!("cannot connect to PostgreSQL at 127.0.0.1:{port}, database {database}: ");
        assert!(words.starts_with(&named) && words.contains("Connection refused"), "{words}");
    }

    // Being refused, they haven't happened, and will not.
    proxy.resume().await;
    let later = account();
    add(&store, [later]).await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [later]);
}

async fn a_failure_that_passes_is_unavailable(place: Place) {
    let store = place.open().await;
    let refuse_with = async |code: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$; \
             CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        place.sql(&sql).await;
        let account = account();
        transact!(store, |tx| tx.insert_account(account))
    };
    let passing = [
        "08000", "08003", "08006", "08P01", "25006", "25P03", "25P04", "40001", "40P01", "53000", "53100",
        "53200", "53300", "53400", "55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58000",
        "58030",
    ];
    for code in passing {
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

async fn connections_that_postgres_ends_for_idling_are_replaced(place: Place) {
    place.open().await.close().await;
    set(&place, "idle_session_timeout = '300ms'").await;
    let store = place.open().await;
    for _ in 0..3 {
        warm_up(&store, 8).await;
        wait_until("PostgreSQL ends the connections", PATIENCE, async || {
            (place.sql(CONNECTIONS).await == "0").then_some(())
        })
        .await;
        let account = account();
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        let all = (0..20).map(async |_| assert!(has(&store, account).await));
        join_all(all).await;
    }
}

async fn a_connection_to_a_replica_is_not_used_again(place: Place) {
    place.open().await.close().await;
    // As on a server that was demoted: each new session can only read.
    set(&place, "default_transaction_read_only = on").await;
    let store = place.open().await;
    warm_up(&store, 8).await;
    let (refused, later) = (account(), account());
    assert_refused!(transact!(store, |tx| tx.insert_account(refused)), Error::Unavailable(_));
    set(&place, "default_transaction_read_only = off").await;
    assert!(transact!(store, |tx| tx.insert_account(later)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [later]);
}

/// Changes a setting of this database, for new sessions.
async fn set(place: &Place, setting: &str) {
    let name = place.sql("SELECT current_database()").await;
    // In a transaction that may write, whatever the setting.
    let alter = format!("BEGIN READ WRITE; ALTER DATABASE \"{name}\" SET {setting}; COMMIT");
    place.sql(&alter).await;
}

async fn a_database_in_another_encoding_is_refused(_: Place) {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let test = "a_database_in_another_encoding_is_refused";
        let Some(database) = harness::postgres_in_encoding_or_skip(test, encoding) else { return };
        let location = Location::Postgres(Secret::new(database.url.clone()));
        let looked = [
            Store::open(&location, OldSchema::Migrate).await.map(drop),
            Store::open(&location, OldSchema::Refuse).await.map(drop),
            Store::missing(&location).await.map(drop),
        ];
        for looked in looked {
            let error = looked.unwrap_err();
            let words = error.to_string();
            assert!(words.contains(encoding) && words.contains("ENCODING 'UTF8'"), "{words}");
            assert!(matches!(error, Error::Encoding { .. }) && !error.may_pass(), "{error:?}");
        }
        assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    }
}

async fn what_waiting_can_not_mend_is_told_apart(place: Place) {
    let open = async |location: &Location| Store::open(location, OldSchema::Migrate).await.map(drop);
    let elsewhere = Location::Postgres(Secret::new(format!("{}_of_another_name", place.url())));
    let error = open(&elsewhere).await.unwrap_err();
    assert!(!error.may_pass(), "{error:?}");
    assert!(domain::causes(&error).contains("does not exist"), "{error:?}");

    let proxy = Proxy::to(place.url()).await;
    proxy.stop().await;
    let error = open(&proxy.location).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
}
