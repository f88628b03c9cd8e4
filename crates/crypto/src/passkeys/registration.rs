//! Registrations: the response with which an authenticator introduces a new credential (Web Authentication section
//! 7.1).

use serde_json::{Map, Value};

use super::authenticator_data::AuthenticatorData;
use super::cbor::{self, Value as Cbor};
use super::client_data::{Ceremony, ClientData};
use super::credential_id::StatedId;
use super::json::{Credential, required_text};
use super::{CredentialId, MAX_VALUE_BYTES, PasskeyChallenge, PasskeyPublicKey, Rejection, decode_base64url};

/// Maximum number of transports that are kept, and the maximum length of each. Six are registered.
const MAX_TRANSPORTS: usize = 8;
const MAX_TRANSPORT_BYTES: usize = 32;

/// The response to a registration, of which only the form has been checked.
#[derive(Clone, Debug)]
pub struct RegistrationResponse {
    id: Option<StatedId>,
    client_data: ClientData,
    attestation_object: String,
    transports: Vec<String>,
}

/// The values that a registration must match.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedRegistration<'a> {
    /// SHA-256 digest of the challenge.
    pub challenge_digest: &'a [u8; 32],
    /// Accepted origins, in the form that [`parse_origin`](super::relying_party::parse_origin) returns.
    pub origins: &'a [String],
    /// ID of the relying party, in lower case.
    pub relying_party_id: &'a str,
    /// Whether the authenticator must have verified the user.
    pub requires_user_verification: bool,
}

/// A checked registration: the credential to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// ID of the credential.
    pub credential_id: CredentialId,
    /// Public key of the credential.
    pub public_key: PasskeyPublicKey,
    /// Signature counter of the authenticator.
    pub sign_count: u32,
    /// ID of the authenticator's model; zeros if it is not disclosed. It is not attested.
    pub aaguid: [u8; 16],
    /// Whether the authenticator verified the user.
    pub is_user_verified: bool,
    /// Whether the credential may be backed up. This never changes.
    pub is_backup_eligible: bool,
    /// Whether the credential is backed up.
    pub is_backed_up: bool,
    /// Transports with which the authenticator can be reached, such as `internal`. They may be unknown to the server.
    pub transports: Vec<String>,
}

impl RegistrationResponse {
    /// Parses the JSON of a registration and its client data. Accepts camel case and snake case, treats null as absent,
    /// and ignores other members.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn parse(credential: &Value) -> Result<Self, Rejection> {
        let Credential { id, response } = Credential::parse(credential)?;
        let client_data = required_text(response, &["clientDataJSON", "client_data_json"])?;
        let attestation_object = required_text(response, &["attestationObject", "attestation_object"])?;
        Ok(Self {
            id,
            attestation_object: attestation_object.to_owned(),
            transports: transports(response)?,
            client_data: ClientData::parse(client_data, Ceremony::Registration)?,
        })
    }

    /// Returns the challenge, which the authenticator received and whose SID identifies the factor.
    pub const fn challenge(&self) -> &PasskeyChallenge {
        &self.client_data.challenge
    }

    /// Checks the registration, and returns the credential to store. The caller must check that no other account of the
    /// relying party has the same credential ID.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn verify(self, expected: &ExpectedRegistration<'_>) -> Result<Registration, Rejection> {
        self.client_data.check(expected.challenge_digest, expected.origins)?;

        let object = decode_base64url(&self.attestation_object, MAX_VALUE_BYTES);
        let object = object.ok_or(Rejection::AttestationObject)?;
        let data = authenticator_data(&object).ok_or(Rejection::AttestationObject)?;
        let data = AuthenticatorData::parse(data)?;
        data.check(expected.relying_party_id, expected.requires_user_verification)?;

        let credential = data.attested_credential()?;
        if let Some(stated) = &self.id {
            stated.require(&credential.id)?;
        }
        let (key, rest) = credential.decode_key()?;
        let public_key = PasskeyPublicKey::from_cose(&key)?;
        data.check_rest(rest)?;
        Ok(Registration {
            credential_id: credential.id,
            public_key,
            sign_count: data.sign_count,
            aaguid: credential.aaguid,
            is_user_verified: data.is_user_verified(),
            is_backup_eligible: data.is_backup_eligible(),
            is_backed_up: data.is_backed_up(),
            transports: self.transports,
        })
    }
}

/// Returns the authenticator data of an attestation object. Returns `None` if the object is malformed.
fn authenticator_data(object: &[u8]) -> Option<&[u8]> {
    let (object, rest) = cbor::decode_map(object)?;
    let members = (object.text_key("fmt")?, object.text_key("attStmt")?, object.text_key("authData")?);
    match members {
        (Cbor::Text(_), Cbor::Map(_), Cbor::Bytes(data)) if rest.is_empty() => Some(data),
        _ => None,
    }
}

/// Returns the transports in `response`. Unknown ones are kept, as the specification asks; malformed ones are left out.
fn transports(response: &Map<String, Value>) -> Result<Vec<String>, Rejection> {
    let transports = match response.get("transports") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(transports) => transports.as_array().ok_or(Rejection::Response)?,
    };
    let mut kept: Vec<String> = Vec::new();
    for transport in transports.iter().filter_map(Value::as_str) {
        let is_new = !kept.iter().any(|known| known == transport);
        if is_new && is_transport(transport) && kept.len() < MAX_TRANSPORTS {
            kept.push(transport.to_owned());
        }
    }
    Ok(kept)
}

fn is_transport(text: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_TRANSPORT_BYTES).contains(&text.len()) && text.bytes().all(is_valid)
}
