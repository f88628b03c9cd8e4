//! The relying party and the criteria of passkeys, in the service and in `config`.

use serde_json::{Value, json};

use super::{IDENTITY, RelyingParty, SETTINGS};
use crate::world::{World, assert_error, created};

/// Returns the body for a new passkey with this configuration.
fn with_config(config: &Value) -> Value {
    json!({ "friendly_name": "Laptop", "identity": IDENTITY, "config": config })
}

#[tokio::test]
async fn configuration_of_a_passkey_overrides_the_service() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let config = json!({
        "relying_party": { "origins": ["http://localhost", "android:apk-key-hash:Ab_-", "www.example.com/"] },
        "authenticator_attachment": "any",
        "discoverable_credentials": "discouraged",
    });
    // `localhost` is not a subdomain of the service's relying party.
    assert_error(&party.post("Factors", &with_config(&config)).await, 400, 60371);
    let mut config = config;
    config["relying_party"]["origins"] = json!(["android:apk-key-hash:Ab_-", "www.example.com/"]);
    let made = created(&party.post("Factors", &with_config(&config)).await);
    let expected = json!({
        "relying_party": {
            "id": "example.com",
            "name": "Owl Bank",
            "origins": ["android:apk-key-hash:Ab_-", "www.example.com/"],
        },
        "authenticator_attachment": "any",
        "discoverable_credentials": "discouraged",
        "user_verification": "required",
    });
    assert_eq!(made["config"], expected);
    let selection = json!({
        "requireResidentKey": false,
        "residentKey": "discouraged",
        "userVerification": "required",
    });
    assert_eq!(made["options"]["publicKey"]["authenticatorSelection"], selection);
    for origin in ["android:apk-key-hash:Ab_-", "https://www.example.com"] {
        let made = created(&party.post("Factors", &with_config(&config)).await);
        let (_, credential) = device::Passkey::register(&made["options"], origin).unwrap();
        assert_eq!(party.verify(&credential).await.status, 200, "{origin}");
    }
}

#[tokio::test]
async fn configuration_in_camel_case_with_null_and_unknown_members_is_accepted() {
    let world = World::ephemeral();
    let party = RelyingParty::with_settings(&world, &SETTINGS[..1]).await;
    let body = json!({
        "friendlyName": "Laptop",
        "identity": IDENTITY,
        "config": {
            "relyingParty": { "id": "LOCALHOST", "name": "Owl Bank", "origins": ["http://localhost:3000"], "icon": 7 },
            "authenticatorAttachment": "cross-platform",
            "discoverableCredentials": "preferred",
            "userVerification": "discouraged",
            "attestation": null,
        },
        "unknown": true,
    });
    let made = created(&party.post("Factors", &body).await);
    assert_eq!(made["friendly_name"], "Laptop");
    assert_eq!(
        made["config"],
        json!({
            "relying_party": { "id": "localhost", "name": "Owl Bank", "origins": ["http://localhost:3000"] },
            "authenticator_attachment": "cross-platform",
            "discoverable_credentials": "preferred",
            "user_verification": "discouraged",
        })
    );
    // twilio-python sends null for everything that is absent.
    let party = RelyingParty::create(&world).await;
    let config = json!({
        "relying_party": { "id": null, "name": null, "origins": null },
        "authenticator_attachment": null,
        "discoverable_credentials": null,
        "user_verification": null,
    });
    for config in [&config, &json!({ "relying_party": null }), &Value::Null] {
        let made = created(&party.post("Factors", &with_config(config)).await);
        assert_eq!(made["config"]["relying_party"]["id"], "example.com");
    }
}

#[tokio::test]
async fn invalid_parameters_of_a_new_passkey_are_refused() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let unset = RelyingParty::with_settings(&world, &SETTINGS[..1]).await;
    let partly = RelyingParty::with_settings(&world, &SETTINGS[..3]).await;
    let relying_party = |relying_party: Value| with_config(&json!({ "relying_party": relying_party }));
    let long = "x".repeat(65);
    let criteria = json!({ "authenticator_attachment": "any", "user_verification": "required" });
    for (party, body, code) in [
        (&party, json!({ "identity": IDENTITY }), 60388),
        (&party, json!({ "friendly_name": "", "identity": IDENTITY }), 60388),
        (&party, json!({ "friendly_name": long, "identity": IDENTITY }), 60388),
        (&party, json!({ "friendly_name": "a\u{7}", "identity": IDENTITY }), 60388),
        (&party, json!({ "friendly_name": 7, "identity": IDENTITY }), 60388),
        (&party, json!({ "friendly_name": "Laptop" }), 60367),
        (&party, json!({ "friendly_name": "Laptop", "identity": "short" }), 60367),
        (&party, json!({ "friendly_name": "Laptop", "identity": { "a": 1 } }), 60367),
        (&party, with_config(&json!([])), 60393),
        (&party, with_config(&json!({ "authenticator_attachment": "usb" })), 60393),
        (&party, with_config(&json!({ "discoverable_credentials": "yes" })), 60393),
        (&party, with_config(&json!({ "user_verification": true })), 60393),
        (&party, relying_party(json!("example.com")), 60371),
        (&party, relying_party(json!({ "id": "https://example.com" })), 60372),
        (&party, relying_party(json!({ "id": "example.com:443" })), 60372),
        (&party, relying_party(json!({ "id": "192.0.2.1" })), 60372),
        (&party, relying_party(json!({ "name": long })), 60371),
        (&party, relying_party(json!({ "id": "example.org" })), 60371),
        (&party, relying_party(json!({ "origins": "https://example.com" })), 60371),
        (&party, relying_party(json!({ "origins": ["https://example.org"] })), 60371),
        (&party, relying_party(json!({ "origins": ["http://example.com"] })), 60371),
        (&party, relying_party(json!({ "origins": ["https://example.com/login"] })), 60371),
        (&party, relying_party(json!({ "origins": vec!["https://example.com"; 17] })), 60371),
        (&unset, json!({ "friendly_name": "Laptop", "identity": IDENTITY }), 60371),
        (&unset, relying_party(json!({ "name": "Owl Bank" })), 60372),
        (&unset, relying_party(json!({ "id": "example.com", "name": "Owl Bank" })), 60393),
        (&partly, with_config(&criteria), 60393),
    ] {
        let reply = party.post("Factors", &body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert_error(&reply, 400, code);
    }
    let message = partly.post("Factors", &with_config(&criteria)).await.json()["message"].clone();
    assert!(super::text(&message).contains("set discoverable_credentials in config"), "{message}");
    let list = world.backend().get(&format!("/v2/Services/{}/Entities", party.service), &[]).await.json();
    assert_eq!(list["entities"], json!([]), "a refused passkey creates no entity");
}

#[tokio::test]
async fn relying_party_of_a_service_is_checked() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let path = format!("/v2/Services/{}", party.service);
    let before = world.backend().get(&path, &[]).await.json();
    let origins = ["https://example.com"; 17].join(",");
    let (id, list) = ("Passkeys.RelyingParty.Id", "Passkeys.RelyingParty.Origins");
    for (form, code) in [
        ([(id, "https://example.com")], 60372),
        ([(id, "example.com/")], 60372),
        ([(id, "exa mple.com")], 60372),
        // The origins of the service belong to the previous ID.
        ([(id, "example.org")], 60371),
        ([(list, "https://example.org")], 60371),
        ([(list, "http://example.com")], 60371),
        ([(list, origins.as_str())], 60371),
    ] {
        assert_error(&world.backend().post(&path, &form).await, 400, code);
        let name = ("FriendlyName", "Bat Bank");
        if form[0].0 == id && code == 60372 {
            assert_error(&world.backend().post("/v2/Services", &[name, form[0]]).await, 400, code);
        }
    }
    assert_eq!(world.backend().get(&path, &[]).await.json(), before);

    let form = [(id, "OWL.example"), (list, "owl.example,http://localhost")];
    assert_error(&world.backend().post(&path, &form).await, 400, 60371);
    let form = [(id, "OWL.example"), (list, "owl.example, ios:bundle-id:com.Example")];
    let updated = world.backend().post(&path, &form).await.json();
    let expected = json!({
        "id": "owl.example",
        "name": "Owl Bank",
        "origins": ["owl.example", "ios:bundle-id:com.Example"],
    });
    assert_eq!(updated["passkeys"]["relying_party"], expected);
    // Settings that are not changed are not checked.
    assert_eq!(world.backend().post(&path, &[(list, ""), (id, "")]).await.status, 200);
    assert_eq!(world.backend().post(&path, &[(list, "https://example.org")]).await.status, 200);
    assert_eq!(world.backend().post(&path, &[("FriendlyName", "Bat Bank")]).await.status, 200);
}
