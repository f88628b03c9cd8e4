//! Device tokens with contents or signatures that no real phone sends.

use app::SystemClock;
use device::SigningKey;
use domain::Clock as _;
use harness::{Auth, jws};
use serde_json::{Map, Value, json};

use crate::world::{Device, signed_in};

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

/// Returns a device token signed by `key`, with these members in place of the usual ones; null removes a member.
pub(super) fn device_token(device: &Device, key: &SigningKey, header: Value, claims: Value) -> String {
    let now = SystemClock.now().seconds();
    let enrollment = &device.enrollment;
    let mut usual = [
        object(
            json!({ "cty": "twilio-pba;v=1", "kid": enrollment.credential_sid, "typ": "JWT", "alg": "ES256" }),
        ),
        object(json!({ "sub": enrollment.account_sid, "exp": now + 600, "nbf": now })),
    ];
    for (usual, changed) in usual.iter_mut().zip([object(header), object(claims)]) {
        for (name, value) in changed {
            match value {
                Value::Null => drop(usual.remove(&name)),
                value => drop(usual.insert(name, value)),
            }
        }
    }
    crypto::jws::sign(&usual[0], &usual[1], key)
}

/// Returns a device token whose signature is an HMAC under `secret`.
pub(super) fn hmac_device_token(device: &Device, secret: &[u8]) -> Auth {
    let token = device_token(device, &device.key, json!({ "alg": "HS256" }), json!({}));
    signed_in(jws::with_hmac_signature(&token, secret))
}
