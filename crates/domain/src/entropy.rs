//! Randomness, which is passed as a parameter so that tests can control it.

/// A source of random bytes. Outside tests, the only implementation is `crypto::SystemEntropy`, which the operating
/// system seeds.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable values.
    fn fill(&self, bytes: &mut [u8]);
}
