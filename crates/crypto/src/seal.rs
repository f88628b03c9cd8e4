//! Secrets that must be readable again, encrypted under the master key: the database never sees
//! them in the open.
//!
//! A sealed value is
//!
//! ```text
//! version 1 │ id of the master key │ nonce    │ ciphertext and tag
//! 1 byte    │ 8 bytes              │ 12 bytes │ as long as the secret, and 16 bytes
//! ```
//!
//! AES-256-GCM with random nonces, which NIST SP 800-38D section 8.3 permits for 2³² values under one
//! key. Purpose and owner are authenticated along with the secret: whoever can write to the database
//! but has no key can't move a sealed value to another row or column. The id in front tells which
//! master key it takes: while that is changed there are several ([`crate::MasterKeys`]).

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use domain::access_tokens::TokenText;
use domain::accounts::AuthToken;
use domain::credentials::Content;
use domain::{Entropy, Sealed};
use zeroize::Zeroizing;

use crate::Error;
use crate::master_key::KeyId;
pub use crate::master_key::MasterKey;

/// The only version there is.
const VERSION: u8 = 1;

/// A secret that can be sealed. It must be shorter than 2³⁶ − 32 bytes, the limit of AES-GCM.
pub trait Sealable: Sized {
    /// What the secret is, in words without NUL. No other type has the same, and it never changes.
    const PURPOSE: &'static str;

    /// The secret as bytes.
    fn to_bytes(&self) -> Zeroizing<Vec<u8>>;

    /// The secret that [`Sealable::to_bytes`] wrote.
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

impl MasterKey {
    /// Encrypts `value` for `owner`: a name of the row that it is kept in, such as a SID.
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only secrets of 64 GiB and more")]
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut secret = value.to_bytes();
        let tag = self
            .sealing
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), context::<T>(owner), &mut secret)
            .expect("a secret is short");
        let key_id = self.key_id().0;
        Sealed::from_bytes([&[VERSION], &key_id[..], &nonce, &secret, tag.as_ref()].concat())
    }

    /// Decrypts what was sealed for `owner`.
    ///
    /// # Errors
    /// [`Error::OtherMasterKey`] when another key sealed it, and [`Error::Altered`] when it is not what
    /// was sealed as a `T` for this owner.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        let (key_id, nonce, ciphertext) = fields(sealed.as_bytes()).ok_or(Error::Altered)?;
        if key_id != self.key_id() {
            return Err(Error::OtherMasterKey { sealed_under: key_id.to_string(), ours: self.id() });
        }
        let mut secret = Zeroizing::new(ciphertext.to_vec());
        let secret = self
            .sealing
            .open_in_place(Nonce::assume_unique_for_key(nonce), context::<T>(owner), &mut secret)
            .map_err(|_| Error::Altered)?;
        T::from_bytes(secret).ok_or(Error::Altered)
    }
}

/// What is authenticated along with the secret. A purpose has no NUL, so that no two pairs of purpose
/// and owner are the same bytes.
fn context<T: Sealable>(owner: &str) -> Aad<Vec<u8>> {
    Aad::from([T::PURPOSE.as_bytes(), &[0], owner.as_bytes()].concat())
}

fn fields(sealed: &[u8]) -> Option<(KeyId, [u8; NONCE_LEN], &[u8])> {
    let (version, rest) = sealed.split_first()?;
    let (key_id, rest) = rest.split_first_chunk::<{ KeyId::BYTES }>()?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
    (*version == VERSION).then_some((KeyId(*key_id), *nonce, ciphertext))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{EnrollmentKey, SystemEntropy};
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

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
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
    fn the_same_secret_never_looks_the_same() {
        let (master, token) = (master(), AuthToken::generate(&SystemEntropy));
        let seal = || master.seal(&token, OWNER, &SystemEntropy);
        assert_ne!(seal().as_bytes(), seal().as_bytes());
        assert!(!seal().as_bytes().windows(32).any(|window| window == token.expose().as_bytes()));
    }

    #[test]
    fn a_value_stays_with_its_owner_and_purpose() {
        let master = master();
        let token = AuthToken::generate(&SystemEntropy);
        let sealed = master.seal(&token, OWNER, &SystemEntropy);
        assert!(matches!(master.open(&sealed, "AC22222222222222222222222222222222"), Err(Error::Altered)));
        assert!(matches!(master.open(&sealed, ""), Err(Error::Altered)));
        let as_text = Sealed::<TokenText>::from_bytes(sealed.as_bytes().to_vec());
        assert!(matches!(master.open(&as_text, OWNER), Err(Error::Altered)));
    }

    #[test]
    fn names_the_master_key_that_it_takes() {
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
    fn a_change_anywhere_is_noticed() {
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

    /// What is stored stays readable: these bytes, computed with Python, may never change.
    #[test]
    fn the_format_stands() {
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
        assert_eq!(hex(master.seal(&token, OWNER, &Sevens).as_bytes()), expected);
    }

    #[test]
    fn errors_name_no_secret() {
        let (ours, theirs) = (master(), master());
        let token = AuthToken::generate(&SystemEntropy);
        let error = ours.open(&theirs.seal(&token, OWNER, &SystemEntropy), OWNER).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(&ours.id()) && text.contains(&theirs.id()));
        assert!(!text.contains(token.expose()) && !text.contains(ours.to_base64().expose().as_str()));
    }

    proptest! {
        #[test]
        fn opening_garbage_never_panics(bytes: Vec<u8>, owner in ".*") {
            prop_assert!(master().open(&Sealed::<AuthToken>::from_bytes(bytes), &owner).is_err());
        }
    }
}
