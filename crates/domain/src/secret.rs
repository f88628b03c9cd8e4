//! Values that must not be seen: open ones that don't print, and sealed ones that may be stored.

use std::fmt;
use std::marker::PhantomData;

/// A secret in the open. It neither prints nor serialises; [`Secret::expose`] is where an auditor looks.
#[derive(Clone)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Takes a value out of sight.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A `T` encrypted under the master key: the only form in which the store accepts a secret that
/// must be readable again. Made and opened by `crypto::seal`.
pub struct Sealed<T> {
    bytes: Vec<u8>,
    what: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// Bytes that were sealed before, as they come back from the database.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, what: PhantomData }
    }

    /// The bytes to store.
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
    fn secrets_and_sealed_values_do_not_print() {
        let secret = Secret::new("auth-token".to_owned());
        assert_eq!((secret.expose().as_str(), format!("{secret:?}").as_str()), ("auth-token", "[secret]"));
        let sealed = Sealed::<String>::from_bytes(vec![1, 2, 3]);
        assert_eq!((sealed.clone().as_bytes(), format!("{sealed:?}").as_str()), (&[1, 2, 3][..], "[sealed]"));
    }
}
