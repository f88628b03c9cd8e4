//! The operating system's randomness.

use domain::Entropy;

/// Random bytes out of AWS-LC's generator, which the operating system seeds. The only source of
/// randomness outside tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Fills `bytes`.
    ///
    /// # Panics
    /// When the system has no randomness to give. A server that went on would make keys and nonces
    /// that can be guessed, and there is nothing that a caller could do instead.
    #[expect(clippy::expect_used, reason = "without randomness every key made from here on would be known")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let draw = || {
            let mut bytes = [0; 32];
            SystemEntropy.fill(&mut bytes);
            bytes
        };
        assert_ne!(draw(), draw());
        assert_ne!(draw(), [0; 32]);
    }
}
