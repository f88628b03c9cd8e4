//! The errors of a phone.

use std::io;
use std::path::PathBuf;

use crate::challenge::Challenge;
use crate::json::UnreadableField;
use crate::wire::Operation;

/// Why an operation of a phone failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the request.
    #[error("the server refused with HTTP {status}: {message} (code {code})")]
    Api {
        /// HTTP status.
        status: u16,
        /// Twilio's error code.
        code: i64,
        /// Message of the server.
        message: String,
    },
    /// No response arrived.
    #[error("the server did not answer")]
    Transport(#[source] reqwest::Error),
    /// At least one of the SDKs cannot parse the response (docs/protocol/device.md, section 8).
    #[error("a published SDK cannot parse the response to \"{operation}\": {field} must be {expected}")]
    Unreadable {
        /// The operation of the request.
        operation: Operation,
        /// Path of the field that cannot be parsed, such as `details.fields[0].label`.
        field: String,
        /// What the SDKs require there.
        expected: &'static str,
    },
    /// The challenge was not pending, or came from a list, which does not contain what to sign. No answer was sent.
    #[error("the challenge cannot be answered: it is {}, or came from a list", .0.status.as_str())]
    NotPending(Box<Challenge>),
    /// The server accepted the answer but still returns another status (docs/protocol/device.md, section 1).
    #[error("the answer was sent, but the challenge is still {}", .0.status.as_str())]
    NotUpdated(Box<Challenge>),
    /// The address of the server is not an `http` or `https` URL.
    #[error("{0} is not the URL of a server; it looks like http://127.0.0.1:8080")]
    BaseUrl(String),
    /// The keyring could not be read or written.
    #[error("cannot read or write the keyring {}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Other users have access to the keyring, which contains private keys.
    #[error("other users can open the keyring {0}, which contains private keys; run chmod 600 {0}", path.display())]
    KeyringOpenToOthers {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a keyring. The message does not quote its content, which may include keys.
    #[error("{} is not a keyring: line {line}, column {column}", path.display())]
    KeyringMalformed {
        /// The file.
        path: PathBuf,
        /// Line of the first error.
        line: usize,
        /// Column of the first error.
        column: usize,
    },
    /// No factor in the keyring has this SID or prefix.
    #[error("the keyring has no factor whose SID begins with \"{0}\"")]
    NoSuchFactor(String),
    /// Several factors in the keyring have this prefix.
    #[error("the keyring has more than one factor whose SID begins with \"{0}\"")]
    AmbiguousFactor(String),
}

impl Error {
    /// Creates the error for a field of the response to `operation` that cannot be parsed.
    pub(crate) fn unreadable(operation: Operation, part: UnreadableField) -> Self {
        Self::Unreadable { operation, field: part.field, expected: part.expected }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // The URL contains the identity of the user.
        Self::Transport(error.without_url())
    }
}
