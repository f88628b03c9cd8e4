//! The private key of a software phone. The server never has a device's private key, and the key of a real device does
//! not leave its hardware.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::factors::PublicKey;
use domain::{Entropy, Secret};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use zeroize::Zeroizing;

use crate::SystemEntropy;

/// The P-256 private key of a software phone. It cannot be printed, and is wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// Generates a random private key with [`SystemEntropy`].
    pub fn generate() -> Self {
        let mut number = Zeroizing::new([0; 32]);
        loop {
            SystemEntropy.fill(&mut *number);
            // Every number from 1 to the order of the curve minus 1 is a valid key. Only one number in 2³² is too
            // large.
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&*number) {
                return Self(key);
            }
        }
    }

    /// Parses a private key from standard, padded base64 of DER PKCS#8 (RFC 5958), the form that
    /// [`SigningKey::to_pkcs8_base64`] returns. Returns `None` if the text is malformed.
    pub fn from_pkcs8_base64(base64: &str) -> Option<Self> {
        let der = Zeroizing::new(STANDARD.decode(base64).ok()?);
        p256::ecdsa::SigningKey::from_pkcs8_der(&der).ok().map(Self)
    }

    /// Returns the private key as standard, padded base64 of DER PKCS#8, for a phone to store.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn to_pkcs8_base64(&self) -> Secret<String> {
        let der = self.0.to_pkcs8_der().expect("a key can be encoded");
        Secret::new(STANDARD.encode(der.as_bytes()))
    }

    /// Returns the public key that belongs to this private key.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn public_key(&self) -> PublicKey {
        let der = self.0.verifying_key().to_public_key_der().expect("a key can be encoded");
        PublicKey::from_checked_der(der.into_vec())
    }

    /// Returns the public key in the form of the parameter `Binding.PublicKey` (docs/protocol/device.md, section 3):
    /// standard, padded base64 of 91 bytes.
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(self.public_key().as_der())
    }

    /// Signs `message` and returns the signature as a DER `ECDSA-Sig-Value`, the form with which a device verifies its
    /// factor.
    pub fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        self.sign(message).to_der().as_bytes().to_vec()
    }

    /// Signs `message` and returns the signature as r‖s, the form that a JWS contains (RFC 7518 section 3.4).
    pub fn sign_fixed(&self, message: &[u8]) -> [u8; 64] {
        self.sign(message).to_bytes().into()
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::{parse_public_key, verify_der, verify_fixed};

    #[test]
    fn fixed_length_and_der_signatures_are_valid() {
        let phone = SigningKey::generate();
        let key = parse_public_key(&phone.public_key_base64()).unwrap();
        assert_eq!(key, phone.public_key());
        assert!(verify_der(&key, b"message", &phone.sign_der(b"message")));
        assert!(verify_fixed(&key, b"message", &phone.sign_fixed(b"message")));
        assert!(!verify_fixed(&key, b"massage", &phone.sign_fixed(b"message")));
    }

    #[test]
    fn encoded_private_key_parses_back_to_the_same_key() {
        let phone = SigningKey::generate();
        let kept = phone.to_pkcs8_base64();
        assert_eq!(SigningKey::from_pkcs8_base64(kept.expose()).unwrap().public_key(), phone.public_key());
        for bad in ["", "MFkw", &phone.public_key_base64(), &format!("{} ", kept.expose())] {
            assert!(SigningKey::from_pkcs8_base64(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", SigningKey::generate()), "SigningKey(…)");
    }
}
