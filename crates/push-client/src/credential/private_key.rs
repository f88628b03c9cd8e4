//! Private keys in their three common encodings: PKCS#8, PKCS#1, and SEC1.

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{InvalidReason, pem};

/// A private key in DER, with its encoding. Its memory is wiped when the last clone is dropped.
#[derive(Clone)]
pub(super) struct PrivateKey(Arc<Zeroizing<PrivateKeyDer<'static>>>);

impl PrivateKey {
    /// Parses the first private key in a PEM text.
    ///
    /// # Errors
    /// Returns the reason if `text` contains no private key. `expected` describes the supported keys for the
    /// error message.
    pub(super) fn parse(text: &str, expected: &'static str) -> Result<Self, InvalidReason> {
        let keys = pem::decode_sections(text, "PRIVATE KEY", |label| label.ends_with("PRIVATE KEY"))?;
        keys.first().and_then(|der| Self::from_der(der)).ok_or(InvalidReason::UnsupportedKey(expected))
    }

    /// Parses a DER key, or returns `None` if the encoding is unknown. The encoding is detected from the
    /// content, because base64 without a PEM label does not state it.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let key = PrivateKeyDer::try_from(der).ok()?;
        Some(Self(Arc::new(Zeroizing::new(key.clone_key()))))
    }

    /// Returns the private key as a [`PrivateKeyDer`], whose variant is the encoding.
    pub(super) fn typed(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }

    /// Returns the private key as DER bytes.
    pub(super) fn der(&self) -> &[u8] {
        self.0.secret_der()
    }
}
