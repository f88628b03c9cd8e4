//! The outcome of a push attempt, in a form that is independent of the provider.

use std::time::Duration;

/// The outcome of one push attempt.
///
/// Each `code` is a debugger code (docs/protocol/errors.md, section 6). Each `reason` quotes the provider or
/// describes the failure, and contains neither the device token nor a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The provider accepted the push. Providers do not report whether the device showed it.
    Delivered {
        /// The provider's identifier of the push, if it returned one: the `apns-id` of APNs, or
        /// `projects/…/messages/…` of FCM.
        provider_id: Option<String>,
    },
    /// A temporary failure: a later attempt may succeed.
    Retry {
        /// The delay before the next attempt that the provider requested, if any.
        after: Option<Duration>,
        /// Debugger code to report if no further attempt is made.
        code: u32,
        /// Description of the failure.
        reason: String,
    },
    /// The device token is invalid, at least for this credential. Further attempts are pointless.
    DeadToken {
        /// Debugger code to report.
        code: u32,
        /// The provider's status and error, or why nothing was sent.
        reason: String,
    },
    /// The credential, the app id, or the payload is invalid, and an operator must fix it.
    Refused {
        /// Debugger code to report.
        code: u32,
        /// The provider's status and error, or why nothing was sent.
        reason: String,
    },
}

impl Outcome {
    /// Returns the debugger code of a failure, or `None` if the push was delivered.
    pub const fn code(&self) -> Option<u32> {
        match self {
            Self::Delivered { .. } => None,
            Self::Retry { code, .. } | Self::DeadToken { code, .. } | Self::Refused { code, .. } => {
                Some(*code)
            }
        }
    }
}

/// How a failed push is handled. The error table of each provider maps every error to one of these kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A temporary failure, see [`Outcome::Retry`].
    Retry,
    /// An invalid device token, see [`Outcome::DeadToken`].
    DeadToken,
    /// An error that an operator must fix, see [`Outcome::Refused`].
    Refused,
}

impl FailureKind {
    /// Builds the outcome of this kind. `after` is ignored unless the kind is [`FailureKind::Retry`].
    pub fn outcome(self, code: u32, reason: impl Into<String>, after: Option<Duration>) -> Outcome {
        let reason = reason.into();
        match self {
            Self::Retry => Outcome::Retry { after, code, reason },
            Self::DeadToken => Outcome::DeadToken { code, reason },
            Self::Refused => Outcome::Refused { code, reason },
        }
    }
}
