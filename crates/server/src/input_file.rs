//! Reads the files that options name: secrets, keys, certificates and the configuration file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use domain::Secret;
use terminal::CliError;

use crate::error::file_error;

/// Largest file that is accepted. It bounds memory if an option names an endless file, such as `/dev/zero`.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Byte-order marks, which some editors write at the beginning of a file.
const UTF_8_MARK: &[u8] = "\u{feff}".as_bytes();
const UTF_16_MARKS: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// Reads a file and strips a UTF-8 byte-order mark. The path may lead to a pipe, as with a shell's process
/// substitution.
///
/// # Errors
/// Returns an error with the path if the file can't be read, is larger than 1 MiB, or is UTF-16 text.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX_FILE_BYTES => {
            Err(CliError::new(format!("{}: file is too large, expected at most 1 MiB", path.display())))
        }
        Ok(_) if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) => {
            Err(CliError::new(format!("{}: expected UTF-8, found UTF-16; save it as UTF-8", path.display())))
        }
        Ok(_) if bytes.starts_with(UTF_8_MARK) => Ok(bytes.split_off(UTF_8_MARK.len())),
        Ok(_) => Ok(bytes),
        Err(error) => Err(file_error(path, &error)),
    }
}

/// Reads a UTF-8 text file.
///
/// # Errors
/// Returns an error as [`read`] does, and if the file is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read(path)?)
        .map_err(|_| CliError::new(format!("{}: expected text in UTF-8", path.display())))
}

/// Returns a secret that an option gives by value or as the path of a file, or `None` if neither is set. Whitespace
/// around the contents of a file is removed.
///
/// # Errors
/// Returns an error if the file can't be read.
pub(crate) fn read_secret(
    value: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret<String>>, CliError> {
    match (value, file) {
        (Some(value), _) => Ok(Some(Secret::new(value.clone()))),
        (None, Some(path)) => Ok(Some(Secret::new(read_text(path)?.trim().to_owned()))),
        (None, None) => Ok(None),
    }
}
