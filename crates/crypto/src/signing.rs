//! The private key of a software phone. The server never has a device's private key, and the key of a real device does
//! not leave its hardware.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::Secret;
use domain::factors::PublicKey;
use p256::ecdsa::Signature;
use zeroize::Zeroizing;

/// The P-256 private key of a software phone. It cannot be printed, and is wiped when dropped.
///
/// Signatures come from `aws-lc-rs`, which signs in a third of the time that `p256` needs: `countersign load` signs
/// thousands of requests a second.
#[derive(Clone)]
pub struct SigningKey(EcdsaKeyPair);

impl SigningKey {
    /// Generates a random private key.
    ///
    /// # Panics
    /// Panics if the operating system provides no randomness, as [`SystemEntropy`](crate::SystemEntropy) does.
    #[expect(clippy::expect_used, reason = "without randomness, keys could be guessed")]
    pub fn generate() -> Self {
        Self(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .expect("the system provides random bytes"),
        )
    }

    /// Parses a private key from standard, padded base64 of DER PKCS#8 (RFC 5958), the form that
    /// [`SigningKey::to_pkcs8_base64`] returns. Returns `None` if the text is malformed.
    pub fn from_pkcs8_base64(base64: &str) -> Option<Self> {
        let der = Zeroizing::new(STANDARD.decode(base64).ok()?);
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok().map(Self)
    }

    /// Returns the private key as standard, padded base64 of DER PKCS#8, for a phone to store.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn to_pkcs8_base64(&self) -> Secret<String> {
        let der = self.0.to_pkcs8v1().expect("a key can be encoded");
        Secret::new(STANDARD.encode(der.as_ref()))
    }

    /// Returns the public key that belongs to this private key.
    #[expect(clippy::expect_used, reason = "every P-256 key can be encoded as DER")]
    pub fn public_key(&self) -> PublicKey {
        let der = self.0.public_key().as_der().expect("a key can be encoded");
        PublicKey::from_checked_der(der.as_ref().to_vec())
    }

    /// Returns the public key in the form of the parameter `Binding.PublicKey` (docs/protocol/device.md, section 3):
    /// standard, padded base64 of 91 bytes.
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(self.public_key().as_der())
    }

    /// Signs `message` and returns the signature as a DER `ECDSA-Sig-Value`, the form with which a device verifies its
    /// factor.
    #[expect(clippy::expect_used, reason = "both halves of a valid signature are in range")]
    pub fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        let signature = Signature::from_slice(&self.sign_fixed(message)).expect("a valid signature");
        signature.to_der().as_bytes().to_vec()
    }

    /// Signs `message` and returns the signature as r‖s, the form that a JWS contains (RFC 7518 section 3.4).
    #[expect(
        clippy::expect_used,
        reason = "signing with a valid key fails only without randomness or memory"
    )]
    pub fn sign_fixed(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.0.sign(&SystemRandom::new(), message).expect("a key can sign");
        signature.as_ref().try_into().expect("a signature of two halves of 32 bytes")
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
