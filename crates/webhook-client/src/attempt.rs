//! The record of one attempt to deliver a webhook.

use std::fmt;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::response::Response;

/// A finished attempt to deliver a webhook. Its `Display` output is one log line without secrets.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// The receiver's response, or `None` if no response was received.
    pub response: Option<Response>,
    /// Error message of the operating system, the TLS library, or the HTTP library, if one of them failed.
    /// The text is one line of at most 200 characters, which the receiver may have influenced.
    pub cause: Option<String>,
    /// Time from the start of the attempt until the last byte of the response was read or the attempt failed.
    pub duration: Duration,
}

/// A failure of a webhook that a test server simulates instead of sending the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFailure {
    /// The receiver does not respond in time.
    Timeout,
    /// The receiver refuses the connection.
    Connection,
    /// The receiver responds with this status.
    Status(u16),
}

impl Attempt {
    /// Returns the attempt that failed in this way, after `duration`.
    pub fn simulated(failure: SimulatedFailure, duration: Duration) -> Self {
        let (outcome, status) = match failure {
            SimulatedFailure::Timeout => (Outcome::ReadTimedOut, None),
            SimulatedFailure::Connection => (Outcome::ConnectFailed, None),
            SimulatedFailure::Status(status) => (Outcome::from_status(status), Some(status)),
        };
        let response = status.map(|status| Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            truncated: false,
            retry_after: None,
        });
        Self { outcome, response, cause: Some("simulated by test mode".to_owned()), duration }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_displays_as_one_log_line() {
        let attempt = Attempt {
            outcome: Outcome::ConnectFailed,
            response: None,
            cause: Some("Connection refused".into()),
            duration: Duration::from_millis(3),
        };
        assert_eq!(attempt.to_string(), "could not connect to the receiver: Connection refused (after 3 ms)");
    }
}
