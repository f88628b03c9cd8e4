//! Tests outlets that record messages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use outlet_client::{CaptureParameters, Outcome, OutletParameters, OutletSettings};
use serde_json::{Value, json};

use crate::fixtures::{LONG_TIMEOUT, create_client, describe, mail, settings, text_message};

fn capture(path: &Path) -> OutletSettings {
    settings(OutletParameters::Capture(CaptureParameters { path: path.to_str().unwrap().to_owned() }))
}

#[tokio::test]
async fn messages_are_appended_to_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages.jsonl");
    let (client, settings) = (create_client(None, LONG_TIMEOUT), capture(&path));
    for message in [text_message(), mail()] {
        let outcome = client.send("MG1", &settings, &message).await;
        assert_eq!(outcome, Outcome::Accepted { provider_id: None });
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |channel: &str, to: &str| {
        json!({
            "channel": channel,
            "to": to,
            "subject": "Your code",
            "text": "Owl Bank: 918273 is your code.",
            "code": "918273",
            "locale": "en",
            "attempt_sid": "VL11111111111111111111111111111111",
        })
    };
    assert_eq!(lines, [line("sms", "+4366412345678"), line("email", "ann@example.com")]);
}

#[tokio::test]
async fn concurrent_messages_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages.jsonl");
    let (client, settings, message) = (create_client(None, LONG_TIMEOUT), capture(&path), text_message());
    let sends = (0..50).map(|_| client.send("MG1", &settings, &message));
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(describe(&send.await), "accepted None");
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 50);
}

#[tokio::test]
async fn file_that_cannot_be_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = capture(&folder.path().join("missing/messages.jsonl"));
    let outcome = create_client(None, LONG_TIMEOUT).send("MG1", &settings, &text_message()).await;
    let reason = "cannot write the file: No such file or directory (os error 2)";
    assert_eq!(describe(&outcome), format!("retry None 30008 {reason}"));
}
