//! Tokens in the URLs that outlets get with a message: to report what became of it, and to get what a call says after a
//! key was pressed.
//!
//! ```text
//! service SID │ attempt SID │ tag
//! 16 bytes    │ 16 bytes    │ 16 bytes       in base64url: 64 characters
//! ```
//!
//! The tag is the first half of an HMAC-SHA256, so a token can't be guessed. A token is the same for every try to send
//! one message, because gateways that know idempotency keys may expect the same request. It stays valid when the master
//! key is rotated.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::verifications::AttemptReference;
use domain::{AttemptSid, ServiceSid, Sid as _};

use crate::{HashingKey, constant_time_eq};

/// Length of a tag, in bytes.
const TAG_BYTES: usize = 16;

/// Length of a token, in characters.
const TOKEN_LENGTH: usize = 64;

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptTokenUse {
    /// To report what became of the message of an attempt.
    DeliveryReport,
    /// To get what the call of an attempt says, with its code.
    SpokenCode,
}

impl AttemptTokenUse {
    /// Returns the prefix of the data that tags cover. It separates them from each other and from the hashes of API
    /// keys, whose data starts with a SID. It must never change.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::DeliveryReport => b"countersign 1 delivery report\0",
            Self::SpokenCode => b"countersign 1 spoken code\0",
        }
    }
}

impl HashingKey {
    /// Returns the token that permits one use of an attempt.
    pub fn attempt_token(&self, token_use: AttemptTokenUse, reference: AttemptReference) -> String {
        let sids = [reference.service_sid.to_bytes(), reference.attempt_sid.to_bytes()].concat();
        let tag = self.attempt_tag(token_use, &sids);
        URL_SAFE_NO_PAD.encode([sids.as_slice(), &tag].concat())
    }

    /// Returns the attempt that a token names, or `None` if this key did not create the token for this use.
    pub fn verify_attempt_token(&self, token_use: AttemptTokenUse, token: &str) -> Option<AttemptReference> {
        if token.len() != TOKEN_LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (sids, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        let (service, attempt) = sids.split_first_chunk()?;
        let attempt_sid = AttemptSid::from_bytes(attempt.try_into().ok()?);
        let reference = AttemptReference { service_sid: ServiceSid::from_bytes(*service), attempt_sid };
        constant_time_eq(&self.attempt_tag(token_use, sids), tag).then_some(reference)
    }

    fn attempt_tag(&self, token_use: AttemptTokenUse, sids: &[u8]) -> [u8; TAG_BYTES] {
        let tag = self.hmac(&[token_use.prefix(), sids]);
        let mut half = [0; TAG_BYTES];
        half.copy_from_slice(&tag.as_ref()[..TAG_BYTES]);
        half
    }
}

#[cfg(test)]
mod tests {
    use super::AttemptTokenUse::{DeliveryReport, SpokenCode};
    use super::*;
    use crate::{MasterKey, SystemEntropy};

    #[test]
    fn token_is_accepted_only_unaltered_by_its_key_and_for_its_use() {
        let [key, other] = [(), ()].map(|()| MasterKey::generate(&SystemEntropy).hashing_key());
        let reference = AttemptReference {
            service_sid: ServiceSid::from_bytes([1; 16]),
            attempt_sid: AttemptSid::from_bytes([2; 16]),
        };
        let token = key.attempt_token(DeliveryReport, reference);
        assert_eq!(token.len(), TOKEN_LENGTH);
        assert_eq!(key.attempt_token(DeliveryReport, reference), token);
        assert_eq!(key.verify_attempt_token(DeliveryReport, &token), Some(reference));
        assert_eq!(other.verify_attempt_token(DeliveryReport, &token), None);
        assert_eq!(key.verify_attempt_token(SpokenCode, &token), None);
        let spoken = key.attempt_token(SpokenCode, reference);
        assert_eq!(key.verify_attempt_token(SpokenCode, &spoken), Some(reference));
        assert_eq!(key.verify_attempt_token(DeliveryReport, &spoken), None);
        for position in 0..TOKEN_LENGTH {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(key.verify_attempt_token(DeliveryReport, &altered), None, "{position}");
        }
        for malformed in ["", "A", &token[1..], &format!("{token}A"), &"é".repeat(32), &"=".repeat(64)] {
            assert_eq!(key.verify_attempt_token(DeliveryReport, malformed), None, "{malformed}");
        }
    }
}
