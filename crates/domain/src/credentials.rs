//! Push credentials: the certificates and keys with which this server authenticates to APNs and FCM on behalf of an app
//! (docs/protocol/push.md, section 2).

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::secret::Sealed;
use crate::sids::{AccountSid, CredentialSid};
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// The type of a push credential: the push provider for which it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialType {
    /// Apple Push Notification service (APNs).
    Apn,
    /// Firebase Cloud Messaging (FCM).
    Fcm,
}

impl CredentialType {
    /// Returns the type's name in the API.
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

/// The plaintext content of a push credential, in the form in which the crate `push-client` serializes it.
pub struct Content(Vec<u8>);

impl Content {
    /// Wraps the plaintext bytes so that they cannot be printed by accident.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the plaintext bytes.
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
    /// SID of the push credential (`CR…`).
    pub sid: CredentialSid,
    /// Account that owns the credential.
    pub account_sid: AccountSid,
    /// Display name of the credential; `None` if it has none.
    pub friendly_name: Option<FriendlyName>,
    /// Push provider for which the credential is valid.
    pub credential_type: CredentialType,
    /// Whether the credential is for the APNs sandbox.
    pub sandbox: bool,
    /// Sealed content of the credential, which the API never shows.
    pub content: Sealed<Content>,
    /// Expiry of the certificate; `None` if the credential is not a certificate.
    pub expires_at: Option<Timestamp>,
    /// Creation time of the credential.
    pub created_at: Timestamp,
    /// Time of the last change to the credential.
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
    fn credential_types_have_the_names_used_by_the_api() {
        for (word, kind) in [("apn", CredentialType::Apn), ("fcm", CredentialType::Fcm)] {
            assert_eq!((kind.as_str(), CredentialType::from_parameter(word)), (word, Ok(kind)));
        }
        let why = |word| CredentialType::from_parameter(word).unwrap_err().to_string();
        assert_eq!(why("gcm"), "must be apn or fcm: GCM was shut down in 2019");
        assert_eq!(why("APN"), "must be apn or fcm");
    }

    #[test]
    fn credential_content_exposes_the_given_bytes() {
        assert_eq!(Content::new(b"-----BEGIN".to_vec()).expose(), b"-----BEGIN");
    }
}
