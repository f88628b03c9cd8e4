//! The public keys of passkeys: COSE keys (RFC 9052, RFC 9053) of the algorithms that the server offers.
//!
//! Keys are stored as DER SubjectPublicKeyInfo, and verified with `aws-lc-rs`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use domain::factors::passkey::CoseAlgorithm;
use p256::pkcs8::EncodePublicKey;

use super::Rejection;
use super::cbor::{Map, Value};

// Labels and values of COSE keys (RFC 9052 section 7.1, RFC 9053 section 7, RFC 8230 section 4).
const KEY_TYPE: i128 = 1;
const ALGORITHM: i128 = 3;
const CURVE: i128 = -1;
const X: i128 = -2;
const Y: i128 = -3;
const MODULUS: i128 = -1;
const EXPONENT: i128 = -2;
const OKP: i128 = 1;
const EC2: i128 = 2;
const RSA: i128 = 3;
const P256: i128 = 1;
const ED25519_CURVE: i128 = 6;

/// Length of the coordinates of P-256 and of an Ed25519 key, in bytes.
const COORDINATE_BYTES: usize = 32;

/// Bounds of the length of an RSA modulus.
const MIN_MODULUS_BITS: usize = 2048;
const MAX_MODULUS_BITS: usize = 8192;

/// Start of the DER SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4); the key follows.
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The DER AlgorithmIdentifier of RSA keys (RFC 3279 section 2.3.1).
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn verification(algorithm: CoseAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        CoseAlgorithm::Es256 => &ECDSA_P256_SHA256_ASN1,
        CoseAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        CoseAlgorithm::EdDsa => &ED25519,
    }
}

/// The public key of a passkey, which has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyPublicKey {
    algorithm: CoseAlgorithm,
    der: Vec<u8>,
}

impl PasskeyPublicKey {
    /// Wraps a stored key, which was checked when it was registered.
    pub const fn from_checked_der(algorithm: CoseAlgorithm, der: Vec<u8>) -> Self {
        Self { algorithm, der }
    }

    /// Returns the algorithm of the key's signatures.
    pub const fn algorithm(&self) -> CoseAlgorithm {
        self.algorithm
    }

    /// Returns the key as DER SubjectPublicKeyInfo (RFC 5280 section 4.1), to store.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Returns whether `signature` is a valid signature by this key over `message`. ECDSA signatures are in DER.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(verification(self.algorithm), &self.der).verify(message, signature).is_ok()
    }

    /// Converts and checks a COSE key. Members that the key's type does not have are ignored.
    pub(super) fn from_cose(key: &Map<'_>) -> Result<Self, Rejection> {
        let integer = |label| match key.integer_key(label) {
            Some(Value::Integer(value)) => Ok(*value),
            _ => Err(Rejection::PublicKey),
        };
        let bytes = |label| match key.integer_key(label) {
            Some(Value::Bytes(value)) => Ok(*value),
            _ => Err(Rejection::PublicKey),
        };
        let identifier = i64::try_from(integer(ALGORITHM)?).ok();
        let algorithm = identifier.and_then(CoseAlgorithm::from_identifier).ok_or(Rejection::Algorithm)?;
        let der = match (algorithm, integer(KEY_TYPE)?) {
            (CoseAlgorithm::Es256, EC2) if integer(CURVE)? == P256 => p256_der(bytes(X)?, bytes(Y)?),
            (CoseAlgorithm::EdDsa, OKP) if integer(CURVE)? == ED25519_CURVE => ed25519_der(bytes(X)?),
            (CoseAlgorithm::Rs256, RSA) => rsa_der(bytes(MODULUS)?, bytes(EXPONENT)?),
            _ => None,
        };
        let der = der.ok_or(Rejection::PublicKey)?;
        // A key that the library cannot parse could never verify a signature.
        ParsedPublicKey::new(verification(algorithm), &der).map_err(|_| Rejection::PublicKey)?;
        Ok(Self { algorithm, der })
    }
}

/// Returns the SubjectPublicKeyInfo of a point on P-256, or `None` if the point is not on the curve.
fn p256_der(x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
        return None;
    }
    let key = p256::PublicKey::from_sec1_bytes(&[&[0x04], x, y].concat()).ok()?;
    key.to_public_key_der().ok().map(|der| der.into_vec())
}

fn ed25519_der(key: &[u8]) -> Option<Vec<u8>> {
    (key.len() == COORDINATE_BYTES).then(|| [&ED25519_PREFIX, key].concat())
}

/// Returns the SubjectPublicKeyInfo of an RSA key. Returns `None` if the modulus does not have 2048 to 8192 bits, or a
/// number has leading zeros (RFC 8230 section 4). The library refuses even numbers and an exponent below 3.
fn rsa_der(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let zeros = modulus.first()?.leading_zeros();
    let bits = (modulus.len() * 8).checked_sub(usize::try_from(zeros).ok()?)?;
    let is_modulus = zeros < 8 && (MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits);
    let is_exponent = exponent.first().is_some_and(|first| *first != 0);
    if !is_modulus || !is_exponent {
        return None;
    }
    let key = der(0x30, &[der_integer(modulus), der_integer(exponent)].concat());
    let bit_string = der(0x03, &[&[0], &key[..]].concat());
    Some(der(0x30, &[&RSA_ALGORITHM[..], &bit_string].concat()))
}

/// Encodes a positive number without leading zeros as a DER INTEGER.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    der(0x02, &[sign, number].concat())
}

/// Encodes a DER value with this tag and content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().skip_while(|byte| **byte == 0).copied();
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let bytes: Vec<u8> = significant.collect();
            // The first byte contains the number of bytes that follow; a length has at most eight.
            der.push(u8::try_from(bytes.len()).map_or(0x80, |count| 0x80 | count));
            der.extend(bytes);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::passkeys::cbor::decode_map;

    fn encode_head(major_type: u8, length: usize) -> Vec<u8> {
        match u8::try_from(length) {
            Ok(length) if length < 24 => vec![major_type << 5 | length],
            _ => [&[major_type << 5 | 25], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
        }
    }

    fn integer(value: i16) -> Vec<u8> {
        let (major_type, argument) = if value < 0 { (1, -1 - value) } else { (0, value) };
        encode_head(major_type, usize::try_from(argument).unwrap())
    }

    fn bytes(value: &[u8]) -> Vec<u8> {
        [&encode_head(2, value.len())[..], value].concat()
    }

    /// Parses a COSE key with these members, each with its label and its encoded value.
    fn parse(members: &[(i16, Vec<u8>)]) -> Result<PasskeyPublicKey, Rejection> {
        let mut key = encode_head(5, members.len());
        for (label, value) in members {
            key.extend(integer(*label));
            key.extend(value);
        }
        PasskeyPublicKey::from_cose(&decode_map(&key).unwrap().0)
    }

    type Members = Vec<(i16, Vec<u8>)>;

    fn p256_members() -> Members {
        let der = SigningKey::generate().public_key().as_der().to_vec();
        vec![
            (1, integer(2)),
            (3, integer(-7)),
            (-1, integer(1)),
            (-2, bytes(&der[27..59])),
            (-3, bytes(&der[59..])),
        ]
    }

    fn ed25519_members() -> Members {
        // The public key of test 1 in RFC 8032 section 7.1.
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        vec![(1, integer(1)), (3, integer(-8)), (-1, integer(6)), (-2, bytes(&hex::decode(key).unwrap()))]
    }

    fn rsa_members(modulus: &[u8], exponent: &[u8]) -> Members {
        vec![(1, integer(3)), (3, integer(-257)), (-1, bytes(modulus)), (-2, bytes(exponent))]
    }

    /// Returns an odd number of this many bits. Whether it has two prime factors is not checked.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xa5; bits.div_ceil(8)];
        modulus[0] = 1 << ((bits - 1) % 8);
        modulus
    }

    #[test]
    fn key_of_each_algorithm_is_converted_to_der() {
        let key = parse(&p256_members()).unwrap();
        assert_eq!((key.algorithm(), key.as_der().len()), (CoseAlgorithm::Es256, 91));
        let key = parse(&ed25519_members()).unwrap();
        assert_eq!((key.algorithm(), key.as_der().len()), (CoseAlgorithm::EdDsa, 44));
        for algorithm in CoseAlgorithm::ALL {
            assert_eq!(CoseAlgorithm::from_identifier(algorithm.identifier()), Some(algorithm));
        }
        assert_eq!(CoseAlgorithm::from_identifier(-35), None);
    }

    #[test]
    fn signature_of_rfc_8032_is_verified() {
        let key = parse(&ed25519_members()).unwrap();
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        let signature = hex::decode(signature).unwrap();
        assert!(key.verify(b"", &signature));
        assert!(!key.verify(b"a", &signature));
        assert!(!key.verify(b"", &signature[1..]));
    }

    #[test]
    fn rsa_modulus_has_2048_to_8192_bits_and_exponent_is_odd() {
        for (bits, is_valid) in [(2047, false), (2048, true), (2049, true), (8192, true), (8193, false)] {
            let key = parse(&rsa_members(&modulus(bits), &[1, 0, 1]));
            assert_eq!(key.is_ok(), is_valid, "{bits}");
        }
        let odd = modulus(2048);
        assert!(parse(&rsa_members(&odd, &[3])).is_ok());
        for exponent in [&[][..], &[1], &[2], &[0, 3], &[1, 0, 0], &[0xff; 9]] {
            assert_eq!(parse(&rsa_members(&odd, exponent)), Err(Rejection::PublicKey), "{exponent:?}");
        }
        let mut even = odd.clone();
        *even.last_mut().unwrap() ^= 1;
        for modulus in [&even[..], &[&[0], &odd[..]].concat(), &[]] {
            assert_eq!(parse(&rsa_members(modulus, &[3])), Err(Rejection::PublicKey));
        }
    }

    #[test]
    fn each_member_of_a_key_is_required() {
        for members in [p256_members(), ed25519_members(), rsa_members(&modulus(2048), &[1, 0, 1])] {
            for place in 0..members.len() {
                let mut fewer = members.clone();
                fewer.remove(place);
                assert_eq!(parse(&fewer), Err(Rejection::PublicKey), "without {}", members[place].0);
                let mut other = members.clone();
                other[place].1 = vec![0xf6];
                assert_eq!(parse(&other), Err(Rejection::PublicKey), "null at {}", members[place].0);
            }
            let mut more = members.clone();
            more.push((4, vec![0x80]));
            assert!(parse(&more).is_ok());
        }
    }

    #[test]
    fn algorithm_type_and_curve_of_a_key_must_agree() {
        let with = |mut members: Members, label: i16, value: i16| {
            members.iter_mut().find(|(found, _)| *found == label).unwrap().1 = integer(value);
            parse(&members)
        };
        for algorithm in [-35, -36, -47, -37, -258, -9, 0, 7, -65] {
            assert_eq!(with(p256_members(), 3, algorithm), Err(Rejection::Algorithm), "{algorithm}");
        }
        for (members, label, value) in [
            (p256_members(), 3, -8),
            (p256_members(), 3, -257),
            (p256_members(), 1, 1),
            (p256_members(), 1, 3),
            (p256_members(), -1, 2),
            (p256_members(), -1, 8),
            (ed25519_members(), 3, -7),
            (ed25519_members(), 1, 2),
            (ed25519_members(), -1, 7),
            (rsa_members(&modulus(2048), &[3]), 3, -7),
            (rsa_members(&modulus(2048), &[3]), 1, 2),
        ] {
            assert_eq!(with(members, label, value), Err(Rejection::PublicKey), "{label}: {value}");
        }
    }

    #[test]
    fn coordinates_must_be_a_point_on_the_curve() {
        let with = |label: i16, change: &dyn Fn(&mut Vec<u8>)| {
            let mut members = p256_members();
            change(&mut members.iter_mut().find(|(found, _)| *found == label).unwrap().1);
            parse(&members)
        };
        assert_eq!(with(-3, &|y| *y.last_mut().unwrap() ^= 1), Err(Rejection::PublicKey), "off the curve");
        assert_eq!(with(-3, &|y| *y = vec![0xf5]), Err(Rejection::PublicKey), "compressed");
        for label in [-2, -3] {
            assert_eq!(with(label, &|it| *it = bytes(&[0; 32])), Err(Rejection::PublicKey));
            assert_eq!(with(label, &|it| *it = bytes(&[0xff; 32])), Err(Rejection::PublicKey));
            assert_eq!(with(label, &|it| *it = bytes(&it[4..])), Err(Rejection::PublicKey), "too short");
            assert_eq!(
                with(label, &|it| *it = bytes(&[&[0], &it[3..]].concat())),
                Err(Rejection::PublicKey),
                "too long"
            );
        }
        let mut short = ed25519_members();
        short[3].1 = bytes(&[1; 31]);
        assert_eq!(parse(&short), Err(Rejection::PublicKey));
    }
}
