//! Creates a phone's signatures: device tokens, the proof that it holds its key, and answers
//! (docs/protocol/device.md, sections 4 and 5).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crypto::SigningKey;
use domain::Timestamp;
use domain::challenges::Answer;
use serde_json::{Value, json};

use crate::challenge::Challenge;
use crate::enrollment::Enrollment;
use crate::style::Style;

/// Lifetime of a device token, in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 600;

/// Returns the device token that authenticates one request. The token is valid from `now`, for ten minutes.
pub fn sign_device_token(style: Style, enrollment: &Enrollment, now: Timestamp) -> String {
    let (header, claims) = device_token_parts(enrollment, now);
    sign_jws(style, header, claims, &enrollment.key)
}

fn device_token_parts(enrollment: &Enrollment, now: Timestamp) -> (Value, Value) {
    let header = json!({
        "cty": "twilio-pba;v=1",
        "kid": enrollment.credential_sid,
        "typ": "JWT",
        "alg": "ES256",
    });
    let nbf = now.seconds();
    let claims = json!({
        "sub": enrollment.account_sid,
        "exp": nbf.saturating_add(TOKEN_LIFETIME_SECONDS),
        "nbf": nbf,
    });
    (header, claims)
}

/// Returns the `AuthPayload` that verifies a factor: a signature of the factor SID, in base64. Unlike all
/// other signatures, this one is in DER and not part of a JWT.
pub fn sign_factor_sid(enrollment: &Enrollment) -> String {
    STANDARD.encode(enrollment.key.sign_der(enrollment.factor_sid.as_bytes()))
}

/// Returns the `AuthPayload` that answers a challenge: a JWT of the fields that the server listed, with the
/// answer as `status`. Returns `None` unless the challenge was pending and was fetched by its SID.
pub fn sign_answer(
    style: Style,
    enrollment: &Enrollment,
    challenge: &Challenge,
    answer: Answer,
) -> Option<String> {
    let mut claims = challenge.to_sign.clone()?;
    claims.insert("status".into(), answer.as_str().into());
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    Some(sign_jws(style, header, Value::Object(claims), &enrollment.key))
}

/// Returns a signed JWS in compact form. `crypto::jws` cannot create it, because the signature covers the
/// exact bytes that the JSON writer of the style's platform, Android or iOS, produces.
fn sign_jws(style: Style, header: Value, claims: Value, key: &SigningKey) -> String {
    let part = |value| URL_SAFE_NO_PAD.encode(json_text(style, value));
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign_fixed(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Returns `value` as JSON text in the format of the style's platform, Android or iOS. Both escape slashes.
/// Android keeps the order of the keys. On iOS the order is random; here it is alphabetical, which differs
/// from the Android order.
pub(crate) fn json_text(style: Style, mut value: Value) -> String {
    if style == Style::Ios {
        value.sort_all_objects();
    }
    // In JSON text, slashes occur only in strings, and serde_json does not escape them.
    value.to_string().replace('/', r"\/")
}

#[cfg(test)]
mod tests {
    use crypto::signatures::{parse_public_key, verify_der};
    use crypto::{DeviceToken, Jws};
    use domain::factors::PublicKey;

    use super::*;
    use crate::enrollment::sample;

    fn public_key(enrollment: &Enrollment) -> PublicKey {
        parse_public_key(&enrollment.key.public_key_base64()).unwrap()
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// The token from docs/protocol/device.md, section 10, without the signature.
    const DEVICE_TOKEN: &str = "eyJjdHkiOiJ0d2lsaW8tcGJhO3Y9MSIsImtpZCI6IkNSNTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTUiLCJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJBQzExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExIiwiZXhwIjoxNzY3MjI2MjAwLCJuYmYiOjE3NjcyMjU2MDB9";
    /// The answer from docs/protocol/device.md, section 10, without the signature.
    const ANSWER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJoaWRkZW5fZGV0YWlscyI6eyJ0eG4iOiJhXC9iIn0sImFjY291bnRfc2lkIjoiQUMxMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMSIsInNpZCI6IllDMDM0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQiLCJleHBpcmF0aW9uX2RhdGUiOiIyMDI2LTAxLTAxVDAwOjA1OjAwWiIsImRhdGVfY3JlYXRlZCI6IjIwMjYtMDEtMDFUMDA6MDA6MDBaIiwic3RhdHVzIjoiYXBwcm92ZWQiLCJmYWN0b3Jfc2lkIjoiWUYwMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMyIsImRldGFpbHMiOnsibWVzc2FnZSI6IkxvZ2luIHRvIGh0dHBzOlwvXC9leGFtcGxlLmNvbVwvPyIsImZpZWxkcyI6W3sibGFiZWwiOiJJUCIsInZhbHVlIjoiMjAzLjAuMTEzLjkifV19LCJzZXJ2aWNlX3NpZCI6IlZBMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIiLCJpZGVudGl0eSI6InVzZXItMDAwMS1hYmNkIn0";

    fn challenge(enrollment: &Enrollment) -> Challenge {
        let body = json!({
            "sid": "YC03444444444444444444444444444444",
            "account_sid": enrollment.account_sid,
            "service_sid": enrollment.service_sid,
            "identity": enrollment.identity,
            "factor_sid": enrollment.factor_sid,
            "status": "pending",
            "details": {
                "message": "Login to https://example.com/?",
                "fields": [{ "label": "IP", "value": "203.0.113.9" }],
            },
            "hidden_details": { "txn": "a/b" },
            "date_created": "2026-01-01T00:00:00Z",
            "date_updated": "2026-01-01T00:00:00Z",
            "expiration_date": "2026-01-01T00:05:00Z",
        });
        let fields = domain::challenges::SIGNATURE_FIELDS;
        Challenge::parse(&body, &[fields], &enrollment.factor_sid).unwrap()
    }

    fn decoded(part: &str) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn device_token_matches_the_test_vector() {
        let enrollment = sample(Style::Android);
        let token = sign_device_token(Style::Android, &enrollment, NOW);
        assert_eq!(token.rsplit_once('.').unwrap().0, DEVICE_TOKEN);
        assert!(DeviceToken::parse(&token).unwrap().verify(&public_key(&enrollment), NOW));
    }

    #[test]
    fn signed_answer_matches_the_test_vector() {
        let enrollment = sample(Style::Android);
        let payload =
            sign_answer(Style::Android, &enrollment, &challenge(&enrollment), Answer::Approved).unwrap();
        assert_eq!(payload.rsplit_once('.').unwrap().0, ANSWER);
        assert!(Jws::parse(&payload).unwrap().verify(&public_key(&enrollment)));
    }

    #[test]
    fn ios_signs_the_same_claims_in_alphabetical_order() {
        let enrollment = sample(Style::Ios);
        let payload =
            sign_answer(Style::Ios, &enrollment, &challenge(&enrollment), Answer::Approved).unwrap();
        let claims = decoded(payload.split('.').nth(1).unwrap());
        let vector = decoded(ANSWER.split('.').nth(1).unwrap());
        assert!(claims.starts_with(r#"{"account_sid":"#), "{claims}");
        assert!(claims.contains(r"Login to https:\/\/example.com\/?"));
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(&claims), value(&vector));
        assert!(Jws::parse(&payload).unwrap().verify(&public_key(&enrollment)));
        let token = sign_device_token(Style::Ios, &enrollment, NOW);
        assert!(decoded(token.split('.').next().unwrap()).starts_with(r#"{"alg":"ES256","cty":"#));
    }

    #[test]
    fn challenge_from_a_list_cannot_be_answered() {
        let enrollment = sample(Style::Android);
        let listed = Challenge { to_sign: None, ..challenge(&enrollment) };
        assert_eq!(sign_answer(Style::Android, &enrollment, &listed, Answer::Denied), None);
    }

    #[test]
    fn json_text_escapes_slashes_and_keeps_the_value() {
        let value = json!({ "a/b": "\\/\"\n\u{1}é/", "n": null, "list": [1, { "z": true, "y": "/" }] });
        for style in [Style::Android, Style::Ios] {
            let text = json_text(style, value.clone());
            assert!(text.contains(r#""a\/b":"\\\/\"\n\u0001é\/""#), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert!(json_text(Style::Android, value.clone()).ends_with(r#"{"z":true,"y":"\/"}]}"#));
        assert!(json_text(Style::Ios, value).contains(r#"{"y":"\/","z":true}"#));
    }

    #[test]
    fn factor_sid_signature_is_der_in_padded_base64() {
        let enrollment = sample(Style::Ios);
        let proof = STANDARD.decode(sign_factor_sid(&enrollment)).unwrap();
        assert!(verify_der(&public_key(&enrollment), enrollment.factor_sid.as_bytes(), &proof));
    }
}
