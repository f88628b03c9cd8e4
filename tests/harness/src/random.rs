//! Random names and secrets.

use std::fs::File;
use std::io::Read;

/// Returns `digits` random lower-case hexadecimal digits; `digits` must be even.
pub(crate) fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits / 2];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("random bytes");
    hex::encode(bytes)
}
