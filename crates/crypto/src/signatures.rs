//! Public keys and signatures of devices: ECDSA on P-256 with SHA-256 (FIPS 186-5; `ES256` in RFC 7518 section 3.4).
//!
//! A public key is checked once, with `p256`, when a device enrolls. Signatures are verified on every request with
//! `aws-lc-rs`, which needs a third of the time that `p256` needs. A test compares the two libraries.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::factors::PublicKey;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};

/// Length in bytes of each half of a signature, r and s.
const HALF_BYTES: usize = 32;

/// Maximum number of bytes that may be missing from a signature by the iOS SDK; see [`verify_fixed`].
const MAX_MISSING_BYTES: usize = 2;

/// Parses a device's public key from the parameter `Binding.PublicKey` (docs/protocol/device.md, section 3).
///
/// The text must be standard, padded base64 without line breaks. It must encode a DER SubjectPublicKeyInfo (RFC 5480)
/// of 91 bytes with an uncompressed point on P-256. Returns `None` for any other text.
pub fn parse_public_key(base64: &str) -> Option<PublicKey> {
    let der = STANDARD.decode(base64).ok()?;
    let key = p256::PublicKey::from_public_key_der(&der).ok()?;
    // Accept only one encoding of a key, because two encodings of the same point would count as two keys. Comparing
    // with the canonical encoding refuses compressed points and everything else that a lenient parser may accept.
    let canonical = key.to_public_key_der().ok()?;
    (canonical.as_bytes() == der).then(|| PublicKey::from_checked_der(der))
}

/// Returns whether `signature` is a valid signature by `key` over `message`. Its form is r‖s, with 32 bytes for each
/// (RFC 7518 section 3.4).
///
/// A signature may also have 63 or 62 bytes. The iOS SDK (`JwtSigner.swift`, docs/protocol/device.md, section 4)
/// derives r‖s from DER, whose integers have no leading zeros. It prepends only one zero byte to a short integer, no
/// matter how many bytes are missing:
///
/// - An integer of 30 bytes is extended to 31, so that the signature lacks one byte. This affects one signature in
///   65,000.
/// - An integer of 29 bytes, or two integers of 30 bytes, leave two bytes missing. This affects one signature in 17
///   million.
/// - Three missing bytes are practically impossible.
///
/// The length does not show which half is short. Therefore, every way to split the signature into halves that the SDK
/// could have produced is tried, at most two. Each try is a full verification, so that a short signature passes only if
/// its full-length form would.
pub fn verify_fixed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_der())
        .is_ok_and(|key| full_length(signature).any(|full| key.verify_sig(message, &full).is_ok()))
}

/// Returns whether `der` is a valid signature by `key` over `message`. It must be a DER `ECDSA-Sig-Value` (RFC 3279
/// section 2.2.3) without trailing data; other encodings are refused.
pub fn verify_der(key: &PublicKey, message: &[u8], der: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_der()).verify(message, der).is_ok()
}

/// Returns the full-length signatures that the iOS SDK could have shortened to `signature`, at most two. For a
/// full-length signature, returns only the signature itself.
fn full_length(signature: &[u8]) -> impl Iterator<Item = [u8; 2 * HALF_BYTES]> {
    let missing =
        (2 * HALF_BYTES).checked_sub(signature.len()).filter(|missing| *missing <= MAX_MISSING_BYTES);
    let cuts = missing.map(|missing| HALF_BYTES - missing..=HALF_BYTES);
    cuts.into_iter().flatten().filter_map(|cut| {
        let (r, s) = signature.split_at_checked(cut).filter(|(r, s)| is_half(r) && is_half(s))?;
        let mut full = [0; 2 * HALF_BYTES];
        full[HALF_BYTES - r.len()..HALF_BYTES].copy_from_slice(r);
        full[2 * HALF_BYTES - s.len()..].copy_from_slice(s);
        Some(full)
    })
}

/// Returns whether the iOS SDK could have produced this half of a signature: 32 bytes, or one zero byte and a positive
/// DER integer. Such an integer starts with a zero byte only if its first bit would otherwise be set.
fn is_half(half: &[u8]) -> bool {
    half.len() == HALF_BYTES || matches!(half, [0, 0x01..=0x7f, ..] | [0, 0, 0x80..=0xff, ..])
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use p256::ecdsa::signature::Verifier;
    use p256::ecdsa::{Signature, VerifyingKey};
    use p256::elliptic_curve::ops::Reduce;
    use p256::elliptic_curve::point::DecompressPoint;
    use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};
    use proptest::prelude::*;

    use super::*;
    use crate::{SigningKey, vectors};

    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];

    fn parse_der(der: &[u8]) -> Option<PublicKey> {
        parse_public_key(&STANDARD.encode(der))
    }

    #[test]
    fn public_key_in_the_form_of_the_sdks_is_accepted() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        assert_eq!(key.as_der().len(), 91);
        assert_eq!(STANDARD.encode(key.as_der()), vectors::PUBLIC_KEY);
    }

    #[test]
    fn public_key_is_accepted_only_in_canonical_base64() {
        let good = vectors::PUBLIC_KEY;
        for bad in [
            good.trim_end_matches('='),
            &good.replace('/', "_"),
            &format!("{good}\n"),
            &format!(" {good}"),
            &format!("{}\n{}", &good[..64], &good[64..]),
            &good.replace("8w==", "8x=="),
            "",
            "=",
            "äöü",
        ] {
            assert!(parse_public_key(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn key_other_than_an_uncompressed_point_on_p256_is_refused() {
        let good = SigningKey::generate().public_key().as_der().to_vec();
        let (header, point) = good.split_at(26);
        let (x, y) = point[1..].split_at(32);
        let parity = y[31] & 1;

        for length in 0..good.len() {
            assert!(parse_der(&good[..length]).is_none(), "cut to {length}");
        }
        assert!(parse_der(&[&good[..], &[0]].concat()).is_none(), "a byte too many");

        let mut off_curve = good.clone();
        off_curve[90] ^= 1;
        assert!(parse_der(&off_curve).is_none(), "not on the curve");
        assert!(parse_der(&[header, &[4], &[0; 64]].concat()).is_none(), "zero");
        assert!(parse_der(&[header, &[4], &[0xff; 64]].concat()).is_none(), "not field elements");

        let compressed_header = [&[0x30, 0x39], &header[2..23], &[0x03, 0x22, 0]].concat();
        assert!(parse_der(&[&compressed_header[..], &[2 | parity], x].concat()).is_none(), "compressed");
        assert!(parse_der(&[header, &[6 | parity], x, y].concat()).is_none(), "hybrid");
        let infinity_header = [&[0x30, 0x19], &header[2..23], &[0x03, 0x02, 0]].concat();
        assert!(parse_der(&[&infinity_header[..], &[0]].concat()).is_none(), "the point at infinity");

        // This is the same key with its outer length in the long form of BER.
        assert!(parse_der(&[&[0x30, 0x81], &good[1..]].concat()).is_none(), "BER");

        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let p384 = p384.public_key().as_der().unwrap();
        assert!(parse_der(p384.as_ref()).is_none(), "P-384");
    }

    #[test]
    fn factor_signature_test_vector_is_verified() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        let message = vectors::FACTOR_SID.as_bytes();
        let der = STANDARD.decode(vectors::FACTOR_AUTH_PAYLOAD).unwrap();
        assert!(verify_der(&key, message, &der));
        assert!(!verify_der(&key, b"YF03333333333333333333333333333334", &der));
        assert!(!verify_der(&SigningKey::generate().public_key(), message, &der));
        assert!(!verify_fixed(&key, message, &der));
    }

    #[test]
    fn der_signature_is_accepted_only_in_its_canonical_encoding() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        let message = vectors::FACTOR_SID.as_bytes();
        let der = STANDARD.decode(vectors::FACTOR_AUTH_PAYLOAD).unwrap();
        let long_form = [&[0x30, 0x81], &der[1..]].concat();
        let indefinite = [&[0x30, 0x80], &der[2..], &[0, 0]].concat();
        let mut padded_r = [&[0x30, der[1] + 1, 0x02, der[3] + 1, 0], &der[4..]].concat();
        for bad in
            [&[&der[..], &[0]].concat(), &der[..der.len() - 1], &long_form, &indefinite, &padded_r, &[]]
        {
            assert!(!verify_der(&key, message, bad), "{bad:02x?}");
        }
        padded_r[1] -= 1;
        assert!(!verify_der(&key, message, &padded_r));
    }

    #[test]
    fn verification_with_a_malformed_unchecked_key_fails_without_a_panic() {
        for der in [vec![], vec![0; 91], vec![4; 65]] {
            let key = PublicKey::from_checked_der(der);
            assert!(!verify_fixed(&key, b"", &[1; 64]));
            assert!(!verify_der(&key, b"", &[0x30, 6, 2, 1, 1, 2, 1, 1]));
        }
    }

    /// Returns whether `p256`, the other implementation, accepts the signature r‖s.
    fn p256_verifies(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_public_key_der(key.as_der()).unwrap();
        Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }

    fn p256_verifies_der(key: &PublicKey, message: &[u8], der: &[u8]) -> bool {
        let key = VerifyingKey::from_public_key_der(key.as_der()).unwrap();
        Signature::from_der(der).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }

    #[test]
    fn signature_with_low_or_high_s_is_accepted_but_not_out_of_range() {
        let phone = SigningKey::generate();
        let key = phone.public_key();
        let signature = phone.sign_fixed(b"message");
        let (r, s) = (&signature[..32], &signature[32..]);
        let other_s = (-*Signature::from_slice(&signature).unwrap().s()).to_bytes();
        let twin = [r, &other_s].concat();
        assert!(verify_fixed(&key, b"message", &signature));
        assert!(verify_fixed(&key, b"message", &twin));
        assert!(verify_der(&key, b"message", Signature::from_slice(&twin).unwrap().to_der().as_bytes()));

        for half in [[0; 32], ORDER, [0xff; 32]] {
            for bad in [[r, &half].concat(), [&half, s].concat(), [half, half].concat()] {
                assert!(!verify_fixed(&key, b"message", &bad));
                assert!(!p256_verifies(&key, b"message", &bad));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn p256_and_aws_lc_accept_and_refuse_the_same_signatures(message: Vec<u8>, place: prop::sample::Index, flip in 1_u8..) {
            let phone = SigningKey::generate();
            let key = phone.public_key();
            let mut signature = phone.sign_fixed(&message).to_vec();
            let mut der = phone.sign_der(&message);
            prop_assert!(verify_fixed(&key, &message, &signature));
            prop_assert!(p256_verifies(&key, &message, &signature));
            prop_assert!(verify_der(&key, &message, &der));
            prop_assert!(p256_verifies_der(&key, &message, &der));

            signature[place.index(64)] ^= flip;
            let end = der.len();
            der[place.index(end)] ^= flip;
            prop_assert!(!verify_fixed(&key, &message, &signature));
            prop_assert!(!p256_verifies(&key, &message, &signature));
            prop_assert!(!verify_der(&key, &message, &der));
            prop_assert!(!p256_verifies_der(&key, &message, &der));
        }

        #[test]
        fn random_signature_bytes_are_refused_without_a_panic(message: Vec<u8>, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
            prop_assert!(!verify_fixed(&key, &message, &bytes));
            prop_assert!(!verify_der(&key, &message, &bytes));
        }

        #[test]
        fn parsing_a_key_never_panics(text in ".*", der: Vec<u8>) {
            prop_assert!(parse_public_key(&text).is_none());
            prop_assert!(parse_der(&der).is_none());
        }
    }

    /// The size of a number: its length in bytes, and its first byte. DER adds a sign byte before a first byte of 0x80
    /// or more.
    type Size = (usize, u8);

    const FULL: Size = (32, 0x5a);

    fn number((bytes, first): Size, last: u8) -> [u8; 32] {
        let mut number = [0; 32];
        number[32 - bytes..].fill(0x5a);
        number[32 - bytes] = first;
        number[31] = last;
        number
    }

    /// Returns a key, r and s, such that (r, s) is a valid signature over `message` and the two numbers have these
    /// sizes. If the key is chosen last, any signature is possible: for a point R with the x-coordinate r, the key Q =
    /// r⁻¹(sR − zG) verifies it.
    fn signature_of_size(message: &[u8], r: Size, s: Size) -> (PublicKey, [u8; 32], [u8; 32]) {
        let scalar = |number: [u8; 32]| Scalar::reduce(&FieldBytes::from(number));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
        let z = scalar(digest.as_ref().try_into().unwrap());
        let s = number(s, 0x11);
        let point = |r: [u8; 32]| Option::<AffinePoint>::from(AffinePoint::decompress(&r.into(), 0.into()));
        let candidates = (0..=0xff).map(|last| number(r, last));
        let (r, point) = candidates.filter_map(|r| Some((r, point(r)?))).next().unwrap();
        let inverse = scalar(r).invert().unwrap();
        let key = (ProjectivePoint::from(point) * scalar(s) - ProjectivePoint::GENERATOR * z) * inverse;
        let key = p256::PublicKey::from_affine(key.to_affine()).unwrap();
        (PublicKey::from_checked_der(key.to_public_key_der().unwrap().into_vec()), r, s)
    }

    /// Encodes r or s as the iOS SDK does.
    fn as_ios_writes(half: [u8; 32]) -> Vec<u8> {
        let mut integer: Vec<u8> = half.into_iter().skip_while(|byte| *byte == 0).collect();
        if integer[0] >= 0x80 {
            integer.insert(0, 0);
        }
        match integer.len().checked_sub(32) {
            Some(extra) => integer.split_off(extra),
            None => [&[0], &integer[..]].concat(),
        }
    }

    #[test]
    fn signatures_of_62_to_64_bytes_from_the_ios_sdk_are_accepted() {
        for (r, s, length) in [
            (FULL, FULL, 64),
            ((32, 0x80), (32, 0x80), 64),
            ((31, 0x5a), FULL, 64),
            ((31, 0x5a), (31, 0x80), 64),
            ((30, 0x80), (30, 0x80), 64),
            ((30, 0x5a), FULL, 63),
            (FULL, (30, 0x5a), 63),
            ((29, 0x80), FULL, 63),
            (FULL, (29, 0x80), 63),
            ((30, 0x01), (31, 0x5a), 63),
            ((29, 0x5a), FULL, 62),
            (FULL, (29, 0x5a), 62),
            ((30, 0x5a), (30, 0x7f), 62),
            ((30, 0x5a), (29, 0x80), 62),
            ((28, 0x80), (31, 0x5a), 62),
        ] {
            let (key, r_half, s_half) = signature_of_size(b"message", r, s);
            let full = [r_half, s_half].concat();
            assert!(verify_fixed(&key, b"message", &full), "{r:?} {s:?} in full");
            assert!(p256_verifies(&key, b"message", &full), "{r:?} {s:?} in full");

            let sent = [as_ios_writes(r_half), as_ios_writes(s_half)].concat();
            assert_eq!(sent.len(), length, "{r:?} {s:?}");
            assert!(verify_fixed(&key, b"message", &sent), "{r:?} {s:?}");
            assert!(!verify_fixed(&key, b"other message", &sent), "{r:?} {s:?}");
            for place in 0..sent.len() {
                let mut bad = sent.clone();
                bad[place] ^= 0x40;
                assert!(!verify_fixed(&key, b"message", &bad), "{r:?} {s:?}, byte {place}");
            }
        }
    }

    #[test]
    fn signature_of_an_unsupported_length_or_form_is_refused() {
        let (key, r, s) = signature_of_size(b"message", (28, 0x5a), FULL);
        let sent = [as_ios_writes(r), as_ios_writes(s)].concat();
        assert_eq!(sent.len(), 61);
        assert!(!verify_fixed(&key, b"message", &sent), "three bytes missing");

        let (key, r, s) = signature_of_size(b"message", (31, 0x5a), FULL);
        assert!(!verify_fixed(&key, b"message", &[&r[1..], &s].concat()), "a zero that the SDK writes");

        let (key, r, s) = signature_of_size(b"message", FULL, FULL);
        assert!(!verify_fixed(&key, b"message", &[&[0], &r[..], &s].concat()), "65 bytes");
        assert!(!verify_fixed(&key, b"message", &[]));
    }

    proptest! {
        #[test]
        fn at_most_two_ways_to_split_a_short_signature_are_tried(bytes in prop::collection::vec(prop::sample::select(vec![0, 7, 0x80]), 0..70)) {
            let tries = full_length(&bytes).count();
            match bytes.len() {
                64 => prop_assert_eq!(tries, 1),
                62 | 63 => prop_assert!(tries <= 2),
                _ => prop_assert_eq!(tries, 0),
            }
        }
    }
}
