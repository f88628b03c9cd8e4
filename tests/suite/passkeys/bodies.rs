//! The bodies of the routes of passkeys: JSON and nothing else.

use serde_json::json;

use super::{IDENTITY, RelyingParty};
use crate::world::{World, assert_error};

const ROUTES: [&str; 4] = ["Factors", "VerifyFactor", "Challenges", "ApproveChallenge"];

#[tokio::test]
async fn body_that_is_no_json_object_is_refused() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let (backend, json) = (world.backend(), "application/json");
    for route in ROUTES {
        let path = party.path(route);
        for content_type in ["application/x-www-form-urlencoded", "text/plain", "application/jsonp"] {
            let reply = backend.raw_body(&path, content_type, "{}").await;
            assert_error(&reply, 415, 20415);
            assert_eq!(reply.json()["message"], "Send a JSON object as application/json");
        }
        for body in ["{", "[]", "null", "\u{feff}{}", "{\"a\":}"] {
            assert_error(&backend.raw_body(&path, json, body).await, 400, 60378);
        }
        let deep = format!(r#"{{"response":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_error(&backend.raw_body(&path, json, deep).await, 400, 60378);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024));
        assert_error(&backend.raw_body(&path, json, large).await, 413, 20413);
        assert_error(&backend.get(&path, &[]).await, 405, 20004);
    }
}

#[tokio::test]
async fn empty_body_counts_as_an_empty_object() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let backend = world.backend();
    assert_eq!(backend.raw_body(&party.path("Challenges"), "text/plain", "").await.status, 201);
    assert_error(&backend.raw_body(&party.path("Factors"), "application/json", "").await, 400, 60388);
    assert_error(&backend.raw_body(&party.path("VerifyFactor"), "application/json", "").await, 400, 60378);
}

#[tokio::test]
async fn content_type_with_parameters_and_path_with_suffix_are_accepted() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let body = json!({ "friendly_name": "Zoë’s 📱", "identity": IDENTITY }).to_string();
    let path = format!("{}.json", party.path("Factors"));
    let reply = world.backend().raw_body(&path, "Application/JSON; charset=UTF-8", body).await;
    assert_eq!((reply.status, &reply.json()["friendly_name"]), (201, &json!("Zoë’s 📱")), "{reply:?}");
}
