//! Constant-time comparison of secrets.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// Returns whether the secrets `a` and `b` are equal. SHA-256 digests are compared, so the duration reveals neither
/// where the secrets differ nor whether their lengths differ.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(digest(&SHA256, a).as_ref(), digest(&SHA256, b).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identical_bytes_are_equal() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"secret", b"secret"));
        for other in [&b"secreT"[..], b"secret ", b"secre", b""] {
            assert!(!constant_time_eq(b"secret", other));
        }
    }
}
