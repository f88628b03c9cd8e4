//! Tests that forbidden addresses are rejected in all their spellings. The addresses of host names are tested
//! in `src/connector.rs`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod fixtures;

use domain::{CallbackUrl, Parameter};
use fixtures::{callback_url, client, send, url_at};
use harness::{Answer, Receiver};
use webhook_client::{Outcome, Settings, WebhookClient};

/// Creates a client that may send to public addresses only.
fn guarded_client() -> WebhookClient {
    WebhookClient::new(Settings::default()).unwrap()
}

#[tokio::test]
async fn loopback_address_is_forbidden_in_every_spelling() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let (port, guarded) = (receiver.port, guarded_client());
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST",
    ] {
        let attempt = send(&guarded, &callback_url(&format!("http://{host}:{port}/"))).await;
        assert_eq!(attempt.outcome, Outcome::AddressForbidden, "{host}: {attempt}");
        assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11210, None));
        assert!(!attempt.outcome.is_transient());
    }
    // Some resolvers resolve the rooted name (with a trailing dot), others do not.
    let rooted = send(&guarded, &callback_url(&format!("http://localhost.:{port}/"))).await.outcome;
    assert!(matches!(rooted, Outcome::AddressForbidden | Outcome::NameUnresolved), "{rooted}");

    // A request that had passed the guard would have arrived before this one.
    send(&client(), &url_at(&receiver, "/last")).await;
    assert_eq!(receiver.call().await.line, "POST /last HTTP/1.1");
}

#[tokio::test]
async fn private_and_metadata_addresses_are_forbidden() {
    let guarded = guarded_client();
    for host in
        ["169.254.169.254", "10.0.0.1", "192.168.1.1", "100.100.100.200", "[fd00:ec2::254]", "[fe80::1]"]
    {
        for scheme in ["http", "https"] {
            let attempt =
                send(&guarded, &callback_url(&format!("{scheme}://{host}/latest/meta-data/"))).await;
            assert_eq!(attempt.outcome, Outcome::AddressForbidden, "{scheme} {host}");
        }
    }
}

#[tokio::test]
async fn allowed_address_is_reached_in_every_spelling() {
    let client = client();
    for (listening, hosts) in [
        ("127.0.0.1", &["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"][..]),
        ("::1", &["[::1]", "[0:0:0:0:0:0:0:1]"]),
    ] {
        let receiver = Receiver::listen(listening, None, [Answer::ok()]);
        for host in hosts {
            let attempt = send(&client, &callback_url(&format!("http://{host}:{}/", receiver.port))).await;
            assert_eq!(attempt.outcome, Outcome::Delivered, "{host}: {attempt}");
        }
    }
}

#[tokio::test]
async fn allowing_an_address_does_not_permit_its_neighbors() {
    let receiver = Receiver::start([Answer::ok()]);
    let settings = Settings { allow: vec!["127.0.0.2/32".parse().unwrap()], ..Settings::default() };
    let attempt = send(&WebhookClient::new(settings).unwrap(), &url_at(&receiver, "/")).await;
    assert_eq!(attempt.outcome, Outcome::AddressForbidden);
}

#[tokio::test]
async fn host_header_keeps_the_spelling_of_the_url() {
    let mut receiver = Receiver::start([Answer::ok()]);
    send(&client(), &callback_url(&format!("http://LocalHost:{}/", receiver.port))).await;
    assert_eq!(receiver.call().await.header("Host"), format!("LocalHost:{}", receiver.port));
}

/// The host of `http://public.example@127.0.0.1/` is 127.0.0.1; the part before `@` is user info.
#[test]
fn user_info_does_not_disguise_the_host() {
    for text in
        ["http://public.example@127.0.0.1/", "http://a:b@127.0.0.1/", "http://127.0.0.1#@public.example/"]
    {
        let parsed = CallbackUrl::from_parameter(text);
        assert!(parsed.is_err() || parsed.unwrap().destination() == "127.0.0.1:80", "{text}");
    }
}
