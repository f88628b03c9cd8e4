//! What may become of an attempt.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use domain::webhooks::Condition;

use crate::response::Response;

/// One attempt to deliver a webhook, after the fact. Prints as a line for a log, without a secret.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What became of it.
    pub outcome: Outcome,
    /// What the receiver answered, if it did.
    pub response: Option<Response>,
    /// What the system, the TLS or the HTTP library said about a failure: one line, at most 200
    /// characters, part of which the receiver may have written.
    pub cause: Option<String>,
    /// From the first step to the last byte that was read.
    pub duration: Duration,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome.fmt(f)?;
        if let Some(response) = &self.response {
            write!(f, ": status {}", response.status)?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        write!(f, " (after {} ms)", self.duration.as_millis())
    }
}

/// What became of an attempt. Which words decide on another one is docs/protocol/decisions.md, No. 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// 3xx: not followed, and final (docs/protocol/decisions.md, No. 14).
    Redirected,
    /// 4xx, except for the two of [`Self::Busy`].
    Refused,
    /// 408 or 429: not now.
    Busy,
    /// 5xx.
    Failed,
    /// The URL leads to an address that may not be called, and to no other: final (docs/protocol/decisions.md, No. 15).
    AddressForbidden,
    /// The name leads nowhere, or nobody could say where to.
    NameUnresolved,
    /// The connection was refused, or there is no way to the receiver.
    ConnectFailed,
    /// `ct`: there was no connection in time.
    ConnectTimedOut,
    /// The receiver does not speak TLS as we do, or not in time.
    HandshakeFailed,
    /// The certificate is another host's.
    CertificateMisnamed,
    /// The certificate is not valid any more, or not yet.
    CertificateExpired,
    /// The certificate is self-signed, or its authority is unknown, or it is not in order.
    CertificateUntrusted,
    /// `rt`: there was no answer in time.
    ReadTimedOut,
    /// The connection ended before an answer.
    Disconnected,
    /// The answer is not HTTP, or not one to this request.
    Garbled,
    /// The request has no form in HTTP: its idempotency token is not a header value. Nothing was sent.
    Unsendable,
}

impl Outcome {
    /// What an answer with this status means.
    pub(crate) const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirected,
            408 | 429 => Self::Busy,
            400..=499 => Self::Refused,
            500..=599 => Self::Failed,
            // Switching protocols, which nobody asked for, or a status that HTTP does not have.
            _ => Self::Garbled,
        }
    }

    /// Whether the receiver has the event.
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// Whether another attempt may fare better: what the server's own schedule tries again, as long as
    /// no connection override decides on retries (docs/protocol/decisions.md, No. 13).
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Busy
            | Self::Failed
            | Self::NameUnresolved
            | Self::ConnectFailed
            | Self::ConnectTimedOut
            | Self::HandshakeFailed
            | Self::CertificateMisnamed
            | Self::CertificateExpired
            | Self::CertificateUntrusted
            | Self::ReadTimedOut
            | Self::Disconnected => true,
            Self::Delivered
            | Self::Redirected
            | Self::Refused
            | Self::AddressForbidden
            | Self::Garbled
            | Self::Unsendable => false,
        }
    }

    /// Which condition of a retry policy (`rp`) this failure is; `None` if no policy, not even `all`,
    /// brings another attempt (docs/protocol/webhooks.md, section 3).
    pub const fn condition(self) -> Option<Condition> {
        match self {
            Self::Refused | Self::Busy => Some(Condition::ClientError),
            Self::Failed => Some(Condition::ServerError),
            Self::NameUnresolved
            | Self::ConnectFailed
            | Self::ConnectTimedOut
            | Self::HandshakeFailed
            | Self::CertificateMisnamed
            | Self::CertificateExpired
            | Self::CertificateUntrusted => Some(Condition::Connect),
            Self::ReadTimedOut | Self::Disconnected => Some(Condition::Read),
            Self::Delivered
            | Self::Redirected
            | Self::AddressForbidden
            | Self::Garbled
            | Self::Unsendable => None,
        }
    }

    /// The code of the debugger event (docs/protocol/errors.md, section 6); 0 for no error.
    pub const fn error_code(self) -> u32 {
        match self {
            Self::Delivered => 0,
            Self::Refused | Self::Busy | Self::Failed | Self::ReadTimedOut | Self::Unsendable => 11200,
            Self::ConnectFailed | Self::ConnectTimedOut | Self::Disconnected => 11205,
            Self::Garbled => 11206,
            Self::AddressForbidden | Self::NameUnresolved => 11210,
            Self::Redirected => 11215,
            Self::HandshakeFailed => 11220,
            Self::CertificateMisnamed => 11235,
            Self::CertificateExpired => 11236,
            Self::CertificateUntrusted => 11237,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivered => "delivered",
            Self::Redirected => "the receiver redirects, which is not followed",
            Self::Refused => "the receiver refused the request",
            Self::Busy => "the receiver can't take the request now",
            Self::Failed => "the receiver failed",
            Self::AddressForbidden => "the host's address is not public; --webhook-allow permits its network",
            Self::NameUnresolved => "the host's name could not be resolved",
            Self::ConnectFailed => "the connection could not be made",
            Self::ConnectTimedOut => "the connection took too long",
            Self::HandshakeFailed => "the TLS handshake failed",
            Self::CertificateMisnamed => "the receiver's certificate is for another host",
            Self::CertificateExpired => "the receiver's certificate has expired or is not valid yet",
            Self::CertificateUntrusted => "the receiver's certificate is not trusted",
            Self::ReadTimedOut => "the answer took too long",
            Self::Disconnected => "the connection ended before an answer",
            Self::Garbled => "the answer is not valid HTTP",
            Self::Unsendable => "the request has no form in HTTP",
        })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) cause: Option<String>,
}

impl Failure {
    pub(crate) fn because(outcome: Outcome, error: &dyn Error) -> Self {
        Self { outcome, cause: Some(one_line(error)) }
    }
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, cause: None }
    }
}

/// An error and what is behind it. A certificate's names get in here, so it may not grow, nor break the
/// line of a log.
fn one_line(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        words = format!("{words}: {error}");
        behind = error.source();
    }
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn statuses_have_their_outcome() {
        for (outcome, statuses) in [
            (Outcome::Delivered, &[200, 201, 204, 299][..]),
            (Outcome::Redirected, &[300, 301, 302, 304, 307, 308, 399]),
            (Outcome::Refused, &[400, 401, 404, 410, 499]),
            (Outcome::Busy, &[408, 429]),
            (Outcome::Failed, &[500, 502, 503, 504, 599]),
            (Outcome::Garbled, &[100, 101, 199, 600, 999]),
        ] {
            assert!(statuses.iter().all(|&status| Outcome::of(status) == outcome), "{outcome}");
        }
    }

    #[test]
    fn causes_are_one_short_line() {
        let forged = io::Error::other(format!("cn=a\r\nINFO all is well\u{1b}[2J{}", "x".repeat(10_000)));
        let cause = Failure::because(Outcome::HandshakeFailed, &forged).cause.unwrap();
        assert_eq!(cause.chars().count(), 200);
        assert!(!cause.contains(char::is_control));
    }

    #[test]
    fn an_attempt_is_a_line_for_a_log() {
        let attempt = Attempt {
            outcome: Outcome::ConnectFailed,
            response: None,
            cause: Some("Connection refused".into()),
            duration: Duration::from_millis(3),
        };
        assert_eq!(attempt.to_string(), "the connection could not be made: Connection refused (after 3 ms)");
    }
}
