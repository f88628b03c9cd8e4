//! Device tokens: the JWTs with which devices authenticate. A device creates a new token for every request
//! (docs/protocol/device.md, section 4).

use domain::factors::PublicKey;
use domain::sids::{AccountSid, CredentialSid};
use domain::time::Timestamp;
use serde_json::Value;

use crate::Jws;

/// Maximum accepted deviation of a device's clock from the server's clock (docs/protocol/decisions.md, No. 19).
const LEEWAY_SECONDS: i64 = 60;

/// Maximum lifetime of a device token, from `nbf` to `exp` (docs/protocol/decisions.md, No. 19). The SDKs use 600
/// seconds.
const MAX_LIFETIME_SECONDS: i64 = 3600;

/// A device token that is parsed but not verified. [`DeviceToken::kid`] identifies the key with which
/// [`DeviceToken::verify`] must be called.
#[derive(Clone)]
pub struct DeviceToken<'t> {
    jws: Jws<'t>,
    kid: CredentialSid,
    account_sid: AccountSid,
    not_before: i64,
    expires: i64,
}

impl<'t> DeviceToken<'t> {
    /// Parses a device token without verifying it; returns `None` if the token is malformed.
    ///
    /// The token must be a JWS with `twilio-pba;v=1` as `cty`, a credential SID as `kid`, an account SID as `sub`, and
    /// whole seconds as `exp` and `nbf`. `typ` must be `JWT` or absent. Other members, such as the `grants` of old
    /// SDKs, are ignored.
    pub fn parse(text: &'t str) -> Option<Self> {
        let jws = Jws::parse(text)?;
        let header = |name| jws.header().get(name);
        let claim = |name| jws.claims().get(name);
        if header("cty")? != "twilio-pba;v=1" {
            return None;
        }
        // RFC 7519 section 5.1 permits `JWT` in any mix of uppercase and lowercase letters.
        if !header("typ").is_none_or(|typ| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"))) {
            return None;
        }
        let kid = header("kid")?.as_str()?.parse().ok()?;
        let account_sid = claim("sub")?.as_str()?.parse().ok()?;
        let not_before = claim("nbf").and_then(Value::as_i64)?;
        let expires = claim("exp").and_then(Value::as_i64)?;
        Some(Self { kid, account_sid, not_before, expires, jws })
    }

    /// Returns the credential SID in `kid`: it identifies the factor that claims to have signed the token.
    pub const fn kid(&self) -> CredentialSid {
        self.kid
    }

    /// Returns the account SID that the token claims. The caller must compare it with the account of the factor.
    pub const fn account_sid(&self) -> AccountSid {
        self.account_sid
    }

    /// Returns whether `key` signed this token and the token is valid at `now`. The device's clock may deviate by up to
    /// 60 seconds, and the lifetime of the token may be at most one hour (docs/protocol/decisions.md, No. 19).
    pub fn verify(&self, key: &PublicKey, now: Timestamp) -> bool {
        self.is_timely(now) && self.jws.verify(key)
    }

    /// Returns whether the token is valid at `now`, regardless of its signature. The arithmetic must not overflow,
    /// because the claims are not verified yet and may be extreme.
    fn is_timely(&self, now: Timestamp) -> bool {
        let now = now.seconds();
        let lifetime = self.expires.checked_sub(self.not_before);
        lifetime.is_some_and(|lifetime| (1..=MAX_LIFETIME_SECONDS).contains(&lifetime))
            && self.not_before <= now.saturating_add(LEEWAY_SECONDS)
            && now < self.expires.saturating_add(LEEWAY_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;
    use crate::signatures::parse_public_key;
    use crate::{SigningKey, jws, vectors};

    const NOW: i64 = 1_767_225_600;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is no object"),
        }
    }

    fn header() -> Value {
        json!({
            "cty": "twilio-pba;v=1",
            "kid": "CR55555555555555555555555555555555",
            "typ": "JWT",
            "alg": "ES256",
        })
    }

    fn claims() -> Value {
        json!({"sub": "AC11111111111111111111111111111111", "exp": NOW + 600, "nbf": NOW})
    }

    fn with(mut value: Value, name: &str, member: Value) -> Value {
        value[name] = member;
        value
    }

    fn without(mut value: Value, name: &str) -> Value {
        value.as_object_mut().unwrap().remove(name);
        value
    }

    fn token(phone: &SigningKey, header: Value, claims: Value) -> String {
        jws::sign(&object(header), &object(claims), phone)
    }

    #[test]
    fn device_token_test_vector_is_verified() {
        let key = parse_public_key(vectors::PUBLIC_KEY).unwrap();
        let token = DeviceToken::parse(vectors::DEVICE_TOKEN).unwrap();
        assert_eq!(token.kid().to_string(), "CR55555555555555555555555555555555");
        assert_eq!(token.account_sid().to_string(), "AC11111111111111111111111111111111");
        assert!(token.verify(&key, Timestamp::from_seconds(NOW)));
        assert!(!token.verify(&SigningKey::generate().public_key(), Timestamp::from_seconds(NOW)));
    }

    #[test]
    fn device_token_with_a_missing_or_wrong_member_is_refused() {
        let phone = SigningKey::generate();
        let parses = |header, claims| DeviceToken::parse(&token(&phone, header, claims)).is_some();
        for (good_header, good_claims) in [
            (header(), claims()),
            (without(header(), "typ"), claims()),
            (with(header(), "typ", json!("jwt")), claims()),
            (with(header(), "other", json!(1)), with(claims(), "grants", json!({"factor": [1]}))),
        ] {
            assert!(parses(good_header.clone(), good_claims.clone()), "{good_header} {good_claims}");
        }
        for bad in [
            without(header(), "cty"),
            with(header(), "cty", json!("twilio-fpa;v=1")),
            with(header(), "cty", json!("twilio-pba;v=2")),
            with(header(), "cty", json!(["twilio-pba;v=1"])),
            with(header(), "typ", json!("JOSE")),
            with(header(), "typ", json!(null)),
            without(header(), "kid"),
            with(header(), "kid", json!("YF55555555555555555555555555555555")),
            with(header(), "kid", json!(5)),
        ] {
            assert!(!parses(bad.clone(), claims()), "{bad}");
        }
        for bad in [
            without(claims(), "sub"),
            with(claims(), "sub", json!("YF55555555555555555555555555555555")),
            without(claims(), "exp"),
            without(claims(), "nbf"),
            with(claims(), "exp", json!("1767226200")),
            with(claims(), "exp", json!(1_767_226_200.0)),
            with(claims(), "exp", json!(1e300)),
            with(claims(), "exp", json!(u64::MAX)),
            with(claims(), "nbf", json!(null)),
        ] {
            assert!(!parses(header(), bad.clone()), "{bad}");
        }
    }

    #[test]
    fn device_token_with_a_different_algorithm_or_key_is_refused() {
        let phone = SigningKey::generate();
        let verifies = |header, key: &PublicKey| {
            DeviceToken::parse(&token(&phone, header, claims()))
                .unwrap()
                .verify(key, Timestamp::from_seconds(NOW))
        };
        let key = phone.public_key();
        assert!(verifies(header(), &key));
        assert!(!verifies(header(), &SigningKey::generate().public_key()));
        assert!(!verifies(with(header(), "alg", json!("none")), &key));
        assert!(!verifies(without(header(), "alg"), &key));
    }

    fn is_good(not_before: i64, expires: i64, now: Timestamp) -> bool {
        let phone = SigningKey::generate();
        let claims = with(with(claims(), "nbf", json!(not_before)), "exp", json!(expires));
        DeviceToken::parse(&token(&phone, header(), claims)).unwrap().verify(&phone.public_key(), now)
    }

    #[test]
    fn device_token_is_accepted_up_to_sixty_seconds_before_or_after_its_validity() {
        let end = NOW + 600;
        let at = Timestamp::from_seconds;
        for (now, good) in [
            (at(NOW - 61), false),
            (Timestamp::from_micros((NOW - 60) * 1_000_000 - 1), false),
            (at(NOW - 60), true),
            (at(end + 59), true),
            (Timestamp::from_micros((end + 60) * 1_000_000 - 1), true),
            (at(end + 60), false),
        ] {
            assert_eq!(is_good(NOW, end, now), good, "{now:?}");
        }
    }

    #[test]
    fn device_token_lifetime_must_be_one_second_to_one_hour() {
        let now = Timestamp::from_seconds(NOW);
        for (lifetime, good) in [(-1, false), (0, false), (1, true), (3600, true), (3601, false)] {
            assert_eq!(is_good(NOW, NOW + lifetime, now), good, "{lifetime}");
        }
    }

    #[test]
    fn extreme_times_in_a_device_token_do_not_overflow() {
        let ends = [i64::MIN, i64::MIN + 1, -1, 0, NOW, i64::MAX - 1, i64::MAX];
        for not_before in ends {
            for expires in ends {
                for now in [i64::MIN, 0, NOW * 1_000_000, i64::MAX].map(Timestamp::from_micros) {
                    let near = now.seconds().abs_diff(not_before) <= 60;
                    let good = is_good(not_before, expires, now);
                    assert!(!good || near, "{not_before} {expires} {now:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_a_device_token_never_panics(text in ".*") {
            prop_assert!(DeviceToken::parse(&text).is_none());
        }
    }
}
