//! Wrappers for secrets: plaintext that cannot be printed, and ciphertext that can be stored.

use std::fmt;
use std::marker::PhantomData;

/// A plaintext secret, which can be neither printed nor serialized. Every access goes through [`Secret::expose`].
#[derive(Clone)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a plaintext value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the plaintext value.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A value of type `T`, encrypted under the master key. This is the only form in which the store accepts a secret that
/// must be readable again. `crypto::seal` creates and opens sealed values.
pub struct Sealed<T> {
    bytes: Vec<u8>,
    content: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// Wraps sealed bytes from the database.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, content: PhantomData }
    }

    /// Returns the sealed bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::from_bytes(self.bytes.clone())
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_secrets_and_sealed_values_hides_their_content() {
        let secret = Secret::new("auth-token".to_owned());
        assert_eq!((secret.expose().as_str(), format!("{secret:?}").as_str()), ("auth-token", "[secret]"));
        let sealed = Sealed::<String>::from_bytes(vec![1, 2, 3]);
        assert_eq!((sealed.clone().as_bytes(), format!("{sealed:?}").as_str()), (&[1, 2, 3][..], "[sealed]"));
    }
}
