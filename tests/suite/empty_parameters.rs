//! Empty parameters: an optional one counts as absent, because some of Twilio's libraries send null values as
//! empty.

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::openapi::{document, items, members, operations, resolved};
use crate::world::{World, assert_error, created, instant};

/// Returns the body without the members that differ between any two resources, such as SIDs, and with its date of
/// expiry as seconds from its creation.
fn comparable(mut body: Value) -> Value {
    if let Some(expiry) = body.get("expiration_date") {
        body["expiration_date"] = json!(instant(expiry).seconds() - instant(&body["date_created"]).seconds());
    }
    let members = [
        "sid",
        "date_created",
        "date_updated",
        "url",
        "links",
        "config",
        "binding",
        "token",
        "secret",
        "send_code_attempts",
    ];
    for member in members {
        body.as_object_mut().unwrap().remove(member);
    }
    body
}

/// Returns the texts that count as absent for this parameter: the empty text and, for a JSON object, also
/// `null`.
fn absent_values(parameter: &str) -> &'static [&'static str] {
    if ["Metadata", "HiddenDetails", "Policy"].contains(&parameter) { &["", "null"] } else { &[""] }
}

/// Parameters that are optional only beside others, or only for some factor types.
const DEPENDENT_PARAMETERS: [&str; 8] = [
    "Metadata",
    "PrivateKey",
    "KeyId",
    "TeamId",
    "Binding.PublicKey",
    "Config.AppId",
    "Config.NotificationPlatform",
    "Details.Message",
];

#[tokio::test]
async fn empty_optional_form_parameters_count_as_absent() {
    let (world, document) = (World::ephemeral(), document());
    let backend = world.backend();
    let mut tried = 0;
    for (_, pattern, operation) in operations(&document).filter(|(method, ..)| method == "POST") {
        let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        let form = resolved(&document, form);
        let is_required = |name: &str| items(&form["required"]).any(|required| required == name);
        // Own resources for each operation, because an entity has room for only 20 devices.
        let fixture = Fixture::create(&world).await;
        let path = fixture.path(pattern);
        // A challenge allows only three further notifications.
        let is_comparable = !pattern.ends_with("/Notifications");
        // A verification is approved only once, and only an outlet gets a token.
        if pattern.ends_with("/VerificationCheck") || pattern.ends_with("/{Token}") {
            continue;
        }
        for (name, _) in members(&form["properties"]).filter(|(name, _)| !is_required(name)) {
            for text in absent_values(name) {
                let post = async |more: &[(&str, &str)]| {
                    let own = fixture.form(pattern);
                    let others = own.iter().filter(|(own, _)| *own != name);
                    let form: Vec<_> = others.map(|(name, value)| (*name, value.as_str())).collect();
                    let reply = backend.post(&path, &[&form[..], more].concat()).await;
                    // An entity has at most 20 push factors, and the name of a rate limit is unique.
                    let is_limited = ["/Factors", "/RateLimits"].iter().any(|end| pattern.ends_with(end));
                    if reply.status == 201 && is_limited {
                        let sid = reply.json()["sid"].as_str().unwrap().to_owned();
                        assert_eq!(backend.delete(&format!("{path}/{sid}"), &[]).await.status, 204);
                    }
                    // A verification has at most five messages.
                    if reply.status == 201 && pattern.ends_with("/Verifications") {
                        let path = format!("{path}/{}", reply.json()["sid"].as_str().unwrap());
                        assert_eq!(backend.post(&path, &[("Status", "canceled")]).await.status, 200);
                    }
                    reply
                };
                let empty = post(&[(name, *text)]).await;
                if is_comparable {
                    let absent = post(&[]).await;
                    let bodies = (comparable(empty.json()), comparable(absent.json()));
                    assert_eq!(
                        (empty.status, bodies.0),
                        (absent.status, bodies.1),
                        "{pattern}: {name}={text}"
                    );
                }
                assert!(
                    empty.status < 300 || DEPENDENT_PARAMETERS.contains(&name),
                    "{pattern}: {name}={text}: {empty:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "{tried}");
}

#[tokio::test]
async fn empty_optional_list_parameters_count_as_absent() {
    let (world, document) = (World::ephemeral(), document());
    let fixture = Fixture::create(&world).await;
    for (_, pattern, operation) in operations(&document).filter(|(method, ..)| method == "GET") {
        // Only an outlet gets a token for reports.
        if pattern.ends_with("/DeliveryReports/{Token}") {
            continue;
        }
        for parameter in items(&operation["parameters"]).map(|one| resolved(&document, one)) {
            if parameter["in"] != "query" || parameter["required"] == true {
                continue;
            }
            let (path, name) = (fixture.path(pattern), parameter["name"].as_str().unwrap());
            let plain = world.backend().get(&path, &[]).await;
            let empty = world.backend().get(&path, &[(name, "")]).await;
            assert_eq!(empty.status, 200, "{pattern}: {name}");
            // The text of a stream changes with each request.
            assert_eq!(empty.header("content-type"), plain.header("content-type"), "{pattern}: {name}");
            if plain.header("content-type") == Some("application/json") {
                assert_eq!(empty.json(), plain.json(), "{pattern}: {name}");
            }
        }
    }
    // If `PageSize` is repeated, the last non-empty value counts.
    let reply = world.backend().get("/v2/Services?PageSize=7&PageSize=", &[]).await;
    assert_eq!(reply.json()["meta"]["page_size"], 7);
}

#[tokio::test]
async fn empty_list_items_are_ignored_and_an_empty_required_list_counts_as_missing() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let field = ("Details.Fields", r#"{"label":"IP","value":"203.0.113.9"}"#);
    let nothing = ("Details.Fields", "");
    for (more, expected) in [(&[nothing][..], 0), (&[nothing, field, nothing], 1)] {
        let challenge = world.challenge(&fixture.device.enrollment, more).await;
        assert_eq!(challenge["details"]["fields"].as_array().unwrap().len(), expected, "{challenge}");
    }
    let webhooks = format!("/v2/Services/{}/Webhooks", fixture.service);
    let form = [("FriendlyName", "Owl"), ("WebhookUrl", "https://example.com/"), ("EventTypes", "")];
    assert_error(&world.backend().post(&webhooks, &form).await, 400, 20001);
    let some = [&form[..], &[("EventTypes", "factor.created")]].concat();
    let webhook = created(&world.backend().post(&webhooks, &some).await);
    assert_eq!(webhook["event_types"], serde_json::json!(["factor.created"]));
    let path = format!("{webhooks}/{}", webhook["sid"].as_str().unwrap());
    let changed = world.backend().post(&path, &[("EventTypes", ""), ("FriendlyName", "Owl 2")]).await.json();
    assert_eq!(
        (&changed["event_types"], &changed["friendly_name"]),
        (&webhook["event_types"], &"Owl 2".into())
    );
}
