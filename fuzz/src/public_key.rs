//! Public keys: `p256`, which checks them when a device enrolls, against `aws-lc-rs`, which works with them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::parse_public_key;
use p256::elliptic_curve::point::DecompressPoint;
use p256::pkcs8::EncodePublicKey;

/// What stands in front of x and y in the 91 bytes.
const FRONT: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// A text; and the same bytes as DER, as a point, and as the abscissa of one.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        of_text(text);
    }
    of_der(data);
    of_der(&[&FRONT, data].concat());
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

/// The one form, and a point that the other implementation takes.
fn is_key(der: &[u8]) -> bool {
    der.len() == 91
        && der.starts_with(&FRONT)
        && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &der[FRONT.len() - 1..]).is_ok()
}

/// About every second number is the abscissa of two points; both are keys, and their neighbours are not.
fn on_curve(abscissa: [u8; 32], salt: u8) {
    let point = p256::AffinePoint::decompress(&abscissa.into(), (salt & 1).into());
    let Some(point) = Option::<p256::AffinePoint>::from(point) else { return };
    let mut der = p256::PublicKey::from_affine(point).unwrap().to_public_key_der().unwrap().into_vec();
    assert!(of_der(&der));
    // One bit of the ordinate: then it is neither of the two.
    der[59 + usize::from(salt >> 3)] ^= 1 << (salt & 7);
    assert!(!of_der(&der));
}
