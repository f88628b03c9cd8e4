//! Fuzz targets for the parsers of untrusted input, with the properties that must hold.
//!
//! Each module is one target: `check` takes the fuzzer's input and panics if a property does not hold. Input
//! with several parts has one part per line, so that seeds are easy to read and write.

pub mod access_token;
pub mod answer;
pub mod attestation_object;
pub mod authenticator_data;
pub mod callback_url;
pub mod client_data;
pub mod device_token;
pub mod form;
pub mod json_body;
pub mod page_token;
pub mod parameter;
pub mod public_key;
pub mod sid;
pub mod signature;
pub mod totp_secret;
pub mod verification;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::SigningKey;

/// Every target with its name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("access_token", access_token::check),
    ("answer", answer::check),
    ("attestation_object", attestation_object::check),
    ("authenticator_data", authenticator_data::check),
    ("callback_url", callback_url::check),
    ("client_data", client_data::check),
    ("device_token", device_token::check),
    ("form", form::check),
    ("json_body", json_body::check),
    ("page_token", page_token::check),
    ("parameter", parameter::check),
    ("public_key", public_key::check),
    ("sid", sid::check),
    ("signature", signature::check),
    ("totp_secret", totp_secret::check),
    ("verification", verification::check),
];

/// The time of the test vectors, in seconds since the epoch: 2026-01-01T00:00:00Z.
const NOW_SECONDS: i64 = 1_767_225_600;

/// The public key of the test vectors in `crates/crypto/src/vectors.rs`. Its private key is not available here.
const VECTOR_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGrFny9YPM/iRZzoukU8sWZbj/3KHjMMVSqQGpb8xpBKavf37cNWfrURpmblSIEjq8juJAekll1MundswaFrQ8w==";

/// A throw-away key that signs the fuzzer's input in place of a phone.
static PHONE: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::from_pkcs8_base64(
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQga5hd8zFOpZl9GRATHh9sBwdzEhhlY+Ptcd0QzaJDq6ihRANCAAQn4KknXkOxrjXiyCgjwkYHjD9pfnF9jMxo55fuCO2/pm50lMTKGIiKFTW5LALNDSji4TvHwLNDZY9stqAF+mQJ",
    )
    .unwrap()
});

/// Splits `data` into `N` lines; the last one holds the rest. Returns `None` if there are fewer.
fn lines<const N: usize>(data: &[u8]) -> Option<[&[u8]; N]> {
    let lines: Vec<&[u8]> = data.splitn(N, |byte| *byte == b'\n').collect();
    lines.try_into().ok()
}

/// Parses a decimal number; returns 0 if the line is not a number.
fn number(line: &[u8]) -> i64 {
    str::from_utf8(line).ok().and_then(|line| line.parse().ok()).unwrap_or_default()
}

/// Returns a compact JWS over these literal bytes, signed by [`PHONE`].
fn signed(header: &[u8], claims: &[u8]) -> String {
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(PHONE.sign_fixed(text.as_bytes()));
    format!("{text}.{signature}")
}

/// Returns `text` with one character replaced, inserted or removed, chosen by a hash of `data`.
fn altered(text: &str, data: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    // FNV-1a gives the same result on every platform and in every run.
    let sum = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut rest = sum >> 8;
    let mut draw = |below: usize| {
        let drawn = rest % below as u64;
        rest /= below as u64;
        drawn as usize
    };
    let (place, letter) = (draw(text.len()), char::from(ALPHABET[draw(ALPHABET.len())]));
    let (front, back) = text.split_at(place);
    let mut back = back.chars();
    let old = back.next().unwrap();
    match draw(3) {
        0 if old != letter => format!("{front}{letter}{}", back.as_str()),
        1 => format!("{front}{letter}{old}{}", back.as_str()),
        _ => format!("{front}{}", back.as_str()),
    }
}
