//! Outlets that record messages in a file, for tests and demonstrations.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::codes;
use crate::message::{Message, Outcome};
use crate::settings::CaptureSettings;

/// Appends `message` to the outlet's file.
pub(crate) async fn send(settings: &CaptureSettings, message: &Message) -> Outcome {
    let (path, line) = (settings.path().to_owned(), to_line(message));
    let appended = tokio::task::spawn_blocking(move || append(&path, &line)).await;
    match appended.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
        Ok(()) => Outcome::Accepted { provider_id: None },
        Err(error) => Outcome::Retry {
            after: None,
            code: codes::UNKNOWN_ERROR,
            reason: format!("cannot write the file: {error}"),
        },
    }
}

/// Returns the line that records a message. It contains no time, so that runs of a test can be compared.
fn to_line(message: &Message) -> String {
    let record = json!({
        "channel": message.channel.as_str(),
        "to": message.to.as_str(),
        "subject": message.subject,
        "text": message.text,
        "code": message.code.expose(),
        "locale": message.locale,
        "attempt_sid": message.attempt_sid.to_string(),
    });
    format!("{record}\n")
}

/// Appends a line to a file, which is created for its owner only. The line is written at once, so that lines of several
/// processes do not mix.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}
