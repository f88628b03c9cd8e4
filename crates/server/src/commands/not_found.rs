//! The error about a SID that does not exist.

use std::fmt::Display;

use terminal::CliError;

/// Converts the error returned by a use case that was called with `sid`. A problem becomes the message that `sid` does
/// not exist; a fault keeps its own message.
pub(super) fn not_found(sid: impl Display, error: app::Error) -> CliError {
    match error {
        app::Error::Problem(_) => CliError::new(format!("there is no {sid}")),
        fault => fault.into(),
    }
}
