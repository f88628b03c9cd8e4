//! Verification of compact JWS (RFC 7515).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// A parsed JWS whose signature has not been verified.
pub struct Unverified<'t> {
    /// The decoded header.
    pub header: Value,
    /// The decoded claims.
    pub claims: Value,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    /// Parses a compact JWS; returns `None` if the text is not one.
    pub fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Returns whether the header names ES256 and the signature is valid under the public key `point`.
    pub fn is_es256(&self, point: &[u8]) -> bool {
        self.header["alg"] == "ES256" && self.holds(&ECDSA_P256_SHA256_FIXED, point)
    }

    /// Returns whether the header names RS256 and the signature is valid under the public key `key`.
    pub fn is_rs256(&self, key: &[u8]) -> bool {
        self.header["alg"] == "RS256" && self.holds(&RSA_PKCS1_2048_8192_SHA256, key)
    }

    fn holds(&self, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, key).verify(self.signed.as_bytes(), &self.signature).is_ok()
    }
}
