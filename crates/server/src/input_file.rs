//! Reads the files given in options: secrets, keys, certificates and the configuration file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use domain::Secret;
use terminal::CliError;

use crate::error::file_error;

/// Maximum size of a file, in bytes. This bounds memory use if an option points to an endless file, such as
/// `/dev/zero`.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The UTF-8 byte-order mark, which some editors write at the beginning of a file.
const UTF_8_MARK: &[u8] = "\u{feff}".as_bytes();

/// The UTF-16 byte-order marks: little-endian and big-endian.
const UTF_16_MARKS: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// Reads a file and returns its contents without a UTF-8 byte-order mark. The path may refer to a pipe, such as one
/// created by a shell's process substitution.
///
/// # Errors
/// Returns an error that contains the path if the file can't be read, is larger than 1 MiB, or is UTF-16 text.
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

/// Reads a UTF-8 text file and returns its text without a byte-order mark.
///
/// # Errors
/// Returns the same errors as [`read`], and an error if the file is not valid UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read(path)?)
        .map_err(|_| CliError::new(format!("{}: expected text in UTF-8", path.display())))
}

/// Reads a UTF-8 text from a file, or from standard input if the path is `-`.
///
/// # Errors
/// Returns the same errors as [`read_text`].
pub(crate) fn read_text_or_input(path: &Path) -> Result<String, CliError> {
    if path.as_os_str() == "-" { read_text(Path::new("/dev/stdin")) } else { read_text(path) }
}

/// Returns the secret given directly as `value`, or else the contents of `file` without surrounding whitespace. Returns
/// `None` if neither is given.
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
