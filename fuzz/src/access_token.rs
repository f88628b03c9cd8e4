//! Access tokens: what opens is what we issued, to the letter.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::{EnrollmentKey, KeyRing, Sealable};
use domain::access_tokens::Grant;
use domain::parameter::Parameter;
use domain::sids::{AccessTokenSid, AccountSid, ServiceSid};
use domain::{FactorType, Identity, Sid, Timestamp};
use serde_json::{Map, Value};

use crate::{NOW, altered, lines, number};

/// Issued once with the second key of [`RING`]; the only text that opens of those that are not made on the way.
const ISSUED: &str = include_str!("../corpus/access_token/issued");

/// Two keys that are always the same, so that what the corpus holds can be opened by them.
static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let key = |kid: &str, secret: u8| EnrollmentKey::from_bytes(&[kid.as_bytes(), &[secret; 32]].concat());
    let old = key("019b76d0-0000-7000-8000-000000000001", 1).unwrap();
    let new = key("019b76da-a800-7000-8000-000000000002", 2).unwrap();
    KeyRing::new(vec![new, old]).unwrap()
});

/// One line: a token. Five: now and the expiry in microseconds, the identity of a grant, and which part of its
/// token is replaced by what.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        foreign(text);
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

/// Who has no key can only repeat what was issued.
fn foreign(text: &str) {
    let opened = RING.open(text, Timestamp::from_seconds(NOW));
    assert_eq!(opened.is_some(), text == ISSUED);
    if RING.knows(text) {
        assert!(looks_like_ours(text), "{text}");
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
    let token = RING.issue(&grant, now).unwrap();
    let token = token.expose();
    assert!(looks_like_ours(token) && RING.knows(token) && token.len() < 700);
    assert_eq!(RING.open(token, now), Some(grant.clone()).filter(|_| now < expires_at));
    let good = Timestamp::from_micros(i64::MIN);
    assert_eq!(RING.open(token, good).is_some(), good < expires_at);

    // As it stands, and as base64url of what it stands for.
    let mut others = vec![altered(token, data)];
    let spellings = [str::from_utf8(part).map(str::to_owned), Ok(URL_SAFE_NO_PAD.encode(part))];
    for part in spellings.into_iter().flatten() {
        let mut parts: Vec<&str> = token.split('.').collect();
        parts[place.rem_euclid(5) as usize] = &part;
        others.push(parts.join("."));
    }
    for other in others.iter().filter(|other| *other != token) {
        assert_eq!(RING.open(other, good), None, "{other}");
        assert!(!RING.knows(other) || looks_like_ours(other), "{other}");
    }
}

/// Whether all that can be seen without a key is as we write it.
fn looks_like_ours(text: &str) -> bool {
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
