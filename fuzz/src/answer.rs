//! Signed answers to a challenge: which ones are accepted, and the claims that they contain.

use std::sync::LazyLock;

use crypto::{Jws, parse_public_key};
use domain::challenges::{Answer, Details, Field, Message, PushChallenge, SIGNATURE_FIELDS, State, Target};
use domain::factors::PublicKey;
use domain::parameter::Parameter;
use domain::text::StringMap;
use domain::{Challenge, Code, EntitySid, Identity, Sid, Timestamp};
use serde_json::{Map, Value};

use crate::{NOW_SECONDS, PHONE, VECTOR_KEY, altered, lines, signed};

/// The signed answer of the test vectors.
const VECTOR: &str = include_str!("../corpus/answer/vector");

static VECTOR_PUBLIC_KEY: LazyLock<PublicKey> = LazyLock::new(|| parse_public_key(VECTOR_KEY).unwrap());

/// The challenge that the test vectors answer.
static CHALLENGE: LazyLock<Challenge<PushChallenge>> = LazyLock::new(|| Challenge {
    sid: "YC03444444444444444444444444444444".parse().unwrap(),
    account_sid: "AC11111111111111111111111111111111".parse().unwrap(),
    service_sid: "VA22222222222222222222222222222222".parse().unwrap(),
    state: State::Pending,
    metadata: None,
    expires_at: Timestamp::from_seconds(NOW_SECONDS + 300),
    created_at: Timestamp::from_seconds(NOW_SECONDS),
    updated_at: Timestamp::from_seconds(NOW_SECONDS),
    kind: PushChallenge {
        target: Target {
            entity_sid: EntitySid::from_bytes([0; 16]),
            identity: Identity::from_parameter("user-0001-abcd").unwrap(),
            factor_sid: "YF03333333333333333333333333333333".parse().unwrap(),
        },
        details: Details {
            message: Message::from_parameter("Login to https://example.com/?").unwrap(),
            fields: vec![Field::from_parameter(r#"{"label":"IP","value":"203.0.113.9"}"#).unwrap()],
            date: None,
        },
        hidden_details: Some(StringMap::from_parameter(r#"{"txn":"a/b"}"#).unwrap()),
    },
});

/// Interprets the input as an answer. If it has two lines, also interprets them as the header and the claims
/// of an answer to sign.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        assert_unsigned_is_refused(text);
    }
    if let Some([header, claims]) = lines(data) {
        genuine(header, claims, data);
    }
}

/// Checks that `text` is accepted only if it is the test vector's signed answer: the fuzzer cannot sign
/// another one.
fn assert_unsigned_is_refused(text: &str) {
    let jws = Jws::parse(text);
    assert!(jws.is_none() || text.len() <= Jws::MAX_CHARACTERS && text.split('.').count() == 3);
    let Some(jws) = jws else { return };
    assert!(!jws.verify(&PHONE.public_key()));
    if jws.verify(&VECTOR_PUBLIC_KEY) {
        assert_eq!(text.rsplit_once('.').unwrap().0, VECTOR.rsplit_once('.').unwrap().0);
        assert_eq!(
            CHALLENGE.parse_answer(jws.claims(), Timestamp::from_seconds(NOW_SECONDS)),
            Ok(Answer::Approved)
        );
    }
}

fn genuine(header: &[u8], claims: &[u8], data: &[u8]) {
    let text = signed(header, claims);
    let object = |json| serde_json::from_slice::<Map<String, Value>>(json).ok();
    let expected = object(header).zip(object(claims)).filter(|_| text.len() <= Jws::MAX_CHARACTERS);
    let jws = Jws::parse(&text);
    assert_eq!(jws.is_some(), expected.is_some(), "{text}");
    let (Some(jws), Some((header, claims))) = (jws, expected) else { return };
    assert_eq!((jws.header(), jws.claims()), (&header, &claims));
    let key = PHONE.public_key();
    let is_es256 = header.get("alg") == Some(&Value::from("ES256")) && !header.contains_key("crit");
    assert_eq!(jws.verify(&key), is_es256);
    assert!(!jws.verify(&VECTOR_PUBLIC_KEY));
    if is_es256 {
        let altered = altered(&text, data);
        assert!(!Jws::parse(&altered).is_some_and(|jws| jws.verify(&key)), "{altered}");
    }
    read(&claims);
}

/// Checks that an answer is accepted if and only if every claim is present and equal to the challenge's
/// value.
fn read(claims: &Map<String, Value>) {
    let now = Timestamp::from_seconds(NOW_SECONDS);
    let shown = CHALLENGE.signed_fields(now);
    let mut signed = SIGNATURE_FIELDS.split(',').filter(|name| *name != "status");
    let is_whole = signed.all(|name| claims.get(name) == Some(&shown[name]));
    let expected = match claims.get("status").and_then(Value::as_str) {
        Some("approved") if is_whole => Some(Answer::Approved),
        Some("denied") if is_whole => Some(Answer::Denied),
        _ => None,
    };
    match CHALLENGE.parse_answer(claims, now) {
        Ok(answer) => assert_eq!(Some(answer), expected),
        Err(problem) => {
            assert_eq!(expected, None);
            assert_eq!(problem.code(), Code::ChallengeVerificationFailed);
            assert!(problem.message().len() < 200, "nothing of the caller's comes back");
        }
    }
}
