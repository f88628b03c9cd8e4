//! The master key and the keys that are derived from it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use domain::{Entropy, Sealed, Secret};
use zeroize::Zeroizing;

use crate::Error;
use crate::api_keys::HashingKey;
use crate::seal::{KeyId, Sealable, SealingKey};

const KEY_BYTES: usize = 32;

// Labels must never change: values that were sealed or hashed under an old label would become unusable.

/// HKDF label of the key that seals values.
const SEALING_LABEL: &[&[u8]] = &[b"countersign 1 sealing"];
/// HKDF label of the first key that hashes the secrets of API keys.
const HASHING_LABEL: &[&[u8]] = &[b"countersign 1 api key secrets"];
/// HKDF label of the master key's public ID.
const ID_LABEL: &[&[u8]] = &[b"countersign 1 id"];

/// The master key: 32 bytes that the operator keeps outside the database.
///
/// The master key is never used directly. HKDF-SHA256 (RFC 5869) derives a separate key for each purpose, under its own
/// label, so that one derived key reveals nothing about another. The master key cannot be printed, and is wiped when
/// dropped.
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    sealing: SealingKey,
    hashing: Zeroizing<[u8; KEY_BYTES]>,
}

impl MasterKey {
    /// Generates a random master key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        entropy.fill(&mut *bytes);
        Self::new(bytes)
    }

    /// Parses a master key that an operator supplies: 32 bytes as base64 or as 64 hexadecimal digits. The base64 text
    /// may use the standard or the URL-safe alphabet, with or without padding. Surrounding white space is ignored,
    /// because files end with a newline. Returns `None` if the text is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        parse_hexadecimal(text).or_else(|| parse_base64(text)).map(Self::new)
    }

    /// Returns the master key as standard, padded base64, for the operator to store.
    pub fn to_base64(&self) -> Secret<String> {
        Secret::new(STANDARD.encode(*self.bytes))
    }

    /// Returns the ID of the master key: 16 hexadecimal digits that reveal nothing about the key. Every sealed value
    /// contains the ID, so that a server can detect that it was started with a different key.
    pub fn id(&self) -> String {
        self.key_id().to_string()
    }

    /// Returns the ID of the master key in the binary form that sealed values contain.
    pub const fn key_id(&self) -> KeyId {
        self.sealing.id()
    }

    /// Returns the hashing key with which a new database starts; see [`crate::api_keys`].
    pub fn hashing_key(&self) -> HashingKey {
        HashingKey::new(self.hashing.clone())
    }

    /// Encrypts `value` for `owner`, a text that identifies the row in which the value is stored, for example a SID.
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.sealing.seal(value, owner, entropy)
    }

    /// Decrypts a value that was sealed for `owner`, and returns the plaintext.
    ///
    /// # Errors
    /// Returns [`Error::OtherMasterKey`] if another master key sealed the value. Returns [`Error::Altered`] if the
    /// value was altered, or was not sealed as a `T` for this owner.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        self.sealing.open(sealed, owner)
    }

    #[expect(clippy::expect_used, reason = "each buffer has the length that is derived for it")]
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        // No salt is needed, because the master key is uniformly random (RFC 5869 section 3.1).
        let root = Salt::none(HKDF_SHA256).extract(&*bytes);
        let mut id = [0; KeyId::BYTES];
        derive(&root, ID_LABEL, IdLength).fill(&mut id).expect("the length that was requested");
        let sealing = LessSafeKey::new(UnboundKey::from(derive(&root, SEALING_LABEL, &AES_256_GCM)));
        let mut hashing = Zeroizing::new([0; KEY_BYTES]);
        derive(&root, HASHING_LABEL, HashingLength)
            .fill(&mut *hashing)
            .expect("the length that was requested");
        Self { bytes, sealing: SealingKey::new(KeyId::new(id), sealing), hashing }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// The master keys of a server. The current key seals and opens values. The others only open values: they are previous
/// keys and, for a while, the next one.
#[derive(Debug)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// Combines the current key with the other keys. Duplicates are dropped.
    pub fn new(current: MasterKey, others: Vec<MasterKey>) -> Self {
        let mut keys = Self { current, others: Vec::new() };
        for other in others {
            if keys.get(other.key_id()).is_none() {
                keys.others.push(other);
            }
        }
        keys
    }

    /// Returns the current key, which seals values.
    pub const fn current(&self) -> &MasterKey {
        &self.current
    }

    /// Returns the key with this ID, or `None` if no key has it.
    pub fn get(&self, id: KeyId) -> Option<&MasterKey> {
        self.iter().find(|key| key.key_id() == id)
    }

    /// Returns the IDs of all keys, the current one first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.iter().map(MasterKey::key_id).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// Encrypts `value` for `owner` with the current key; see [`MasterKey::seal`].
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.current.seal(value, owner, entropy)
    }

    /// Decrypts a value that one of the keys sealed for `owner`, and returns the plaintext.
    ///
    /// # Errors
    /// Returns [`Error::OtherMasterKey`] if none of the keys sealed the value. Returns [`Error::Altered`] in the same
    /// cases as [`MasterKey::open`].
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        let key = KeyId::of(sealed).and_then(|id| self.get(id));
        key.unwrap_or(&self.current).open(sealed, owner)
    }
}

struct HashingLength;

impl KeyType for HashingLength {
    fn len(&self) -> usize {
        KEY_BYTES
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

fn parse_hexadecimal(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text, &mut *bytes).ok().map(|()| bytes)
}

fn parse_base64(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .map(Zeroizing::new)?;
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    const BASE64: &str = "/////////////////////////////////////////z4=";

    #[test]
    fn master_key_is_accepted_in_base64_and_in_hexadecimal() {
        let key = MasterKey::parse(BASE64).unwrap();
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
            assert_eq!(MasterKey::parse(same).unwrap().id(), key.id(), "{same}");
        }
    }

    #[test]
    fn master_key_that_does_not_encode_32_bytes_is_refused() {
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
            assert!(MasterKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn generated_master_keys_differ() {
        let (one, other) = (MasterKey::generate(&SystemEntropy), MasterKey::generate(&SystemEntropy));
        assert_ne!(one.id(), other.id());
        assert_ne!(one.to_base64().expose(), other.to_base64().expose());
        assert_eq!(MasterKey::parse(one.to_base64().expose()).unwrap().id(), one.id());
    }

    #[test]
    fn current_and_old_master_keys_open_values_but_only_the_current_one_seals() {
        let key = |byte: &str| MasterKey::parse(&byte.repeat(32)).unwrap();
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
    fn debug_output_of_a_master_key_shows_only_its_id() {
        let key = MasterKey::generate(&SystemEntropy);
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
    }

    proptest! {
        #[test]
        fn parsing_a_master_key_never_panics(text in ".*") {
            let _ = MasterKey::parse(&text);
        }
    }
}
