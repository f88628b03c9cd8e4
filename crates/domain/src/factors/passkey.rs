//! Passkeys: WebAuthn credentials, each of which belongs to one relying party.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::factor_type::{FactorType, HasFactorType};
use crate::factors::{Factor, Status};
use crate::problem::{Code, Problem};
use crate::services::{Attachment, Requirement};
use crate::text::Text;
use crate::time::Timestamp;

/// Time after the creation of a passkey in which it can be registered, in seconds.
pub const REGISTRATION_LIFETIME_SECONDS: i64 = 10 * 60;

/// Maximum number of origins of a relying party.
pub const MAX_ORIGINS: usize = 16;

/// The domain name of a relying party, 1 to 253 characters.
pub type RelyingPartyId = Text<1, 253>;

/// The name of a relying party that is shown to the user, 1 to 64 characters.
pub type RelyingPartyName = Text<1, 64>;

/// The origin of a web page or an app that may use a passkey, 1 to 256 characters.
pub type Origin = Text<1, 256>;

/// The relying party of a passkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelyingParty {
    /// Domain name of the relying party.
    pub id: RelyingPartyId,
    /// Name of the relying party that is shown to the user.
    pub name: RelyingPartyName,
    /// Origins that may use the passkey.
    pub origins: Vec<Origin>,
}

/// The SHA-256 digest of a WebAuthn challenge. The challenge itself is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebAuthnChallengeDigest(pub [u8; 32]);

/// The identifier of a WebAuthn credential, 1 to 1023 bytes that the authenticator chose.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CredentialId(Vec<u8>);

impl CredentialId {
    /// Maximum number of bytes of an identifier.
    pub const MAX_BYTES: usize = 1023;

    /// Returns an identifier of these bytes, or `None` if there are too few or too many.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=Self::MAX_BYTES).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Wraps an identifier from the database without validation. It was validated before it was stored.
    pub const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the identifier.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({} bytes)", self.0.len())
    }
}

/// The algorithm of a credential's signatures (<https://www.iana.org/assignments/cose/cose.xhtml>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoseAlgorithm {
    /// ECDSA on the curve P-256 with SHA-256, which all authenticators support.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, which older versions of Windows Hello need.
    Rs256,
}

impl CoseAlgorithm {
    /// All algorithms, in the order in which they are offered.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// Returns the algorithm's COSE identifier.
    pub const fn identifier(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }

    /// Returns the algorithm with this COSE identifier, or `None` for any other number.
    pub fn from_identifier(identifier: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.identifier() == identifier)
    }
}

/// The credential that an authenticator created for a passkey.
#[derive(Clone, Debug)]
pub struct PasskeyCredential {
    /// Identifier that the authenticator chose.
    pub id: CredentialId,
    /// Public key as a DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// Algorithm of the credential's signatures.
    pub algorithm: CoseAlgorithm,
    /// Signature counter of the last accepted signature; 0 if the authenticator does not count.
    pub sign_count: u32,
    /// Whether the authenticator verified the user when it created the credential.
    pub user_verified: bool,
    /// Whether the credential can be copied to other devices.
    pub backup_eligible: bool,
    /// Whether the credential is copied to other devices.
    pub backed_up: bool,
    /// Ways to reach the authenticator, as the browser names them.
    pub transports: Vec<String>,
    /// Identifier of the authenticator's model.
    pub aaguid: [u8; 16],
    /// Time of the last accepted signature; `None` if the passkey has approved no challenge.
    pub last_used_at: Option<Timestamp>,
}

/// What a passkey adds to a [`Factor`]: the options of its registration and, once it is verified, the
/// credential.
#[derive(Clone, Debug)]
pub struct PasskeyFactor {
    /// Relying party to which the passkey belongs.
    pub relying_party: RelyingParty,
    /// Kind of authenticator that may hold the passkey.
    pub authenticator_attachment: Attachment,
    /// Whether the passkey must be discoverable.
    pub discoverable_credentials: Requirement,
    /// Whether the authenticator must verify the user.
    pub user_verification: Requirement,
    /// Digest of the challenge of the registration.
    pub challenge_digest: WebAuthnChallengeDigest,
    /// Credential; `None` as long as the factor is unverified.
    pub credential: Option<PasskeyCredential>,
}

impl PasskeyCredential {
    /// Returns the identifier of the authenticator's model as a UUID (RFC 9562). It is zero if the browser conceals it.
    pub fn aaguid_text(&self) -> String {
        uuid::Uuid::from_bytes(self.aaguid).to_string()
    }
}

impl Factor<PasskeyFactor> {
    /// Checks that the passkey can be registered at `now`. The transaction that stores the credential checks this
    /// again.
    ///
    /// # Errors
    /// Returns error 60383 if the passkey is verified or was created too long ago.
    pub fn require_registrable(&self, now: Timestamp) -> Result<(), Problem> {
        let refusal = |advice| Err(Problem::with_advice(Code::IllegalFactorStatus, advice));
        match self.status {
            Status::Verified => refusal("the passkey is already verified"),
            Status::Unverified if now >= self.created_at.plus_seconds(REGISTRATION_LIFETIME_SECONDS) => {
                refusal("the challenge has expired; create a new passkey")
            }
            Status::Unverified => Ok(()),
        }
    }
}

impl HasFactorType for PasskeyFactor {
    fn factor_type(&self) -> FactorType {
        FactorType::Passkeys
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns what a passkey with this credential adds.
    pub(crate) fn kind(credential: Option<PasskeyCredential>) -> PasskeyFactor {
        PasskeyFactor {
            relying_party: RelyingParty {
                id: RelyingPartyId::from_stored("example.com".to_owned()),
                name: RelyingPartyName::from_stored("Example Bank".to_owned()),
                origins: vec![Origin::from_stored("https://example.com".to_owned())],
            },
            authenticator_attachment: Attachment::Platform,
            discoverable_credentials: Requirement::Required,
            user_verification: Requirement::Required,
            challenge_digest: WebAuthnChallengeDigest([7; 32]),
            credential,
        }
    }

    #[test]
    fn cose_algorithms_have_their_registered_identifiers() {
        assert_eq!(CoseAlgorithm::ALL.map(CoseAlgorithm::identifier), [-7, -257, -8]);
        for algorithm in CoseAlgorithm::ALL {
            assert_eq!(CoseAlgorithm::from_identifier(algorithm.identifier()), Some(algorithm));
        }
        assert_eq!(CoseAlgorithm::from_identifier(7), None);
    }

    #[test]
    fn passkey_can_be_registered_once_and_for_ten_minutes() {
        let mut factor = crate::factors::tests::factor_of(kind(None));
        factor.status = Status::Unverified;
        let end = factor.created_at.plus_seconds(600);
        assert_eq!(factor.require_registrable(Timestamp::from_micros(end.micros() - 1)), Ok(()));
        let late = factor.require_registrable(end).unwrap_err();
        factor.status = Status::Verified;
        let again = factor.require_registrable(factor.created_at).unwrap_err();
        assert_eq!([late.code(), again.code()], [Code::IllegalFactorStatus; 2]);
    }

    #[test]
    fn credential_id_must_have_1_to_1023_bytes() {
        let is_valid = |length| CredentialId::new(vec![1; length]).is_some();
        assert_eq!([0, 1, 1023, 1024].map(is_valid), [false, true, true, false]);
        let id = CredentialId::from_stored(vec![1, 2, 3]);
        assert_eq!((id.as_bytes(), format!("{id:?}").as_str()), (&[1, 2, 3][..], "CredentialId(3 bytes)"));
    }
}
