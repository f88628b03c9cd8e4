//! Clients without credentials: the connections and memory that they can occupy, and for how long.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use device::{SigningKey, Style};
use harness::{Http, Server, Storage, wait_until};
use tokio::time::sleep;

use crate::races::{enrollment, send_at_once, split_outcomes};
use crate::transport::{RawConnection, head, post};
use crate::world::{
    BINARY, WAIT_TIMEOUT, World, assert_error, created, entity, on_every_database, signed_in,
};

/// A complete request that needs no credentials.
const HEALTH_REQUEST: &str = "GET /healthz HTTP/1.1\r\nHost: verify.test\r\n\r\n";

#[tokio::test]
async fn slow_second_request_head_times_out_like_the_first() {
    let world = World::ephemeral();
    let mut silent = RawConnection::to(&world).await;
    let mut trickling = RawConnection::to(&world).await;
    for line in [&mut silent, &mut trickling] {
        line.send(HEALTH_REQUEST).await;
        assert_eq!(line.receive().await.status, 200);
        line.send("GET /healthz HTTP/1.1\r\nX: ").await;
    }
    let began = Instant::now();
    let trickle = async {
        loop {
            trickling.send("x").await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), trickling.answer(false)).await {
                return answer;
            }
        }
    };
    let answer =
        tokio::time::timeout(Duration::from_secs(25), trickle).await.expect("an end of the connection");
    assert!(answer.is_none_or(|answer| answer.status == 408));
    assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(silent.receive().await.status, 408);
    assert!(silent.ends().await);
}

#[tokio::test]
async fn partial_head_after_a_request_times_out() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    connection.send(format!("{HEALTH_REQUEST}GET /healthz HTTP/1.1\r\nX: ")).await;
    assert_eq!(connection.receive().await.status, 200);
    sleep(Duration::from_secs(1)).await;
    connection.send("x").await;
    assert_eq!(connection.receive().await.status, 408);
    assert!(connection.ends().await);
}

#[tokio::test]
async fn idle_and_slow_connections_within_the_timeouts_are_served() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    connection.send(HEALTH_REQUEST).await;
    assert_eq!(connection.receive().await.status, 200);
    // Wait longer than the request head timeout.
    sleep(Duration::from_secs(12)).await;
    for byte in HEALTH_REQUEST.as_bytes().chunks(8) {
        connection.send(byte).await;
        sleep(Duration::from_millis(800)).await;
    }
    assert_eq!(connection.receive().await.status, 200);
    // 1.25 KiB a second, for longer than the timeout of an empty body.
    let form = format!("FriendlyName=Owl&Filler={}", "x".repeat(20 * 1024));
    let request = post(&world, "/v2/Services", &form);
    for part in request.as_bytes().chunks(1024) {
        connection.send(part).await;
        sleep(Duration::from_millis(800)).await;
    }
    assert_eq!(connection.receive().await.status, 201);
}

#[tokio::test]
async fn too_slow_request_body_times_out() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    let began = Instant::now();
    connection.send(head(&world, "POST /v2/Services", "Content-Length: 60000\r\n")).await;
    let trickle = async {
        loop {
            connection.send("x").await;
            if let Ok(answer) =
                tokio::time::timeout(Duration::from_millis(500), connection.answer(false)).await
            {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(25), trickle).await.expect("an answer in time");
    answer.expect("an answer before the connection ends").assert_error(408, 20408);
    assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn unauthenticated_large_bodies_do_not_block_authenticated_large_bodies() {
    let world = World::ephemeral();
    let service = world.service().await;
    let device = world.device(&service, "large-0001").await;
    let wrong = "Authorization: Basic dG9rZW46YS5iLmM=\r\n";
    let mut connections = Vec::new();
    for number in 0..640 {
        let authorization = if number % 2 == 0 { wrong } else { "" };
        let mut connection = RawConnection::to(&world).await;
        connection
            .send(format!(
                "POST /v2/Services HTTP/1.1\r\nHost: h\r\n{authorization}Content-Length: 60000\r\n\r\n{}",
                "x".repeat(8 * 1024)
            ))
            .await;
        connections.push(connection);
    }
    // The server has received all requests once it has received the last one.
    sleep(Duration::from_secs(1)).await;
    let large = "x".repeat(30_000);
    created(&world.backend().post("/v2/Services", &[("FriendlyName", "Owl"), ("Filler", &large)]).await);
    let phone = world.server.http().auth(device.auth());
    assert_eq!(phone.post(&device.path(), &[("FriendlyName", "Owl"), ("Filler", &large)]).await.status, 200);
}

#[tokio::test]
async fn large_request_bodies_of_phones_do_not_block_backends() {
    let world = World::ephemeral();
    let service = world.service().await;
    let token = world.access_token(&service, "large-0001").await;
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("token:{token}"));
    let path = format!("{}/Factors", entity(&service, "large-0001"));
    let mut phones = Vec::new();
    for _ in 0..640 {
        let mut connection = RawConnection::to(&world).await;
        connection.send(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {auth}\r\nContent-Length: 60000\r\n\r\n{}",
            "x".repeat(8 * 1024)
        ))
        .await;
        phones.push(connection);
    }
    sleep(Duration::from_secs(1)).await;
    let large = "x".repeat(30_000);
    created(&world.backend().post("/v2/Services", &[("FriendlyName", "Owl"), ("Filler", &large)]).await);
}

#[tokio::test]
async fn unauthenticated_large_body_is_refused_and_the_connection_stays_open() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    for authorization in ["", "Authorization: Basic dG9rZW46YS5iLmM=\r\n"] {
        for length in [10, 4096, 4097, 60_000] {
            connection.send(format!(
                "POST /v2/Services HTTP/1.1\r\nHost: h\r\n{authorization}Content-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            ))
            .await;
            connection.receive().await.assert_error(401, 20003);
        }
    }
    connection.send(head(&world, "GET /v2/Services", "")).await;
    assert_eq!(connection.receive().await.status, 200);
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let world = World::ephemeral_with(&["--max-connections-per-address", "5"]);
    let url = world.server.url();
    let ask = async |line: &mut RawConnection| {
        line.send(HEALTH_REQUEST).await;
        line.receive().await
    };
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut line = RawConnection::from("127.0.0.2", url).await;
        assert_eq!(ask(&mut line).await.status, 200);
        open.push(line);
    }
    let mut sixth = RawConnection::from("127.0.0.2", url).await;
    let refused = ask(&mut sixth).await;
    refused.assert_error(429, 20429);
    assert_eq!((refused.header("connection"), refused.header("retry-after")), (vec!["close"], vec!["1"]));
    assert!(sixth.ends().await);
    // The log is read by another thread, which may be behind the response.
    wait_until("the refusal is in the log", WAIT_TIMEOUT, async || {
        world.server.log().contains("too many from this address are open").then_some(())
    })
    .await;
    assert_eq!(ask(&mut RawConnection::from("127.0.0.3", url).await).await.status, 200);
    assert_eq!(ask(&mut open[0]).await.status, 200, "open connections are served");
    open.pop();
    wait_until("a connection is free again", WAIT_TIMEOUT, async || {
        let answer = ask(&mut RawConnection::from("127.0.0.2", url).await).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_take_more_than_half_of_all_connections() {
    let world = World::ephemeral_with(&["--max-connections", "16"]);
    let mut open = Vec::new();
    for number in 1..=9 {
        let mut connection = RawConnection::to(&world).await;
        connection.send(HEALTH_REQUEST).await;
        assert_eq!(connection.receive().await.status, if number < 9 { 200 } else { 429 });
        open.push(connection);
    }
    let mut other = RawConnection::from("127.0.0.2", world.server.url()).await;
    other.send(HEALTH_REQUEST).await;
    assert_eq!(other.receive().await.status, 200);
}

#[tokio::test]
async fn trusted_proxy_is_exempt_from_the_connection_limit_per_address() {
    let arguments = ["--max-connections-per-address", "2", "--trusted-proxies", "127.0.0.2/32"];
    let world = World::ephemeral_with(&arguments);
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut connection = RawConnection::from("127.0.0.2", world.server.url()).await;
        connection.send(HEALTH_REQUEST).await;
        assert_eq!(connection.receive().await.status, 200);
        open.push(connection);
    }
}

#[tokio::test]
async fn requests_beyond_max_connections_are_refused_except_health_checks() {
    let world = World::ephemeral_with(&["--max-connections", "16", "--max-connections-per-address", "0"]);
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut connection = RawConnection::to(&world).await;
        connection.send(HEALTH_REQUEST).await;
        assert_eq!(connection.receive().await.status, 200);
        open.push(connection);
    }
    let mut beyond = RawConnection::to(&world).await;
    beyond.send(HEALTH_REQUEST).await;
    let answer = beyond.receive().await;
    assert_eq!((answer.status, answer.header("connection")), (200, vec!["close"]), "{answer:?}");
    assert!(beyond.ends().await);
    let mut beyond = RawConnection::to(&world).await;
    beyond.send(head(&world, "GET /v2/Services", "")).await;
    let refused = beyond.receive().await;
    refused.assert_error(503, 20503);
    assert_eq!((refused.header("connection"), refused.header("retry-after")), (vec!["close"], vec!["1"]));
    assert!(beyond.ends().await);
    open[0].send(head(&world, "GET /v2/Services", "")).await;
    assert_eq!(open[0].receive().await.status, 200);
}

/// Starts a server from a shell that has called `ulimit` with these arguments.
fn limited(folder: &std::path::Path, ulimit: &str, arguments: &[&str]) -> Server {
    let script = folder.join("limited");
    let binary: &std::path::Path = BINARY.as_ref();
    let binary = binary.display();
    std::fs::write(&script, format!("#!/bin/sh\nulimit {ulimit}\nexec '{binary}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    Server::start(&script, Storage::Sqlite(folder.join("data")), arguments)
}

#[tokio::test]
async fn low_open_file_limit_reduces_client_connections_but_not_database_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = limited(folder.path(), "-n 256", &[]);
    server.wait_for_log("the limit of 256 open files allows only 128 connections").await;
    let mut backend = RawConnection::at(server.url()).await;
    backend.send(HEALTH_REQUEST).await;
    assert_eq!(backend.receive().await.status, 200);
    let mut connections = Vec::new();
    for _ in 0..400 {
        connections.push(RawConnection::at(server.url()).await);
    }
    let pair = format!("{}:{}", server.account_sid(), server.auth_token());
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    for _ in 0..20 {
        backend
            .send(format!(
                "POST /v2/Services HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {auth}\r\nContent-Length: 16\r\n\r\nFriendlyName=Owl"
            ))
            .await;
        let answer = backend.receive().await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    drop(connections);
    wait_until("a connection is free again", WAIT_TIMEOUT, async || {
        let mut connection = RawConnection::at(server.url()).await;
        connection.send(HEALTH_REQUEST.replace("/healthz", "/openapi.json")).await;
        connection.answer(false).await.filter(|answer| answer.status == 200).map(drop)
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn soft_open_file_limit_is_raised_to_the_hard_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server = limited(folder.path(), "-Sn 256", &["--max-connections", "100"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, _] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(soft, hard);
    assert!(!server.log().contains("open files"), "{}", server.log());
}

/// A request of another phone: method, path and form.
type Attempt = (&'static str, String, Vec<(String, String)>);

/// Returns forms that differ from the one with which the token was spent, and other requests with the token.
fn other_requests(service: &str, other: &str, public_key: &str) -> Vec<Attempt> {
    let whole = |key: &str, factor_type: &str| {
        [
            ("FactorType", factor_type),
            ("FriendlyName", "Phone"),
            ("Binding.Alg", "ES256"),
            ("Binding.PublicKey", key),
            ("Config.AppId", "com.example.app"),
            ("Config.NotificationPlatform", "none"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    };
    let another = SigningKey::generate().public_key_base64();
    let factors = |service: &str, identity: &str| format!("{}/Factors", entity(service, identity));
    let mine = factors(service, "newcomer-0001");
    vec![
        ("POST", mine.clone(), Vec::new()),
        ("POST", mine.clone(), whole(&another, "push")),
        ("POST", mine.clone(), whole("nonsense", "push")),
        ("POST", mine.clone(), whole(public_key, "totp")),
        ("POST", mine.clone(), whole(public_key, "nonsense")),
        ("POST", mine.clone(), vec![("FriendlyName".to_owned(), "x".repeat(70_000))]),
        ("POST", factors(service, "newcomer-0002"), whole(public_key, "push")),
        ("POST", factors(service, "x"), whole(public_key, "push")),
        ("POST", factors(other, "newcomer-0001"), whole(public_key, "push")),
        ("POST", factors("VA0", "newcomer-0001"), whole(public_key, "push")),
        ("GET", mine, Vec::new()),
        ("GET", "/v2/Services".to_owned(), Vec::new()),
    ]
}

async fn send(http: &Http, (method, path, form): &(&str, String, Vec<(String, String)>)) -> harness::Reply {
    let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match *method {
        "GET" => http.get(path, &[]).await,
        _ => http.post(path, &form).await,
    }
}

on_every_database! {
    async fn spent_access_token_can_only_repeat_its_enrollment(world: World) {
        let (service, other) = (world.service().await, world.service().await);
        let new = world.new_factor(&service, "newcomer-0001").await;
        let key = SigningKey::generate();
        let mut enrolled = world.phone(Style::Android).create_factor_with(&new, key.clone()).await.unwrap();
        let holder = world.backend().auth(signed_in(new.access_token.expose().as_str()));
        let requests = other_requests(&service, &other, &key.public_key_base64());
        for request in &requests {
            assert_error(&send(&holder, request).await, 401, 20003);
        }
        let again = async || split_outcomes(&send_at_once(vec![enrollment(&world.server, &new, &key)]).await);
        assert_eq!(again().await.0.len(), 1, "the same once more");

        world.phone(Style::Android).verify_factor(&mut enrolled).await.unwrap();
        assert_eq!(again().await.1, [(401, 20003)]);
        for request in &requests {
            assert_error(&send(&holder, request).await, 401, 20003);
        }
    }
}

on_every_database! {
    async fn access_token_of_a_deleted_service_or_factor_is_refused(world: World) {
        let other = world.service().await;
        for gone in ["service", "factor"] {
            let service = world.service().await;
            let new = world.new_factor(&service, "newcomer-0001").await;
            let key = SigningKey::generate();
            let mut path = format!("/v2/Services/{service}");
            if gone == "factor" {
                let made = world.phone(Style::Android).create_factor_with(&new, key.clone()).await.unwrap();
                path = format!("{}/Factors/{}", entity(&service, "newcomer-0001"), made.factor_sid);
            }
            assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
            let holder = world.backend().auth(signed_in(new.access_token.expose().as_str()));
            for request in &other_requests(&service, &other, &key.public_key_base64()) {
                assert_error(&send(&holder, request).await, 401, 20003);
            }
            assert_eq!(split_outcomes(&send_at_once(vec![enrollment(&world.server, &new, &key)]).await).1, [(401, 20003)]);
        }
    }
}

#[tokio::test]
async fn spent_access_token_counts_as_failed_authentication_for_any_input() {
    let service_of = async |world: &World| (world.service().await, world.service().await);
    for number in 0..12 {
        let world = World::ephemeral_with(&["--failed-authentications-per-minute", "2"]);
        let (service, other) = service_of(&world).await;
        let new = world.new_factor(&service, "newcomer-0001").await;
        let key = SigningKey::generate();
        world.phone(Style::Android).create_factor_with(&new, key.clone()).await.unwrap();
        let holder = world.backend().auth(signed_in(new.access_token.expose().as_str()));
        let request = &other_requests(&service, &other, &key.public_key_base64())[number];
        let refused = wait_until("too many sign-ins have failed", WAIT_TIMEOUT, async || {
            let reply = send(&holder, request).await;
            (reply.status != 401).then_some(reply)
        });
        assert_error(&refused.await, 429, 20429);
    }
}
