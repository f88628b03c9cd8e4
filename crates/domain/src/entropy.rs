//! Randomness as a parameter.

/// A source of random bytes. The only implementation that may be used outside tests is the
/// operating system's, in the `crypto` crate.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable values.
    fn fill(&self, bytes: &mut [u8]);
}
