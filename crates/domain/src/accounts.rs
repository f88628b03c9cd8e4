//! Accounts and their API keys: who may call as a backend.

use crate::entropy::Entropy;
use crate::secret::{Sealed, Secret};
use crate::sids::{AccountSid, ApiKeySid};
use crate::text::FriendlyName;
use crate::time::Timestamp;
use crate::webhooks::CallbackUrl;

/// An account: the owner of services, known by its SID and auth token.
#[derive(Clone, Debug)]
pub struct Account {
    /// `AC…`
    pub sid: AccountSid,
    /// What operators call it.
    pub friendly_name: FriendlyName,
    /// The auth token, sealed rather than hashed: webhooks are signed with it.
    pub auth_token: Sealed<AuthToken>,
    /// Where it hears of its alerts.
    pub debugger_webhook: Option<CallbackUrl>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it, or its token, last changed.
    pub updated_at: Timestamp,
}

/// An account's auth token, in the open. Ours are 32 lower-case hexadecimal digits; one that an
/// operator brings may be any 16 to 128 letters and digits, since the Go helper library takes
/// nothing else (protocol 01 section 6).
#[derive(Clone, Debug)]
pub struct AuthToken(Secret<String>);

impl AuthToken {
    /// A new token of 128 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// A token that an operator brings; `None` if it is not 16 to 128 ASCII letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ((16..=128).contains(&text.len()) && plain).then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// An API key: a second way to sign in as an account, which can be revoked on its own.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// `SK…`, the user name.
    pub sid: ApiKeySid,
    /// The account that it stands for.
    pub account_sid: AccountSid,
    /// What operators call it.
    pub friendly_name: FriendlyName,
    /// Keyed hash of the secret; the secret itself is shown once and kept nowhere.
    pub secret_hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The secret of an API key, in the open: 32 letters and digits.
#[derive(Clone, Debug)]
pub struct ApiKeySecret(Secret<String>);

impl ApiKeySecret {
    /// A new secret of 190 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut secret = String::with_capacity(32);
        while secret.len() < 32 {
            let mut byte = [0];
            entropy.fill(&mut byte);
            // 248 = 4 × 62: what lies above would favour the first letters.
            if byte[0] < 248 {
                secret.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        Self(Secret::new(secret))
    }

    /// The secret's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl crate::paging::Listed for Account {
    fn position(&self) -> crate::paging::Position {
        crate::paging::position(self.sid, self.created_at)
    }
}
