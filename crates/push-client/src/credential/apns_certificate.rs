//! APNs certificates: TLS client certificates that Apple issues for one app each, with their private keys.

use domain::Timestamp;
use domain::credentials::CredentialType;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use x509_cert::der::asn1::Any;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::spki::SubjectPublicKeyInfoRef;
use x509_cert::{Certificate, TbsCertificate};

use super::private_key::PrivateKey;
use super::{CredentialField, CredentialSummary, Environment, InvalidCredential, InvalidReason, pem};
use crate::transport::Identity;

/// Description of the supported private keys, for error messages.
const SUPPORTED_KEYS: &str =
    "RSA with 2048 to 8192 bits, or EC on P-256, P-384 or P-521, in PKCS#8, PKCS#1 or SEC1";

// Attributes of the certificate's subject: the app's bundle id, the certificate type followed by the bundle
// id, and the team id.
const USER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

// Apple's certificate extensions (WWDR certification practice statement): valid in the sandbox, valid in
// production, and the list of topics.
const SANDBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.1");
const PRODUCTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.2");
const TOPICS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.6");

/// An APNs certificate chain and the private key of its leaf.
#[derive(Clone)]
pub struct ApnsCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    environment: Environment,
    topics: Vec<String>,
    team: Option<String>,
    not_after: Timestamp,
}

impl ApnsCertificate {
    /// Parses a certificate chain and its private key, each in PEM or base64.
    pub(super) fn parse(
        certificate: &str,
        key: &str,
        environment: Environment,
    ) -> Result<Self, InvalidCredential> {
        let chain = pem::decode_sections(certificate, "CERTIFICATE", |label| label == "CERTIFICATE")
            .map_err(|reason| CredentialField::Certificate.invalid(reason))?;
        let key = PrivateKey::parse(key, SUPPORTED_KEYS)
            .map_err(|reason| CredentialField::PrivateKey.invalid(reason))?;
        Self::new(chain.iter().map(|der| der.to_vec()).collect(), key, environment)
    }

    /// Builds the credential from DER certificates in any order. An expired certificate is accepted, so that
    /// stored credentials still load after they expire.
    pub(super) fn new(
        mut chain: Vec<Vec<u8>>,
        key: PrivateKey,
        environment: Environment,
    ) -> Result<Self, InvalidCredential> {
        let invalid = |reason| CredentialField::Certificate.invalid(reason);
        let parsed = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let mut parsed = parsed.map_err(|_| invalid(InvalidReason::NotACertificate))?;
        let leaf_position =
            position_of(&key, &parsed).map_err(|reason| CredentialField::PrivateKey.invalid(reason))?;
        // Some tools write the issuer's certificate first, but TLS requires the leaf certificate first.
        parsed[..=leaf_position].rotate_right(1);
        chain[..=leaf_position].rotate_right(1);
        let leaf = parsed[0].tbs_certificate();

        if let Some(only) = only_environment(leaf).filter(|only| *only != environment) {
            return Err(invalid(InvalidReason::WrongEnvironment(only)));
        }
        let not_after = leaf.validity().not_after.to_unix_duration().as_secs();
        Ok(Self {
            environment,
            topics: topics(leaf),
            team: attribute(leaf, ORGANIZATIONAL_UNIT).map(str::to_owned),
            not_after: Timestamp::from_seconds(i64::try_from(not_after).unwrap_or(i64::MAX)),
            chain: chain.into_iter().map(CertificateDer::from).collect(),
            key,
        })
    }

    /// Returns the credential for `environment`, or an error if the certificate is limited to the other
    /// environment.
    pub(super) fn in_environment(self, environment: Environment) -> Result<Self, InvalidCredential> {
        Self::new(self.chain.iter().map(|der| der.to_vec()).collect(), self.key, environment)
    }

    pub(super) fn summary(&self) -> CredentialSummary {
        CredentialSummary {
            kind: CredentialType::Apn,
            topics: self.topics.clone(),
            team: self.team.clone(),
            project: None,
            environment: Some(self.environment),
            not_after: Some(self.not_after),
        }
    }

    /// Returns the certificate chain in DER, with the leaf first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the certificate's private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Returns the time at which the leaf certificate expires.
    pub(crate) const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns the APNs environment that pushes are sent to.
    pub(crate) const fn environment(&self) -> Environment {
        self.environment
    }

    /// Returns the certificate chain and private key for the TLS handshake.
    pub(crate) fn identity(&self) -> Identity {
        (self.chain.clone(), self.key.typed().clone_key())
    }
}

/// Returns the position of the certificate that `key` belongs to. Parses the key with the library that later
/// signs with it, so that every accepted key can sign.
fn position_of(key: &PrivateKey, certificates: &[Certificate]) -> Result<usize, InvalidReason> {
    let key = any_supported_type(key.typed()).map_err(|_| InvalidReason::UnsupportedKey(SUPPORTED_KEYS))?;
    let info = key.public_key().ok_or(InvalidReason::UnsupportedKey(SUPPORTED_KEYS))?;
    let info = SubjectPublicKeyInfoRef::try_from(info.as_ref())
        .map_err(|_| InvalidReason::UnsupportedKey(SUPPORTED_KEYS))?;
    let public_key = info.subject_public_key.raw_bytes();
    let matches_key = |certificate: &Certificate| {
        let info = certificate.tbs_certificate().subject_public_key_info();
        info.subject_public_key.raw_bytes() == public_key
    };
    certificates.iter().position(matches_key).ok_or(InvalidReason::KeyMismatch)
}

/// Returns the environment that the certificate is limited to, or `None` if it is valid in both. Current
/// certificates are valid in both environments or list topics; older ones were issued for one environment.
fn only_environment(certificate: &TbsCertificate) -> Option<Environment> {
    let has = |oid| extension(certificate, oid).is_some();
    match (has(SANDBOX), has(PRODUCTION), has(TOPICS)) {
        (true, false, false) => Some(Environment::Sandbox),
        (false, true, false) => Some(Environment::Production),
        _ => None,
    }
}

/// Returns the topics that the certificate is valid for, without duplicates, the app's bundle id first. The
/// topics extension is a sequence in which each topic is followed by its kinds.
fn topics(certificate: &TbsCertificate) -> Vec<String> {
    let bundle_id = attribute(certificate, USER_ID).or_else(|| {
        let (kind, app) = attribute(certificate, COMMON_NAME)?.split_once(": ")?;
        kind.ends_with("Push Services").then_some(app)
    });
    let listed = extension(certificate, TOPICS).and_then(|value| Vec::<Any>::from_der(value).ok());
    let listed = listed.unwrap_or_default();
    let listed = listed.iter().filter(|item| item.tag() == Tag::Utf8String).filter_map(text);
    let mut topics: Vec<String> = Vec::new();
    for topic in bundle_id.into_iter().chain(listed) {
        if !topics.iter().any(|known| known == topic) {
            topics.push(topic.to_owned());
        }
    }
    topics
}

/// Returns the text of the subject attribute `oid`, or `None` if the subject has no such attribute.
fn attribute(certificate: &TbsCertificate, oid: ObjectIdentifier) -> Option<&str> {
    certificate.subject().iter().find(|attribute| attribute.oid == oid).and_then(|found| text(&found.value))
}

/// Returns the content of the extension `oid`, or `None` if the certificate has no such extension.
fn extension(certificate: &TbsCertificate, oid: ObjectIdentifier) -> Option<&[u8]> {
    let mut extensions = certificate.extensions().into_iter().flatten();
    extensions.find(|extension| extension.extn_id == oid).map(|found| found.extn_value.as_bytes())
}

/// Decodes an ASN.1 string. Returns `None` if the string is empty or contains control characters. All string
/// types that Apple uses are subsets of UTF-8.
fn text(value: &Any) -> Option<&str> {
    str::from_utf8(value.value()).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}
