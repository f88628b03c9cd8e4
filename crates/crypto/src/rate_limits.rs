//! Digests of the values for which rate limits count verifications.

use aws_lc_rs::digest::{SHA256, digest};
use domain::rate_limits::ValueDigest;

/// Returns the SHA-256 digest of a value. Equal values have the same digest.
pub fn value_digest(value: &str) -> ValueDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, value.as_bytes()).as_ref());
    ValueDigest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_value_is_its_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(value_digest("abc").0), expected);
        assert_ne!(value_digest("192.0.2.1"), value_digest("192.0.2.2"));
    }
}
