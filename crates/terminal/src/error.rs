//! The error type of all commands.

use std::fmt;

/// Why a command failed, as text for the terminal. Converts from any error and keeps the messages of its causes.
///
/// It does not implement [`std::error::Error`] itself, because that would forbid the conversion from every other
/// error.
#[derive(Debug)]
pub struct CliError(Reason);

#[derive(Debug)]
enum Reason {
    Message(String),
    /// The reader of standard output closed the pipe, as `head` does.
    OutputClosed,
}

impl CliError {
    /// Creates an error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Reason::Message(message.into()))
    }

    /// Creates the error of a command whose standard output was closed by its reader.
    pub const fn output_closed() -> Self {
        Self(Reason::OutputClosed)
    }

    /// Returns whether the command stopped only because its output is no longer read. That is not reported.
    pub const fn is_output_closed(&self) -> bool {
        matches!(self.0, Reason::OutputClosed)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Message(message) => f.write_str(message),
            Reason::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}

impl<E: std::error::Error> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::new(domain::error_report(&error))
    }
}
