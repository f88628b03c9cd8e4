//! The order in which a request is judged: who calls and what may be reached comes before anything that was sent.

use harness::{Auth, Http, Reply};

use crate::matrix::{Backends, IDENTITY, Row, Stage, TABLE, Who, client, nobodies, somebody_elses};
use crate::world::{World, assert_error, on_every_database, signed_in};

const FORM: &str = "application/x-www-form-urlencoded";

/// What a request sends beside its path.
#[derive(Clone, Debug)]
struct Sent {
    what: &'static str,
    query: &'static str,
    content_type: &'static str,
    body: String,
}

/// All that a caller may do wrong with what it sends, and the form with which the route succeeds.
fn everything_sent(complete: &str) -> Vec<Sent> {
    let sent =
        |what, query, content_type, body: &str| Sent { what, query, content_type, body: body.to_owned() };
    let wrong = "Identity=x&FactorType=x&FactorSid=x&Status=x&Ttl=x&Type=x&Metadata=x&AuthPayload=x&WebhookUrl=x\
                 &EventTypes=x&Details.Message=&Details.Fields=x&Sandbox=x&Binding.PublicKey=x\
                 &FriendlyName=%07&Config.NotificationPlatform=x&CodeLength=x";
    vec![
        sent("complete", "", FORM, complete),
        sent("nothing", "", FORM, ""),
        sent(
            "wrong values",
            "?PageSize=x&Page=x&PageToken=x&Order=x&Status=x&LogLevel=x&StartDate=x",
            FORM,
            wrong,
        ),
        sent("broken percent-encoding", "", FORM, "FriendlyName=%zz"),
        sent("broken percent-encoding in the query", "?PageSize=%zz", FORM, complete),
        sent("a page without its token", "?Page=7", FORM, complete),
        sent("no form", "", "application/json", "{}"),
        sent("no UTF-8", "?%ff", "text/plain", "\u{0}"),
        sent("too much", "", FORM, &format!("A={}", "x".repeat(70 * 1024))),
    ]
}

async fn send(client: &Http, method: &str, path: &str, sent: &Sent) -> Reply {
    let path = format!("{path}{}", sent.query);
    match method {
        "GET" => client.get(&path, &[]).await,
        "DELETE" => client.delete(&path, &[]).await,
        _ => client.raw_body(&path, sent.content_type, sent.body.clone()).await,
    }
}

/// The form with which this route succeeds, encoded.
fn complete((method, pattern, ..): Row, stage: &Stage) -> String {
    if method != "POST" {
        return String::new();
    }
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(stage.form(pattern)).finish()
}

/// The segments of a pattern that stand for something.
fn placeholders(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| segment.starts_with('{')).collect()
}

/// The path of this route with another text in place of one segment.
fn misled(stage: &Stage, pattern: &str, placeholder: &str, text: &str) -> String {
    stage.path(&pattern.replace(placeholder, text))
}

on_every_database! {
    async fn a_caller_without_access_gets_the_same_refusal_whatever_it_sends(world: World) {
        let backends = Backends::make(&world);
        let stage = Stage::set(&world).await;
        let callers = somebody_elses(&world, &stage, &backends).await;
        let before = stage.state(&world).await;
        for (name, auth, refusal) in &callers {
            let client = client(&world, auth);
            for row in TABLE {
                let Some((status, code)) = refusal(*row) else { continue };
                let mut paths = vec![stage.path(row.1)];
                for placeholder in placeholders(row.1) {
                    paths.extend(["%zz", "%FF", "%00", "nothing"].map(|text| misled(&stage, row.1, placeholder, text)));
                }
                for (number, path) in paths.iter().enumerate() {
                    for sent in everything_sent(&complete(*row, &stage)) {
                        if number > 0 && sent.body.len() > 1000 {
                            continue;
                        }
                        let reply = send(&client, row.0, path, &sent).await;
                        assert_eq!(reply.status, status, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                        assert_error(&reply, status, code);
                    }
                }
            }
        }
        assert_eq!(stage.state(&world).await, before);
    }
}

#[tokio::test]
async fn a_stranger_gets_the_same_refusal_whatever_it_sends() {
    let world = World::sqlite();
    let backends = Backends::make(&world);
    let stage = Stage::set(&world).await;
    let strangers = nobodies(&world, &stage, &backends).await;
    let before = stage.state(&world).await;
    for (number, (name, auth)) in strangers.iter().enumerate() {
        let client = client(&world, auth);
        for (index, row) in TABLE.iter().enumerate().filter(|(_, row)| row.2 != Who::Anyone) {
            // Each stranger sends something else to each route; together they send everything.
            let all = everything_sent(&complete(*row, &stage));
            let sent = &all[(number + index) % all.len()];
            let mut paths = vec![stage.path(row.1)];
            paths.extend(placeholders(row.1).last().map(|last| misled(&stage, row.1, last, "%zz")));
            for path in paths {
                let reply = send(&client, row.0, &path, sent).await;
                assert_eq!(reply.status, 401, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                assert_error(&reply, 401, 20003);
            }
        }
    }
    assert_eq!(stage.state(&world).await, before);
}

on_every_database! {
    async fn what_does_not_exist_is_not_found_whatever_is_sent(world: World) {
        let backends = Backends::make(&world);
        let stage = Stage::set(&world).await;
        let before = stage.state(&world).await;
        let account = Auth::Basic(world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
        let key = Auth::Basic(backends.key.0.clone(), backends.key.1.clone());
        let prefix = |pattern: &str| match pattern {
            _ if pattern.contains("/AccessTokens/") => "YK",
            _ if pattern.contains("/Factors/") => "YF",
            _ if pattern.contains("/Challenges/") => "YC",
            _ if pattern.contains("/Webhooks/") => "YW",
            _ if pattern.contains("/Credentials/") => "CR",
            _ if pattern.contains("/Alerts/") => "NO",
            _ => "AE",
        };
        for (name, auth) in [("account", account), ("API key", key), ("device", stage.device.auth())] {
            let client = client(&world, &auth);
            for row in TABLE {
                let (method, pattern, who, _) = *row;
                if name == "device" && who != Who::BackendOrDevice {
                    continue;
                }
                for placeholder in placeholders(pattern) {
                    let unknown = match placeholder {
                        "{ServiceSid}" => format!("VA{}", "0".repeat(32)),
                        // A factor makes its entity.
                        "{Identity}" if method == "POST" && pattern.ends_with("/Factors") => continue,
                        "{Identity}" => "user-unknown".to_owned(),
                        _ => format!("{}{}", prefix(pattern), "0".repeat(32)),
                    };
                    for text in [&unknown, "nothing", "%zz"] {
                        let path = misled(&stage, pattern, placeholder, text);
                        for sent in everything_sent(&complete(*row, &stage)) {
                            let reply = send(&client, method, &path, &sent).await;
                            assert_eq!(reply.status, 404, "{name}: {row:?}: {path}: {}: {reply:?}", sent.what);
                            assert_error(&reply, 404, 20404);
                        }
                    }
                }
            }
        }
        assert_eq!(stage.state(&world).await, before);
    }
}

#[tokio::test]
async fn an_access_token_is_for_its_type_of_factor_before_its_parameters_count() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let phone = client(&world, &signed_in(stage.token["token"].as_str().unwrap()));
    let path = format!("{}/Factors", crate::world::entity(&stage.service, IDENTITY));
    for form in [&[("FactorType", "totp")][..], &[("FactorType", "passkeys"), ("FriendlyName", "")]] {
        assert_error(&phone.post(&path, form).await, 403, 60313);
        assert_error(&world.backend().post(&path, form).await, 400, 60369);
    }
    // What it is for is judged by its parameters.
    assert_error(&phone.post(&path, &[]).await, 400, 20001);
    assert_error(&phone.post(&path, &[("FactorType", "nonsense")]).await, 400, 60306);
    assert_error(&phone.raw_body(&path, "application/json", "{}").await, 415, 20415);
}

#[tokio::test]
async fn a_device_may_not_filter_by_another_factor_whatever_else_it_asks() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let device = client(&world, &stage.device.auth());
    let other = format!("YF03{}", "0".repeat(30));
    for query in ["", "&PageSize=0", "&Order=x", "&Status=x", "&Page=7", "&PageToken=x"] {
        let path = format!("{}?FactorSid={other}{query}", stage.device.challenges());
        assert_error(&device.get(&path, &[]).await, 404, 20404);
    }
}
