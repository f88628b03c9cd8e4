//! Push credentials: what lets this server push through Apple and Google in an app's name
//! (docs/protocol/push.md, section 2).

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::secret::Sealed;
use crate::sids::{AccountSid, CredentialSid};
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// Which provider a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialType {
    /// Apple.
    Apn,
    /// Google.
    Fcm,
}

impl CredentialType {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apn => "apn",
            Self::Fcm => "fcm",
        }
    }
}

impl Parameter for CredentialType {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "apn" => Ok(Self::Apn),
            "fcm" => Ok(Self::Fcm),
            "gcm" => Err(Expected::new("must be apn or fcm: GCM was shut down in 2019")),
            _ => Err(Expected::new("must be apn or fcm")),
        }
    }
}

/// The content of a credential, in the open: whatever `push` made of what it was given.
pub struct Content(Vec<u8>);

impl Content {
    /// Takes it out of sight.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A push credential as it is stored.
#[derive(Clone, Debug)]
pub struct Credential {
    /// `CR…`
    pub sid: CredentialSid,
    /// The owner.
    pub account_sid: AccountSid,
    /// What people call it.
    pub friendly_name: Option<FriendlyName>,
    /// Which provider it is for.
    pub credential_type: CredentialType,
    /// Whether it is for Apple's sandbox.
    pub sandbox: bool,
    /// The content, sealed; never shown.
    pub content: Sealed<Content>,
    /// When its certificate ends, if it is one.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Listed for Credential {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_types_have_the_words_of_the_api() {
        for (word, kind) in [("apn", CredentialType::Apn), ("fcm", CredentialType::Fcm)] {
            assert_eq!((kind.as_str(), CredentialType::from_parameter(word)), (word, Ok(kind)));
        }
        let why = |word| CredentialType::from_parameter(word).unwrap_err().to_string();
        assert_eq!(why("gcm"), "must be apn or fcm: GCM was shut down in 2019");
        assert_eq!(why("APN"), "must be apn or fcm");
    }

    #[test]
    fn the_content_is_what_was_given() {
        assert_eq!(Content::new(b"-----BEGIN".to_vec()).expose(), b"-----BEGIN");
    }
}
