//! The possible outcomes of a delivery attempt.

use std::error::Error;
use std::fmt;

use domain::webhooks::Condition;

/// Maximum length of [`Failure::cause`], in characters.
const MAX_CAUSE_CHARS: usize = 200;

/// The outcome of an attempt to deliver a webhook. docs/protocol/decisions.md, No. 13, defines which outcomes
/// are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The receiver responded with status 2xx.
    Delivered,
    /// The receiver responded with status 3xx. Redirects are not followed, and the delivery is not retried
    /// (docs/protocol/decisions.md, No. 14).
    Redirected,
    /// The receiver responded with status 4xx, other than 408 and 429.
    Refused,
    /// The receiver responded with status 408 or 429, which asks for a later retry.
    Busy,
    /// The receiver responded with status 5xx.
    Failed,
    /// All addresses of the receiver's host are forbidden. The delivery is not retried
    /// (docs/protocol/decisions.md, No. 15).
    AddressForbidden,
    /// The receiver's host name does not exist or could not be resolved.
    NameUnresolved,
    /// The connection was refused, or the receiver is unreachable.
    ConnectFailed,
    /// The connect timeout (`ct`) or the total timeout (`tt`) expired before the connection was open.
    ConnectTimedOut,
    /// The TLS handshake failed, for a reason other than the certificate, or timed out.
    HandshakeFailed,
    /// The receiver's certificate was issued for another host.
    CertificateNameMismatch,
    /// The receiver's certificate has expired or is not valid yet.
    CertificateExpired,
    /// The receiver's certificate is self-signed, malformed, or issued by an unknown authority.
    CertificateUntrusted,
    /// The read timeout (`rt`) or the total timeout (`tt`) expired before a response arrived.
    ReadTimedOut,
    /// The connection was closed before a response arrived.
    Disconnected,
    /// The response is not valid HTTP, or its status is not 200 to 599.
    InvalidResponse,
    /// The request cannot be sent, because the idempotency token is not a valid header value. Nothing was
    /// sent.
    InvalidRequest,
}

impl Outcome {
    /// Returns the outcome for the HTTP status of a response.
    pub(crate) const fn from_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirected,
            408 | 429 => Self::Busy,
            400..=499 => Self::Refused,
            500..=599 => Self::Failed,
            // A protocol switch that was not requested, or a status that HTTP does not define.
            _ => Self::InvalidResponse,
        }
    }

    /// Returns whether the receiver accepted the webhook.
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// Returns whether the server's own retry schedule retries this outcome. That schedule applies unless a
    /// connection override configures retries (docs/protocol/decisions.md, No. 13).
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Busy
            | Self::Failed
            | Self::NameUnresolved
            | Self::ConnectFailed
            | Self::ConnectTimedOut
            | Self::HandshakeFailed
            | Self::CertificateNameMismatch
            | Self::CertificateExpired
            | Self::CertificateUntrusted
            | Self::ReadTimedOut
            | Self::Disconnected => true,
            Self::Delivered
            | Self::Redirected
            | Self::Refused
            | Self::AddressForbidden
            | Self::InvalidResponse
            | Self::InvalidRequest => false,
        }
    }

    /// Returns the retry policy condition (`rp`) that matches this failure. `None` means that no policy
    /// retries the delivery, not even `all` (docs/protocol/webhooks.md, section 3).
    pub const fn condition(self) -> Option<Condition> {
        match self {
            Self::Refused | Self::Busy => Some(Condition::ClientError),
            Self::Failed => Some(Condition::ServerError),
            Self::NameUnresolved
            | Self::ConnectFailed
            | Self::ConnectTimedOut
            | Self::HandshakeFailed
            | Self::CertificateNameMismatch
            | Self::CertificateExpired
            | Self::CertificateUntrusted => Some(Condition::Connect),
            Self::ReadTimedOut | Self::Disconnected => Some(Condition::Read),
            Self::Delivered
            | Self::Redirected
            | Self::AddressForbidden
            | Self::InvalidResponse
            | Self::InvalidRequest => None,
        }
    }

    /// Returns the error code for the debugger event (docs/protocol/errors.md, section 6), or 0 if the
    /// webhook was delivered.
    pub const fn error_code(self) -> u32 {
        match self {
            Self::Delivered => 0,
            Self::Refused | Self::Busy | Self::Failed | Self::ReadTimedOut | Self::InvalidRequest => 11200,
            Self::ConnectFailed | Self::ConnectTimedOut | Self::Disconnected => 11205,
            Self::InvalidResponse => 11206,
            Self::AddressForbidden | Self::NameUnresolved => 11210,
            Self::Redirected => 11215,
            Self::HandshakeFailed => 11220,
            Self::CertificateNameMismatch => 11235,
            Self::CertificateExpired => 11236,
            Self::CertificateUntrusted => 11237,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivered => "delivered",
            Self::Redirected => "the receiver responded with a redirect, which is not followed",
            Self::Refused => "the receiver refused the request",
            Self::Busy => "the receiver is busy",
            Self::Failed => "the receiver failed to process the request",
            Self::AddressForbidden => {
                "the host's address is not public; --webhook-allow-network permits its network"
            }
            Self::NameUnresolved => "the host's name could not be resolved",
            Self::ConnectFailed => "could not connect to the receiver",
            Self::ConnectTimedOut => "connecting to the receiver timed out",
            Self::HandshakeFailed => "the TLS handshake failed",
            Self::CertificateNameMismatch => "the receiver's certificate is for another host",
            Self::CertificateExpired => "the receiver's certificate has expired or is not valid yet",
            Self::CertificateUntrusted => "the receiver's certificate is not trusted",
            Self::ReadTimedOut => "waiting for the response timed out",
            Self::Disconnected => "the connection was closed before a response arrived",
            Self::InvalidResponse => "the response is not valid HTTP",
            Self::InvalidRequest => "the request is not valid HTTP",
        })
    }
}

/// Why an attempt ended without a response.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    /// Error message of the underlying failure, if any; one line of at most 200 characters.
    pub(crate) cause: Option<String>,
}

impl Failure {
    /// Creates a failure whose cause is the message of `error` and its sources.
    pub(crate) fn because(outcome: Outcome, error: &dyn Error) -> Self {
        Self { outcome, cause: Some(one_line(error)) }
    }
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, cause: None }
    }
}

/// Returns the messages of `error` and its sources on one line of at most 200 characters. The text may
/// contain names from the receiver's certificate, which must not flood the log or forge log lines.
fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CAUSE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_http_status_leads_to_the_documented_outcome() {
        for (outcome, statuses) in [
            (Outcome::Delivered, &[200, 201, 204, 299][..]),
            (Outcome::Redirected, &[300, 301, 302, 304, 307, 308, 399]),
            (Outcome::Refused, &[400, 401, 404, 410, 499]),
            (Outcome::Busy, &[408, 429]),
            (Outcome::Failed, &[500, 502, 503, 504, 599]),
            (Outcome::InvalidResponse, &[100, 101, 199, 600, 999]),
        ] {
            assert!(statuses.iter().all(|&status| Outcome::from_status(status) == outcome), "{outcome}");
        }
    }

    #[test]
    fn error_cause_is_truncated_and_has_no_control_characters() {
        let forged = io::Error::other(format!("cn=a\r\nINFO all is well\u{1b}[2J{}", "x".repeat(10_000)));
        let cause = Failure::because(Outcome::HandshakeFailed, &forged).cause.unwrap();
        assert_eq!(cause.chars().count(), 200);
        assert!(!cause.contains(char::is_control));
    }
}
