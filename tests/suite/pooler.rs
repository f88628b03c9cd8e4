//! Servers on PostgreSQL through PgBouncer in transaction mode, with its default settings.

use device::{Answer, Status, Style};
use harness::{Auth, Receiver, wait_until};

use crate::webhooks::{LOOPBACK_ARGUMENTS, calls, webhook};
use crate::world::{BINARY, WAIT_TIMEOUT, World, entity};

#[tokio::test]
async fn enrollment_and_approval_work_through_pgbouncer() {
    let test = "pooler::enrollment_and_approval_work_through_pgbouncer";
    let Some(world) = World::pooled_with(test, LOOPBACK_ARGUMENTS) else { return };
    world.server.wait_for_log("a pooler in transaction mode").await;
    let receiver = Receiver::start([harness::Answer::ok(), harness::Answer::ok()]);
    let service = world.service().await;
    webhook(&world, &service, &receiver.at("/hook"), &[]).await;
    let story = async |number: u32| {
        let style = if number.is_multiple_of(2) { Style::Android } else { Style::Ios };
        let (phone, enrollment) = world.enrolled(style, &service, &format!("pooled-{number:04}")).await;
        let fields = [("Details.Fields", r#"{"label":"a","value":"🦉"}"#)];
        for (answer, expected) in [(Answer::Approved, Status::Approved), (Answer::Denied, Status::Denied)] {
            let challenge = world.challenge(&enrollment, &fields).await;
            assert_eq!(phone.list_pending(&enrollment).await.unwrap().challenges.len(), 1);
            let sid = challenge["sid"].as_str().unwrap();
            assert_eq!(phone.answer(&enrollment, sid, answer).await.unwrap().status, expected);
        }
    };
    // Several phones act concurrently, so that PgBouncer spreads their transactions over its connections.
    for round in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|number| story(round * 4 + number));
        tokio::join!(a, b, c, d);
    }
    assert!(!calls(&receiver, 2).await.is_empty());

    // Commands run through PgBouncer too, while the server is running.
    world.command(&["account", "create", "--name", "Another"]);
    assert!(world.command(&["account", "list"]).contains("Another"));
    assert!(world.command(&["migrate", "--check"]).contains("up to date"));
    world.command(&["audit", "verify"]);
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("OK       migrations: all applied"), "{doctor}");
    let everything = world.everything().await;

    // A second server sees the same data, and their deletion.
    let mut world = world;
    let another = world.another_server(LOOPBACK_ARGUMENTS);
    let (sid, token) = (world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
    let backend = another.http().auth(Auth::Basic(sid, token));
    let path = entity(&service, "pooled-0003");
    assert_eq!(backend.get(&path, &[]).await.status, 200);
    assert_eq!(world.everything().await, everything);
    assert_eq!(backend.delete(&format!("/v2/Services/{service}"), &[]).await.status, 204);
    assert_eq!(world.backend().get(&path, &[]).await.status, 404);
    assert!(!world.server.log().contains("ERROR"), "{}", world.server.log());
    assert!(world.server.terminate().success());
}

#[tokio::test]
async fn server_listens_for_deliveries_over_the_direct_database_url() {
    let test = "pooler::server_listens_for_deliveries_over_the_direct_database_url";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let Some(url) = database.pooled_url_or_skip(test) else { return };
    let listening = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND query LIKE 'LISTEN %countersign_deliveries%'";
        database.psql(sql) == "1"
    };
    let folder = tempfile::tempdir().unwrap();
    let storage = harness::Storage::Postgres { url, data_dir: folder.path().join("data") };
    let direct = ["--database-direct-url", &database.url];
    let server = harness::Server::start(BINARY, storage, &direct);
    wait_until("the server listens over the direct URL", WAIT_TIMEOUT, async || listening().then_some(()))
        .await;
    drop(server);
}
