//! Comparing secrets.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// Whether two secrets are the same, in a time that does not tell where they differ or, since their
/// SHA-256 digests are compared, whether their lengths do.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(digest(&SHA256, a).as_ref(), digest(&SHA256, b).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_means_the_same_bytes() {
        assert!(equal(b"", b""));
        assert!(equal(b"secret", b"secret"));
        for other in [&b"secreT"[..], b"secret ", b"secre", b""] {
            assert!(!equal(b"secret", other));
        }
    }
}
