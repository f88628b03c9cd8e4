//! Randomness as a parameter, so that tests can control it.

/// A source of random bytes. Outside tests, only the implementation in the crate `crypto` is used, which reads the
/// operating system's generator.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable values.
    fn fill(&self, bytes: &mut [u8]);
}
