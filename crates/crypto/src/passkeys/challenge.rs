//! The challenges that authenticators sign.

use std::fmt;

use domain::Entropy;

use crate::{compact, constant_time_eq};

use super::sha256;

/// Number of random bytes in a challenge.
const RANDOM_BYTES: usize = 16;

/// Number of characters of the SID at the start of a challenge.
const SID_CHARACTERS: usize = 34;

/// A challenge: the 34 characters of the SID of a factor or a challenge, and 16 random bytes. The SID finds the
/// resource without an index. The random bytes are what an attacker cannot know.
#[derive(Clone, PartialEq, Eq)]
pub struct PasskeyChallenge(Vec<u8>);

/// Shows the SID only.
impl fmt::Debug for PasskeyChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PasskeyChallenge").field(&self.sid()).finish_non_exhaustive()
    }
}

impl PasskeyChallenge {
    /// Generates the challenge of the resource `sid`.
    pub fn generate(sid: &str, entropy: &dyn Entropy) -> Self {
        let mut random = [0; RANDOM_BYTES];
        entropy.fill(&mut random);
        Self([sid.as_bytes(), &random].concat())
    }

    /// Decodes a challenge from base64url, or returns `None` if the text is malformed.
    pub fn from_base64url(text: &str) -> Option<Self> {
        compact::decode(text).map(Self)
    }

    /// Returns the challenge in base64url without padding, the form in which clients receive and return it.
    pub fn to_base64url(&self) -> String {
        compact::encode(&self.0)
    }

    /// Returns the SID at the start of the challenge, unchecked. Returns `None` if the challenge does not start with 34
    /// ASCII characters.
    pub fn sid(&self) -> Option<&str> {
        let sid = str::from_utf8(self.0.get(..SID_CHARACTERS)?).ok()?;
        sid.is_ascii().then_some(sid)
    }

    /// Returns the SHA-256 digest of the challenge. Only the digest is stored, so that a reader of the database cannot
    /// complete a ceremony.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// Returns whether `digest` is the digest of this challenge. The comparison takes constant time.
    pub(super) fn has_digest(&self, digest: &[u8; 32]) -> bool {
        constant_time_eq(&self.digest(), digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    const SID: &str = "YF04019a7d1c00007e33a5c1d90b42f68a";

    #[test]
    fn challenge_is_the_sid_and_16_random_bytes() {
        let challenge = PasskeyChallenge::generate(SID, &SystemEntropy);
        assert_eq!(challenge.0.len(), 50);
        assert_eq!(challenge.sid(), Some(SID));
        assert_ne!(challenge, PasskeyChallenge::generate(SID, &SystemEntropy));
        assert_eq!(PasskeyChallenge::from_base64url(&challenge.to_base64url()), Some(challenge));
    }

    #[test]
    fn challenge_of_another_server_has_no_sid() {
        assert_eq!(PasskeyChallenge(vec![b'a'; 33]).sid(), None);
        assert_eq!(PasskeyChallenge(vec![0xff; 50]).sid(), None);
        assert_eq!(PasskeyChallenge("é".repeat(25).into_bytes()).sid(), None);
        assert_eq!(PasskeyChallenge(SID.into()).sid(), Some(SID));
    }

    #[test]
    fn digest_matches_only_its_challenge() {
        let challenge = PasskeyChallenge(b"abc".to_vec());
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(challenge.digest()), digest);
        assert!(challenge.has_digest(&challenge.digest()));
        assert!(!challenge.has_digest(&[0; 32]));
    }
}
