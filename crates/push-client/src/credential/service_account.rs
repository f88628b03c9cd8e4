//! A service account of a Firebase project: who signs with its key may ask Google for access tokens.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use domain::credentials::CredentialType;
use reqwest::Url;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, Value};

use super::private_key::PrivateKey;
use super::{Fault, Field, Invalid, Summary, without_bom};

/// Where Google gives out access tokens, if the file does not say.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// What the key must be.
const KEY: &str = "an RSA key of 2048 to 8192 bits in PEM";

/// What is used of the file.
#[derive(Clone)]
pub struct ServiceAccount {
    pair: Arc<KeyPair>,
    key: PrivateKey,
    key_id: Option<String>,
    project_id: String,
    client_email: String,
    token_uri: Url,
}

impl ServiceAccount {
    pub(super) fn parse(json: &str) -> Result<Self, Invalid> {
        Self::read(without_bom(json).trim()).map_err(|fault| Field::ServiceAccount.fault(fault))
    }

    fn read(json: &str) -> Result<Self, Fault> {
        let fault = if is_legacy_key(json) { Fault::LegacyKey } else { Fault::NotJson };
        let file: Map<String, Value> = serde_json::from_str(json).map_err(|_| fault)?;
        let field = |name: &'static str| match file.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(Fault::Missing(name)),
        };
        if field("type")? != "service_account" {
            return Err(Fault::Malformed { field: "type", expected: "service_account" });
        }
        let malformed = Fault::Malformed { field: "private_key", expected: KEY };
        let key = PrivateKey::parse(field("private_key")?, KEY).map_err(|_| malformed)?;
        Self::new(
            key,
            field("private_key_id").ok(),
            field("project_id")?,
            field("client_email")?,
            field("token_uri").unwrap_or(TOKEN_URI),
        )
    }

    pub(super) fn new(
        key: PrivateKey,
        key_id: Option<&str>,
        project_id: &str,
        client_email: &str,
        token_uri: &str,
    ) -> Result<Self, Fault> {
        let pair = pair(&key).ok_or(Fault::Malformed { field: "private_key", expected: KEY })?;
        if !is_project_id(project_id) {
            return Err(Fault::Malformed { field: "project_id", expected: "a project id" });
        }
        let token_uri = Url::parse(token_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .ok_or(Fault::Malformed { field: "token_uri", expected: "a web address" })?;
        Ok(Self {
            pair: Arc::new(pair),
            key,
            key_id: key_id.map(str::to_owned),
            project_id: project_id.to_owned(),
            client_email: client_email.to_owned(),
            token_uri,
        })
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            kind: CredentialType::Fcm,
            topics: Vec::new(),
            team: None,
            project: Some(self.project_id.clone()),
            environment: None,
            not_after: None,
        }
    }

    /// The private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The key's name at Google.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The project whose apps it may push to.
    pub(crate) fn project_id(&self) -> &str {
        &self.project_id
    }

    /// The account's name.
    pub(crate) fn client_email(&self) -> &str {
        &self.client_email
    }

    /// Where its access tokens come from, as the file says. It names an audience, and no address to call.
    pub(crate) const fn token_uri(&self) -> &Url {
        &self.token_uri
    }

    /// A signature as RS256 has it (RFC 7518 section 3.3).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

fn pair(key: &PrivateKey) -> Option<KeyPair> {
    match key.typed() {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// The project becomes a part of an address. Old ones begin with a domain: `example.com:project`.
fn is_project_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(allowed) && !text.bytes().all(|byte| byte == b'.')
}

/// Keys of FCM's old API: `AAAA…:…` with 152 characters, and before that `AIza…` with 39.
fn is_legacy_key(text: &str) -> bool {
    let key = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte));
    key(text) && (text.starts_with("AAAA") && text.contains(':') || text.starts_with("AIza"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_id_is_1_to_100_letters_digits_and_marks() {
        for (length, is_id) in [(0, false), (1, true), (100, true), (101, false)] {
            assert_eq!(is_project_id(&"a".repeat(length)), is_id, "{length}");
        }
        for good in ["owl-bank", "example.com:owl-bank", "7", "a.", ".a"] {
            assert!(is_project_id(good), "{good}");
        }
        for bad in [".", "..", "a/b", "a_b", "a b", "ä", "a?b", "a#b"] {
            assert!(!is_project_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_legacy_key_is_known_by_its_beginning() {
        for key in ["AAAA1234:a_-B", "AIzaSy-_x", "AAAA:"] {
            assert!(is_legacy_key(key), "{key}");
        }
        for other in ["", "AAAA1234", "xAAAA:", "a:b", "AAAA:ä", "AAAA:{}", "AIza {}", "Sy-_x"] {
            assert!(!is_legacy_key(other), "{other}");
        }
    }
}
