//! The private key of a software phone. The server never has one: the key of a real device does not leave its hardware.

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

/// A P-256 private key. It cannot be printed, and is wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// Creates a key from the system's randomness.
    pub fn generate() -> Self {
        let mut number = Zeroizing::new([0; 32]);
        loop {
            SystemEntropy.fill(&mut *number);
            // Every number below the order of the curve except 0 is a key. Only one number in 2³² is not below it.
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&*number) {
                return Self(key);
            }
        }
    }

    /// Parses a key from standard, padded base64 of DER PKCS#8 (RFC 5958), as [`SigningKey::to_pkcs8_base64`] returns it.
    pub fn from_pkcs8_base64(base64: &str) -> Option<Self> {
        let der = Zeroizing::new(STANDARD.decode(base64).ok()?);
        p256::ecdsa::SigningKey::from_pkcs8_der(&der).ok().map(Self)
    }

    /// Returns the key as base64 of DER PKCS#8, for a phone to store.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn to_pkcs8_base64(&self) -> Secret<String> {
        let der = self.0.to_pkcs8_der().expect("a key can be encoded");
        Secret::new(STANDARD.encode(der.as_bytes()))
    }

    /// Returns the public key.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn public_key(&self) -> PublicKey {
        let der = self.0.verifying_key().to_public_key_der().expect("a key can be encoded");
        PublicKey::from_checked_der(der.into_vec())
    }

    /// Returns the public key as the value of `Binding.PublicKey` (docs/protocol/device.md, section 3): standard, padded
    /// base64 of 91 bytes.
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(self.public_key().as_der())
    }

    /// Signs `message` and returns a DER `ECDSA-Sig-Value`, the form that verifies a factor.
    pub fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        self.sign(message).to_der().as_bytes().to_vec()
    }

    /// Signs `message` and returns r‖s, the form of a JWS signature (RFC 7518 section 3.4).
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
    fn signatures_are_verified() {
        let phone = SigningKey::generate();
        let key = parse_public_key(&phone.public_key_base64()).unwrap();
        assert_eq!(key, phone.public_key());
        assert!(verify_der(&key, b"message", &phone.sign_der(b"message")));
        assert!(verify_fixed(&key, b"message", &phone.sign_fixed(b"message")));
        assert!(!verify_fixed(&key, b"massage", &phone.sign_fixed(b"message")));
    }

    #[test]
    fn key_survives_the_round_trip() {
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
