//! Why a command ended without success, in words for the person at the terminal.

use std::fmt;

/// What went wrong, with the chain of its causes.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure in these words.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_words = cause.to_string();
            if !words.ends_with(&cause_words) {
                words.push_str(": ");
                words.push_str(&cause_words);
            }
            source = cause.source();
        }
        Self(words)
    }
}
