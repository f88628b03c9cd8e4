//! The master key, and the keys that are made of it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use domain::{Entropy, Sealed, Secret};
use zeroize::Zeroizing;

use crate::api_keys::HashingKey;
use crate::{Error, Sealable};

/// The labels under which HKDF makes each key. They never change: what was sealed stays readable.
const SEALING: &[&[u8]] = &[b"countersign 1 sealing"];
const HASHING: &[&[u8]] = &[b"countersign 1 api key secrets"];
const ID: &[&[u8]] = &[b"countersign 1 id"];

/// The key above all others: 32 bytes that the operator keeps outside the database.
///
/// It seals and hashes nothing itself. HKDF-SHA256 (RFC 5869) makes a key of it for each purpose,
/// under a label of its own, so that no use of one tells anything about another. It does not print,
/// and is wiped when dropped.
pub struct MasterKey {
    bytes: Zeroizing<[u8; 32]>,
    id: KeyId,
    /// Seals and opens what must be readable again; see [`crate::seal`].
    pub(crate) sealing: LessSafeKey,
    hashing: Zeroizing<[u8; 32]>,
}

impl MasterKey {
    /// A new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self::new(bytes)
    }

    /// A key that an operator brings: 32 bytes as base64, in either alphabet, padded or not, or as 64
    /// hexadecimal digits. White space around it is cut off, since files end with a new line.
    pub fn from_base64(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = from_hexadecimal(text).or_else(|| from_any_base64(text))?;
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(|bytes| Self::new(Zeroizing::new(bytes)))
    }

    /// The key in standard, padded base64, for the operator to keep.
    pub fn to_base64(&self) -> Secret<String> {
        Secret::new(STANDARD.encode(*self.bytes))
    }

    /// The key's name: 16 hexadecimal digits that tell nothing of the key. It stands in
    /// front of every sealed value, so that a server notices when it was given another key.
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// The same, as it stands in a sealed value.
    pub const fn key_id(&self) -> KeyId {
        self.id
    }

    /// The key for the secrets of API keys with which a database begins; see [`crate::api_keys`].
    pub fn hashing_key(&self) -> HashingKey {
        HashingKey::new(self.hashing.clone())
    }

    #[expect(clippy::expect_used, reason = "each is filled with as many bytes as it is long")]
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        // Without a salt: the key is random through and through (RFC 5869 section 3.1).
        let root = Salt::none(HKDF_SHA256).extract(&*bytes);
        let mut id = [0; KeyId::BYTES];
        derive(&root, ID, IdLength).fill(&mut id).expect("the length that was asked for");
        let sealing = UnboundKey::from(derive(&root, SEALING, &AES_256_GCM));
        let mut hashing = Zeroizing::new([0; 32]);
        derive(&root, HASHING, HashingLength).fill(&mut *hashing).expect("the length that was asked for");
        Self { bytes, id: KeyId(id), sealing: LessSafeKey::new(sealing), hashing }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The master key, and other keys that may open what they sealed but never seal: those before it, and for a
/// while the one to come.
#[derive(Debug)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// The key that seals, and others. One that is given twice counts once.
    pub fn new(current: MasterKey, others: Vec<MasterKey>) -> Self {
        let mut keys = Self { current, others: Vec::new() };
        for other in others {
            if keys.get(other.id).is_none() {
                keys.others.push(other);
            }
        }
        keys
    }

    /// The key that seals.
    pub const fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The key of this name.
    pub fn get(&self, id: KeyId) -> Option<&MasterKey> {
        std::iter::once(&self.current).chain(&self.others).find(|key| key.id == id)
    }

    /// The names of all, that of the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        std::iter::once(&self.current).chain(&self.others).map(|key| key.id).collect()
    }

    /// Encrypts `value` for `owner`, as [`MasterKey::seal`] does.
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.current.seal(value, owner, entropy)
    }

    /// Decrypts what one of the keys sealed for `owner`.
    ///
    /// # Errors
    /// [`Error::OtherMasterKey`] when it was none of them, and [`Error::Altered`].
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        let key = KeyId::of(sealed).and_then(|id| self.get(id));
        key.unwrap_or(&self.current).open(sealed, owner)
    }
}

/// The name of a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub(crate) [u8; Self::BYTES]);

impl KeyId {
    pub(crate) const BYTES: usize = 8;

    /// The key that sealed a value.
    pub fn of<T>(sealed: &Sealed<T>) -> Option<Self> {
        Self::from_bytes(sealed.as_bytes().get(1..)?.first_chunk::<{ Self::BYTES }>()?)
    }

    /// A name as it stands in a sealed value.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The name as it stands in a sealed value, after one byte.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct HashingLength;

impl KeyType for HashingLength {
    fn len(&self) -> usize {
        32
    }
}

struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        KeyId::BYTES
    }
}

#[expect(
    clippy::expect_used,
    reason = "the limit of HKDF-SHA256 is 8160 bytes, and no key here has more than 32"
)]
fn derive<'a, L: KeyType>(root: &'a Prk, label: &'a [&'a [u8]], kind: L) -> Okm<'a, L> {
    root.expand(label, kind).expect("a key is short")
}

fn from_hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits =
        text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>().map(Zeroizing::new)?;
    let bytes = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    (digits.len() == 64).then(|| Zeroizing::new(bytes))
}

fn from_any_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    const BASE64: &str = "/////////////////////////////////////////z4=";

    #[test]
    fn an_operator_may_write_it_in_many_ways() {
        let key = MasterKey::from_base64(BASE64).unwrap();
        assert_eq!(key.to_base64().expose(), BASE64);
        let hexadecimal = format!("{}3E", "fF".repeat(31));
        for same in [
            BASE64.trim_end_matches('='),
            &BASE64.replace('/', "_"),
            BASE64.replace('/', "_").trim_end_matches('='),
            &format!("\t{BASE64}\r\n"),
            &hexadecimal,
            &format!("{hexadecimal}\n"),
        ] {
            assert_eq!(MasterKey::from_base64(same).unwrap().id(), key.id(), "{same}");
        }
    }

    #[test]
    fn nothing_but_32_bytes_is_a_key() {
        for bad in [
            "",
            "password",
            &STANDARD.encode([7; 31]),
            &STANDARD.encode([7; 33]),
            &STANDARD.encode([7; 48]),
            &"0".repeat(62),
            &"0".repeat(66),
            &format!("{}+f", "0".repeat(62)),
            &format!("{}_{}", &BASE64[..20], &BASE64[21..]),
            &format!("{} {}", &BASE64[..20], &BASE64[20..]),
            &format!("{BASE64}="),
            &"ä".repeat(32),
        ] {
            assert!(MasterKey::from_base64(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn two_keys_are_two() {
        let (one, other) = (MasterKey::generate(&SystemEntropy), MasterKey::generate(&SystemEntropy));
        assert_ne!(one.id(), other.id());
        assert_ne!(one.to_base64().expose(), other.to_base64().expose());
        assert_eq!(MasterKey::from_base64(one.to_base64().expose()).unwrap().id(), one.id());
    }

    #[test]
    fn what_any_of_several_keys_sealed_is_opened_and_only_one_seals() {
        let key = |byte: &str| MasterKey::from_base64(&byte.repeat(32)).unwrap();
        let keys = MasterKeys::new(key("07"), vec![key("08"), key("07"), key("08")]);
        assert_eq!(keys.ids(), [key("07").key_id(), key("08").key_id()]);
        let token = domain::accounts::AuthToken::generate(&SystemEntropy);
        let seal = |key: &MasterKey| key.seal(&token, "AC1", &SystemEntropy);
        for byte in ["07", "08"] {
            assert_eq!(keys.open(&seal(&key(byte)), "AC1").unwrap().expose(), token.expose());
            assert!(matches!(keys.open(&seal(&key(byte)), "AC2"), Err(Error::Altered)));
        }
        assert!(matches!(keys.open(&seal(&key("09")), "AC1"), Err(Error::OtherMasterKey { .. })));
        let sealed = keys.seal(&token, "AC1", &SystemEntropy);
        assert_eq!(KeyId::of(&sealed), Some(key("07").key_id()));
        assert!(key("08").open(&sealed, "AC1").is_err());
    }

    #[test]
    fn prints_its_name_only() {
        let key = MasterKey::generate(&SystemEntropy);
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = MasterKey::from_base64(&text);
        }
    }
}
