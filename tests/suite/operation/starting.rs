//! Starting a server: what it creates, what it prints, and when it refuses.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::Storage;

use super::*;
use crate::world::{World, on_every_database};

const ACCOUNT_SID: &str = "AC0123456789abcdef0123456789abcdef";
const AUTH_TOKEN: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const OTHER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Returns the SID and auth token that a server printed after it created an account.
fn shown_account(stderr: &str) -> (String, String) {
    let value = |name: &str| value_of(&format!("export {name}="), stderr);
    (value("COUNTERSIGN_ACCOUNT_SID"), value("COUNTERSIGN_AUTH_TOKEN"))
}

#[tokio::test]
async fn first_start_creates_a_private_data_folder_a_master_key_and_an_account_shown_once() {
    let place = Place::new();
    let first = Serving::start(&place.folder, &[], &[]).await;
    assert_eq!(mode(&place.path("data")), 0o700);
    assert_eq!(mode(&place.path("data/master.key")), 0o600);
    let (account_sid, auth_token) = shown_account(&first.stderr());
    assert_eq!(first.stderr().matches(&auth_token).count(), 1);
    assert_eq!(first.backend(&account_sid, &auth_token).get("/v2/Services", &[]).await.status, 200);
    assert_eq!(first.stdout(), format!("countersign listening on {}\n", first.url));
    first.stop().await;

    let second = Serving::start(&place.folder, &[], &[]).await;
    assert_eq!(second.backend(&account_sid, &auth_token).get("/v2/Services", &[]).await.status, 200);
    assert!(!second.stderr().contains("export") && !second.stderr().contains(&auth_token));
    assert_eq!(second.stdout(), format!("countersign listening on {}\n", second.url));
    second.stop().await;
}

#[tokio::test]
async fn account_from_the_environment_is_created_and_not_shown() {
    let place = Place::new();
    let account = [("COUNTERSIGN_ACCOUNT_SID", ACCOUNT_SID), ("COUNTERSIGN_AUTH_TOKEN", AUTH_TOKEN)];
    let first = Serving::start(&place.folder, &[], &account).await;
    assert_eq!(first.backend(ACCOUNT_SID, AUTH_TOKEN).get("/v2/Services", &[]).await.status, 200);
    assert!(!first.stderr().contains(AUTH_TOKEN) && !first.stderr().contains("export"));
    first.stop().await;

    // The token may have been rotated since, so the one in the database counts.
    let other = "f9e8d7c6b5a4938271605f4e3d2c1b0a";
    let account = [("COUNTERSIGN_ACCOUNT_SID", ACCOUNT_SID), ("COUNTERSIGN_AUTH_TOKEN", other)];
    let second = Serving::start(&place.folder, &[], &account).await;
    assert_eq!(second.backend(ACCOUNT_SID, AUTH_TOKEN).get("/v2/Services", &[]).await.status, 200);
    assert_eq!(second.backend(ACCOUNT_SID, other).get("/v2/Services", &[]).await.status, 401);
    let stderr = second.stderr();
    assert!(stderr.contains("WARN") && stderr.contains("COUNTERSIGN_AUTH_TOKEN differs"), "{stderr}");
    assert!(!stderr.contains(other) && !stderr.contains(AUTH_TOKEN), "{stderr}");
    second.stop().await;
}

#[tokio::test]
async fn missing_part_of_the_account_in_the_environment_is_generated_and_printed() {
    let place = Place::new();
    let only_the_sid = Serving::start(&place.folder, &[], &[("COUNTERSIGN_ACCOUNT_SID", ACCOUNT_SID)]).await;
    let (account_sid, auth_token) = shown_account(&only_the_sid.stderr());
    assert_eq!(account_sid, ACCOUNT_SID);
    assert_eq!(only_the_sid.backend(ACCOUNT_SID, &auth_token).get("/v2/Services", &[]).await.status, 200);
    only_the_sid.stop().await;

    let place = Place::new();
    let only_the_token = Serving::start(&place.folder, &[], &[("COUNTERSIGN_AUTH_TOKEN", AUTH_TOKEN)]).await;
    let (account_sid, auth_token) = shown_account(&only_the_token.stderr());
    assert_eq!(auth_token, AUTH_TOKEN);
    assert_eq!(only_the_token.backend(&account_sid, AUTH_TOKEN).get("/v2/Services", &[]).await.status, 200);
    only_the_token.stop().await;
}

#[test]
fn invalid_account_in_the_environment_is_refused_with_a_reason() {
    let place = Place::new();
    for sid in ["AC", "SK0123456789abcdef0123456789abcdef", "AC0123456789abcdef0123456789abcdeg"] {
        let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
        refuse(command.env("COUNTERSIGN_ACCOUNT_SID", sid), &["COUNTERSIGN_ACCOUNT_SID", "expected", "AC"]);
    }
    for token in ["15characters000", "not-alphanumeric-at-all", &"a".repeat(129)] {
        let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
        command.env("COUNTERSIGN_ACCOUNT_SID", ACCOUNT_SID).env("COUNTERSIGN_AUTH_TOKEN", token);
        let output = refuse(&mut command, &["COUNTERSIGN_AUTH_TOKEN", "16 to 128 letters and digits"]);
        assert!(!output.stderr.contains(token), "{output:?}");
    }
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0, "files were created before the refusal");
}

#[tokio::test]
async fn lost_master_key_is_not_replaced() {
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    let key = fs::read_to_string(place.path("data/master.key")).unwrap();
    fs::remove_file(place.path("data/master.key")).unwrap();

    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["account", "list"]] {
        let expected = ["data/countersign.db exists", "data/master.key", "restore", "COUNTERSIGN_MASTER_KEY"];
        refuse(&mut countersign(&place.folder, arguments), &expected);
    }
    assert!(!place.path("data/master.key").exists());

    // Provide the key, as the error message advises.
    Serving::start(&place.folder, &[], &[("COUNTERSIGN_MASTER_KEY", key.trim())]).await.stop().await;
    fs::write(place.path("data/master.key"), key).unwrap();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
}

#[tokio::test]
async fn error_for_a_damaged_master_key_file_names_the_file() {
    let place = Place::new();
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    let key = fs::read_to_string(place.path("data/master.key")).unwrap();
    for damaged in ["", "\n", "c2hvcnQ=", &key[4..], &format!("{}{key}", &key[..4])] {
        fs::write(place.path("data/master.key"), damaged).unwrap();
        let expected = ["data/master.key", "expected 32 bytes in base64"];
        refuse(&mut countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]), &expected);
    }
}

on_every_database! {
    async fn wrong_master_key_is_refused_and_changes_nothing(world: World) {
        let mut world = world;
        let service = world.service().await;
        let place = Place::new();
        let storage: Vec<&str> = match &world.storage {
            Storage::Ephemeral => unreachable!(),
            Storage::Sqlite(data_dir) => vec!["--data-dir", data_dir.to_str().unwrap()],
            Storage::Postgres { url, .. } => vec!["--database-url", url],
        };
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["account", "list"]] {
            let mut command = countersign(&place.folder, command);
            command.args(&storage).args(["--master-key", OTHER_KEY]);
            let output = refuse(&mut command, &["sealed under master key", "but this server has"]);
            assert!(!output.stderr.contains(OTHER_KEY), "{output:?}");
        }

        world.server.restart();
        let reply = world.backend().get(&format!("/v2/Services/{service}"), &[]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[tokio::test]
async fn secrets_can_be_read_from_files() {
    let place = Place::new();
    let auth_token = place.file("auth-token", &format!("{AUTH_TOKEN}\n"));
    let master_key = place.file("master-key", &format!("{OTHER_KEY}\n"));
    let environment = [
        ("COUNTERSIGN_ACCOUNT_SID", ACCOUNT_SID),
        ("COUNTERSIGN_AUTH_TOKEN_FILE", &auth_token),
        ("COUNTERSIGN_MASTER_KEY_FILE", &master_key),
    ];
    let server = Serving::start(&place.folder, &[], &environment).await;
    assert_eq!(server.backend(ACCOUNT_SID, AUTH_TOKEN).get("/v2/Services", &[]).await.status, 200);
    assert!(!place.path("data/master.key").exists());
    server.stop().await;

    // The same key as hexadecimal and as base64.
    for key in [OTHER_KEY, "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8="] {
        let mut list = countersign(&place.folder, &["account", "list"]);
        assert!(succeed(list.env("COUNTERSIGN_MASTER_KEY", key)).starts_with(ACCOUNT_SID));
    }
}

#[tokio::test]
async fn database_url_can_be_read_from_a_file() {
    let test = "operation::starting::database_url_can_be_read_from_a_file";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let url = place.file("url", &format!("{}\n", database.url));
    let environment = [("COUNTERSIGN_DATABASE_URL_FILE", url.as_str()), ("COUNTERSIGN_MIGRATE", "true")];
    Serving::start(&place.folder, &[], &environment).await.stop().await;
    assert_eq!(database.psql("SELECT count(*) FROM accounts"), "1");
    assert!(!place.path("data/countersign.db").exists());
    assert_eq!(mode(&place.path("data")), 0o700);
    assert_eq!(mode(&place.path("data/master.key")), 0o600);
}

#[test]
fn error_for_a_missing_secret_file_names_the_file() {
    let place = Place::new();
    for flag in ["--auth-token-file", "--master-key-file", "--database-url-file"] {
        let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
        refuse(command.args([flag, "missing/secret"]), &["missing/secret", "No such file"]);
    }
}

#[tokio::test]
async fn server_start_fails_with_a_reason_if_the_port_is_in_use() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // No account is created, which the server would print to standard error.
    refuse(
        &mut countersign(&place.folder, &["serve", "--listen", &address]),
        &[&address, "in use", "--listen"],
    );
    let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
    refuse(command.args(["--metrics-listen", &address]), &["--metrics-listen", &address, "in use"]);
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0, "files were created before the refusal");
}

#[tokio::test]
async fn port_0_selects_a_free_port_at_each_start() {
    let place = Place::new();
    let one = Serving::start(&place.folder, &["--ephemeral"], &[]).await;
    let beside = Place::new();
    let other = Serving::start(&beside.folder, &["--ephemeral"], &[]).await;
    assert!(!one.url.ends_with(":0") && one.url != other.url);
    for server in [&one, &other] {
        let ready = Http::new(&server.url).get("/readyz", &[]).await;
        assert_eq!((ready.status, ready.text.as_str()), (200, r#"{"status":"ready"}"#));
    }
}

#[tokio::test]
async fn ephemeral_server_leaves_no_files_behind() {
    let place = Place::new();
    let server = Serving::start(&place.folder, &["--ephemeral"], &[]).await;
    let (account_sid, auth_token) = shown_account(&server.stderr());
    let backend = server.backend(&account_sid, &auth_token);
    assert_eq!(backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await.status, 201);
    let left = || fs::read_dir(&place.folder).unwrap().count();
    assert_eq!(left(), 0);
    server.stop().await;
    assert_eq!(left(), 0);
}

#[test]
fn unreachable_database_is_reported_without_its_password() {
    let place = Place::new();
    // The socket is bound but not listening, so no other process can take the port, and connections are
    // refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("postgres://owl:hoot-hoot-hoot@{}/countersign", socket.local_addr().unwrap());
    for arguments in [&["serve", "--listen", "127.0.0.1:0", "--database-wait", "0"][..], &["migrate"]] {
        let output = refuse(
            countersign(&place.folder, arguments).args(["--database-url", &url]),
            &["cannot connect to PostgreSQL at 127.0.0.1:", "database countersign", "refused"],
        );
        assert!(!output.stderr.contains("hoot"), "{output:?}");
    }
    let mut command =
        countersign(&place.folder, &["serve", "--database-url", "mysql://owl:hoot@127.0.0.1/x"]);
    let output = refuse(&mut command, &["--database-url", "postgres://"]);
    assert!(!output.stderr.contains("hoot"), "{output:?}");
}

#[test]
fn error_for_an_unusable_data_folder_names_the_folder() {
    let place = Place::new();
    place.file("occupied", "I am a file");
    let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
    refuse(command.args(["--data-dir", "occupied"]), &["occupied", "exists"]);
}

#[test]
fn invalid_serve_options_are_refused_with_a_reason() {
    let place = Place::new();
    for (flag, value, words) in [
        ("--log", "api=loud", "--log"),
        ("--public-url", "verify.example.com", "--public-url"),
        ("--public-url", "https://verify.example.com/path", "--public-url"),
        ("--master-key", "c2hvcnQ=", "the master key must be 32 bytes in base64 or hexadecimal"),
    ] {
        let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0", flag, value]);
        refuse(&mut command, &[words]);
    }
}
