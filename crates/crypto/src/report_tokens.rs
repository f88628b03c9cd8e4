//! Tokens in the URLs to which outlets report what became of a message.
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

/// Prefix of the data that tags cover. It separates them from the hashes of API keys, whose data starts with a SID. It
/// must never change.
const PREFIX: &[u8] = b"countersign 1 delivery report\0";

/// Length of a tag, in bytes.
const TAG_BYTES: usize = 16;

/// Length of a token, in characters.
const TOKEN_LENGTH: usize = 64;

impl HashingKey {
    /// Returns the token for reports about the message of an attempt.
    pub fn report_token(&self, reference: AttemptReference) -> String {
        let sids = [reference.service_sid.to_bytes(), reference.attempt_sid.to_bytes()].concat();
        let tag = self.report_tag(&sids);
        URL_SAFE_NO_PAD.encode([sids.as_slice(), &tag].concat())
    }

    /// Returns the attempt that a token names, or `None` if this key did not create the token.
    pub fn verify_report_token(&self, token: &str) -> Option<AttemptReference> {
        if token.len() != TOKEN_LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (sids, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        let (service, attempt) = sids.split_first_chunk()?;
        let attempt_sid = AttemptSid::from_bytes(attempt.try_into().ok()?);
        let reference = AttemptReference { service_sid: ServiceSid::from_bytes(*service), attempt_sid };
        constant_time_eq(&self.report_tag(sids), tag).then_some(reference)
    }

    fn report_tag(&self, sids: &[u8]) -> [u8; TAG_BYTES] {
        let tag = self.hmac(&[PREFIX, sids]);
        let mut half = [0; TAG_BYTES];
        half.copy_from_slice(&tag.as_ref()[..TAG_BYTES]);
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MasterKey, SystemEntropy};

    #[test]
    fn token_is_accepted_only_unaltered_and_by_its_key() {
        let [key, other] = [(), ()].map(|()| MasterKey::generate(&SystemEntropy).hashing_key());
        let reference = AttemptReference {
            service_sid: ServiceSid::from_bytes([1; 16]),
            attempt_sid: AttemptSid::from_bytes([2; 16]),
        };
        let token = key.report_token(reference);
        assert_eq!(token.len(), TOKEN_LENGTH);
        assert_eq!(key.report_token(reference), token);
        assert_eq!(key.verify_report_token(&token), Some(reference));
        assert_eq!(other.verify_report_token(&token), None);
        for position in 0..TOKEN_LENGTH {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(key.verify_report_token(&altered), None, "{position}");
        }
        for malformed in ["", "A", &token[1..], &format!("{token}A"), &"é".repeat(32), &"=".repeat(64)] {
            assert_eq!(key.verify_report_token(malformed), None, "{malformed}");
        }
    }
}
