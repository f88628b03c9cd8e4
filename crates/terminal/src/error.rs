//! The error type of all commands.

use std::fmt;

/// The reason why a command failed, as text for the terminal. It can be converted from any error and keeps the messages
/// of that error's causes.
///
/// `CliError` does not implement [`std::error::Error`], because that would rule out the conversion from every other
/// error type.
#[derive(Debug)]
pub struct CliError(Reason);

#[derive(Debug)]
enum Reason {
    Message(String),
    /// The reader of standard output closed the pipe, as `head` does.
    OutputClosed,
}

impl CliError {
    /// Creates an error with the given message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Reason::Message(message.into()))
    }

    /// Creates the error of a command that stopped because the reader of its standard output closed the pipe.
    pub const fn output_closed() -> Self {
        Self(Reason::OutputClosed)
    }

    /// Returns whether the command stopped only because the reader of its standard output closed the pipe. Such an
    /// error is not reported to the user.
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
