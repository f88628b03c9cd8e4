//! Encryption of secrets that the server must be able to read again. The database never contains their plaintext.
//!
//! A sealed value has this format:
//!
//! ```text
//! version 1 │ ID of the master key │ nonce    │ ciphertext and tag
//! 1 byte    │ 8 bytes              │ 12 bytes │ length of the secret + 16 bytes
//! ```
//!
//! The cipher is AES-256-GCM with random nonces, which NIST SP 800-38D section 8.3 permits for up to 2³² values per
//! key. The purpose and the owner of a secret are authenticated along with it. An attacker who can write to the
//! database but has no key can therefore not move a sealed value to another row or column. During a rotation of the
//! master key, the key ID shows which key opens a value ([`crate::MasterKeys`]).

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use domain::access_tokens::TokenText;
use domain::accounts::AuthToken;
use domain::credentials::Content;
use domain::factors::totp::TotpSecret;
use domain::outlets::OutletContent;
use domain::verifications::OneTimeCode;
use domain::{Entropy, Sealed};
use zeroize::Zeroizing;

use crate::Error;

/// The version of the format of sealed values. There is no other version.
const VERSION: u8 = 1;

/// A type of secret that can be sealed. A secret must be shorter than 2³⁶ − 32 bytes, the limit of AES-GCM.
pub trait Sealable: Sized {
    /// Description of this type of secret, without NUL characters. It must be unique among all types and must never
    /// change, because sealing authenticates it along with the secret.
    const PURPOSE: &'static str;

    /// Returns the plaintext bytes of the secret.
    fn to_bytes(&self) -> Zeroizing<Vec<u8>>;

    /// Parses the plaintext bytes that [`Sealable::to_bytes`] returned; returns `None` if they are not valid.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Sealable for AuthToken {
    const PURPOSE: &'static str = "account auth token";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().as_bytes().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        str::from_utf8(bytes).ok().and_then(Self::parse)
    }
}

impl Sealable for TokenText {
    const PURPOSE: &'static str = "access token";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().as_bytes().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        str::from_utf8(bytes).ok().map(|text| Self::new(text.to_owned()))
    }
}

impl Sealable for Content {
    const PURPOSE: &'static str = "push credential";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::new(bytes.to_vec()))
    }
}

impl Sealable for TotpSecret {
    const PURPOSE: &'static str = "TOTP secret";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::new(bytes.to_vec()))
    }
}

impl Sealable for OutletContent {
    const PURPOSE: &'static str = "outlet settings";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::new(bytes.to_vec()))
    }
}

impl Sealable for OneTimeCode {
    const PURPOSE: &'static str = "one-time code";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().as_bytes().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        str::from_utf8(bytes).ok().map(|text| Self::from_sealed(text.to_owned()))
    }
}

/// The public ID of a master key. Every value that is sealed under the key contains its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; Self::BYTES]);

impl KeyId {
    pub(crate) const BYTES: usize = 8;

    pub(crate) const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the ID of the master key that sealed a value, or `None` if the value is too short to contain one.
    pub fn of<T>(sealed: &Sealed<T>) -> Option<Self> {
        Self::from_bytes(sealed.as_bytes().get(1..)?.first_chunk::<{ Self::BYTES }>()?)
    }

    /// Creates an ID from its 8 bytes; returns `None` if `bytes` has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the 8 bytes of the ID, which follow the version byte in a sealed value.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Formats the ID as 16 lowercase hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The AES-256-GCM key that seals and opens values. It is derived from a master key.
pub(crate) struct SealingKey {
    id: KeyId,
    key: LessSafeKey,
}

impl SealingKey {
    pub(crate) const fn new(id: KeyId, key: LessSafeKey) -> Self {
        Self { id, key }
    }

    /// Returns the ID of the master key from which this key is derived.
    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    /// Encrypts `value` for `owner`, as described at [`MasterKey::seal`](crate::MasterKey::seal).
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only secrets of 64 GiB and more")]
    pub(crate) fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut secret = value.to_bytes();
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                associated_data::<T>(owner),
                &mut secret,
            )
            .expect("a secret is short");
        Sealed::from_bytes([&[VERSION], self.id.as_bytes(), &nonce, &secret, tag.as_ref()].concat())
    }

    /// Decrypts a value that was sealed for `owner`, as described at [`MasterKey::open`](crate::MasterKey::open).
    pub(crate) fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        let (key_id, nonce, ciphertext) = split(sealed.as_bytes()).ok_or(Error::Altered)?;
        if key_id != self.id {
            return Err(Error::OtherMasterKey {
                sealed_under: key_id.to_string(),
                ours: self.id.to_string(),
            });
        }
        let mut secret = Zeroizing::new(ciphertext.to_vec());
        let secret = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), associated_data::<T>(owner), &mut secret)
            .map_err(|_| Error::Altered)?;
        T::from_bytes(secret).ok_or(Error::Altered)
    }
}

/// Returns the data that is authenticated along with a secret of type `T`: its purpose, a NUL byte and `owner`. A
/// purpose contains no NUL, so that different pairs of purpose and owner never yield the same bytes.
fn associated_data<T: Sealable>(owner: &str) -> Aad<Vec<u8>> {
    Aad::from([T::PURPOSE.as_bytes(), &[0], owner.as_bytes()].concat())
}

fn split(sealed: &[u8]) -> Option<(KeyId, [u8; NONCE_LEN], &[u8])> {
    let (version, rest) = sealed.split_first()?;
    let (key_id, rest) = rest.split_first_chunk::<{ KeyId::BYTES }>()?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
    (*version == VERSION).then_some((KeyId::new(*key_id), *nonce, ciphertext))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{EnrollmentKey, MasterKey, SystemEntropy};
    use domain::Timestamp;

    const OWNER: &str = "AC11111111111111111111111111111111";

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn master() -> MasterKey {
        MasterKey::generate(&SystemEntropy)
    }

    #[test]
    fn sealed_value_can_be_opened() {
        let master = master();
        let token = AuthToken::generate(&SystemEntropy);
        let sealed = master.seal(&token, OWNER, &SystemEntropy);
        assert_eq!(master.open(&sealed, OWNER).unwrap().expose(), token.expose());
        assert_eq!(sealed.as_bytes().len(), 1 + 8 + 12 + 32 + 16);

        let text = TokenText::new("eyJ…".to_owned());
        let sealed = master.seal(&text, "", &SystemEntropy);
        assert_eq!(master.open(&sealed, "").unwrap().expose(), "eyJ…");

        let key = EnrollmentKey::generate(Timestamp::from_seconds(0), &SystemEntropy);
        let sealed = master.seal(&key, key.kid(), &SystemEntropy);
        assert_eq!(master.open(&sealed, key.kid()).unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn sealing_the_same_secret_twice_yields_different_bytes() {
        let (master, token) = (master(), AuthToken::generate(&SystemEntropy));
        let seal = || master.seal(&token, OWNER, &SystemEntropy);
        assert_ne!(seal().as_bytes(), seal().as_bytes());
        assert!(!seal().as_bytes().windows(32).any(|window| window == token.expose().as_bytes()));
    }

    #[test]
    fn sealed_value_can_be_opened_only_for_its_owner_and_purpose() {
        let master = master();
        let token = AuthToken::generate(&SystemEntropy);
        let sealed = master.seal(&token, OWNER, &SystemEntropy);
        assert!(matches!(master.open(&sealed, "AC22222222222222222222222222222222"), Err(Error::Altered)));
        assert!(matches!(master.open(&sealed, ""), Err(Error::Altered)));
        let as_text = Sealed::<TokenText>::from_bytes(sealed.as_bytes().to_vec());
        assert!(matches!(master.open(&as_text, OWNER), Err(Error::Altered)));
    }

    #[test]
    fn error_contains_the_id_of_the_master_key_that_sealed_the_value() {
        let (ours, theirs) = (master(), master());
        let sealed = theirs.seal(&AuthToken::generate(&SystemEntropy), OWNER, &SystemEntropy);
        match ours.open(&sealed, OWNER) {
            Err(Error::OtherMasterKey { sealed_under, ours: id }) => {
                assert_eq!((sealed_under, id), (theirs.id(), ours.id()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn altered_sealed_value_is_refused() {
        let master = master();
        let sealed = master.seal(&AuthToken::generate(&SystemEntropy), OWNER, &SystemEntropy);
        let sealed = sealed.as_bytes();
        for place in 0..sealed.len() {
            let mut bytes = sealed.to_vec();
            bytes[place] ^= 1;
            let error = master.open::<AuthToken>(&Sealed::from_bytes(bytes), OWNER).unwrap_err();
            assert_eq!(
                matches!(error, Error::OtherMasterKey { .. }),
                (1..9).contains(&place),
                "byte {place}"
            );
        }
        for length in 0..sealed.len() {
            let cut = Sealed::<AuthToken>::from_bytes(sealed[..length].to_vec());
            assert!(matches!(master.open(&cut, OWNER), Err(Error::Altered)), "cut to {length}");
        }
        let longer = Sealed::<AuthToken>::from_bytes([sealed, &[0]].concat());
        assert!(matches!(master.open(&longer, OWNER), Err(Error::Altered)));
    }

    /// Stored values must stay readable, so the expected bytes must never change. They were computed with Python.
    #[test]
    fn format_of_sealed_values_never_changes() {
        let master = MasterKey::generate(&Sevens);
        assert_eq!(master.id(), "cb3e1fa7f50b3d91");
        let token = AuthToken::parse("0123456789abcdef0123456789abcdef").unwrap();
        let expected = concat!(
            "01",
            "cb3e1fa7f50b3d91",
            "070707070707070707070707",
            "fe72760db626e0da3b2feb37fd5aa24006e0e0b3ace0e59ce6be3c4db182a18a",
            "0cda1b52e7eb299dc186e60a9d55188d"
        );
        assert_eq!(hex::encode(master.seal(&token, OWNER, &Sevens).as_bytes()), expected);
    }

    #[test]
    fn error_for_a_value_sealed_under_another_master_key_contains_no_secret() {
        let (ours, theirs) = (master(), master());
        let token = AuthToken::generate(&SystemEntropy);
        let error = ours.open(&theirs.seal(&token, OWNER, &SystemEntropy), OWNER).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(&ours.id()) && text.contains(&theirs.id()));
        assert!(!text.contains(token.expose()) && !text.contains(ours.to_base64().expose().as_str()));
    }

    proptest! {
        #[test]
        fn opening_arbitrary_bytes_as_a_sealed_value_never_panics(bytes: Vec<u8>, owner in ".*") {
            prop_assert!(master().open(&Sealed::<AuthToken>::from_bytes(bytes), &owner).is_err());
        }
    }
}
