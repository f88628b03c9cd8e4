//! Measures ES256 signatures: signing and verification alone, a device token, and a challenge's signed answer.
#![allow(clippy::unwrap_used, reason = "a bench ends with a panic when something is wrong")]

use std::hint::black_box;

use criterion::Criterion;
use crypto::{DeviceToken, Jws, SigningKey, jws};
use domain::challenges::{Details, Field, Message, PushChallenge, State, Target};
use domain::text::StringMap;
use domain::{Challenge, Identity, Parameter as _, Timestamp};
use serde_json::{Map, Value, json};

/// The time at which the tokens and the challenge of this bench are valid.
const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("es256");
    let phone = SigningKey::generate();
    let key = phone.public_key();
    // The signed part of a device token has about 200 bytes.
    let message = [0x61; 200];
    let signature = phone.sign_fixed(&message);
    group.bench_function("sign", |bencher| bencher.iter(|| phone.sign_fixed(black_box(&message))));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| assert!(crypto::verify_fixed(&key, black_box(&message), &signature)));
    });

    let token = device_token(&phone);
    group.bench_function("device_token", |bencher| {
        bencher.iter(|| assert!(DeviceToken::parse(black_box(&token)).unwrap().verify(&key, NOW)));
    });

    let challenge = challenge();
    let answer = signed_answer(&challenge, &phone);
    group.bench_function("signed_answer", |bencher| {
        bencher.iter(|| {
            let jws = Jws::parse(black_box(&answer)).unwrap();
            assert!(jws.verify(&key));
            challenge.parse_answer(jws.claims(), NOW).unwrap()
        });
    });
    group.bench_function("challenge_json", |bencher| {
        bencher.iter(|| serde_json::to_vec(&challenge.signed_fields(black_box(NOW))).unwrap());
    });
    group.finish();
    criterion.final_summary();
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("{value} is no object") };
    members
}

/// Returns a token as the SDKs sign it (docs/protocol/device.md, section 4).
fn device_token(phone: &SigningKey) -> String {
    let kid = format!("CR{}", "5".repeat(32));
    let header = json!({ "cty": "twilio-pba;v=1", "kid": kid, "typ": "JWT", "alg": "ES256" });
    let account_sid = format!("AC{}", "1".repeat(32));
    let claims = json!({ "sub": account_sid, "exp": NOW.seconds() + 600, "nbf": NOW.seconds() });
    jws::sign(&object(header), &object(claims), phone)
}

/// Returns the answer of a phone whose user approved `challenge` (docs/protocol/device.md, section 5).
fn signed_answer(challenge: &Challenge<PushChallenge>, phone: &SigningKey) -> String {
    let mut claims = challenge.signed_fields(NOW);
    claims.insert("status".to_owned(), json!("approved"));
    jws::sign(&object(json!({ "typ": "JWT", "alg": "ES256" })), &claims, phone)
}

/// Returns a pending challenge with two fields and hidden details.
fn challenge() -> Challenge<PushChallenge> {
    let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
    let field = |text| Field::from_parameter(text).unwrap();
    Challenge {
        sid: sid("YC", "4").parse().unwrap(),
        account_sid: sid("AC", "1").parse().unwrap(),
        service_sid: sid("VA", "2").parse().unwrap(),
        state: State::Pending,
        metadata: None,
        expires_at: NOW.plus_seconds(300),
        created_at: NOW,
        updated_at: NOW,
        kind: PushChallenge {
            target: Target {
                entity_sid: sid("YE", "5").parse().unwrap(),
                identity: Identity::from_stored("user-0001-abcd".to_owned()),
                factor_sid: sid("YF", "3").parse().unwrap(),
            },
            details: Details {
                message: Message::from_stored("Sign in to https://example.com/?".to_owned()),
                fields: vec![
                    field(r#"{"label":"IP","value":"203.0.113.9"}"#),
                    field(r#"{"label":"City","value":"Lisbon"}"#),
                ],
                date: None,
            },
            hidden_details: Some(StringMap::from_parameter(r#"{"txn":"a/b"}"#).unwrap()),
        },
    }
}
