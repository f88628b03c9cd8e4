//! Why a command ended without success, in words for the person at the terminal.

use std::fmt;

/// What went wrong, with the chain of its causes.
#[derive(Debug)]
pub(crate) struct Failure(Reason);

#[derive(Debug)]
enum Reason {
    Words(String),
    /// The reader of standard output has closed the pipe, as `head` does.
    Unread,
}

impl Failure {
    /// A failure in these words.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self(Reason::Words(words.into()))
    }

    /// The end of a command whose output is not read any more.
    pub(crate) const fn unread() -> Self {
        Self(Reason::Unread)
    }

    /// Whether the command ended only because its output is not read any more, which is not reported.
    pub(crate) const fn is_unread(&self) -> bool {
        matches!(self.0, Reason::Unread)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Words(words) => f.write_str(words),
            Reason::Unread => f.write_str("standard output is closed"),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(domain::causes(&error))
    }
}
