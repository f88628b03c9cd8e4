//! Backups of the database, taken while the server runs, and restored.

use std::collections::BTreeSet;
use std::fs;

use device::{Answer, Passkey, Style};
use harness::Storage;

use super::*;
use crate::passkeys::{ORIGIN, RelyingParty};
use crate::totp::TotpFixture;
use crate::world::{World, created, entity};

/// Returns everything that the account can list, without the server's address, which changes with each start.
async fn everything(world: &World) -> String {
    world.everything().await.to_string().replace(world.server.url(), "")
}

/// Checks that the phone can answer a new challenge. This needs the account's token, the service, the entity,
/// the factor and its public key.
async fn assert_works(world: &World, enrollment: &device::Enrollment) {
    let challenge = world.challenge(enrollment, &[]).await;
    let sid = challenge["sid"].as_str().unwrap();
    let phone = world.phone(Style::Android);
    phone.answer(enrollment, sid, Answer::Approved).await.unwrap();
    let path = format!("{}/Challenges/{sid}", entity(&enrollment.service_sid, &enrollment.identity));
    assert_eq!(world.backend().get(&path, &[]).await.json()["status"], "approved");
    // The enrollment keys can be opened.
    world.access_token(&enrollment.service_sid, "other-user-1").await;
}

/// A TOTP factor and a passkey of one user, each of which has signed in once.
struct SignIns {
    service: String,
    totp: TotpFixture,
    /// The code with which the TOTP factor signed in.
    used_code: String,
    passkey: Passkey,
}

impl SignIns {
    async fn create(world: &World) -> Self {
        let party = RelyingParty::create(world).await;
        // Long time steps, so that codes are still current after the backup was restored.
        let totp =
            TotpFixture::verified(world, &party.service, "user-0001", &[("Config.TimeStep", "60")]).await;
        let used_code = totp.code(0);
        assert_eq!(Self::code_status(world, &totp, &used_code).await, "approved");
        let (mut passkey, _) = party.passkey("user-0001").await;
        assert_eq!(Self::passkey_status(&party, &mut passkey).await, (200, "approved".into()));
        Self { service: party.service, totp, used_code, passkey }
    }

    /// Checks that a new code and the passkey sign in, and that the used code and the used counter do not.
    async fn assert_all_work(&mut self, world: &World) {
        let Self { service, totp, used_code, passkey } = self;
        assert_eq!(Self::code_status(world, totp, used_code).await, "pending", "the code is used");
        assert_eq!(Self::code_status(world, totp, &totp.code(1)).await, "approved");
        let party = RelyingParty::again(world, service);
        passkey.set_sign_count(0);
        assert_eq!(Self::passkey_status(&party, passkey).await.0, 400, "the counter is used");
        assert_eq!(Self::passkey_status(&party, passkey).await, (200, "approved".into()));
    }

    /// Returns the status of a new challenge that is created with this code.
    async fn code_status(world: &World, totp: &TotpFixture, code: &str) -> serde_json::Value {
        created(&totp.challenge(world, &[("AuthPayload", code)]).await)["status"].clone()
    }

    /// Returns the status of the response, and that of the challenge, after a sign-in without a user name.
    async fn passkey_status(party: &RelyingParty<'_>, passkey: &mut Passkey) -> (u16, serde_json::Value) {
        let challenge = party.challenge(&serde_json::json!({})).await;
        let reply = party.approve(&passkey.sign_in(&challenge["options"], ORIGIN).unwrap()).await;
        (reply.status, reply.json()["status"].clone())
    }
}

#[tokio::test]
async fn backup_of_a_running_server_can_be_restored() {
    let mut world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    world.challenge(&enrollment, &[]).await;
    let mut sign_ins = SignIns::create(&world).await;
    let early = everything(&world).await;
    let Storage::Sqlite(data_dir) = world.storage.clone() else { unreachable!() };
    let backup = data_dir.with_file_name("backup.db");
    let backup = backup.to_str().unwrap();

    let output = world.command(&["backup", backup]);
    assert!(
        output.starts_with(&format!("wrote {backup}, "))
            && output.contains("does not contain the master key"),
        "{output}"
    );
    assert!(world.refusal(&["backup", backup]).contains("--force"));
    let replaced = fs::read(backup).unwrap();
    // A backup and an empty file are replaced, and nothing else.
    for _ in 0..2 {
        world.command(&["backup", "--force", backup]);
        assert_eq!(fs::read(backup).unwrap().len(), replaced.len());
        fs::write(backup, "").unwrap();
    }
    fs::write(backup, "a diary, or another master key").unwrap();
    assert!(
        world.refusal(&["backup", "--force", backup]).contains("is not replaced because it is not a backup")
    );
    assert_eq!(fs::read(backup).unwrap(), b"a diary, or another master key");
    fs::remove_file(backup).unwrap();
    world.command(&["backup", backup]);
    fs::hard_link(data_dir.join("master.key"), data_dir.with_file_name("hard-link")).unwrap();
    std::os::unix::fs::symlink(data_dir.join("countersign.db"), data_dir.with_file_name("soft-link"))
        .unwrap();
    for ours in [
        "countersign.db",
        "countersign.db-wal",
        "countersign.db-journal",
        "countersign.db.before-0002_deliveries",
        "master.key",
        "master.key.old",
        "master.key.retired-0123456789abcdef",
        "../hard-link",
        "../soft-link",
    ] {
        let ours = data_dir.join(ours);
        assert!(
            world.refusal(&["backup", "--force", ours.to_str().unwrap()]).contains("is a file of the server")
        );
    }

    let lost = created(&world.backend().post("/v2/Services", &[("FriendlyName", "Lost")]).await);
    assert!(world.refusal(&["restore", backup]).contains("a server or another command uses"));
    assert_eq!(world.backend().get("/readyz", &[]).await.status, 200);

    assert!(world.server.terminate().success());
    let restored = world.command(&["restore", backup]);
    let kept = value_of("kept the replaced database as", &restored);
    world.server.restart();
    assert_eq!(everything(&world).await, early);
    assert_works(&world, &enrollment).await;
    sign_ins.assert_all_work(&world).await;

    // The previous database can be restored in turn, with everything that is newer than the backup. Killed, so
    // that the write-ahead log is not empty.
    world.server.kill9();
    // Restoring can be repeated, even within one second.
    let kept_later: BTreeSet<_> = (0..3)
        .map(|_| value_of("kept the replaced database as", &world.command(&["restore", &kept])))
        .collect();
    assert_eq!(kept_later.len(), 3, "{kept_later:?}");
    assert!(
        !kept_later.contains(&kept) && kept_later.iter().all(|kept| Path::new(kept).exists()),
        "{kept_later:?}"
    );
    world.server.restart();
    let path = format!("/v2/Services/{}", lost["sid"].as_str().unwrap());
    assert_eq!(world.backend().get(&path, &[]).await.status, 200);
    assert_works(&world, &enrollment).await;
}

#[tokio::test]
async fn restoring_an_unusable_backup_fails_and_changes_nothing() {
    const OTHER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    succeed(&mut countersign(&place.folder, &["backup", "backup.db"]));
    let restore = |arguments: &[&str]| countersign(&place.folder, &[&["restore"], arguments].concat());
    let before = || {
        let files = fs::read_dir(place.path("data")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.map(|file| (fs::read(&file).unwrap(), file)).collect();
        files.sort();
        files
    };
    let untouched = before();
    place.file("diary", &"Dear diary, ".repeat(1000));
    refuse(&mut restore(&["diary"]), &["diary is not an intact Countersign database"]);
    refuse(&mut restore(&["missing"]), &["missing", "No such file"]);
    let output = refuse(
        restore(&["backup.db"]).env("COUNTERSIGN_MASTER_KEY", OTHER_KEY),
        &["backup.db needs another master key", "sealed under master key"],
    );
    assert!(!output.stderr.contains(OTHER_KEY), "{output:?}");
    refuse(
        &mut restore(&["backup.db", "--data-dir", "elsewhere"]),
        &["there is no master key", "elsewhere/master.key"],
    );
    assert!(!place.path("elsewhere").exists());
    assert_eq!(before(), untouched);

    // Restore on another machine, together with the master key.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("data/master.key"), place.path("elsewhere/master.key")).unwrap();
    let output = succeed(&mut restore(&["backup.db", "--data-dir", "elsewhere"]));
    assert_eq!(output, "restored elsewhere/countersign.db from backup.db\n");
    Serving::start(&place.folder, &["--data-dir", "elsewhere"], &[]).await.stop().await;

    for arguments in [&["backup", "x"][..], &["restore", "backup.db"]] {
        let mut command = countersign(&place.folder, arguments);
        command.args(["--database-url", "postgres://owl:hoot@localhost/x"]);
        let output = refuse(&mut command, &["pg_dump --format=custom", "pg_restore", "master key"]);
        assert!(!output.stderr.contains("hoot"), "{output:?}");
    }
}

#[tokio::test]
async fn restoring_a_backup_with_a_foreign_trigger_fails_and_names_the_trigger() {
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    succeed(&mut countersign(&place.folder, &["backup", "backup.db"]));
    if !sqlite3(&place.path("backup.db"), APPROVE_ALL) {
        return;
    }
    let restore = || countersign(&place.folder, &["restore", "backup.db"]);
    refuse(&mut restore(), &["the schema of backup.db differs", "trigger approve_all is unexpected"]);

    // If it is used nevertheless, the log and the doctor report it.
    sqlite3(&place.path("data/countersign.db"), APPROVE_ALL);
    let serving = Serving::start(&place.folder, &[], &[]).await;
    let log = serving.stderr();
    let line = log.lines().find(|line| line.contains("approve_all")).unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("WARN") && line.contains("schema differs from what the migrations create"),
        "{line}"
    );
    let output = run(&mut countersign(&place.folder, &["doctor"]));
    assert!(output.stdout.contains("PROBLEM  schema: trigger approve_all is unexpected"), "{output:?}");
    serving.stop().await;
}

/// A trigger that approves every challenge.
const APPROVE_ALL: &str = "CREATE TRIGGER approve_all AFTER INSERT ON challenges BEGIN \
     UPDATE challenges SET status = 'approved', responded_at = 1 WHERE sid = NEW.sid; END";

/// Runs SQL on a file. Returns `false` and prints a notice if there is no sqlite3.
fn sqlite3(file: &Path, sql: &str) -> bool {
    let Ok(output) = Command::new("sqlite3").arg(file).arg(sql).output() else {
        eprintln!("SKIPPED: there is no sqlite3");
        return false;
    };
    assert!(output.status.success(), "{sql}: {output:?}");
    true
}

#[tokio::test]
async fn restoring_from_a_pipe_folder_or_device_fails_immediately() {
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    for (odd, found) in [("pipe", "a pipe"), ("data", "a directory"), ("/dev/zero", "a device")] {
        for arguments in [["restore", odd].as_slice(), &["backup", "--force", odd]] {
            let expected = format!("expected a regular file, found {found}");
            refuse(&mut countersign(&place.folder, arguments), &[odd, &expected]);
        }
        refuse(&mut countersign(&place.folder, &["backup", odd]), &["already exists"]);
    }
    // A pipe in place of the database is refused too.
    fs::create_dir(place.path("piped")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("piped/countersign.db")).status().unwrap().success());
    for command in ["serve", "backup", "migrate"] {
        let target = (command == "backup").then_some("copy");
        let arguments: Vec<_> = [command].into_iter().chain(target).chain(["--data-dir", "piped"]).collect();
        refuse(&mut countersign(&place.folder, &arguments), &["countersign.db", "found a pipe"]);
    }
}

#[tokio::test]
async fn lost_database_is_not_replaced_by_a_new_one() {
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    succeed(&mut countersign(&place.folder, &["backup", "backup.db"]));
    let (database, log) = (place.path("data/countersign.db"), place.path("data/countersign.db-wal"));
    let whole = fs::read(&database).unwrap();
    let serve = || countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
    let advice = "the database was lost; restore a backup with `countersign restore`, or remove";
    for (bytes, found) in [(0, "is empty, but there is a master key"), (99, "is truncated within its header")]
    {
        fs::write(&database, &whole[..bytes]).unwrap();
        refuse(&mut serve(), &[found, advice]);
        refuse(&mut countersign(&place.folder, &["migrate"]), &[found, advice]);
        refuse(&mut countersign(&place.folder, &["account", "list"]), &[found, advice]);
        assert_eq!(fs::read(&database).unwrap(), whole[..bytes]);
    }
    fs::write(&log, "newest writes").unwrap();
    for is_there in [true, false] {
        match is_there {
            true => fs::write(&database, "").unwrap(),
            false => fs::remove_file(&database).unwrap(),
        }
        refuse(&mut serve(), &["is empty or missing, but its write-ahead log", advice]);
        assert_eq!(fs::read(&log).unwrap(), b"newest writes");
    }
    // Following the advice in the message resolves the problem.
    fs::remove_file(&log).unwrap();
    succeed(&mut countersign(&place.folder, &["restore", "backup.db"]));
    Serving::start(&place.folder, &[], &[]).await.stop().await;

    // Without a key and without data, it is a new installation.
    fs::create_dir(place.path("new")).unwrap();
    fs::write(place.path("new/countersign.db"), "").unwrap();
    Serving::start(&place.folder, &["--data-dir", "new"], &[]).await.stop().await;
}

#[tokio::test]
async fn restore_reports_a_wrong_master_key_before_copying() {
    const OTHER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    succeed(&mut countersign(&place.folder, &["backup", "backup.db"]));
    // Copying into this folder would fail with another error, and the folder is not even created.
    let mut restore = countersign(&place.folder, &["restore", "backup.db", "--data-dir", "elsewhere"]);
    refuse(restore.env("COUNTERSIGN_MASTER_KEY", OTHER_KEY), &["backup.db needs another master key"]);
    assert!(!place.path("elsewhere").exists());
}

#[tokio::test]
async fn backup_taken_during_master_key_rotation_needs_both_keys() {
    const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
    let place = Place::new();
    Serving::start(&place.folder, &["--master-key", OLD], &[]).await.stop().await;
    let with = |arguments: &[&str], keys: &[&str]| countersign(&place.folder, &[arguments, keys].concat());
    let both = ["--master-key", NEW, "--master-key-old", OLD];
    succeed(&mut with(&["account", "create", "--name", "Barn owls"], &both));
    succeed(&mut with(&["backup", "backup.db"], &[]));
    let restore = ["restore", "backup.db"];
    for key in [OLD, NEW] {
        refuse(&mut with(&restore, &["--master-key", key]), &["backup.db needs another master key"]);
    }
    succeed(&mut with(&restore, &both));
}

/// The database is dumped with `pg_dump` while the server runs, and restored into a new database with
/// `pg_restore`.
#[tokio::test]
async fn postgres_dump_can_be_restored_into_a_new_database() {
    let test = "operation::backup::postgres_dump_can_be_restored_into_a_new_database";
    let Some(mut world) = World::postgres_with(test, &[]) else { return };
    let new = harness::fresh_postgres_database(test);
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    world.challenge(&enrollment, &[]).await;
    let mut sign_ins = SignIns::create(&world).await;
    let early = everything(&world).await;
    let Storage::Postgres { url, data_dir } = world.storage.clone() else { unreachable!() };

    let dump = data_dir.join("dump");
    let tool = |name: &str| Command::new(harness::postgres_program(name).unwrap());
    succeed(tool("pg_dump").args(["--format=custom", "--file"]).arg(&dump).arg(&url));
    world.service().await;
    succeed(tool("pg_restore").args(["--no-owner", "--exit-on-error", "--dbname", &new.url]).arg(&dump));

    // The same server with the same master key on the new database.
    assert!(world.server.terminate().success());
    world.storage = Storage::Postgres { url: new.url.clone(), data_dir };
    world.server.restart_on(world.storage.clone());
    assert_eq!(everything(&world).await, early);
    assert_works(&world, &enrollment).await;
    sign_ins.assert_all_work(&world).await;
}
