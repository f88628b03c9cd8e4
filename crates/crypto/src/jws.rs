//! JSON Web Signatures (JWS) in the compact form of RFC 7515. Device tokens and signed answers have this form.

use domain::challenges::AnswerDigest;
use domain::factors::PublicKey;
use serde_json::{Map, Value};

use crate::{SigningKey, compact, signatures};

/// A compact JWS that is parsed but not verified. [`Jws::claims`] must not be trusted before [`Jws::verify`] has
/// returned `true`.
#[derive(Clone)]
pub struct Jws<'t> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Maximum length of an accepted text. It is the limit of `AuthPayload` (docs/protocol/device.md, section 5).
    pub const MAX_CHARACTERS: usize = domain::challenges::MAX_ANSWER_CHARACTERS;

    /// Parses a JWS without verifying it. Returns `None` if the text is malformed or longer than
    /// [`Jws::MAX_CHARACTERS`].
    ///
    /// The text must consist of three base64url parts without padding. The first two must contain JSON objects, and the
    /// third, the signature, must not be empty.
    pub fn parse(text: &'t str) -> Option<Self> {
        if text.len() > Self::MAX_CHARACTERS {
            return None;
        }
        let [header, claims, signature] = compact::split(text)?;
        let signature = compact::decode(signature).filter(|signature| !signature.is_empty())?;
        let (signed, _) = text.rsplit_once('.')?;
        Some(Self {
            header: compact::parse_json(header)?,
            claims: compact::parse_json(claims)?,
            signed,
            signature,
        })
    }

    /// Returns the members of the header, by name.
    pub const fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// Returns the members of the payload, by name. They must not be trusted before [`Jws::verify`] has returned
    /// `true`.
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Returns whether this JWS has a valid ES256 signature by `key`.
    ///
    /// The header cannot select another algorithm: `none`, `HS256` (RFC 8725 section 2.1) and an absent `alg` are
    /// refused. A header with `crit` is also refused, because no extension is supported (RFC 7515 section 4.1.11). The
    /// signature is verified over the received bytes, never over a new serialization.
    pub fn verify(&self, key: &PublicKey) -> bool {
        self.header.get("alg").and_then(Value::as_str) == Some("ES256")
            && !self.header.contains_key("crit")
            && signatures::verify_fixed(key, self.signed.as_bytes(), &self.signature)
    }
}

/// Returns the SHA-256 digest of the signed answer `payload`. An equal digest shows that the same answer was sent
/// again.
pub fn answer_digest(payload: &str) -> AnswerDigest {
    let mut digest = [0; 32];
    digest
        .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload.as_bytes()).as_ref());
    AnswerDigest(digest)
}

/// Creates a compact JWS signed with `key`, as a phone does. The caller provides the whole header, including `alg`.
pub fn sign(header: &Map<String, Value>, claims: &Map<String, Value>, key: &SigningKey) -> String {
    let mut text = [header, claims].map(encode_json).join(".");
    let signature = key.sign_fixed(text.as_bytes());
    text.push('.');
    text.push_str(&compact::encode(&signature));
    text
}

#[expect(clippy::expect_used, reason = "a map from strings to JSON values can be serialized")]
fn encode_json(members: &Map<String, Value>) -> String {
    compact::encode(&serde_json::to_vec(members).expect("JSON can be serialized"))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::signatures::parse_public_key;
    use crate::vectors;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is no object"),
        }
    }

    fn encoded(text: &str) -> String {
        compact::encode(text.as_bytes())
    }

    #[test]
    fn answer_digests_are_equal_only_for_equal_answers() {
        let payload = "header.claims.signature";
        assert_eq!(answer_digest(payload), answer_digest(payload));
        for other in ["header.claims.signaturE", "header.claims.signature=", "header.claims", ""] {
            assert_ne!(answer_digest(payload), answer_digest(other), "{other}");
        }
        // The message "abc" is an example of FIPS 180-4.
        assert_eq!(answer_digest("abc").0[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    /// The example is from RFC 7515 appendix A.3. The public key consists of the members `x` and `y` of its JWK.
    #[test]
    fn example_of_rfc_7515_is_verified() {
        let header = STANDARD.decode(&vectors::PUBLIC_KEY[..36]).unwrap();
        let point =
            ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"]
                .map(|coordinate| compact::decode(coordinate).unwrap());
        let key =
            parse_public_key(&STANDARD.encode([&header[..26], &[4], &point.concat()].concat())).unwrap();
        let jws = Jws::parse(
            "eyJhbGciOiJFUzI1NiJ9\
             .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
             .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        )
        .unwrap();
        assert!(jws.verify(&key));
        assert_eq!(jws.header().get("alg"), Some(&json!("ES256")));
        assert_eq!(jws.claims().get("iss"), Some(&json!("joe")));
        assert!(!jws.verify(&SigningKey::generate().public_key()));
    }

    #[test]
    fn challenge_answer_test_vector_is_verified() {
        let jws = Jws::parse(vectors::CHALLENGE_ANSWER).unwrap();
        assert!(jws.verify(&parse_public_key(vectors::PUBLIC_KEY).unwrap()));
        assert_eq!(
            Value::Object(jws.claims().clone()),
            json!({
                "hidden_details": {"txn": "a/b"},
                "account_sid": "AC11111111111111111111111111111111",
                "sid": "YC03444444444444444444444444444444",
                "expiration_date": "2026-01-01T00:05:00Z",
                "date_created": "2026-01-01T00:00:00Z",
                "status": "approved",
                "factor_sid": vectors::FACTOR_SID,
                "details": {
                    "message": "Login to https://example.com/?",
                    "fields": [{"label": "IP", "value": "203.0.113.9"}],
                },
                "service_sid": "VA22222222222222222222222222222222",
                "identity": "user-0001-abcd",
            })
        );
    }

    #[test]
    fn altered_jws_is_refused() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        for place in 0..vectors::CHALLENGE_ANSWER.len() {
            let mut text = vectors::CHALLENGE_ANSWER.as_bytes().to_vec();
            text[place] = if text[place] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(text).unwrap();
            assert!(!Jws::parse(&text).is_some_and(|jws| jws.verify(&key)), "character {place}");
        }
    }

    #[test]
    fn jws_header_with_crit_or_a_different_algorithm_is_refused() {
        let phone = SigningKey::generate();
        let verifies = |header: Value| {
            let text = sign(&object(header), &object(json!({"sub": "x"})), &phone);
            Jws::parse(&text).unwrap().verify(&phone.public_key())
        };
        assert!(verifies(json!({"alg": "ES256"})));
        assert!(verifies(json!({"alg": "ES256", "typ": "JWT", "unknown": [1]})));
        for bad in [
            json!({}),
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES384"}),
            json!({"alg": "es256"}),
            json!({"alg": ["ES256"]}),
            json!({"alg": null}),
            json!({"alg": "ES256", "crit": []}),
            json!({"alg": "ES256", "crit": ["exp"]}),
        ] {
            assert!(!verifies(bad.clone()), "{bad}");
        }
    }

    /// RFC 8725 section 2.1 describes this attack: the public key is used as the secret of an HMAC.
    #[test]
    fn jws_with_an_hmac_keyed_by_the_public_key_is_refused() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        for algorithm in ["HS256", "ES256"] {
            let signed = format!("{}.{}", encoded(&json!({"alg": algorithm}).to_string()), encoded("{}"));
            let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_der());
            let tag = aws_lc_rs::hmac::sign(&hmac, signed.as_bytes());
            let text = format!("{signed}.{}", compact::encode(tag.as_ref()));
            assert!(!Jws::parse(&text).unwrap().verify(&key));
        }
    }

    #[test]
    fn malformed_jws_is_refused() {
        let (header, claims) = (&encoded(r#"{"alg":"ES256"}"#), &encoded("{}"));
        assert!(Jws::parse(&format!("{header}.{claims}.AA")).is_some());
        let deep = &encoded(&format!("{}{}", r#"{"a":"#.repeat(1000), "[".repeat(1000)));
        for bad in [
            String::new(),
            "..".to_owned(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}."),
            format!(".{claims}.AA"),
            format!("{header}..AA"),
            format!("{header}.{claims}.AA.AA"),
            format!("{header}.{claims}.AA=="),
            format!("{header}.{claims}.A"),
            format!("{header}.{claims}.AB"),
            format!("{header}.{claims}.+/+/"),
            format!(" {header}.{claims}.AA"),
            format!("{header}.{claims}.AA\n"),
            format!("{header}.{}.AA", encoded("[]")),
            format!("{header}.{}.AA", encoded("{} {}")),
            format!("{header}.{}.AA", encoded("\"text\"")),
            format!("{header}.{}.AA", compact::encode(b"{\"a\":\"\xff\"}")),
            format!("{}.{claims}.AA", encoded("null")),
            format!("{header}.{deep}.AA"),
        ] {
            assert!(Jws::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn jws_longer_than_the_maximum_is_refused() {
        let front = format!("{}.{}.", encoded(r#"{"alg":"ES256"}"#), encoded("{}"));
        let text = |length: usize| format!("{front}{}", "A".repeat(length - front.len()));
        assert!(Jws::parse(&text(Jws::MAX_CHARACTERS)).is_some());
        assert!(Jws::parse(&text(Jws::MAX_CHARACTERS + 1)).is_none());
    }

    proptest! {
        #[test]
        fn parsing_a_jws_never_panics(text in ".*", parts: [Vec<u8>; 3]) {
            let _ = Jws::parse(&text);
            let _ = Jws::parse(&parts.map(|part| compact::encode(&part)).join("."));
        }
    }
}
