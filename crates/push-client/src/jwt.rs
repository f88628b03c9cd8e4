//! Signing of JSON Web Tokens in compact form (RFC 7515). This crate issues tokens and never parses them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Encodes `header` and `claims` in compact form and appends the signature that `sign_bytes` returns.
///
/// # Errors
/// Returns the error of `sign_bytes`.
pub(crate) fn sign<E>(
    header: &Value,
    claims: &Value,
    sign_bytes: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let mut text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = sign_bytes(text.as_bytes())?;
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(text)
}
