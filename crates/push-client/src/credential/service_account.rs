//! Google service accounts of Firebase projects. Their keys sign requests for access tokens.

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

/// The token endpoint used if a service account file has no `token_uri`.
const DEFAULT_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// Description of the supported private keys, for error messages.
const SUPPORTED_KEYS: &str = "an RSA key of 2048 to 8192 bits in PEM";

/// A Google service account: those fields of its JSON file that this crate uses.
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
    /// Parses the JSON file of a service account.
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

    /// Builds the credential. Returns an error if the key, the project id, or the token URI is invalid.
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

    /// Returns the service account's private key.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Returns the key id that Google assigned, or `None` if the file has none.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Returns the id of the Firebase project whose apps can receive pushes with this account.
    pub(crate) fn project_id(&self) -> &str {
        &self.project_id
    }

    /// Returns the email address that identifies the service account.
    pub(crate) fn client_email(&self) -> &str {
        &self.client_email
    }

    /// Returns the token endpoint from the file, or Google's default. The URL is used only as the `aud` claim
    /// and never called.
    pub(crate) const fn token_uri(&self) -> &Url {
        &self.token_uri
    }

    /// Signs `message` with RS256 and returns the signature (RFC 7518 section 3.3).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

/// Parses an RSA key pair in PKCS#8 or PKCS#1. Returns `None` for other keys.
fn parse_key_pair(key: &PrivateKey) -> Option<KeyPair> {
    match key.typed() {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// Returns whether `text` has 1 to 100 characters that are safe in a URL path. Old project ids begin with a
/// domain: `example.com:project`.
fn is_project_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(allowed) && !text.bytes().all(|byte| byte == b'.')
}

/// Returns whether `text` looks like a server key of the legacy FCM API: it consists of letters, digits,
/// and `-_:`, and starts with `AAAA` and contains a colon (such keys have 152 characters), or starts with
/// `AIza` (the older keys, with 39 characters). The length is not checked.
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
