//! What may go wrong for a phone.

use std::io;
use std::path::PathBuf;

use crate::challenge::ShownChallenge;
use crate::wire::Call;

/// Why a phone could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("the server refused with HTTP {status}: {message} (code {code})")]
    Api {
        /// HTTP status.
        status: u16,
        /// Twilio's error code.
        code: i64,
        /// The sentence that goes with it.
        message: String,
    },
    /// No answer came.
    #[error("the server did not answer")]
    Transport(#[source] reqwest::Error),
    /// An answer came that one of the SDKs could not have read (docs/protocol/device.md, section 8).
    #[error("a shipped SDK can't read the answer to \"{call}\": {field} should be {expected}")]
    Unreadable {
        /// What had been asked.
        call: Call,
        /// The way to the part that does not fit, such as `details.fields[0].label`.
        field: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The challenge was not pending, or came out of a list, which does not say what to sign; no answer
    /// was sent.
    #[error("there is nothing to answer: the challenge is {}, or came out of a list", .0.status.as_str())]
    NotPending(Box<ShownChallenge>),
    /// The server took the answer, and yet shows another status (docs/protocol/device.md, section 1).
    #[error("the answer was sent, but the challenge shows {}", .0.status.as_str())]
    NotUpdated(Box<ShownChallenge>),
    /// The address of the server is none.
    #[error("{0} is not the address of a server, such as http://127.0.0.1:8080")]
    BaseUrl(String),
    /// The keyring could not be read or written.
    #[error("can't use the keyring {}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others may read the keyring, which holds private keys.
    #[error("others may open the keyring {0}, which holds private keys: run chmod 600 {0}", path.display())]
    KeyringOpenToOthers {
        /// The file.
        path: PathBuf,
    },
    /// The file is no keyring. What it says instead is not repeated, since it may hold keys.
    #[error("{} is not a keyring: line {line}, column {column}", path.display())]
    KeyringMalformed {
        /// The file.
        path: PathBuf,
        /// Where it stops to make sense.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// The keyring has no such factor.
    #[error("the keyring has no factor whose SID begins with \"{0}\"")]
    NoSuchFactor(String),
    /// The keyring has several such factors.
    #[error("the keyring has more than one factor whose SID begins with \"{0}\"")]
    AmbiguousFactor(String),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // The URL names the user.
        Self::Transport(error.without_url())
    }
}
