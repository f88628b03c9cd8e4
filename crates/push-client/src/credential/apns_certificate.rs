//! A certificate that Apple made for one app, and its private key: who shows it in the TLS handshake may
//! push to that app's devices.

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
use super::{Environment, Fault, Field, Invalid, Summary, pem};
use crate::transport::Identity;

/// What a certificate's key can be.
const KEYS: &str = "RSA with 2048 to 8192 bits, or EC on P-256, P-384 or P-521, in PKCS#8, PKCS#1 or SEC1";

/// Attributes of the subject: the bundle id, the same in words, and the team.
const USER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

/// Apple's extensions (WWDR certification practice statement): good in the sandbox, good in production,
/// and for which topics.
const SANDBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.1");
const PRODUCTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.2");
const TOPICS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.6");

/// A certificate with its key, which is known to fit.
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
    pub(super) fn parse(certificate: &str, key: &str, environment: Environment) -> Result<Self, Invalid> {
        let chain = pem::sections(certificate, "CERTIFICATE", |label| label == "CERTIFICATE")
            .map_err(|fault| Field::Certificate.fault(fault))?;
        let key = PrivateKey::parse(key, KEYS).map_err(|fault| Field::PrivateKey.fault(fault))?;
        Self::new(chain.iter().map(|der| der.to_vec()).collect(), key, environment)
    }

    /// The certificate, its issuers in any order, and its key, in DER. Whether it is still good is for the
    /// caller to see, since a stored one may have expired meanwhile.
    pub(super) fn new(
        mut chain: Vec<Vec<u8>>,
        key: PrivateKey,
        environment: Environment,
    ) -> Result<Self, Invalid> {
        let fault = |fault| Field::Certificate.fault(fault);
        let parsed = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let mut parsed = parsed.map_err(|_| fault(Fault::NotACertificate))?;
        let of_key = position_of(&key, &parsed).map_err(|fault| Field::PrivateKey.fault(fault))?;
        // Some tools write the issuer first. TLS wants the certificate of the key first.
        parsed[..=of_key].rotate_right(1);
        chain[..=of_key].rotate_right(1);
        let leaf = parsed[0].tbs_certificate();

        if let Some(only) = only_good_in(leaf).filter(|only| *only != environment) {
            return Err(fault(Fault::OtherEnvironment(only)));
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

    pub(super) fn in_environment(self, environment: Environment) -> Result<Self, Invalid> {
        Self::new(self.chain.iter().map(|der| der.to_vec()).collect(), self.key, environment)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            kind: CredentialType::Apn,
            topics: self.topics.clone(),
            team: self.team.clone(),
            project: None,
            environment: Some(self.environment),
            not_after: Some(self.not_after),
        }
    }

    /// The certificates in DER, the app's own first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// When it ends.
    pub(crate) const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Where its pushes go to.
    pub(crate) const fn environment(&self) -> Environment {
        self.environment
    }

    /// What the TLS client shows.
    pub(crate) fn identity(&self) -> Identity {
        (self.chain.clone(), self.key.typed().clone_key())
    }
}

/// The position of the certificate that the key belongs to. The key is read by the library that signs with it
/// later, so what is accepted here works there.
fn position_of(key: &PrivateKey, certificates: &[Certificate]) -> Result<usize, Fault> {
    let key = any_supported_type(key.typed()).map_err(|_| Fault::UnsupportedKey(KEYS))?;
    let info = key.public_key().ok_or(Fault::UnsupportedKey(KEYS))?;
    let info = SubjectPublicKeyInfoRef::try_from(info.as_ref()).map_err(|_| Fault::UnsupportedKey(KEYS))?;
    let public_key = info.subject_public_key.raw_bytes();
    let is_of_key = |certificate: &Certificate| {
        let info = certificate.tbs_certificate().subject_public_key_info();
        info.subject_public_key.raw_bytes() == public_key
    };
    certificates.iter().position(is_of_key).ok_or(Fault::OtherKey)
}

/// The only environment that the certificate is good in, if it says so. Today's certificates name both,
/// or all their topics; older ones were made for one environment.
fn only_good_in(certificate: &TbsCertificate) -> Option<Environment> {
    let has = |oid| extension(certificate, oid).is_some();
    match (has(SANDBOX), has(PRODUCTION), has(TOPICS)) {
        (true, false, false) => Some(Environment::Sandbox),
        (false, true, false) => Some(Environment::Production),
        _ => None,
    }
}

/// The bundle id, then what else the certificate lists. The list is a sequence of a topic, the kinds of
/// it, the next topic, and so on.
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

fn attribute(certificate: &TbsCertificate, oid: ObjectIdentifier) -> Option<&str> {
    certificate.subject().iter().find(|attribute| attribute.oid == oid).and_then(|found| text(&found.value))
}

fn extension(certificate: &TbsCertificate, oid: ObjectIdentifier) -> Option<&[u8]> {
    let mut extensions = certificate.extensions().into_iter().flatten();
    extensions.find(|extension| extension.extn_id == oid).map(|found| found.extn_value.as_bytes())
}

/// Any of ASN.1's text types in which Apple writes: all of them are subsets of UTF-8.
fn text(value: &Any) -> Option<&str> {
    str::from_utf8(value.value()).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}
