//! Defaults, `countersign.toml`, the environment and flags: their precedence, and invalid values that are
//! refused.

use std::collections::BTreeMap;

use harness::stand_in::Authority;
use harness::{Server, Storage};

use super::*;
use crate::world::World;

/// The annotated file in the repository, which documents every option.
const ANNOTATED_CONFIG: &str = include_str!("../../../deploy/countersign.toml");

/// The keys for which no value may be generated: an empty one is usually a reference that was not resolved.
const KEYS_THAT_MUST_NOT_BE_EMPTY: [&str; 19] = [
    "account_sid",
    "auth_token",
    "auth_token_file",
    "database_direct_url",
    "database_direct_url_file",
    "database_url",
    "database_url_file",
    "master_key",
    "master_key_file",
    "master_key_old",
    "master_key_old_file",
    "otlp_headers",
    "otlp_headers_file",
    "push_proxy",
    "push_proxy_file",
    "sms_url",
    "sms_url_file",
    "smtp_url",
    "smtp_url_file",
];

/// Parses the output of `config show`: for each option's name, its line and its source.
fn shown(command: &mut Command) -> BTreeMap<String, (String, String)> {
    let line = |line: &str| {
        let (setting, source) = line.rsplit_once('#').unwrap();
        let (name, value) = setting.split_once(" = ").unwrap();
        (name.trim_start_matches('#').to_owned(), (value.trim().to_owned(), source.trim().to_owned()))
    };
    succeed(command).lines().map(line).collect()
}

#[track_caller]
fn assert_shown(shown: &BTreeMap<String, (String, String)>, name: &str, value: &str, source: &str) {
    assert_eq!(shown[name], (value.to_owned(), source.to_owned()), "{name}");
}

#[test]
fn annotated_configuration_file_lists_every_option_with_its_default() {
    let place = Place::new();
    let printed = succeed(&mut countersign(&place.folder, &["config", "defaults"]));
    assert!(
        printed == ANNOTATED_CONFIG,
        "`countersign config defaults` should be written to deploy/countersign.toml"
    );

    // With every option line uncommented, each value equals its default.
    let setting = |line: &str| {
        let (name, _) = line.strip_prefix('#')?.split_once(" = ")?;
        let may_be = !name.contains(' ') && !KEYS_THAT_MUST_NOT_BE_EMPTY.contains(&name);
        may_be.then(|| line[1..].to_owned())
    };
    let lines = ANNOTATED_CONFIG.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()));
    let file = place.file("all.toml", &lines.collect::<Vec<_>>().join("\n"));
    let without = shown(&mut countersign(&place.folder, &["config", "show"]));
    let with = shown(&mut countersign(&place.folder, &["config", "show", "--config", &file]));
    assert_eq!(with.len(), without.len());
    for (name, (value, source)) in &with {
        assert_eq!(value, &without[name].0, "{name}");
        let place =
            ANNOTATED_CONFIG.lines().position(|line| line.starts_with(&format!("#{name} = "))).unwrap() + 1;
        let expected =
            if without[name].1 == "default" { format!("{file}:{place}") } else { "not set".to_owned() };
        assert_eq!(source, &expected, "{name}");
    }

    // The flags of `serve` are exactly these options.
    let help = succeed(&mut countersign(&place.folder, &["serve", "--help"]));
    let flags = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let flags = flags.map(|flag| flag.split(['[', '=']).next().unwrap().replace('-', "_"));
    let mut flags: Vec<_> = flags.filter(|flag| !["config", "help"].contains(&flag.as_str())).collect();
    flags.sort();
    assert_eq!(flags, without.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn flag_overrides_environment_overrides_file_overrides_default() {
    let place = Place::new();
    place.file(
        "countersign.toml",
        "listen = \"127.0.0.1:1\"\npush_concurrency = 1\nwebhook_concurrency = 1\nephemeral = true\n\
         webhook_allow_network = [\"10.0.0.0/8\", \"192.168.0.0/16\"]\n",
    );
    let mut command =
        countersign(&place.folder, &["config", "show", "--webhook-concurrency", "3", "--ephemeral=no"]);
    command.env("COUNTERSIGN_PUSH_CONCURRENCY", "2").env("COUNTERSIGN_WEBHOOK_CONCURRENCY", "2");
    // An empty variable counts as not set.
    let shown = shown(command.env("COUNTERSIGN_LISTEN", ""));
    assert_shown(&shown, "delivery_concurrency", "512", "default");
    assert_shown(&shown, "listen", "\"127.0.0.1:1\"", "countersign.toml:1");
    assert_shown(&shown, "push_concurrency", "2", "COUNTERSIGN_PUSH_CONCURRENCY");
    assert_shown(&shown, "webhook_concurrency", "3", "--webhook-concurrency");
    assert_shown(&shown, "ephemeral", "\"no\"", "--ephemeral");
    assert_shown(
        &shown,
        "webhook_allow_network",
        "[\"10.0.0.0/8\", \"192.168.0.0/16\"]",
        "countersign.toml:5",
    );
    assert_shown(&shown, "public_url", "\"\"", "not set");
}

#[tokio::test]
async fn every_command_uses_the_configuration_file() {
    let place = Place::new();
    place.file("token", "0a1b2c3d4e5f60718293a4b5c6d7e8f9\n");
    let sid = "AC0123456789abcdef0123456789abcdef";
    let file = format!(
        "listen = \"127.0.0.1:0\"\ndata_dir = \"owls\"\naccount_sid = \"{sid}\"\nauth_token_file = \"token\"\n"
    );
    let file = place.file("elsewhere.toml", &file);
    // Without the flag the file's port counts.
    let mut command = countersign(&place.folder, &["serve"]);
    command.env("COUNTERSIGN_CONFIG", &file);
    let server = Serving::launch(&place.folder, command).await;
    let backend = server.backend(sid, "0a1b2c3d4e5f60718293a4b5c6d7e8f9");
    assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
    assert!(place.path("owls/countersign.db").exists() && !place.path("data").exists());

    let listed = succeed(&mut countersign(&place.folder, &["account", "list", "--config", &file]));
    assert!(listed.starts_with(sid), "{listed}");
    server.stop().await;
}

#[test]
fn secret_from_a_higher_layer_takes_precedence_as_value_or_file() {
    let place = Place::new();
    place.file("countersign.toml", "auth_token = \"0a1b2c3d4e5f60718293a4b5c6d7e8f9\"\n");
    place.file("token", "f9e8d7c6b5a4938271605f4e3d2c1b0a\n");
    let mut command = countersign(&place.folder, &["config", "show"]);
    let shown = shown(command.env("COUNTERSIGN_AUTH_TOKEN_FILE", "token"));
    assert_shown(&shown, "auth_token_file", "\"token\"", "COUNTERSIGN_AUTH_TOKEN_FILE");
    assert_shown(&shown, "auth_token", "\"\"", "not set");
}

#[test]
fn config_show_hides_secrets() {
    let place = Place::new();
    place.file("countersign.toml", "database_url = \"postgres://owl:hoot@127.0.0.1/owls\"\n");
    let mut command = countersign(&place.folder, &["config", "show", "--auth-token", "hoothoothoothoothoot"]);
    command.env("COUNTERSIGN_MASTER_KEY", "aG9vdGhvb3Rob290aG9vdGhvb3Rob290aG9vdGhvb3Q=");
    command.env("COUNTERSIGN_OTLP_HEADERS", "authorization=Bearer hoot");
    command.env("COUNTERSIGN_PUSH_PROXY", "http://owl:hoot@proxy.example:3128");
    let printed = succeed(&mut command);
    assert!(!printed.contains("hoot") && !printed.contains("aG9vd"), "{printed}");
    assert_eq!(printed.matches("\"(secret)\"").count(), 5, "{printed}");
}

#[test]
fn error_for_an_invalid_value_names_its_source_and_the_expected_form() {
    let place = Place::new();
    for (text, words) in [
        ("listn = \"127.0.0.1:1\"", &["bad.toml:2: listn", "no such option"][..]),
        ("LISTEN = \"127.0.0.1:1\"", &["bad.toml:2: LISTEN", "no such option"]),
        ("[server]\nlisten = \"127.0.0.1:1\"", &["bad.toml:2: server", "expected text, a number"]),
        (
            "listen = \"owls\"",
            &["bad.toml:2: listen", "such as 127.0.0.1:8080", "expected: Address to listen on"],
        ),
        ("listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]", &["bad.toml:2: listen", "expected one value"]),
        ("listen = ", &["bad.toml:2: expected `name = value`"]),
        (
            "listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"",
            &["bad.toml:3: expected `name = value`", "duplicate"],
        ),
        ("webhook_max_age = 0", &["bad.toml:2: webhook_max_age", "0 is not in 1.."]),
        ("webhook_max_age = 1.5", &["bad.toml:2: webhook_max_age", "invalid digit"]),
        ("webhook_max_age = 1979-05-27", &["bad.toml:2: webhook_max_age", "expected text, a number"]),
        ("webhook_max_age = \"a day\"", &["bad.toml:2: webhook_max_age", "invalid digit"]),
        (
            "webhook_allow_network = [\"10.0.0.0/8\", \"owls\"]",
            &["bad.toml:2: webhook_allow_network", "'owls'", "such as 10.0.0.0/8"],
        ),
        ("ephemeral = \"perhaps\"", &["bad.toml:2: ephemeral", "not a boolean"]),
        (
            "ephemeral = true\ndatabase_url = \"postgres://owl:hoot@x/y\"",
            &["bad.toml:2: ephemeral", "bad.toml:3"],
        ),
        ("database_url = \"mysql://owl:hoot@x/y\"", &["bad.toml:2: database_url", "postgres://"]),
        ("database_direct_url = \"hoot\"", &["bad.toml:2: database_direct_url", "postgres://"]),
        ("database_url = \"postgres://owl:hoot@a:1,b:2/y\"", &["bad.toml:2: database_url", "several hosts"]),
        ("database_url = \"postgres://owl:hoot@a,b/y\"", &["several hosts", "primary"]),
        ("database_url = \"postgres://owl:hoot@a/y?host=b,c\"", &["several hosts", "primary"]),
        (
            "database_url = \"postgres://owl:hoot@a/y?target_session_attrs=read-write\"",
            &["bad.toml:2: database_url", "target_session_attrs", "primary"],
        ),
        ("database_url = \"postgres://owl:hoot@a/y?connect_timeout=soon\"", &["connect_timeout", "seconds"]),
        ("master_key = \"hoot\"", &["bad.toml:2: master_key", "32 bytes in base64"]),
        ("auth_token = \"hoot\"", &["bad.toml:2: auth_token", "16 to 128"]),
        (
            "auth_token = \"hoot\"\nauth_token_file = \"x\"",
            &["bad.toml:2: auth_token", "cannot be combined with auth_token_file"],
        ),
        ("account_sid = \"SK0\"", &["bad.toml:2: account_sid", "the letters must be AC"]),
        ("public_url = \"owls\"", &["bad.toml:2: public_url", "expected an origin"]),
        ("log = \"api=loud\"", &["bad.toml:2: log"]),
        ("otlp_endpoint = \"owls:4318\"", &["bad.toml:2: otlp_endpoint", "a collector's URL"]),
        ("otlp_endpoint = \"http://owl:hoot@x\"", &["bad.toml:2: otlp_endpoint", "without user"]),
        ("otlp_headers = \"hoot\"", &["bad.toml:2: otlp_headers", "name=value"]),
        ("otlp_sample_ratio = 1.01", &["bad.toml:2: otlp_sample_ratio", "a number from 0 to 1"]),
        ("otlp_sample_ratio = \"NaN\"", &["bad.toml:2: otlp_sample_ratio", "a number from 0 to 1"]),
        ("tls_cert = \"cert.pem\"", &["bad.toml:2: tls_cert", "tls_key"]),
        ("auth_token_file = \"missing/token\"", &["missing/token"]),
        ("auth_token_file = \"/dev/zero\"", &["/dev/zero", "1 MiB"]),
        ("webhook_ca = \"/dev/zero\"", &["/dev/zero", "1 MiB"]),
        ("webhook_ca = \"bad.toml\"", &["invalid webhook settings"]),
        ("push_apns_endpoint = \"owls\"", &["push"]),
        ("otlp_endpoint = \"http://x\"\notlp_ca = \"bad.toml\"", &["--otlp-ca", "certificates in PEM"]),
    ] {
        place.file("bad.toml", &format!("# Owls\n{text}\n"));
        for command in [&["serve"][..], &["config", "check"]] {
            let output = refuse(countersign(&place.folder, command).args(["--config", "bad.toml"]), words);
            assert!(!output.stderr.contains("hoot"), "{output:?}");
        }
    }
    for (variable, value, words) in [
        ("COUNTERSIGN_LISTEN", "owls", "such as 127.0.0.1:8080"),
        ("COUNTERSIGN_WEBHOOK_ALLOW_NETWORK", "10.0.0.0/8,owls", "'owls'"),
        ("COUNTERSIGN_EPHEMERAL", "perhaps", "not a boolean"),
        ("COUNTERSIGN_PUBLIC_URL", "owls", "expected an origin"),
        ("COUNTERSIGN_CONFIG", "missing.toml", "missing.toml"),
    ] {
        let mut command = countersign(&place.folder, &["serve"]);
        let place = if variable == "COUNTERSIGN_CONFIG" { value } else { variable };
        refuse(command.env(variable, value), &[place, words]);
    }
    for arguments in [["--database-url", "postgres://x"], ["--database-url-file", "url"]] {
        let mut command = countersign(&place.folder, &["serve", "--ephemeral"]);
        refuse(command.args(arguments), &["--ephemeral", "cannot be used with", arguments[0]]);
    }
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1, "only the invalid file itself");
}

#[test]
fn empty_value_is_refused_for_options_whose_value_must_not_be_generated() {
    let place = Place::new();
    for name in KEYS_THAT_MUST_NOT_BE_EMPTY {
        let variable = format!("COUNTERSIGN_{}", name.to_uppercase());
        for command in [&["serve"][..], &["config", "check"]] {
            let expected = [variable.as_str(), "is empty", "remove it"];
            refuse(countersign(&place.folder, command).env(&variable, ""), &expected);
            let file = place.file("empty.toml", &format!("{name} = \"\"\n"));
            let expected = ["empty.toml:1", name, "is empty"];
            refuse(countersign(&place.folder, command).args(["--config", &file]), &expected);
        }
    }
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1, "files were created before the refusal");
}

#[test]
fn invalid_configuration_does_not_affect_commands_that_ignore_it() {
    let place = Place::new();
    place.file("countersign.toml", "owls\n");
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["config", "defaults"]] {
        succeed(countersign(&place.folder, arguments).env("COUNTERSIGN_LISTEN", "owls"));
    }
    let expected = ["no phone is enrolled"];
    refuse(&mut countersign(&place.folder, &["device", "list"]), &expected);
    // A valid flag for the same option overrides the invalid value.
    let mut command = countersign(&place.folder, &["config", "show", "--listen", "127.0.0.1:1"]);
    command.env("COUNTERSIGN_CONFIG", place.file("empty.toml", "")).env("COUNTERSIGN_LISTEN", "owls");
    assert_shown(&shown(&mut command), "listen", "\"127.0.0.1:1\"", "--listen");
    refuse(
        &mut countersign(&place.folder, &["config", "show", "--config", "/dev/zero"]),
        &["/dev/zero", "1 MiB"],
    );
}

#[test]
fn config_check_changes_nothing_and_warns() {
    let place = Place::new();
    place.file("countersign.toml", "master_key = \"aG9vdGhvb3Rob290aG9vdGhvb3Rob290aG9vdGhvb3Q=\"\n");
    let mut command = countersign(&place.folder, &["config", "check"]);
    command.env("COUNTERSIGN_LISTN", "127.0.0.1:1").env("COUNTERSIGN_SERVICE_HOST", "10.0.0.1");
    let printed = succeed(&mut command);
    assert!(
        printed.contains("warning: environment variable COUNTERSIGN_LISTN is not an option"),
        "{printed}"
    );
    assert!(printed.contains("countersign.toml contains the secret master_key"), "{printed}");
    assert_eq!(printed.matches("warning").count(), 2, "{printed}");
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1);
}

#[test]
fn health_command_reports_server_health_by_exit_code() {
    let place = Place::new();
    let world = World::ephemeral();
    let address = |server: &Server| server.url().split_once("://").unwrap().1.to_owned();
    let listen = address(&world.server);
    for arguments in [&["health"][..], &["health", "--ready"]] {
        assert_eq!(succeed(countersign(&place.folder, arguments).args(["--listen", &listen])), "");
    }
    // If the server listens on all addresses, the command calls it on this machine.
    let all = listen.replace("127.0.0.1", "0.0.0.0");
    succeed(&mut countersign(&place.folder, &["health", "--listen", &all]));
    drop(world);
    refuse(&mut countersign(&place.folder, &["health", "--listen", &listen]), &["/healthz"]);

    let (certificate, key) = Authority::new().server_pem();
    let (certificate, key) = (place.file("cert.pem", &certificate), place.file("key.pem", &key));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let server = Server::start(BINARY, Storage::Ephemeral, &tls);
    let listen = address(&server);
    succeed(countersign(&place.folder, &["health", "--ready", "--listen", &listen]).args(tls));
}
