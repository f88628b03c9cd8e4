//! Hashing and verification of API key secrets.
//!
//! A secret has 190 random bits, so it cannot be guessed. A fast keyed hash therefore protects it as well as a slow
//! password hash would. It costs a microsecond per request instead of milliseconds.
//!
//! The hashing key is derived from the first master key of a database, and then stored in the database, sealed. It is
//! never derived again: it must survive a rotation of the master key, because the stored hashes cannot be recomputed
//! without the secrets.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use domain::ApiKeySid;
use zeroize::Zeroizing;

use crate::Sealable;

/// The HMAC key with which API key secrets are hashed, and the tokens in URLs that outlets get are made, 256 bits. It
/// cannot be printed, and is wiped when dropped.
pub struct HashingKey {
    bytes: Zeroizing<[u8; 32]>,
    key: hmac::Key,
}

impl HashingKey {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let key = hmac::Key::new(HMAC_SHA256, &*bytes);
        Self { bytes, key }
    }

    /// Returns the 32-byte hash to store for the API key `sid`: HMAC-SHA256 over the SID, a NUL byte and `secret`.
    ///
    /// Because the hash covers the SID, the hash of one API key is useless in the row of another. An attacker with a
    /// stolen database cannot test guesses without the hashing key.
    pub fn hash_secret(&self, sid: ApiKeySid, secret: &str) -> Vec<u8> {
        self.tag(sid, secret).as_ref().to_vec()
    }

    /// Returns whether `hash` is the stored hash of `secret` for the API key `sid`. The comparison takes constant time.
    pub fn verify_secret(&self, sid: ApiKeySid, secret: &str, hash: &[u8]) -> bool {
        verify_slices_are_equal(self.tag(sid, secret).as_ref(), hash).is_ok()
    }

    fn tag(&self, sid: ApiKeySid, secret: &str) -> hmac::Tag {
        self.hmac(&[sid.to_string().as_bytes(), &[0], secret.as_bytes()])
    }

    /// Returns the HMAC-SHA256 of these parts, one after the other.
    pub(crate) fn hmac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }
}

impl fmt::Debug for HashingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashingKey(…)")
    }
}

impl Sealable for HashingKey {
    const PURPOSE: &'static str = "key of API key secrets";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.bytes.to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self::new(Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use domain::accounts::ApiKeySecret;
    use domain::{Sid, Timestamp};

    use super::*;
    use crate::{MasterKey, SystemEntropy};

    #[test]
    fn api_key_hash_matches_only_the_same_hashing_key_sid_and_secret() {
        let (master, other_master) = (
            MasterKey::generate(&SystemEntropy).hashing_key(),
            MasterKey::generate(&SystemEntropy).hashing_key(),
        );
        let sid = || ApiKeySid::generate(Timestamp::from_seconds(0), &SystemEntropy);
        let (ours, theirs) = (sid(), sid());
        let secret = ApiKeySecret::generate(&SystemEntropy);
        let hash = master.hash_secret(ours, secret.expose());

        assert_eq!(hash.len(), 32);
        assert!(master.verify_secret(ours, secret.expose(), &hash));
        assert!(!master.verify_secret(theirs, secret.expose(), &hash));
        assert!(!master.verify_secret(ours, &secret.expose()[1..], &hash));
        assert!(!master.verify_secret(ours, "", &hash));
        assert!(!master.verify_secret(ours, secret.expose(), &hash[..31]));
        assert!(!master.verify_secret(ours, secret.expose(), &[]));
        assert!(!other_master.verify_secret(ours, secret.expose(), &hash));
    }

    /// Stored hashes must stay valid, so the expected value must never change. It was computed with Python.
    #[test]
    fn hash_of_a_known_api_key_secret_never_changes() {
        let master = MasterKey::parse(&"07".repeat(32)).unwrap();
        let key = HashingKey::from_bytes(&master.hashing_key().to_bytes()).unwrap();
        let hash = key.hash_secret(ApiKeySid::from_bytes([1; 16]), "secret");
        assert_eq!(hex::encode(hash), "c34d7b181673657177411f719ae9cc0c7e2ae9a5e8d200722f5de9de6413501e");
    }
}
