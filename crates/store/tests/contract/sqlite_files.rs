//! SQLite files: creating, backing up, inspecting and replacing a database.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::{Error, Location, OldSchema, Replacement, Store, back_up, inspect_backup, is_in_use};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;

contract! {
    on sqlite:
    backup_during_writes_is_a_consistent_snapshot,
    failed_backup_leaves_no_file,
    concurrent_backups_to_the_same_file_all_succeed,
    replacement_database_is_put_in_place_and_the_previous_one_is_kept,
    database_in_use_cannot_be_replaced,
    starting_child_processes_does_not_make_the_database_appear_in_use,
    checking_whether_a_database_is_in_use_does_not_make_backups_fail,
    database_that_another_connection_is_reading_is_not_replaced,
    dropping_a_prepared_replacement_database_changes_nothing,
    damaged_or_non_database_file_is_refused_as_replacement,
    replacement_database_reports_migrations_of_a_newer_version,
    unexpected_changed_and_missing_schema_objects_are_reported_by_name,
    folders_pipes_and_devices_are_refused_as_database_files_without_blocking,
    empty_database_file_is_created_in_wal_mode_without_overwriting_an_existing_one,
    write_ahead_log_shrinks_after_a_large_transaction,
}

async fn backup_during_writes_is_a_consistent_snapshot(database: TestDatabase) {
    let store = database.open().await;
    let running = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn({
        let (store, running) = (store.clone(), Arc::clone(&running));
        async move {
            // Insert accounts in pairs, so that a copy with an odd number of accounts is not a consistent snapshot.
            while running.load(Ordering::Relaxed) {
                let (one, other) = (account(), account());
                store
                    .write(async move |tx: &mut store::Write| {
                        tx.insert_account(one).await?;
                        tx.insert_account(other).await.map(drop)
                    })
                    .await
                    .map_err(|error: Error| error)
                    .unwrap();
            }
        }
    });
    let backup = database.file().with_file_name("backup");
    for _ in 0..5 {
        let before = read!(store, |db| db.accounts()).unwrap().len();
        let bytes = back_up(&database.file(), &backup).await.unwrap();
        let after = read!(store, |db| db.accounts()).unwrap().len();
        assert_eq!(fs::metadata(&backup).unwrap().len(), bytes);
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);

        let elsewhere = TestDatabase::sqlite("").unwrap();
        fs::copy(&backup, elsewhere.file()).unwrap();
        let copy = elsewhere.open().await;
        let found = read!(copy, |db| db.accounts()).unwrap().len();
        assert!(before <= found && found <= after && found % 2 == 0, "{before} {found} {after}");
    }
    running.store(false, Ordering::Relaxed);
    writer.await.unwrap();
}

async fn failed_backup_leaves_no_file(database: TestDatabase) {
    let folder = database.file().with_file_name("folder");
    fs::create_dir(&folder).unwrap();
    let backup = folder.join("backup");
    // The backup fails for four reasons in turn: the database is missing, is not a database, or is empty, and the
    // target of the backup is a folder.
    assert!(back_up(&database.file(), &backup).await.is_err());
    fs::write(database.file(), "not a database, ".repeat(1000)).unwrap();
    assert!(back_up(&database.file(), &backup).await.is_err());
    fs::write(database.file(), "").unwrap();
    assert!(back_up(&database.file(), &backup).await.is_err());
    database.open().await;
    fs::create_dir(&backup).unwrap();
    assert_refused!(back_up(&database.file(), &backup).await, Error::File(..));
    fs::remove_dir(&backup).unwrap();
    assert_eq!(folder.read_dir().unwrap().count(), 0);
}

async fn concurrent_backups_to_the_same_file_all_succeed(database: TestDatabase) {
    let store = database.open().await;
    let account = account();
    add(&store, [account]).await;
    let (folder, backup) =
        (database.file().with_file_name("folder"), database.file().with_file_name("folder/backup"));
    fs::create_dir(&folder).unwrap();
    // This draft stands for a file that a killed backup of an older version left behind, readable by all users.
    fs::write(folder.join("backup.draft"), "").unwrap();
    let results = run_concurrently(8, |_| {
        let (database, backup) = (database.file(), backup.clone());
        async move { back_up(&database, &backup).await.map(drop) }
    });
    results.await.into_iter().for_each(|result| result.unwrap());
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.read_dir().unwrap().count(), 2);
    drop(store);
    let elsewhere = TestDatabase::sqlite("").unwrap();
    fs::copy(&backup, elsewhere.file()).unwrap();
    let copy = elsewhere.open().await;
    assert_same!(read!(copy, |db| db.accounts()).unwrap(), [account]);
}

async fn replacement_database_is_put_in_place_and_the_previous_one_is_kept(database: TestDatabase) {
    let (early, late) = (account(), account());
    let store = database.open().await;
    add(&store, [early]).await;
    let backup = database.file().with_file_name("backup");
    back_up(&database.file(), &backup).await.unwrap();
    add(&store, [late]).await;
    store.close().await;

    // First replace an existing database, then put the backup where no database exists.
    let kept = database.file().with_file_name("kept");
    for existed in [true, false] {
        let replacement = Replacement::prepare(&backup, &database.file()).unwrap();
        let (_, origin) = replacement.inspect().unwrap();
        assert_eq!((origin.newer, origin.differences), (Vec::<String>::new(), Vec::<String>::new()));
        assert_eq!(replacement.put_in_place(&kept).unwrap(), existed);
        let store = database.open().await;
        assert_same!(read!(store, |db| db.accounts()).unwrap(), [early]);
        store.close().await;
        fs::remove_file(database.file()).unwrap();
    }
    // The previous database was kept and can be put back.
    Replacement::prepare(&kept, &database.file()).unwrap().put_in_place(&backup).unwrap();
    let store = database.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [early, late]);
}

async fn database_in_use_cannot_be_replaced(database: TestDatabase) {
    let store = database.open().await;
    let backup = database.file().with_file_name("backup");
    back_up(&database.file(), &backup).await.unwrap();
    let prepare = async || Replacement::prepare(&backup, &database.file());
    assert_refused!(prepare().await, Error::InUse(_));
    let other = database.open().await;
    store.close().await;
    assert_refused!(prepare().await, Error::InUse(_));
    other.close().await;

    let replacement = prepare().await.unwrap();
    assert_refused!(prepare().await, Error::InUse(_));
    assert_refused!(back_up(&database.file(), &backup).await, Error::InUse(_));
    assert_refused!(Store::open(&database.location, OldSchema::Migrate).await.map(|_| ()), Error::InUse(_));
    drop(replacement);
    database.open().await;
}

async fn starting_child_processes_does_not_make_the_database_appear_in_use(database: TestDatabase) {
    database.open().await.close().await;
    let running = Arc::new(AtomicBool::new(true));
    let starters = [(); 2].map(|()| {
        let running = Arc::clone(&running);
        std::thread::spawn(move || {
            while running.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        })
    });
    // Every check releases its lock, so the next check must find that the database is not in use. A child process must
    // not inherit the lock.
    for _ in 0..1000 {
        assert!(!is_in_use(&database.file()).unwrap());
    }
    running.store(false, Ordering::Relaxed);
    starters.into_iter().for_each(|starter| starter.join().unwrap());
}

async fn checking_whether_a_database_is_in_use_does_not_make_backups_fail(database: TestDatabase) {
    database.open().await.close().await;
    let running = Arc::new(AtomicBool::new(true));
    let checker = std::thread::spawn({
        let (running, file) = (Arc::clone(&running), database.file());
        move || {
            while running.load(Ordering::Relaxed) {
                is_in_use(&file).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    for number in 0..200 {
        back_up(&database.file(), &database.file().with_file_name(format!("backup-{}", number % 2)))
            .await
            .unwrap();
    }
    running.store(false, Ordering::Relaxed);
    checker.join().unwrap();
}

async fn database_that_another_connection_is_reading_is_not_replaced(database: TestDatabase) {
    let store = database.open().await;
    let file = |name: &str| database.file().with_file_name(name);
    back_up(&database.file(), &file("backup")).await.unwrap();
    let reader = database.connect_directly();
    reader.execute_batch("BEGIN; SELECT count(*) FROM accounts").unwrap();
    let account = account();
    add(&store, [account]).await;
    store.close().await;

    let put = async || {
        let replacement = Replacement::prepare(&file("backup"), &database.file()).unwrap();
        replacement.put_in_place(&file("kept"))
    };
    assert_refused!(put().await, Error::InUse(_));
    assert!(!file("kept").exists());
    drop(reader);
    assert!(put().await.unwrap());
    fs::rename(file("kept"), database.file()).unwrap();
    let store = database.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn dropping_a_prepared_replacement_database_changes_nothing(database: TestDatabase) {
    let store = database.open().await;
    let backup = database.file().with_file_name("backup");
    back_up(&database.file(), &backup).await.unwrap();
    let (account, folder) = (account(), database.file().parent().unwrap().to_owned());
    add(&store, [account]).await;
    store.close().await;
    let before = folder.read_dir().unwrap().count();
    drop(Replacement::prepare(&backup, &database.file()).unwrap());
    assert_eq!(folder.read_dir().unwrap().count(), before);
    let store = database.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn damaged_or_non_database_file_is_refused_as_replacement(database: TestDatabase) {
    let store = database.open().await;
    enrolled_user(&store).await;
    let file = |name: &str| database.file().with_file_name(name);
    let good = file("good");
    back_up(&database.file(), &good).await.unwrap();
    store.close().await;

    let whole = fs::read(&good).unwrap();
    let mut damaged = whole.clone();
    // Overwrite the root page of a table, so that its header refers to cells that do not exist.
    let page = 4096 * 3;
    damaged[page..page + 2048].fill(0xff);
    let bad = [
        ("text", b"not a database, ".repeat(1000)),
        ("short", whole[..whole.len() / 2].to_vec()),
        ("damaged", damaged),
        ("empty", Vec::new()),
    ];
    for (name, bytes) in bad {
        fs::write(file(name), bytes).unwrap();
        let prepared = Replacement::prepare(&file(name), &database.file());
        assert_refused!(prepared, Error::Damaged(named, _) if named == file(name));
    }
    assert_refused!(Replacement::prepare(&file("missing"), &database.file()), Error::File(..));
    // Preparing a replacement does not create a database elsewhere.
    let Location::Sqlite(other) = TestDatabase::sqlite("").unwrap().location else { unreachable!() };
    drop(Replacement::prepare(&good, &database.file()).unwrap());
    assert!(!other.exists());
}

async fn replacement_database_reports_migrations_of_a_newer_version(database: TestDatabase) {
    database.open().await.close().await;
    database
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 9999, '9999_of_a_newer_program', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    let backup = database.file().with_file_name("backup");
    back_up(&database.file(), &backup).await.unwrap();
    let replacement = Replacement::prepare(&backup, &database.file()).unwrap();
    assert_eq!(replacement.inspect().unwrap().1.newer, ["9999_of_a_newer_program"]);
}

async fn unexpected_changed_and_missing_schema_objects_are_reported_by_name(database: TestDatabase) {
    let (store, migrated) = Store::open(&database.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.differences, [""; 0]);
    store.close().await;
    database
        .sql(
            "CREATE TRIGGER approve_all AFTER INSERT ON challenges \
             BEGIN UPDATE challenges SET status = 'approved', responded_at = 1 WHERE sid = NEW.sid; END; \
             CREATE VIEW entity_view AS SELECT * FROM entities; CREATE TABLE diary (day TEXT); \
             DROP INDEX challenges_unanswered; \
             DROP TRIGGER audit_log_stays; CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT 1; END",
        )
        .await;
    let expected = [
        "trigger approve_all is unexpected",
        "trigger audit_log_stays was changed",
        "table diary is unexpected",
        "view entity_view is unexpected",
        "index challenges_unanswered is missing",
    ];
    let backup = database.file().with_file_name("backup");
    back_up(&database.file(), &backup).await.unwrap();
    assert_eq!(inspect_backup(&backup).unwrap().1.differences, expected);
    let replacement = Replacement::prepare(&backup, &database.file()).unwrap();
    assert_eq!(replacement.inspect().unwrap().1.differences, expected);
    drop(replacement);
    assert_eq!(store::schema_differences(&database.file()).unwrap(), expected);
    // Opening the store succeeds despite the differences, and reports them.
    let (_, migrated) = Store::open(&database.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.differences, expected);
}

async fn folders_pipes_and_devices_are_refused_as_database_files_without_blocking(database: TestDatabase) {
    database.open().await.close().await;
    let file = |name: &str| database.file().with_file_name(name);
    fs::create_dir(file("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(file("pipe")).status().unwrap().success());
    for odd in [file("folder"), file("pipe"), "/dev/null".into()] {
        assert_refused!(inspect_backup(&odd).map(drop), Error::File(named, _) if named == odd);
        assert_refused!(Replacement::prepare(&odd, &database.file()), Error::File(named, _) if named == odd);
        assert_refused!(back_up(&database.file(), &odd).await, Error::File(named, _) if named == odd);
        assert!(odd.exists());
    }
}

async fn empty_database_file_is_created_in_wal_mode_without_overwriting_an_existing_one(
    database: TestDatabase,
) {
    for _ in 0..2 {
        store::create_empty(&database.file()).unwrap();
        let header = fs::read(database.file()).unwrap();
        assert!(header.starts_with(b"SQLite format 3\0") && store::uses_wal(&database.file()).unwrap());
        assert_eq!(fs::metadata(database.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(database.file().parent().unwrap().read_dir().unwrap().count(), 1);
    let store = database.open().await;
    let account = account();
    add(&store, [account]).await;
    store::create_empty(&database.file()).unwrap();
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn write_ahead_log_shrinks_after_a_large_transaction(database: TestDatabase) {
    let store = database.open().await;
    let large = async |tx: &mut store::Write| {
        for _ in 0..100 {
            let mut account = account().clone();
            account.auth_token = domain::Sealed::from_bytes(vec![1; 1024 * 1024]);
            tx.insert_account(&account).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(large).await.unwrap();
    let log = database.file().with_file_name("countersign.db-wal");
    let size = || fs::metadata(&log).unwrap().len();
    assert!(size() > 100 << 20, "{}", size());
    // SQLite truncates the log on the first write after a complete checkpoint, so a few writes are needed.
    for _ in 0..3 {
        add(&store, [account()]).await;
    }
    assert!(size() <= 64 << 20, "{}", size());
}
