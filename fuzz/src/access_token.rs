//! Access tokens: a token can be opened only if it is exactly as issued.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::{EnrollmentKey, KeyRing, Sealable};
use domain::access_tokens::Grant;
use domain::parameter::Parameter;
use domain::sids::{AccessTokenSid, AccountSid, ServiceSid};
use domain::{FactorType, Identity, Sid, Timestamp};
use serde_json::{Map, Value};

use crate::{NOW_SECONDS, altered, lines, number};

/// A token issued with the second key of [`KEY_RING`]: the only text that can be opened without generating a
/// new token.
const ISSUED_TOKEN: &str = include_str!("../corpus/access_token/issued");

/// Two fixed keys, so that tokens in the corpus can be opened.
static KEY_RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let key = |kid: &str, secret: u8| EnrollmentKey::from_bytes(&[kid.as_bytes(), &[secret; 32]].concat());
    let old = key("019b76d0-0000-7000-8000-000000000001", 1).unwrap();
    let new = key("019b76da-a800-7000-8000-000000000002", 2).unwrap();
    KeyRing::new(vec![new, old], Arc::new(jwe::Josekit)).unwrap()
});

/// Interprets the input as a token. If it has five lines, also interprets them as: current time and expiry in
/// microseconds, identity of a grant, the token part to replace, and its replacement.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        assert_only_issued_opens(text);
    }
    if let Some([now, expires, identity, place, part]) = lines(data) {
        let [now, expires] = [now, expires].map(|line| Timestamp::from_micros(number(line)));
        if let Some(identity) =
            str::from_utf8(identity).ok().and_then(|text| Identity::from_parameter(text).ok())
        {
            own(now, expires, identity, number(place), part, data);
        }
    }
}

/// Checks that `text` can be opened only if it is the issued token: the fuzzer cannot forge one without the
/// key.
fn assert_only_issued_opens(text: &str) {
    let opened = KEY_RING.open(text, Timestamp::from_seconds(NOW_SECONDS));
    assert_eq!(opened.is_some(), text == ISSUED_TOKEN);
    if KEY_RING.knows(text) {
        assert!(has_issued_form(text), "{text}");
    } else {
        assert!(opened.is_none());
    }
}

fn own(now: Timestamp, expires_at: Timestamp, identity: Identity, place: i64, part: &[u8], data: &[u8]) {
    let grant = Grant {
        sid: AccessTokenSid::from_bytes([1; 16]),
        account_sid: AccountSid::from_bytes([2; 16]),
        service_sid: ServiceSid::from_bytes([3; 16]),
        identity,
        factor_type: FactorType::Push,
        expires_at,
    };
    let token = KEY_RING.issue(&grant, now).unwrap();
    let token = token.expose();
    assert!(has_issued_form(token) && KEY_RING.knows(token) && token.len() < 700);
    assert_eq!(KEY_RING.open(token, now), Some(grant.clone()).filter(|_| now < expires_at));
    let good = Timestamp::from_micros(i64::MIN);
    assert_eq!(KEY_RING.open(token, good).is_some(), good < expires_at);

    // The data itself, and the data in base64url.
    let mut others = vec![altered(token, data)];
    let spellings = [str::from_utf8(part).map(str::to_owned), Ok(URL_SAFE_NO_PAD.encode(part))];
    for part in spellings.into_iter().flatten() {
        let mut parts: Vec<&str> = token.split('.').collect();
        parts[place.rem_euclid(5) as usize] = &part;
        others.push(parts.join("."));
    }
    for other in others.iter().filter(|other| *other != token) {
        assert_eq!(KEY_RING.open(other, good), None, "{other}");
        assert!(!KEY_RING.knows(other) || has_issued_form(other), "{other}");
    }
}

/// Returns whether all parts of the token that are readable without a key have the form of an issued token.
fn has_issued_form(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let [header, "", nonce, ciphertext, tag] = parts[..] else { return false };
    let bytes = |part| URL_SAFE_NO_PAD.decode(part).ok();
    let members = bytes(header).and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
    text.len() <= 4096
        && bytes(nonce).is_some_and(|nonce| nonce.len() == 12)
        && bytes(ciphertext).is_some()
        && bytes(tag).is_some_and(|tag| tag.len() == 16)
        && members.is_some_and(|members| {
            let is = |name: &str, value: &str| members.get(name).and_then(Value::as_str) == Some(value);
            members.len() == 5
                && is("alg", "dir")
                && is("enc", "A256GCM")
                && is("zip", "DEF")
                && is("cty", "twilio-fpa;v=1")
                && (is("kid", "019b76d0-0000-7000-8000-000000000001")
                    || is("kid", "019b76da-a800-7000-8000-000000000002"))
        })
}
