//! Compact JWS that no phone would send (RFC 7515), built by replacing parts of a valid one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Returns `value` as one part of a compact JWS: its JSON in unpadded base64url.
pub fn segment(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Returns `jws` with its signature replaced by `signature`.
///
/// # Panics
///
/// If `jws` has no dot.
pub fn with_signature(jws: &str, signature: &[u8]) -> String {
    let (signed, _) = jws.rsplit_once('.').expect("a compact JWS");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns `jws` with an HMAC-SHA256 under `secret` in place of its signature. The header stays as it is, so it
/// should name `HS256`.
///
/// # Panics
///
/// If `jws` has no dot.
pub fn with_hmac_signature(jws: &str, secret: &[u8]) -> String {
    let (signed, _) = jws.rsplit_once('.').expect("a compact JWS");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    with_signature(jws, hmac::sign(&key, signed.as_bytes()).as_ref())
}
