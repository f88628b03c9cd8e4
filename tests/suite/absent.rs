//! Parameters that are sent empty: an optional one counts as absent, as some of Twilio's libraries send what is null.

use serde_json::Value;

use crate::matrix::Stage;
use crate::openapi::{document, items, members, operations, resolved};
use crate::world::{World, assert_error, created};

/// The body without what differs from one resource to the next.
fn comparable(mut body: Value) -> Value {
    for member in ["sid", "date_created", "date_updated", "url", "links", "config", "binding", "token"] {
        body.as_object_mut().unwrap().remove(member);
    }
    body
}

/// The texts that count as absent. An object may be the JSON text of null.
fn nothings(parameter: &str) -> &'static [&'static str] {
    if ["Metadata", "HiddenDetails"].contains(&parameter) { &["", "null"] } else { &[""] }
}

#[tokio::test]
async fn every_optional_parameter_of_a_form_may_be_empty() {
    let (world, document) = (World::ephemeral(), document());
    let (stage, backend) = (Stage::set(&world).await, world.backend());
    let mut tried = 0;
    for (_, pattern, operation) in operations(&document).filter(|(method, ..)| method == "POST") {
        let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        let form = resolved(&document, form);
        let is_required = |name: &str| items(&form["required"]).any(|required| required == name);
        let path = stage.path(pattern);
        // A challenge is asked about three more times at most.
        let is_comparable = !pattern.ends_with("/Notifications");
        for (name, _) in members(&form["properties"]).filter(|(name, _)| !is_required(name)) {
            for text in nothings(name) {
                let post = async |more: &[(&str, &str)]| {
                    let own = stage.form(pattern);
                    let others = own.iter().filter(|(own, _)| *own != name);
                    let form: Vec<_> = others.map(|(name, value)| (*name, value.as_str())).collect();
                    backend.post(&path, &[&form[..], more].concat()).await
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
                // Some are optional only beside others.
                let is_alone = ["Metadata", "PrivateKey", "KeyId", "TeamId"].contains(&name);
                assert!(empty.status < 300 || is_alone, "{pattern}: {name}={text}: {empty:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "{tried}");
}

#[tokio::test]
async fn every_optional_parameter_of_a_list_may_be_empty() {
    let (world, document) = (World::ephemeral(), document());
    let stage = Stage::set(&world).await;
    for (_, pattern, operation) in operations(&document).filter(|(method, ..)| method == "GET") {
        for parameter in items(&operation["parameters"]).map(|one| resolved(&document, one)) {
            if parameter["in"] != "query" {
                continue;
            }
            let (path, name) = (stage.path(pattern), parameter["name"].as_str().unwrap());
            let plain = world.backend().get(&path, &[]).await;
            let empty = world.backend().get(&path, &[(name, "")]).await;
            assert_eq!((empty.status, empty.json()), (200, plain.json()), "{pattern}: {name}");
        }
    }
    // Of several sizes the last one that is there counts.
    let reply = world.backend().get("/v2/Services?PageSize=7&PageSize=", &[]).await;
    assert_eq!(reply.json()["meta"]["page_size"], 7);
}

#[tokio::test]
async fn empty_members_of_a_list_are_left_out_and_a_required_list_stays_required() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let field = ("Details.Fields", r#"{"label":"IP","value":"203.0.113.9"}"#);
    let nothing = ("Details.Fields", "");
    for (more, expected) in [(&[nothing][..], 0), (&[nothing, field, nothing], 1)] {
        let challenge = world.challenge(&stage.device.enrollment, more).await;
        assert_eq!(challenge["details"]["fields"].as_array().unwrap().len(), expected, "{challenge}");
    }
    let webhooks = format!("/v2/Services/{}/Webhooks", stage.service);
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
