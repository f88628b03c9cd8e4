//! The keys that devices bring, and the signatures that they make: ECDSA on P-256 with SHA-256
//! (FIPS 186-5; `ES256` of RFC 7518 section 3.4).
//!
//! A key is checked once, with `p256`, when a device enrolls. Signatures are checked on every request,
//! with `aws-lc-rs`, which takes a third of the time; a test holds the two against each other.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::factors::PublicKey;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};

/// Bytes of r, and of s.
const HALF: usize = 32;

/// Most bytes that the iOS SDK may leave out of a signature; see [`verify_fixed`].
const MAX_MISSING: usize = 2;

/// A device's key, from `Binding.PublicKey` (docs/protocol/device.md, section 3): standard base64, padded and
/// unbroken, of a DER SubjectPublicKeyInfo (RFC 5480) of 91 bytes with an uncompressed point on
/// P-256. `None` for everything else.
pub fn parse_public_key(base64: &str) -> Option<PublicKey> {
    let der = STANDARD.decode(base64).ok()?;
    let key = p256::PublicKey::from_public_key_der(&der).ok()?;
    // A key has one form here: two spellings of the same point would pass as two keys. Encoding again
    // refuses compressed points along with whatever else a parser may wink at.
    let canonical = key.to_public_key_der().ok()?;
    (canonical.as_bytes() == der).then(|| PublicKey::from_checked_der(der))
}

/// Whether `signature` is `key`'s over `message`, as r‖s of 32 bytes each (RFC 7518 section 3.4).
///
/// It may also be 63 or 62 bytes long. The iOS SDK (`JwtSigner.swift`, docs/protocol/device.md, section 4) makes
/// r‖s out of DER, whose integers have no leading zeros, and puts one zero byte in front of a short
/// integer however many are missing. An integer of 30 bytes, one signature in 65 000, comes out as 31
/// and leaves the signature a byte short; an integer of 29 bytes, or two of 30, leaves it two bytes
/// short, one signature in 17 million. Three bytes are as good as impossible. The length does not tell
/// which half is short, so every cut is tried, two at most, that leaves halves as that code would
/// have made them. Each try is a whole verification: no signature passes that would not pass in full.
pub fn verify_fixed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_der())
        .is_ok_and(|key| whole(signature).any(|whole| key.verify_sig(message, &whole).is_ok()))
}

/// Whether `der` is `key`'s signature over `message`, as a DER `ECDSA-Sig-Value` (RFC 3279 section
/// 2.2.3) with nothing behind it and no other encoding.
pub fn verify_der(key: &PublicKey, message: &[u8], der: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_der()).verify(message, der).is_ok()
}

/// The signatures of full length that `signature` may stand for: itself, if nothing is missing.
fn whole(signature: &[u8]) -> impl Iterator<Item = [u8; 2 * HALF]> {
    let missing = (2 * HALF).checked_sub(signature.len()).filter(|missing| *missing <= MAX_MISSING);
    let cuts = missing.map(|missing| HALF - missing..=HALF);
    cuts.into_iter().flatten().filter_map(|cut| {
        let (r, s) = signature.split_at_checked(cut).filter(|(r, s)| is_half(r) && is_half(s))?;
        let mut whole = [0; 2 * HALF];
        whole[HALF - r.len()..HALF].copy_from_slice(r);
        whole[2 * HALF - s.len()..].copy_from_slice(s);
        Some(whole)
    })
}

/// Whether the iOS SDK could have made this half: in full, or as one zero byte and a positive DER
/// integer, which begins with a zero only where its first bit would otherwise be set.
fn is_half(half: &[u8]) -> bool {
    half.len() == HALF || matches!(half, [0, 0x01..=0x7f, ..] | [0, 0, 0x80..=0xff, ..])
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
    fn takes_a_key_as_both_sdks_send_it() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        assert_eq!(key.as_der().len(), 91);
        assert_eq!(STANDARD.encode(key.as_der()), vectors::PUBLIC_KEY);
    }

    #[test]
    fn base64_has_one_spelling() {
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
    fn refuses_every_key_that_is_not_an_uncompressed_point_on_p256() {
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

        // The same key with its outer length in BER's long form.
        assert!(parse_der(&[&[0x30, 0x81], &good[1..]].concat()).is_none(), "BER");

        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let p384 = p384.public_key().as_der().unwrap();
        assert!(parse_der(p384.as_ref()).is_none(), "P-384");
    }

    #[test]
    fn verifies_the_factor_of_the_protocol() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        let message = vectors::FACTOR_SID.as_bytes();
        let der = STANDARD.decode(vectors::FACTOR_AUTH_PAYLOAD).unwrap();
        assert!(verify_der(&key, message, &der));
        assert!(!verify_der(&key, b"YF03333333333333333333333333333334", &der));
        assert!(!verify_der(&SigningKey::generate().public_key(), message, &der));
        assert!(!verify_fixed(&key, message, &der));
    }

    #[test]
    fn der_has_one_spelling() {
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
    fn a_key_that_was_never_checked_is_no_panic() {
        for der in [vec![], vec![0; 91], vec![4; 65]] {
            let key = PublicKey::from_checked_der(der);
            assert!(!verify_fixed(&key, b"", &[1; 64]));
            assert!(!verify_der(&key, b"", &[0x30, 6, 2, 1, 1, 2, 1, 1]));
        }
    }

    /// What `p256`, the other implementation, thinks of r‖s.
    fn p256_verifies(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_public_key_der(key.as_der()).unwrap();
        Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }

    fn p256_verifies_der(key: &PublicKey, message: &[u8], der: &[u8]) -> bool {
        let key = VerifyingKey::from_public_key_der(key.as_der()).unwrap();
        Signature::from_der(der).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }

    #[test]
    fn high_and_low_s_are_both_good_and_numbers_out_of_range_are_not() {
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
        fn p256_and_aws_lc_agree(message: Vec<u8>, place: prop::sample::Index, flip in 1_u8..) {
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
        fn garbage_is_refused_in_silence(message: Vec<u8>, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
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

    /// A number of this many bytes, with this byte in front. DER puts a sign byte before a first byte of
    /// 0x80 or more.
    type Size = (usize, u8);

    const FULL: Size = (32, 0x5a);

    fn number((bytes, first): Size, last: u8) -> [u8; 32] {
        let mut number = [0; 32];
        number[32 - bytes..].fill(0x5a);
        number[32 - bytes] = first;
        number[31] = last;
        number
    }

    /// A key under which some (r, s) of these sizes signs `message`, and the two. Whoever may choose
    /// the key last can have any signature: for a point R with the abscissa r, Q = r⁻¹(sR − zG)
    /// verifies it.
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

    /// What becomes of r or s in the iOS SDK.
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
    fn takes_the_short_signatures_of_ios() {
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
    fn takes_no_other_lengths() {
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
        fn tries_two_cuts_at_most(bytes in prop::collection::vec(prop::sample::select(vec![0, 7, 0x80]), 0..70)) {
            let tries = whole(&bytes).count();
            match bytes.len() {
                64 => prop_assert_eq!(tries, 1),
                62 | 63 => prop_assert!(tries <= 2),
                _ => prop_assert_eq!(tries, 0),
            }
        }
    }
}
