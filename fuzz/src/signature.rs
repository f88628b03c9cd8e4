//! Signatures as bytes, in DER and as r‖s: `aws-lc-rs`, which verifies them, compared with `p256`, and with the
//! one accepted spelling of each.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::{parse_public_key, verify_der, verify_fixed};
use domain::factors::PublicKey;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::ops::Reduce;
use p256::elliptic_curve::point::DecompressPoint;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};

use crate::VECTOR_KEY;

/// The message that the factor of the test vectors signed.
const MESSAGE: &[u8] = b"YF03333333333333333333333333333333";

static VECTOR_PUBLIC_KEY: LazyLock<PublicKey> = LazyLock::new(|| parse_public_key(VECTOR_KEY).unwrap());

/// Interprets the input as a signature, and also as two lengths, two numbers, and a message.
pub fn check(data: &[u8]) {
    assert_agreement(&VECTOR_PUBLIC_KEY, MESSAGE, data);
    if let Ok(der) = STANDARD.decode(data) {
        assert_agreement(&VECTOR_PUBLIC_KEY, MESSAGE, &der);
    }
    let Some(([r_length, s_length], rest)) = data.split_first_chunk() else { return };
    let Some((r, rest)) = rest.split_at_checked(usize::from(r_length % 33)) else { return };
    let Some((s, message)) = rest.split_at_checked(usize::from(s_length % 33)) else { return };
    if let Some((key, r)) = key_for(message, padded(r), padded(s)) {
        check_valid_signature(&key, message, r, padded(s));
    }
}

/// Checks that both implementations agree on any bytes, and agree on shortened signatures as on full ones.
fn assert_agreement(key: &PublicKey, message: &[u8], signature: &[u8]) {
    let other = VerifyingKey::from_public_key_der(key.as_der()).unwrap();
    let other_says = |signature: Result<Signature, _>| {
        signature.is_ok_and(|signature| other.verify(message, &signature).is_ok())
    };
    assert_eq!(verify_der(key, message, signature), other_says(Signature::from_der(signature)));
    let fixed = verify_fixed(key, message, signature);
    match signature.len() {
        64 => assert_eq!(fixed, other_says(Signature::from_slice(signature))),
        62 | 63 if fixed => {
            let full = (0..=signature.len()).map(|cut| signature.split_at(cut));
            let mut full = full.filter(|(r, s)| r.len() <= 32 && s.len() <= 32);
            let says = |(r, s)| other_says(Signature::from_slice(&[padded(r), padded(s)].concat()));
            assert!(full.any(says));
        }
        _ => assert!(!fixed),
    }
}

/// Checks every spelling of r and s under a key for which they are valid.
fn check_valid_signature(key: &PublicKey, message: &[u8], r: [u8; 32], s: [u8; 32]) {
    let full = [r, s].concat();
    let der = sequence(&[integer(&r), integer(&s)].concat());
    assert!(verify_fixed(key, message, &full));
    assert!(verify_der(key, message, &der));
    let other = [message, b"."].concat();
    assert!(!verify_fixed(key, &other, &full) && !verify_der(key, &other, &der));
    // A signature that lacks at most two bytes is accepted; a shorter one is refused.
    let ios = [as_ios_writes(r), as_ios_writes(s)].concat();
    assert_eq!(verify_fixed(key, message, &ios), ios.len() >= 62, "{ios:02x?}");
    assert_agreement(key, message, &ios);

    let (r, s) = (integer(&r), integer(&s));
    let content = [&r[..], &s].concat();
    let padded_r = [&[0x02, r[1] + 1, 0x00], &r[2..]].concat();
    let long_r = [&[0x02, 0x81], &r[1..]].concat();
    for bad in [
        [&der[..], &[0]].concat(),
        der[..der.len() - 1].to_vec(),
        [&[0x30, 0x81, content.len() as u8], &content[..]].concat(),
        [&[0x30, 0x80], &content[..], &[0, 0]].concat(),
        [&[0x31, content.len() as u8], &content[..]].concat(),
        sequence(&[&padded_r[..], &s].concat()),
        sequence(&[&long_r[..], &s].concat()),
        sequence(&[&content[..], &[0x05, 0]].concat()),
        sequence(&r),
        content.clone(),
        full,
    ] {
        assert!(!verify_der(key, message, &bad), "{bad:02x?}");
    }
}

/// Returns a number in as many bytes as in a signature of full length.
fn padded(number: &[u8]) -> [u8; 32] {
    let mut padded = [0; 32];
    padded[32 - number.len()..].copy_from_slice(number);
    padded
}

/// Returns a key under which `s` and an `r` close to the given one sign `message`, and that `r`. With the key
/// chosen last, any signature can be made valid: for a point R with x coordinate r, Q = r⁻¹(sR − zG).
fn key_for(message: &[u8], r: [u8; 32], s: [u8; 32]) -> Option<(PublicKey, [u8; 32])> {
    let scalar = |number: [u8; 32]| {
        let reduced = Scalar::reduce(&FieldBytes::from(number));
        Some(reduced)
            .filter(|scalar| scalar.to_bytes() == FieldBytes::from(number) && *scalar != Scalar::ZERO)
    };
    let digest: [u8; 32] = digest(&SHA256, message).as_ref().try_into().unwrap();
    let z = Scalar::reduce(&FieldBytes::from(digest));
    // About every second number is the x coordinate of a point.
    let near = (0..8).map(|step| {
        let mut r = r;
        r[31] ^= step;
        r
    });
    let point = |r: [u8; 32]| Option::<AffinePoint>::from(AffinePoint::decompress(&r.into(), 0.into()));
    let (r, point) = near.filter_map(|r| Some((r, point(r)?))).next()?;
    let inverse = Option::<Scalar>::from(scalar(r)?.invert())?;
    let key = (ProjectivePoint::from(point) * scalar(s)? - ProjectivePoint::GENERATOR * z) * inverse;
    let key = p256::PublicKey::from_affine(key.to_affine()).ok()?;
    Some((PublicKey::from_checked_der(key.to_public_key_der().ok()?.into_vec()), r))
}

/// Returns a positive DER integer.
fn integer(number: &[u8; 32]) -> Vec<u8> {
    let mut digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    if digits[0] >= 0x80 {
        digits.insert(0, 0);
    }
    [&[0x02, digits.len() as u8], &digits[..]].concat()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    [&[0x30, content.len() as u8], content].concat()
}

/// Returns r or s as the iOS SDK writes it: DER, cut to 32 bytes, or with one leading zero however many bytes
/// are missing.
fn as_ios_writes(number: [u8; 32]) -> Vec<u8> {
    let mut digits = integer(&number).split_off(2);
    match digits.len().checked_sub(32) {
        Some(extra) => digits.split_off(extra),
        None => [&[0], &digits[..]].concat(),
    }
}
