//! The source of randomness outside tests.

use domain::Entropy;

/// The random number generator of the operating system. It is the only source of randomness outside tests.
///
/// A generator inside the process would repeat its output in copies of a virtual machine that was saved while running.
/// The kernel detects such copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Fills `bytes` with cryptographically secure random values.
    ///
    /// # Panics
    /// Panics if the operating system provides no randomness. Continuing would create keys and nonces that can be
    /// guessed, and no caller could handle the failure.
    #[expect(clippy::expect_used, reason = "without randomness, keys and nonces could be guessed")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system provides random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_random_bytes_differ() {
        let draw = || {
            let mut bytes = [0; 32];
            SystemEntropy.fill(&mut bytes);
            bytes
        };
        assert_ne!(draw(), draw());
        assert_ne!(draw(), [0; 32]);
    }
}
