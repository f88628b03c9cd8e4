//! Errors about files and folders.

use std::io;
use std::path::Path;

use terminal::CliError;

/// Creates the error for a failed operation on the file or folder at `path`. Its text consists of the path and the
/// reason.
pub(crate) fn file_error(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("{}: {error}", path.display()))
}
