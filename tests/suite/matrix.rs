//! Who may do what: every route, and every kind of caller.
//!
//! [`TABLE`] says it once more, independently of the server, and must name every route that is served.

use std::sync::Arc;
use std::time::Duration;

use app::SystemClock;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use device::{Platform, SigningKey, Style};
use domain::Clock as _;
use harness::stand_in::pki::Key;
use harness::{Auth, Http, Reply, wait_until};
use serde_json::{Map, Value, json};

use crate::world::{Device, World, assert_error, created, entity, on_every_database, signed_in};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Who {
    Anyone,
    Backend,
    BackendOrEnrollee,
    BackendOrDevice,
}

/// Method, path, who may use it, and what a success is.
pub(crate) type Row = (&'static str, &'static str, Who, u16);

pub(crate) const TABLE: &[Row] = &[
    ("GET", "/healthz", Who::Anyone, 200),
    ("GET", "/readyz", Who::Anyone, 200),
    ("GET", "/openapi.json", Who::Anyone, 200),
    ("POST", "/v2/Services", Who::Backend, 201),
    ("GET", "/v2/Services", Who::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}", Who::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}", Who::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}", Who::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/AccessTokens", Who::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/AccessTokens/{Sid}", Who::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities", Who::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities", Who::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}", Who::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Entities/{Identity}", Who::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors", Who::BackendOrEnrollee, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors", Who::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Who::BackendOrDevice, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Who::BackendOrDevice, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Who::BackendOrDevice, 204),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", Who::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", Who::BackendOrDevice, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}", Who::BackendOrDevice, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}", Who::BackendOrDevice, 200),
    ("POST", NOTIFICATIONS, Who::Backend, 201),
    ("POST", "/v2/Services/{ServiceSid}/Webhooks", Who::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Webhooks", Who::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Who::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Who::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Who::Backend, 204),
    ("POST", CREDENTIALS, Who::Backend, 201),
    ("GET", CREDENTIALS, Who::Backend, 200),
    ("GET", "/v1/Credentials/{Sid}", Who::Backend, 200),
    ("POST", "/v1/Credentials/{Sid}", Who::Backend, 200),
    ("DELETE", "/v1/Credentials/{Sid}", Who::Backend, 204),
    ("GET", ALERTS, Who::Backend, 200),
    ("GET", "/v1/Alerts/{Sid}", Who::Backend, 200),
    ("GET", EVENTS, Who::Backend, 200),
    ("GET", "/v1/Events/{Sid}", Who::Backend, 200),
];

const SERVICES: &str = "/v2/Services";
const CHALLENGES: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges";
const NOTIFICATIONS: &str =
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications";
const CREDENTIALS: &str = "/v1/Credentials";
const ALERTS: &str = "/v1/Alerts";
const EVENTS: &str = "/v1/Events";

/// One of everything that a path can name.
pub(crate) struct Stage {
    pub(crate) service: String,
    pub(crate) device: Device,
    pub(crate) challenge: Value,
    pub(crate) token: Value,
    pub(crate) webhook: Value,
    pub(crate) credential: Value,
    /// That the challenge could not be pushed: the service names no credential.
    pub(crate) alert: Value,
    /// That the service was made.
    pub(crate) event: Value,
}

/// A webhook that is never called.
const WEBHOOK: [(&str, &str); 4] = [
    ("FriendlyName", "Backend"),
    ("WebhookUrl", "https://backend.example.com/push"),
    ("EventTypes", "challenge.approved"),
    ("Status", "disabled"),
];

/// The person whose things are on the stage.
pub(crate) const IDENTITY: &str = "user-0001";

impl Stage {
    pub(crate) async fn set(world: &World) -> Self {
        let service = world.service().await;
        let address = Some((Platform::Fcm, "registration-token".to_owned()));
        let device = world.device_at(&service, IDENTITY, address).await;
        let challenge = world.challenge(&device.enrollment, &[]).await;
        let post = async |path: &str, form: &[(&str, &str)]| created(&world.backend().post(path, form).await);
        let form = [("Identity", IDENTITY), ("FactorType", "push"), ("Ttl", "300")];
        let token = post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let webhook = post(&format!("/v2/Services/{service}/Webhooks"), &WEBHOOK).await;
        let (key, name) = (Key::p256().pkcs8(), ("FriendlyName", "Push"));
        let form = [("Type", "apn"), ("PrivateKey", &key), ("KeyId", "ABC123DEFG"), ("TeamId", "TEAM123456")];
        let credential = post(CREDENTIALS, &[&form[..], &[name]].concat()).await;
        let alert = wait_until("the push has failed", Duration::from_secs(60), async || {
            let alerts = world.backend().get(ALERTS, &[]).await.json();
            let mut alerts = alerts["alerts"].as_array().unwrap().iter();
            alerts.find(|alert| alert["resource_sid"] == challenge["sid"]).cloned()
        });
        let made = [("ResourceSid", service.as_str())];
        let event = world.backend().get(EVENTS, &made).await.json()["events"][0].clone();
        Self { alert: alert.await, event, token, service, device, webhook, credential, challenge }
    }

    /// The path of this route for what is on the stage.
    pub(crate) fn path(&self, pattern: &str) -> String {
        let sid = match pattern {
            _ if pattern.contains("/AccessTokens/") => self.token["sid"].as_str().unwrap(),
            _ if pattern.contains("/Factors/") => &self.device.enrollment.factor_sid,
            _ if pattern.contains("/Challenges/") => self.challenge["sid"].as_str().unwrap(),
            _ if pattern.contains("/Webhooks/") => self.webhook["sid"].as_str().unwrap(),
            _ if pattern.contains("/Credentials/") => self.credential["sid"].as_str().unwrap(),
            _ if pattern.contains("/Alerts/") => self.alert["sid"].as_str().unwrap(),
            _ if pattern.contains("/Events/") => self.event["sid"].as_str().unwrap(),
            _ => "",
        };
        let path = pattern.replace("{ServiceSid}", &self.service).replace("{Identity}", IDENTITY);
        path.replace("{Sid}", sid).replace("{ChallengeSid}", sid)
    }

    /// A form with which a POST to this route succeeds.
    pub(crate) fn form(&self, pattern: &str) -> Vec<(&'static str, String)> {
        let resource = pattern.strip_prefix("/v2/Services").unwrap_or(pattern);
        let form: &[(&str, &str)] = match resource {
            "" => &[("FriendlyName", "New")],
            "/{ServiceSid}" => &[("TtsName", "new")],
            "/{ServiceSid}/AccessTokens" => &[("Identity", "user-new1"), ("FactorType", "push")],
            "/{ServiceSid}/Entities" => &[("Identity", "user-new1")],
            "/{ServiceSid}/Entities/{Identity}/Factors" => {
                let public_key = SigningKey::generate().public_key_base64();
                return vec![
                    ("FriendlyName", "New".to_owned()),
                    ("FactorType", "push".to_owned()),
                    ("Binding.Alg", "ES256".to_owned()),
                    ("Binding.PublicKey", public_key),
                    ("Config.AppId", "com.example.app".to_owned()),
                    ("Config.NotificationPlatform", "none".to_owned()),
                ];
            }
            "/{ServiceSid}/Entities/{Identity}/Factors/{Sid}" => &[("FriendlyName", "New")],
            "/{ServiceSid}/Entities/{Identity}/Challenges" => {
                let factor = self.device.enrollment.factor_sid.clone();
                return vec![("FactorSid", factor), ("Details.Message", "New?".to_owned())];
            }
            "/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}" => &[("Metadata", r#"{"new":"yes"}"#)],
            "/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications" => &[("Ttl", "150")],
            "/{ServiceSid}/Webhooks" => &WEBHOOK,
            "/{ServiceSid}/Webhooks/{Sid}" => &[("FriendlyName", "New")],
            "/v1/Credentials" => {
                return vec![
                    ("Type", "apn".to_owned()),
                    ("PrivateKey", Key::p256().pkcs8()),
                    ("KeyId", "ABC123DEFG".to_owned()),
                    ("TeamId", "TEAM123456".to_owned()),
                ];
            }
            "/v1/Credentials/{Sid}" => &[("FriendlyName", "New")],
            _ => panic!("{pattern} is new: say here with what form it succeeds"),
        };
        form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    /// All that can be seen of the stage, and of everything else.
    pub(crate) async fn state(&self, world: &World) -> Value {
        let token =
            format!("/v2/Services/{}/AccessTokens/{}", self.service, self.token["sid"].as_str().unwrap());
        let token = world.backend().get(&token, &[]).await;
        json!({ "all": world.everything().await, "token": [token.status, token.json()] })
    }
}

/// Does what this row is about.
async fn request(client: &Http, (method, pattern, ..): Row, stage: &Stage) -> Reply {
    let path = stage.path(pattern);
    match method {
        "GET" => client.get(&path, &[]).await,
        "DELETE" => client.delete(&path, &[]).await,
        "POST" => {
            let form = stage.form(pattern);
            let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.post(&path, &form).await
        }
        _ => panic!("{method} {pattern} is new: say here how it is done"),
    }
}

pub(crate) fn client(world: &World, auth: &Auth) -> Http {
    Http::new(world.server.url()).auth(auth.clone())
}

fn basic(user: &str, password: &str) -> Auth {
    Auth::Basic(user.to_owned(), password.to_owned())
}

/// An account or API key out of what the command line printed: a SID, and the last word.
fn credentials(printed: &str) -> (String, String) {
    let sid = printed.split_whitespace().find(|word| word.len() == 34).unwrap();
    (sid.to_owned(), printed.split_whitespace().last().unwrap().to_owned())
}

/// A second account, an API key, and one that was revoked, made with the command line.
pub(crate) struct Backends {
    other: (String, String),
    pub(crate) key: (String, String),
    revoked: (String, String),
}

impl Backends {
    pub(crate) fn make(world: &World) -> Self {
        let key = || credentials(&world.command(&["api-key", "create", world.server.account_sid()]));
        let other = credentials(&world.command(&["account", "create", "--name", "Other"]));
        let (key, revoked) = (key(), key());
        world.command(&["api-key", "revoke", &revoked.0]);
        Self { other, key, revoked }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

/// A device token with these members in place of the usual ones; null removes one.
fn token(device: &Device, key: &SigningKey, header: Value, claims: Value) -> String {
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

/// The token with another signature.
fn resigned(token: &str, signature: &[u8]) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The token under an HMAC whose key is known to everybody, with `alg` to match.
fn with_hmac(device: &Device, secret: &[u8]) -> String {
    let token = token(device, &device.key, json!({ "alg": "HS256" }), json!({}));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let (signed, _) = token.rsplit_once('.').unwrap();
    resigned(&token, aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref())
}

/// Everybody whom the server must not know, by what is wrong with them.
pub(crate) async fn nobodies(world: &World, stage: &Stage, backends: &Backends) -> Vec<(&'static str, Auth)> {
    let (account, password) = (world.server.account_sid(), world.server.auth_token());
    let device = &stage.device;
    let other_key = SigningKey::generate();
    let good = token(device, &device.key, json!({}), json!({}));
    let (now, minute) = (SystemClock.now().seconds(), 60);
    let forged = |header, claims| signed_in(token(device, &device.key, header, claims));
    let raw = |header: &str| Auth::Raw(header.to_owned());
    let padded = format!("Basic {}", STANDARD.encode(format!("{account}:{password}")));
    assert!(padded.ends_with('='));
    let encoded = |pair: &[u8]| Auth::Raw(format!("Basic {}", STANDARD.encode(pair)));

    let gone = world.device(&stage.service, IDENTITY).await;
    assert_eq!(world.backend().delete(&gone.path(), &[]).await.status, 204);
    let sibling = world.device(&stage.service, "user-0077").await;
    let unspent = stage.token["token"].as_str().unwrap();
    let altered = {
        let mut parts: Vec<&str> = unspent.split('.').collect();
        let last = if parts[3].starts_with('A') { "B" } else { "A" };
        let ciphertext = format!("{last}{}", &parts[3][1..]);
        parts[3] = &ciphertext;
        parts.join(".")
    };

    vec![
        ("nobody", Auth::None),
        ("wrong password", basic(account, &"0".repeat(32))),
        ("no password", basic(account, "")),
        ("password cut short", basic(account, &password[..31])),
        ("password and more", basic(account, &format!("{password}0"))),
        ("another account's password", basic(account, &backends.other.1)),
        ("unknown account", basic(&format!("AC{}", "0".repeat(32)), password)),
        ("no account", basic("", password)),
        ("account in small letters", basic(&account.to_lowercase(), password)),
        ("service as user", basic(&stage.service, password)),
        ("unknown API key", basic(&format!("SK{}", "0".repeat(32)), &backends.key.1)),
        ("API key with another's secret", basic(&backends.key.0, &backends.revoked.1)),
        ("API key with the account's password", basic(&backends.key.0, password)),
        ("account with an API key's secret", basic(account, &backends.key.1)),
        ("revoked API key", basic(&backends.revoked.0, &backends.revoked.1)),
        ("empty header", raw("")),
        ("scheme alone", raw("Basic")),
        ("scheme and nothing", raw("Basic ")),
        ("no base64", raw("Basic !!!!")),
        ("no colon", encoded(account.as_bytes())),
        ("no UTF-8", encoded(b"\xff\xfe:\xff")),
        ("base64 without padding", raw(padded.trim_end_matches('='))),
        ("another scheme", raw(&format!("Bearer {password}"))),
        ("a device token as bearer", raw(&format!("Bearer {good}"))),
        ("credentials in the open", raw(&format!("Basic {account}:{password}"))),
        ("token user without token", signed_in("")),
        ("token user with the account's password", signed_in(password)),
        ("token user in capitals", basic("Token", &good)),
        ("a token without its user", basic("", &good)),
        ("altered access token", signed_in(altered)),
        ("access token cut short", signed_in(&unspent[..unspent.len() - 1])),
        ("access token and more", signed_in(format!("{unspent}A"))),
        ("access token with another key's name", signed_in(format!("{}.A", &unspent[5..]))),
        ("many dots", signed_in(".".repeat(50))),
        ("device token of a deleted factor", gone.auth()),
        ("device token of another key", signed_in(token(device, &other_key, json!({}), json!({})))),
        (
            "device token with another factor's kid",
            forged(json!({ "kid": sibling.enrollment.credential_sid }), json!({})),
        ),
        (
            "device token with an unknown kid",
            forged(json!({ "kid": format!("CR{}", "0".repeat(32)) }), json!({})),
        ),
        (
            "device token with the factor's SID as kid",
            forged(json!({ "kid": device.enrollment.factor_sid }), json!({})),
        ),
        ("device token without kid", forged(json!({ "kid": null }), json!({}))),
        ("device token of another account", forged(json!({}), json!({ "sub": backends.other.0 }))),
        (
            "device token of an unknown account",
            forged(json!({}), json!({ "sub": format!("AC{}", "0".repeat(32)) })),
        ),
        ("device token of no account", forged(json!({}), json!({ "sub": null }))),
        (
            "expired device token",
            forged(json!({}), json!({ "nbf": now - 12 * minute, "exp": now - 2 * minute })),
        ),
        (
            "device token of the future",
            forged(json!({}), json!({ "nbf": now + 2 * minute, "exp": now + 12 * minute })),
        ),
        ("device token for two hours", forged(json!({}), json!({ "exp": now + 120 * minute }))),
        ("device token that ends before it begins", forged(json!({}), json!({ "exp": now - 1 }))),
        ("device token without exp", forged(json!({}), json!({ "exp": null }))),
        ("device token without nbf", forged(json!({}), json!({ "nbf": null }))),
        ("device token with a text as exp", forged(json!({}), json!({ "exp": (now + 600).to_string() }))),
        ("device token with huge times", forged(json!({}), json!({ "exp": i64::MAX, "nbf": i64::MIN }))),
        ("device token of another kind", forged(json!({ "cty": "twilio-fpa;v=1" }), json!({}))),
        ("device token of no kind", forged(json!({ "cty": null }), json!({}))),
        ("device token with alg none", forged(json!({ "alg": "none" }), json!({}))),
        ("device token with alg none, unsigned", {
            let none = token(device, &device.key, json!({ "alg": "none" }), json!({}));
            signed_in(resigned(&none, b""))
        }),
        ("device token without alg", forged(json!({ "alg": null }), json!({}))),
        ("device token with alg ES384", forged(json!({ "alg": "ES384" }), json!({}))),
        ("HMAC under the public key", signed_in(with_hmac(device, device.key.public_key().as_der()))),
        (
            "HMAC under the public key's text",
            signed_in(with_hmac(device, device.key.public_key_base64().as_bytes())),
        ),
        ("HMAC under nothing", signed_in(with_hmac(device, b""))),
        ("device token with crit", forged(json!({ "crit": ["exp"] }), json!({}))),
        ("device token, unsigned", signed_in(resigned(&good, b""))),
        ("device token with a signature of zeros", signed_in(resigned(&good, &[0; 64]))),
        ("device token with another's signature", {
            let other = token(device, &device.key, json!({}), json!({ "more": 1 }));
            let signature = other.rsplit_once('.').unwrap().1;
            signed_in(format!("{}.{signature}", good.rsplit_once('.').unwrap().0))
        }),
        ("device token with a signature in DER", {
            let (signed, _) = good.rsplit_once('.').unwrap();
            signed_in(resigned(&good, &device.key.sign_der(signed.as_bytes())))
        }),
    ]
}

/// Good credentials that are good for something else, and what comes back to them from each row.
pub(crate) async fn somebody_elses(
    world: &World,
    stage: &Stage,
    backends: &Backends,
) -> Vec<(&'static str, Auth, fn(Row) -> Option<(u16, i64)>)> {
    let elsewhere = World::service(world).await;
    let sibling = world.device(&stage.service, IDENTITY).await;
    let other_entity = world.device(&stage.service, "user-0002").await;
    let other_service = world.device(&elsewhere, IDENTITY).await;
    let spent = world.new_factor(&stage.service, "user-0003").await;
    world.phone(Style::Ios).enroll(&spent).await.unwrap();
    let own_spent = world.new_factor(&stage.service, IDENTITY).await;
    world.phone(Style::Ios).enroll(&own_spent).await.unwrap();

    // The other account has a service of its own with a person of the same name.
    let abroad = client(world, &basic(&backends.other.0, &backends.other.1));
    let made = created(&abroad.post(SERVICES, &[("FriendlyName", "Abroad")]).await);
    let form = [("Identity", IDENTITY), ("FactorType", "push"), ("Ttl", "300")];
    let tokens = format!("{SERVICES}/{}/AccessTokens", made["sid"].as_str().unwrap());
    let mut foreign = Vec::new();
    for _ in 0..2 {
        let made = created(&abroad.post(&tokens, &form).await);
        foreign.push(domain::Secret::new(made["token"].as_str().unwrap().to_owned()));
    }
    let unspent_abroad = foreign[0].expose().clone();
    let new = device::NewFactor {
        service_sid: made["sid"].as_str().unwrap().to_owned(),
        access_token: foreign.remove(1),
        ..world.new_factor(&elsewhere, IDENTITY).await
    };
    let key = SigningKey::generate();
    let phone = Arc::clone(&stage.device.phone);
    let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
    phone.verify_factor(&mut enrollment).await.unwrap();
    let from_abroad = Device { phone, enrollment, key };

    // None is a success.
    let of_another_account = |(_, pattern, who, _): Row| match who {
        Who::Anyone => None,
        _ if [SERVICES, CREDENTIALS, ALERTS, EVENTS].contains(&pattern) => None,
        _ => Some((404, 20404)),
    };
    let enrollee = |(_, _, who, _): Row| match who {
        Who::Anyone => None,
        Who::BackendOrEnrollee => Some((403, 60313)),
        _ => Some((403, 20403)),
    };
    let own_enrollee = |(_, _, who, _): Row| match who {
        Who::Anyone | Who::BackendOrEnrollee => None,
        _ => Some((403, 20403)),
    };
    let spent_enrollee = |(_, _, who, _): Row| match who {
        Who::Anyone => None,
        _ => Some((401, 20003)),
    };
    let other_device = |(_, _, who, _): Row| match who {
        Who::Anyone => None,
        Who::BackendOrDevice => Some((404, 20404)),
        _ => Some((403, 20403)),
    };
    let sibling_device = |(_, pattern, who, _): Row| match who {
        Who::Anyone => None,
        // The list is that of its own challenges.
        Who::BackendOrDevice if pattern == CHALLENGES => None,
        Who::BackendOrDevice => Some((404, 20404)),
        _ => Some((403, 20403)),
    };
    let own_device = |(_, _, who, _): Row| match who {
        Who::Anyone | Who::BackendOrDevice => None,
        _ => Some((403, 20403)),
    };
    let access_token = |new: device::NewFactor| signed_in(new.access_token.expose());
    vec![
        ("another account", basic(&backends.other.0, &backends.other.1), of_another_account),
        ("access token of the entity", signed_in(stage.token["token"].as_str().unwrap()), own_enrollee),
        (
            "access token of another entity",
            access_token(world.new_factor(&stage.service, "user-0002").await),
            enrollee,
        ),
        (
            "access token of another case",
            access_token(world.new_factor(&stage.service, "USER-0001").await),
            enrollee,
        ),
        (
            "access token of another service",
            access_token(world.new_factor(&elsewhere, IDENTITY).await),
            enrollee,
        ),
        ("access token of another account", signed_in(unspent_abroad), enrollee),
        ("spent access token of the entity", access_token(own_spent), spent_enrollee),
        ("spent access token of another entity", access_token(spent), spent_enrollee),
        ("own device", stage.device.auth(), own_device),
        ("device of the same entity", sibling.auth(), sibling_device),
        ("device of another entity", other_entity.auth(), other_device),
        ("device of another service", other_service.auth(), other_device),
        ("device of another account", from_abroad.auth(), other_device),
    ]
}

/// Deletes every service and what is under it, and every credential.
async fn clear(world: &World) {
    for (path, key) in [(SERVICES, "services"), (CREDENTIALS, "credentials")] {
        let list = world.backend().get(path, &[]).await.json();
        for item in list[key].as_array().unwrap() {
            let path = format!("{path}/{}", item["sid"].as_str().unwrap());
            assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
        }
    }
}

#[test]
fn every_route_has_a_row() {
    let name = |who: api::Admits| format!("{who:?}");
    let mut served: Vec<_> =
        api::ROUTES.iter().map(|route| (route.path, route.method, name(route.admits))).collect();
    let mut rows: Vec<_> =
        TABLE.iter().map(|(method, path, who, _)| (*path, *method, format!("{who:?}"))).collect();
    served.sort_unstable();
    rows.sort_unstable();
    assert_eq!(served, rows, "the server's routes on the left, this test's table on the right");
}

on_every_database! {
    async fn nobody_gets_in_anywhere(world: World) {
        let backends = Backends::make(&world);
        let stage = Stage::set(&world).await;
        let nobodies = nobodies(&world, &stage, &backends).await;
        let before = stage.state(&world).await;
        for (name, auth) in nobodies {
            let client = client(&world, &auth);
            for row in TABLE {
                let reply = request(&client, *row, &stage).await;
                if row.2 == Who::Anyone {
                    assert_eq!(reply.status, 200, "{name}: {row:?}");
                    continue;
                }
                assert_eq!(reply.status, 401, "{name}: {row:?}");
                assert_error(&reply, 401, 20003);
                assert_eq!(reply.json()["message"], "Authenticate", "says nothing of what is wrong");
                assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"Twilio API\""));
                assert_eq!(reply.header("content-type"), Some("application/json"));
                let date = reply.header("date").unwrap();
                assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
            }
        }
        assert_eq!(stage.state(&world).await, before);
    }
}

on_every_database! {
    async fn good_credentials_are_good_for_their_own_things_only(world: World) {
        let backends = Backends::make(&world);
        let stage = Stage::set(&world).await;
        let callers = somebody_elses(&world, &stage, &backends).await;
        let before = stage.state(&world).await;
        for (name, auth, refusal) in &callers {
            let client = client(&world, auth);
            for row in TABLE {
                // What succeeds changes something, and is for another test.
                let Some((status, code)) = refusal(*row) else { continue };
                let reply = request(&client, *row, &stage).await;
                assert_eq!(reply.status, status, "{name}: {row:?}: {reply:?}");
                assert_error(&reply, status, code);
            }
        }
        assert_eq!(stage.state(&world).await, before);
    }
}

on_every_database! {
    async fn whoever_may_may(world: World) {
        let backends = Backends::make(&world);
        let account = basic(world.server.account_sid(), world.server.auth_token());
        let key = basic(&backends.key.0, &backends.key.1);
        let mut stage = Stage::set(&world).await;
        let mut is_untouched = true;
        for row in TABLE {
            let (method, pattern, who, status) = *row;
            for caller in ["account", "API key", "access token", "device"] {
                let may = match caller {
                    "access token" => matches!(who, Who::Anyone | Who::BackendOrEnrollee),
                    "device" => matches!(who, Who::Anyone | Who::BackendOrDevice),
                    _ => true,
                };
                if !may {
                    continue;
                }
                if !is_untouched {
                    clear(&world).await;
                    stage = Stage::set(&world).await;
                }
                let auth = match caller {
                    "account" => account.clone(),
                    "API key" => key.clone(),
                    "access token" => signed_in(stage.token["token"].as_str().unwrap()),
                    _ => stage.device.auth(),
                };
                let before = stage.state(&world).await;
                let reply = request(&client(&world, &auth), *row, &stage).await;
                assert_eq!(reply.status, status, "{caller}: {row:?}: {reply:?}");
                // Access tokens and notifications that were made are not to be seen in any list.
                let is_unlisted = pattern.ends_with("/AccessTokens") || pattern == NOTIFICATIONS;
                let is_seen = method != "GET" && !is_unlisted;
                let changed = stage.state(&world).await != before;
                assert_eq!(changed, is_seen, "{caller}: {row:?}");
                is_untouched = !changed;
            }
        }
    }
}

on_every_database! {
    async fn accounts_see_their_own_services_only(world: World) {
        let backends = Backends::make(&world);
        let stage = Stage::set(&world).await;
        let abroad = client(&world, &basic(&backends.other.0, &backends.other.1));
        let list = abroad.get(SERVICES, &[]).await;
        assert_eq!((list.status, &list.json()["services"]), (200, &json!([])));
        let made = created(&abroad.post(SERVICES, &[("FriendlyName", "Abroad")]).await);
        assert_eq!(made["account_sid"], backends.other.0);
        assert_eq!(abroad.get(SERVICES, &[]).await.json()["services"], json!([made]));
        let home = world.backend().get(SERVICES, &[]).await.json();
        let home: Vec<_> = home["services"].as_array().unwrap().iter().map(|one| &one["sid"]).collect();
        assert_eq!(home, [&json!(stage.service)]);
        let path = format!("{SERVICES}/{}", made["sid"].as_str().unwrap());
        assert_error(&world.backend().get(&path, &[]).await, 404, 20404);
        assert_error(&world.backend().delete(&path, &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn a_device_lists_only_what_it_is_asked(world: World) {
        let stage = Stage::set(&world).await;
        let sibling = world.device(&stage.service, IDENTITY).await;
        let asked = world.challenge(&sibling.enrollment, &[]).await;
        let path = stage.device.challenges();
        for (device, own) in [(&stage.device, &stage.challenge), (&sibling, &asked)] {
            let client = client(&world, &device.auth());
            for form in [&[][..], &[("FactorSid", device.enrollment.factor_sid.as_str())][..]] {
                let list = client.get(&path, form).await;
                assert_eq!((list.status, &list.json()["challenges"]), (200, &json!([own])));
            }
        }
        let client = client(&world, &sibling.auth());
        for factor in [stage.device.enrollment.factor_sid.clone(), format!("YF03{}", "0".repeat(30))] {
            assert_error(&client.get(&path, &[("FactorSid", &factor)]).await, 404, 20404);
        }
    }
}

#[tokio::test]
async fn who_may_not_call_learns_nothing_of_parameters() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let before = stage.state(&world).await;
    let form = "application/x-www-form-urlencoded";
    for (auth, status, code) in [(Auth::None, 401, 20003), (stage.device.auth(), 403, 20403)] {
        let client = client(&world, &auth);
        for (content_type, body) in [(form, "FriendlyName=%zz"), (form, ""), ("application/json", "{}")] {
            let reply = client.raw_body(SERVICES, content_type, body).await;
            assert_error(&reply, status, code);
        }
        for path in [
            format!("{SERVICES}?PageSize=abc"),
            format!("{SERVICES}/nothing"),
            format!("{}/Factors?PageSize=5000", entity(&stage.service, IDENTITY)),
        ] {
            assert_error(&client.get(&path, &[]).await, status, code);
        }
    }
    assert_eq!(stage.state(&world).await, before);
}
