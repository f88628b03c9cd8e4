//! APNs keys (`.p8`), which sign provider tokens for all apps of a team. Twilio's API has no fields for such
//! keys; they are an extension of this server.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair,
};
use domain::credentials::CredentialType;

use super::private_key::PrivateKey;
use super::{CredentialField, CredentialSummary, Environment, InvalidCredential, InvalidReason};

/// Description of the supported private keys, for error messages.
const SUPPORTED_KEYS: &str = "EC on P-256, in PKCS#8 or SEC1";

/// A P-256 key that signs provider tokens, its key id, and its team's id.
#[derive(Clone)]
pub struct ApnsToken {
    pair: Arc<EcdsaKeyPair>,
    key: PrivateKey,
    key_id: String,
    team_id: String,
    environment: Environment,
}

impl ApnsToken {
    /// Parses the private key from PEM or base64. Whitespace around the two ids is ignored.
    pub(super) fn parse(
        key: &str,
        key_id: &str,
        team_id: &str,
        environment: Environment,
    ) -> Result<Self, InvalidCredential> {
        let key = PrivateKey::parse(key, SUPPORTED_KEYS)
            .map_err(|reason| CredentialField::PrivateKey.invalid(reason))?;
        Self::new(key, key_id.trim(), team_id.trim(), environment)
    }

    /// Builds the credential. Returns an error if the key is not a P-256 key or an id does not have ten
    /// letters and digits.
    pub(super) fn new(
        key: PrivateKey,
        key_id: &str,
        team_id: &str,
        environment: Environment,
    ) -> Result<Self, InvalidCredential> {
        let pair = parse_key_pair(key.der()).map_err(|reason| CredentialField::PrivateKey.invalid(reason))?;
        for (field, id) in [(CredentialField::KeyId, key_id), (CredentialField::TeamId, team_id)] {
            if id.len() != 10 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(field.invalid(InvalidReason::NotTenCharacters));
            }
        }
        let (key_id, team_id) = (key_id.to_owned(), team_id.to_owned());
        Ok(Self { pair: Arc::new(pair), key, key_id, team_id, environment })
    }

    pub(super) fn in_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    pub(super) fn summary(&self) -> CredentialSummary {
        CredentialSummary {
            kind: CredentialType::Apn,
            topics: Vec::new(),
            team: Some(self.team_id.clone()),
            project: None,
            environment: Some(self.environment),
            not_after: None,
        }
    }

    /// Returns the private key that signs provider tokens.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Returns the key id that Apple assigned, which has ten characters.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the team id that Apple assigned, which has ten characters.
    pub(crate) fn team_id(&self) -> &str {
        &self.team_id
    }

    /// Returns the APNs environment that pushes are sent to.
    pub(crate) const fn environment(&self) -> Environment {
        self.environment
    }

    /// Signs `message` with ES256 and returns the 64-byte signature (RFC 7518 section 3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        self.pair.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
    }
}

/// Parses a P-256 key pair from DER. If the key is of another type, the error says why it was rejected.
fn parse_key_pair(key: &[u8]) -> Result<EcdsaKeyPair, InvalidReason> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key).map_err(|_| {
        let is_other_curve = [&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P521_SHA512_FIXED_SIGNING]
            .into_iter()
            .any(|curve| EcdsaKeyPair::from_private_key_der(curve, key).is_ok());
        if is_other_curve || RsaKeyPair::from_pkcs8(key).is_ok() {
            InvalidReason::WrongCurve
        } else {
            InvalidReason::UnsupportedKey(SUPPORTED_KEYS)
        }
    })
}
