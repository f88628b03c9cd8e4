//! The error with which a command ends.

use std::io;
use std::path::Path;

use terminal::CliError;

/// Creates the error of a failed operation on the file at `path`.
pub(crate) fn file_error(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("{}: {error}", path.display()))
}
