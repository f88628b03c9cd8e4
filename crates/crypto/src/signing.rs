//! The private key of a software phone. The server never has a device's private key, and the key of a real device does
//! not leave its hardware.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
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
///
/// Signatures are deterministic (RFC 6979), so that a phone repeats a request byte for byte, unless
/// [`with_random_signatures`](Self::with_random_signatures) was called.
#[derive(Clone)]
pub struct SigningKey {
    key: p256::ecdsa::SigningKey,
    /// The same key for signatures with a random nonce; `None` for deterministic signatures.
    random: Option<EcdsaKeyPair>,
}

impl SigningKey {
    /// Generates a random private key with [`SystemEntropy`].
    pub fn generate() -> Self {
        let mut number = Zeroizing::new([0; 32]);
        loop {
            SystemEntropy.fill(&mut *number);
            // Every number from 1 to the order of the curve minus 1 is a valid key. Only one number in 2³² is too
            // large.
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&*number) {
                return Self { key, random: None };
            }
        }
    }

    /// Parses a private key from standard, padded base64 of DER PKCS#8 (RFC 5958), the form that
    /// [`SigningKey::to_pkcs8_base64`] returns. Returns `None` if the text is malformed.
    pub fn from_pkcs8_base64(base64: &str) -> Option<Self> {
        let der = Zeroizing::new(STANDARD.decode(base64).ok()?);
        p256::ecdsa::SigningKey::from_pkcs8_der(&der).ok().map(|key| Self { key, random: None })
    }

    /// Returns the private key as standard, padded base64 of DER PKCS#8, for a phone to store.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn to_pkcs8_base64(&self) -> Secret<String> {
        let der = self.key.to_pkcs8_der().expect("a key can be encoded");
        Secret::new(STANDARD.encode(der.as_bytes()))
    }

    /// Returns the private number of the key, big-endian, as the member `d` of a JWK contains it (RFC 7518, section
    /// 6.2.2).
    pub fn private_number(&self) -> Secret<[u8; 32]> {
        Secret::new(self.key.to_bytes().into())
    }

    /// Returns the public key that belongs to this private key.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn public_key(&self) -> PublicKey {
        let der = self.key.verifying_key().to_public_key_der().expect("a key can be encoded");
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
        let random = self.random.as_ref().and_then(|key| key.sign(&SystemRandom::new(), message).ok());
        let random = random.and_then(|signature| signature.as_ref().try_into().ok());
        random.unwrap_or_else(|| self.sign(message).to_bytes().into())
    }

    /// Returns the same key, which signs with random nonces like the keys of real phones. That takes a third of the
    /// time, because `aws-lc-rs` signs instead of `p256`. A repeated request then differs from the first one.
    #[must_use]
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER and parsed again")]
    pub fn with_random_signatures(mut self) -> Self {
        let der = self.key.to_pkcs8_der().expect("a key can be encoded");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_bytes());
        self.random = Some(key.expect("an encoded key can be parsed"));
        self
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.key.sign(message)
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
    fn signatures_repeat_unless_they_are_random() {
        let phone = SigningKey::generate();
        assert_eq!(phone.sign_fixed(b"message"), phone.sign_fixed(b"message"));
        let random = phone.clone().with_random_signatures();
        let signatures = [random.sign_fixed(b"message"), random.sign_fixed(b"message")];
        assert_ne!(signatures[0], signatures[1]);
        assert!(signatures.iter().all(|one| verify_fixed(&phone.public_key(), b"message", one)));
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
