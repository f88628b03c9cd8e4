//! The response format of every resource: its keys, nulls, dates, URLs and status codes.
//!
//! Bodies are compared as a whole, which detects additional keys as well as missing ones.

use std::time::Duration;

use device::{Answer, Enrollment, SigningKey, Style};
use harness::{Reply, wait_until};
use serde_json::{Value, json};

use crate::transport::{RawConnection, authorization};
use crate::world::{World, assert_error, created, entity, instant, on_every_database};

/// Checks that `value` is a date that both SDKs can parse, such as `2026-01-01T00:00:00Z`.
#[track_caller]
fn assert_date(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99Z", "{value}");
}

/// Checks that `value` is a SID that begins with `beginning`.
#[track_caller]
fn assert_sid(value: &Value, beginning: &str) {
    let text = value.as_str().unwrap_or_default();
    let digits = text.get(2..).unwrap_or_default();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(is_hex && text.starts_with(beginning), "{value} is no SID that begins with {beginning}");
}

/// Returns the body of a reply, which must have status 200.
#[track_caller]
fn ok(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Checks that a reply has status 204 and no body.
#[track_caller]
fn assert_gone(reply: &Reply) {
    assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{reply:?}");
}

/// Returns every URL in the body.
fn addresses(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) if text.contains("://") => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(addresses).collect(),
        Value::Object(members) => members.values().flat_map(addresses).collect(),
        _ => Vec::new(),
    }
}

/// Returns the expected body of a service created with only a name, with the server-generated values taken
/// from `body`.
fn plain_service(world: &World, body: &Value) -> Value {
    let url = format!("{}/v2/Services/{}", world.server.url(), body["sid"].as_str().unwrap());
    json!({
        "sid": body["sid"],
        "account_sid": world.server.account_sid(),
        "friendly_name": "Owl Bank",
        "code_length": 6,
        "lookup_enabled": false,
        "psd2_enabled": false,
        "skip_sms_to_landlines": false,
        "dtmf_input_required": false,
        "tts_name": null,
        "do_not_share_warning_enabled": false,
        "custom_code_enabled": false,
        "push": { "include_date": false, "apn_credential_sid": null, "fcm_credential_sid": null },
        "totp": { "issuer": null, "time_step": null, "code_length": null, "skew": null },
        "whatsapp": { "msg_service_sid": null, "from": null },
        "passkeys": {
            "relying_party": { "id": null, "name": null, "origins": null },
            "authenticator_attachment": null,
            "discoverable_credentials": null,
            "user_verification": null,
        },
        "default_template_sid": null,
        "verify_event_subscription_enabled": false,
        "date_created": body["date_created"],
        "date_updated": body["date_updated"],
        "url": url,
        "links": {
            "verification_checks": format!("{url}/VerificationCheck"),
            "verifications": format!("{url}/Verifications"),
            "rate_limits": format!("{url}/RateLimits"),
            "messaging_configurations": format!("{url}/MessagingConfigurations"),
            "entities": format!("{url}/Entities"),
            "webhooks": format!("{url}/Webhooks"),
            "access_tokens": format!("{url}/AccessTokens"),
        },
    })
}

/// A setting of a service: the parameter, its place in the body, a value with its JSON, and the JSON after the
/// parameter was sent empty, if that clears it.
struct Setting {
    parameter: &'static str,
    pointer: &'static str,
    text: &'static str,
    value: Value,
    cleared: Option<Value>,
}

/// Returns every setting of a service.
fn settings() -> Vec<Setting> {
    let setting = |parameter, pointer, text, value, clears: bool| {
        let cleared = clears.then_some(Value::Null);
        Setting { parameter, pointer, text, value, cleared }
    };
    const CREDENTIAL: &str = "CR0123456789abcdef0123456789abcdef";
    const TEMPLATE: &str = "HJ0123456789abcdef0123456789abcdef";
    const MESSAGING: &str = "MG0123456789abcdef0123456789abcdef";
    vec![
        setting("FriendlyName", "/friendly_name", "Eule & Söhne, 2024", json!("Eule & Söhne, 2024"), false),
        setting("CodeLength", "/code_length", "10", json!(10), false),
        setting("LookupEnabled", "/lookup_enabled", "true", json!(true), false),
        setting("Psd2Enabled", "/psd2_enabled", "True", json!(true), false),
        setting("SkipSmsToLandlines", "/skip_sms_to_landlines", "TRUE", json!(true), false),
        setting("DtmfInputRequired", "/dtmf_input_required", "true", json!(true), false),
        setting("TtsName", "/tts_name", "the owl", json!("the owl"), true),
        setting("DoNotShareWarningEnabled", "/do_not_share_warning_enabled", "true", json!(true), false),
        setting("CustomCodeEnabled", "/custom_code_enabled", "true", json!(true), false),
        setting("DefaultTemplateSid", "/default_template_sid", TEMPLATE, json!(TEMPLATE), true),
        setting(
            "VerifyEventSubscriptionEnabled",
            "/verify_event_subscription_enabled",
            "true",
            json!(true),
            false,
        ),
        setting("Push.IncludeDate", "/push/include_date", "true", json!(true), false),
        setting("Push.ApnCredentialSid", "/push/apn_credential_sid", CREDENTIAL, json!(CREDENTIAL), true),
        setting("Push.FcmCredentialSid", "/push/fcm_credential_sid", CREDENTIAL, json!(CREDENTIAL), true),
        setting("Totp.Issuer", "/totp/issuer", "owl.test", json!("owl.test"), true),
        setting("Totp.TimeStep", "/totp/time_step", "60", json!(60), true),
        setting("Totp.CodeLength", "/totp/code_length", "3", json!(3), true),
        setting("Totp.Skew", "/totp/skew", "0", json!(0), true),
        setting("Whatsapp.MsgServiceSid", "/whatsapp/msg_service_sid", MESSAGING, json!(MESSAGING), true),
        setting("Whatsapp.From", "/whatsapp/from", "whatsapp:+4912345", json!("whatsapp:+4912345"), true),
        setting(
            "Passkeys.RelyingParty.Id",
            "/passkeys/relying_party/id",
            "owl.test",
            json!("owl.test"),
            true,
        ),
        setting("Passkeys.RelyingParty.Name", "/passkeys/relying_party/name", "Owl", json!("Owl"), true),
        setting(
            "Passkeys.RelyingParty.Origins",
            "/passkeys/relying_party/origins",
            "https://owl.test, https://www.owl.test",
            json!(["https://owl.test", "https://www.owl.test"]),
            true,
        ),
        setting(
            "Passkeys.AuthenticatorAttachment",
            "/passkeys/authenticator_attachment",
            "cross-platform",
            json!("cross-platform"),
            true,
        ),
        setting(
            "Passkeys.DiscoverableCredentials",
            "/passkeys/discoverable_credentials",
            "discouraged",
            json!("discouraged"),
            true,
        ),
        setting(
            "Passkeys.UserVerification",
            "/passkeys/user_verification",
            "required",
            json!("required"),
            true,
        ),
    ]
}

/// Returns `body` with the `date_updated` of `updated`, because an update changes that date.
fn updated_like(body: &Value, updated: &Value) -> Value {
    let mut body = body.clone();
    body["date_updated"] = updated["date_updated"].clone();
    body
}

#[tokio::test]
async fn service_created_with_only_a_name_is_returned_with_every_documented_key() {
    let world = World::ephemeral();
    let backend = world.backend();
    let service = created(&backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await);
    assert_eq!(service, plain_service(&world, &service));
    assert_sid(&service["sid"], "VA");
    assert_date(&service["date_created"]);
    assert_eq!(service["date_updated"], service["date_created"]);

    let path = format!("/v2/Services/{}", service["sid"].as_str().unwrap());
    assert_eq!(ok(&backend.get(&path, &[]).await), service);
    assert_eq!(ok(&backend.get("/v2/Services", &[]).await)["services"], json!([service]));
    let same = ok(&backend.post(&path, &[]).await);
    assert_eq!(same, updated_like(&service, &same), "an empty update changes nothing");

    assert_gone(&backend.delete(&path, &[]).await);
    for reply in
        [backend.get(&path, &[]).await, backend.post(&path, &[]).await, backend.delete(&path, &[]).await]
    {
        assert_error(&reply, 404, 20404);
    }
}

on_every_database! {
    async fn every_service_setting_is_stored_and_returned(world: World) {
        let backend = world.backend();
        let settings = settings();
        let form: Vec<_> = settings.iter().map(|setting| (setting.parameter, setting.text)).collect();
        let service = created(&backend.post("/v2/Services", &form).await);
        let mut expected = plain_service(&world, &service);
        for setting in &settings {
            let place = expected.pointer_mut(setting.pointer).unwrap();
            assert_ne!(*place, setting.value, "{} equals its default, so it would prove nothing", setting.parameter);
            *place = setting.value.clone();
        }
        assert_eq!(service, expected);
        let path = format!("/v2/Services/{}", service["sid"].as_str().unwrap());
        assert_eq!(ok(&backend.get(&path, &[]).await), service);
        assert_eq!(ok(&backend.get("/v2/Services", &[]).await)["services"], json!([service]));
    }
}

#[tokio::test]
async fn service_update_changes_only_sent_parameters() {
    let world = World::ephemeral();
    let backend = world.backend();
    let path = format!("/v2/Services/{}", world.service().await);
    let mut expected = ok(&backend.get(&path, &[]).await);
    for setting in settings() {
        let updated = ok(&backend.post(&path, &[(setting.parameter, setting.text)]).await);
        *expected.pointer_mut(setting.pointer).unwrap() = setting.value;
        assert_eq!(updated, updated_like(&expected, &updated), "{}", setting.parameter);
        assert_eq!(ok(&backend.get(&path, &[]).await), updated);
    }
}

#[tokio::test]
async fn empty_parameter_clears_an_optional_service_setting_and_keeps_the_others() {
    let world = World::ephemeral();
    let backend = world.backend();
    let settings = settings();
    let form: Vec<_> = settings.iter().map(|setting| (setting.parameter, setting.text)).collect();
    let mut expected = created(&backend.post("/v2/Services", &form).await);
    let path = format!("/v2/Services/{}", expected["sid"].as_str().unwrap());
    for setting in settings {
        let updated = ok(&backend.post(&path, &[(setting.parameter, "")]).await);
        if let Some(cleared) = setting.cleared {
            *expected.pointer_mut(setting.pointer).unwrap() = cleared;
        }
        assert_eq!(updated, updated_like(&expected, &updated), "{}", setting.parameter);
    }
}

#[tokio::test]
async fn boolean_service_settings_can_be_turned_off_again() {
    let world = World::ephemeral();
    let backend = world.backend();
    let path = format!("/v2/Services/{}", world.service().await);
    for setting in settings().into_iter().filter(|setting| setting.value == true) {
        for (text, value) in [("true", true), ("false", false), ("True", true), ("False", false)] {
            let updated = ok(&backend.post(&path, &[(setting.parameter, text)]).await);
            assert_eq!(updated.pointer(setting.pointer), Some(&json!(value)), "{} {text}", setting.parameter);
        }
    }
}

#[tokio::test]
async fn entity_is_returned_with_every_documented_key_and_cannot_be_updated() {
    let world = World::ephemeral();
    let backend = world.backend();
    let service = world.service().await;
    let list = format!("/v2/Services/{service}/Entities");
    for identity in ["user-001", "User_UUID", &"x".repeat(64), "ff483d1ff591898a9942916050d2ca3f"] {
        let entity = created(&backend.post(&list, &[("Identity", identity)]).await);
        let url = format!("{}{list}/{identity}", world.server.url());
        let expected = json!({
            "sid": entity["sid"],
            "identity": identity,
            "account_sid": world.server.account_sid(),
            "service_sid": service,
            "date_created": entity["date_created"],
            "date_updated": entity["date_created"],
            "url": url,
            "links": {
                "factors": format!("{url}/Factors"),
                "new_factors": format!("{url}/Factors"),
                "challenges": format!("{url}/Challenges"),
            },
        });
        assert_eq!(entity, expected);
        assert_sid(&entity["sid"], "YE");
        assert_date(&entity["date_created"]);

        let path = format!("{list}/{identity}");
        assert_eq!(ok(&backend.get(&path, &[]).await), entity);
        assert_eq!(ok(&backend.get(&list, &[]).await)["entities"], json!([entity]));
        assert_error(&backend.post(&path, &[("Identity", "user-002")]).await, 405, 20004);
        assert_gone(&backend.delete(&path, &[]).await);
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
        assert_error(&backend.delete(&path, &[]).await, 404, 20404);
    }
}

#[tokio::test]
async fn identities_are_case_sensitive_and_separate_for_each_service() {
    let world = World::ephemeral();
    let backend = world.backend();
    let (one, other) = (world.service().await, world.service().await);
    let mut sids = Vec::new();
    for (service, identity) in [(&one, "user-00a"), (&one, "USER-00A"), (&other, "user-00a")] {
        let list = format!("/v2/Services/{service}/Entities");
        let made = created(&backend.post(&list, &[("Identity", identity)]).await);
        assert_eq!(made["identity"], identity);
        sids.push(made["sid"].clone());
    }
    sids.sort_by_key(Value::to_string);
    sids.dedup();
    assert_eq!(sids.len(), 3);
    // The SID is no substitute for the identity.
    let by_sid = entity(&one, sids[0].as_str().unwrap());
    assert_error(&backend.get(&by_sid, &[]).await, 404, 20404);
    assert_error(&backend.get(&entity(&one, "User-00a"), &[]).await, 404, 20404);
}

/// Returns the parameters of a factor with this key, followed by `more`.
fn factor_form<'f>(public_key: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut form = vec![
        ("FriendlyName", "Jo's phone"),
        ("FactorType", "push"),
        ("Binding.Alg", "ES256"),
        ("Binding.PublicKey", public_key),
        ("Config.AppId", "com.example.app"),
    ];
    form.extend_from_slice(more);
    form
}

on_every_database! {
    async fn factor_is_returned_with_every_documented_key_and_with_its_binding_only_once(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let path = entity(&service, "user-0001");
        let list = format!("{path}/Factors");
        let full = [
            ("Config.NotificationPlatform", "fcm"),
            ("Config.NotificationToken", "a:token/with=signs"),
            ("Config.SdkVersion", "0.9.0"),
            ("Metadata", r#"{"os":"Android","empty":"","ü":"\/"}"#),
        ];
        let bare = [("Config.NotificationPlatform", "none")];
        let mut listed = Vec::new();
        for (more, config, metadata) in [
            (
                &full[..],
                json!({
                    "sdk_version": "0.9.0",
                    "notification_platform": "fcm",
                    "notification_token": "a:token/with=signs",
                }),
                json!({ "os": "Android", "empty": "", "ü": "/" }),
            ),
            (
                &bare[..],
                json!({
                    "sdk_version": null,
                    "notification_platform": "none",
                    "notification_token": null,
                }),
                Value::Null,
            ),
        ] {
            let public_key = SigningKey::generate().public_key_base64();
            let made = created(&backend.post(&list, &factor_form(&public_key, more)).await);
            let owner = ok(&backend.get(&path, &[]).await);
            let sid = made["sid"].as_str().unwrap();
            let mut config = config;
            config["app_id"] = "com.example.app".into();
            config["credential_sid"] = made["config"]["credential_sid"].clone();
            let mut expected = json!({
                "sid": sid,
                "account_sid": world.server.account_sid(),
                "service_sid": service,
                "entity_sid": owner["sid"],
                "identity": "user-0001",
                "binding": { "alg": "ES256", "public_key": public_key },
                "options": null,
                "date_created": made["date_created"],
                "date_updated": made["date_created"],
                "friendly_name": "Jo's phone",
                "status": "unverified",
                "factor_type": "push",
                "config": config,
                "metadata": metadata,
                "url": format!("{}{list}/{sid}", world.server.url()),
            });
            assert_eq!(made, expected);
            assert_sid(&made["sid"], "YF03");
            assert_sid(&made["config"]["credential_sid"], "CR");
            assert_date(&made["date_created"]);

            let members = expected.as_object_mut().unwrap();
            members.remove("binding");
            members.remove("options");
            assert_eq!(ok(&backend.get(&format!("{list}/{sid}"), &[]).await), expected);
            let same = ok(&backend.post(&format!("{list}/{sid}"), &[]).await);
            assert_eq!(same, expected, "an empty update changes nothing");
            listed.push(expected);
        }
        assert_ne!(listed[0]["config"]["credential_sid"], listed[1]["config"]["credential_sid"]);
        assert_eq!(ok(&backend.get(&list, &[]).await)["factors"], json!(listed));

        let first = format!("{list}/{}", listed[0]["sid"].as_str().unwrap());
        assert_gone(&backend.delete(&first, &[]).await);
        for reply in [
            backend.get(&first, &[]).await,
            backend.post(&first, &[]).await,
            backend.delete(&first, &[]).await,
        ] {
            assert_error(&reply, 404, 20404);
        }
        assert_eq!(ok(&backend.get(&list, &[]).await)["factors"], json!(listed[1..]));
    }
}

#[tokio::test]
async fn factor_update_changes_only_sent_parameters() {
    let world = World::ephemeral();
    let backend = world.backend();
    let list = format!("{}/Factors", entity(&world.service().await, "user-0001"));
    let public_key = SigningKey::generate().public_key_base64();
    let none = [("Config.NotificationPlatform", "none"), ("Metadata", r#"{"os":"iOS"}"#)];
    let mut expected = created(&backend.post(&list, &factor_form(&public_key, &none)).await);
    let path = format!("{list}/{}", expected["sid"].as_str().unwrap());
    for key in ["binding", "options"] {
        expected.as_object_mut().unwrap().remove(key);
    }
    type Change = (&'static [(&'static str, &'static str)], Vec<(&'static str, Value)>);
    let changes: Vec<Change> = vec![
        (&[("FriendlyName", "New name")], vec![("/friendly_name", json!("New name"))]),
        (&[("Config.SdkVersion", "3.0.2")], vec![("/config/sdk_version", json!("3.0.2"))]),
        (
            &[("Config.NotificationPlatform", "apn"), ("Config.NotificationToken", "abc")],
            vec![
                ("/config/notification_platform", json!("apn")),
                ("/config/notification_token", json!("abc")),
            ],
        ),
        (&[("Config.NotificationToken", "def")], vec![("/config/notification_token", json!("def"))]),
        (&[("Config.NotificationPlatform", "apn")], vec![]),
        (
            &[("Config.NotificationPlatform", "fcm"), ("Config.NotificationToken", "ghi")],
            vec![
                ("/config/notification_platform", json!("fcm")),
                ("/config/notification_token", json!("ghi")),
            ],
        ),
        (
            &[("Config.NotificationPlatform", "none"), ("Config.NotificationToken", "dropped")],
            vec![
                ("/config/notification_platform", json!("none")),
                ("/config/notification_token", Value::Null),
            ],
        ),
        // Parameters that an update does not have, and empty ones, are ignored.
        (&[("Metadata", "{}"), ("Config.AppId", "other"), ("Binding.PublicKey", "x")], vec![]),
        (&[("FriendlyName", ""), ("Config.SdkVersion", ""), ("AuthPayload", "")], vec![]),
    ];
    for (form, changed) in changes {
        let updated = ok(&backend.post(&path, form).await);
        for (pointer, value) in changed {
            *expected.pointer_mut(pointer).unwrap() = value;
        }
        assert_eq!(updated, updated_like(&expected, &updated), "{form:?}");
        assert_eq!(ok(&backend.get(&path, &[]).await), updated, "{form:?}");
    }
}

/// Returns the expected body of a newly created challenge, with the server-generated values taken from
/// `body`.
fn pending_challenge(world: &World, enrollment: &Enrollment, body: &Value) -> Value {
    let entity = entity(&enrollment.service_sid, &enrollment.identity);
    let url = format!("{}{entity}/Challenges/{}", world.server.url(), body["sid"].as_str().unwrap());
    json!({
        "sid": body["sid"],
        "account_sid": world.server.account_sid(),
        "service_sid": enrollment.service_sid,
        "entity_sid": body["entity_sid"],
        "identity": enrollment.identity,
        "factor_sid": enrollment.factor_sid,
        "date_created": body["date_created"],
        "date_updated": body["date_created"],
        "date_responded": null,
        "expiration_date": body["expiration_date"],
        "status": "pending",
        "responded_reason": "none",
        "details": { "message": "Sign in to Owl Bank?", "fields": [] },
        "hidden_details": null,
        "metadata": null,
        "factor_type": "push",
        "url": url,
        "links": { "notifications": format!("{url}/Notifications") },
    })
}

on_every_database! {
    async fn challenge_is_returned_with_every_documented_key_before_and_after_its_answer(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let owner = ok(&backend.get(&entity(&service, "user-0001"), &[]).await);

        let bare = world.challenge(&enrollment, &[]).await;
        assert_eq!(bare, pending_challenge(&world, &enrollment, &bare));
        assert_sid(&bare["sid"], "YC03");
        assert_eq!(bare["entity_sid"], owner["sid"]);
        assert_date(&bare["date_created"]);
        assert_date(&bare["expiration_date"]);

        let full = [
            ("Details.Fields", r#"{"label":"IP","value":"203.0.113.9"}"#),
            ("Details.Fields", r#"{"label": "Wo?", "value": ""}"#),
            ("HiddenDetails", r#"{"txn":"a\/b","amount":"7"}"#),
        ];
        let full = world.challenge(&enrollment, &full).await;
        let mut expected = pending_challenge(&world, &enrollment, &full);
        expected["details"]["fields"] =
            json!([{ "label": "IP", "value": "203.0.113.9" }, { "label": "Wo?", "value": "" }]);
        expected["hidden_details"] = json!({ "txn": "a/b", "amount": "7" });
        assert_eq!(full, expected);

        let list = format!("{}/Challenges", entity(&service, "user-0001"));
        for challenge in [&bare, &full] {
            let path = format!("{list}/{}", challenge["sid"].as_str().unwrap());
            assert_eq!(ok(&backend.get(&path, &[]).await), *challenge);
            assert_error(&backend.delete(&path, &[]).await, 405, 20004);
        }
        assert_eq!(ok(&backend.get(&list, &[]).await)["challenges"], json!([bare, full]));

        let sid = full["sid"].as_str().unwrap();
        phone.answer(&enrollment, sid, Answer::Approved).await.unwrap();
        let answered = ok(&backend.get(&format!("{list}/{sid}"), &[]).await);
        assert_date(&answered["date_responded"]);
        assert_eq!(answered["date_updated"], answered["date_responded"]);
        expected["status"] = "approved".into();
        expected["date_responded"] = answered["date_responded"].clone();
        assert_eq!(answered, updated_like(&expected, &answered));

        let path = format!("{list}/{}", bare["sid"].as_str().unwrap());
        let noted = ok(&backend.post(&path, &[("Metadata", r#"{"seen":"yes"}"#)]).await);
        let mut expected = updated_like(&bare, &noted);
        expected["metadata"] = json!({ "seen": "yes" });
        assert_eq!(noted, expected, "an update of the metadata must not answer the challenge");
        assert_eq!(ok(&backend.get(&path, &[]).await), noted);
    }
}

#[tokio::test]
async fn challenge_expires_after_five_minutes_by_default() {
    let world = World::ephemeral();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Ios, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let expected = instant(&challenge["date_created"]).plus_seconds(300);
    assert_eq!(instant(&challenge["expiration_date"]), expected);

    // Every format in which a library writes a date.
    let at = expected.plus_seconds(600).to_string();
    let second = at.strip_suffix('Z').unwrap();
    for text in [
        at.clone(),
        format!("{second}.999999Z"),
        format!("{second}+00:00"),
        format!("{second}-00:00"),
        second.to_owned(),
        format!("{at}[UTC]"),
    ] {
        let challenge = world.challenge(&enrollment, &[("ExpirationDate", &text)]).await;
        assert_eq!(challenge["expiration_date"], at, "{text}");
    }
    let abroad = expected.plus_seconds(600 + 2 * 3600).to_string().replace('Z', "+02:00");
    let challenge = world.challenge(&enrollment, &[("ExpirationDate", &abroad)]).await;
    assert_eq!(challenge["expiration_date"], at, "{abroad}");
}

on_every_database! {
    async fn access_token_is_returned_with_every_documented_key(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let list = format!("/v2/Services/{service}/AccessTokens");
        let plain = [("Identity", "user-0001"), ("FactorType", "push")];
        let full = [plain[0], plain[1], ("FactorFriendlyName", "Jo's phone"), ("Ttl", "300")];
        let mut texts = Vec::new();
        for (form, name, ttl) in [(&plain[..], Value::Null, 60), (&full[..], json!("Jo's phone"), 300)] {
            let token = created(&backend.post(&list, form).await);
            let sid = token["sid"].as_str().unwrap();
            let expected = json!({
                "sid": sid,
                "account_sid": world.server.account_sid(),
                "service_sid": service,
                "entity_identity": "user-0001",
                "factor_type": "push",
                "factor_friendly_name": name,
                "ttl": ttl,
                "date_created": token["date_created"],
                "token": token["token"],
                "url": format!("{}{list}/{sid}", world.server.url()),
            });
            assert_eq!(token, expected);
            assert_sid(&token["sid"], "YK");
            assert_date(&token["date_created"]);
            let text = token["token"].as_str().unwrap().to_owned();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            assert!(text.len() > 100 && text.bytes().all(plain), "a QR code must carry it: {text}");
            texts.push(text);
            assert_eq!(ok(&backend.get(&format!("{list}/{sid}"), &[]).await), token);
            assert_error(&backend.delete(&format!("{list}/{sid}"), &[]).await, 405, 20004);
        }
        assert_ne!(texts[0], texts[1]);
        assert_error(&backend.get(&list, &[]).await, 405, 20004);
        assert_error(&backend.get(&entity(&service, "user-0001"), &[]).await, 404, 20404);
    }
}

#[tokio::test]
async fn every_change_updates_date_updated() {
    let world = World::ephemeral();
    let backend = world.backend();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Ios, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let entity = entity(&service, "user-0001");
    let paths = [
        (format!("/v2/Services/{service}"), [("TtsName", "owl")]),
        (format!("{entity}/Factors/{}", enrollment.factor_sid), [("FriendlyName", "Renamed")]),
        (format!("{entity}/Challenges/{}", challenge["sid"].as_str().unwrap()), [("Metadata", "{}")]),
    ];
    for (path, form) in paths {
        let before = ok(&backend.get(&path, &[]).await);
        // Dates have whole seconds, so a change may take a second to show.
        wait_until("the current second has passed", Duration::from_secs(10), async || {
            let updated = ok(&backend.post(&path, &form).await);
            (updated["date_updated"].as_str() > before["date_updated"].as_str()).then_some(())
        })
        .await;
        assert_eq!(ok(&backend.get(&path, &[]).await)["date_created"], before["date_created"]);
    }
}

/// Returns the body of a reply to the backend, requested with these headers in place of `Host`.
async fn body_with_headers(world: &World, path: &str, headers: &str) -> Value {
    let mut connection = RawConnection::to(world).await;
    let request = format!("GET {path} HTTP/1.1\r\n{headers}{}\r\n", authorization(world));
    connection.send(request).await;
    let answer = connection.receive().await;
    assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
    answer.json()
}

/// Returns the paths of one resource of every kind, and of every list.
async fn one_of_everything(world: &World) -> Vec<String> {
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenges = [world.challenge(&enrollment, &[]).await, world.challenge(&enrollment, &[]).await];
    let form = [("Identity", "user-0002"), ("FactorType", "push")];
    let tokens = format!("/v2/Services/{service}/AccessTokens");
    let token = created(&world.backend().post(&tokens, &form).await);
    let entity = entity(&service, "user-0001");
    vec![
        "/v2/Services".to_owned(),
        format!("/v2/Services/{service}"),
        format!("{tokens}/{}", token["sid"].as_str().unwrap()),
        format!("/v2/Services/{service}/Entities"),
        entity.clone(),
        format!("{entity}/Factors"),
        format!("{entity}/Factors/{}", enrollment.factor_sid),
        // More than one page, so that the list has every URL.
        format!("{entity}/Challenges?PageSize=1&FactorSid={}", enrollment.factor_sid),
        format!("{entity}/Challenges/{}", challenges[0]["sid"].as_str().unwrap()),
    ]
}

#[tokio::test]
async fn response_urls_begin_with_the_scheme_and_host_of_the_request() {
    let world = World::ephemeral();
    let paths = one_of_everything(&world).await;
    for (headers, base) in [
        ("Host: verify.twilio.com\r\n", "http://verify.twilio.com"),
        ("Host: verify.twilio.com\r\nX-Forwarded-Proto: https\r\n", "https://verify.twilio.com"),
        ("Host: owl.test:8443\r\nX-Forwarded-Proto: https, http\r\n", "https://owl.test:8443"),
        ("Host: [::1]:8080\r\nX-Forwarded-Proto: http\r\n", "http://[::1]:8080"),
        ("Host: owl.test\r\nX-Forwarded-Proto: gopher\r\n", "http://owl.test"),
        ("Host: owl.test\r\nX-Forwarded-Proto: \r\n", "http://owl.test"),
    ] {
        for path in &paths {
            let body = body_with_headers(&world, path, headers).await;
            let addresses = addresses(&body);
            assert!(!addresses.is_empty(), "{body}");
            for address in addresses {
                assert!(address.starts_with(&format!("{base}/v2/Services")), "{headers:?}: {address}");
            }
        }
    }
}

#[tokio::test]
async fn responses_to_creation_have_urls_with_the_requested_host() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    let headers = "Host: verify.twilio.com\r\nX-Forwarded-Proto: https\r\nContent-Length: 16\r\n";
    connection
        .send(format!("POST /v2/Services HTTP/1.1\r\n{headers}{}\r\nFriendlyName=Owl", authorization(&world)))
        .await;
    let made = connection.receive().await;
    assert_eq!(made.status, 201, "{made:?}");
    let sid = made.json()["sid"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["url"], format!("https://verify.twilio.com/v2/Services/{sid}"));
}

#[tokio::test]
async fn configured_public_url_overrides_the_requested_host() {
    for given in ["https://verify.owl.test", "https://verify.owl.test/"] {
        let world = World::ephemeral_with(&["--public-url", given]);
        let paths = one_of_everything(&world).await;
        for headers in ["Host: verify.twilio.com\r\n", "Host: a\r\nX-Forwarded-Proto: http\r\n"] {
            for path in &paths {
                for address in addresses(&body_with_headers(&world, path, headers).await) {
                    assert!(address.starts_with("https://verify.owl.test/v2/Services"), "{address}");
                }
            }
        }
    }
}

#[tokio::test]
async fn invalid_host_header_does_not_appear_in_response_urls() {
    let world = World::ephemeral();
    let paths = one_of_everything(&world).await;
    let long = format!("Host: {}\r\n", "x".repeat(5000));
    for headers in [
        "Host: \r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a?b=c\r\n",
        "Host: a#b\r\n",
        "Host: a b\r\n",
        "Host: a\"b\r\n",
        "Host: <script>\r\n",
        "Host: a%2fb\r\n",
        "Host: a\\b\r\n",
        &long,
    ] {
        for path in &paths {
            for address in addresses(&body_with_headers(&world, path, headers).await) {
                assert!(address.starts_with(&format!("{}/v2/Services", world.server.url())), "{address}");
            }
        }
    }
}

#[tokio::test]
async fn resource_links_lead_to_the_named_resources() {
    let world = World::ephemeral();
    let backend = world.backend();
    for path in one_of_everything(&world).await {
        let body = ok(&backend.get(&path, &[]).await);
        if let Some(url) = body["url"].as_str() {
            assert_eq!(ok(&backend.get(url, &[]).await), body, "{url}");
        }
        for (name, link) in body["links"].as_object().into_iter().flatten() {
            let reply = backend.get(link.as_str().unwrap(), &[]).await;
            assert_ne!(reply.status, 404, "{name} leads nowhere: {link}");
        }
    }
}
