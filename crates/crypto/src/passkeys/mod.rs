//! Passkeys: the checks of the relying party (Web Authentication Level 3, sections 7.1 and 7.2).
//!
//! | Question | File |
//! | --- | --- |
//! | Which domains and origins can a relying party have? | [`relying_party`] |
//! | What is the challenge that an authenticator signs? | [`challenge`] |
//! | What must the browser have recorded? | `client_data.rs` |
//! | What must the authenticator have recorded? | `authenticator_data.rs` |
//! | Which public keys are accepted? | [`public_key`] |
//! | How is CBOR decoded? | `cbor.rs` |
//! | What do browsers receive? | `options.rs` |
//! | In which order is a registration checked? | [`registration`] |
//! | In which order is a sign-in checked? | [`assertion`] |
//! | Which check failed? | [`Rejection`] |
//!
//! Attestation statements are decoded but not verified, because the server asks for none. A key therefore counts as
//! unattested.
//!
//! All input has a maximum length, and base64url is accepted only without padding.

pub mod assertion;
mod authenticator_data;
mod cbor;
pub mod challenge;
mod client_data;
mod credential_id;
mod json;
mod options;
pub mod public_key;
pub mod registration;
mod rejection;
pub mod relying_party;

pub use assertion::{Assertion, AssertionResponse, CheckedAssertion, ExpectedAssertion, StoredCredential};
pub use challenge::PasskeyChallenge;
pub use credential_id::{format_credential_id, parse_credential_id};
pub use options::{creation_options, request_options, with_challenge};
pub use public_key::PasskeyPublicKey;
pub use registration::{ExpectedRegistration, Registration, RegistrationResponse};
pub use rejection::Rejection;

pub use domain::factors::passkey::{CoseAlgorithm, CredentialId};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Maximum length in bytes of the value that a base64url text of the client encodes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Returns the SHA-256 digest of `bytes`, with which Web Authentication refers to client data and relying parties.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Decodes base64url without padding. Returns `None` if the text is malformed or encodes more than `max_bytes` bytes.
fn decode_base64url(text: &str, max_bytes: usize) -> Option<Vec<u8>> {
    let is_short = text.len() <= max_bytes.saturating_mul(4).div_ceil(3);
    is_short.then(|| URL_SAFE_NO_PAD.decode(text).ok())?
}
