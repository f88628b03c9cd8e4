//! Accounts and their API keys, with the credentials that backends use.

use crate::entropy::Entropy;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::secret::{Sealed, Secret};
use crate::sids::{AccountSid, ApiKeySid};
use crate::text::FriendlyName;
use crate::time::Timestamp;
use crate::webhooks::CallbackUrl;

/// The owner of services, identified by its SID and authenticated by its auth token.
#[derive(Clone, Debug)]
pub struct Account {
    /// SID of the account (`AC…`).
    pub sid: AccountSid,
    /// Display name of the account.
    pub friendly_name: FriendlyName,
    /// Auth token of the account. It is sealed instead of hashed, because webhooks are signed with it.
    pub auth_token: Sealed<AuthToken>,
    /// URL that receives the account's alerts; `None` if they are not sent.
    pub debugger_webhook: Option<CallbackUrl>,
    /// URL that receives events about the account's verifications; `None` if they are not sent.
    pub verification_events_url: Option<CallbackUrl>,
    /// Creation time of the account.
    pub created_at: Timestamp,
    /// Time of the last change to the account or its auth token.
    pub updated_at: Timestamp,
}

/// The plaintext auth token of an account.
///
/// A generated token is 32 lowercase hexadecimal digits. A token that an operator supplies may be any 16 to 128 ASCII
/// letters and digits. The Go helper library accepts no other characters (docs/protocol/authentication.md, section 6).
#[derive(Clone, Debug)]
pub struct AuthToken(Secret<String>);

impl AuthToken {
    /// Generates a token of 128 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(Secret::new(hex::encode(bytes)))
    }

    /// Parses a token that an operator supplies. Returns `None` unless the token is 16 to 128 ASCII letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ((16..=128).contains(&text.len()) && plain).then(|| Self(Secret::new(text.to_owned())))
    }

    /// Returns the token's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// An API key: additional credentials of an account, which can be revoked separately.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// SID of the API key (`SK…`), the user name in HTTP Basic authentication.
    pub sid: ApiKeySid,
    /// Account to which the API key belongs, and for which it authenticates backends.
    pub account_sid: AccountSid,
    /// Display name of the API key.
    pub friendly_name: FriendlyName,
    /// Keyed hash of the API key's secret. The secret itself is shown only once, and is not stored.
    pub secret_hash: Vec<u8>,
    /// Creation time of the API key.
    pub created_at: Timestamp,
}

/// The plaintext secret of an API key: 32 ASCII letters and digits.
#[derive(Clone, Debug)]
pub struct ApiKeySecret(Secret<String>);

impl ApiKey {
    /// Display name of an API key that is created without one.
    pub const DEFAULT_NAME: &str = "API key";

    /// Returns [`DEFAULT_NAME`](Self::DEFAULT_NAME) as a friendly name.
    pub fn default_name() -> FriendlyName {
        FriendlyName::from_stored(Self::DEFAULT_NAME.to_owned())
    }
}

impl ApiKeySecret {
    /// Generates a secret of 190 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut secret = String::with_capacity(32);
        while secret.len() < 32 {
            let mut byte = [0];
            entropy.fill(&mut byte);
            // Skip bytes of 248 (4 × 62) and more: they would make the first letters of the alphabet more likely.
            if byte[0] < 248 {
                secret.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        Self(Secret::new(secret))
    }

    /// Returns the secret's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Listed for Account {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Listed for ApiKey {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// The type of an API key. Twilio also has main keys and restricted keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// A key with the permissions of its account, except that it cannot change API keys.
    Standard,
}

impl Parameter for KeyType {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "standard" => Ok(Self::Standard),
            "restricted" => Err(Expected::new("must be standard: this server has no restricted API keys")),
            _ => Err(Expected::new("must be standard")),
        }
    }
}

/// The permissions of a restricted API key. There is no value of this type, because this server has no such keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {}

impl Parameter for Policy {
    fn from_parameter(_: &str) -> Result<Self, Expected> {
        Err(Expected::new("must be absent: this server has no restricted API keys"))
    }

    /// Returns whether the text is empty or `null`, which libraries send for an absent object.
    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicU8, Ordering};

    /// An entropy source that yields the bytes 0, 1, 2, … in turn.
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn generated_auth_token_is_32_hexadecimal_digits() {
        let token = AuthToken::generate(&Counting::default());
        assert_eq!(token.expose(), "000102030405060708090a0b0c0d0e0f");
    }

    #[test]
    fn supplied_auth_token_must_be_16_to_128_letters_and_digits() {
        for (length, is_token) in [(15, false), (16, true), (128, true), (129, false)] {
            let text = "aB3".repeat(43)[..length].to_owned();
            assert_eq!(
                AuthToken::parse(&text).map(|token| token.expose().to_owned()),
                is_token.then_some(text)
            );
        }
        for bad in ["", "with-a-dash-in-the-midst", "with a space in the midst", "ünïcödeünïcödeünïcöde"]
        {
            assert!(AuthToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_standard_api_keys_without_a_policy_are_accepted() {
        assert_eq!(KeyType::from_parameter("standard"), Ok(KeyType::Standard));
        let why = |text| KeyType::from_parameter(text).unwrap_err().to_string();
        assert_eq!(why("restricted"), "must be standard: this server has no restricted API keys");
        assert_eq!(why("Standard"), "must be standard");
        for (text, is_absent) in [("", true), (" null ", true), ("{}", false), (r#"{"allow":[]}"#, false)] {
            assert_eq!(Policy::is_absent(text), is_absent, "{text}");
            assert!(Policy::from_parameter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn characters_of_an_api_key_secret_are_equally_likely() {
        let entropy = Counting::default();
        // 31 secrets have 992 characters. They use every byte from 0 to 247 four times, and therefore each of the 62
        // characters 16 times.
        let secrets: Vec<_> = (0..31).map(|_| ApiKeySecret::generate(&entropy)).collect();
        let mut counts = std::collections::BTreeMap::new();
        for secret in &secrets {
            assert_eq!(secret.expose().len(), 32);
            for character in secret.expose().chars() {
                assert!(character.is_ascii_alphanumeric());
                *counts.entry(character).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 16), "{counts:?}");
    }
}
