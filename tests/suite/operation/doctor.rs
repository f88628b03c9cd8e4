//! The findings of `doctor`, and that it changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use domain::Clock as _;
use harness::Storage;
use harness::stand_in::Authority;
use serde_json::Value;

use super::*;
use crate::world::{World, created, on_every_database};

/// Returns the findings as level, subject and text.
fn findings(command: &mut Command) -> Vec<(String, String, String)> {
    let output = run(command.args(["--json"]));
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let problems = report["problems"].as_u64().unwrap();
    assert_eq!(output.code, Some(i32::from(problems > 0)), "{output:?}");
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    for finding in findings {
        // Every finding that is not OK has advice.
        assert_eq!(finding["advice"].is_string(), finding["level"] != "ok", "{finding}");
    }
    findings.iter().map(|one| (text(one, "level"), text(one, "subject"), text(one, "found"))).collect()
}

#[track_caller]
fn assert_found(findings: &[(String, String, String)], level: &str, subject: &str, expected: &str) {
    let found = findings.iter().any(|(l, s, found)| l == level && s == subject && found.contains(expected));
    assert!(found, "{level} {subject} {expected}: {findings:#?}");
}

/// Returns `doctor` for this world's database.
fn doctor(world: &World, arguments: &[&str]) -> Command {
    let mut command = countersign(Path::new("/"), &["doctor"]);
    match &world.storage {
        Storage::Ephemeral => {}
        Storage::Sqlite(data_dir) => {
            command.arg("--data-dir").arg(data_dir);
        }
        Storage::Postgres { url, data_dir } => {
            command.args(["--database-url", url, "--data-dir"]).arg(data_dir);
        }
    }
    command.args(arguments);
    command
}

on_every_database! {
    async fn doctor_reports_no_problem_for_a_healthy_server(world: World) {
        let service = world.service().await;
        let webhook = [("FriendlyName", "x"), ("EventTypes", "challenge.approved"), ("WebhookUrl", "http://127.0.0.1:9/x")];
        created(&world.backend().post(&format!("/v2/Services/{service}/Webhooks"), &webhook).await);
        let url = "http://127.0.0.1:9/";
        world.command(&["outlet", "create", "--kind", "http", "--channel", "sms", "--name", "Gateway", "--url", url]);
        world.command(&["outlet", "create", "--kind", "capture", "--channel", "call", "--name", "File", "--path", "/tmp/calls"]);
        let unknown = format!("MG{}", "1".repeat(32));
        let configuration = [("Country", "AT"), ("MessagingServiceSid", unknown.as_str())];
        created(&world.backend().post(&format!("/v2/Services/{service}/MessagingConfigurations"), &configuration).await);
        let no_outlet = format!(
            "1 messaging configuration names an outlet that does not exist: {unknown} in that of {service} for AT"
        );
        let account = world.server.account_sid();
        for (option, url) in
            [("--debugger-webhook", "http://127.0.0.2/x"), ("--verification-events-url", "http://127.0.0.3/x")]
        {
            world.command(&["account", "set", account, option, url]);
        }
        let mut world = world;
        for beside in [true, false] {
            if !beside {
                assert!(world.server.terminate().success());
            }
            let well = findings(&mut doctor(&world, &["--webhook-allow-network", "127.0.0.0/8"]));
            // A throw-away cluster runs without fsync, for speed.
            let harmless = |found: &str| found == "fsync is off";
            assert!(well.iter().all(|(level, _, found)| level != "problem" || harmless(found)), "{well:#?}");
            for subject in ["configuration", "data folder", "database", "migrations", "master key", "deliveries", "webhook host"] {
                assert_found(&well, "ok", subject, "");
            }
            if let Storage::Sqlite(_) = world.storage {
                let deep = findings(&mut doctor(&world, &["--deep"]));
                assert_found(&deep, "ok", "database file", "undamaged");
            }
            let ill = findings(&mut doctor(&world, &["--master-key", &"07".repeat(32)]));
            assert_found(&ill, "problem", "master key", "1 auth token sealed under key");
            for host in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
                let found = format!("{host} resolves to an address that is not public");
                assert_found(&ill, "warning", "webhook host", &found);
            }
            let unlimited = "1 outlet may send any number of messages to all countries";
            assert_found(&ill, "warning", "limits on codes", unlimited);
            assert_found(&ill, "warning", "outlets", "1 outlet of the kind capture");
            assert_found(&ill, "warning", "outlets", &no_outlet);
            let limits = ["--max-codes-per-service-per-hour", "9", "--verification-countries", "AT"];
            assert_found(&findings(&mut doctor(&world, &limits)), "ok", "limits on codes", "1 outlet");
            let ill = findings(&mut doctor(&world, &["--webhook-allow-network", "127.0.0.0/8", "--online"]));
            assert_found(&ill, "warning", "webhook host", "does not accept connections");
        }
        let output = run(&mut doctor(&world, &[]));
        assert!(output.stdout.contains("OK       migrations: all applied\n"), "{output:?}");
    }
}

#[tokio::test]
async fn doctor_reports_postgres_settings_that_risk_data_loss() {
    let test = "operation::doctor::doctor_reports_postgres_settings_that_risk_data_loss";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let doctor = || {
        let mut command = countersign(&place.folder, &["doctor", "--database-url", &database.url]);
        findings(&mut command)
    };
    assert_found(&doctor(), "problem", "migrations", "pending: 0001_verify_push");
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    let name = database.psql("SELECT current_database()");
    for setting in ["synchronous_commit TO off", "default_transaction_isolation TO 'serializable'"] {
        database.psql(&format!("ALTER DATABASE \"{name}\" SET {setting}"));
    }
    let ill = doctor();
    assert_found(&ill, "problem", "setting of PostgreSQL", "synchronous_commit is off");
    assert_found(&ill, "warning", "setting of PostgreSQL", "default_transaction_isolation is serializable");
    assert_found(&ill, "ok", "setting of PostgreSQL", "full_page_writes is on");
    assert_found(&ill, "ok", "setting of PostgreSQL", "with 9 connections each");
    assert_found(&ill, "ok", "clock", "");
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);

    let url = "postgres://owl:hoot@127.0.0.1:1/x";
    let away = run(&mut countersign(&place.folder, &["doctor", "--database-url", url]));
    let named = "PROBLEM  database: cannot connect to PostgreSQL at 127.0.0.1:1, database x: ";
    assert!(away.stdout.contains(named) && away.stdout.contains("refused"), "{away:?}");
    assert!(!format!("{away:?}").contains("hoot"), "{away:?}");
}

#[tokio::test]
async fn doctor_reports_problems_with_files_settings_and_certificates() {
    let place = Place::new();
    let doctor =
        |arguments: &[&str]| findings(&mut countersign(&place.folder, &[&["doctor"], arguments].concat()));
    // No data folder exists yet.
    let new = doctor(&[]);
    assert_found(&new, "warning", "database", "does not exist");
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);

    Serving::start(&place.folder, &[], &[]).await.stop().await;
    let (folder, key) = (place.path("data"), place.path("data/master.key"));
    for (path, mode) in [(&folder, 0o755), (&key, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let gateway = ["--sms-url", "https://gateway.example.com/", "--max-codes-per-service-per-hour", "100"];
    let open = "the gateway of sms_url may send messages to all countries";
    assert_found(&doctor(&gateway), "warning", "limits on codes", open);
    let lax = doctor(&["--public-url", "http://verify.example.com"]);
    assert_found(&lax, "warning", "data folder", "every user of this machine (mode 755)");
    assert_found(&lax, "warning", "secret file", "data/master.key is accessible to every user");
    assert_found(&lax, "warning", "public url", "is not https");
    let behind = ["--public-url", "https://verify.example.com"];
    assert_found(&doctor(&behind), "warning", "trusted proxies", "the address of the proxy");
    let told = doctor(&[&behind, &["--trusted-proxies", "10.0.0.0/8"][..]].concat());
    assert!(told.iter().all(|(_, subject, _)| subject != "trusted proxies"), "{told:?}");
    // The disk may be fast or slow.
    let speed = lax.iter().find(|(_, subject, _)| subject == "speed of the disk").unwrap();
    assert!(speed.0 == "ok" || speed.0 == "warning", "{speed:?}");
    assert!(speed.2.contains("ms"), "{speed:?}");

    // A long-lived certificate, an expiring one, and one with another key.
    let authority = Authority::new();
    let good = authority.server_pem();
    let soon = app::SystemClock.now().plus_seconds(10 * 86_400).to_string();
    let mut soon = soon.split(['-', 'T']).map(|part| part.parse::<i32>().unwrap_or(0));
    let mut next = || soon.next().unwrap();
    let ending = authority.server_pem_until((next(), next() as u8, next() as u8));
    for (name, text) in
        [("good.pem", &good.0), ("good.key", &good.1), ("ending.pem", &ending.0), ("ending.key", &ending.1)]
    {
        place.file(name, text);
    }
    let with = |certificate: &str, key: &str| doctor(&["--tls-cert", certificate, "--tls-key", key]);
    assert_found(&with("good.pem", "good.key"), "ok", "tls certificate", "it expires at");
    assert_found(&with("ending.pem", "ending.key"), "warning", "tls certificate", "9 days from now");
    assert_found(
        &with("good.pem", "ending.key"),
        "problem",
        "tls certificate",
        "private key does not belong to the certificate",
    );

    // A damaged database file. Only the deep check reads all of it.
    let database = place.path("data/countersign.db");
    let mut bytes = fs::read(&database).unwrap();
    bytes[4096 * 3..4096 * 3 + 2048].fill(0xff);
    fs::write(&database, bytes).unwrap();
    assert_found(&doctor(&[]), "ok", "database", "SQLite");
    assert_found(&doctor(&["--deep"]), "problem", "database", "");
}
