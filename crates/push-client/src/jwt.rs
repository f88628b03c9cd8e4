//! Signs JSON Web Tokens in compact form (RFC 7515). This crate issues tokens but never parses them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Returns the signed token in compact form. `sign_bytes` signs the encoded `header` and `claims`.
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
