//! The record of one delivery attempt.

use std::fmt;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::response::Response;

/// A finished attempt to deliver a webhook. Displays as one log line without secrets.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// The receiver's response, if there was one.
    pub response: Option<Response>,
    /// The error message of the operating system, the TLS library or the HTTP library. One line of at most
    /// 200 characters, which the receiver may have influenced.
    pub cause: Option<String>,
    /// Time from the first step to the last byte that was read.
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
