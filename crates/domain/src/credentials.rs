//! Push credentials: certificates and keys with which this server authenticates to APNs and FCM on behalf of an app
//! (docs/protocol/push.md, section 2).

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::secret::Sealed;
use crate::sids::{AccountSid, CredentialSid};
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// Push provider of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialType {
    /// Apple Push Notification service.
    Apn,
    /// Firebase Cloud Messaging.
    Fcm,
}

impl CredentialType {
    /// Returns the name in the API.
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

/// The plaintext content of a credential, in the form that the crate `push-client` serializes.
pub struct Content(Vec<u8>);

impl Content {
    /// Wraps the bytes so that they cannot be printed by accident.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A stored push credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// `CR…`
    pub sid: CredentialSid,
    /// Owning account.
    pub account_sid: AccountSid,
    /// Name for people.
    pub friendly_name: Option<FriendlyName>,
    /// Push provider.
    pub credential_type: CredentialType,
    /// Whether the credential is for the APNs sandbox.
    pub sandbox: bool,
    /// Sealed content, which the API never shows.
    pub content: Sealed<Content>,
    /// Expiry of the certificate, if the credential is one.
    pub expires_at: Option<Timestamp>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time of the last change.
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
    fn credential_types_have_the_names_of_the_api() {
        for (word, kind) in [("apn", CredentialType::Apn), ("fcm", CredentialType::Fcm)] {
            assert_eq!((kind.as_str(), CredentialType::from_parameter(word)), (word, Ok(kind)));
        }
        let why = |word| CredentialType::from_parameter(word).unwrap_err().to_string();
        assert_eq!(why("gcm"), "must be apn or fcm: GCM was shut down in 2019");
        assert_eq!(why("APN"), "must be apn or fcm");
    }

    #[test]
    fn content_exposes_the_given_bytes() {
        assert_eq!(Content::new(b"-----BEGIN".to_vec()).expose(), b"-----BEGIN");
    }
}
