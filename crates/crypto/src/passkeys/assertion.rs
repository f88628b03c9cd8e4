//! Assertions: the response with which an authenticator signs in (Web Authentication section 7.2).
//!
//! The caller looks up the challenge and the credential between the checks, so they come in three parts:
//! [`AssertionResponse::parse`], [`AssertionResponse::check`] and [`CheckedAssertion::verify`].

use serde_json::Value;

use super::authenticator_data::AuthenticatorData;
use super::client_data::{Ceremony, ClientData};
use super::json::{Credential, required_text, text};
use super::{CredentialId, MAX_VALUE_BYTES, PasskeyChallenge, PasskeyPublicKey, Rejection, decode_base64url};

/// Maximum length of a signature, in bytes: that of an RSA key of 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Maximum length of a user handle, in bytes.
const MAX_USER_HANDLE_BYTES: usize = 64;

/// The response to a sign-in, of which only the form has been checked.
#[derive(Clone, Debug)]
pub struct AssertionResponse {
    id: CredentialId,
    client_data: ClientData,
    authenticator_data: String,
    signature: String,
    user_handle: Option<String>,
}

/// A response to a sign-in whose challenge and origin have been checked.
#[derive(Clone, Debug)]
pub struct CheckedAssertion(AssertionResponse);

/// The stored values of a credential that a sign-in must match.
#[derive(Clone, Copy, Debug)]
pub struct StoredCredential<'a> {
    /// Public key of the credential.
    pub public_key: &'a PasskeyPublicKey,
    /// Signature counter of the last sign-in, or of the registration.
    pub sign_count: u32,
    /// Whether the credential could be backed up when it was registered.
    pub is_backup_eligible: bool,
}

/// The values that a sign-in must match.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedAssertion<'a> {
    /// ID of the relying party, in lower case.
    pub relying_party_id: &'a str,
    /// Whether the authenticator must have verified the user.
    pub requires_user_verification: bool,
    /// The user handle of the registration: the SID of the entity.
    pub user_handle: &'a str,
    /// Whether the response must contain the user handle. It must if the challenge did not name the user.
    pub requires_user_handle: bool,
    /// The credential with the ID of the response.
    pub credential: StoredCredential<'a>,
}

/// A successful sign-in: the values to store for the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Signature counter of the authenticator.
    pub sign_count: u32,
    /// Whether the authenticator verified the user.
    pub is_user_verified: bool,
    /// Whether the credential is backed up.
    pub is_backed_up: bool,
}

impl AssertionResponse {
    /// Parses the JSON of a sign-in and its client data. Accepts camel case and snake case, treats null as absent, and
    /// ignores other members. One of `id` and `rawId` must be there.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn parse(credential: &Value) -> Result<Self, Rejection> {
        let Credential { id, response } = Credential::parse(credential)?;
        let client_data = required_text(response, &["clientDataJSON", "client_data_json"])?;
        let authenticator_data = required_text(response, &["authenticatorData", "authenticator_data"])?;
        let signature = required_text(response, &["signature"])?;
        let user_handle = text(response, &["userHandle", "user_handle"], Rejection::Response)?;
        Ok(Self {
            id: id.ok_or(Rejection::Id)?.id,
            authenticator_data: authenticator_data.to_owned(),
            signature: signature.to_owned(),
            user_handle: user_handle.map(str::to_owned),
            client_data: ClientData::parse(client_data, Ceremony::Assertion)?,
        })
    }

    /// Returns the challenge, which the authenticator received and whose SID identifies the stored challenge.
    pub const fn challenge(&self) -> &PasskeyChallenge {
        &self.client_data.challenge
    }

    /// Checks that the client data contain the challenge with this SHA-256 digest, and one of the origins in the form
    /// that [`parse_origin`](super::relying_party::parse_origin) returns.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn check(
        self,
        challenge_digest: &[u8; 32],
        origins: &[String],
    ) -> Result<CheckedAssertion, Rejection> {
        self.client_data.check(challenge_digest, origins)?;
        Ok(CheckedAssertion(self))
    }
}

impl CheckedAssertion {
    /// Returns the ID of the credential, with which the caller finds the stored one.
    pub const fn credential_id(&self) -> &CredentialId {
        &self.0.id
    }

    /// Checks the user, the authenticator data, the signature and the counter.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn verify(&self, expected: &ExpectedAssertion<'_>) -> Result<Assertion, Rejection> {
        self.check_user_handle(expected)?;

        let bytes = decode_base64url(&self.0.authenticator_data, MAX_VALUE_BYTES);
        let bytes = bytes.ok_or(Rejection::AuthenticatorData)?;
        let data = AuthenticatorData::parse(&bytes)?;
        data.check(expected.relying_party_id, expected.requires_user_verification)?;
        let credential = &expected.credential;
        if data.is_backup_eligible() != credential.is_backup_eligible {
            return Err(Rejection::BackupEligibility);
        }
        data.check_end()?;

        let signature =
            decode_base64url(&self.0.signature, MAX_SIGNATURE_BYTES).ok_or(Rejection::Signature)?;
        let message = [&bytes[..], &self.0.client_data.digest].concat();
        if !credential.public_key.verify(&message, &signature) {
            return Err(Rejection::Signature);
        }

        // Authenticators without a counter, such as those that synchronize their keys, always report 0.
        let has_counter = data.sign_count != 0 || credential.sign_count != 0;
        if has_counter && data.sign_count <= credential.sign_count {
            return Err(Rejection::Counter);
        }
        Ok(Assertion {
            sign_count: data.sign_count,
            is_user_verified: data.is_user_verified(),
            is_backed_up: data.is_backed_up(),
        })
    }

    fn check_user_handle(&self, expected: &ExpectedAssertion<'_>) -> Result<(), Rejection> {
        // Some clients send an empty text for an absent handle.
        let Some(user_handle) = self.0.user_handle.as_deref().filter(|text| !text.is_empty()) else {
            return if expected.requires_user_handle { Err(Rejection::MissingUserHandle) } else { Ok(()) };
        };
        let is_expected = decode_base64url(user_handle, MAX_USER_HANDLE_BYTES)
            .is_some_and(|bytes| bytes == expected.user_handle.as_bytes());
        is_expected.then_some(()).ok_or(Rejection::UserHandle)
    }
}
