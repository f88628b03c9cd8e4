//! The order of checks: the caller and its access are checked before any parameter.

use harness::{Auth, Http, Reply};

use crate::fixture::{Fixture, IDENTITY};
use crate::matrix::{
    Allowed, Backends, Row, TABLE, callers_with_other_access, client, unauthenticated_callers,
};
use crate::world::{World, assert_error, on_every_database, signed_in};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The input of a request beside its path.
#[derive(Clone, Debug)]
struct RequestInput {
    what: &'static str,
    query: &'static str,
    content_type: &'static str,
    body: String,
}

/// Returns every kind of wrong input, and `complete`, the content type and the body with which the route succeeds.
fn wrong_inputs(complete: &(&'static str, String)) -> Vec<RequestInput> {
    let sent = |what, query, content_type, body: &str| RequestInput {
        what,
        query,
        content_type,
        body: body.to_owned(),
    };
    let wrong = "Identity=x&FactorType=x&FactorSid=x&Status=x&Ttl=x&Type=x&Metadata=x&AuthPayload=x&WebhookUrl=x\
                 &EventTypes=x&Details.Message=&Details.Fields=x&Sandbox=x&Binding.PublicKey=x\
                 &FriendlyName=%07&Config.NotificationPlatform=x&CodeLength=x&UniqueName=%07&Max=x&Interval=x&Country=x\
                 &MessagingServiceSid=x&PhoneNumber=x";
    let (content_type, complete) = complete;
    vec![
        sent("complete", "", content_type, complete),
        sent("nothing", "", FORM, ""),
        sent(
            "wrong values",
            "?PageSize=x&Page=x&PageToken=x&Order=x&Status=x&LogLevel=x&StartDate=x",
            FORM,
            wrong,
        ),
        sent("broken percent-encoding", "", FORM, "FriendlyName=%zz"),
        sent("broken percent-encoding in the query", "?PageSize=%zz", content_type, complete),
        sent("a page without its token", "?Page=7", content_type, complete),
        sent("an empty object", "", JSON, "{}"),
        sent("broken JSON", "", JSON, "{"),
        sent("no UTF-8", "?%ff", "text/plain", "\u{0}"),
        sent("too much", "", FORM, &format!("A={}", "x".repeat(70 * 1024))),
    ]
}

async fn send(client: &Http, method: &str, path: &str, sent: &RequestInput) -> Reply {
    let query = if path.contains('?') { sent.query.replace('?', "&") } else { sent.query.to_owned() };
    let path = format!("{path}{query}");
    match method {
        "GET" => client.get(&path, &[]).await,
        "DELETE" => client.delete(&path, &[]).await,
        _ => client.raw_body(&path, sent.content_type, sent.body.clone()).await,
    }
}

/// Returns the content type and the body with which a request to this route succeeds.
fn complete((method, pattern, ..): Row, fixture: &Fixture) -> (&'static str, String) {
    if method != "POST" {
        return (FORM, String::new());
    }
    if let Some(body) = fixture.json(pattern) {
        return (JSON, body.to_string());
    }
    let form =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fixture.form(pattern)).finish();
    (FORM, form)
}

/// Returns the placeholders in a route pattern, such as `{Sid}`.
fn placeholders(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| segment.starts_with('{')).collect()
}

/// Returns the path of this route with another text in place of one placeholder.
fn path_with_wrong_segment(fixture: &Fixture, pattern: &str, placeholder: &str, text: &str) -> String {
    fixture.path(&pattern.replace(placeholder, text))
}

on_every_database! {
    async fn caller_without_access_gets_the_same_error_for_any_input(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let callers = callers_with_other_access(&world, &fixture, &backends).await;
        let before = fixture.state(&world).await;
        for (name, auth, refusal) in &callers {
            let client = client(&world, auth);
            for row in TABLE {
                let Some((status, code)) = refusal(*row) else { continue };
                let mut paths = vec![fixture.path(row.1)];
                for placeholder in placeholders(row.1) {
                    paths.extend(["%zz", "%FF", "%00", "nothing"].map(|text| path_with_wrong_segment(&fixture, row.1, placeholder, text)));
                }
                for (number, path) in paths.iter().enumerate() {
                    let all = wrong_inputs(&complete(*row, &fixture));
                    // A wrong segment gets the complete input and one other; together they get every kind but the
                    // last, which is large.
                    let other = 1 + number % (all.len() - 2);
                    let sent = if number == 0 { all } else { vec![all[0].clone(), all[other].clone()] };
                    for sent in sent {
                        let reply = send(&client, row.0, path, &sent).await;
                        assert_eq!(reply.status, status, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                        assert_error(&reply, status, code);
                    }
                }
            }
        }
        assert_eq!(fixture.state(&world).await, before);
    }
}

#[tokio::test]
async fn unauthenticated_caller_gets_the_same_error_for_any_input() {
    let world = World::sqlite();
    let backends = Backends::create(&world);
    let fixture = Fixture::create(&world).await;
    let callers = unauthenticated_callers(&world, &fixture, &backends).await;
    let before = fixture.state(&world).await;
    for (number, (name, auth)) in callers.iter().enumerate() {
        let client = client(&world, auth);
        for (index, row) in TABLE.iter().enumerate().filter(|(_, row)| row.2 != Allowed::Anyone) {
            // Each caller sends another input to each route; together they send every kind.
            let all = wrong_inputs(&complete(*row, &fixture));
            let sent = &all[(number + index) % all.len()];
            let mut paths = vec![fixture.path(row.1)];
            paths.extend(
                placeholders(row.1).last().map(|last| path_with_wrong_segment(&fixture, row.1, last, "%zz")),
            );
            for path in paths {
                let reply = send(&client, row.0, &path, sent).await;
                assert_eq!(reply.status, 401, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                assert_error(&reply, 401, 20003);
            }
        }
    }
    assert_eq!(fixture.state(&world).await, before);
}

on_every_database! {
    async fn unknown_resource_returns_404_for_any_input(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let before = fixture.state(&world).await;
        let account = Auth::Basic(world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
        let key = Auth::Basic(backends.key.0.clone(), backends.key.1.clone());
        let prefix = |pattern: &str| match pattern {
            _ if pattern.contains("/AccessTokens/") => "YK",
            _ if pattern.contains("/Factors/") => "YF",
            _ if pattern.contains("/Challenges/") => "YC",
            _ if pattern.contains("/Verifications/") => "VE",
            _ if pattern.contains("/Webhooks/") => "YW",
            _ if pattern.contains("/Buckets/") => "BL",
            _ if pattern.contains("/RateLimits/") => "RK",
            _ if pattern.contains("/Credentials/") => "CR",
            _ if pattern.contains("/Keys/") => "SK",
            _ if pattern.contains("/Alerts/") => "NO",
            _ if pattern.contains("/Events/") => "AE",
            _ if pattern.contains("/Attempts/") => "VL",
            _ => panic!("{pattern} is new: name the prefix of its SID here"),
        };
        for (name, auth) in [("account", account), ("API key", key), ("device", fixture.device.auth())] {
            let client = client(&world, &auth);
            for row in TABLE {
                let (method, pattern, who, _) = *row;
                let is_refused = match name {
                    "device" => who != Allowed::BackendOrDevice,
                    "API key" => who == Allowed::AccountOwner,
                    _ => false,
                };
                if is_refused {
                    continue;
                }
                for placeholder in placeholders(pattern) {
                    let unknown = match placeholder {
                        "{ServiceSid}" => format!("VA{}", "0".repeat(32)),
                        "{AccountSid}" => format!("AC{}", "0".repeat(32)),
                        // Creating a factor creates its entity, so the identity need not exist.
                        "{Identity}" if method == "POST" && pattern.ends_with("/Factors") => continue,
                        "{Identity}" => "user-unknown".to_owned(),
                        "{RateLimitSid}" => format!("RK{}", "0".repeat(32)),
                        "{Country}" => "ZZ".to_owned(),
                        "{PhoneNumber}" => "+15005550006".to_owned(),
                        "{FormType}" => "form-totp".to_owned(),
                        "{Token}" => "A".repeat(64),
                        _ => format!("{}{}", prefix(pattern), "0".repeat(32)),
                    };
                    for text in [&unknown, "nothing", "%zz"] {
                        let path = path_with_wrong_segment(&fixture, pattern, placeholder, text);
                        for sent in wrong_inputs(&complete(*row, &fixture)) {
                            let reply = send(&client, method, &path, &sent).await;
                            assert_eq!(reply.status, 404, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                            assert_error(&reply, 404, 20404);
                        }
                    }
                }
            }
        }
        assert_eq!(fixture.state(&world).await, before);
    }
}

#[tokio::test]
async fn factor_type_forbidden_by_the_access_token_is_refused_before_other_parameter_checks() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let phone = client(&world, &signed_in(fixture.token["token"].as_str().unwrap()));
    let path = format!("{}/Factors", crate::world::entity(&fixture.service, IDENTITY));
    for form in [&[("FactorType", "totp")][..], &[("FactorType", "passkeys"), ("FriendlyName", "")]] {
        assert_error(&phone.post(&path, form).await, 403, 60313);
    }
    assert_error(&world.backend().post(&path, &[("FactorType", "totp")]).await, 400, 20001);
    assert_error(&world.backend().post(&path, &[("FactorType", "passkeys")]).await, 400, 60369);
    // The factor type itself is a parameter, so it must be there to be compared.
    assert_error(&phone.post(&path, &[]).await, 400, 20001);
    assert_error(&phone.post(&path, &[("FactorType", "nonsense")]).await, 400, 60306);
    assert_error(&phone.raw_body(&path, "application/json", "{}").await, 415, 20415);
}

#[tokio::test]
async fn device_that_lists_challenges_of_another_factor_is_refused_before_other_parameter_checks() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let device = client(&world, &fixture.device.auth());
    let other = format!("YF03{}", "0".repeat(30));
    for query in ["", "&PageSize=0", "&Order=x", "&Status=x", "&Page=7", "&PageToken=x"] {
        let path = format!("{}?FactorSid={other}{query}", fixture.device.challenges());
        assert_error(&device.get(&path, &[]).await, 404, 20404);
    }
}
