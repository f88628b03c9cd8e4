//! Device tokens: tokens that a phone signed over arbitrary claims, and unsigned ones.

use std::sync::LazyLock;

use crypto::{DeviceToken, Jws, SigningKey, parse_public_key};
use domain::Timestamp;
use domain::factors::PublicKey;
use domain::sids::{AccountSid, CredentialSid};
use serde_json::{Map, Value};

use crate::{NOW_SECONDS, PHONE, VECTOR_KEY, altered, lines, number, signed};

/// The token of the test vectors.
const VECTOR: &str = include_str!("../corpus/device_token/vector");

static VECTOR_PUBLIC_KEY: LazyLock<PublicKey> = LazyLock::new(|| parse_public_key(VECTOR_KEY).unwrap());
static OTHER_PUBLIC_KEY: LazyLock<PublicKey> = LazyLock::new(|| SigningKey::generate().public_key());

/// Interprets the input as a token. If it has three lines, also interprets them as the time in microseconds
/// and the header and claims of a token to sign.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        assert_unsigned_is_refused(text);
    }
    if let Some([now, header, claims]) = lines(data) {
        genuine(Timestamp::from_micros(number(now)), header, claims, data);
    }
}

/// Checks that `text` is accepted only if it is the test vector's signed token: the fuzzer cannot sign
/// another one.
fn assert_unsigned_is_refused(text: &str) {
    let Some(token) = DeviceToken::parse(text) else { return };
    assert!(text.len() <= Jws::MAX_CHARACTERS);
    assert!(!token.verify(&PHONE.public_key(), Timestamp::from_seconds(NOW_SECONDS)));
    if token.verify(&VECTOR_PUBLIC_KEY, Timestamp::from_seconds(NOW_SECONDS)) {
        assert_eq!(text.rsplit_once('.').unwrap().0, VECTOR.rsplit_once('.').unwrap().0);
    }
}

fn genuine(now: Timestamp, header: &[u8], claims: &[u8], data: &[u8]) {
    let text = signed(header, claims);
    let token = DeviceToken::parse(&text);
    let expected = slowly(header, claims).filter(|_| text.len() <= Jws::MAX_CHARACTERS);
    assert_eq!(token.is_some(), expected.is_some(), "{text}");
    let (Some(token), Some(expected)) = (token, expected) else { return };
    assert_eq!(token.kid(), expected.kid);
    assert_eq!(token.account_sid(), expected.account_sid);
    let key = PHONE.public_key();
    assert_eq!(token.verify(&key, now), expected.is_es256 && expected.is_timely(now), "{text}");

    // The checks below use a time at which the token is valid, if such a time exists.
    let good = Timestamp::from_seconds(expected.expires);
    if token.verify(&key, good) {
        assert!(!token.verify(&OTHER_PUBLIC_KEY, good));
        let altered = altered(&text, data);
        assert!(!DeviceToken::parse(&altered).is_some_and(|token| token.verify(&key, good)), "{altered}");
    }
}

/// The expected contents of a token: a reference implementation that applies the documented rules one by one.
struct Expected {
    kid: CredentialSid,
    account_sid: AccountSid,
    not_before: i64,
    expires: i64,
    is_es256: bool,
}

fn slowly(header: &[u8], claims: &[u8]) -> Option<Expected> {
    let object = |json| serde_json::from_slice::<Map<String, Value>>(json).ok();
    let (header, claims) = (object(header)?, object(claims)?);
    let is_jwt = |typ: &Value| typ.as_str().is_some_and(|typ| typ.to_ascii_uppercase() == "JWT");
    if header.get("cty") != Some(&Value::from("twilio-pba;v=1")) || !header.get("typ").is_none_or(is_jwt) {
        return None;
    }
    Some(Expected {
        kid: header.get("kid")?.as_str()?.parse().ok()?,
        account_sid: claims.get("sub")?.as_str()?.parse().ok()?,
        not_before: claims.get("nbf")?.as_i64()?,
        expires: claims.get("exp")?.as_i64()?,
        is_es256: header.get("alg") == Some(&Value::from("ES256")) && !header.contains_key("crit"),
    })
}

impl Expected {
    /// Returns whether the token is valid at `now`, computed with integers that cannot overflow.
    fn is_timely(&self, now: Timestamp) -> bool {
        let (not_before, expires) = (i128::from(self.not_before), i128::from(self.expires));
        let now = i128::from(now.seconds());
        let lifetime = expires - not_before;
        lifetime > 0 && lifetime <= 3600 && now >= not_before - 60 && now < expires + 60
    }
}
