//! The limits of every parameter of a form: a service, an access token, an entity, a factor, a challenge.

use app::SystemClock;
use domain::Clock as _;
use serde_json::json;

use super::{
    CHALLENGE, CHALLENGES, ENTITIES, FACTOR, FACTORS, SERVICE, TOKENS, assert_accepts, assert_refuses,
    assert_requires, invalid, missing, refused,
};
use crate::fixture::IDENTITY;
use crate::world::World;

/// Returns invalid values for a name parameter of 1 to 64 characters.
fn bad_names() -> [String; 4] {
    ["x".repeat(65), "ü".repeat(65), "two\nlines".to_owned(), "bell\u{7}".to_owned()]
}

const BAD_MAPS: [&str; 10] = [
    "text",
    "{",
    "[]",
    "nul",
    "\"text\"",
    r#"{"n":1}"#,
    r#"{"n":null}"#,
    r#"{"n":true}"#,
    r#"{"n":{"a":"b"}}"#,
    r#"{"n":"\u0000"}"#,
];

/// Returns a JSON object with one string member and a total length of `length` characters.
fn map_of_length(length: usize) -> String {
    format!(r#"{{"k":"{}"}}"#, "x".repeat(length - 8))
}

#[tokio::test]
async fn service_creation_parameters_outside_their_limits_are_refused() {
    let long = "x".repeat(257);
    let mut rows = Vec::new();
    for (name, values) in [
        ("CodeLength", &["3", "11", "-4", "4.5", "four", "99999999999999999999"][..]),
        ("LookupEnabled", &["yes", "1", "truefalse"]),
        ("Psd2Enabled", &["yes"]),
        ("SkipSmsToLandlines", &["yes"]),
        ("DtmfInputRequired", &["yes"]),
        ("TtsName", &[&long, "a\tb"]),
        ("DoNotShareWarningEnabled", &["yes"]),
        ("CustomCodeEnabled", &["yes"]),
        ("DefaultTemplateSid", &["HJ1", "VA0123456789abcdef0123456789abcdef"]),
        ("VerifyEventSubscriptionEnabled", &["yes"]),
        ("Push.IncludeDate", &["yes", "0"]),
        (
            "Push.ApnCredentialSid",
            &["CR1", "CR0123456789abcdef0123456789abcdeg", "AC0123456789abcdef0123456789abcdef"],
        ),
        ("Push.FcmCredentialSid", &["CR1"]),
        ("Totp.Issuer", &[&long]),
        ("Totp.TimeStep", &["19", "61"]),
        ("Totp.CodeLength", &["2", "9"]),
        ("Totp.Skew", &["-1", "3"]),
        ("Whatsapp.MsgServiceSid", &["MG1"]),
        ("Whatsapp.From", &[&long]),
        ("Passkeys.RelyingParty.Id", &[&long]),
        ("Passkeys.RelyingParty.Name", &[&long]),
        ("Passkeys.RelyingParty.Origins", &[&long, "a,,b", ","]),
        ("Passkeys.AuthenticatorAttachment", &["usb", "Platform"]),
        ("Passkeys.DiscoverableCredentials", &["maybe"]),
        ("Passkeys.UserVerification", &["maybe"]),
    ] {
        rows.extend(values.iter().map(|value| ([(name, *value)], invalid(name))));
    }
    let names = bad_names();
    let bad_name = refused(400, 20002, "Invalid FriendlyName");
    rows.extend(names.iter().map(|name| ([("FriendlyName", name.as_str())], bad_name.clone())));
    for pattern in ["/v2/Services", SERVICE] {
        assert_refuses(pattern, &rows).await;
    }
    assert_requires("/v2/Services", &[], &["FriendlyName"]).await;
    let longest = "ü".repeat(64);
    assert_accepts(
        "/v2/Services",
        201,
        &[
            &[("FriendlyName", "x")],
            &[("FriendlyName", &longest)],
            &[("FriendlyName", "12345 digits are no matter, <b>nor</b> are signs")],
            &[("CodeLength", "4")],
            &[("CodeLength", "10")],
            &[("Totp.TimeStep", "20"), ("Totp.CodeLength", "8"), ("Totp.Skew", "2")],
        ],
    )
    .await;
}

#[tokio::test]
async fn update_with_one_invalid_parameter_changes_nothing() {
    let rows: [(&[_], _); 2] = [
        (&[("FriendlyName", "Good"), ("Push.IncludeDate", "true"), ("Totp.Skew", "9")], invalid("Totp.Skew")),
        (&[("TtsName", ""), ("Passkeys.UserVerification", "no")], invalid("Passkeys.UserVerification")),
    ];
    assert_refuses(SERVICE, &rows).await;
    let rows: [(&[_], _); 3] = [
        (
            &[("FriendlyName", "Good"), ("Config.NotificationPlatform", "sms")],
            invalid("Config.NotificationPlatform"),
        ),
        (
            &[("FriendlyName", "Good"), ("Config.NotificationPlatform", "apn")],
            missing("Config.NotificationToken"),
        ),
        (
            &[("FriendlyName", "Good"), ("AuthPayload", "MEUCIGRkXWOju0Dqc2++baMY5wSwlb1sKkM0ZSjvTfal6Y+M")],
            refused(403, 60311, "Factor verification failed"),
        ),
    ];
    assert_refuses(FACTOR, &rows).await;
}

#[tokio::test]
async fn access_token_parameters_outside_their_limits_are_refused() {
    let token =
        |parameter: &str| refused(400, 60305, &format!("Access Token parameters are invalid: {parameter}"));
    let mut rows = vec![
        (("Identity", ""), token("Identity")),
        (("FactorType", ""), token("FactorType")),
        (("FactorType", "totp"), refused(400, 60369, "Factor type invalid or not provided")),
        (("FactorType", "passkeys"), refused(400, 60369, "Factor type invalid or not provided")),
        (("FactorType", "sms"), invalid("FactorType")),
        (("FactorType", "Push"), invalid("FactorType")),
    ];
    let identities = bad_identities();
    rows.extend(identities.iter().map(|identity| (("Identity", identity.as_str()), invalid("Identity"))));
    let names = bad_names();
    rows.extend(
        names.iter().map(|name| (("FactorFriendlyName", name.as_str()), invalid("FactorFriendlyName"))),
    );
    for ttl in ["59", "301", "0", "-60", "60.5", "1e2", "sixty", " 60 "] {
        rows.push((("Ttl", ttl), invalid("Ttl")));
    }
    let rows: Vec<_> = rows.into_iter().map(|(change, refusal)| ([change], refusal)).collect();
    assert_refuses(TOKENS, &rows).await;

    let world = World::ephemeral();
    let path = format!("/v2/Services/{}/AccessTokens", world.service().await);
    token("Identity").assert(&world.backend().post(&path, &[("FactorType", "push")]).await, "no identity");
    token("FactorType").assert(&world.backend().post(&path, &[("Identity", IDENTITY)]).await, "no type");
    assert_accepts(
        TOKENS,
        201,
        &[&[("Ttl", "60")], &[("Ttl", "300")], &[("Ttl", "")], &[("FactorFriendlyName", "")]],
    )
    .await;
}

fn bad_identities() -> [String; 8] {
    [
        "seven-7",
        &"x".repeat(65),
        "with space",
        "user@owl.test",
        "üüüüüüüü",
        "user/0001",
        "user.0001",
        "user:0001",
    ]
    .map(str::to_owned)
}

#[tokio::test]
async fn entity_identity_outside_its_limits_is_refused() {
    let identities = bad_identities();
    let mut rows: Vec<_> =
        identities.iter().map(|identity| ([("Identity", identity.as_str())], invalid("Identity"))).collect();
    rows.push(([("Identity", IDENTITY)], refused(409, 60301, "Entity already exists")));
    assert_refuses(ENTITIES, &rows).await;
    assert_requires(ENTITIES, &[], &["Identity"]).await;
    let longest = "x".repeat(64);
    assert_accepts(ENTITIES, 201, &[&[("Identity", "eight_-8")], &[("Identity", &longest)]]).await;
}

#[tokio::test]
async fn factor_parameters_outside_their_limits_are_refused() {
    let long = |length: usize| "x".repeat(length);
    let (app_id, token, version, map) = (long(101), long(4097), long(65), map_of_length(1025));
    let unserved = refused(400, 60369, "Factor type invalid or not provided");
    let mut rows = vec![
        (vec![("FactorType", "passkeys")], unserved),
        (vec![("FactorType", "sms")], invalid("FactorType")),
        (vec![("FactorType", "PUSH")], invalid("FactorType")),
        (vec![("Config.AppId", &app_id)], invalid("Config.AppId")),
        (vec![("Config.NotificationPlatform", "sms")], invalid("Config.NotificationPlatform")),
        (vec![("Config.NotificationPlatform", "APN")], invalid("Config.NotificationPlatform")),
        (vec![("Config.NotificationPlatform", "apn")], missing("Config.NotificationToken")),
        (
            vec![("Config.NotificationPlatform", "fcm"), ("Config.NotificationToken", "")],
            missing("Config.NotificationToken"),
        ),
        (
            vec![("Config.NotificationPlatform", "fcm"), ("Config.NotificationToken", &token)],
            invalid("Config.NotificationToken"),
        ),
        (vec![("Config.SdkVersion", &version)], invalid("Config.SdkVersion")),
        (vec![("Metadata", &map)], invalid("Metadata")),
    ];
    let names = bad_names();
    rows.extend(names.iter().map(|name| (vec![("FriendlyName", name.as_str())], invalid("FriendlyName"))));
    rows.extend(BAD_MAPS.map(|map| (vec![("Metadata", map)], invalid("Metadata"))));
    assert_refuses(FACTORS, &rows).await;
    let required =
        ["FactorType", "FriendlyName", "Binding.PublicKey", "Config.AppId", "Config.NotificationPlatform"];
    assert_requires(FACTORS, &[], &required).await;
    let (app_id, token, version, map) = (long(100), long(4096), long(64), map_of_length(1024));
    assert_accepts(
        FACTORS,
        201,
        &[
            &[("Config.AppId", &app_id), ("Config.SdkVersion", &version), ("Metadata", &map)],
            &[("Config.NotificationPlatform", "apn"), ("Config.NotificationToken", &token)],
            &[("Config.NotificationPlatform", "none"), ("Config.NotificationToken", "dropped")],
            &[("Metadata", "{}"), ("Config.SdkVersion", "")],
        ],
    )
    .await;
}

#[tokio::test]
async fn factor_update_parameters_outside_their_limits_are_refused() {
    let (token, version) = ("x".repeat(4097), "x".repeat(65));
    let failed = refused(403, 60311, "Factor verification failed");
    let mut rows = vec![
        (("Config.NotificationPlatform", "sms"), invalid("Config.NotificationPlatform")),
        // The factor has a token for FCM.
        (("Config.NotificationPlatform", "apn"), missing("Config.NotificationToken")),
        (("Config.NotificationToken", token.as_str()), invalid("Config.NotificationToken")),
        (("Config.SdkVersion", version.as_str()), invalid("Config.SdkVersion")),
        (("AuthPayload", "no base64!"), invalid("AuthPayload")),
        (("AuthPayload", "MEUCIA"), invalid("AuthPayload")),
        (("AuthPayload", "_-_-"), invalid("AuthPayload")),
        (("AuthPayload", "123456=="), invalid("AuthPayload")),
        (("AuthPayload", "AAAA"), failed.clone()),
        (("AuthPayload", "12345678"), failed),
    ];
    let names = bad_names();
    rows.extend(names.iter().map(|name| (("FriendlyName", name.as_str()), invalid("FriendlyName"))));
    let rows: Vec<_> = rows.into_iter().map(|(change, refusal)| ([change], refusal)).collect();
    assert_refuses(FACTOR, &rows).await;
}

#[tokio::test]
async fn push_token_without_platform_is_refused() {
    let world = World::ephemeral();
    let service = world.service().await;
    let device = world.device(&service, IDENTITY).await;
    let before = world.everything().await;
    for (form, refusal) in [
        ([("Config.NotificationToken", "token")], invalid("Config.NotificationToken")),
        ([("Config.NotificationPlatform", "fcm")], missing("Config.NotificationToken")),
    ] {
        refusal.assert(&world.backend().post(&device.path(), &form).await, "of a factor without a platform");
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn challenge_parameters_outside_their_limits_are_refused() {
    let now = SystemClock.now();
    let at = |seconds: i64| now.plus_seconds(seconds).to_string();
    let (past, long_past, late, very_late) = (at(-1), at(-100_000_000), at(3700), at(100_000_000));
    let (message, map) = ("x".repeat(257), map_of_length(1025));
    let field = |label: usize, value: usize| {
        json!({ "label": "l".repeat(label), "value": "v".repeat(value) }).to_string()
    };
    let (long_label, long_value, no_label) = (field(37, 1), field(1, 129), field(0, 1));
    let mut rows = vec![
        (vec![("FactorSid", "YF1")], invalid("FactorSid")),
        (vec![("FactorSid", "YC0123456789abcdef0123456789abcdef")], invalid("FactorSid")),
        (vec![("Details.Message", message.as_str())], invalid("Details.Message")),
        (vec![("HiddenDetails", map.as_str())], invalid("HiddenDetails")),
        (vec![("Details.Fields", r#"{"label":"a","value":"b"}"#); 21], invalid("Details.Fields")),
    ];
    for date in [
        past.as_str(),
        &long_past,
        &late,
        &very_late,
        "tomorrow",
        "2026-01-01",
        "1767225600",
        "2026-13-01T00:00:00Z",
        "99999-01-01T00:00:00Z",
    ] {
        rows.push((vec![("ExpirationDate", date)], invalid("ExpirationDate")));
    }
    for field in [
        long_label.as_str(),
        &long_value,
        &no_label,
        "text",
        "{}",
        "[]",
        "null",
        r#"{"label":"a"}"#,
        r#"{"value":"b"}"#,
        r#"{"label":1,"value":"b"}"#,
        r#"{"label":"a","value":null}"#,
        r#"{"label":"a","value":"\u0000"}"#,
        r#"[{"label":"a","value":"b"}]"#,
    ] {
        rows.push((vec![("Details.Fields", field)], invalid("Details.Fields")));
        // An invalid field is refused even beside a valid one.
        rows.push((
            vec![("Details.Fields", r#"{"label":"a","value":"b"}"#), ("Details.Fields", field)],
            invalid("Details.Fields"),
        ));
    }
    rows.extend(BAD_MAPS.map(|map| (vec![("HiddenDetails", map)], invalid("HiddenDetails"))));
    // Each is within its limit, but together they exceed the longest answer of a device.
    let longest = field(36, 128);
    rows.push((vec![("Details.Fields", longest.as_str()); 20], invalid("Details")));
    assert_refuses(CHALLENGES, &rows).await;
    assert_requires(CHALLENGES, &[], &["FactorSid", "Details.Message"]).await;

    let (message, map, field) = ("🦉".repeat(256), map_of_length(1024), field(36, 100));
    let latest = at(3590);
    let many = vec![("Details.Fields", field.as_str()); 20];
    assert_accepts(
        CHALLENGES,
        201,
        &[
            &[("Details.Message", &message), ("HiddenDetails", &map)],
            &many,
            &[("Details.Fields", &longest)],
            &[("Details.Fields", r#"{"label":"a","value":"","more":"ignored"}"#)],
            &[("ExpirationDate", &latest)],
            &[("ExpirationDate", ""), ("HiddenDetails", ""), ("Details.Fields", "")],
            &[("HiddenDetails", "null")],
            &[("HiddenDetails", "{}")],
        ],
    )
    .await;
}

#[tokio::test]
async fn challenge_update_parameters_outside_their_limits_are_refused() {
    let map = map_of_length(1025);
    let mut rows = vec![(vec![("Metadata", map.as_str())], invalid("Metadata"))];
    rows.extend(BAD_MAPS.map(|map| (vec![("Metadata", map)], invalid("Metadata"))));
    rows.push((vec![("Metadata", "")], missing("AuthPayload")));
    rows.push((vec![("Metadata", "null")], missing("AuthPayload")));
    rows.push((vec![("Metadata", ""), ("AuthPayload", "")], missing("AuthPayload")));
    rows.push((vec![("Status", "approved"), ("Metadata", "")], missing("AuthPayload")));
    assert_refuses(CHALLENGE, &rows).await;
}
