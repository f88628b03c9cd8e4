//! Access tokens. A backend requests a token for a phone, and the phone enrolls a factor with it.
//!
//! A token is a compact JWE (RFC 7516) that the phone treats as opaque. It uses direct encryption with an enrollment
//! key of the server, A256GCM, DEFLATE compression, and `twilio-fpa;v=1` as `cty`.
//!
//! This module has the keys, the claims and the checks; an [`AccessTokenCipher`] encrypts and decrypts. The server's
//! is `jwe::Josekit`, whose library compiles OpenSSL. Because it is injected, only the binary waits for that build.
//!
//! The library behind the cipher, `josekit` 0.10.3, is lenient in several ways. A cipher therefore receives only a
//! [`CheckedToken`], which has passed these checks:
//!
//! - The library decompresses without a size limit, so that 4 KB may become megabytes. However, it decompresses only
//!   data that AES-GCM has authenticated (`JweContext::deserialize_compact_with_selector`: decrypt, then decompress). A
//!   decompression bomb therefore requires one of the server's keys. A test of the crate `jwe` verifies this order.
//! - It accepts authentication tags of any length. A tag of one byte could be guessed in 256 attempts, so the check
//!   requires 16 bytes.
//! - It accepts nonces of any length, and the OpenSSL binding panics on an empty one. The check requires 12 bytes.
//! - It ignores `crit` and unknown header members. The check permits only the five members that this server writes,
//!   with the values that it writes.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use domain::access_tokens::{Grant, TokenText};
use domain::factors::FactorType;
use domain::parameter::Parameter;
use domain::sids::{AccessTokenSid, AccountSid, ServiceSid};
use domain::text::Identity;
use domain::{Entropy, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Error, Sealable, compact};

const ALGORITHM: &str = "dir";

/// `enc` in the header of an access token.
pub const ENCRYPTION: &str = "A256GCM";

/// `zip` in the header of an access token.
pub const COMPRESSION: &str = "DEF";

/// `cty` in the header of an access token.
pub const CONTENT_TYPE: &str = "twilio-fpa;v=1";

/// Maximum length of a text that is parsed as a token. Issued tokens have about 500 characters.
const MAX_CHARACTERS: usize = 4096;

/// Lengths of the nonce and the authentication tag of A256GCM (RFC 7518 section 5.3).
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Length of the secret of an enrollment key.
pub const SECRET_BYTES: usize = 32;

/// Minimum age of a key before it issues tokens. At that age, all nodes have loaded the key.
const MIN_ISSUER_AGE_SECONDS: i64 = 5;

/// Encrypts and decrypts access tokens as compact JWEs with the algorithm `dir`.
pub trait AccessTokenCipher: Send + Sync {
    /// Encrypts `claims` with `secret`, and returns the token's text. Its header has `alg`, [`ENCRYPTION`],
    /// [`COMPRESSION`], [`CONTENT_TYPE`] and `kid`, and no other members.
    ///
    /// # Errors
    /// Returns an error if the library fails. No claims are known to cause that.
    fn encrypt(
        &self,
        claims: &[u8],
        kid: &str,
        secret: &[u8; SECRET_BYTES],
    ) -> Result<String, Box<dyn StdError + Send + Sync>>;

    /// Returns the claims of `token` if it was encrypted with `secret` and not altered. Returns `None` otherwise.
    fn decrypt(&self, token: &CheckedToken<'_>, secret: &[u8; SECRET_BYTES]) -> Option<Vec<u8>>;
}

/// The text of a token with exactly the form of the tokens that this server issues, and the ID of a key in the ring.
/// Only [`KeyRing`] creates it, so that no other text reaches an [`AccessTokenCipher`].
pub struct CheckedToken<'a>(&'a str);

impl CheckedToken<'_> {
    /// Returns the token's text.
    pub const fn text(&self) -> &str {
        self.0
    }
}

/// A key that encrypts and authenticates access tokens: 256 secret bits and a key ID. It cannot be printed, and is
/// wiped when dropped. For each token, `josekit` makes a copy of the key that is not wiped.
///
/// Nonces are random, which NIST SP 800-38D section 8.3 permits for up to 2³² tokens per key.
pub struct EnrollmentKey {
    kid: String,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl EnrollmentKey {
    /// Generates a random key. Its ID contains the creation time `now`, in milliseconds.
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let milliseconds = u64::try_from(now.micros().div_euclid(1000)).unwrap_or(0);
        let kid = uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid().to_string();
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        entropy.fill(&mut *secret);
        Self { kid, secret }
    }

    /// Returns the creation time, in whole seconds, from the key ID.
    pub fn created_at(&self) -> Timestamp {
        let stamp = Uuid::try_parse(&self.kid).ok().and_then(|kid| kid.get_timestamp());
        let seconds = stamp.map_or(0, |stamp| stamp.to_unix().0);
        Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// Returns the key ID: a version 7 UUID (RFC 9562) as text. Key IDs therefore sort by creation time.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl fmt::Debug for EnrollmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrollmentKey({})", self.kid)
    }
}

/// The sealed bytes are the 36 characters of the key ID, followed by the 32 bytes of the key.
impl Sealable for EnrollmentKey {
    const PURPOSE: &'static str = "enrollment key";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.kid.as_bytes(), &*self.secret].concat())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kid, secret) = bytes.split_last_chunk::<SECRET_BYTES>()?;
        let kid = Uuid::try_parse_ascii(kid).ok()?.to_string();
        Some(Self { kid, secret: Zeroizing::new(*secret) })
    }
}

/// The enrollment keys whose tokens are accepted. The newest key that is old enough for all nodes to have loaded it
/// issues tokens. Older keys are kept until the last of their tokens has expired.
pub struct KeyRing {
    newest: EnrollmentKey,
    /// All keys except the newest one, oldest first.
    older: Vec<EnrollmentKey>,
    cipher: Arc<dyn AccessTokenCipher>,
}

impl KeyRing {
    /// Creates a key ring from keys in any order, which encrypts with `cipher`. Returns `None` if `keys` is empty.
    pub fn new(mut keys: Vec<EnrollmentKey>, cipher: Arc<dyn AccessTokenCipher>) -> Option<Self> {
        keys.sort_by(|one, other| one.kid.cmp(&other.kid));
        let newest = keys.pop()?;
        Some(Self { newest, older: keys, cipher })
    }

    /// Returns the key that issues tokens at `now`: the newest key that is at least [`MIN_ISSUER_AGE_SECONDS`] old. If
    /// all keys are younger, returns the oldest key.
    fn issuer(&self, now: Timestamp) -> &EnrollmentKey {
        let is_old_enough =
            |key: &&EnrollmentKey| key.created_at().plus_seconds(MIN_ISSUER_AGE_SECONDS) <= now;
        let newest = std::iter::once(&self.newest).chain(self.older.iter().rev()).find(is_old_enough);
        newest.or(self.older.first()).unwrap_or(&self.newest)
    }

    /// Issues an access token for `grant` at the time `now`, and returns its text.
    ///
    /// # Errors
    /// Returns [`Error::Issue`] if the cipher fails. No grant is known to cause that.
    pub fn issue(&self, grant: &Grant, now: Timestamp) -> Result<TokenText, Error> {
        let key = self.issuer(now);
        let claims = serde_json::to_vec(&Claims::from(grant)).map_err(|error| Error::Issue(error.into()))?;
        self.cipher.encrypt(&claims, key.kid(), &key.secret).map(TokenText::new).map_err(Error::Issue)
    }

    /// Returns the grant of the token `text` if a key of this ring issued the token and it has not expired at `now`.
    /// Returns `None` otherwise. The caller must check in the database whether the token was spent.
    pub fn open(&self, text: &str, now: Timestamp) -> Option<Grant> {
        let (token, key) = self.check(text)?;
        let claims = self.cipher.decrypt(&token, &key.secret)?;
        let grant = serde_json::from_slice::<Claims>(&claims).ok()?.into_grant()?;
        (now < grant.expires_at).then_some(grant)
    }

    /// Returns whether `text` is a well-formed token with the ID of a key in this ring.
    ///
    /// If not, another node may have created a newer key, so the caller should load the key ring again. The caller must
    /// limit how often it does so, because any client can invent a key ID.
    pub fn knows(&self, text: &str) -> bool {
        self.check(text).is_some()
    }

    /// Checks the token `text`, and returns it with the key whose ID it contains. Returns `None` if the ring has no
    /// such key, or if `text` does not have exactly the form of the tokens that this server issues.
    fn check<'a>(&self, text: &'a str) -> Option<(CheckedToken<'a>, &EnrollmentKey)> {
        if text.len() > MAX_CHARACTERS {
            return None;
        }
        let [header, encrypted_key, nonce, ciphertext, tag] = compact::split(text)?;
        let has_length = |part, bytes| compact::decode(part).is_some_and(|decoded| decoded.len() == bytes);
        let is_whole = encrypted_key.is_empty()
            && has_length(nonce, NONCE_BYTES)
            && compact::decode(ciphertext).is_some()
            && has_length(tag, TAG_BYTES);
        // Parse the header as a JSON object first: serde would also accept an array of the members' values in order.
        let header = compact::parse_json::<Map<String, Value>>(header).filter(|_| is_whole)?;
        let header = serde_json::from_value::<Header>(header.into()).ok().filter(Header::is_expected)?;
        let key = std::iter::once(&self.newest).chain(&self.older).find(|key| key.kid == header.kid)?;
        Some((CheckedToken(text), key))
    }
}

/// The protected header of a token. Headers with other members are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    enc: String,
    zip: String,
    cty: String,
    kid: String,
}

impl Header {
    fn is_expected(&self) -> bool {
        self.alg == ALGORITHM && self.enc == ENCRYPTION && self.zip == COMPRESSION && self.cty == CONTENT_TYPE
    }
}

/// The claims in the encrypted payload of a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    jti: AccessTokenSid,
    iss: AccountSid,
    svc: ServiceSid,
    sub: String,
    typ: String,
    /// Expiry, in microseconds since the Unix epoch. The seconds of a JWT's `exp` would lose precision.
    exp_us: i64,
}

impl From<&Grant> for Claims {
    fn from(grant: &Grant) -> Self {
        Self {
            jti: grant.sid,
            iss: grant.account_sid,
            svc: grant.service_sid,
            sub: grant.identity.as_str().to_owned(),
            typ: grant.factor_type.as_str().to_owned(),
            exp_us: grant.expires_at.micros(),
        }
    }
}

impl Claims {
    fn into_grant(self) -> Option<Grant> {
        Some(Grant {
            sid: self.jti,
            account_sid: self.iss,
            service_sid: self.svc,
            identity: Identity::from_parameter(&self.sub).ok()?,
            factor_type: FactorType::from_parameter(&self.typ).ok()?,
            expires_at: Timestamp::from_micros(self.exp_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use domain::Sid;
    use serde_json::json;

    use super::*;
    use crate::SystemEntropy;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// A cipher that leaves the claims readable, and whose authentication tag is the first half of the secret. The
    /// tests of the crate `jwe` use the server's cipher.
    struct PlainCipher;

    impl AccessTokenCipher for PlainCipher {
        fn encrypt(
            &self,
            claims: &[u8],
            kid: &str,
            secret: &[u8; SECRET_BYTES],
        ) -> Result<String, Box<dyn StdError + Send + Sync>> {
            Ok(forge(&header(kid), claims, secret))
        }

        fn decrypt(&self, token: &CheckedToken<'_>, secret: &[u8; SECRET_BYTES]) -> Option<Vec<u8>> {
            let [_, _, _, claims, tag] = compact::split(token.text())?;
            (compact::decode(tag)? == secret[..TAG_BYTES]).then(|| compact::decode(claims))?
        }
    }

    fn header(kid: &str) -> Value {
        json!({ "alg": "dir", "enc": "A256GCM", "zip": "DEF", "cty": "twilio-fpa;v=1", "kid": kid })
    }

    /// Creates a token of [`PlainCipher`] with arbitrary content and header.
    fn forge(header: &Value, content: &[u8], secret: &[u8; SECRET_BYTES]) -> String {
        let header = header.to_string();
        let parts = [header.as_bytes(), &[], &[0; NONCE_BYTES], content, &secret[..TAG_BYTES]];
        parts.map(compact::encode).join(".")
    }

    fn key(now: Timestamp) -> EnrollmentKey {
        EnrollmentKey::generate(now, &SystemEntropy)
    }

    fn copy(key: &EnrollmentKey) -> EnrollmentKey {
        EnrollmentKey::from_bytes(&key.to_bytes()).unwrap()
    }

    fn ring_of(keys: Vec<EnrollmentKey>) -> KeyRing {
        KeyRing::new(keys, Arc::new(PlainCipher)).unwrap()
    }

    fn ring() -> KeyRing {
        ring_of(vec![key(NOW)])
    }

    fn grant() -> Grant {
        Grant {
            sid: AccessTokenSid::from_bytes([1; 16]),
            account_sid: AccountSid::from_bytes([2; 16]),
            service_sid: ServiceSid::from_bytes([3; 16]),
            identity: Identity::from_parameter("user-0001-abcd").unwrap(),
            factor_type: FactorType::Push,
            expires_at: Timestamp::from_micros(NOW.micros() + 60_000_001),
        }
    }

    fn with_part(text: &str, place: usize, part: &str) -> String {
        let mut parts: Vec<&str> = text.split('.').collect();
        parts[place] = part;
        parts.join(".")
    }

    #[test]
    fn issued_access_token_can_be_opened_until_it_expires() {
        let ring = ring();
        let token = ring.issue(&grant(), NOW).unwrap();
        assert!(ring.knows(token.expose()));
        assert_eq!(ring.open(token.expose(), NOW), Some(grant()));
        let end = grant().expires_at.micros();
        assert_eq!(ring.open(token.expose(), Timestamp::from_micros(end - 1)), Some(grant()));
        assert_eq!(ring.open(token.expose(), Timestamp::from_micros(end)), None);
    }

    #[test]
    fn newest_enrollment_key_issues_tokens_and_older_keys_still_open_theirs() {
        let (old, new) = (key(NOW), key(NOW.plus_seconds(1)));
        assert!(old.kid() < new.kid());
        let before = ring_of(vec![copy(&old)]);
        let after = ring_of(vec![copy(&new), copy(&old)]);
        let later = NOW.plus_seconds(1 + MIN_ISSUER_AGE_SECONDS);
        let (first, second) = (before.issue(&grant(), NOW).unwrap(), after.issue(&grant(), later).unwrap());

        assert_eq!(after.newest.kid(), new.kid());
        assert_eq!(after.open(first.expose(), NOW), Some(grant()));
        assert_eq!(after.open(second.expose(), NOW), Some(grant()));
        assert_eq!(before.open(second.expose(), NOW), None);
        assert!(!before.knows(second.expose()), "worth a reload");
        assert!(KeyRing::new(Vec::new(), Arc::new(PlainCipher)).is_none());
    }

    #[test]
    fn enrollment_key_id_is_a_version_7_uuid_with_the_creation_time() {
        let kid = Uuid::try_parse(key(NOW).kid()).unwrap();
        assert_eq!(kid.get_version_num(), 7);
        assert_eq!(kid.get_timestamp().unwrap().to_unix().0, 1_767_225_600);
        for extreme in [i64::MIN, -1, i64::MAX] {
            let _ = key(Timestamp::from_micros(extreme));
        }
    }

    #[test]
    fn access_token_with_a_different_header_is_refused() {
        let ring = ring();
        let claims = serde_json::to_vec(&Claims::from(&grant())).unwrap();
        let opens = |header: &Value| {
            let text = forge(header, &claims, &ring.newest.secret);
            let is_open = ring.open(&text, NOW).is_some();
            assert_eq!(ring.knows(&text), is_open);
            is_open
        };
        let header = header(ring.newest.kid());
        assert!(opens(&header));
        for name in ["alg", "enc", "zip", "cty", "kid"] {
            let mut header = header.clone();
            header.as_object_mut().unwrap().remove(name);
            assert!(!opens(&header), "without {name}");
        }
        for (name, value) in [
            ("alg", json!("A256KW")),
            ("enc", json!("A128GCM")),
            ("zip", json!(1)),
            ("zip", json!("GZ")),
            ("cty", json!("twilio-pba;v=1")),
            ("kid", json!("019b7701-d800-7000-8000-000000000000")),
            ("crit", json!(["exp"])),
            ("typ", json!("JWT")),
        ] {
            let mut header = header.clone();
            header[name] = value;
            assert!(!opens(&header), "{header}");
        }
        assert!(!opens(&json!(["dir", "A256GCM", "DEF", "twilio-fpa;v=1", ring.newest.kid()])));
    }

    #[test]
    fn access_token_with_a_wrong_nonce_or_tag_length_is_refused() {
        let ring = ring();
        let token = ring.issue(&grant(), NOW).unwrap();
        let [.., nonce, _, tag] = compact::split::<5>(token.expose()).unwrap();
        let (nonce, tag) = (compact::decode(nonce).unwrap(), compact::decode(tag).unwrap());
        for length in 0..TAG_BYTES {
            let text = with_part(token.expose(), 4, &compact::encode(&tag[..length]));
            assert!(!ring.knows(&text) && ring.open(&text, NOW).is_none(), "tag of {length}");
        }
        for length in 0..NONCE_BYTES {
            let text = with_part(token.expose(), 2, &compact::encode(&nonce[..length]));
            assert!(!ring.knows(&text) && ring.open(&text, NOW).is_none(), "nonce of {length}");
        }
        let long = [&nonce[..], &[0]].concat();
        assert!(!ring.knows(&with_part(token.expose(), 2, &compact::encode(&long))));
        assert!(!ring.knows(&with_part(token.expose(), 1, "AA")), "an encrypted key");
    }

    #[test]
    fn access_token_without_a_valid_grant_is_refused() {
        let ring = ring();
        let (header, secret) = (header(ring.newest.kid()), &ring.newest.secret);
        let claims = serde_json::to_value(Claims::from(&grant())).unwrap();
        let opens = |claims: &Value| ring.open(&forge(&header, claims.to_string().as_bytes(), secret), NOW);
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        assert_eq!(opens(&with("later", json!("more"))), Some(grant()));
        for bad in [
            json!({}),
            json!([]),
            with("jti", json!("AC01010101010101010101010101010101")),
            with("sub", json!("short")),
            with("typ", json!("pull")),
            with("exp_us", json!(1.5)),
            with("exp_us", json!(i64::MIN)),
        ] {
            assert_eq!(opens(&bad), None, "{bad}");
        }
    }

    #[test]
    fn access_token_longer_than_the_maximum_is_refused() {
        let ring = ring();
        let token = ring.issue(&grant(), NOW).unwrap();
        let [_, _, _, ciphertext, _] = compact::split::<5>(token.expose()).unwrap();
        let text = |length: usize| {
            let more = length - token.expose().len();
            with_part(token.expose(), 3, &format!("{ciphertext}{}", "A".repeat(more)))
        };
        // Not every length is valid base64url, but at least one of these four is.
        let fits = (MAX_CHARACTERS - 3..=MAX_CHARACTERS).any(|length| ring.knows(&text(length)));
        assert!(fits);
        assert!(!(MAX_CHARACTERS + 1..MAX_CHARACTERS + 5).any(|length| ring.knows(&text(length))));
    }

    #[test]
    fn serialized_enrollment_key_consists_of_its_id_and_32_bytes() {
        let bytes = key(NOW).to_bytes();
        assert_eq!(bytes.len(), 36 + 32);
        for bad in [&bytes[..67], &bytes[1..], &[], &[0; 68][..]] {
            assert!(EnrollmentKey::from_bytes(bad).is_none());
        }
    }

    #[test]
    fn debug_output_of_an_enrollment_key_shows_only_its_id() {
        let key = key(NOW);
        assert_eq!(format!("{key:?}"), format!("EnrollmentKey({})", key.kid()));
    }

    #[test]
    fn error_of_the_cipher_is_reported() {
        struct BrokenCipher;

        impl AccessTokenCipher for BrokenCipher {
            fn encrypt(
                &self,
                _: &[u8],
                _: &str,
                _: &[u8; SECRET_BYTES],
            ) -> Result<String, Box<dyn StdError + Send + Sync>> {
                Err("broken".into())
            }

            fn decrypt(&self, _: &CheckedToken<'_>, _: &[u8; SECRET_BYTES]) -> Option<Vec<u8>> {
                None
            }
        }

        let ring = KeyRing::new(vec![key(NOW)], Arc::new(BrokenCipher)).unwrap();
        assert!(matches!(ring.issue(&grant(), NOW), Err(Error::Issue(_))));
    }
}
