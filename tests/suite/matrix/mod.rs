//! Which caller may use which route: every route with every kind of caller.
//!
//! [`TABLE`] states it independently of the server, and must name every route that is served.

mod callers;
mod device_token;

use domain::FactorType;
use harness::{Auth, Http, Reply};
use serde_json::json;

use self::callers::basic;
pub(crate) use self::callers::{Backends, callers_with_other_access, unauthenticated_callers};
use crate::fixture::{Fixture, IDENTITY};
use crate::world::{World, assert_error, created, entity, on_every_database, signed_in};

/// The callers that may use a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Allowed {
    Anyone,
    Backend,
    /// The backend with the account's auth token, and not with an API key.
    AccountOwner,
    BackendOrEnrollee,
    BackendOrDevice,
    /// Only the backend, because phones do not enroll factors of this type. They may use the same route for push.
    BackendNotEnrollee,
    /// Only the backend, because the resource is not the device's own. Devices may use the same route for push.
    BackendNotDevice,
}

/// A row of [`TABLE`]: method, path pattern, allowed callers, and the status of their requests.
pub(crate) type Row = (&'static str, &'static str, Allowed, u16);

pub(crate) const TABLE: &[Row] = &[
    ("GET", "/healthz", Allowed::Anyone, 200),
    ("GET", "/readyz", Allowed::Anyone, 200),
    ("GET", "/openapi.json", Allowed::Anyone, 200),
    ("POST", "/v2/Services", Allowed::Backend, 201),
    ("GET", "/v2/Services", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}", Allowed::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/AccessTokens", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/AccessTokens/{Sid}", Allowed::Backend, 200),
    ("GET", "/countersign/v1/Services/{ServiceSid}/AccessTokens/{Sid}/QrCode", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Entities/{Identity}", Allowed::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors", Allowed::BackendOrEnrollee, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Allowed::BackendOrDevice, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Allowed::BackendOrDevice, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}", Allowed::BackendOrDevice, 204),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", Allowed::BackendOrDevice, 200),
    ("GET", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}", Allowed::BackendOrDevice, 200),
    ("POST", "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}", Allowed::BackendOrDevice, 200),
    ("POST", NOTIFICATIONS, Allowed::Backend, 201),
    ("POST", "/v2/Services/{ServiceSid}/Passkeys/Factors", Allowed::Backend, 201),
    ("POST", "/v2/Services/{ServiceSid}/Passkeys/VerifyFactor", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Passkeys/Challenges", Allowed::Backend, 201),
    ("POST", "/v2/Services/{ServiceSid}/Passkeys/ApproveChallenge", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Verifications", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Verifications/{Sid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Verifications/{Sid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/VerificationCheck", Allowed::Backend, 201),
    ("POST", "/v2/Services/{ServiceSid}/Webhooks", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/Webhooks", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/Webhooks/{Sid}", Allowed::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/RateLimits", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/RateLimits", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/RateLimits/{Sid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/RateLimits/{Sid}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/RateLimits/{Sid}", Allowed::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets/{Sid}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets/{Sid}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets/{Sid}", Allowed::Backend, 204),
    ("POST", "/v2/Services/{ServiceSid}/MessagingConfigurations", Allowed::Backend, 201),
    ("GET", "/v2/Services/{ServiceSid}/MessagingConfigurations", Allowed::Backend, 200),
    ("GET", "/v2/Services/{ServiceSid}/MessagingConfigurations/{Country}", Allowed::Backend, 200),
    ("POST", "/v2/Services/{ServiceSid}/MessagingConfigurations/{Country}", Allowed::Backend, 200),
    ("DELETE", "/v2/Services/{ServiceSid}/MessagingConfigurations/{Country}", Allowed::Backend, 204),
    ("POST", SAFE_NUMBERS, Allowed::Backend, 201),
    ("GET", "/v2/SafeList/Numbers/{PhoneNumber}", Allowed::Backend, 200),
    ("DELETE", "/v2/SafeList/Numbers/{PhoneNumber}", Allowed::Backend, 204),
    ("GET", FORMS, Allowed::Backend, 200),
    ("GET", TEMPLATES, Allowed::Backend, 200),
    ("GET", ATTEMPTS, Allowed::Backend, 200),
    ("GET", ATTEMPT_SUMMARY, Allowed::Backend, 200),
    ("GET", "/v2/Attempts/{Sid}", Allowed::Backend, 200),
    ("POST", CREDENTIALS, Allowed::Backend, 201),
    ("GET", CREDENTIALS, Allowed::Backend, 200),
    ("GET", "/v1/Credentials/{Sid}", Allowed::Backend, 200),
    ("POST", "/v1/Credentials/{Sid}", Allowed::Backend, 200),
    ("DELETE", "/v1/Credentials/{Sid}", Allowed::Backend, 204),
    ("GET", ALERTS, Allowed::Backend, 200),
    ("GET", "/v1/Alerts/{Sid}", Allowed::Backend, 200),
    ("GET", EVENTS, Allowed::Backend, 200),
    ("GET", "/v1/Events/{Sid}", Allowed::Backend, 200),
    ("POST", KEYS, Allowed::AccountOwner, 201),
    ("GET", KEYS, Allowed::Backend, 200),
    ("GET", "/v1/Keys/{Sid}", Allowed::Backend, 200),
    ("POST", "/v1/Keys/{Sid}", Allowed::AccountOwner, 200),
    ("DELETE", "/v1/Keys/{Sid}", Allowed::AccountOwner, 204),
    ("GET", "/2010-04-01/Accounts/{AccountSid}", Allowed::Backend, 200),
    ("POST", "/2010-04-01/Accounts/{AccountSid}/Keys", Allowed::AccountOwner, 201),
    ("GET", "/2010-04-01/Accounts/{AccountSid}/Keys", Allowed::Backend, 200),
    ("GET", "/2010-04-01/Accounts/{AccountSid}/Keys/{Sid}", Allowed::Backend, 200),
    ("POST", "/2010-04-01/Accounts/{AccountSid}/Keys/{Sid}", Allowed::AccountOwner, 200),
    ("DELETE", "/2010-04-01/Accounts/{AccountSid}/Keys/{Sid}", Allowed::AccountOwner, 204),
    // The token is not that of a message, so every caller gets the same error.
    ("GET", "/countersign/v1/DeliveryReports/{Token}", Allowed::Anyone, 404),
    ("POST", "/countersign/v1/DeliveryReports/{Token}", Allowed::Anyone, 404),
    ("POST", "/countersign/v1/SpokenCodes/{Token}", Allowed::Anyone, 404),
    ("GET", "/countersign/v1/Services/{ServiceSid}/Events", Allowed::Backend, 200),
    ("GET", FACTOR_STREAM, Allowed::BackendOrDevice, 200),
    ("GET", CHALLENGE_STREAM, Allowed::BackendOrDevice, 200),
];

/// A row of [`TABLE_OF_TYPES`]: the type of the factors and challenges in path and body, and a row for it.
type RowOfType = (FactorType, Row);

/// The rows of factors and challenges of the types other than push. The server must answer with 400 where it does not
/// serve the type.
const TABLE_OF_TYPES: &[RowOfType] = &[
    (FactorType::Totp, ("POST", FACTORS, Allowed::BackendNotEnrollee, 201)),
    (FactorType::Totp, ("GET", FACTOR, Allowed::BackendNotDevice, 200)),
    (FactorType::Totp, ("POST", FACTOR, Allowed::BackendNotDevice, 200)),
    (FactorType::Totp, ("DELETE", FACTOR, Allowed::BackendNotDevice, 204)),
    (FactorType::Totp, ("POST", CHALLENGES, Allowed::Backend, 201)),
    (FactorType::Totp, ("GET", CHALLENGE, Allowed::BackendNotDevice, 200)),
    (FactorType::Totp, ("POST", CHALLENGE, Allowed::BackendNotDevice, 200)),
    (FactorType::Totp, ("POST", NOTIFICATIONS, Allowed::Backend, 400)),
    (FactorType::Passkeys, ("POST", FACTORS, Allowed::BackendNotEnrollee, 400)),
    (FactorType::Passkeys, ("GET", FACTOR, Allowed::BackendNotDevice, 200)),
    (FactorType::Passkeys, ("POST", FACTOR, Allowed::BackendNotDevice, 200)),
    (FactorType::Passkeys, ("DELETE", FACTOR, Allowed::BackendNotDevice, 204)),
    (FactorType::Passkeys, ("POST", CHALLENGES, Allowed::Backend, 400)),
    (FactorType::Passkeys, ("GET", CHALLENGE, Allowed::BackendNotDevice, 200)),
    (FactorType::Passkeys, ("POST", CHALLENGE, Allowed::BackendNotDevice, 400)),
    (FactorType::Passkeys, ("POST", NOTIFICATIONS, Allowed::Backend, 400)),
];

/// Returns the rows of both tables. The rows of [`TABLE`] are about push.
fn rows() -> impl Iterator<Item = RowOfType> {
    TABLE.iter().map(|row| (FactorType::Push, *row)).chain(TABLE_OF_TYPES.iter().copied())
}

const SERVICES: &str = "/v2/Services";
const FACTORS: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors";
const FACTOR: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}";
const CHALLENGES: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges";
const CHALLENGE: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}";
const NOTIFICATIONS: &str =
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications";
const FACTOR_STREAM: &str = "/countersign/v1/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}/Events";
const CHALLENGE_STREAM: &str =
    "/countersign/v1/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}/Events";
const SAFE_NUMBERS: &str = "/v2/SafeList/Numbers";
const FORMS: &str = "/v2/Forms/{FormType}";
const TEMPLATES: &str = "/v2/Templates";
const ATTEMPTS: &str = "/v2/Attempts";
const ATTEMPT_SUMMARY: &str = "/v2/Attempts/Summary";
const CREDENTIALS: &str = "/v1/Credentials";
const ALERTS: &str = "/v1/Alerts";
const EVENTS: &str = "/v1/Events";
const KEYS: &str = "/v1/Keys";

/// Sends the request of this row.
async fn request(client: &Http, (factor_type, (method, pattern, ..)): RowOfType, fixture: &Fixture) -> Reply {
    let path = fixture.path_of(factor_type, pattern);
    match method {
        "GET" => client.get(&path, &[]).await,
        "DELETE" => client.delete(&path, &[]).await,
        "POST" => {
            if let Some(body) = fixture.json(pattern) {
                return client.post_json(&path, &body).await;
            }
            let form = fixture.form_of(factor_type, pattern);
            let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.post(&path, &form).await
        }
        _ => panic!("{method} {pattern} is new: add how to send it"),
    }
}

pub(crate) fn client(world: &World, auth: &Auth) -> Http {
    Http::new(world.server.url()).auth(auth.clone())
}

/// Deletes every service with everything below it, and every credential.
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
fn access_table_lists_every_served_route() {
    let name = |who: api::Callers| format!("{who:?}");
    let mut served: Vec<_> =
        api::ROUTES.iter().map(|route| (route.path, route.method, name(route.endpoint.callers))).collect();
    let mut rows: Vec<_> =
        TABLE.iter().map(|(method, path, who, _)| (*path, *method, format!("{who:?}"))).collect();
    served.sort_unstable();
    rows.sort_unstable();
    assert_eq!(served, rows, "the server's routes on the left, this test's table on the right");
}

#[test]
fn access_table_lists_every_route_of_factors_and_challenges_for_each_type() {
    const ENTITY: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/";
    let is_list = |method: &str, path: &str| method == "GET" && [FACTORS, CHALLENGES].contains(&path);
    let typed = api::ROUTES.iter().filter(|route| route.path.starts_with(ENTITY));
    let mut typed: Vec<_> = typed
        .filter(|route| !is_list(route.method, route.path))
        .map(|route| (route.path, route.method, format!("{:?}", route.endpoint.callers)))
        .collect();
    typed.sort_unstable();
    for factor_type in [FactorType::Totp, FactorType::Passkeys] {
        let rows = TABLE_OF_TYPES.iter().filter(|(of, _)| *of == factor_type);
        let mut rows: Vec<_> = rows
            .map(|(_, (method, path, who, _))| {
                let who = match who {
                    Allowed::BackendNotEnrollee => Allowed::BackendOrEnrollee,
                    Allowed::BackendNotDevice => Allowed::BackendOrDevice,
                    who => *who,
                };
                (*path, *method, format!("{who:?}"))
            })
            .collect();
        rows.sort_unstable();
        assert_eq!(typed, rows, "the server's routes on the left, the rows of {factor_type:?} on the right");
    }
}

on_every_database! {
    async fn unauthenticated_callers_are_refused_on_every_route(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let unauthenticated_callers = unauthenticated_callers(&world, &fixture, &backends).await;
        let before = fixture.state(&world).await;
        for (name, auth) in unauthenticated_callers {
            let client = client(&world, &auth);
            for row in rows() {
                let reply = request(&client, row, &fixture).await;
                if row.1.2 == Allowed::Anyone {
                    assert_eq!(reply.status, row.1.3, "{name}: {row:?}");
                    continue;
                }
                assert_eq!(reply.status, 401, "{name}: {row:?}");
                assert_error(&reply, 401, 20003);
                assert_eq!(reply.json()["message"], "Authenticate", "reveals nothing about the credentials");
                assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"Twilio API\""));
                assert_eq!(reply.header("content-type"), Some("application/json"));
                let date = reply.header("date").unwrap();
                assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
            }
        }
        assert_eq!(fixture.state(&world).await, before);
    }
}

on_every_database! {
    async fn callers_cannot_access_resources_of_other_callers(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let callers = callers_with_other_access(&world, &fixture, &backends).await;
        let before = fixture.state(&world).await;
        for (name, auth, refusal) in &callers {
            let client = client(&world, auth);
            for row in rows() {
                // A request that succeeds changes the fixture; `allowed_callers_get_the_expected_status_on_every_route`
                // covers it.
                let Some((status, code)) = refusal(row.1) else { continue };
                let reply = request(&client, row, &fixture).await;
                assert_eq!(reply.status, status, "{name}: {row:?}: {reply:?}");
                assert_error(&reply, status, code);
            }
        }
        assert_eq!(fixture.state(&world).await, before);
    }
}

on_every_database! {
    async fn allowed_callers_get_the_expected_status_on_every_route(world: World) {
        let backends = Backends::create(&world);
        let account = basic(world.server.account_sid(), world.server.auth_token());
        let key = basic(&backends.key.0, &backends.key.1);
        let mut fixture = Fixture::create(&world).await;
        let mut is_untouched = true;
        for row in rows() {
            let (_, (method, pattern, who, status)) = row;
            for caller in ["account", "API key", "access token", "device"] {
                let may = match caller {
                    "access token" => matches!(who, Allowed::Anyone | Allowed::BackendOrEnrollee),
                    "device" => matches!(who, Allowed::Anyone | Allowed::BackendOrDevice),
                    "API key" => who != Allowed::AccountOwner,
                    _ => true,
                };
                if !may {
                    continue;
                }
                if !is_untouched {
                    clear(&world).await;
                    fixture = Fixture::create(&world).await;
                }
                let auth = match caller {
                    "account" => account.clone(),
                    "API key" => key.clone(),
                    "access token" => signed_in(fixture.token["token"].as_str().unwrap()),
                    _ => fixture.device.auth(),
                };
                let before = fixture.state(&world).await;
                let reply = request(&client(&world, &auth), row, &fixture).await;
                assert_eq!(reply.status, status, "{caller}: {row:?}: {reply:?}");
                // No list shows created access tokens and notifications.
                let is_unlisted = pattern.ends_with("/AccessTokens") || pattern == NOTIFICATIONS;
                let is_seen = method != "GET" && status < 400 && !is_unlisted;
                let changed = fixture.state(&world).await != before;
                assert_eq!(changed, is_seen, "{caller}: {row:?}");
                is_untouched = !changed;
            }
        }
    }
}

on_every_database! {
    async fn account_lists_only_its_own_services(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let abroad = client(&world, &basic(&backends.other.0, &backends.other.1));
        let list = abroad.get(SERVICES, &[]).await;
        assert_eq!((list.status, &list.json()["services"]), (200, &json!([])));
        let made = created(&abroad.post(SERVICES, &[("FriendlyName", "Abroad")]).await);
        assert_eq!(made["account_sid"], backends.other.0);
        assert_eq!(abroad.get(SERVICES, &[]).await.json()["services"], json!([made]));
        let home = world.backend().get(SERVICES, &[]).await.json();
        let home: Vec<_> = home["services"].as_array().unwrap().iter().map(|one| &one["sid"]).collect();
        assert_eq!(home, [&json!(fixture.service)]);
        let path = format!("{SERVICES}/{}", made["sid"].as_str().unwrap());
        assert_error(&world.backend().get(&path, &[]).await, 404, 20404);
        assert_error(&world.backend().delete(&path, &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn device_lists_only_its_own_challenges(world: World) {
        let fixture = Fixture::create(&world).await;
        let sibling = world.device(&fixture.service, IDENTITY).await;
        let asked = world.challenge(&sibling.enrollment, &[]).await;
        let path = fixture.device.challenges();
        for (device, own) in [(&fixture.device, &fixture.challenge), (&sibling, &asked)] {
            let client = client(&world, &device.auth());
            for form in [&[][..], &[("FactorSid", device.enrollment.factor_sid.as_str())][..]] {
                let list = client.get(&path, form).await;
                assert_eq!((list.status, &list.json()["challenges"]), (200, &json!([own])));
            }
        }
        let client = client(&world, &sibling.auth());
        for factor in [fixture.device.enrollment.factor_sid.clone(), format!("YF03{}", "0".repeat(30))] {
            assert_error(&client.get(&path, &[("FactorSid", &factor)]).await, 404, 20404);
        }
    }
}

#[tokio::test]
async fn refused_caller_gets_no_parameter_errors() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = fixture.state(&world).await;
    let form = "application/x-www-form-urlencoded";
    for (auth, status, code) in [(Auth::None, 401, 20003), (fixture.device.auth(), 403, 20403)] {
        let client = client(&world, &auth);
        for (content_type, body) in [(form, "FriendlyName=%zz"), (form, ""), ("application/json", "{}")] {
            let reply = client.raw_body(SERVICES, content_type, body).await;
            assert_error(&reply, status, code);
        }
        for path in [
            format!("{SERVICES}?PageSize=abc"),
            format!("{SERVICES}/nothing"),
            format!("{}/Factors?PageSize=5000", entity(&fixture.service, IDENTITY)),
        ] {
            assert_error(&client.get(&path, &[]).await, status, code);
        }
    }
    assert_eq!(fixture.state(&world).await, before);
}
