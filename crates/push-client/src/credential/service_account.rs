//! Service accounts of Firebase projects, whose key signs requests for access tokens.

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
use super::{CredentialField, CredentialSummary, InvalidCredential, InvalidReason, without_bom};

/// The token endpoint of accounts whose file does not name one.
const DEFAULT_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// Description of the supported keys for error messages.
const SUPPORTED_KEYS: &str = "an RSA key of 2048 to 8192 bits in PEM";

/// The fields of a service account file that this crate uses.
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
    /// Parses the JSON file.
    pub(super) fn parse(json: &str) -> Result<Self, InvalidCredential> {
        Self::parse_json(without_bom(json).trim())
            .map_err(|reason| CredentialField::ServiceAccount.invalid(reason))
    }

    fn parse_json(json: &str) -> Result<Self, InvalidReason> {
        let not_json = if is_legacy_key(json) { InvalidReason::LegacyKey } else { InvalidReason::NotJson };
        let file: Map<String, Value> = serde_json::from_str(json).map_err(|_| not_json)?;
        let field = |name: &'static str| match file.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(InvalidReason::MissingJsonField(name)),
        };
        if field("type")? != "service_account" {
            return Err(InvalidReason::InvalidJsonField { field: "type", expected: "service_account" });
        }
        let invalid_key = InvalidReason::InvalidJsonField { field: "private_key", expected: SUPPORTED_KEYS };
        let key = PrivateKey::parse(field("private_key")?, SUPPORTED_KEYS).map_err(|_| invalid_key)?;
        Self::new(
            key,
            field("private_key_id").ok(),
            field("project_id")?,
            field("client_email")?,
            field("token_uri").unwrap_or(DEFAULT_TOKEN_URI),
        )
    }

    /// Builds the credential and validates key, project id and token URI.
    pub(super) fn new(
        key: PrivateKey,
        key_id: Option<&str>,
        project_id: &str,
        client_email: &str,
        token_uri: &str,
    ) -> Result<Self, InvalidReason> {
        let pair = parse_key_pair(&key)
            .ok_or(InvalidReason::InvalidJsonField { field: "private_key", expected: SUPPORTED_KEYS })?;
        if !is_project_id(project_id) {
            return Err(InvalidReason::InvalidJsonField { field: "project_id", expected: "a project id" });
        }
        let token_uri = Url::parse(token_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .ok_or(InvalidReason::InvalidJsonField { field: "token_uri", expected: "a web address" })?;
        Ok(Self {
            pair: Arc::new(pair),
            key,
            key_id: key_id.map(str::to_owned),
            project_id: project_id.to_owned(),
            client_email: client_email.to_owned(),
            token_uri,
        })
    }

    pub(super) fn summary(&self) -> CredentialSummary {
        CredentialSummary {
            kind: CredentialType::Fcm,
            topics: Vec::new(),
            team: None,
            project: Some(self.project_id.clone()),
            environment: None,
            not_after: None,
        }
    }

    /// Returns the private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Returns the key id that Google assigned.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Returns the id of the project whose apps the account may push to.
    pub(crate) fn project_id(&self) -> &str {
        &self.project_id
    }

    /// Returns the email address that identifies the account.
    pub(crate) fn client_email(&self) -> &str {
        &self.client_email
    }

    /// Returns the token endpoint that the file names. It serves as audience only and is never called.
    pub(crate) const fn token_uri(&self) -> &Url {
        &self.token_uri
    }

    /// Signs `message` with RS256 (RFC 7518 section 3.3).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

/// Parses an RSA key pair.
fn parse_key_pair(key: &PrivateKey) -> Option<KeyPair> {
    match key.typed() {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// Returns whether `text` is safe to use in the path of a URL. Old project ids begin with a domain:
/// `example.com:project`.
fn is_project_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(allowed) && !text.bytes().all(|byte| byte == b'.')
}

/// Returns whether `text` is a key of the legacy FCM API: `AAAA…:…` with 152 characters, or the older `AIza…`
/// with 39.
fn is_legacy_key(text: &str) -> bool {
    let has_key_characters =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte));
    has_key_characters(text) && (text.starts_with("AAAA") && text.contains(':') || text.starts_with("AIza"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_id_has_1_to_100_letters_digits_dots_dashes_and_colons() {
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
    fn legacy_key_is_recognized_by_its_prefix() {
        for key in ["AAAA1234:a_-B", "AIzaSy-_x", "AAAA:"] {
            assert!(is_legacy_key(key), "{key}");
        }
        for other in ["", "AAAA1234", "xAAAA:", "a:b", "AAAA:ä", "AAAA:{}", "AIza {}", "Sy-_x"] {
            assert!(!is_legacy_key(other), "{other}");
        }
    }
}
