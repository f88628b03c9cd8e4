//! The outcome of a push attempt, independent of the provider.

use std::time::Duration;

/// The outcome of one push attempt.
///
/// Codes are debugger codes (docs/protocol/errors.md, section 6). Reasons quote the provider and contain
/// neither the device token nor a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The provider accepted the push. Providers do not report whether the device showed it.
    Delivered {
        /// The provider's identifier: `apns-id` of APNs, `projects/…/messages/…` of FCM.
        provider_id: Option<String>,
    },
    /// A temporary failure: a later attempt may succeed.
    Retry {
        /// The delay that the provider requested, if any.
        after: Option<Duration>,
        /// Debugger code to report if there is no further attempt.
        code: u32,
        /// What happened.
        reason: String,
    },
    /// The device token is dead, at least for this credential. Further attempts are pointless.
    DeadToken {
        /// Debugger code.
        code: u32,
        /// The provider's response.
        reason: String,
    },
    /// The credential, the app id, or the payload is wrong and must be fixed by an operator.
    Refused {
        /// Debugger code.
        code: u32,
        /// The provider's response.
        reason: String,
    },
}

/// How a failure is handled. The error table of each provider assigns one to every error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// See [`Outcome::Retry`].
    Retry,
    /// See [`Outcome::DeadToken`].
    DeadToken,
    /// See [`Outcome::Refused`].
    Refused,
}

impl FailureKind {
    /// Builds the outcome of this kind. `after` is ignored unless the kind is [`FailureKind::Retry`].
    pub(crate) fn outcome(self, code: u32, reason: impl Into<String>, after: Option<Duration>) -> Outcome {
        let reason = reason.into();
        match self {
            Self::Retry => Outcome::Retry { after, code, reason },
            Self::DeadToken => Outcome::DeadToken { code, reason },
            Self::Refused => Outcome::Refused { code, reason },
        }
    }
}
