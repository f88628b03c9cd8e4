//! Copies of a SQLite file, and what is put in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::Connection as _;
use store::{Error, Location, OldSchema, Replacement, Store, back_up, inspect, is_in_use};

use crate::fixtures::*;
use crate::places::Place;
use crate::together::at_once;

contract! {
    on sqlite:
    a_backup_is_what_was_there_at_one_moment,
    a_backup_that_fails_leaves_nothing,
    backups_to_one_file_at_once_do_not_meet,
    what_is_put_in_place_is_there_and_what_was_is_kept,
    nobody_uses_what_is_replaced,
    a_process_that_starts_keeps_nobody_out,
    who_asks_whether_it_is_in_use_keeps_nobody_out,
    what_another_program_reads_is_not_replaced,
    a_replacement_that_is_dropped_leaves_everything,
    what_is_no_whole_database_of_ours_is_not_put_in_place,
    what_a_newer_program_wrote_is_told,
    a_foreign_schema_is_told_by_name,
    what_is_no_regular_file_is_refused_without_waiting_for_it,
    a_new_database_is_never_an_empty_file,
    the_log_shrinks_after_a_large_transaction,
}

async fn a_backup_is_what_was_there_at_one_moment(place: Place) {
    let store = place.open().await;
    let busy = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn({
        let (store, busy) = (store.clone(), Arc::clone(&busy));
        async move {
            // Pairs: a copy that has one of two was not taken at one moment.
            while busy.load(Ordering::Relaxed) {
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
    let backup = place.file().with_file_name("backup");
    for _ in 0..5 {
        let before = read!(store, |db| db.accounts()).unwrap().len();
        let bytes = back_up(&place.file(), &backup).await.unwrap();
        let after = read!(store, |db| db.accounts()).unwrap().len();
        assert_eq!(fs::metadata(&backup).unwrap().len(), bytes);
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);

        let elsewhere = Place::sqlite("").unwrap();
        fs::copy(&backup, elsewhere.file()).unwrap();
        let copy = elsewhere.open().await;
        let found = read!(copy, |db| db.accounts()).unwrap().len();
        assert!(before <= found && found <= after && found % 2 == 0, "{before} {found} {after}");
    }
    busy.store(false, Ordering::Relaxed);
    writer.await.unwrap();
}

async fn a_backup_that_fails_leaves_nothing(place: Place) {
    let folder = place.file().with_file_name("folder");
    fs::create_dir(&folder).unwrap();
    let backup = folder.join("backup");
    // There is no database yet; there is one that is none; the backup can't be put where it belongs.
    assert!(back_up(&place.file(), &backup).await.is_err());
    fs::write(place.file(), "Dear diary, ".repeat(1000)).unwrap();
    assert!(back_up(&place.file(), &backup).await.is_err());
    fs::write(place.file(), "").unwrap();
    assert!(back_up(&place.file(), &backup).await.is_err());
    place.open().await;
    fs::create_dir(&backup).unwrap();
    assert_refused!(back_up(&place.file(), &backup).await, Error::File(..));
    fs::remove_dir(&backup).unwrap();
    assert_eq!(folder.read_dir().unwrap().count(), 0);
}

async fn backups_to_one_file_at_once_do_not_meet(place: Place) {
    let store = place.open().await;
    let account = account();
    add(&store, [account]).await;
    let (folder, backup) =
        (place.file().with_file_name("folder"), place.file().with_file_name("folder/backup"));
    fs::create_dir(&folder).unwrap();
    // Left by one that was killed, of a time when whoever liked could read it.
    fs::write(folder.join("backup.draft"), "").unwrap();
    let made = at_once(8, |_| {
        let (database, backup) = (place.file(), backup.clone());
        async move { back_up(&database, &backup).await.map(drop) }
    });
    made.await.into_iter().for_each(|made| made.unwrap());
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.read_dir().unwrap().count(), 2);
    drop(store);
    let elsewhere = Place::sqlite("").unwrap();
    fs::copy(&backup, elsewhere.file()).unwrap();
    let copy = elsewhere.open().await;
    assert_same!(read!(copy, |db| db.accounts()).unwrap(), [account]);
}

async fn what_is_put_in_place_is_there_and_what_was_is_kept(place: Place) {
    let (early, late) = (account(), account());
    let store = place.open().await;
    add(&store, [early]).await;
    let backup = place.file().with_file_name("backup");
    back_up(&place.file(), &backup).await.unwrap();
    add(&store, [late]).await;
    store.close().await;

    // First over what was there, then where nothing is.
    let kept = place.file().with_file_name("kept");
    for was_there in [true, false] {
        let replacement = Replacement::prepare(&backup, &place.file()).await.unwrap();
        let (_, origin) = replacement.inspect().await.unwrap();
        assert_eq!((origin.newer, origin.differences), (Vec::<String>::new(), Vec::<String>::new()));
        assert_eq!(replacement.put_in_place(&kept).await.unwrap(), was_there);
        let store = place.open().await;
        assert_same!(read!(store, |db| db.accounts()).unwrap(), [early]);
        store.close().await;
        fs::remove_file(place.file()).unwrap();
    }
    // What was kept can be put in place in turn.
    Replacement::prepare(&kept, &place.file()).await.unwrap().put_in_place(&backup).await.unwrap();
    let store = place.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [early, late]);
}

async fn nobody_uses_what_is_replaced(place: Place) {
    let store = place.open().await;
    let backup = place.file().with_file_name("backup");
    back_up(&place.file(), &backup).await.unwrap();
    let prepare = async || Replacement::prepare(&backup, &place.file()).await;
    assert_refused!(prepare().await, Error::InUse(_));
    let other = place.open().await;
    store.close().await;
    assert_refused!(prepare().await, Error::InUse(_));
    other.close().await;

    let replacement = prepare().await.unwrap();
    assert_refused!(prepare().await, Error::InUse(_));
    assert_refused!(back_up(&place.file(), &backup).await, Error::InUse(_));
    assert_refused!(Store::open(&place.location, OldSchema::Migrate).await.map(|_| ()), Error::InUse(_));
    drop(replacement);
    place.open().await;
}

async fn a_process_that_starts_keeps_nobody_out(place: Place) {
    place.open().await.close().await;
    let busy = Arc::new(AtomicBool::new(true));
    let starters = [(); 2].map(|()| {
        let busy = Arc::clone(&busy);
        std::thread::spawn(move || {
            while busy.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        })
    });
    // Each lets go of the folder, which the next one finds free.
    for _ in 0..1000 {
        assert!(!is_in_use(&place.file()).unwrap());
    }
    busy.store(false, Ordering::Relaxed);
    starters.into_iter().for_each(|starter| starter.join().unwrap());
}

async fn who_asks_whether_it_is_in_use_keeps_nobody_out(place: Place) {
    place.open().await.close().await;
    let busy = Arc::new(AtomicBool::new(true));
    let asker = std::thread::spawn({
        let (busy, file) = (Arc::clone(&busy), place.file());
        move || {
            while busy.load(Ordering::Relaxed) {
                is_in_use(&file).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    for number in 0..200 {
        back_up(&place.file(), &place.file().with_file_name(format!("backup-{}", number % 2))).await.unwrap();
    }
    busy.store(false, Ordering::Relaxed);
    asker.join().unwrap();
}

async fn what_another_program_reads_is_not_replaced(place: Place) {
    let store = place.open().await;
    let file = |name: &str| place.file().with_file_name(name);
    back_up(&place.file(), &file("backup")).await.unwrap();
    let mut reader = place.stranger().await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM accounts").execute(&mut reader).await.unwrap();
    let account = account();
    add(&store, [account]).await;
    store.close().await;

    let put = async || {
        let replacement = Replacement::prepare(&file("backup"), &place.file()).await.unwrap();
        replacement.put_in_place(&file("kept")).await
    };
    assert_refused!(put().await, Error::InUse(_));
    assert!(!file("kept").exists());
    reader.close().await.unwrap();
    assert!(put().await.unwrap());
    fs::rename(file("kept"), place.file()).unwrap();
    let store = place.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn a_replacement_that_is_dropped_leaves_everything(place: Place) {
    let store = place.open().await;
    let backup = place.file().with_file_name("backup");
    back_up(&place.file(), &backup).await.unwrap();
    let (account, folder) = (account(), place.file().parent().unwrap().to_owned());
    add(&store, [account]).await;
    store.close().await;
    let before = folder.read_dir().unwrap().count();
    drop(Replacement::prepare(&backup, &place.file()).await.unwrap());
    assert_eq!(folder.read_dir().unwrap().count(), before);
    let store = place.open().await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn what_is_no_whole_database_of_ours_is_not_put_in_place(place: Place) {
    let store = place.open().await;
    family(&store).await;
    let file = |name: &str| place.file().with_file_name(name);
    let good = file("good");
    back_up(&place.file(), &good).await.unwrap();
    store.close().await;

    let whole = fs::read(&good).unwrap();
    let mut damaged = whole.clone();
    // The root page of a table: it says that it has cells that it doesn't have.
    let page = 4096 * 3;
    damaged[page..page + 2048].fill(0xff);
    let bad = [
        ("text", b"Dear diary, ".repeat(1000)),
        ("short", whole[..whole.len() / 2].to_vec()),
        ("damaged", damaged),
        ("empty", Vec::new()),
    ];
    for (name, bytes) in bad {
        fs::write(file(name), bytes).unwrap();
        let prepared = Replacement::prepare(&file(name), &place.file()).await;
        assert_refused!(prepared, Error::Damaged(named, _) if named == file(name));
    }
    assert_refused!(Replacement::prepare(&file("missing"), &place.file()).await, Error::File(..));
    // Another program's.
    let Location::Sqlite(other) = Place::sqlite("").unwrap().location else { unreachable!() };
    drop(Replacement::prepare(&good, &place.file()).await.unwrap());
    assert!(!other.exists());
}

async fn what_a_newer_program_wrote_is_told(place: Place) {
    place.open().await.close().await;
    place
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 9999, '9999_of_a_newer_program', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    let backup = place.file().with_file_name("backup");
    back_up(&place.file(), &backup).await.unwrap();
    let replacement = Replacement::prepare(&backup, &place.file()).await.unwrap();
    assert_eq!(replacement.inspect().await.unwrap().1.newer, ["9999_of_a_newer_program"]);
}

async fn a_foreign_schema_is_told_by_name(place: Place) {
    let (store, migrated) = Store::open(&place.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.differences, [""; 0]);
    store.close().await;
    place
        .sql(
            "CREATE TRIGGER approve_all AFTER INSERT ON challenges \
             BEGIN UPDATE challenges SET status = 'approved', responded_at = 1 WHERE sid = NEW.sid; END; \
             CREATE VIEW everybody AS SELECT * FROM entities; CREATE TABLE diary (day TEXT); \
             DROP INDEX challenges_pending; \
             DROP TRIGGER audit_log_stays; CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT 1; END",
        )
        .await;
    let expected = [
        "trigger approve_all is foreign",
        "trigger audit_log_stays was changed",
        "table diary is foreign",
        "view everybody is foreign",
        "index challenges_pending is missing",
    ];
    let backup = place.file().with_file_name("backup");
    back_up(&place.file(), &backup).await.unwrap();
    assert_eq!(inspect(&backup).await.unwrap().1.differences, expected);
    let replacement = Replacement::prepare(&backup, &place.file()).await.unwrap();
    assert_eq!(replacement.inspect().await.unwrap().1.differences, expected);
    drop(replacement);
    assert_eq!(store::differences(&place.file()).await.unwrap(), expected);
    // A server works all the same, and says so.
    let (_, migrated) = Store::open(&place.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.differences, expected);
}

async fn what_is_no_regular_file_is_refused_without_waiting_for_it(place: Place) {
    place.open().await.close().await;
    let file = |name: &str| place.file().with_file_name(name);
    fs::create_dir(file("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(file("pipe")).status().unwrap().success());
    for odd in [file("folder"), file("pipe"), "/dev/null".into()] {
        assert_refused!(inspect(&odd).await.map(drop), Error::File(named, _) if named == odd);
        assert_refused!(Replacement::prepare(&odd, &place.file()).await, Error::File(named, _) if named == odd);
        assert_refused!(back_up(&place.file(), &odd).await, Error::File(named, _) if named == odd);
        assert!(odd.exists());
    }
}

async fn a_new_database_is_never_an_empty_file(place: Place) {
    for _ in 0..2 {
        store::make(&place.file()).await.unwrap();
        let header = fs::read(place.file()).unwrap();
        assert!(header.starts_with(b"SQLite format 3\0") && store::writes_ahead(&place.file()).unwrap());
        assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(place.file().parent().unwrap().read_dir().unwrap().count(), 1);
    let store = place.open().await;
    let account = account();
    add(&store, [account]).await;
    store::make(&place.file()).await.unwrap();
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn the_log_shrinks_after_a_large_transaction(place: Place) {
    let store = place.open().await;
    let large = async |tx: &mut store::Write| {
        for _ in 0..100 {
            let mut account = account().clone();
            account.auth_token = domain::Sealed::from_bytes(vec![1; 1024 * 1024]);
            tx.insert_account(&account).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(large).await.unwrap();
    let log = place.file().with_file_name("countersign.db-wal");
    let size = || fs::metadata(&log).unwrap().len();
    assert!(size() > 100 << 20, "{}", size());
    // The log is begun anew, and cut, by the first write after all of it is in the database.
    for _ in 0..3 {
        add(&store, [account()]).await;
    }
    assert!(size() <= 64 << 20, "{}", size());
}
