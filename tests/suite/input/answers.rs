//! Forged, malformed and repeated answers to challenges.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use device::{Answer, SigningKey};
use harness::Http;
use harness::jws::{segment, with_hmac_signature, with_signature};
use serde_json::{Map, Value, json};

use super::{CHALLENGE, invalid, refused};
use crate::fixture::Fixture;
use crate::world::{Device, World};

/// Returns a compact JWS of these parts, signed with ES256.
fn jws(header: &Value, claims: &Value, key: &SigningKey) -> String {
    crypto::jws::sign(header.as_object().unwrap(), claims.as_object().unwrap(), key)
}

/// Returns the claims of a phone's approval of `challenge`.
fn approval(challenge: &Value) -> Value {
    let names = "hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,\
                 service_sid,identity";
    let fields = names.split(',').map(|name| (name.to_owned(), challenge[name].clone()));
    let mut claims: Map<String, Value> = fields.collect();
    claims.insert("status".to_owned(), "approved".into());
    Value::Object(claims)
}

/// Returns `claims` with the claim `name` set to `value`, or without that claim if `value` is `None`.
fn claims_with(claims: &Value, name: &str, value: Option<Value>) -> Value {
    let mut claims = claims.clone();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    claims
}

/// Challenge parameters with two fields and hidden details, so that an answer can differ in each of them.
const DETAILS: [(&str, &str); 3] = [
    ("Details.Fields", r#"{"label":"IBAN","value":"DE00"}"#),
    ("Details.Fields", r#"{"label":"Sum","value":"7/3"}"#),
    ("HiddenDetails", r#"{"txn":"1"}"#),
];

/// Maximum length of `AuthPayload` that the server accepts, in characters.
const MAX_PAYLOAD_CHARACTERS: usize = 5456;

/// A challenge with fields and hidden details, and the answer that its phone would send.
struct Valid {
    world: World,
    fixture: Fixture,
    challenge: Value,
    header: Value,
    claims: Value,
    /// The signed `AuthPayload` that approves `challenge`.
    payload: String,
    path: String,
}

impl Valid {
    async fn create() -> Self {
        let world = World::ephemeral();
        let fixture = Fixture::create(&world).await;
        let device = &fixture.device;
        let challenge = world.challenge(&device.enrollment, &DETAILS).await;
        let (header, claims) = (json!({ "typ": "JWT", "alg": "ES256" }), approval(&challenge));
        let payload = jws(&header, &claims, &device.key);
        let path = format!("{}/{}", device.challenges(), challenge["sid"].as_str().unwrap());
        Self { payload, path, header, claims, challenge, fixture, world }
    }

    fn device(&self) -> &Device {
        &self.fixture.device
    }

    /// Returns the signed part of the payload, and its signature.
    fn parts(&self) -> (&str, &str) {
        self.payload.rsplit_once('.').unwrap()
    }

    /// Returns the valid claims under another header, signed by the device.
    fn with_header(&self, header: Value) -> String {
        jws(&header, &self.claims, &self.device().key)
    }

    /// Returns other claims under the valid header, signed by the device.
    fn with_claims(&self, claims: &Value) -> String {
        jws(&self.header, claims, &self.device().key)
    }

    fn phone(&self) -> Http {
        Http::new(self.world.server.url()).auth(self.device().auth())
    }

    /// Checks that no answer in `forged` is accepted, whether the phone or the backend sends it, that nothing
    /// changes, and that the unchanged answer is accepted afterwards.
    async fn assert_refuses(&self, forged: &[(String, String)]) {
        let before = self.world.everything().await;
        let (phone, backend) = (self.phone(), self.world.backend());
        for (index, (what, payload)) in forged.iter().enumerate() {
            assert!(payload.len() <= MAX_PAYLOAD_CHARACTERS, "{what} would be refused for its length");
            let client = if index % 2 == 0 { &phone } else { &backend };
            let form = [("AuthPayload", payload.as_str()), ("Metadata", r#"{"noted":"no"}"#)];
            let reply = client.post(&self.path, &form).await;
            refused(403, 60324, "Challenge verification failed").assert(&reply, what);
        }
        assert_eq!(self.world.everything().await, before);
        self.assert_accepts_the_valid_answer().await;
    }

    /// Checks that the unchanged answer is accepted: a forged one is refused for what was changed in it.
    async fn assert_accepts_the_valid_answer(&self) {
        let reply = self.phone().post(&self.path, &[("AuthPayload", &self.payload)]).await;
        assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("approved")), "{reply:?}");
    }
}

#[tokio::test]
async fn answer_payload_that_is_not_a_compact_jws_is_refused() {
    let valid = Valid::create().await;
    let before = valid.world.everything().await;
    let phone = valid.phone();
    for (what, payload) in malformed_payloads(&valid) {
        let reply = phone.post(&valid.path, &[("AuthPayload", &payload)]).await;
        invalid("AuthPayload").assert(&reply, what);
    }
    assert_eq!(valid.world.everything().await, before);
    valid.assert_accepts_the_valid_answer().await;
}

fn malformed_payloads(valid: &Valid) -> Vec<(&'static str, String)> {
    let Valid { payload, .. } = valid;
    let (signed, signature) = valid.parts();
    let (header, claims) = (segment(&valid.header), segment(&valid.claims));
    let oversized = claims_with(&valid.claims, "padding", Some("x".repeat(4000).into()));
    vec![
        ("words", "approved".to_owned()),
        ("one part", header.clone()),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{payload}.{signature}")),
        ("no signature", with_signature(payload, b"")),
        ("an empty header", format!(".{claims}.{signature}")),
        ("empty claims", format!("{header}..{signature}")),
        ("a header that is no object", format!("{}.{claims}.{signature}", segment(&json!(["ES256"])))),
        ("claims that are no object", format!("{header}.{}.{signature}", segment(&json!("approved")))),
        ("a header that is no JSON", format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode("{"))),
        (
            "claims that are no UTF-8",
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}")),
        ),
        ("padding", format!("{payload}==")),
        (
            "standard base64 in place of base64url",
            format!("{header}.{}.{signature}", STANDARD.encode(valid.claims.to_string())),
        ),
        ("a space in front", format!(" {payload}")),
        ("a line break at the end", format!("{payload}\n")),
        ("JSON", valid.claims.to_string()),
        (
            "the JSON form of a JWS",
            json!({ "payload": claims, "protected": header, "signature": signature }).to_string(),
        ),
        ("too many characters", valid.with_claims(&oversized)),
        ("a proof for a factor", STANDARD.encode(valid.device().key.sign_der(signed.as_bytes()))),
        (
            "unclosed nested objects",
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{\"a\":".repeat(800))),
        ),
    ]
}

#[tokio::test]
async fn answer_with_an_algorithm_other_than_es256_is_refused() {
    let valid = Valid::create().await;
    let under = |header: Value| valid.with_header(header);
    let hmac = |secret: &[u8]| with_hmac_signature(&under(json!({ "typ": "JWT", "alg": "HS256" })), secret);
    let key = &valid.device().key;
    let forged = [
        ("alg none", under(json!({ "typ": "JWT", "alg": "none" }))),
        (
            "alg None and a signature of one zero byte",
            format!("{}.{}.AA", segment(&json!({ "alg": "None" })), segment(&valid.claims)),
        ),
        ("no alg", under(json!({ "typ": "JWT" }))),
        ("alg in small letters", under(json!({ "alg": "es256" }))),
        ("alg null", under(json!({ "alg": null }))),
        ("alg ES384", under(json!({ "alg": "ES384" }))),
        ("alg HS256", under(json!({ "alg": "HS256" }))),
        ("HMAC under the public key", hmac(key.public_key().as_der())),
        ("HMAC under the public key's text", hmac(key.public_key_base64().as_bytes())),
        ("crit", under(json!({ "alg": "ES256", "crit": ["b64"], "b64": false }))),
    ];
    valid.assert_refuses(&forged.map(|(what, payload)| (what.to_owned(), payload))).await;
}

#[tokio::test]
async fn answer_with_an_invalid_signature_is_refused() {
    let valid = Valid::create().await;
    let another = valid.world.challenge(&valid.device().enrollment, &DETAILS).await;
    let Valid { claims, header, payload, .. } = &valid;
    let (signed, signature) = valid.parts();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed_with = |signature: &[u8]| with_signature(payload, signature);
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    // The negated `s` would be a second valid signature, while an `s` of zero is never valid.
    let mut zero_s = bytes.clone();
    zero_s[32..].fill(0);
    let own_key = SigningKey::generate();
    let answer_to_another = valid.with_claims(&approval(&another));
    let denied = claims_with(claims, "status", Some("denied".into()));
    let forged = [
        ("another key", jws(header, claims, &SigningKey::generate())),
        ("a key in the header", jws(&json!({ "alg": "ES256", "jwk": jwk(&own_key) }), claims, &own_key)),
        ("a flipped bit", signed_with(&flipped)),
        ("half a signature of zeros", signed_with(&zero_s)),
        ("a signature of zeros", signed_with(&[0; 64])),
        ("a byte after the signature", signed_with(&[&bytes[..], &[0]].concat())),
        ("a byte before the signature", signed_with(&[&[0][..], &bytes].concat())),
        ("half the signature", signed_with(&bytes[..32])),
        ("the signature twice", signed_with(&bytes.repeat(2))),
        ("a signature in DER", signed_with(&valid.device().key.sign_der(signed.as_bytes()))),
        (
            "the signature of another challenge",
            format!("{signed}.{}", answer_to_another.rsplit_once('.').unwrap().1),
        ),
        (
            "another header with the same signature",
            format!("{}.{}.{signature}", segment(&json!({ "alg": "ES256" })), segment(claims)),
        ),
        (
            "denial with the signature of an approval",
            format!("{}.{}.{signature}", segment(header), segment(&denied)),
        ),
        ("the answer to another challenge", answer_to_another.clone()),
    ];
    valid.assert_refuses(&forged.map(|(what, payload)| (what.to_owned(), payload))).await;
}

/// The public key of `key` as a JWK.
fn jwk(key: &SigningKey) -> Value {
    let der = key.public_key();
    let point = &der.as_der()[27..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
}

#[tokio::test]
async fn answer_whose_claims_differ_from_the_challenge_is_refused() {
    let valid = Valid::create().await;
    let Valid { claims, challenge, .. } = &valid;
    let mut forged = vec![
        ("no claims".to_owned(), valid.with_claims(&json!({}))),
        ("claims one level down".to_owned(), valid.with_claims(&json!({ "challenge": claims }))),
    ];
    for name in claims.as_object().unwrap().keys() {
        let shown = &challenge[name];
        forged.push((format!("{name} missing"), valid.with_claims(&claims_with(claims, name, None))));
        let mut values =
            vec![json!("changed"), Value::Null, json!(7), json!([shown]), json!({}), json!(true)];
        if let Some(text) = shown.as_str() {
            values.extend([json!(text.to_uppercase()), json!(format!("{text} ")), json!(&text[1..])]);
        }
        for value in values {
            let is_an_answer = name == "status" && matches!(value.as_str(), Some("approved" | "denied"));
            if value != *shown && !is_an_answer {
                let context = format!("{name} as {value}");
                forged.push((context, valid.with_claims(&claims_with(claims, name, Some(value)))));
            }
        }
    }
    for word in ["pending", "expired", "Approved", "APPROVED", " approved", "yes", ""] {
        let claims = claims_with(claims, "status", Some(word.into()));
        forged.push((format!("status {word:?}"), valid.with_claims(&claims)));
    }
    valid.assert_refuses(&forged).await;
}

#[tokio::test]
async fn answer_whose_nested_claims_differ_from_the_challenge_is_refused() {
    let valid = Valid::create().await;
    let Valid { claims, challenge, .. } = &valid;
    let fields = &challenge["details"]["fields"];
    let mut forged = Vec::new();
    for (pointer, value) in [
        ("/details/message", json!("Sign in to Hawk Bank?")),
        ("/details/fields/0/value", json!("DE01")),
        ("/details/fields/0/label", json!("iban")),
        ("/details/fields", json!([])),
        ("/details/fields/1", Value::Null),
        ("/details/fields", json!([fields[1], fields[0]])),
        ("/hidden_details/txn", json!("2")),
        ("/hidden_details/txn", json!(1)),
        ("/expiration_date", json!(challenge["expiration_date"].as_str().unwrap().replace('Z', "+00:00"))),
    ] {
        let mut claims = claims.clone();
        *claims.pointer_mut(pointer).unwrap() = value.clone();
        forged.push((format!("{pointer} as {value}"), valid.with_claims(&claims)));
    }
    for (pointer, name) in [("/details", "date"), ("/details/fields/0", "more"), ("/hidden_details", "more")]
    {
        let mut claims = claims.clone();
        claims.pointer_mut(pointer).unwrap()[name] = "added".into();
        forged.push((format!("{pointer} with {name}"), valid.with_claims(&claims)));
    }
    valid.assert_refuses(&forged).await;
}

#[tokio::test]
async fn null_hidden_details_must_be_signed_as_null() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let device = &fixture.device;
    let (header, claims) = (json!({ "typ": "JWT", "alg": "ES256" }), approval(&fixture.challenge));
    let path = fixture.path(CHALLENGE);
    let phone = Http::new(world.server.url()).auth(device.auth());
    let before = world.everything().await;
    for hidden in [None, Some(json!({})), Some(json!("null")), Some(json!(""))] {
        let payload = jws(&header, &claims_with(&claims, "hidden_details", hidden.clone()), &device.key);
        let reply = phone.post(&path, &[("AuthPayload", &payload)]).await;
        let context = format!("{hidden:?} instead of null");
        refused(403, 60324, "Challenge verification failed").assert(&reply, &context);
    }
    assert_eq!(world.everything().await, before);
    let reply = phone.post(&path, &[("AuthPayload", &jws(&header, &claims, &device.key))]).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("approved")), "{reply:?}");
}

#[tokio::test]
async fn valid_answers_with_other_headers_or_extra_claims_are_accepted() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let device = &fixture.device;
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    for (what, header, more) in [
        ("as the SDKs write it", header.clone(), json!({})),
        ("with additional claims", header.clone(), json!({ "url": "https://x", "metadata": null })),
        ("without typ", json!({ "alg": "ES256" }), json!({})),
        ("with kid and cty", json!({ "alg": "ES256", "kid": "x", "cty": "y", "typ": "jwt" }), json!({})),
        ("as long as possible", header, json!({ "padding": "x".repeat(3100) })),
    ] {
        let challenge = world.challenge(&device.enrollment, &DETAILS[..2]).await;
        let mut claims = approval(&challenge);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut payload = jws(&header, &claims, &device.key);
        if what == "as long as possible" {
            // Three bytes of claims are four characters of base64, so up to three characters of the limit stay unused.
            let room = (MAX_PAYLOAD_CHARACTERS - payload.len()) / 4 * 3;
            claims["padding"] = "x".repeat(3100 + room).into();
            payload = jws(&header, &claims, &device.key);
            assert!((5450..=MAX_PAYLOAD_CHARACTERS).contains(&payload.len()), "{}", payload.len());
        }
        let path = format!("{}/{}", device.challenges(), challenge["sid"].as_str().unwrap());
        let reply =
            world.backend().post(&path, &[("AuthPayload", &payload), ("Metadata", r#"{"a":"b"}"#)]).await;
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        assert_eq!(
            (&reply.json()["status"], &reply.json()["metadata"]),
            (&json!("approved"), &json!({ "a": "b" }))
        );
    }
}

#[tokio::test]
async fn answered_challenge_accepts_no_further_answer() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let device = &fixture.device;
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    let sid = fixture.challenge["sid"].as_str().unwrap();
    device.phone.answer(&device.enrollment, sid, Answer::Denied).await.unwrap();
    let before = world.everything().await;
    let path = fixture.path(CHALLENGE);
    let good = jws(&header, &approval(&fixture.challenge), &device.key);
    let forged = jws(&header, &approval(&fixture.challenge), &SigningKey::generate());
    for payload in [good, forged] {
        let form = [("AuthPayload", payload.as_str()), ("Metadata", r#"{"late":"yes"}"#)];
        refused(403, 60322, "Challenge already responded")
            .assert(&world.backend().post(&path, &form).await, "answered");
    }
    invalid("AuthPayload").assert(&world.backend().post(&path, &[("AuthPayload", "x")]).await, "no JWS");
    assert_eq!(world.everything().await, before);
}
