//! Callers that the server must refuse: unauthenticated ones, and those with credentials for other resources.

use std::sync::Arc;

use app::SystemClock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device::{SigningKey, Style};
use domain::Clock as _;
use harness::{Auth, jws};
use serde_json::json;

use super::device_token::{device_token, hmac_device_token};
use super::{
    ALERTS, ATTEMPT_SUMMARY, ATTEMPTS, Allowed, CHALLENGES, CREDENTIALS, EVENTS, FORMS, KEYS, Row,
    SAFE_NUMBERS, SERVICES, TEMPLATES, client,
};
use crate::fixture::{Fixture, IDENTITY};
use crate::world::{Device, World, created, signed_in};

pub(super) fn basic(user: &str, password: &str) -> Auth {
    Auth::Basic(user.to_owned(), password.to_owned())
}

/// Returns the SID and the secret that `account create` or `api-key create` printed; the secret is the last
/// word.
fn credentials(printed: &str) -> (String, String) {
    let sid = printed.split_whitespace().find(|word| word.len() == 34).unwrap();
    (sid.to_owned(), printed.split_whitespace().last().unwrap().to_owned())
}

/// The SIDs and secrets of a second account, an API key and a revoked API key, all created with the command
/// line.
pub(crate) struct Backends {
    pub(super) other: (String, String),
    pub(crate) key: (String, String),
    revoked: (String, String),
}

impl Backends {
    /// Returns the SID and the auth token of the second account.
    pub(crate) fn other(&self) -> (String, String) {
        self.other.clone()
    }

    pub(crate) fn create(world: &World) -> Self {
        let key = || credentials(&world.command(&["api-key", "create", world.server.account_sid()]));
        let other = credentials(&world.command(&["account", "create", "--name", "Other"]));
        let (key, revoked) = (key(), key());
        world.command(&["api-key", "revoke", &revoked.0]);
        Self { other, key, revoked }
    }
}

/// A caller: a name for assertion messages, and its credentials.
type Caller = (&'static str, Auth);

/// Returns every caller that the server must answer with 401, named by what is wrong with its credentials.
pub(crate) async fn unauthenticated_callers(
    world: &World,
    fixture: &Fixture,
    backends: &Backends,
) -> Vec<Caller> {
    let mut callers = wrong_passwords(world, fixture, backends);
    callers.extend(malformed_headers(world, fixture));
    callers.extend(wrong_access_tokens(fixture));
    callers.extend(device_tokens_of_other_keys(world, fixture).await);
    callers.extend(device_tokens_with_wrong_claims(fixture, backends));
    callers.extend(device_tokens_with_wrong_signatures(fixture));
    callers
}

fn wrong_passwords(world: &World, fixture: &Fixture, backends: &Backends) -> Vec<Caller> {
    let (account, password) = (world.server.account_sid(), world.server.auth_token());
    vec![
        ("no credentials", Auth::None),
        ("wrong password", basic(account, &"0".repeat(32))),
        ("no password", basic(account, "")),
        ("password cut short", basic(account, &password[..31])),
        ("password with one more character", basic(account, &format!("{password}0"))),
        ("another account's password", basic(account, &backends.other.1)),
        ("unknown account", basic(&format!("AC{}", "0".repeat(32)), password)),
        ("no account", basic("", password)),
        ("account in small letters", basic(&account.to_lowercase(), password)),
        ("service as user", basic(&fixture.service, password)),
        ("unknown API key", basic(&format!("SK{}", "0".repeat(32)), &backends.key.1)),
        ("API key with another's secret", basic(&backends.key.0, &backends.revoked.1)),
        ("API key with the account's password", basic(&backends.key.0, password)),
        ("account with an API key's secret", basic(account, &backends.key.1)),
        ("revoked API key", basic(&backends.revoked.0, &backends.revoked.1)),
    ]
}

fn malformed_headers(world: &World, fixture: &Fixture) -> Vec<Caller> {
    let (account, password) = (world.server.account_sid(), world.server.auth_token());
    let device_token = device_token(&fixture.device, &fixture.device.key, json!({}), json!({}));
    let raw = |header: &str| Auth::Raw(header.to_owned());
    let encoded = |pair: &[u8]| Auth::Raw(format!("Basic {}", STANDARD.encode(pair)));
    let padded = format!("Basic {}", STANDARD.encode(format!("{account}:{password}")));
    assert!(padded.ends_with('='));
    vec![
        ("empty header", raw("")),
        ("scheme alone", raw("Basic")),
        ("scheme and a space", raw("Basic ")),
        ("no base64", raw("Basic !!!!")),
        ("no colon", encoded(account.as_bytes())),
        ("no UTF-8", encoded(b"\xff\xfe:\xff")),
        ("base64 without padding", raw(padded.trim_end_matches('='))),
        ("another scheme", raw(&format!("Bearer {password}"))),
        ("a device token as bearer", raw(&format!("Bearer {device_token}"))),
        ("credentials without base64", raw(&format!("Basic {account}:{password}"))),
        ("token user without token", signed_in("")),
        ("token user with the account's password", signed_in(password)),
        ("token user in capitals", basic("Token", &device_token)),
        ("a token without its user", basic("", &device_token)),
    ]
}

fn wrong_access_tokens(fixture: &Fixture) -> Vec<Caller> {
    let unspent = fixture.token["token"].as_str().unwrap();
    let altered = {
        let mut parts: Vec<&str> = unspent.split('.').collect();
        let first = if parts[3].starts_with('A') { "B" } else { "A" };
        let ciphertext = format!("{first}{}", &parts[3][1..]);
        parts[3] = &ciphertext;
        parts.join(".")
    };
    vec![
        ("altered access token", signed_in(altered)),
        ("access token cut short", signed_in(&unspent[..unspent.len() - 1])),
        ("access token with one more character", signed_in(format!("{unspent}A"))),
        ("access token with another key's name", signed_in(format!("{}.A", &unspent[5..]))),
        ("many dots", signed_in(".".repeat(50))),
    ]
}

async fn device_tokens_of_other_keys(world: &World, fixture: &Fixture) -> Vec<Caller> {
    let device = &fixture.device;
    let deleted = world.device(&fixture.service, IDENTITY).await;
    assert_eq!(world.backend().delete(&deleted.path(), &[]).await.status, 204);
    let sibling = world.device(&fixture.service, "user-0077").await;
    let with_kid = |kid| signed_in(device_token(device, &device.key, json!({ "kid": kid }), json!({})));
    let of_another_key = device_token(device, &SigningKey::generate(), json!({}), json!({}));
    vec![
        ("device token of a deleted factor", deleted.auth()),
        ("device token of another key", signed_in(of_another_key)),
        ("device token with another factor's kid", with_kid(json!(sibling.enrollment.credential_sid))),
        ("device token with an unknown kid", with_kid(json!(format!("CR{}", "0".repeat(32))))),
        ("device token with the factor's SID as kid", with_kid(json!(device.enrollment.factor_sid))),
        ("device token without kid", with_kid(json!(null))),
    ]
}

fn device_tokens_with_wrong_claims(fixture: &Fixture, backends: &Backends) -> Vec<Caller> {
    let device = &fixture.device;
    let (now, minute) = (SystemClock.now().seconds(), 60);
    let with = |claims| signed_in(device_token(device, &device.key, json!({}), claims));
    vec![
        ("device token of another account", with(json!({ "sub": backends.other.0 }))),
        ("device token of an unknown account", with(json!({ "sub": format!("AC{}", "0".repeat(32)) }))),
        ("device token of no account", with(json!({ "sub": null }))),
        ("expired device token", with(json!({ "nbf": now - 12 * minute, "exp": now - 2 * minute }))),
        ("device token of the future", with(json!({ "nbf": now + 60 * minute, "exp": now + 70 * minute }))),
        ("device token for two hours", with(json!({ "exp": now + 120 * minute }))),
        ("device token that ends before it begins", with(json!({ "exp": now - 1 }))),
        ("device token without exp", with(json!({ "exp": null }))),
        ("device token without nbf", with(json!({ "nbf": null }))),
        ("device token with a text as exp", with(json!({ "exp": (now + 600).to_string() }))),
        ("device token with huge times", with(json!({ "exp": i64::MAX, "nbf": i64::MIN }))),
    ]
}

fn device_tokens_with_wrong_signatures(fixture: &Fixture) -> Vec<Caller> {
    let device = &fixture.device;
    let good = device_token(device, &device.key, json!({}), json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let with_header = |header| signed_in(device_token(device, &device.key, header, json!({})));
    let unsigned = |token: &str| signed_in(jws::with_signature(token, b""));
    vec![
        ("device token of another kind", with_header(json!({ "cty": "twilio-fpa;v=1" }))),
        ("device token of no kind", with_header(json!({ "cty": null }))),
        ("device token with alg none", with_header(json!({ "alg": "none" }))),
        (
            "device token with alg none, unsigned",
            unsigned(&device_token(device, &device.key, json!({ "alg": "none" }), json!({}))),
        ),
        ("device token without alg", with_header(json!({ "alg": null }))),
        ("device token with alg ES384", with_header(json!({ "alg": "ES384" }))),
        ("HMAC under the public key", hmac_device_token(device, device.key.public_key().as_der())),
        (
            "HMAC under the public key's text",
            hmac_device_token(device, device.key.public_key_base64().as_bytes()),
        ),
        ("HMAC under an empty key", hmac_device_token(device, b"")),
        ("device token with crit", with_header(json!({ "crit": ["exp"] }))),
        ("device token, unsigned", unsigned(&good)),
        ("device token with a signature of zeros", signed_in(jws::with_signature(&good, &[0; 64]))),
        ("device token with another's signature", {
            let other = device_token(device, &device.key, json!({}), json!({ "more": 1 }));
            signed_in(format!("{signed}.{}", other.rsplit_once('.').unwrap().1))
        }),
        (
            "device token with a signature in DER",
            signed_in(jws::with_signature(&good, &device.key.sign_der(signed.as_bytes()))),
        ),
    ]
}

/// A function that returns the status and the error code with which a route refuses a caller, or `None` if
/// the request succeeds.
type Refusal = fn(Row) -> Option<(u16, i64)>;

/// Returns callers with valid credentials for other resources, and how each route must refuse them.
pub(crate) async fn callers_with_other_access(
    world: &World,
    fixture: &Fixture,
    backends: &Backends,
) -> Vec<(&'static str, Auth, Refusal)> {
    let service_sid = fixture.service.as_str();
    let other_service_sid = World::service(world).await;
    let token_of = async |service: &str, identity: &str| {
        signed_in(world.new_factor(service, identity).await.access_token.expose())
    };
    let spent_token_of = async |identity: &str| {
        let new = world.new_factor(service_sid, identity).await;
        world.phone(Style::Ios).enroll(&new).await.unwrap();
        signed_in(new.access_token.expose())
    };
    let sibling = world.device(service_sid, IDENTITY).await;
    let other_entity = world.device(service_sid, "user-0002").await;
    let other_service = world.device(&other_service_sid, IDENTITY).await;
    let spent = spent_token_of("user-0003").await;
    let own_spent = spent_token_of(IDENTITY).await;
    let (other_account_token, other_account_device) =
        enrolled_under_another_account(world, fixture, backends).await;
    vec![
        ("another account", basic(&backends.other.0, &backends.other.1), refusal_of_another_account),
        ("API key", basic(&backends.key.0, &backends.key.1), refusal_of_api_key),
        (
            "access token of the entity",
            signed_in(fixture.token["token"].as_str().unwrap()),
            refusal_of_own_enrollee,
        ),
        ("access token of another entity", token_of(service_sid, "user-0002").await, refusal_of_enrollee),
        ("access token of another case", token_of(service_sid, "USER-0001").await, refusal_of_enrollee),
        (
            "access token of another service",
            token_of(&other_service_sid, IDENTITY).await,
            refusal_of_enrollee,
        ),
        ("access token of another account", signed_in(other_account_token), refusal_of_enrollee),
        ("spent access token of the entity", own_spent, refusal_of_spent_enrollee),
        ("spent access token of another entity", spent, refusal_of_spent_enrollee),
        ("own device", fixture.device.auth(), refusal_of_own_device),
        ("device of the same entity", sibling.auth(), refusal_of_sibling_device),
        ("device of another entity", other_entity.auth(), refusal_of_other_device),
        ("device of another service", other_service.auth(), refusal_of_other_device),
        ("device of another account", other_account_device.auth(), refusal_of_other_device),
    ]
}

/// Returns an unspent access token and a device of another account, both for the identity of the fixture.
async fn enrolled_under_another_account(
    world: &World,
    fixture: &Fixture,
    backends: &Backends,
) -> (String, Device) {
    let backend = client(world, &basic(&backends.other.0, &backends.other.1));
    let service = created(&backend.post(SERVICES, &[("FriendlyName", "Abroad")]).await);
    let service_sid = service["sid"].as_str().unwrap();
    let access_token = async || {
        let form = [("Identity", IDENTITY), ("FactorType", "push"), ("Ttl", "300")];
        let path = format!("{SERVICES}/{service_sid}/AccessTokens");
        created(&backend.post(&path, &form).await)["token"].as_str().unwrap().to_owned()
    };
    let unspent = access_token().await;
    let new = device::NewFactor {
        service_sid: service_sid.to_owned(),
        access_token: domain::Secret::new(access_token().await),
        ..world.new_factor(&fixture.service, IDENTITY).await
    };
    let key = SigningKey::generate();
    let phone = Arc::clone(&fixture.device.phone);
    let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
    phone.verify_factor(&mut enrollment).await.unwrap();
    (unspent, Device { phone, enrollment, key })
}

fn refusal_of_another_account((_, pattern, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone => None,
        _ if [SERVICES, SAFE_NUMBERS, CREDENTIALS, ALERTS, EVENTS, KEYS].contains(&pattern) => None,
        // The forms are the same for all accounts.
        _ if pattern == FORMS => None,
        _ if [TEMPLATES, ATTEMPTS, ATTEMPT_SUMMARY].contains(&pattern) => None,
        _ => Some((404, 20404)),
    }
}

fn refusal_of_api_key((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    (allowed == Allowed::AccountOwner).then_some((403, 20403))
}

fn refusal_of_enrollee((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone => None,
        Allowed::BackendOrEnrollee | Allowed::BackendNotEnrollee => Some((403, 60313)),
        _ => Some((403, 20403)),
    }
}

fn refusal_of_own_enrollee((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone | Allowed::BackendOrEnrollee => None,
        Allowed::BackendNotEnrollee => Some((403, 60313)),
        _ => Some((403, 20403)),
    }
}

fn refusal_of_spent_enrollee((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone => None,
        _ => Some((401, 20003)),
    }
}

fn refusal_of_other_device((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone => None,
        Allowed::BackendOrDevice | Allowed::BackendNotDevice => Some((404, 20404)),
        _ => Some((403, 20403)),
    }
}

fn refusal_of_sibling_device((_, pattern, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone => None,
        // The list succeeds, but contains only the caller's own challenges.
        Allowed::BackendOrDevice if pattern == CHALLENGES => None,
        Allowed::BackendOrDevice | Allowed::BackendNotDevice => Some((404, 20404)),
        _ => Some((403, 20403)),
    }
}

fn refusal_of_own_device((_, _, allowed, _): Row) -> Option<(u16, i64)> {
    match allowed {
        Allowed::Anyone | Allowed::BackendOrDevice => None,
        Allowed::BackendNotDevice => Some((404, 20404)),
        _ => Some((403, 20403)),
    }
}
