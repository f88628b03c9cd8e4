//! The safe list, and the forms.

use serde_json::json;

use crate::world::{World, assert_error, created, on_every_database};

const NUMBERS: &str = "/v2/SafeList/Numbers";

on_every_database! {
    async fn phone_number_on_the_safe_list_is_found_with_a_literal_and_an_encoded_plus_sign(world: World) {
        let backend = world.backend();
        let number = "+4366412345678";
        let made = created(&backend.post(NUMBERS, &[("PhoneNumber", number)]).await);
        let expected = json!({
            "sid": made["sid"],
            "phone_number": number,
            "url": format!("{}{NUMBERS}/{number}", world.server.url()),
        });
        assert_eq!(made, expected);
        assert!(made["sid"].as_str().unwrap().starts_with("GN"), "{made}");
        for path in ["+4366412345678", "%2B4366412345678", "%2b4366412345678", "%2B43%3664%312345678", "+4366412345678.json"] {
            assert_eq!(backend.get(&format!("{NUMBERS}/{path}"), &[]).await.json(), made, "{path}");
        }
        for path in ["4366412345678", "%204366412345678", "%252B4366412345678", "++4366412345678", "+4366412345679"] {
            assert_error(&backend.get(&format!("{NUMBERS}/{path}"), &[]).await, 404, 20404);
        }
        let again = backend.post(NUMBERS, &[("PhoneNumber", number)]).await;
        assert_error(&again, 409, 60411);

        let path = format!("{NUMBERS}/%2B4366412345678");
        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
        assert_error(&backend.delete(&path, &[]).await, 404, 20404);
        created(&backend.post(NUMBERS, &[("PhoneNumber", number)]).await);
    }
}

#[tokio::test]
async fn text_that_is_no_phone_number_is_not_added_to_the_safe_list() {
    let world = World::ephemeral();
    let backend = world.backend();
    for text in ["4366412345678", "+43 664 1234567", "+0664123456", "+123", "ann@example.com"] {
        let reply = backend.post(NUMBERS, &[("PhoneNumber", text)]).await;
        assert_error(&reply, 400, 60306);
    }
    assert_error(&backend.post(NUMBERS, &[]).await, 400, 20001);
    assert_error(&backend.get(NUMBERS, &[]).await, 405, 20004);
}

#[tokio::test]
async fn forms_describe_the_parameters_of_push_factors() {
    let world = World::ephemeral();
    let reply = world.backend().get("/v2/Forms/form-push", &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let forms = body["forms"].clone();
    let expected = json!({
        "form_type": "form-push",
        "forms": forms,
        "form_meta": {},
        "url": format!("{}/v2/Forms/form-push", world.server.url()),
    });
    assert_eq!(body, expected);
    for form in ["create_factor", "verify_factor", "create_challenge"] {
        let schema = &forms[form];
        assert_eq!(schema["type"], "object", "{form}");
        for name in schema["required"].as_array().unwrap() {
            assert!(schema["properties"][name.as_str().unwrap()].is_object(), "{form} {name}");
        }
    }
    assert_eq!(forms.as_object().unwrap().len(), 3);
    for other in ["form-totp", "form-push-2", "FORM-PUSH"] {
        assert_error(&world.backend().get(&format!("/v2/Forms/{other}"), &[]).await, 404, 20404);
    }
}
