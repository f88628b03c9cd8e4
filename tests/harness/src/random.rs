//! Random names and secrets.

use std::fs::File;
use std::io::Read;

/// `digits` random lower-case hexadecimal digits; an even number of them.
pub(crate) fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits / 2];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
