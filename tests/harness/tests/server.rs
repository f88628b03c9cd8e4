//! The handling of a server process, with a script as a stand-in for the server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::os::unix::process::ExitStatusExt;

use harness::{Server, Storage};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-in.sh");

#[test]
fn restarted_server_keeps_its_account_and_arguments() {
    let mut server = Server::start(STAND_IN, Storage::Sqlite("/some/folder".into()), &["--extra"]);
    let first = (server.pid(), server.url().to_owned());
    assert_eq!(first.1, format!("http://127.0.0.1:{}", first.0));

    server.kill9();
    server.restart();
    assert_ne!(first, (server.pid(), server.url().to_owned()));

    server.kill9();
    let account = format!("account: {} {}\n", server.account_sid(), server.auth_token());
    let life = format!("arguments: serve --listen 127.0.0.1:0 --data-dir /some/folder --extra\n{account}");
    assert_eq!(server.log(), life.repeat(2));
}

#[test]
fn servers_have_distinct_accounts() {
    let one = Server::start(STAND_IN, Storage::Ephemeral, &[]);
    let other = Server::start(STAND_IN, Storage::Ephemeral, &[]);
    assert_ne!(one.account_sid(), other.account_sid());
    assert_ne!(one.auth_token(), other.auth_token());
    assert_eq!((one.account_sid().len(), one.auth_token().len()), (34, 32));
}

#[test]
fn terminate_sends_sigterm() {
    let mut server = Server::start(STAND_IN, Storage::Ephemeral, &[]);
    let status = server.terminate();
    assert_eq!(status.signal(), Some(15));
    assert_eq!(server.terminate(), status, "a second call returns the same status");
}

#[test]
#[should_panic(expected = "the server ended before it was ready (exit status: 3); its log:\nno, thank you")]
fn failed_server_start_panics_with_the_reason() {
    Server::start(STAND_IN, Storage::Ephemeral, &["--refuse"]);
}
