//! The command line: accounts and keys beside a running server, migrations, and help.

use harness::{Auth, Storage};

use super::*;
use crate::metrics;
use crate::world::{World, assert_error, on_every_database};

on_every_database! {
    async fn accounts_can_be_managed_while_the_server_runs(world: World) {
        let first = world.server.account_sid();
        let backend = |account_sid: &str, auth_token: &str| {
            Http::new(world.server.url()).auth(Auth::Basic(account_sid.to_owned(), auth_token.to_owned()))
        };

        let made = world.command(&["account", "create", "--name", "Barn Owls"]);
        let (account_sid, auth_token) = (value_of("account sid", &made), value_of("auth token", &made));
        assert_eq!(value_of("name", &made), "Barn Owls");
        assert_eq!(auth_token.len(), 32);
        let services = backend(&account_sid, &auth_token).get("/v2/Services", &[]).await;
        assert_eq!(services.status, 200, "{services:?}");

        let list = world.command(&["account", "list"]);
        let sids: Vec<_> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(sids, [first, &account_sid]);
        assert!(list.lines().last().unwrap().ends_with("  Barn Owls"), "{list}");

        // Without a SID the oldest account is shown, and its token only if asked for.
        let shown = world.command(&["account", "show"]);
        assert_eq!(value_of("account sid", &shown), first);
        assert!(!shown.contains(world.server.auth_token()), "{shown}");
        let shown = world.command(&["account", "show", &account_sid, "--reveal"]);
        assert_eq!(value_of("auth token", &shown), auth_token);

        let rotated = world.command(&["account", "rotate-token", &account_sid]);
        let rotated = value_of("auth token", &rotated);
        assert_ne!(rotated, auth_token);
        assert_error(&backend(&account_sid, &auth_token).get("/v2/Services", &[]).await, 401, 20003);
        assert_eq!(backend(&account_sid, &rotated).get("/v2/Services", &[]).await.status, 200);
        let shown = world.command(&["account", "show", "--reveal", &account_sid]);
        assert_eq!(value_of("auth token", &shown), rotated);
        // The other account is unaffected.
        assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
    }
}

on_every_database! {
    async fn api_keys_can_be_managed_while_the_server_runs(world: World) {
        let account_sid = world.server.account_sid();
        let service = world.service().await;
        assert_eq!(world.command(&["api-key", "list", account_sid]), "");

        let made = world.command(&["api-key", "create", account_sid, "--name", "Night shift"]);
        let (sid, secret) = (value_of("api key sid", &made), value_of("secret", &made));
        assert!(sid.starts_with("SK") && secret.len() == 32, "{sid}");
        let with_key = Http::new(world.server.url()).auth(Auth::Basic(sid.clone(), secret.clone()));
        let path = format!("/v2/Services/{service}");
        assert_eq!(with_key.get(&path, &[]).await.json()["account_sid"], account_sid);

        let listed = world.command(&["api-key", "list", account_sid]);
        assert!(listed.starts_with(&sid) && listed.trim_end().ends_with("  Night shift"), "{listed}");
        assert!(!listed.contains(&secret), "{listed}");

        assert_eq!(world.command(&["api-key", "revoke", &sid]), format!("revoked {sid}\n"));
        assert_error(&with_key.get(&path, &[]).await, 401, 20003);
        assert_eq!(world.command(&["api-key", "list", account_sid]), "");
        assert_eq!(world.backend().get(&path, &[]).await.status, 200);
    }
}

on_every_database! {
    async fn commands_report_unknown_sids(world: World) {
        let place = Place::new();
        let (unknown_account, unknown_key) = (format!("AC{}", "0".repeat(32)), format!("SK{}", "0".repeat(32)));
        for (arguments, missing) in [
            (&["account", "show", &unknown_account][..], &unknown_account),
            (&["account", "rotate-token", &unknown_account], &unknown_account),
            (&["api-key", "create", &unknown_account], &unknown_account),
            (&["api-key", "revoke", &unknown_key], &unknown_key),
        ] {
            let mut command = countersign(&place.folder, arguments);
            refuse(command.args(storage_of(&world)), &[&format!("there is no {missing}")]);
        }
        for name in ["", &"x".repeat(65), "two\nlines"] {
            for arguments in [&["account", "create"][..], &["api-key", "create", world.server.account_sid()]] {
                let mut command = countersign(&place.folder, arguments);
                refuse(command.args(storage_of(&world)).args(["--name", name]), &["--name must"]);
            }
        }
    }
}

/// Returns the options with which another process uses this world's database.
fn storage_of(world: &World) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    match &world.storage {
        Storage::Ephemeral => Vec::new(),
        Storage::Sqlite(data_dir) => vec!["--data-dir".to_owned(), text(data_dir)],
        Storage::Postgres { url, data_dir } => {
            vec!["--data-dir".to_owned(), text(data_dir), "--database-url".to_owned(), url.clone()]
        }
    }
}

/// Returns the migration output for a new database: one line per migration, with `word` and the migration's
/// name.
fn each_migration(word: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut lines: Vec<_> =
        files.map(|file| format!("{word} {}\n", file.strip_suffix(".sql").unwrap())).collect();
    lines.sort();
    lines.concat()
}

#[tokio::test]
async fn migrate_creates_a_usable_sqlite_database() {
    let place = Place::new();
    let migrate = || succeed(&mut countersign(&place.folder, &["migrate"]));
    assert_eq!(migrate(), each_migration("applied"));
    assert_eq!(migrate(), "the database is up to date\n");
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    assert_eq!(migrate(), "the database is up to date\n");
}

#[tokio::test]
async fn migrate_dry_run_and_check_change_nothing() {
    let place = Place::new();
    let migrate = |arguments: &[&str]| countersign(&place.folder, &[&["migrate"], arguments].concat());
    let would_apply = each_migration("would apply");
    assert_eq!(succeed(&mut migrate(&["--dry-run"])), would_apply);
    let with_text = succeed(&mut migrate(&["--dry-run", "-v"]));
    assert!(with_text.contains("CREATE TABLE accounts") && with_text.starts_with("would apply 0001"));
    refuse(
        &mut migrate(&["--check"]),
        &["lacks the migrations 0001_verify_push", "run `countersign migrate`"],
    );
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 0);

    assert_eq!(succeed(&mut migrate(&[])), each_migration("applied"));
    let _beside = Serving::start(&place.folder, &[], &[]).await;
    for look in ["--check", "--dry-run"] {
        assert_eq!(succeed(&mut migrate(&[look])), "the database is up to date\n");
    }
}

#[tokio::test]
async fn outdated_postgres_schema_is_refused_until_migrated() {
    let test = "operation::commands::outdated_postgres_schema_is_refused_until_migrated";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let on_it = |arguments: &[&str]| {
        let mut command = countersign(&place.folder, arguments);
        command.args(["--database-url", &database.url]);
        command
    };
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["account", "list"], &["account", "create"]]
    {
        let expected = [
            "the database lacks the migrations 0001_verify_push, 0002_deliveries, 0003_audit, 0004_operation",
            "run `countersign migrate`",
        ];
        refuse(&mut on_it(arguments), &expected);
    }
    refuse(&mut on_it(&["migrate", "--check"]), &["lacks the migrations 0001_verify_push"]);
    assert_eq!(succeed(&mut on_it(&["migrate", "--dry-run"])), each_migration("would apply"));
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE tablename = 'accounts'"), "0");

    assert_eq!(succeed(&mut on_it(&["migrate"])), each_migration("applied"));
    assert_eq!(succeed(&mut on_it(&["migrate"])), "the database is up to date\n");
    assert_eq!(succeed(&mut on_it(&["migrate", "--check"])), "the database is up to date\n");
    let mut arguments = vec!["--database-url", &database.url];
    arguments.extend(metrics::LISTEN);
    let server = Serving::start(&place.folder, &arguments, &[]).await;
    // An older program works with a newer schema, as during a rolling upgrade.
    database.psql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, '\\x00', 0)",
    );
    let metrics = metrics::address(|| server.stderr()).await;
    let ready = async || {
        let status = Http::new(&server.url).get("/readyz", &[]).await.status;
        // A response can contain an older measurement.
        wait_until("the metrics agree", WAIT_TIMEOUT, async || {
            let ready_metric = metrics::read(&metrics).await.sum("countersign_ready", &[]);
            (ready_metric == f64::from(u8::from(status == 200))).then_some(())
        })
        .await;
        status
    };
    assert_eq!(ready().await, 200);
    // A schema that lacks a migration, for example after a restore under the running server, is not ready.
    database.psql("UPDATE _sqlx_migrations SET version = 9998 WHERE version = 2");
    assert_eq!(ready().await, 503);
    let why = Http::new(&metrics).get("/readyz", &[]).await;
    assert_eq!((why.status, why.text.as_str()), (503, "the database lacks migrations\n"));
    database.psql("UPDATE _sqlx_migrations SET version = 2 WHERE version = 9998");
    assert_eq!(ready().await, 200);
    server.stop().await;
    Serving::start(&place.folder, &["--database-url", &database.url], &[]).await.stop().await;
}

/// Returns every command, found as a new user would: by following `--help`.
fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(command) = all.get(next).cloned() {
        next += 1;
        let help = help_of(&command);
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            // Deeper lines continue a description.
            let name = line.strip_prefix("  ").unwrap().split(' ').next().unwrap();
            if !name.is_empty() && name != "help" {
                all.push([command.clone(), vec![name.to_owned()]].concat());
            }
        }
    }
    all
}

fn help_of(command: &[String]) -> String {
    let place = Place::new();
    let help = succeed(countersign(&place.folder, &[]).args(command).arg("--help"));
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 0, "{command:?} --help left something");
    help
}

#[test]
fn every_command_prints_help() {
    let commands = commands();
    for expected in ["serve", "demo", "device enroll", "device approve", "migrate", "account rotate-token"] {
        assert!(commands.iter().any(|command| command.join(" ") == expected), "{expected}: {commands:?}");
    }
    for command in &commands {
        let help = help_of(command);
        let usage =
            format!("Usage: {}", [vec!["countersign".to_owned()], command.clone()].concat().join(" "));
        assert!(help.contains(&usage), "{help}");
        // Every command and every option has a description.
        assert!(!help.starts_with("Usage"), "{help}");
    }
}

#[test]
fn help_shows_no_secret_from_the_environment() {
    let place = Place::new();
    let mut command = countersign(&place.folder, &["serve", "--help"]);
    for name in ["AUTH_TOKEN", "MASTER_KEY", "DATABASE_URL"] {
        command.env(format!("COUNTERSIGN_{name}"), "postgres://hoot");
    }
    assert!(!succeed(&mut command).contains("hoot"));
}

#[test]
fn version_is_printed() {
    let place = Place::new();
    let version = succeed(&mut countersign(&place.folder, &["--version"]));
    assert_eq!(version, format!("countersign {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn invalid_command_line_exits_with_status_2_and_a_reason() {
    let place = Place::new();
    for (arguments, words) in [
        (&[][..], "Usage: countersign [OPTIONS] <COMMAND>"),
        (&["surf"], "unrecognized subcommand 'surf'"),
        (&["serve", "--surf"], "unexpected argument '--surf'"),
        (&["serve", "surf"], "unexpected argument 'surf'"),
        (&["serve", "--listen", "owls"], "invalid value 'owls' for '--listen"),
        (&["serve", "--listen", "127.0.0.1:99999"], "invalid value '127.0.0.1:99999' for '--listen"),
        (&["serve", "--auth-token", "x", "--auth-token-file", "y"], "cannot be used with"),
        (&["migrate", "--master-key", "x", "--master-key-file", "y"], "cannot be used with"),
        (&["migrate", "--database-url", "x", "--database-url-file", "y"], "cannot be used with"),
        (&["migrate", "--check", "--dry-run"], "cannot be used with"),
        (&["account"], "Usage: countersign account [OPTIONS] <COMMAND>"),
        (&["account", "show", "owl"], "invalid value 'owl'"),
        (&["account", "rotate-token"], "required"),
        (&["api-key", "create"], "required"),
        (&["api-key", "revoke", "AC00000000000000000000000000000000"], "invalid value"),
        (&["device", "surf"], "unrecognized subcommand 'surf'"),
    ] {
        let output = run(&mut countersign(&place.folder, arguments));
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(words), "{arguments:?}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 0);
}

#[test]
fn commands_report_a_missing_database_without_creating_it() {
    let place = Place::new();
    let account_sid = "AC0123456789abcdef0123456789abcdef";
    for arguments in [
        &["account", "list"][..],
        &["account", "show"],
        &["api-key", "list", account_sid],
        &["webhooks", "list"],
        &["credential", "list"],
    ] {
        let output =
            run(&mut countersign(&place.folder, &[arguments, &["--data-dir", "elsewhere"]].concat()));
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("there is no database elsewhere/countersign.db"), "{output:?}");
        assert!(!place.path("elsewhere").exists());
    }
}
