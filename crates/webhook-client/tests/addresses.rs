//! Where nothing is sent to, however it is written. What names may turn into is tested in `src/dial.rs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod receiver;

use domain::{CallbackUrl, Parameter};
use receiver::{Receiver, ok, send, sender, url};
use webhook_client::{Outcome, Sender, Settings};

fn guarded() -> Sender {
    Sender::new(Settings::default()).unwrap()
}

#[tokio::test]
async fn this_machine_is_not_called() {
    let mut receiver = Receiver::start([ok()]);
    let (port, guarded) = (receiver.port, guarded());
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
        let attempt = send(&guarded, &url(&format!("http://{host}:{port}/"))).await;
        assert_eq!(attempt.outcome, Outcome::AddressForbidden, "{host}: {attempt}");
        assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11210, None));
        assert!(!attempt.outcome.is_transient());
    }
    // Some resolvers know it and some do not.
    let rooted = send(&guarded, &url(&format!("http://localhost.:{port}/"))).await.outcome;
    assert!(matches!(rooted, Outcome::AddressForbidden | Outcome::NameUnresolved), "{rooted}");

    // Had one got through, its call would have come before this one.
    send(&sender(), &receiver.url("/last")).await;
    assert_eq!(receiver.call().await.line, "POST /last HTTP/1.1");
}

#[tokio::test]
async fn neither_are_its_neighbours() {
    let guarded = guarded();
    for host in
        ["169.254.169.254", "10.0.0.1", "192.168.1.1", "100.100.100.200", "[fd00:ec2::254]", "[fe80::1]"]
    {
        for scheme in ["http", "https"] {
            let attempt = send(&guarded, &url(&format!("{scheme}://{host}/latest/meta-data/"))).await;
            assert_eq!(attempt.outcome, Outcome::AddressForbidden, "{scheme} {host}");
        }
    }
}

#[tokio::test]
async fn what_is_allowed_is_called() {
    let sender = sender();
    for (listening, hosts) in [
        ("127.0.0.1", &["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"][..]),
        ("::1", &["[::1]", "[0:0:0:0:0:0:0:1]"]),
    ] {
        let receiver = Receiver::listen(listening, [ok()]);
        for host in hosts {
            let attempt = send(&sender, &url(&format!("http://{host}:{}/", receiver.port))).await;
            assert_eq!(attempt.outcome, Outcome::Delivered, "{host}: {attempt}");
        }
    }
}

#[tokio::test]
async fn one_address_allowed_is_one_address() {
    let receiver = Receiver::start([ok()]);
    let settings = Settings { allow: vec!["127.0.0.2/32".parse().unwrap()], ..Settings::default() };
    let attempt = send(&Sender::new(settings).unwrap(), &receiver.url("/")).await;
    assert_eq!(attempt.outcome, Outcome::AddressForbidden);
}

#[tokio::test]
async fn the_host_header_is_the_one_that_was_written() {
    let mut receiver = Receiver::start([ok()]);
    send(&sender(), &url(&format!("http://LocalHost:{}/", receiver.port))).await;
    assert_eq!(receiver.call().await.header("Host"), format!("LocalHost:{}", receiver.port));
}

/// `http://public.example@127.0.0.1/` has the host 127.0.0.1. Such URLs never become webhooks.
#[test]
fn user_info_hides_no_host() {
    for text in
        ["http://public.example@127.0.0.1/", "http://a:b@127.0.0.1/", "http://127.0.0.1#@public.example/"]
    {
        let parsed = CallbackUrl::from_parameter(text);
        assert!(parsed.is_err() || parsed.unwrap().destination() == "127.0.0.1:80", "{text}");
    }
}
