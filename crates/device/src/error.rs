//! The errors that a phone's operations return.

use std::io;
use std::path::PathBuf;

use crate::challenge::Challenge;
use crate::json::UnreadableField;
use crate::wire::Operation;

/// Why a phone's operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the request with an error response.
    #[error("the server refused the request with HTTP status {status}: {message} (code {code})")]
    Api {
        /// HTTP status code of the response.
        status: u16,
        /// Twilio's error code from the response body.
        code: i64,
        /// Error message from the response body.
        message: String,
    },
    /// No complete response was received.
    #[error("the server did not respond")]
    Transport(#[source] reqwest::Error),
    /// A published SDK (Android or iOS) could not parse the response (docs/protocol/device.md, section 8).
    #[error("a published SDK cannot parse the response to \"{operation}\": {field} must be {expected}")]
    Unreadable {
        /// The operation that was requested.
        operation: Operation,
        /// JSON path of the field that cannot be parsed, such as `details.fields[0].label`.
        field: String,
        /// Description of what the SDKs require at this path.
        expected: &'static str,
    },
    /// The challenge cannot be answered: either it was not pending when it was fetched, or it was taken
    /// from a list, and lists do not contain the fields to sign. No answer was sent.
    #[error("the challenge cannot be answered: it is {}, or was taken from a list", .0.status.as_str())]
    NotPending(Box<Challenge>),
    /// The server accepted the answer, but the challenge, fetched again afterwards, still has another status
    /// (docs/protocol/device.md, section 1).
    #[error("the answer was sent, but the challenge is still {}", .0.status.as_str())]
    NotUpdated(Box<Challenge>),
    /// The server's address is not an `http` or `https` URL.
    #[error("{0} is not the URL of a server; use a URL such as http://127.0.0.1:8080")]
    BaseUrl(String),
    /// The keyring file could not be read or written.
    #[error("cannot read or write the keyring {}", path.display())]
    Keyring {
        /// Path of the keyring file.
        path: PathBuf,
        /// The error of the file operation.
        #[source]
        source: io::Error,
    },
    /// Other users have access to the keyring file, which contains private keys.
    #[error("other users can open the keyring {0}, which contains private keys; run chmod 600 {0}", path.display())]
    KeyringOpenToOthers {
        /// Path of the keyring file.
        path: PathBuf,
    },
    /// The file is not a valid keyring. The error does not quote the content, which may include keys.
    #[error("{} is not a keyring: line {line}, column {column}", path.display())]
    KeyringMalformed {
        /// Path of the keyring file.
        path: PathBuf,
        /// Line of the first error, counted from 1.
        line: usize,
        /// Column of the first error, counted from 1.
        column: usize,
    },
    /// An authenticator cannot use the options for a passkey.
    #[error("the options for a passkey cannot be used; check the member {member}")]
    PasskeyOptions {
        /// Path of the member that is missing, malformed, or for other passkeys, such as `rp.id`.
        member: &'static str,
    },
    /// No factor in the keyring has this SID or a SID that begins with this prefix.
    #[error("the keyring has no factor whose SID begins with \"{0}\"")]
    NoSuchFactor(String),
    /// More than one factor in the keyring has a SID that begins with this prefix.
    #[error("the keyring has more than one factor whose SID begins with \"{0}\"")]
    AmbiguousFactor(String),
}

impl Error {
    /// Creates the error for a response to `operation` in which the field `part` cannot be parsed.
    pub(crate) fn unreadable(operation: Operation, part: UnreadableField) -> Self {
        Self::Unreadable { operation, field: part.field, expected: part.expected }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // Omit the URL, which contains the identity of the user.
        Self::Transport(error.without_url())
    }
}
