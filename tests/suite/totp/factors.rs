//! Creation, verification and update of TOTP factors.

use harness::Http;
use serde_json::{Value, json};

use super::{SECRET, TotpFixture, assert_status, create, ok};
use crate::world::{World, assert_error, created, entity, on_every_database};

#[tokio::test]
async fn totp_factor_is_returned_with_every_documented_key_and_its_secret_only_once() {
    let world = World::ephemeral();
    let service = world.service().await;
    let form = [
        ("FriendlyName", "Anna's phone: 1"),
        ("Binding.Secret", &*SECRET.to_lowercase()),
        ("Config.Alg", "sha256"),
        ("Config.TimeStep", "60"),
        ("Config.Skew", "0"),
        ("Config.CodeLength", "8"),
        ("Metadata", r#"{"os":"Android"}"#),
        // Parameters of push are ignored.
        ("Binding.Alg", "ES256"),
        ("Binding.PublicKey", "nonsense"),
        ("Config.NotificationPlatform", "sms"),
    ];
    let made = created(&create(&world, &service, "user-0001", &form).await);
    let (entity_sid, date) = (made["entity_sid"].as_str().unwrap(), made["date_created"].as_str().unwrap());
    assert!(made["sid"].as_str().unwrap().starts_with("YF02") && entity_sid.starts_with("YE"), "{made}");
    let path = format!("{}/Factors/{}", entity(&service, "user-0001"), made["sid"].as_str().unwrap());
    let mut expected = json!({
        "sid": made["sid"],
        "account_sid": world.server.account_sid(),
        "service_sid": service,
        "entity_sid": entity_sid,
        "identity": "user-0001",
        "binding": {
            "secret": SECRET,
            "uri": format!(
                "otpauth://totp/Owl%20Bank:Anna%27s%20phone%3A%201?secret={SECRET}&issuer=Owl%20Bank\
                 &algorithm=SHA256&digits=8&period=60"
            ),
        },
        "options": null,
        "date_created": date,
        "date_updated": date,
        "friendly_name": "Anna's phone: 1",
        "status": "unverified",
        "factor_type": "totp",
        "config": { "alg": "sha256", "skew": 0, "code_length": 8, "time_step": 60 },
        "metadata": { "os": "Android" },
        "url": format!("{}{path}", world.server.url()),
    });
    assert_eq!(made, expected);

    let members = expected.as_object_mut().unwrap();
    members.remove("binding");
    members.remove("options");
    let fetched = ok(&world.backend().get(&path, &[]).await);
    assert_eq!(fetched, expected);
    let updated = ok(&world.backend().post(&path, &[]).await);
    assert_eq!(updated, expected, "an update without parameters changes nothing");

    // One list has factors of all types.
    let (_, phone) = world.enrolled(device::Style::Ios, &service, "user-0001").await;
    let list = format!("{}/Factors", entity(&service, "user-0001"));
    let listed = ok(&world.backend().get(&list, &[]).await);
    assert_eq!(listed["factors"][0], expected);
    assert_eq!(listed["factors"][1]["sid"], phone.factor_sid.as_str());
    assert_eq!(listed["factors"].as_array().unwrap().len(), 2);

    assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
    assert_error(&world.backend().get(&path, &[]).await, 404, 20404);
    assert_error(&world.backend().post(&path, &[("AuthPayload", "123456")]).await, 404, 20404);
    assert_error(&world.backend().delete(&path, &[]).await, 404, 20404);
}

#[tokio::test]
async fn generated_secret_is_as_long_as_the_hmac_and_differs_each_time() {
    let world = World::ephemeral();
    let service = world.service().await;
    let mut secrets = Vec::new();
    for (algorithm, characters) in [("sha1", 32), ("sha1", 32), ("sha256", 52), ("sha512", 103)] {
        let made = created(&create(&world, &service, "user-0001", &[("Config.Alg", algorithm)]).await);
        let secret = made["binding"]["secret"].as_str().unwrap().to_owned();
        assert!(secret.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')), "{secret}");
        assert_eq!(secret.len(), characters, "{algorithm}");
        assert!(!secrets.contains(&secret));
        secrets.push(secret);
    }
}

#[tokio::test]
async fn service_defaults_are_copied_when_a_factor_is_created() {
    let world = World::ephemeral();
    let service = world.service().await;
    let path = format!("/v2/Services/{service}");
    let config = |algorithm, skew, length, step| json!({ "alg": algorithm, "skew": skew, "code_length": length, "time_step": step });
    let uri = |made: &Value| made["binding"]["uri"].as_str().unwrap().to_owned();

    let plain = TotpFixture::create(&world, &service, "user-0001", &[]).await;
    assert_eq!(plain.created["config"], config("sha1", 1, 6, 30));
    assert!(uri(&plain.created).starts_with("otpauth://totp/Owl%20Bank:Ada%27s%20phone?"));
    assert!(uri(&plain.created).ends_with("&issuer=Owl%20Bank&algorithm=SHA1&digits=6&period=30"));

    let settings =
        [("Totp.Issuer", "Owls é"), ("Totp.TimeStep", "40"), ("Totp.CodeLength", "8"), ("Totp.Skew", "2")];
    ok(&world.backend().post(&path, &settings).await);
    let made = created(&create(&world, &service, "user-0001", &[]).await);
    assert_eq!(made["config"], config("sha1", 2, 8, 40));
    assert!(uri(&made).starts_with("otpauth://totp/Owls%20%C3%A9:"), "{made}");
    let chosen = [
        ("Config.Alg", "sha512"),
        ("Config.TimeStep", "20"),
        ("Config.CodeLength", "3"),
        ("Config.Skew", "0"),
    ];
    let made = created(&create(&world, &service, "user-0001", &chosen).await);
    assert_eq!(made["config"], config("sha512", 0, 3, 20));
    // The app of the first factor does not learn of the new settings, so they do not apply to it.
    assert_eq!(plain.stored(&world).await["config"], config("sha1", 1, 6, 30));
    assert_status(&plain.update(&world, &[("AuthPayload", &plain.code(0))]).await, 200, "verified");
}

#[tokio::test]
async fn factor_parameters_of_totp_outside_their_limits_are_refused() {
    let world = World::ephemeral();
    let service = world.service().await;
    let factors = format!("{}/Factors", entity(&service, "user-0001"));
    let backend = world.backend();
    assert_error(&backend.post(&factors, &[("FriendlyName", "A")]).await, 400, 20001);
    assert_error(&backend.post(&factors, &[("FactorType", "totp")]).await, 400, 20001);
    let (long_name, map) = ("x".repeat(65), format!(r#"{{"a":"{}"}}"#, "x".repeat(1020)));
    let (short, long) = ("GEZDGNBVGY3TQOI", format!("{}A", "A".repeat(206)));
    for (name, value, code) in [
        ("FriendlyName", &*long_name, 60306),
        ("Config.Alg", "SHA1", 60306),
        ("Config.Alg", "md5", 60306),
        ("Config.TimeStep", "19", 60306),
        ("Config.TimeStep", "61", 60306),
        ("Config.TimeStep", "30.0", 60306),
        ("Config.Skew", "-1", 60306),
        ("Config.Skew", "3", 60306),
        ("Config.CodeLength", "2", 60306),
        ("Config.CodeLength", "9", 60306),
        ("Metadata", "[]", 60306),
        ("Metadata", &*map, 60306),
        // Nine bytes, 129 bytes, and characters that are not base32.
        ("Binding.Secret", short, 60314),
        ("Binding.Secret", &*long, 60314),
        ("Binding.Secret", "GEZD GNBV GY3T QOJQ", 60314),
        ("Binding.Secret", "GEZDGNBVGY3TQOJ1", 60314),
        ("Binding.Secret", "GEZDGNBV=GY3TQOJQ", 60314),
        ("Binding.Secret", "========", 60314),
    ] {
        let reply = create(&world, &service, "user-0001", &[(name, value)]).await;
        assert_error(&reply, 400, code);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(name) && !message.contains("GEZD"), "{message}");
    }
    assert_error(&backend.get(&factors, &[]).await, 404, 20404);
    for (name, value) in [
        ("Binding.Secret", ""),
        ("Binding.Secret", "GEZDGNBVGY3TQOJQ"),
        ("Binding.Secret", &*"A".repeat(205)),
        ("Config.TimeStep", "20"),
        ("Config.TimeStep", "60"),
        ("Config.CodeLength", "3"),
        ("Config.CodeLength", "8"),
        ("Config.Skew", "0"),
        ("Config.Skew", "2"),
    ] {
        created(&create(&world, &service, "user-0001", &[(name, value)]).await);
    }
    let twice = b"FactorType=totp&FriendlyName=A&Binding.Secret=A&Binding.Secret=B".to_vec();
    let reply = backend.raw_body(&factors, "application/x-www-form-urlencoded", twice).await;
    assert_error(&reply, 400, 60306);
    let unknown = format!("VA{}", "0".repeat(32));
    assert_error(&create(&world, &unknown, "user-0001", &[]).await, 404, 20404);
}

on_every_database! {
    async fn secret_can_be_imported_once_into_an_entity(world: World) {
        let service = world.service().await;
        let import = async |identity: &str, secret: &str, more: &[(&str, &str)]| {
            create(&world, &service, identity, &[&[("Binding.Secret", secret)], more].concat()).await
        };
        let made = created(&import("user-0001", &format!("{SECRET}===="), &[]).await);
        assert_eq!(made["binding"]["secret"], SECRET);
        // The bytes are compared, whatever the text and the settings are.
        for (secret, more) in [
            (SECRET.to_owned(), &[][..]),
            (SECRET.to_lowercase(), &[("Config.Alg", "sha512")][..]),
            (format!("{SECRET}="), &[("FriendlyName", "Tablet"), ("Config.CodeLength", "8")][..]),
        ] {
            assert_error(&import("user-0001", &secret, more).await, 409, 60317);
        }
        created(&import("user-0001", &format!("{SECRET}AA"), &[]).await);
        created(&import("user-0002", SECRET, &[]).await);
        // After a deletion, the secret is new again.
        let path = format!("{}/Factors/{}", entity(&service, "user-0001"), made["sid"].as_str().unwrap());
        assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
        created(&import("user-0001", SECRET, &[]).await);
    }
}

#[tokio::test]
async fn entity_can_have_100_totp_factors_besides_its_push_factors() {
    let world = World::ephemeral();
    let service = world.service().await;
    world.enrolled(device::Style::Android, &service, "user-0001").await;
    let mut last = String::new();
    for _ in 0..100 {
        last = TotpFixture::create(&world, &service, "user-0001", &[]).await.path;
    }
    let refused = create(&world, &service, "user-0001", &[]).await;
    assert_error(&refused, 400, 60315);
    let message = "Reached max limit of 100 totp Factors associated per Entity";
    assert_eq!(refused.json()["message"], message);
    world.enrolled(device::Style::Android, &service, "user-0001").await;
    assert_eq!(world.backend().delete(&last, &[]).await.status, 204);
    created(&create(&world, &service, "user-0001", &[]).await);
}

on_every_database! {
    async fn factor_is_verified_by_the_right_code_within_five_wrong_ones(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::create(&world, &service, "user-0001", &[]).await;
        // These are no codes, so they do not count.
        for malformed in ["12", "123456789", "12345a", " 123456", "123 456", "١٢٣٤٥٦"] {
            assert_error(&factor.update(&world, &[("AuthPayload", malformed)]).await, 400, 60306);
        }
        // A code of another length is wrong, and counts.
        let right = factor.code(0);
        for wrong in [factor.wrong_code(), factor.wrong_code(), right[1..].to_owned(), format!("{right}0")] {
            assert_status(&factor.update(&world, &[("AuthPayload", &wrong)]).await, 200, "unverified");
        }
        let before = factor.stored(&world).await;
        assert_eq!(before["date_updated"], before["date_created"]);
        let verified = factor.update(&world, &[("AuthPayload", &factor.code(0))]).await;
        assert_status(&verified, 200, "verified");
        assert!(verified.json().get("binding").is_none(), "{verified:?}");
        // A verified factor ignores codes: this call does not check a login.
        for _ in 0..7 {
            let again = factor.update(&world, &[("AuthPayload", &factor.wrong_code())]).await;
            assert_eq!(ok(&again), ok(&verified));
        }
        assert_error(&factor.update(&world, &[("AuthPayload", "12")]).await, 400, 60306);

        let locked = TotpFixture::create(&world, &service, "user-0001", &[]).await;
        for wrong in locked.wrong_codes(5) {
            assert_status(&locked.update(&world, &[("AuthPayload", &wrong)]).await, 200, "unverified");
        }
        for code in [locked.code(0), locked.wrong_code()] {
            let refused = locked.update(&world, &[("AuthPayload", &code)]).await;
            assert_error(&refused, 429, 60310);
            assert_eq!(refused.header("retry-after"), None, "waiting does not help");
        }
        // A refused request changes nothing, and an update without a code still works.
        let form = [("FriendlyName", "New"), ("AuthPayload", "000000")];
        assert_error(&locked.update(&world, &form).await, 429, 60310);
        assert_eq!(locked.stored(&world).await["friendly_name"], "Ada's phone");
        let renamed = locked.update(&world, &[("FriendlyName", "New")]).await;
        assert_eq!(ok(&renamed)["friendly_name"], "New");
        assert_error(&locked.challenge(&world, &[]).await, 403, 60318);
    }
}

on_every_database! {
    async fn new_settings_apply_before_the_code_and_even_if_it_is_wrong(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::create(&world, &service, "user-0001", &[]).await;
        let config = |algorithm: &str, skew: i64, length: i64, step: i64| {
            json!({ "alg": algorithm, "skew": skew, "code_length": length, "time_step": step })
        };
        let secret = factor.created["binding"]["secret"].as_str().unwrap();
        let other = |algorithm: &str, digits: i64, period: i64| {
            let uri = format!("otpauth://totp/a:b?secret={secret}&algorithm={algorithm}&digits={digits}&period={period}");
            let app = device::AuthenticatorApp::from_uri(&uri).unwrap();
            app.code(domain::Clock::now(&app::SystemClock))
        };
        let form = [("Config.Alg", "sha256"), ("Config.CodeLength", "8"), ("AuthPayload", &*factor.code(0))];
        let changed = factor.update(&world, &form).await;
        assert_status(&changed, 200, "unverified");
        assert_eq!(changed.json()["config"], config("sha256", 1, 8, 30));
        let code = other("SHA256", 7, 60);
        let form = [
            ("Config.CodeLength", "7"),
            ("Config.TimeStep", "60"),
            ("Config.Skew", "2"),
            ("FriendlyName", "Tablet"),
            ("AuthPayload", &*code),
        ];
        let verified = factor.update(&world, &form).await;
        assert_status(&verified, 200, "verified");
        assert_eq!(verified.json()["config"], config("sha256", 2, 7, 60));
        assert_eq!(verified.json()["friendly_name"], "Tablet");
        assert_eq!(factor.stored(&world).await, verified.json());
        // The used code stays used, also with another time step and back.
        ok(&factor.update(&world, &[("Config.TimeStep", "20")]).await);
        ok(&factor.update(&world, &[("Config.TimeStep", "60")]).await);
        assert_status(&factor.challenge(&world, &[("AuthPayload", &code)]).await, 201, "pending");
        // The settings of a verified factor can change too, and parameters of push are ignored.
        let form = [("Config.Alg", "sha1"), ("Config.NotificationPlatform", "sms"), ("Binding.Secret", SECRET)];
        assert_eq!(ok(&factor.update(&world, &form).await)["config"], config("sha1", 2, 7, 60));
        for (name, bad) in [
            ("Config.Alg", "md5"),
            ("Config.TimeStep", "19"),
            ("Config.Skew", "3"),
            ("Config.CodeLength", "9"),
            ("FriendlyName", &*"x".repeat(65)),
        ] {
            assert_error(&factor.update(&world, &[(name, bad)]).await, 400, 60306);
        }
    }
}

/// Every parser accepts the URI of a factor whose names contain every character that has a meaning in a URI.
#[tokio::test]
async fn uri_with_reserved_characters_is_parsed_to_the_same_names() {
    let world = World::ephemeral();
    let service = world.service().await;
    let path = format!("/v2/Services/{service}");
    let (issuer, name) = ("Bank: é&? #1/2", "a@b.c + %25 \"x\"");
    ok(&world.backend().post(&path, &[("Totp.Issuer", issuer)]).await);
    let factor = TotpFixture::create(&world, &service, "user-0001", &[("FriendlyName", name)]).await;
    assert_eq!((factor.app.issuer(), factor.app.account_name()), (issuer, name));
    assert_status(&factor.update(&world, &[("AuthPayload", &factor.code(0))]).await, 200, "verified");
    // An unauthenticated client gets nothing.
    assert_error(&Http::new(world.server.url()).get(&factor.path, &[]).await, 401, 20003);
}
