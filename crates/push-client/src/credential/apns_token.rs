//! A key that Apple made for a team (`.p8`): who signs provider tokens with it may push to all of the
//! team's apps. Twilio's credentials have no fields for it; ours do.

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
use super::{Environment, Fault, Field, Invalid, Summary};

/// What the key must be.
const KEY: &str = "EC on P-256, in PKCS#8 or SEC1";

/// A key on P-256, its id and its team's.
#[derive(Clone)]
pub struct ApnsToken {
    pair: Arc<EcdsaKeyPair>,
    key: PrivateKey,
    key_id: String,
    team_id: String,
    environment: Environment,
}

impl ApnsToken {
    pub(super) fn parse(
        key: &str,
        key_id: &str,
        team_id: &str,
        environment: Environment,
    ) -> Result<Self, Invalid> {
        let key = PrivateKey::parse(key, KEY).map_err(|fault| Field::PrivateKey.fault(fault))?;
        Self::new(key, key_id.trim(), team_id.trim(), environment)
    }

    pub(super) fn new(
        key: PrivateKey,
        key_id: &str,
        team_id: &str,
        environment: Environment,
    ) -> Result<Self, Invalid> {
        let pair = pair(key.der()).map_err(|fault| Field::PrivateKey.fault(fault))?;
        for (field, id) in [(Field::KeyId, key_id), (Field::TeamId, team_id)] {
            if id.len() != 10 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(field.fault(Fault::NotTenCharacters));
            }
        }
        let (key_id, team_id) = (key_id.to_owned(), team_id.to_owned());
        Ok(Self { pair: Arc::new(pair), key, key_id, team_id, environment })
    }

    pub(super) fn in_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            kind: CredentialType::Apn,
            topics: Vec::new(),
            team: Some(self.team_id.clone()),
            project: None,
            environment: Some(self.environment),
            not_after: None,
        }
    }

    /// The private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The key's name at Apple.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The team's name at Apple.
    pub(crate) fn team_id(&self) -> &str {
        &self.team_id
    }

    /// Where its pushes go to.
    pub(crate) const fn environment(&self) -> Environment {
        self.environment
    }

    /// A signature as ES256 has it: 64 bytes (RFC 7518 section 3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        self.pair.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
    }
}

fn pair(key: &[u8]) -> Result<EcdsaKeyPair, Fault> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key).map_err(|_| {
        let other_curve = [&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P521_SHA512_FIXED_SIGNING]
            .into_iter()
            .any(|curve| EcdsaKeyPair::from_private_key_der(curve, key).is_ok());
        if other_curve || RsaKeyPair::from_pkcs8(key).is_ok() {
            Fault::OtherCurve
        } else {
            Fault::UnsupportedKey(KEY)
        }
    })
}
