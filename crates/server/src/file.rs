//! Files that options name: secrets, keys, certificates, and the options themselves.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::failure::Failure;

/// Largest file, in bytes. What is larger is none of these, and might have no end.
const MAX: u64 = 1024 * 1024;

/// What some editors put in front of a text: the byte-order mark of UTF-8, and those of UTF-16.
const UTF_8_MARK: &[u8] = "\u{feff}".as_bytes();
const UTF_16_MARKS: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// Reads a file, without the byte-order mark of UTF-8. A pipe will do, such as a shell puts in the place of a file.
///
/// # Errors
/// When it can't be read, is larger than 1 MiB, or is a text in UTF-16; with its name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX => {
            Err(Failure::new(format!("{}: expected at most 1 MiB", path.display())))
        }
        Ok(_) if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) => {
            Err(Failure::new(format!("{}: expected UTF-8, found UTF-16; save it as UTF-8", path.display())))
        }
        Ok(_) if bytes.starts_with(UTF_8_MARK) => Ok(bytes.split_off(UTF_8_MARK.len())),
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
