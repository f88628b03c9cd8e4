//! The authenticator data: what the authenticator records about a ceremony, and signs (Web Authentication section 6.1).
//!
//! ```text
//! hash of the RP ID │ flags  │ counter │ if AT: AAGUID │ length  │ credential ID │ COSE key │ if ED: extensions
//! 32 bytes          │ 1 byte │ 4 bytes │ 16 bytes      │ 2 bytes │ 1 to 1023     │ CBOR map │ CBOR map
//! ```

use super::cbor::{self, Map};
use super::relying_party::hash_id;
use super::{CredentialId, Rejection};

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const ATTESTED_CREDENTIAL: u8 = 0x40;
const EXTENSIONS: u8 = 0x80;

/// Parsed authenticator data.
pub(super) struct AuthenticatorData<'a> {
    relying_party_hash: [u8; 32],
    flags: u8,
    pub(super) sign_count: u32,
    /// The bytes after the counter, not yet parsed.
    rest: &'a [u8],
}

/// The credential in the authenticator data of a registration.
pub(super) struct AttestedCredential<'a> {
    pub(super) aaguid: [u8; 16],
    pub(super) id: CredentialId,
    /// The bytes after the ID, not yet parsed.
    rest: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    /// Parses the part that all authenticator data have.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        Self::split(bytes).ok_or(Rejection::AuthenticatorData)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (relying_party_hash, rest) = bytes.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (sign_count, rest) = rest.split_first_chunk()?;
        Some(Self {
            relying_party_hash: *relying_party_hash,
            flags: *flags,
            sign_count: u32::from_be_bytes(*sign_count),
            rest,
        })
    }

    /// Checks the relying party and the flags.
    pub(super) fn check(
        &self,
        relying_party_id: &str,
        requires_user_verification: bool,
    ) -> Result<(), Rejection> {
        if self.relying_party_hash != hash_id(relying_party_id) {
            return Err(Rejection::RelyingParty);
        }
        if !self.has(USER_PRESENT) {
            return Err(Rejection::UserPresence);
        }
        if requires_user_verification && !self.is_user_verified() {
            return Err(Rejection::UserVerification);
        }
        if self.is_backed_up() && !self.is_backup_eligible() {
            return Err(Rejection::BackupState);
        }
        Ok(())
    }

    pub(super) const fn is_user_verified(&self) -> bool {
        self.has(USER_VERIFIED)
    }

    pub(super) const fn is_backup_eligible(&self) -> bool {
        self.has(BACKUP_ELIGIBLE)
    }

    pub(super) const fn is_backed_up(&self) -> bool {
        self.has(BACKED_UP)
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the attested credential.
    pub(super) fn attested_credential(&self) -> Result<AttestedCredential<'a>, Rejection> {
        if !self.has(ATTESTED_CREDENTIAL) {
            return Err(Rejection::AttestedCredential);
        }
        AttestedCredential::split(self.rest).ok_or(Rejection::CredentialIdLength)
    }

    /// Checks that the data of an assertion end after the counter, or after the extensions. Some authenticators repeat
    /// the attested credential, which the signature protects and no check needs.
    pub(super) fn check_end(&self) -> Result<(), Rejection> {
        if self.has(ATTESTED_CREDENTIAL) {
            let (_, rest) = self.attested_credential()?.decode_key()?;
            return self.check_rest(rest);
        }
        self.check_rest(self.rest)
    }

    /// Checks that `rest` is empty, or consists of the extensions that the flags announce.
    pub(super) fn check_rest(&self, rest: &[u8]) -> Result<(), Rejection> {
        let is_end = if self.has(EXTENSIONS) {
            cbor::decode_map(rest).is_some_and(|(_, rest)| rest.is_empty())
        } else {
            rest.is_empty()
        };
        is_end.then_some(()).ok_or(Rejection::TrailingData)
    }
}

impl<'a> AttestedCredential<'a> {
    /// Decodes the COSE key, and returns it with the bytes after it.
    pub(super) fn decode_key(&self) -> Result<(Map<'a>, &'a [u8]), Rejection> {
        cbor::decode_map(self.rest).ok_or(Rejection::PublicKey)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (aaguid, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        Some(Self { aaguid: *aaguid, id: CredentialId::new(id.to_vec())?, rest })
    }
}
