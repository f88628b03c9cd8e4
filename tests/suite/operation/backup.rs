//! Copies of the database, taken while the server works, and put back.

use std::collections::BTreeSet;
use std::fs;

use device::{Answer, Style};
use harness::Storage;

use super::*;
use crate::world::{World, created, entity};

/// All that the account can list, without the server's address, which is another after each start.
async fn everything(world: &World) -> String {
    world.everything().await.to_string().replace(world.server.url(), "")
}

/// Has the phone answer a new challenge, which takes the account's token, the service, the entity, the factor
/// and its public key.
async fn assert_works(world: &World, enrolment: &device::Enrolment) {
    let challenge = world.challenge(enrolment, &[]).await;
    let sid = challenge["sid"].as_str().unwrap();
    let phone = world.phone(Style::Android);
    phone.answer(enrolment, sid, Answer::Approved).await.unwrap();
    let path = format!("{}/Challenges/{sid}", entity(&enrolment.service_sid, &enrolment.identity));
    assert_eq!(world.backend().get(&path, &[]).await.json()["status"], "approved");
    // That the ring of enrollment keys can be opened.
    world.access_token(&enrolment.service_sid, "somebody-else").await;
}

#[tokio::test]
async fn a_backup_of_a_server_that_works_is_restored() {
    let mut world = World::sqlite();
    let service = world.service().await;
    let (_, enrolment) = world.enrolled(Style::Android, &service, "user-0001").await;
    world.challenge(&enrolment, &[]).await;
    let early = everything(&world).await;
    let Storage::Sqlite(data_dir) = world.storage.clone() else { unreachable!() };
    let backup = data_dir.with_file_name("backup.db");
    let backup = backup.to_str().unwrap();

    let said = world.command(&["backup", backup]);
    assert!(
        said.starts_with(&format!("wrote {backup}, ")) && said.contains("master key is not in it"),
        "{said}"
    );
    assert!(world.refusal(&["backup", backup]).contains("--force"));
    let replaced = fs::read(backup).unwrap();
    fs::write(backup, "old").unwrap();
    world.command(&["backup", "--force", backup]);
    assert_eq!(fs::read(backup).unwrap().len(), replaced.len());
    for ours in ["countersign.db", "master.key"] {
        let ours = data_dir.join(ours);
        assert!(
            world.refusal(&["backup", "--force", ours.to_str().unwrap()]).contains("belongs to the server")
        );
    }

    let lost = created(&world.backend().post("/v2/Services", &[("FriendlyName", "Lost")]).await);
    assert!(world.refusal(&["restore", backup]).contains("a server or another command uses"));
    assert_eq!(world.backend().get("/readyz", &[]).await.status, 200);

    assert!(world.server.terminate().success());
    let restored = world.command(&["restore", backup]);
    let kept = value_of("kept what was there as", &restored);
    world.server.restart();
    assert_eq!(everything(&world).await, early);
    assert_works(&world, &enrolment).await;

    // What was there can be put back, and has what came after the backup. Killed, so that there is a log.
    world.server.kill9();
    // As often as one likes, also within a second.
    let kept_later: BTreeSet<_> =
        (0..3).map(|_| value_of("kept what was there as", &world.command(&["restore", &kept]))).collect();
    assert_eq!(kept_later.len(), 3, "{kept_later:?}");
    assert!(
        !kept_later.contains(&kept) && kept_later.iter().all(|kept| Path::new(kept).exists()),
        "{kept_later:?}"
    );
    world.server.restart();
    let path = format!("/v2/Services/{}", lost["sid"].as_str().unwrap());
    assert_eq!(world.backend().get(&path, &[]).await.status, 200);
    assert_works(&world, &enrolment).await;
}

#[tokio::test]
async fn what_can_not_be_restored_is_refused_and_nothing_changed() {
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
    refuse(&mut restore(&["diary"]), &["diary is not a whole database of Countersign"]);
    refuse(&mut restore(&["missing"]), &["missing", "No such file"]);
    let said = refuse(
        restore(&["backup.db"]).env("COUNTERSIGN_MASTER_KEY", OTHER_KEY),
        &["backup.db needs another master key", "sealed under master key"],
    );
    assert!(!said.stderr.contains(OTHER_KEY), "{said:?}");
    refuse(
        &mut restore(&["backup.db", "--data-dir", "elsewhere"]),
        &["there is no master key", "elsewhere/master.key"],
    );
    assert!(!place.path("elsewhere").exists());
    assert_eq!(before(), untouched);

    // On another machine, with the key.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("data/master.key"), place.path("elsewhere/master.key")).unwrap();
    let said = succeed(&mut restore(&["backup.db", "--data-dir", "elsewhere"]));
    assert_eq!(said, "restored elsewhere/countersign.db from backup.db\n");
    Serving::start(&place.folder, &["--data-dir", "elsewhere"], &[]).await.stop().await;

    for arguments in [&["backup", "x"][..], &["restore", "backup.db"]] {
        let mut command = countersign(&place.folder, arguments);
        command.args(["--database-url", "postgres://owl:hoot@localhost/x"]);
        let said = refuse(&mut command, &["pg_dump --format=custom", "pg_restore", "master key"]);
        assert!(!said.stderr.contains("hoot"), "{said:?}");
    }
}

#[tokio::test]
async fn a_backup_from_the_midst_of_a_change_of_the_master_key_needs_both() {
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

/// PostgreSQL's own tools do what is asked of them: dumped while serving, restored into a new database.
#[tokio::test]
async fn a_dump_of_postgres_is_restored_into_a_new_database() {
    let test = "operation::backup::a_dump_of_postgres_is_restored_into_a_new_database";
    let Some(mut world) = World::postgres_with(test, &[]) else { return };
    let new = harness::fresh_postgres_database(test);
    let service = world.service().await;
    let (_, enrolment) = world.enrolled(Style::Android, &service, "user-0001").await;
    world.challenge(&enrolment, &[]).await;
    let early = everything(&world).await;
    let Storage::Postgres { url, data_dir } = world.storage.clone() else { unreachable!() };

    let dump = data_dir.join("dump");
    let tool = |name: &str| Command::new(harness::postgres_program(name).unwrap());
    succeed(tool("pg_dump").args(["--format=custom", "--file"]).arg(&dump).arg(&url));
    world.service().await;
    succeed(tool("pg_restore").args(["--no-owner", "--exit-on-error", "--dbname", &new.url]).arg(&dump));

    // The same server with the same master key, on the new database.
    assert!(world.server.terminate().success());
    world.storage = Storage::Postgres { url: new.url.clone(), data_dir };
    world.server.restart_on(world.storage.clone());
    assert_eq!(everything(&world).await, early);
    assert_works(&world, &enrolment).await;
}
