//! What became of a push, in the same words for every provider.

use std::time::Duration;

/// What became of an attempt. The codes are those of docs/protocol/errors.md, section 6, for the debugger; the
/// reasons are the provider's own words, and name neither the device's token nor a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The provider took it. Whether the device ever shows it, nobody says.
    Delivered {
        /// The provider's name for it: Apple's `apns-id`, Google's `projects/…/messages/…`.
        provider_id: Option<String>,
    },
    /// It may arrive another time.
    RetryAfter {
        /// How long the provider asks to wait.
        after: Option<Duration>,
        /// For the debugger, should there be no other time.
        code: u32,
        /// What happened.
        reason: String,
    },
    /// The device's token is dead, at least for this credential: another attempt would be no use.
    Gone {
        /// For the debugger.
        code: u32,
        /// What the provider said.
        reason: String,
    },
    /// The credential, the app id or the payload is wrong: people must mend something first.
    Refused {
        /// For the debugger.
        code: u32,
        /// What the provider said.
        reason: String,
    },
}

/// How a failure is to be taken: what the tables of both providers hold beside each code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// See [`Outcome::RetryAfter`].
    Retry,
    /// See [`Outcome::Gone`].
    Gone,
    /// See [`Outcome::Refused`].
    Refused,
}

impl Verdict {
    /// The outcome that says so. Only a retry has use for `after`.
    pub(crate) fn outcome(self, code: u32, reason: impl Into<String>, after: Option<Duration>) -> Outcome {
        let reason = reason.into();
        match self {
            Self::Retry => Outcome::RetryAfter { after, code, reason },
            Self::Gone => Outcome::Gone { code, reason },
            Self::Refused => Outcome::Refused { code, reason },
        }
    }
}
