//! What the server must refuse, and how it says so: every parameter's limits, hostile keys, and answers
//! that nobody gave. Nothing is written by a refused request.

use app::SystemClock;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use device::{Answer, SigningKey, Style};
use domain::Clock as _;
use harness::{Http, Reply};
use serde_json::{Map, Value, json};

use crate::matrix::{IDENTITY, Stage};
use crate::world::{World, assert_error, created, entity, on_every_database};

const FORM: &str = "application/x-www-form-urlencoded";

/// Status, code, and how the message begins.
#[derive(Clone, Debug)]
struct Refusal(u16, i64, String);

impl Refusal {
    #[track_caller]
    fn assert(&self, reply: &Reply, what: &str) {
        let Self(status, code, beginning) = self;
        assert_eq!(reply.status, *status, "{what}: {reply:?}");
        assert_error(reply, *status, *code);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(beginning), "{what}: {message:?} does not begin with {beginning:?}");
    }
}

/// The parameter has a value that it can't have.
fn invalid(parameter: &str) -> Refusal {
    Refusal(400, 60306, format!("Invalid Request: {parameter} must "))
}

/// The parameter is not there.
fn missing(parameter: &str) -> Refusal {
    Refusal(400, 20001, format!("Missing required parameter {parameter} in the post body"))
}

fn refused(status: u16, code: i64, message: &str) -> Refusal {
    Refusal(status, code, message.to_owned())
}

fn not_found() -> Refusal {
    refused(404, 20404, "The requested resource /")
}

type Form = Vec<(&'static str, String)>;

/// The form with these parameters in place of its own of the same name.
fn with(form: &Form, changes: &[(&'static str, &str)]) -> Form {
    let mut changed = without(form, &changes.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    changed.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
    changed
}

/// The form without these parameters.
fn without(form: &Form, names: &[&str]) -> Form {
    form.iter().filter(|(name, _)| !names.contains(name)).cloned().collect()
}

async fn post(client: &Http, path: &str, form: &Form) -> Reply {
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.post(path, &form).await
}

const SERVICE: &str = "/v2/Services/{ServiceSid}";
const TOKENS: &str = "/v2/Services/{ServiceSid}/AccessTokens";
const ENTITIES: &str = "/v2/Services/{ServiceSid}/Entities";
const WEBHOOKS: &str = "/v2/Services/{ServiceSid}/Webhooks";
const FACTORS: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors";
const FACTOR: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}";
const CHALLENGES: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges";
const CHALLENGE: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}";

/// Posts, for each row, the form with which this route succeeds, changed as the row says; checks that
/// all are refused as they say, and that nothing has come of any.
async fn assert_refuses<'v>(pattern: &str, rows: &[(impl AsRef<[(&'static str, &'v str)]>, Refusal)]) {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let before = world.everything().await;
    for (changes, refusal) in rows {
        let changes = changes.as_ref();
        let form = with(&stage.form(pattern), changes);
        let reply = post(&world.backend(), &stage.path(pattern), &form).await;
        let what: Vec<_> = changes.iter().map(|(name, value)| format!("{name}={value:.60}")).collect();
        refusal.assert(&reply, &format!("{pattern}: {what:?}"));
    }
    assert_eq!(world.everything().await, before);
}

/// Posts the form with which this route succeeds without each of these parameters, and with each empty.
async fn assert_requires(pattern: &str, more: &[(&'static str, &str)], names: &[&'static str]) {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let before = world.everything().await;
    for name in names {
        let good = with(&stage.form(pattern), more);
        for form in [without(&good, &[name]), with(&good, &[(name, "")])] {
            let reply = post(&world.backend(), &stage.path(pattern), &form).await;
            missing(name).assert(&reply, pattern);
        }
    }
    assert_eq!(world.everything().await, before);
}

/// Checks, for each row, that this route takes the form with which it succeeds, changed as the row says.
async fn assert_accepts(pattern: &str, status: u16, rows: &[&[(&'static str, &str)]]) {
    let world = World::ephemeral();
    for changes in rows {
        let stage = Stage::set(&world).await;
        let form = with(&stage.form(pattern), changes);
        let reply = post(&world.backend(), &stage.path(pattern), &form).await;
        assert_eq!(reply.status, status, "{pattern}: {changes:?}: {reply:?}");
    }
}

/// Texts for a parameter that takes 1 to 64 characters, none of which it takes.
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

/// A JSON object with one text in it, of so many characters.
fn map_of_length(length: usize) -> String {
    format!(r#"{{"k":"{}"}}"#, "x".repeat(length - 8))
}

#[tokio::test]
async fn limits_of_a_service() {
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
async fn a_refused_update_changes_nothing_of_what_is_good_in_it() {
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
async fn limits_of_an_access_token() {
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
async fn limits_of_an_entity() {
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
async fn limits_of_a_factor() {
    let long = |length: usize| "x".repeat(length);
    let (app_id, token, version, map) = (long(101), long(4097), long(65), map_of_length(1025));
    let unserved = refused(400, 60369, "Factor type invalid or not provided");
    let mut rows = vec![
        (vec![("FactorType", "totp")], unserved.clone()),
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
async fn limits_of_an_update_of_a_factor() {
    let (token, version) = ("x".repeat(4097), "x".repeat(65));
    let failed = refused(403, 60311, "Factor verification failed");
    let mut rows = vec![
        (("Config.NotificationPlatform", "sms"), invalid("Config.NotificationPlatform")),
        // The token that it has is Google's.
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
async fn a_push_token_needs_a_platform() {
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
async fn an_identity_that_can_not_be_is_refused_where_it_would_be_made_and_unknown_elsewhere() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let before = world.everything().await;
    for identity in [
        "seven-7",
        &"x".repeat(65),
        "with%20space",
        "%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC",
        "user@owl.test",
        "user%2F0001",
        "%00%00%00%00%00%00%00%00",
        "%FF%FE%FF%FE%FF%FE%FF%FE",
    ] {
        let entity = format!("/v2/Services/{}/Entities/{identity}", stage.service);
        let reply = post(&world.backend(), &format!("{entity}/Factors"), &stage.form(FACTORS)).await;
        invalid("Identity").assert(&reply, identity);
        for path in [entity.clone(), format!("{entity}/Factors"), format!("{entity}/Challenges")] {
            not_found().assert(&world.backend().get(&path, &[]).await, &path);
        }
        let reply = post(&world.backend(), &format!("{entity}/Challenges"), &stage.form(CHALLENGES)).await;
        not_found().assert(&reply, identity);
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn public_keys_that_can_not_be_used() {
    const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEWYYTVIdBdoj+/nXMh8poREhce1C/vRB2n5hZm+laA7NvBsdYkpIesQHNdupjVnbxUH/3QiZVYxI/zKC7KWw8gDpDSaeut0t5q2uHWEYUxbs/vmypZamjJvclT1iOPvIr";
    const SECP256K1: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAELriRJ4jPWL1nYZXBbvdy9eEPnJqB0bDTG0zAnm/h/WeD/sLkyPtCPIPemqN8NhMuJFxIhSSxnJ02RSbWRYLr8g==";
    const ED25519: &str = "MCowBQYDK2VwAyEAi66V12bq9t0N+Yi+6jLltzyBgro7wQyqu1zBByL4pxk=";
    /// P-256, but spelt out instead of named.
    const EXPLICIT: &str = "MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABP7BuS6sgorL3opQN8FiLITStoNmUNRaFdGDFSUHL6QomxiSKaanClyC+dCY1gMFr8UfBwzAcpl8dlZb1TD0ifk=";

    let key = SigningKey::generate();
    let good = key.public_key().as_der().to_vec();
    assert_eq!(good.len(), 91);
    let encoded = |der: &[u8]| STANDARD.encode(der);
    let changed = |at: usize, byte: u8| {
        let mut der = good.clone();
        der[at] = byte;
        encoded(&der)
    };
    // The header for 33 bytes of a point, which are its first coordinate and the sign of the other.
    let compressed = {
        let mut der = good[..59].to_vec();
        (der[1], der[24], der[26]) = (57, 34, 2 + (good[90] & 1));
        encoded(&der)
    };
    let trailing = [&good[..], b"x"].concat();
    let doubled = [&good[..], &good[..]].concat();
    let identity_point = [&good[..24], &[2, 0, 0]].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", encoded(&good));
    let mut wrapped = encoded(&good);
    wrapped.insert(64, '\n');
    let private = key.to_pkcs8_base64();
    let keys = [
        ("no base64", "no base64".to_owned()),
        ("base64 of the web", encoded(&good).replace(['/', '+', 'A'], "-")),
        ("without padding", encoded(&good).trim_end_matches('=').to_owned()),
        ("with line breaks", wrapped),
        ("with a space in front", format!(" {}", encoded(&good))),
        ("PEM", pem),
        ("P-384", P384.to_owned()),
        ("secp256k1", SECP256K1.to_owned()),
        ("Ed25519", ED25519.to_owned()),
        ("explicit parameters", EXPLICIT.to_owned()),
        ("off the curve", changed(90, good[90] ^ 1)),
        ("another first coordinate", changed(30, good[30] ^ 1)),
        ("coordinates beyond the field", encoded(&[&good[..27], &[0xff; 64]].concat())),
        ("coordinates of zero", encoded(&[&good[..27], &[0; 64]].concat())),
        ("the point at infinity", encoded(&identity_point)),
        ("compressed", compressed),
        ("hybrid", changed(26, 6 + (good[90] & 1))),
        ("the bare point", encoded(&good[26..])),
        ("trailing bytes", encoded(&trailing)),
        ("twice", encoded(&doubled)),
        ("cut short", encoded(&good[..90])),
        ("another object identifier", changed(12, 2)),
        ("unused bits", changed(25, 1)),
        ("a private key", private.expose().clone()),
        ("nothing but padding", "====".to_owned()),
    ];
    let refusal = refused(400, 60314, "Factors binding format is invalid");
    let keys = keys.iter().map(|(_, key)| [("Binding.PublicKey", key.as_str())]);
    let algorithms = ["RS256", "es256", "ES384", "none"].map(|name| [("Binding.Alg", name)]);
    let rows: Vec<_> = keys.chain(algorithms).map(|change| (change, refusal.clone())).collect();
    assert_refuses(FACTORS, &rows).await;
}

on_every_database! {
    async fn what_only_the_database_knows_is_refused_and_leaves_no_trace(world: World) {
        let backend = world.backend();
        let stage = Stage::set(&world).await;
        let (factors, challenges) = (stage.path(FACTORS), stage.path(CHALLENGES));
        let own_key = stage.device.key.public_key_base64();

        // The same key again, by whomever.
        let again = with(&stage.form(FACTORS), &[("Binding.PublicKey", &own_key)]);
        let before = world.everything().await;
        let phone = Http::new(world.server.url())
            .auth(crate::world::signed_in(stage.token["token"].as_str().unwrap()));
        for client in [&backend, &phone] {
            let reply = post(client, &factors, &again).await;
            refused(409, 60317, "Factor already exists").assert(&reply, "the same key");
        }
        assert_eq!(world.everything().await, before);
        let token = stage.path("/v2/Services/{ServiceSid}/AccessTokens/{Sid}");
        assert_eq!(backend.get(&token, &[]).await.json(), stage.token, "and is not spent by that");
        // Another person may hold the same phone.
        let other = format!("{}/Factors", entity(&stage.service, "user-0002"));
        let unverified = created(&post(&backend, &other, &again).await);

        // Factors that can't be asked.
        let before = world.everything().await;
        let unverified = unverified["sid"].as_str().unwrap();
        let path = format!("{}/Challenges", entity(&stage.service, "user-0002"));
        let form = with(&stage.form(CHALLENGES), &[("FactorSid", unverified)]);
        refused(403, 60318, "Factor is unverified").assert(&post(&backend, &path, &form).await, "unverified");
        for sid in [unverified, &format!("YF03{}", "0".repeat(30))] {
            let form = with(&stage.form(CHALLENGES), &[("FactorSid", sid)]);
            not_found().assert(&post(&backend, &challenges, &form).await, "another's factor");
        }

        // What exists.
        let entities = stage.path(ENTITIES);
        let reply = backend.post(&entities, &[("Identity", IDENTITY)]).await;
        refused(409, 60301, "Entity already exists").assert(&reply, "the same identity");
        assert_eq!(world.everything().await, before);

        // The twenty-first, which fails whoever makes it, whatever the state of the others.
        for _ in 1..20 {
            created(&post(&backend, &factors, &stage.form(FACTORS)).await);
        }
        let before = world.everything().await;
        let refusal = refused(400, 60315, "Reached max limit of 20 push Factors associated per Entity");
        for client in [&backend, &phone] {
            refusal.assert(&post(client, &factors, &stage.form(FACTORS)).await, "the twenty-first");
        }
        assert_eq!(world.everything().await, before);
        assert_eq!(backend.delete(&stage.device.path(), &[]).await.status, 204);
        created(&post(&phone, &factors, &stage.form(FACTORS)).await);
    }
}

#[tokio::test]
async fn limits_of_a_challenge() {
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
        // A good one beside it does not help.
        rows.push((
            vec![("Details.Fields", r#"{"label":"a","value":"b"}"#), ("Details.Fields", field)],
            invalid("Details.Fields"),
        ));
    }
    rows.extend(BAD_MAPS.map(|map| (vec![("HiddenDetails", map)], invalid("HiddenDetails"))));
    // Each is within its limit; but no device's answer could hold them all.
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
async fn limits_of_an_update_of_a_challenge() {
    let map = map_of_length(1025);
    let mut rows = vec![(vec![("Metadata", map.as_str())], invalid("Metadata"))];
    rows.extend(BAD_MAPS.map(|map| (vec![("Metadata", map)], invalid("Metadata"))));
    rows.push((vec![("Metadata", "")], missing("AuthPayload")));
    rows.push((vec![("Metadata", "null")], missing("AuthPayload")));
    rows.push((vec![("Metadata", ""), ("AuthPayload", "")], missing("AuthPayload")));
    rows.push((vec![("Status", "approved"), ("Metadata", "")], missing("AuthPayload")));
    assert_refuses(CHALLENGE, &rows).await;
}

#[tokio::test]
async fn limits_of_lists() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let too_large = refused(400, 20007, "Page size too large");
    let mut rows = vec![
        ("PageSize=1001", too_large.clone()),
        ("PageSize=99999999999999999999999", too_large),
        ("PageSize=10&PageSize=x", invalid("PageSize")),
        ("Page=1&Page=2", invalid("Page")),
        ("PageSize=%zz", invalid("PageSize")),
        ("Page=%ff", invalid("Page")),
        ("Page=abc", invalid("Page")),
        ("Page=-1", invalid("Page")),
        ("pageToken=nonsense", invalid("PageToken")),
        ("Nonsense=%00", invalid("Nonsense")),
    ];
    for size in [
        "PageSize=0",
        "PageSize=00",
        "PageSize=-1",
        "PageSize=abc",
        "PageSize=1.5",
        "PageSize=+",
        "PageSize=0x10",
        "PageSize=1e2",
        "PageSize=%2B5",
        "PageSize=%D9%A1",
    ] {
        rows.push((size, invalid("PageSize")));
    }
    let no_way = format!("PageToken=PX{}", "0".repeat(48));
    let short = format!("PageToken=PA{}", "0".repeat(47));
    let long = format!("PageToken=PA{}", "0".repeat(49));
    let no_hex = format!("PageToken=PA{}g", "0".repeat(47));
    let signed = format!("PageToken=PA%2B{}", "0".repeat(47));
    for token in [
        "PageToken=nonsense",
        "PageToken=P",
        "PageToken=%C3%BC%C3%BC",
        &no_way,
        &short,
        &long,
        &no_hex,
        &signed,
    ] {
        rows.push((token, invalid("PageToken")));
    }
    let others = [WEBHOOKS, "/v1/Credentials", "/v1/Alerts"];
    for pattern in ["/v2/Services", ENTITIES, FACTORS, CHALLENGES].into_iter().chain(others) {
        for (query, refusal) in &rows {
            let path = format!("{}?{query}", stage.path(pattern));
            refusal.assert(&world.backend().get(&path, &[]).await, &path);
        }
    }
    for (query, refusal) in [
        ("Order=ASC", invalid("Order")),
        ("Order=newest", invalid("Order")),
        ("Order=asc&Order=desc", invalid("Order")),
        ("Status=done", invalid("Status")),
        ("Status=Pending", invalid("Status")),
        ("Status=pending&status=expired", invalid("Status")),
        ("FactorSid=YF1", invalid("FactorSid")),
        ("FactorSid=YC0123456789abcdef0123456789abcdef", invalid("FactorSid")),
    ] {
        let path = format!("{}?{query}", stage.path(CHALLENGES));
        refusal.assert(&world.backend().get(&path, &[]).await, &path);
        let device = Http::new(world.server.url()).auth(stage.device.auth());
        refusal.assert(&device.get(&path, &[]).await, &path);
    }
    // Empty is absent, and who filters by what is not there finds nothing.
    for query in ["PageSize=&Page=&PageToken=&Order=&Status=&FactorSid=", "pAGEsIZE=7&ORDER=desc"] {
        let reply = world.backend().get(&format!("{}?{query}", stage.path(CHALLENGES)), &[]).await;
        assert_eq!(reply.json()["challenges"].as_array().map(Vec::len), Some(1), "{reply:?}");
    }
    let unknown = format!("{}?FactorSid=YF03{}", stage.path(CHALLENGES), "0".repeat(30));
    assert_eq!(world.backend().get(&unknown, &[]).await.json()["challenges"], json!([]));
}

#[tokio::test]
async fn bodies_that_are_no_forms_are_refused_by_the_name_of_the_parameter() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
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
        // Compressed: by whatever name.
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
        let form = with(&stage.form(pattern), &[(name, "{}"), (name, "{}")]);
        named(name, "be sent only once")
            .assert(&post(&world.backend(), &stage.path(pattern), &form).await, pattern);
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn only_forms_are_taken() {
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
        // Without a body its type does not matter.
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
async fn what_nobody_asked_for_is_ignored() {
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
    // Names have a case in bodies, and only there.
    missing("FriendlyName")
        .assert(&backend.raw_body("/v2/Services", FORM, "friendlyname=Owl").await, "small letters");
    // Parameters of the address are none of the body.
    let reply = backend.raw_body("/v2/Services?FriendlyName=Owl", FORM, "").await;
    missing("FriendlyName").assert(&reply, "in the address");
}

#[tokio::test]
async fn values_are_decoded_as_each_platform_encodes_them() {
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

#[tokio::test]
async fn what_does_not_exist_is_not_found_whatever_is_asked_of_it() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let before = world.everything().await;
    let other = world.service().await;
    let zeros = "0".repeat(32);
    for route in api::ROUTES.iter().filter(|route| route.path.contains('{')) {
        let path = stage.path(route.path);
        let sid = path.rsplit('/').next().unwrap();
        let mut paths = Vec::new();
        let services = [
            format!("VA{zeros}"),
            other.clone(),
            format!("AC{zeros}"),
            stage.service.to_lowercase(),
            stage.service[..33].to_owned(),
            format!("{}0", stage.service),
            "VA*".to_owned(),
        ];
        if route.path.contains("{ServiceSid}") {
            paths.extend(services.iter().map(|service| path.replace(&stage.service, service)));
        }
        // A factor makes the person that it is for.
        if route.path.contains("{Identity}") && (route.method, route.path) != ("POST", FACTORS) {
            paths.extend([path.replace(IDENTITY, "user-9999"), path.replace(IDENTITY, "USER-0001")]);
        }
        if route.path.ends_with("{Sid}") {
            for unknown in [
                format!("{}{}", &sid[..4], &zeros[2..]),
                format!("{}{zeros}", &sid[..2]),
                format!("AC{zeros}"),
                sid.to_lowercase(),
                format!("{sid}0"),
                "nothing".to_owned(),
                format!("{sid}.xml"),
            ] {
                paths.push(path.replace(sid, &unknown));
            }
        }
        for path in paths {
            let creates = (route.method, route.path) == ("POST", FACTORS)
                || (route.method, route.path) == ("POST", ENTITIES);
            let is_shared = matches!(route.path, SERVICE | TOKENS | ENTITIES | WEBHOOKS);
            if path.contains(&other) && (creates || is_shared) {
                continue;
            }
            let reply = match route.method {
                "GET" => world.backend().get(&path, &[]).await,
                "DELETE" => world.backend().delete(&path, &[]).await,
                _ => post(&world.backend(), &path, &stage.form(route.path)).await,
            };
            not_found().assert(&reply, &format!("{} {path}", route.method));
            let named = path.strip_prefix("/v2").or_else(|| path.strip_prefix("/v1")).unwrap();
            assert_eq!(reply.json()["message"], format!("The requested resource {named} was not found"));
        }
    }
    assert_eq!(world.backend().delete(&format!("/v2/Services/{other}"), &[]).await.status, 204);
    assert_eq!(world.everything().await, before);
}

/// A compact JWS of these parts, signed by this key.
fn jws(header: &Value, claims: &Value, key: &SigningKey) -> String {
    crypto::jws::sign(header.as_object().unwrap(), claims.as_object().unwrap(), key)
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// What the phone signs that approves this challenge.
fn approval(challenge: &Value) -> Value {
    let names = "hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,\
                 service_sid,identity";
    let fields = names.split(',').map(|name| (name.to_owned(), challenge[name].clone()));
    let mut claims: Map<String, Value> = fields.collect();
    claims.insert("status".to_owned(), "approved".into());
    Value::Object(claims)
}

/// The claims with this one changed; removed, if null stands for that.
fn claims_with(claims: &Value, name: &str, value: Option<Value>) -> Value {
    let mut claims = claims.clone();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    claims
}

const FIELDS: [(&str, &str); 2] = [
    ("Details.Fields", r#"{"label":"IBAN","value":"DE00"}"#),
    ("Details.Fields", r#"{"label":"Sum","value":"7/3"}"#),
];

#[tokio::test]
async fn forged_answers_leave_the_challenge_as_it_was() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let device = &stage.device;
    let hidden = ("HiddenDetails", r#"{"txn":"1"}"#);
    let challenge = world.challenge(&device.enrollment, &[FIELDS[0], FIELDS[1], hidden]).await;
    let another = world.challenge(&device.enrollment, &[FIELDS[0], FIELDS[1], hidden]).await;
    let good = approval(&challenge);
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    let payload = jws(&header, &good, &device.key);
    let (signed, signature) = payload.rsplit_once('.').unwrap();
    let signature_bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let resigned = |signature: &[u8]| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let under = |header: Value| jws(&header, &good, &device.key);
    let hmac = |secret: &[u8]| {
        let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "HS256" })), part(&good));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    };
    let flipped = {
        let mut bytes = signature_bytes.clone();
        bytes[40] ^= 1;
        bytes
    };
    let negated = {
        // The other solution of the same equation would be a second signature; zero is none at all.
        let mut bytes = signature_bytes.clone();
        bytes[32..].fill(0);
        bytes
    };
    let der = device.key.sign_der(signed.as_bytes());
    let oversized = claims_with(&good, "padding", Some("x".repeat(4000).into()));

    // No JWS at all.
    let malformed = [
        ("words", "approved".to_owned()),
        ("one part", part(&header)),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{payload}.{signature}")),
        ("no signature", resigned(b"")),
        ("an empty header", format!(".{}.{signature}", part(&good))),
        ("empty claims", format!("{}..{signature}", part(&header))),
        ("a header that is no object", format!("{}.{}.{signature}", part(&json!(["ES256"])), part(&good))),
        ("claims that are no object", format!("{}.{}.{signature}", part(&header), part(&json!("approved")))),
        ("a header that is no JSON", format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode("{"), part(&good))),
        (
            "claims that are no UTF-8",
            format!("{}.{}.{signature}", part(&header), URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}")),
        ),
        ("padding", format!("{payload}==")),
        (
            "base64 of another alphabet",
            format!("{}.{}.{}", part(&header), STANDARD.encode(good.to_string()), signature),
        ),
        ("a space in front", format!(" {payload}")),
        ("a line break behind", format!("{payload}\n")),
        ("JSON", good.to_string()),
        (
            "the JSON form of a JWS",
            json!({ "payload": part(&good), "protected": part(&header), "signature": signature }).to_string(),
        ),
        ("too many characters", jws(&header, &oversized, &device.key)),
        ("a proof for a factor", STANDARD.encode(&der)),
        (
            "an endless nest",
            format!("{}.{}.{signature}", part(&header), URL_SAFE_NO_PAD.encode("{\"a\":".repeat(800))),
        ),
    ];
    // A JWS that this key did not sign, or not so.
    let mut forged = vec![
        ("alg none".to_owned(), under(json!({ "typ": "JWT", "alg": "none" }))),
        (
            "alg None and a signature of nothing".to_owned(),
            format!("{}.{}.AA", part(&json!({ "alg": "None" })), part(&good)),
        ),
        ("no alg".to_owned(), under(json!({ "typ": "JWT" }))),
        ("alg in small letters".to_owned(), under(json!({ "alg": "es256" }))),
        ("alg null".to_owned(), under(json!({ "alg": null }))),
        ("alg ES384".to_owned(), under(json!({ "alg": "ES384" }))),
        ("alg HS256".to_owned(), under(json!({ "alg": "HS256" }))),
        ("HMAC under the public key".to_owned(), hmac(device.key.public_key().as_der())),
        ("HMAC under the public key's text".to_owned(), hmac(device.key.public_key_base64().as_bytes())),
        ("crit".to_owned(), under(json!({ "alg": "ES256", "crit": ["b64"], "b64": false }))),
        ("another key".to_owned(), jws(&header, &good, &SigningKey::generate())),
        ("a key that the header brings".to_owned(), {
            let key = SigningKey::generate();
            let der = key.public_key();
            let point = &der.as_der()[27..];
            let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
            let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
            jws(&json!({ "alg": "ES256", "jwk": jwk }), &good, &key)
        }),
        ("a flipped bit".to_owned(), resigned(&flipped)),
        ("half a signature of zeros".to_owned(), resigned(&negated)),
        ("a signature of zeros".to_owned(), resigned(&[0; 64])),
        ("a byte behind the signature".to_owned(), resigned(&[&signature_bytes[..], &[0]].concat())),
        ("a byte in front of the signature".to_owned(), resigned(&[&[0][..], &signature_bytes].concat())),
        ("half the signature".to_owned(), resigned(&signature_bytes[..32])),
        ("the signature twice".to_owned(), resigned(&signature_bytes.repeat(2))),
        ("a signature in DER".to_owned(), resigned(&der)),
        ("the signature of another challenge".to_owned(), {
            let other = jws(&header, &approval(&another), &device.key);
            format!("{signed}.{}", other.rsplit_once('.').unwrap().1)
        }),
        (
            "another header over the same signature".to_owned(),
            format!("{}.{}.{signature}", part(&json!({ "alg": "ES256" })), part(&good)),
        ),
        ("denial under the signature of an approval".to_owned(), {
            let denied = claims_with(&good, "status", Some("denied".into()));
            format!("{}.{}.{signature}", part(&header), part(&denied))
        }),
        ("the answer to another challenge".to_owned(), jws(&header, &approval(&another), &device.key)),
        ("no claims".to_owned(), jws(&header, &json!({}), &device.key)),
        ("claims one level down".to_owned(), jws(&header, &json!({ "challenge": good }), &device.key)),
    ];
    // Well signed, but not what was asked.
    for name in good.as_object().unwrap().keys() {
        let shown = &challenge[name];
        forged.push((format!("{name} missing"), jws(&header, &claims_with(&good, name, None), &device.key)));
        let mut values =
            vec![json!("changed"), Value::Null, json!(7), json!([shown]), json!({}), json!(true)];
        if let Some(text) = shown.as_str() {
            values.extend([json!(text.to_uppercase()), json!(format!("{text} ")), json!(&text[1..])]);
        }
        for value in values {
            if value != *shown && (name != "status" || !matches!(value.as_str(), Some("approved" | "denied")))
            {
                let what = format!("{name} as {value}");
                forged.push((what, jws(&header, &claims_with(&good, name, Some(value)), &device.key)));
            }
        }
    }
    for word in ["pending", "expired", "Approved", "APPROVED", " approved", "yes", ""] {
        let claims = claims_with(&good, "status", Some(word.into()));
        forged.push((format!("status {word:?}"), jws(&header, &claims, &device.key)));
    }
    for (pointer, value) in [
        ("/details/message", json!("Sign in to Hawk Bank?")),
        ("/details/fields/0/value", json!("DE01")),
        ("/details/fields/0/label", json!("iban")),
        ("/details/fields", json!([])),
        ("/details/fields/1", Value::Null),
        ("/details/fields", json!([challenge["details"]["fields"][1], challenge["details"]["fields"][0]])),
        ("/hidden_details/txn", json!("2")),
        ("/hidden_details/txn", json!(1)),
        ("/expiration_date", json!(challenge["expiration_date"].as_str().unwrap().replace('Z', "+00:00"))),
    ] {
        let mut claims = good.clone();
        *claims.pointer_mut(pointer).unwrap() = value.clone();
        forged.push((format!("{pointer} as {value}"), jws(&header, &claims, &device.key)));
    }
    for (pointer, name) in [("/details", "date"), ("/details/fields/0", "more"), ("/hidden_details", "more")]
    {
        let mut claims = good.clone();
        claims.pointer_mut(pointer).unwrap()[name] = "added".into();
        forged.push((format!("{pointer} with {name}"), jws(&header, &claims, &device.key)));
    }

    let path = format!("{}/{}", device.challenges(), challenge["sid"].as_str().unwrap());
    let bare = approval(&stage.challenge);
    let bare_path = stage.path(CHALLENGE);
    let before = world.everything().await;
    let phone = Http::new(world.server.url()).auth(device.auth());
    for (what, payload) in malformed {
        let reply = phone.post(&path, &[("AuthPayload", &payload)]).await;
        invalid("AuthPayload").assert(&reply, what);
    }
    for (index, (what, payload)) in forged.iter().enumerate() {
        assert!(payload.len() <= 5456, "{what} would be refused for its length");
        // Who carries it makes no difference.
        let client = if index % 2 == 0 { &phone } else { &world.backend() };
        let form = [("AuthPayload", payload.as_str()), ("Metadata", r#"{"noted":"no"}"#)];
        let reply = client.post(&path, &form).await;
        refused(403, 60324, "Challenge verification failed").assert(&reply, what);
    }
    // Null is a value like any other: not the same as nothing, or as empty.
    for hidden in [None, Some(json!({})), Some(json!("null")), Some(json!(""))] {
        let payload = jws(&header, &claims_with(&bare, "hidden_details", hidden.clone()), &device.key);
        let reply = phone.post(&bare_path, &[("AuthPayload", &payload)]).await;
        let what = format!("{hidden:?} instead of null");
        refused(403, 60324, "Challenge verification failed").assert(&reply, &what);
    }
    assert_eq!(world.everything().await, before);

    // All of them failed for what was changed: without a change the answers are taken.
    for (path, payload) in [(path, payload.clone()), (bare_path, jws(&header, &bare, &device.key))] {
        let reply = phone.post(&path, &[("AuthPayload", &payload)]).await;
        assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("approved")), "{reply:?}");
    }
}

#[tokio::test]
async fn answers_may_be_written_in_more_than_one_way() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let device = &stage.device;
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    for (what, header, more) in [
        ("as the SDKs do", header.clone(), json!({})),
        ("with fields of an older server", header.clone(), json!({ "url": "https://x", "metadata": null })),
        ("without typ", json!({ "alg": "ES256" }), json!({})),
        ("with kid and cty", json!({ "alg": "ES256", "kid": "x", "cty": "y", "typ": "jwt" }), json!({})),
        ("as long as can be", header, json!({ "padding": "x".repeat(3100) })),
    ] {
        let challenge = world.challenge(&device.enrollment, &FIELDS).await;
        let mut claims = approval(&challenge);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut payload = jws(&header, &claims, &device.key);
        if what == "as long as can be" {
            // Three bytes of claims make four characters; what is left over are the last three of the limit.
            let room = (5456 - payload.len()) / 4 * 3;
            claims["padding"] = "x".repeat(3100 + room).into();
            payload = jws(&header, &claims, &device.key);
            assert!((5450..=5456).contains(&payload.len()), "{}", payload.len());
        }
        let path = format!("{}/{}", device.challenges(), challenge["sid"].as_str().unwrap());
        let reply =
            world.backend().post(&path, &[("AuthPayload", &payload), ("Metadata", r#"{"a":"b"}"#)]).await;
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        assert_eq!(
            (&reply.json()["status"], &reply.json()["metadata"]),
            (&json!("approved"), &json!({ "a": "b" }))
        );
    }
}

#[tokio::test]
async fn answered_challenges_take_no_answer_however_good() {
    let world = World::ephemeral();
    let stage = Stage::set(&world).await;
    let device = &stage.device;
    let header = json!({ "typ": "JWT", "alg": "ES256" });
    let sid = stage.challenge["sid"].as_str().unwrap();
    device.phone.answer(&device.enrollment, sid, Answer::Denied).await.unwrap();
    let before = world.everything().await;
    let path = stage.path(CHALLENGE);
    let good = jws(&header, &approval(&stage.challenge), &device.key);
    let forged = jws(&header, &approval(&stage.challenge), &SigningKey::generate());
    for payload in [good, forged] {
        let form = [("AuthPayload", payload.as_str()), ("Metadata", r#"{"late":"yes"}"#)];
        refused(403, 60322, "Challenge already responded")
            .assert(&world.backend().post(&path, &form).await, "answered");
    }
    invalid("AuthPayload").assert(&world.backend().post(&path, &[("AuthPayload", "x")]).await, "no JWS");
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn forged_proofs_leave_the_factor_unverified() {
    let world = World::ephemeral();
    let service = world.service().await;
    let key = SigningKey::generate();
    let phone = world.phone(Style::Ios);
    let new = world.new_factor(&service, IDENTITY).await;
    let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
    let sid = enrollment.factor_sid.clone();
    let path = format!("{}/Factors/{sid}", entity(&service, IDENTITY));
    let good = key.sign_der(sid.as_bytes());
    let with_length = |der: &[u8], length: u8| {
        let mut der = der.to_vec();
        der[1] = length;
        der
    };
    let trailing = [&good[..], &[0]].concat();
    let inner = with_length(&trailing, good[1] + 1);
    let long_form = [&[0x30, 0x81, good[1]][..], &good[2..]].concat();
    let before = world.everything().await;
    for (what, proof) in [
        ("another key", SigningKey::generate().sign_der(sid.as_bytes())),
        ("another text", key.sign_der(b"YF03")),
        ("the SID in small letters", key.sign_der(sid.to_lowercase().as_bytes())),
        ("the SID and a line break", key.sign_der(format!("{sid}\n").as_bytes())),
        ("the credential", key.sign_der(enrollment.credential_sid.as_bytes())),
        ("the entity", key.sign_der(IDENTITY.as_bytes())),
        ("nothing", key.sign_der(b"")),
        ("r and s side by side", key.sign_fixed(sid.as_bytes()).to_vec()),
        ("trailing bytes", trailing),
        ("trailing bytes within", inner),
        ("a length in the long form", long_form),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("a shorter length", with_length(&good, good[1] - 1)),
        ("an empty sequence", vec![0x30, 0]),
        ("zeros", vec![0x30, 6, 2, 1, 0, 2, 1, 0]),
        ("ones", vec![0x30, 6, 2, 1, 1, 2, 1, 1]),
        ("noise", vec![0xff; 72]),
        ("a JWS", jws(&json!({ "alg": "ES256" }), &json!({ "sid": sid }), &key).into_bytes()),
    ] {
        let form = [("AuthPayload", STANDARD.encode(&proof)), ("FriendlyName", "Verified?".to_owned())];
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = world.backend().post(&path, &form).await;
        refused(403, 60311, "Factor verification failed").assert(&reply, what);
    }
    let good = STANDARD.encode(&good);
    for (what, text) in [
        ("one character too many", good[..89].to_owned()),
        ("of the web", format!("-_{}", &good[2..])),
        ("with a line break", format!("{}\n{}", &good[..40], &good[40..])),
        ("with something behind", format!("{good} x")),
        ("no base64", "YF03 approved!".to_owned()),
    ] {
        invalid("AuthPayload").assert(&world.backend().post(&path, &[("AuthPayload", &text)]).await, what);
    }
    assert_eq!(world.everything().await, before);
    phone.verify_factor(&mut enrollment).await.unwrap();
    let reply = world.backend().post(&path, &[("AuthPayload", &good)]).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("verified")));
    // Even then a bad one is bad.
    let before = world.everything().await;
    let bad = STANDARD.encode(SigningKey::generate().sign_der(sid.as_bytes()));
    refused(403, 60311, "Factor verification failed")
        .assert(&world.backend().post(&path, &[("AuthPayload", &bad)]).await, "verified before");
    assert_eq!(world.everything().await, before);
}

on_every_database! {
    async fn any_text_comes_back_as_it_went_in(world: World) {
        let backend = world.backend();
        let stage = Stage::set(&world).await;
        let device = &stage.device;
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
            let form = with(&stage.form(CHALLENGES), &more);
            let made = created(&post(&backend, &stage.path(CHALLENGES), &form).await);
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
