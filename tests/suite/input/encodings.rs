//! The encoding of bodies and parameters: which bodies are forms, and how encoded text is decoded.

use device::Answer;
use serde_json::json;

use super::{CHALLENGE, CHALLENGES, FACTOR, FACTORS, Refusal, missing, post, refused, with};
use crate::fixture::Fixture;
use crate::world::{World, assert_error, created, on_every_database};

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn malformed_form_is_refused_with_the_parameter_name() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = world.everything().await;
    let named =
        |name: &str, expected: &str| refused(400, 60306, &format!("Invalid Request: {name} must {expected}"));
    let encoded = "be percent-encoded correctly";
    let long_name = format!("{}=%zz", "N".repeat(500));
    let rows: Vec<(&[u8], Refusal)> = vec![
        (b"FriendlyName=%", named("FriendlyName", encoded)),
        (b"FriendlyName=a%2", named("FriendlyName", encoded)),
        (b"FriendlyName=%zz&FriendlyName=b", named("FriendlyName", encoded)),
        (b"FriendlyName=%u00fc", named("FriendlyName", encoded)),
        (b"FriendlyName=% 20", named("FriendlyName", encoded)),
        (b"FriendlyName=%+1", named("FriendlyName", encoded)),
        (b"FriendlyName=%e4", named("FriendlyName", "be UTF-8")),
        (b"FriendlyName=Bank\xfcr", named("FriendlyName", "be UTF-8")),
        (b"FriendlyName=%ED%A0%80", named("FriendlyName", "be UTF-8")),
        (b"FriendlyName=%C0%80", named("FriendlyName", "be UTF-8")),
        (b"FriendlyName=a%00b", named("FriendlyName", "not contain NUL characters")),
        (b"FriendlyName=a\0b", named("FriendlyName", "not contain NUL characters")),
        (b"FriendlyName=Owl&Nonsense=%zz", named("Nonsense", encoded)),
        (b"FriendlyName=Owl&%zz=1", named("parameter names", encoded)),
        (b"FriendlyName=Owl&%ff=1", named("parameter names", "be UTF-8")),
        (b"FriendlyName=Owl&FriendlyName=Owl", named("FriendlyName", "be sent only once")),
        (b"FriendlyName=Owl&FriendlyName=", named("FriendlyName", "be sent only once")),
        (b"FriendlyName=Owl&CodeLength=6&CodeLength=7", named("CodeLength", "be sent only once")),
        (b"FriendlyName=Owl&TtsName=a&TtsName=b", named("TtsName", "be sent only once")),
        (long_name.as_bytes(), named(&"N".repeat(64), encoded)),
        // The start of a gzip stream; the name in the message does not matter.
        (b"\x1f\x8b\x08\x00\x00", refused(400, 60306, "Invalid Request: ")),
    ];
    for (body, refusal) in rows {
        let reply = world.backend().raw_body("/v2/Services", FORM, body).await;
        refusal.assert(&reply, &String::from_utf8_lossy(body));
    }
    for (pattern, name) in [
        (FACTORS, "Metadata"),
        (CHALLENGES, "HiddenDetails"),
        (CHALLENGE, "Metadata"),
        (CHALLENGE, "AuthPayload"),
        (FACTOR, "AuthPayload"),
    ] {
        let form = with(&fixture.form(pattern), &[(name, "{}"), (name, "{}")]);
        named(name, "be sent only once")
            .assert(&post(&world.backend(), &fixture.path(pattern), &form).await, pattern);
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn body_that_is_not_form_encoded_is_refused() {
    let world = World::ephemeral();
    let backend = world.backend();
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded-not",
        "form",
    ] {
        let reply = backend.raw_body("/v2/Services", content_type, r#"{"FriendlyName":"Owl"}"#).await;
        assert_error(&reply, 415, 20415);
        let reply = backend.raw_body("/v2/Services", content_type, "FriendlyName=Owl").await;
        assert_error(&reply, 415, 20415);
        // The content type of an empty body is ignored.
        missing("FriendlyName")
            .assert(&backend.raw_body("/v2/Services", content_type, "").await, content_type);
    }
    assert_eq!(world.everything().await, json!([]));
    for content_type in [
        "Application/X-WWW-Form-URLencoded",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "application/x-www-form-urlencoded ; x=y",
    ] {
        let reply = backend.raw_body("/v2/Services", content_type, "FriendlyName=Owl").await;
        assert_eq!(reply.status, 201, "{content_type}: {reply:?}");
    }
}

#[tokio::test]
async fn unknown_parameters_are_ignored() {
    let world = World::ephemeral();
    let backend = world.backend();
    for body in [
        "FriendlyName=Owl&Nonsense=1",
        "Nonsense=1&Nonsense=2&FriendlyName=Owl",
        "FriendlyName=Owl&friendlyname=Eagle&FRIENDLYNAME=Eagle",
        "&&FriendlyName=Owl&&=&==&&",
        "FriendlyName=Owl&co",
        "FriendlyName=Owl&Sid=VA0123456789abcdef0123456789abcdef&AccountSid=AC1&date_created=x",
        "FriendlyName=Owl&Passkeys=%7B%7D&Push.=1&Push.Nonsense=1",
    ] {
        let made = created(&backend.raw_body("/v2/Services", FORM, body).await);
        assert_eq!(
            (&made["friendly_name"], &made["account_sid"]),
            (&json!("Owl"), &json!(world.server.account_sid()))
        );
    }
    // Parameter names are case-sensitive in bodies, unlike in query strings.
    missing("FriendlyName")
        .assert(&backend.raw_body("/v2/Services", FORM, "friendlyname=Owl").await, "small letters");
    // Parameters in the query string do not count as parameters of the body.
    let reply = backend.raw_body("/v2/Services?FriendlyName=Owl", FORM, "").await;
    missing("FriendlyName").assert(&reply, "in the address");
}

#[tokio::test]
async fn every_valid_form_encoding_of_a_parameter_is_decoded() {
    let world = World::ephemeral();
    for (body, name) in [
        ("FriendlyName=Owl+Bank", "Owl Bank"),
        ("FriendlyName=Owl%20Bank", "Owl Bank"),
        ("FriendlyName=Owl%2BBank", "Owl+Bank"),
        ("FriendlyName=a=b==", "a=b=="),
        ("FriendlyName=a;b!$'()*,@:?/", "a;b!$'()*,@:?/"),
        ("FriendlyName=%c3%bC%F0%9F%A6%89", "ü🦉"),
        ("FriendlyName=ü🦉", "ü🦉"),
        ("%46riendly%4Eame=Owl", "Owl"),
        ("FriendlyName=%2525", "%25"),
        ("FriendlyName=%EF%BB%BFx", "\u{feff}x"),
    ] {
        let made = created(&world.backend().raw_body("/v2/Services", FORM, body).await);
        assert_eq!(made["friendly_name"], name, "{body}");
    }
}

on_every_database! {
    async fn special_characters_in_text_are_returned_unchanged(world: World) {
        let backend = world.backend();
        let fixture = Fixture::create(&world).await;
        let device = &fixture.device;
        for text in [
            "'; DROP TABLE challenges; --",
            "\" \\ / \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}",
            "\u{feff}\u{202e}\u{200b}\u{2028}\u{fffd}\u{ffff}\u{10ffff}",
            "é e\u{301} ﷺ 👩‍👩‍👧‍👦 🏳️‍🌈",
            "  spaces at both ends  ",
            "%00 %zz + & = ? # ;",
            "$1 ? :name {} \\u0041 \\0",
            "<script>alert(1)</script>",
        ] {
            let field = json!({ "label": text.chars().take(36).collect::<String>(), "value": text });
            let hidden = json!({ text: text, "": "" });
            let (field_text, hidden_text) = (field.to_string(), hidden.to_string());
            let more =
                [("Details.Message", text), ("Details.Fields", &field_text), ("HiddenDetails", &hidden_text)];
            let form = with(&fixture.form(CHALLENGES), &more);
            let made = created(&post(&backend, &fixture.path(CHALLENGES), &form).await);
            assert_eq!(made["details"], json!({ "message": text, "fields": [field] }));
            assert_eq!(made["hidden_details"], hidden);
            let sid = made["sid"].as_str().unwrap();
            let path = format!("{}/{sid}", device.challenges());
            assert_eq!(backend.get(&path, &[]).await.json(), made);
            device.phone.answer(&device.enrollment, sid, Answer::Approved).await.unwrap();
            assert_eq!(backend.get(&path, &[]).await.json()["details"], made["details"]);

            let shown: String = text.chars().filter(|c| !c.is_control()).collect();
            let form = [("FriendlyName", shown.as_str()), ("Config.SdkVersion", &shown)];
            let factor = backend.post(&device.path(), &form).await;
            assert_eq!((factor.status, &factor.json()["friendly_name"]), (200, &json!(shown)), "{factor:?}");
            assert_eq!(backend.get(&device.path(), &[]).await.json(), factor.json());
        }
    }
}
