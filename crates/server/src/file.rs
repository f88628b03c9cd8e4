//! Files that options name: secrets, keys, certificates, and the options themselves.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::failure::Failure;

/// Largest file, in bytes. What is larger is none of these, and might have no end.
const MAX: u64 = 1024 * 1024;

/// Reads a file. A pipe will do, such as a shell puts in the place of a file.
///
/// # Errors
/// When it can't be read, or is larger than 1 MiB; with its name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX => {
            Err(Failure::new(format!("{}: expected at most 1 MiB", path.display())))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
    }
}

/// Reads a text.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::new(format!("{}: expected text in UTF-8", path.display())))
}
