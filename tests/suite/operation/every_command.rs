//! Every command with every kind of configuration file, and with options given in every way: its result, or a
//! readable refusal, but never a panic.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::stand_in::Authority;

use super::*;

/// The file that documents every option.
const ANNOTATED_CONFIG: &str = include_str!("../../../deploy/countersign.toml");

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// The number of concurrent commands; most of them wait for the disk.
const THREAD_COUNT: usize = 8;

/// The expected outcome of a command.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// The command succeeds.
    Done,
    /// The command fails, and its error contains this text.
    Refused(&'static str),
    /// The command succeeds or reports a problem, depending on the machine.
    Reported,
    /// The command prints its address, keeps running, and exits with 0 when stopped.
    Serving,
}

/// The commands without options of the server, which read no configuration file.
const COMMANDS_WITHOUT_SERVER_OPTIONS: [&str; 6] =
    ["demo", "device", "load", "config defaults", "completions", "man"];

/// Every command with arguments, and its outcome. `{account}` stands for the SID of the existing account.
const COMMANDS: [(&str, &str, Outcome); 58] = [
    // The demo comes first because it takes longest.
    ("demo", "", Outcome::Done),
    ("serve", "", Outcome::Serving),
    (
        "device enroll",
        "--url http://127.0.0.1:1 --service {VA} --identity user-0001 --token owl",
        Outcome::Refused("did not respond"),
    ),
    ("device list", "", Outcome::Refused("no phone is enrolled")),
    ("device show", "", Outcome::Refused("no phone is enrolled")),
    ("device approve", "{YC}", Outcome::Refused("no phone is enrolled")),
    ("device deny", "{YC}", Outcome::Refused("no phone is enrolled")),
    ("device watch", "", Outcome::Refused("no phone is enrolled")),
    ("device forget", "YF", Outcome::Refused("no factor")),
    ("device qr", "--service {VA} --identity user-0001 --token owl", Outcome::Done),
    ("device totp add", "otpauth://totp/Bank:ada?secret=GEZDGNBVGY3TQOJQ", Outcome::Done),
    ("device totp code", "", Outcome::Refused("no TOTP secret")),
    ("device totp forget", "ada", Outcome::Refused("no TOTP secret of the account ada")),
    ("load", "", Outcome::Refused("--host")),
    ("health", "", Outcome::Refused("/healthz")),
    ("config check", "", Outcome::Done),
    ("config show", "", Outcome::Done),
    ("config defaults", "", Outcome::Done),
    ("doctor", "", Outcome::Reported),
    ("migrate", "", Outcome::Done),
    ("backup", "copy", Outcome::Done),
    ("restore", "backup", Outcome::Done),
    ("keys list", "", Outcome::Done),
    ("keys rotate", "", Outcome::Done),
    ("account create", "--name Owls", Outcome::Done),
    ("account list", "", Outcome::Done),
    ("account show", "--reveal", Outcome::Done),
    ("account set", "{account} --debugger-webhook https://backend.example/", Outcome::Done),
    ("account rotate-token", "{account}", Outcome::Done),
    ("api-key create", "{account}", Outcome::Done),
    ("api-key list", "{account}", Outcome::Done),
    ("api-key revoke", "{SK}", Outcome::Refused("there is no SK")),
    ("service limit", "{VA}", Outcome::Refused("there is no VA")),
    ("webhooks list", "", Outcome::Done),
    ("webhooks attempts", "--all", Outcome::Done),
    (
        "webhooks redeliver",
        "00000000-0000-7000-8000-000000000000",
        Outcome::Refused("there is no finished delivery"),
    ),
    ("webhooks test", "{YW}", Outcome::Refused("there is no YW")),
    ("credential create", "--service-account missing.json", Outcome::Refused("missing.json")),
    ("credential list", "", Outcome::Done),
    ("credential check", "{CR}", Outcome::Refused("there is no CR")),
    ("credential delete", "{CR}", Outcome::Refused("there is no CR")),
    (
        "outlet create",
        "--kind capture --channel sms --name Owls --path /tmp/countersign-messages",
        Outcome::Done,
    ),
    ("outlet list", "", Outcome::Done),
    ("outlet show", "{MG}", Outcome::Refused("there is no MG")),
    ("outlet update", "{MD} --name Owls", Outcome::Refused("there is no MD")),
    ("outlet delete", "{MG}", Outcome::Refused("there is no MG")),
    ("outlet test", "{MD} --to ann@example.com", Outcome::Refused("there is no MD")),
    ("template create", "--name Login --channels sms --locale en --text={{code}}.", Outcome::Done),
    ("template list", "", Outcome::Done),
    ("template show", "{HJ}", Outcome::Refused("there is no HJ")),
    ("template delete", "{HJ}", Outcome::Refused("there is no HJ")),
    ("template set-translation", "{HJ} --locale de --text={{code}}.", Outcome::Refused("there is no HJ")),
    ("template remove-translation", "{HJ} --locale de", Outcome::Refused("there is no HJ")),
    ("audit list", "", Outcome::Done),
    ("audit verify", "", Outcome::Done),
    ("audit accept", "", Outcome::Done),
    ("audit export", "", Outcome::Done),
    ("clock trust", "", Outcome::Done),
];

/// Commands that only print and take an argument of their own.
const PRINTING_COMMANDS: [(&str, &str, Outcome); 2] =
    [("completions", "bash", Outcome::Done), ("man", "", Outcome::Done)];

/// The contents of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// There is no file.
    None,
    /// Every option, secrets by value.
    Full,
    /// Every option, secrets in files of their own.
    FullInFiles,
    /// An unknown option.
    Unknown,
}

/// How an option is given: by flag, variable, or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Flag,
    Variable,
}

/// A command with its configuration.
#[derive(Clone, Copy, Debug)]
struct Case {
    command: &'static str,
    arguments: &'static str,
    outcome: Outcome,
    kind: Kind,
    way: Way,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (command, arguments, outcome) in COMMANDS.into_iter().chain(PRINTING_COMMANDS) {
        for kind in [Kind::None, Kind::Full, Kind::FullInFiles, Kind::Unknown] {
            for way in [Way::Flag, Way::Variable] {
                cases.push(Case { command, arguments, outcome, kind, way });
            }
        }
    }
    cases
}

/// The folder that is copied for each command: a database, its key, a backup, and configuration files.
struct Template {
    place: Place,
    account: String,
}

impl Template {
    fn make() -> Self {
        let place = Place::new();
        fs::create_dir(place.path("data")).unwrap();
        place.file("data/master.key", KEY);
        let made = succeed(&mut countersign(&place.folder, &["account", "create"]));
        succeed(&mut countersign(&place.folder, &["backup", "backup"]));
        let (certificate, key) = Authority::new().server_pem();
        place.file("certificate.pem", &certificate);
        place.file("key.pem", &key);
        for (name, secret) in SECRETS {
            place.file(name, secret);
        }
        place.file("full.toml", &full(|name| !name.ends_with("_file")));
        place.file("files.toml", &full(|name| !SECRETS.iter().any(|(secret, _)| *secret == name)));
        place.file("unknown.toml", "owls = 1\n");
        Self { account: value_of("account sid", &made), place }
    }

    /// Returns a copy for one command.
    fn copy(&self) -> Place {
        let copy = Place::new();
        fs::create_dir(copy.path("data")).unwrap();
        for folder in ["", "data"] {
            for file in fs::read_dir(self.place.path(folder)).unwrap().map(Result::unwrap) {
                if file.file_type().unwrap().is_file() {
                    fs::copy(file.path(), copy.path(folder).join(file.file_name())).unwrap();
                }
            }
        }
        copy
    }
}

/// The options that take a value or, under this name, a file; with values.
const SECRETS: [(&str, &str); 7] = [
    ("auth_token", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
    ("master_key", KEY),
    ("master_key_old", OTHER_KEY),
    ("otlp_headers", "authorization=Bearer owl"),
    ("push_proxy", "http://127.0.0.1:1"),
    ("smtp_url", "smtps://owl:password@127.0.0.1:1"),
    ("sms_url", "https://owl:password@127.0.0.1:1/send"),
];

/// Returns whether the option with this name concerns a PostgreSQL database.
fn is_of_postgres(name: &str) -> bool {
    ["database_url", "database_direct_url"].iter().any(|option| name.starts_with(option))
}

/// Returns a file with every wanted option; options without a default get a value here. PostgreSQL is left out,
/// because the data folder would not count with it.
fn full(is_wanted: impl Fn(&str) -> bool) -> String {
    let mut file = String::new();
    for line in ANNOTATED_CONFIG.lines().filter_map(|line| line.strip_prefix('#')) {
        let Some((name, default)) = line.split_once(" = ") else { continue };
        if name.contains(' ') || is_of_postgres(name) || !is_wanted(name) {
            continue;
        }
        let secret = SECRETS.iter().find(|(secret, _)| *secret == name);
        let in_file = SECRETS.iter().find(|(secret, _)| name.strip_suffix("_file") == Some(secret));
        let value = match (name, secret, in_file) {
            (_, Some((_, value)), _) | (_, _, Some((value, _))) => format!("{value:?}"),
            ("listen" | "metrics_listen", ..) => "\"127.0.0.1:0\"".to_owned(),
            // A flag or a variable overrides it, so this folder is never created.
            ("data_dir", ..) => "\"elsewhere\"".to_owned(),
            ("test_mode_host", ..) => "[\"verify.test.example\"]".to_owned(),
            ("public_url", ..) => "\"https://verify.example.com\"".to_owned(),
            ("verification_countries", ..) => "[\"AT\"]".to_owned(),
            ("trusted_proxies" | "webhook_allow_network", ..) => "[\"127.0.0.0/8\"]".to_owned(),
            ("tls_cert" | "otlp_ca" | "webhook_ca" | "push_ca" | "outlet_ca", ..) => {
                "\"certificate.pem\"".to_owned()
            }
            ("mail_from", ..) => "\"Owl Bank <codes@example.com>\"".to_owned(),
            ("audit_checkpoint_file", ..) => "\"checkpoints\"".to_owned(),
            ("tls_key", ..) => "\"key.pem\"".to_owned(),
            ("account_sid", ..) => "\"AC0123456789abcdef0123456789abcdef\"".to_owned(),
            ("otlp_endpoint", ..) => "\"http://127.0.0.1:1\"".to_owned(),
            ("push_apns_endpoint" | "push_fcm_endpoint", ..) => "\"https://127.0.0.1:1\"".to_owned(),
            (name, ..) => {
                assert!(!["\"\"", "[]"].contains(&default), "add a valid value for {name} to this test");
                default.to_owned()
            }
        };
        file.push_str(&format!("{name} = {value}\n"));
    }
    file
}

impl Case {
    fn has_options(&self) -> bool {
        !COMMANDS_WITHOUT_SERVER_OPTIONS.iter().any(|without| self.command.starts_with(without))
    }

    /// Returns the case's command, with each option given as the case specifies.
    fn command(&self, template: &Template, place: &Place) -> Command {
        let mut arguments: Vec<String> = self.command.split(' ').map(str::to_owned).collect();
        for argument in self.arguments.split_whitespace() {
            let sid = argument.trim_matches(['{', '}']);
            arguments.push(match sid {
                "account" => template.account.clone(),
                "YC" => format!("YC03{}", "0".repeat(30)),
                _ if sid != argument => format!("{sid}{}", "0".repeat(32)),
                _ => argument.to_owned(),
            });
        }
        let mut options = Vec::new();
        if self.has_options() {
            options.push(("data-dir", "data"));
        }
        if ["health", "serve"].contains(&self.command) {
            options.push(("listen", if self.command == "serve" { "127.0.0.1:0" } else { "127.0.0.1:1" }));
        }
        match self.kind {
            Kind::None => {}
            Kind::Full => options.push(("config", "full.toml")),
            Kind::FullInFiles => options.push(("config", "files.toml")),
            Kind::Unknown => options.push(("config", "unknown.toml")),
        }
        let mut command = countersign(&place.folder, &[]);
        for (name, value) in options {
            match self.way {
                Way::Flag => arguments.push(format!("--{name}={value}")),
                Way::Variable => {
                    let variable = format!("COUNTERSIGN_{}", name.replace('-', "_").to_uppercase());
                    command.env(variable, value);
                }
            }
        }
        command.args(arguments);
        command
    }

    /// Runs the command. Returns a description of the failure, or `None` if the outcome is as expected.
    fn check(&self, template: &Template) -> Option<String> {
        let place = template.copy();
        let mut command = self.command(template, &place);
        let output = match self.outcome {
            Outcome::Serving if self.kind != Kind::Unknown => served(command),
            _ => run(&mut command),
        };
        let refused = |expected: &str| {
            let last = output.stderr.trim_end().lines().last().unwrap_or_default();
            output.code == Some(1) && last.starts_with("countersign: ") && last.contains(expected)
        };
        let is_right = match self.outcome {
            _ if self.kind == Kind::Unknown && self.has_options() => {
                refused("unknown.toml:1: owls: no such option")
            }
            Outcome::Done => output.code == Some(0) && output.stderr.is_empty(),
            Outcome::Refused(expected) => refused(expected),
            Outcome::Reported => {
                matches!(output.code, Some(0 | 1)) && output.stdout.contains("configuration")
            }
            Outcome::Serving => {
                output.code == Some(0) && output.stdout.starts_with("countersign listening on ")
            }
        };
        let is_elsewhere = place.path("elsewhere").exists();
        (!is_right || is_elsewhere).then(|| format!("{self:?}: {output:?}"))
    }
}

/// Runs a server until it listens, and stops it.
fn served(mut command: Command) -> CommandOutput {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = drained(child.stderr.take().unwrap());
    let mut stdout = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut stdout).unwrap();
    let pid = child.id().to_string();
    Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap();
    let code = child.wait().unwrap().code();
    CommandOutput { code, stdout, stderr: stderr.join().unwrap() }
}

/// Returns the failures of all cases.
fn wrong(cases: &[Case], check: impl Fn(&Case) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                wrong.extend(check(case));
            }
            wrong
        };
        let threads: Vec<_> = (0..THREAD_COUNT).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Returns all commands without subcommands, as `--help` lists them.
fn leaves(place: &Place, command: &str) -> BTreeSet<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let help = succeed(countersign(&place.folder, &words).arg("--help"));
    let below =
        help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    let names = below.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    if names.is_empty() {
        return [command.to_owned()].into();
    }
    names.iter().flat_map(|name| leaves(place, format!("{command} {name}").trim())).collect()
}

#[test]
fn every_command_succeeds_or_fails_as_expected_with_each_configuration_file() {
    let template = Template::make();
    let cases = cases();
    let known: BTreeSet<_> = cases.iter().map(|case| case.command.to_owned()).collect();
    assert_eq!(leaves(&template.place, ""), known, "this test must cover every command");
    let wrong = wrong(&cases, |case| case.check(&template));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_command_exits_quietly_if_its_output_pipe_is_closed() {
    let template = Template::make();
    let ends = |case: &Case| matches!(case.outcome, Outcome::Done | Outcome::Reported);
    let mut cases = cases();
    cases.retain(|case| case.kind == Kind::None && case.way == Way::Flag && ends(case));
    let wrong = wrong(&cases, |case| {
        let place = template.copy();
        let mut command = case.command(&template, &place);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let is_right = match case.outcome {
            // A reported problem is a result too.
            Outcome::Reported => matches!(output.status.code(), Some(0 | 1)) && !stderr.contains("panic"),
            _ => output.status.code() == Some(0) && stderr.is_empty(),
        };
        (!is_right).then(|| format!("{case:?}: {} {stderr}", output.status))
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn commands_report_unwritable_standard_output() {
    let template = Template::make();
    let mut command = countersign(&template.place.folder, &["account", "list"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("countersign: cannot write to standard output: "), "{stderr}");
}

#[test]
fn completions_and_manual_pages_list_every_command() {
    let place = Place::new();
    succeed(&mut countersign(&place.folder, &["man", "pages"]));
    for command in leaves(&place, "") {
        let page = place.path(&format!("pages/countersign-{}.1", command.replace(' ', "-")));
        assert!(fs::read_to_string(&page).is_ok_and(|page| page.contains(".TH")), "{}", page.display());
    }
    let page = succeed(&mut countersign(&place.folder, &["man"]));
    assert_eq!(page, fs::read_to_string(place.path("pages/countersign.1")).unwrap());
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef countersign"), ("fish", "complete -c")]
    {
        let script = succeed(&mut countersign(&place.folder, &["completions", shell]));
        assert!(script.contains(words) && script.contains("rotate-token"), "{shell}: {script}");
    }
}
