//! Starting in test mode: when that is refused, and how everyone can see that it is on.

use harness::{Answer, Http, Receiver, wait_until};
use reqwest::Method;
use serde_json::json;

use super::TestServer;
use crate::metrics;
use crate::operation::{Place, Serving, countersign, refuse, run};
use crate::webhooks::{event, webhook};
use crate::world::{WAIT_TIMEOUT, assert_error};

const TEST_ACCOUNT_SID: &str = "AC7e577e577e577e577e577e577e577e57";
const TEST_AUTH_TOKEN: &str = "7e577e577e577e577e577e577e577e57";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[tokio::test]
async fn test_server_has_the_well_known_account_and_prints_one_line() {
    let place = Place::new();
    let serving = Serving::start(&place.folder, &["--test-mode", "local"], &[]).await;
    assert_eq!(serving.stdout(), format!("countersign listening on {}\n", serving.url));
    let backend = serving.backend(TEST_ACCOUNT_SID, TEST_AUTH_TOKEN);
    assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
    assert!(!place.path("data").exists(), "test mode writes nothing");
    let own_token = TestServer::start().get("/").await["account"]["auth_token"].clone();
    assert_eq!(own_token, json!(null), "a token of the operator's own is not shown");
    let described = Http::new(&serving.url).get("/_countersign/v1/", &[]).await.json();
    assert_eq!(described["test_mode"], "local");
    assert_eq!(described["account"], json!({ "sid": TEST_ACCOUNT_SID, "auth_token": TEST_AUTH_TOKEN }));
    assert_eq!(described["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(described["counts"], json!({ "devices": 0, "pushes": 0, "webhooks": 0 }));
    assert_eq!(
        (&described["clock"]["frozen"], &described["clock"]["offset_seconds"]),
        (&json!(false), &json!(0.0))
    );
    let log = serving.stderr();
    assert!(log.contains("WARN") && log.contains("test mode is on"), "{log}");
    serving.stop().await;
}

#[test]
fn anything_that_looks_like_production_is_refused_by_name() {
    let place = Place::new();
    let serve = |arguments: &[&str]| {
        let mut all = vec!["serve", "--test-mode", "local"];
        all.extend_from_slice(arguments);
        countersign(&place.folder, &all)
    };
    let key_file = place.file("key", KEY);
    let url = "postgres://user:secret@127.0.0.1:1/name";
    for (variable, value) in [
        ("COUNTERSIGN_DATABASE_URL", url),
        ("COUNTERSIGN_DATABASE_DIRECT_URL", url),
        ("COUNTERSIGN_MASTER_KEY", KEY),
        ("COUNTERSIGN_MASTER_KEY_FILE", key_file.as_str()),
        ("COUNTERSIGN_MASTER_KEY_OLD", KEY),
        ("COUNTERSIGN_PUSH_APNS_ENDPOINT", "https://127.0.0.1:1"),
        ("COUNTERSIGN_PUSH_FCM_ENDPOINT", "https://127.0.0.1:1"),
    ] {
        let output = refuse(serve(&[]).env(variable, value), &["--test-mode", variable, "real users"]);
        assert!(!output.stderr.contains("secret") && !output.stderr.contains(KEY), "{output:?}");
    }
    let files = ["--tls-cert", "certificate.pem", "--tls-key", "key.pem"];
    refuse(&mut serve(&files), &["--test-mode", "--tls-cert"]);
    refuse(&mut serve(&["--listen", "0.0.0.0:0"]), &["--test-mode", "loopback", "--listen", "exposed"]);
}

#[test]
fn data_folder_of_a_server_with_users_is_refused() {
    for file in ["countersign.db", "master.key"] {
        let place = Place::new();
        std::fs::create_dir(place.path("data")).unwrap();
        place.file(&format!("data/{file}"), "");
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--test-mode", "exposed"];
        refuse(&mut countersign(&place.folder, &arguments), &["--test-mode", file, "--data-dir"]);
    }
}

#[test]
fn server_with_users_refuses_the_test_account() {
    let place = Place::new();
    for (variable, value) in
        [("COUNTERSIGN_ACCOUNT_SID", TEST_ACCOUNT_SID), ("COUNTERSIGN_AUTH_TOKEN", TEST_AUTH_TOKEN)]
    {
        let mut command = countersign(&place.folder, &["serve", "--listen", "127.0.0.1:0"]);
        refuse(command.env(variable, value), &[TEST_ACCOUNT_SID, "--test-mode"]);
    }
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 0, "files were created before the refusal");
}

#[test]
fn configuration_check_and_doctor_report_test_mode_as_an_error() {
    let place = Place::new();
    for arguments in [&["config", "check"][..], &["doctor"]] {
        let mut command = countersign(&place.folder, arguments);
        let output = run(command.env("COUNTERSIGN_TEST_MODE", "local"));
        assert_eq!(output.code, Some(1), "{output:?}");
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(printed.contains("COUNTERSIGN_TEST_MODE: test mode is on"), "{printed}");
    }
}

#[tokio::test]
async fn test_mode_shows_in_responses_readiness_metrics_and_webhooks() {
    let server = TestServer::with(&metrics::LISTEN);
    let http = Http::new(server.world.server.url());
    for path in ["/healthz", "/readyz", "/v2/Services", "/nothing", "/_countersign/v1/nothing"] {
        let reply = http.get(path, &[]).await;
        assert_eq!(reply.header("countersign-test-mode"), Some("on"), "{reply:?}");
    }
    assert_eq!(http.get("/readyz", &[]).await.json(), json!({ "status": "ready", "test_mode": "local" }));
    let address = metrics::address(|| server.world.server.log()).await;
    assert_eq!(metrics::read(&address).await.sum("countersign_test_mode", &[]), 1.0);
    assert_eq!(Http::new(&address).get("/readyz", &[]).await.text, "ready in test mode\n");

    let mut receiver = Receiver::start([Answer::ok()]);
    let service = server.world.service().await;
    webhook(&server.world, &service, &receiver.at("/hook"), &[]).await;
    event(&server.world, &service, "zoe-00001").await;
    assert_eq!(receiver.call().await.header("Countersign-Test-Mode"), "on");
}

#[tokio::test]
async fn server_without_test_mode_has_none_of_it() {
    let world = crate::world::World::ephemeral_with(&metrics::LISTEN);
    let http = Http::new(world.server.url());
    for path in ["/_countersign/v1", "/_countersign/v1/", "/_countersign/v1/devices"] {
        let reply = http.get(path, &[]).await;
        assert_eq!((reply.status, reply.header("countersign-test-mode")), (404, None), "{reply:?}");
    }
    assert_eq!(http.get("/readyz", &[]).await.json(), json!({ "status": "ready" }));
    let address = metrics::address(|| world.server.log()).await;
    assert_eq!(metrics::read(&address).await.sum("countersign_test_mode", &[]), 0.0);
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_a_test_server() {
    let server = TestServer::with(&["--test-mode-host", "verify.test.example"]);
    for (host, status) in [
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8080", 421),
        ("verify.test.example", 200),
        ("countersign:8080", 200),
        ("app.localhost", 200),
        ("host.docker.internal:8080", 200),
        ("[::1]:8080", 200),
    ] {
        let http = server.http.clone().header("Host", host);
        let reply = http.get("/_countersign/v1/", &[]).await;
        assert_eq!(reply.status, status, "{host}: {reply:?}");
        // The credentials for the API are public.
        let of_api = server.world.backend().header("Host", host).get("/v2/Services", &[]).await;
        assert_eq!(of_api.status, status, "{host}: {of_api:?}");
        assert_eq!(http.get("/healthz", &[]).await.status, 200, "{host}");
        if status == 421 {
            assert_error(&of_api, 421, 20421);
            assert_error(&reply, 421, 20421);
            assert!(reply.json()["message"].as_str().unwrap().contains("--test-mode-host"), "{reply:?}");
        }
    }
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example:8080", 403),
        ("https://verify.test.example", 200),
        ("http://localhost:3000", 200),
    ] {
        for (client, path) in
            [(server.world.backend(), "/v2/Services"), (server.http.clone(), "/_countersign/v1/")]
        {
            let reply = client.header("Origin", origin).get(path, &[]).await;
            assert_eq!(reply.status, status, "{origin} {path}: {reply:?}");
        }
    }
    // The types that a page may send without a preflight request.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let reply = server.http.raw_body("/_countersign/v1/accounts", content_type, "{}").await;
        assert_error(&reply, 415, 20415);
    }
    assert_error(&server.http.delete("/_countersign/v1/pushes", &[]).await, 415, 20415);
    let preflight = server.send(Method::OPTIONS, "/accounts", None).await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), None, "{preflight:?}");
}

#[tokio::test]
async fn accounts_of_tests_are_separate() {
    let server = TestServer::start();
    let new = server.post("/accounts", json!({ "friendly_name": "First test" })).await;
    assert_eq!(new.status, 201, "{new:?}");
    let new = new.json();
    let client = |user: &str, password: &str| {
        let auth = harness::Auth::Basic(
            new[user].as_str().unwrap().to_owned(),
            new[password].as_str().unwrap().to_owned(),
        );
        server.http.clone().auth(auth)
    };
    server.world.service().await;
    for backend in [client("account_sid", "auth_token"), client("api_key_sid", "api_key_secret")] {
        let listed = backend.get("/v2/Services", &[]).await;
        assert_eq!(
            (listed.status, listed.json()["services"].as_array().unwrap().len()),
            (200, 0),
            "{listed:?}"
        );
    }
    assert_error(&server.post("/accounts", json!({ "name": "x" })).await, 400, 60306);
    assert_error(&server.post("/accounts", json!({ "friendly_name": "" })).await, 400, 60306);
}

#[tokio::test]
async fn log_reminds_of_test_mode_as_a_warning() {
    let server = TestServer::start();
    wait_until("the log has the reminder", WAIT_TIMEOUT, async || {
        let log = server.world.server.log();
        let line = log.lines().find(|line| line.contains("test mode is on"))?.to_owned();
        line.contains("WARN").then_some(())
    })
    .await;
}
