//! Push credentials: managed over HTTP and with the command line, and the errors for unusable ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use app::SystemClock;
use domain::Clock as _;
use harness::stand_in::Authority;
use harness::stand_in::pki::{Key, PRODUCTION, PushCertificate, Pushing, SANDBOX};
use harness::wait_until;
use serde_json::{Value, json};

use crate::pushes::{KEY_ID, TEAM};
use crate::world::{World, assert_error, created, on_every_database};

const CREDENTIALS: &str = "/v1/Credentials";

/// The longest time until a new server runs housekeeping: the previous one may have stopped without releasing its
/// lease.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(240);

fn certificate(wanted: PushCertificate<'_>) -> Pushing {
    Authority::new().push_certificate(wanted)
}

/// Returns the JSON file of a service account.
fn service_account(project: &str) -> String {
    let file = json!({
        "type": "service_account",
        "project_id": project,
        "private_key_id": "0123456789abcdef",
        "private_key": Key::rsa().pkcs8(),
        "client_email": format!("push@{project}.iam.gserviceaccount.com"),
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    file.to_string()
}

/// Returns the path of a credential.
fn path(credential: &Value) -> String {
    format!("{CREDENTIALS}/{}", credential["sid"].as_str().unwrap())
}

on_every_database! {
    async fn push_credential_can_be_created_read_updated_and_deleted(world: World) {
        let backend = world.backend();
        let (key, made) = (Key::p256().pkcs8(), certificate(PushCertificate::default()));
        let (certificate, private_key) = (made.pem(), made.key.sec1());
        let account = service_account("owl-bank");
        let name = ("FriendlyName", "Ünï 🦉");
        let forms = [
            vec![("Type", "apn"), name, ("Certificate", &certificate), ("PrivateKey", &private_key)],
            vec![("Type", "apn"), ("KeyId", KEY_ID), ("TeamId", TEAM), ("PrivateKey", &key), ("Sandbox", "true")],
            vec![("Type", "fcm"), ("Secret", &account)],
        ];
        let mut all = Vec::new();
        for (form, (kind, sandbox)) in
            forms.iter().zip([("apn", json!("False")), ("apn", json!("True")), ("fcm", Value::Null)])
        {
            let credential = created(&backend.post(CREDENTIALS, form).await);
            let sid = credential["sid"].as_str().unwrap();
            assert!(sid.starts_with("CR") && sid.len() == 34, "{sid}");
            let date = &credential["date_created"];
            let named = if form.contains(&name) { json!(name.1) } else { Value::Null };
            assert_eq!(
                credential,
                json!({
                    "sid": sid,
                    "account_sid": world.server.account_sid(),
                    "friendly_name": named,
                    "type": kind,
                    "sandbox": sandbox,
                    "date_created": date,
                    "date_updated": date,
                    "url": format!("{}{CREDENTIALS}/{sid}", world.server.url()),
                })
            );
            assert!(date.as_str().unwrap().ends_with('Z'));
            assert_eq!(backend.get(&path(&credential), &[]).await.json(), credential);
            all.push(credential);
        }
        let list = backend.get(CREDENTIALS, &[]).await.json();
        assert_eq!((&list["credentials"], &list["meta"]["key"]), (&json!(all), &json!("credentials")));

        // Parameters that are not sent stay unchanged.
        let changed = backend.post(&path(&all[0]), &[("FriendlyName", "Barn owls")]).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let mut expected = all[0].clone();
        expected["friendly_name"] = json!("Barn owls");
        expected["date_updated"] = changed.json()["date_updated"].clone();
        assert_eq!(changed.json(), expected);
        // First another environment with the same secret, then another secret of another kind.
        let changed = backend.post(&path(&all[0]), &[("Sandbox", "true")]).await;
        assert_eq!((changed.status, &changed.json()["sandbox"]), (200, &json!("True")), "{changed:?}");
        assert_eq!(changed.json()["friendly_name"], "Barn owls");
        let form = [("KeyId", KEY_ID), ("TeamId", TEAM), ("PrivateKey", key.as_str())];
        let changed = backend.post(&path(&all[0]), &form).await;
        assert_eq!((changed.status, &changed.json()["sandbox"]), (200, &json!("True")), "{changed:?}");
        let other = service_account("barn-owls");
        let changed = backend.post(&path(&all[2]), &[("Secret", &other), ("Sandbox", "true")]).await;
        assert_eq!((changed.status, &changed.json()["sandbox"]), (200, &Value::Null), "{changed:?}");

        for credential in &all {
            assert_eq!(backend.delete(&path(credential), &[]).await.status, 204);
            for reply in [
                backend.get(&path(credential), &[]).await,
                backend.post(&path(credential), &[("FriendlyName", "Late")]).await,
                backend.delete(&path(credential), &[]).await,
            ] {
                assert_error(&reply, 404, 20404);
                let named = path(credential).replace("/v1", "");
                assert_eq!(reply.json()["message"], format!("The requested resource {named} was not found"));
            }
        }
        assert_eq!(backend.get(CREDENTIALS, &[]).await.json()["credentials"], json!([]));
    }
}

on_every_database! {
    async fn push_credentials_can_be_paged(world: World) {
        let backend = world.backend();
        let account = service_account("owl-bank");
        let mut all = Vec::new();
        for number in 0..5 {
            let name = format!("Number {number}");
            let form = [("Type", "fcm"), ("Secret", account.as_str()), ("FriendlyName", &name)];
            all.push(created(&backend.post(CREDENTIALS, &form).await));
        }
        let mut turned = Vec::new();
        let mut page = backend.get(CREDENTIALS, &[("PageSize", "2")]).await.json();
        loop {
            let items = page["credentials"].as_array().unwrap();
            assert_eq!(items.len(), if turned.len() < 4 { 2 } else { 1 });
            turned.extend(items.iter().cloned());
            let Some(next) = page["meta"]["next_page_url"].as_str() else { break };
            assert!(next.starts_with(&format!("{}{CREDENTIALS}?", world.server.url())), "{next}");
            page = backend.get(next, &[]).await.json();
        }
        assert_eq!(turned, all);
        let back = page["meta"]["previous_page_url"].as_str().unwrap();
        assert_eq!(backend.get(back, &[]).await.json()["credentials"], json!(all[2..4]));
        assert_error(&backend.get(CREDENTIALS, &[("PageSize", "0")]).await, 400, 60306);
    }
}

#[tokio::test]
async fn invalid_push_credential_is_refused_with_a_reason() {
    let world = World::ephemeral();
    let backend = world.backend();
    let good = certificate(PushCertificate::default());
    let expired = certificate(PushCertificate { not_after: (2025, 11, 30), ..PushCertificate::default() });
    let null = [(SANDBOX, vec![5, 0])];
    let sandbox = certificate(PushCertificate { extensions: &null, ..PushCertificate::default() });
    let null = [(PRODUCTION, vec![5, 0])];
    let production = certificate(PushCertificate { extensions: &null, ..PushCertificate::default() });
    let (pem, key) = (good.pem(), good.key.pkcs8());
    let (other, rsa) = (Key::p256().pkcs8(), Key::rsa().pkcs8());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = format!("AAAA1234567:{}", "a_-B".repeat(35));
    let without_email = {
        let mut file: Value = serde_json::from_str(&service_account("owl-bank")).unwrap();
        file.as_object_mut().unwrap().remove("client_email");
        file.to_string()
    };
    let for_apps = r#"{"project_info":{"project_id":"owl-bank"},"client":[]}"#;
    let apn = |certificate: &str, key: &str, sandbox: &str| {
        let form = [("Type", "apn"), ("Certificate", certificate), ("PrivateKey", key), ("Sandbox", sandbox)];
        form.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    let token = |key: &str, key_id: &str, team_id: &str| {
        let form = [("Type", "apn"), ("PrivateKey", key), ("KeyId", key_id), ("TeamId", team_id)];
        form.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    let fcm = |secret: &str| vec![("Type", "fcm".to_owned()), ("Secret", secret.to_owned())];
    let only = |kind: &str| vec![("Type", kind.to_owned())];
    let ten = "must be the 10 letters and digits that Apple shows";
    let rows = [
        (apn(&expired.pem(), &expired.key.pkcs8(), ""), "Certificate expired on 2025-11-30T00:00:00Z".to_owned()),
        (apn(&pem, &other, ""), "PrivateKey does not belong to the certificate".to_owned()),
        (apn(&pem, &encrypted, ""), "PrivateKey is encrypted: export it without a passphrase".to_owned()),
        (apn(&pem, "owl", ""), "PrivateKey is not in PEM format: send the text from its BEGIN line to its END line".to_owned()),
        (apn("owl!", &key, ""), "Certificate is not in PEM format: send the text from its BEGIN line to its END line".to_owned()),
        (apn(&key, &key, ""), "Certificate has no PEM section BEGIN CERTIFICATE".to_owned()),
        (apn(&pem, &key, "perhaps"), "Sandbox must be true or false".to_owned()),
        (
            apn(&sandbox.pem(), &sandbox.key.pkcs8(), "false"),
            "Certificate is valid for sandbox only, so Sandbox must be true".to_owned(),
        ),
        (
            apn(&production.pem(), &production.key.pkcs8(), "true"),
            "Certificate is valid for production only, so Sandbox must be false".to_owned(),
        ),
        (token(&key, "SHORT", TEAM), format!("KeyId {ten}")),
        (token(&key, KEY_ID, "much too long"), format!("TeamId {ten}")),
        (
            token(&rsa, KEY_ID, TEAM),
            "PrivateKey is not on the curve P-256, so it is not an APNs key (.p8) from Apple".to_owned(),
        ),
        (
            fcm(&legacy),
            "Secret is a server key of FCM's legacy API, which was shut down in 2024: create a service account \
             and send its JSON"
                .to_owned(),
        ),
        (fcm("owl"), "Secret is not the JSON file of a service account".to_owned()),
        (fcm(for_apps), "Secret is not the JSON file of a service account: the field type is missing".to_owned()),
        (
            fcm(&without_email),
            "Secret is not the JSON file of a service account: the field client_email is missing".to_owned(),
        ),
        (only("gcm"), "Type must be apn or fcm: GCM was shut down in 2019".to_owned()),
        (only("APN"), "Type must be apn or fcm".to_owned()),
        ([fcm(&service_account("owl-bank")), vec![("FriendlyName", "x".repeat(65))]].concat(), {
            "FriendlyName must have 1 to 64 characters".to_owned()
        }),
    ];
    for (form, words) in rows {
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = backend.post(CREDENTIALS, &form).await;
        assert_error(&reply, 400, 60306);
        assert_eq!(reply.json()["message"], format!("Invalid Request: {words}"));
    }
    for (form, missing) in [
        (vec![("FriendlyName", "Owl")], "Type"),
        (vec![("Type", "apn")], "Certificate"),
        (vec![("Type", "apn"), ("Certificate", pem.as_str())], "PrivateKey"),
        (vec![("Type", "apn"), ("KeyId", KEY_ID)], "PrivateKey"),
        (vec![("Type", "apn"), ("PrivateKey", key.as_str()), ("KeyId", KEY_ID)], "TeamId"),
        (vec![("Type", "apn"), ("PrivateKey", key.as_str()), ("TeamId", TEAM)], "KeyId"),
        (vec![("Type", "fcm")], "Secret"),
        (vec![("Type", "fcm"), ("ApiKey", legacy.as_str())], "Secret"),
    ] {
        let reply = backend.post(CREDENTIALS, &form).await;
        assert_error(&reply, 400, 20001);
        assert_eq!(reply.json()["message"], format!("Missing required parameter {missing} in the post body"));
    }
    assert_eq!(backend.get(CREDENTIALS, &[]).await.json()["credentials"], json!([]));
}

#[tokio::test]
async fn refused_update_leaves_the_push_credential_unchanged() {
    let world = World::ephemeral();
    let backend = world.backend();
    let null = [(PRODUCTION, vec![5, 0])];
    let made = certificate(PushCertificate { extensions: &null, ..PushCertificate::default() });
    let (pem, key, other) = (made.pem(), made.key.pkcs8(), Key::p256().pkcs8());
    let form = [("Type", "apn"), ("Certificate", pem.as_str()), ("PrivateKey", &key)];
    let apn = created(&backend.post(CREDENTIALS, &form).await);
    let account = service_account("owl-bank");
    let fcm = created(&backend.post(CREDENTIALS, &[("Type", "fcm"), ("Secret", &account)]).await);
    let name = ("FriendlyName", "New");
    for (credential, form, code, words) in [
        (
            &apn,
            vec![name, ("PrivateKey", &*other)],
            20001,
            "Missing required parameter Certificate in the post body",
        ),
        (
            &apn,
            vec![name, ("Certificate", &*pem), ("PrivateKey", &*other)],
            60306,
            "Invalid Request: PrivateKey does not belong to the certificate",
        ),
        (
            &apn,
            vec![name, ("Sandbox", "true")],
            60306,
            "Invalid Request: Certificate is valid for production only, so Sandbox must be false",
        ),
        (
            &fcm,
            vec![name, ("Secret", "owl")],
            60306,
            "Invalid Request: Secret is not the JSON file of a service account",
        ),
    ] {
        let reply = backend.post(&path(credential), &form).await;
        assert_error(&reply, 400, code);
        assert_eq!(reply.json()["message"], words);
        assert_eq!(backend.get(&path(credential), &[]).await.json(), *credential);
    }
}

/// Writes a file and returns its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns the value on the output line that starts with `what`, or `None` if there is no such line.
fn value_of(what: &str, printed: &str) -> Option<String> {
    let line = printed.lines().find(|line| line.starts_with(&format!("{what} ")))?;
    Some(line[what.len()..].trim().to_owned())
}

on_every_database! {
    async fn operator_can_manage_push_credentials_while_the_server_runs(world: World) {
        let (backend, folder) = (world.backend(), tempfile::tempdir().unwrap());
        let made = certificate(PushCertificate::default());
        let (pem, key) = (made.pem(), made.key.pkcs8());
        let (certificate, private_key) = (file(folder.path(), "c.pem", &pem), file(folder.path(), "k.pem", &key));
        let p8 = file(folder.path(), "AuthKey.p8", &Key::p256().pkcs8());
        let account = file(folder.path(), "account.json", &service_account("owl-bank"));

        let files = ["--certificate", &certificate, "--private-key", &private_key, "--name", "Owl app"];
        let printed = world.command(&[&["credential", "create"], &files[..]].concat());
        let certified = value_of("credential sid", &printed).unwrap();
        let checked = [("provider", "apn"), ("app", "com.example.app"), ("team", "TEAM123456")];
        for (what, value) in [&checked[..], &[("environment", "production")]].concat() {
            assert_eq!(value_of(what, &printed).as_deref(), Some(value), "{printed}");
        }
        let end = value_of("expires", &printed).unwrap();
        assert!(end.starts_with("2045-12-31T00:00:00Z, ") && end.ends_with(" days from now"), "{end}");

        let files = ["--p8", &p8, "--key-id", KEY_ID, "--team-id", TEAM, "--sandbox"];
        let printed = world.command(&[&["credential", "create"], &files[..]].concat());
        let token = value_of("credential sid", &printed).unwrap();
        for (what, value) in [("provider", Some("apn")), ("environment", Some("sandbox")), ("expires", None)] {
            assert_eq!(value_of(what, &printed).as_deref(), value, "{printed}");
        }
        let own = world.server.account_sid();
        let printed = world.command(&["credential", "create", "--service-account", &account, "--account", own]);
        let google = value_of("credential sid", &printed).unwrap();
        assert_eq!(value_of("project", &printed).as_deref(), Some("owl-bank"), "{printed}");

        let list = backend.get(CREDENTIALS, &[]).await.json();
        let sids: Vec<_> = list["credentials"].as_array().unwrap().iter().map(|one| one["sid"].clone()).collect();
        assert_eq!(sids, [json!(certified), json!(token), json!(google)]);
        let listed = world.command(&["credential", "list"]);
        let listed: Vec<_> = listed.lines().map(str::trim_end).collect();
        assert_eq!(
            listed,
            [format!("{certified}  apn  Owl app"), format!("{token}  apn"), format!("{google}  fcm")]
        );
        let printed = world.command(&["credential", "check", &certified]);
        for (what, value) in checked {
            assert_eq!(value_of(what, &printed).as_deref(), Some(value), "{printed}");
        }
        for printed in [printed, world.command(&["credential", "list"])] {
            assert!(!printed.contains("PRIVATE KEY") && !printed.contains(&key[40..80]), "{printed}");
        }

        assert_eq!(world.command(&["credential", "delete", &google]), format!("deleted {google}\n"));
        assert_error(&backend.get(&format!("{CREDENTIALS}/{google}"), &[]).await, 404, 20404);
        for arguments in [["credential", "delete", &google], ["credential", "check", &google]] {
            let why = world.refusal(&arguments);
            assert!(why.contains(&format!("there is no {google}")), "{why}");
        }

        // Invalid files and unknown SIDs are refused with a reason.
        let legacy = file(folder.path(), "legacy.txt", &format!("AAAA1234567:{}", "a_-B".repeat(35)));
        let missing = folder.path().join("nothing.p8");
        for (arguments, words) in [
            (vec!["--service-account", legacy.as_str()], "legacy API, which was shut down in 2024"),
            (vec!["--certificate", &certificate, "--private-key", &p8], "does not belong to the certificate"),
            (vec!["--p8", missing.to_str().unwrap(), "--key-id", KEY_ID, "--team-id", TEAM], "nothing.p8: "),
            (vec!["--p8", &p8, "--key-id", "SHORT", "--team-id", TEAM], "10 letters and digits"),
            (vec!["--p8", &p8], "--key-id"),
            (vec!["--certificate", &certificate], "--private-key"),
            (vec![], "--service-account"),
        ] {
            let why = world.refusal(&[&["credential", "create"], &arguments[..]].concat());
            assert!(why.contains(words), "{arguments:?}: {why}");
        }
        assert_eq!(world.command(&["credential", "list"]).lines().count(), 2);
    }
}

/// Files as editors and PowerShell write them, with the issuer before the certificate.
#[tokio::test]
async fn byte_order_marks_and_unordered_certificate_chains_are_accepted() {
    let (world, folder) = (World::sqlite(), tempfile::tempdir().unwrap());
    let made = certificate(PushCertificate::default());
    let chain = format!("\u{feff}{}{}", Authority::new().pem(), made.pem());
    let (chain, key) = (
        file(folder.path(), "chain.pem", &chain),
        file(folder.path(), "k.pem", &format!("\u{feff}{}", made.key.pkcs8())),
    );
    let account = file(folder.path(), "account.json", &format!("\u{feff}{}", service_account("owl-bank")));
    let printed = world.command(&["credential", "create", "--certificate", &chain, "--private-key", &key]);
    assert_eq!(value_of("app", &printed).as_deref(), Some("com.example.app"), "{printed}");
    let printed = world.command(&["credential", "create", "--service-account", &account]);
    assert_eq!(value_of("project", &printed).as_deref(), Some("owl-bank"), "{printed}");

    // The same over HTTP.
    let secret = format!("\u{feff}{}", service_account("owl-bank"));
    created(&world.backend().post(CREDENTIALS, &[("Type", "fcm"), ("Secret", &secret)]).await);

    let path = folder.path().join("utf-16.json");
    let units = format!("\u{feff}{}", service_account("owl-bank"))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect::<Vec<_>>();
    std::fs::write(&path, units).unwrap();
    let why = world.refusal(&["credential", "create", "--service-account", path.to_str().unwrap()]);
    assert!(why.contains("utf-16.json: expected UTF-8, found UTF-16; save it as UTF-8"), "{why}");
}

on_every_database! {
    /// The first check runs at the start; later checks find that the warning was given.
    async fn expiring_push_certificate_is_warned_about_exactly_once(world: World) {
        let mut world = world;
        let made = async |world: &World, days: i64| {
            let end = SystemClock.now().plus_seconds(days * 86_400).to_string();
            let mut date = end[..10].split('-').map(|part| part.parse::<i32>().unwrap());
            let mut next = || date.next().unwrap();
            let not_after = (next(), u8::try_from(next()).unwrap(), u8::try_from(next()).unwrap());
            let made = certificate(PushCertificate { not_after, ..PushCertificate::default() });
            let (certificate, key) = (made.pem(), made.key.pkcs8());
            let form = [("Type", "apn"), ("Certificate", certificate.as_str()), ("PrivateKey", &key)];
            created(&world.backend().post(CREDENTIALS, &form).await)["sid"].as_str().unwrap().to_owned()
        };
        let mut ending = BTreeSet::new();
        // A further certificate shows that another check has run.
        for days in [&[5, 20, 40][..], &[3]] {
            for days in days {
                let sid = made(&world, *days).await;
                if *days < 30 {
                    ending.insert(sid);
                }
            }
            // A clean stop, so that the next server runs housekeeping at once.
            assert!(world.server.terminate().success());
            world.server.restart();
            let backend = world.backend();
            let alerts = wait_until("the server warns about both certificates", HANDOVER_TIMEOUT, async || {
                let reply = backend.get("/v1/Alerts", &[("LogLevel", "warning")]).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                let alerts = reply.json()["alerts"].clone();
                (alerts.as_array().unwrap().len() >= ending.len()).then_some(alerts)
            })
            .await;
            let text = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
            let alerts = alerts.as_array().unwrap();
            assert_eq!(alerts.len(), ending.len(), "{alerts:?}");
            assert!(alerts.iter().all(|alert| text(alert, "error_code") == "52131"), "{alerts:?}");
            let about: BTreeSet<_> = alerts.iter().map(|alert| text(alert, "resource_sid")).collect();
            assert_eq!(about, ending);
        }
    }
}
