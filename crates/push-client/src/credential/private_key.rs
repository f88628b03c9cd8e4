//! Private keys in any of the three encodings that people have: PKCS#8, PKCS#1 and SEC1.

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{Fault, pem};

/// The bytes of a private key, and which encoding they have. It is wiped when the last of its owners goes.
#[derive(Clone)]
pub(super) struct PrivateKey(Arc<Zeroizing<PrivateKeyDer<'static>>>);

impl PrivateKey {
    /// The first private key in a PEM text; otherwise it is a fault that it is not as `expected`.
    pub(super) fn parse(text: &str, expected: &'static str) -> Result<Self, Fault> {
        let keys = pem::sections(text, "PRIVATE KEY", |label| label.ends_with("PRIVATE KEY"))?;
        keys.first().and_then(|der| Self::from_der(der)).ok_or(Fault::UnsupportedKey(expected))
    }

    /// The key in these bytes. The encoding is seen from them and not from a label, so that a text without
    /// one will do.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let key = PrivateKeyDer::try_from(der).ok()?;
        Some(Self(Arc::new(Zeroizing::new(key.clone_key()))))
    }

    /// The key in the type that says which encoding it has.
    pub(super) fn typed(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }

    /// The bytes.
    pub(super) fn der(&self) -> &[u8] {
        self.0.secret_der()
    }
}
