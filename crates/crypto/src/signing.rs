//! The private key of a software phone. The server itself has none: a real device's key never
//! leaves its hardware.

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

/// A private key on P-256. It does not print, and is wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// A new key of the system's randomness.
    pub fn generate() -> Self {
        let mut number = Zeroizing::new([0; 32]);
        loop {
            SystemEntropy.fill(&mut *number);
            // All but one in four thousand million numbers lie below the order of the curve, and each
            // of those but zero is a key.
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&*number) {
                return Self(key);
            }
        }
    }

    /// The key in standard, padded base64 of DER PKCS#8 (RFC 5958), as
    /// [`SigningKey::to_pkcs8_base64`] writes it.
    pub fn from_pkcs8_base64(base64: &str) -> Option<Self> {
        let der = Zeroizing::new(STANDARD.decode(base64).ok()?);
        p256::ecdsa::SigningKey::from_pkcs8_der(&der).ok().map(Self)
    }

    /// The key as base64 of DER PKCS#8, for a phone to keep.
    #[expect(clippy::expect_used, reason = "a key on P-256 has a DER form of 138 bytes")]
    pub fn to_pkcs8_base64(&self) -> Secret<String> {
        let der = self.0.to_pkcs8_der().expect("a key is encodable");
        Secret::new(STANDARD.encode(der.as_bytes()))
    }

    /// The public half.
    #[expect(clippy::expect_used, reason = "a key on P-256 has a DER form of 91 bytes")]
    pub fn public_key(&self) -> PublicKey {
        let der = self.0.verifying_key().to_public_key_der().expect("a key is encodable");
        PublicKey::from_checked_der(der.into_vec())
    }

    /// The public half as `Binding.PublicKey` carries it (docs/protocol/device.md, section 3): standard, padded
    /// base64 of the 91 bytes.
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(self.public_key().as_der())
    }

    /// Signs `message`: a DER `ECDSA-Sig-Value`, as it verifies a factor.
    pub fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        self.sign(message).to_der().as_bytes().to_vec()
    }

    /// Signs `message`: r‖s, as it ends a JWS (RFC 7518 section 3.4).
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
    fn what_it_signs_verifies() {
        let phone = SigningKey::generate();
        let key = parse_public_key(&phone.public_key_base64()).unwrap();
        assert_eq!(key, phone.public_key());
        assert!(verify_der(&key, b"message", &phone.sign_der(b"message")));
        assert!(verify_fixed(&key, b"message", &phone.sign_fixed(b"message")));
        assert!(!verify_fixed(&key, b"massage", &phone.sign_fixed(b"message")));
    }

    #[test]
    fn a_phone_keeps_its_key() {
        let phone = SigningKey::generate();
        let kept = phone.to_pkcs8_base64();
        assert_eq!(SigningKey::from_pkcs8_base64(kept.expose()).unwrap().public_key(), phone.public_key());
        for bad in ["", "MFkw", &phone.public_key_base64(), &format!("{} ", kept.expose())] {
            assert!(SigningKey::from_pkcs8_base64(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn does_not_print() {
        assert_eq!(format!("{:?}", SigningKey::generate()), "SigningKey(…)");
    }
}
