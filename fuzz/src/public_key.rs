//! Public keys: `p256`, which checks them at enrollment, compared with `aws-lc-rs`, which verifies with them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::parse_public_key;
use p256::elliptic_curve::point::DecompressPoint;
use p256::pkcs8::EncodePublicKey;

/// The DER prefix of a 91-byte P-256 public key; the coordinates x and y follow it.
const DER_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Interprets the input as base64 text, as DER, as a point, and as an x coordinate.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        of_text(text);
    }
    of_der(data);
    of_der(&[&DER_PREFIX, data].concat());
    if let Some((abscissa, rest)) = data.split_first_chunk::<32>() {
        on_curve(*abscissa, rest.first().copied().unwrap_or_default());
    }
}

fn of_text(text: &str) -> bool {
    let Some(key) = parse_public_key(text) else { return false };
    assert_eq!(STANDARD.encode(key.as_der()), text, "a key has one spelling");
    assert!(is_key(key.as_der()));
    true
}

fn of_der(der: &[u8]) -> bool {
    let taken = of_text(&STANDARD.encode(der));
    assert_eq!(taken, is_key(der), "{der:02x?}");
    taken
}

/// Returns whether `der` has the only accepted encoding and `aws-lc-rs` accepts its point.
fn is_key(der: &[u8]) -> bool {
    der.len() == 91
        && der.starts_with(&DER_PREFIX)
        && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &der[DER_PREFIX.len() - 1..]).is_ok()
}

/// Checks keys with this x coordinate. About half of all numbers are the x of two points; both are keys, and
/// points next to them are not.
fn on_curve(abscissa: [u8; 32], salt: u8) {
    let point = p256::AffinePoint::decompress(&abscissa.into(), (salt & 1).into());
    let Some(point) = Option::<p256::AffinePoint>::from(point) else { return };
    let mut der = p256::PublicKey::from_affine(point).unwrap().to_public_key_der().unwrap().into_vec();
    assert!(of_der(&der));
    // With one bit of y flipped, the point is neither of the two.
    der[59 + usize::from(salt >> 3)] ^= 1 << (salt & 7);
    assert!(!of_der(&der));
}
