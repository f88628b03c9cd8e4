//! What counts as the configuration: defaults < `countersign.toml` < environment < flags.
//!
//! The command line (`cli.rs`) knows every option, its type and its default. What the file says becomes the
//! default of that option before the command line is read: so it is read by the same parser, and what stands
//! above it wins without a rule of ours. Values that are wrong are told with the place that they came from.

mod file;
pub(crate) mod show;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use api::PublicUrl;
use clap::builder::{Resettable, Styles};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use domain::AccountSid;
use domain::accounts::AuthToken;
use tracing_subscriber::EnvFilter;

use crate::cli::Cli;
use crate::config::file::File;
use crate::failure::Failure;
use crate::storage::{NOT_A_MASTER_KEY, master_keys_in};
use crate::terminal::{acts, say_text, warn_text};

/// The file that is read when none is named, if it is there.
const FILE: &str = "countersign.toml";

/// What an option's variable begins with.
const PREFIX: &str = "COUNTERSIGN_";

/// Options whose value is never shown. Each has a twin of the same name and `_file` that names a file with it.
const SECRETS: [&str; 7] = [
    "auth_token",
    "database_direct_url",
    "database_url",
    "master_key",
    "master_key_old",
    "otlp_headers",
    "push_proxy",
];

/// What is said of an option that [`matters`] and is empty.
const EMPTY: &str = "is empty; give it a value, or leave it out";

/// Every option of the server, with what it is set to. There are secrets among them, so it does not print.
pub(crate) struct Settings {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    options: Vec<Setting>,
}

/// An option and what it is set to.
struct Setting {
    /// The argument that it is on the command line.
    arg: Arg,
    values: Vec<String>,
    source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Source {
    Default,
    File(PathBuf, usize),
    Environment(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Reads the command line, and what stands behind it.
///
/// # Errors
/// For a file that can't be read, a key that is no option, and a value that is wrong: with the place, and what
/// was expected. A command line that can't be understood ends the process, as does a question for help.
pub(crate) fn read() -> Result<(Cli, Settings), Failure> {
    let options = options();
    // Whoever composes an environment often can't leave a variable out, and leaves it empty.
    let command = each(Cli::command(), &|command| command.mut_args(without_empty_variable));
    let command = if is_input_acting() { command.styles(Styles::plain()) } else { command };
    // Once without the file, to learn which one, and what is asked for.
    let matches = command.clone().try_get_matches().or_else(|error| -> Result<_, Failure> {
        if error.use_stderr() {
            // What the environment got wrong is told with the name that it has there.
            check_environment(&options)?;
        }
        refuse(&error)
    })?;
    let asked = Asked::new(&command, &matches);
    check_environment(
        options
            .iter()
            .filter(|option| asked.has(option) && asked.source(option) != Some(ValueSource::CommandLine)),
    )?;
    // The file is not read for a command without options of the server.
    let has_options = options.iter().any(|option| asked.has(option));
    let file = if has_options { the_file(matches.get_one::<PathBuf>("config"))? } else { None };
    let Some(file) = file else { return finish(&command, matches, options, None) };
    file.check(&options)?;
    let with_file = at(command.clone(), &asked.names, &|command| file.under(command, &asked, &options));
    finish(&command, with_file.try_get_matches().unwrap_or_else(|error| refuse(&error)), options, Some(&file))
}

fn finish(
    command: &Command,
    mut matches: ArgMatches,
    options: Vec<Arg>,
    file: Option<&File>,
) -> Result<(Cli, Settings), Failure> {
    let asked = Asked::new(command, &matches);
    let is_ephemeral = asked.has_id("ephemeral") && asked.matches.get_flag("ephemeral");
    let settings = Settings::of(options, &asked, file);
    for setting in &settings.options {
        for value in &setting.values {
            parsable(&setting.name(), value).map_err(|why| setting.wrong(&why))?;
        }
    }
    let cli = Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| refuse(&error));
    settings.check_together(is_ephemeral)?;
    Ok((cli, settings))
}

/// The options of `serve`, which are those of every command, and what the file may set.
fn options() -> Vec<Arg> {
    let serve = Cli::command().find_subcommand("serve").cloned().unwrap_or_default();
    serve.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect()
}

/// An option's name: that of its variable without what all of them begin with.
fn name(arg: &Arg) -> String {
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    variable.trim_start_matches(PREFIX).to_lowercase()
}

/// The other option that gives the same secret.
fn twin(name: &str) -> Option<String> {
    match name.strip_suffix("_file") {
        Some(secret) => SECRETS.contains(&secret).then(|| secret.to_owned()),
        None => SECRETS.contains(&name).then(|| format!("{name}_file")),
    }
}

/// Whether the option says who may do what, or where that is written: what must not be made up. An empty one
/// counts as none otherwise, but here it is all that is left of a reference that led nowhere.
fn matters(name: &str) -> bool {
    name == "account_sid" || is_secret(name) || twin(name).is_some()
}

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// The command that was asked for, with the values that were given to it.
///
/// Every look-up of an option goes through here, since most commands lack most options of the server. Whether a
/// command has an option is read from its definition: what clap matched does not say it in a release build.
struct Asked<'a> {
    /// The names from the program to the command.
    names: Vec<String>,
    command: &'a Command,
    matches: &'a ArgMatches,
}

impl<'a> Asked<'a> {
    fn new(mut command: &'a Command, mut matches: &'a ArgMatches) -> Self {
        let mut names = Vec::new();
        while let Some((name, matches_below)) = matches.subcommand() {
            let Some(below) = command.find_subcommand(name) else { break };
            names.push(name.to_owned());
            (command, matches) = (below, matches_below);
        }
        Self { names, command, matches }
    }

    /// Whether the command has this option.
    fn has(&self, option: &Arg) -> bool {
        self.has_id(option.get_id().as_str())
    }

    fn has_id(&self, id: &str) -> bool {
        self.command.get_arguments().any(|argument| argument.get_id().as_str() == id)
    }

    /// Where the value of this option comes from; `None` when it has none, or the command lacks it.
    fn source(&self, option: &Arg) -> Option<ValueSource> {
        if self.has(option) { self.matches.value_source(option.get_id().as_str()) } else { None }
    }

    /// The values of this option as they were written; none when it has none, or the command lacks it.
    fn values(&self, option: &Arg) -> Vec<String> {
        let raw = if self.has(option) { self.matches.get_raw(option.get_id().as_str()) } else { None };
        raw.unwrap_or_default().map(text).collect()
    }
}

/// Whether arguments or variables, which help and errors repeat, hold characters that a terminal acts on. They may
/// come from the data of a user.
fn is_input_acting() -> bool {
    let variables = std::env::vars_os().filter(|(name, _)| text(name).starts_with(PREFIX));
    let mut values = variables.map(|(_, value)| value).chain(std::env::args_os());
    values.any(|value| text(&value).chars().any(acts))
}

/// Prints help, the version, or what is wrong with the command line, and ends the process.
fn refuse(error: &clap::Error) -> ! {
    if !is_input_acting() {
        error.exit();
    }
    // The command has no styles then, so that marks replace only what the input holds.
    let words = error.render().ansi().to_string();
    if error.use_stderr() {
        warn_text(words.trim_end());
    } else {
        let _ = say_text(words.trim_end());
    }
    std::process::exit(error.exit_code())
}

/// Changes the command of these names.
fn at(command: Command, names: &[String], change: &dyn Fn(Command) -> Command) -> Command {
    match names.split_first() {
        None => change(command),
        Some((first, rest)) => command.mut_subcommand(first, |command| at(command, rest, change)),
    }
}

/// Changes every command below.
fn each(command: Command, change: &dyn Fn(Command) -> Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    names
        .iter()
        .fold(change(command), |command, name| command.mut_subcommand(name, |below| each(below, change)))
}

fn without_empty_variable(arg: Arg) -> Arg {
    let is_empty =
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    if is_empty { arg.env(Resettable::Reset) } else { arg }
}

/// Whether what the environment says of options can be read.
fn check_environment<'a>(options: impl IntoIterator<Item = &'a Arg>) -> Result<(), Failure> {
    for option in options {
        let Some(variable) = option.get_env() else { continue };
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => check_alone(option, &[value])
                .map_err(|why| Failure::new(format!("{}: {why}", variable.display())))?,
            Ok(_) if matters(&name(option)) => {
                return Err(Failure::new(format!("{}: {EMPTY}", variable.display())));
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::new(format!("{}: expected UTF-8", variable.display())));
            }
        }
    }
    Ok(())
}

/// Whether an option takes these values, by themselves; else why not, and what it is.
fn check_alone(option: &Arg, values: &[String]) -> Result<(), String> {
    if is_secret(&name(option)) {
        // What clap refuses, it repeats. Whether a secret can be one is looked at later, in silence.
        return Ok(());
    }
    let alone = option.clone().env(Resettable::Reset).conflicts_with(Resettable::Reset);
    let alone = Command::new("option").no_binary_name(true).arg(alone);
    let flag = format!("--{}={}", option.get_long().unwrap_or_default(), values.join(","));
    match alone.try_get_matches_from([flag]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let words = error.to_string();
            let why: Vec<_> = words.lines().take_while(|line| !line.starts_with("For more")).collect();
            let why = why.join(" ");
            let why =
                why.trim().trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            Err(format!("{why}; expected: {help}"))
        }
    }
}

/// Validates options that clap treats as plain strings. Messages never repeat a secret.
fn parsable(name: &str, value: &str) -> Result<(), String> {
    match name {
        "public_url" => PublicUrl::new(Some(value)).map(drop),
        "log" => EnvFilter::try_new(value).map(drop).map_err(|error| error.to_string()),
        "account_sid" => {
            let sid = value.parse::<AccountSid>();
            sid.map(drop).map_err(|expected| format!("{expected}, the letters AC"))
        }
        "auth_token" => {
            let expected = "expected 16 to 128 letters and digits";
            AuthToken::parse(value).map(drop).ok_or_else(|| expected.to_owned())
        }
        "master_key" | "master_key_old" => {
            master_keys_in(value).map(drop).ok_or_else(|| NOT_A_MASTER_KEY.to_owned())
        }
        "database_url" | "database_direct_url" => check_database_url(value),
        // Not by the command line, which would repeat a password in it.
        "otlp_endpoint" => {
            value.parse::<telemetry::traces::Endpoint>().map(drop).map_err(|error| error.to_string())
        }
        "otlp_headers" => {
            telemetry::traces::Headers::parse(value).map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// What an URL of PostgreSQL may say behind its question mark.
const DATABASE_PARAMETERS: [&str; 20] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslca",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// What a URL with several hosts is told.
const ONE_HOST: &str = "names several hosts, which is not supported; give one address that always leads to the \
     primary: a proxy, a pooler or a DNS name that follows it";

/// What it is told that asks for a kind of server.
const ONE_ADDRESS: &str = "give an address that always leads to the primary: a proxy, a pooler or a DNS name that \
     follows it";

/// Whether this is an URL of the one kind of database that has URLs here. What it says is never repeated, since
/// the library would repeat a parameter that it does not know in the log, with its value.
///
/// # Errors
/// With what is expected.
pub(crate) fn check_database_url(url: &str) -> Result<(), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres:// or postgresql://".to_owned());
    }
    // Before it is parsed: two hosts with a port each are no URL to a parser.
    let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    let hosts = authority.map(|authority| authority.rsplit('@').next().unwrap_or(authority));
    if hosts.is_some_and(|hosts| hosts.contains(',')) {
        return Err(ONE_HOST.to_owned());
    }
    let parsed = url::Url::parse(url)
        .map_err(|_| "must be an URL; characters such as @ in a password are written as %40")?;
    for (name, value) in parsed.query_pairs() {
        if ["host", "hostaddr", "port"].contains(&name.as_ref()) && value.contains(',') {
            return Err(ONE_HOST.to_owned());
        }
        if name == "target_session_attrs" {
            return Err(format!("has target_session_attrs, which is not supported; {ONE_ADDRESS}"));
        }
        if name == "connect_timeout" && value.parse::<u16>().is_err() {
            return Err("expected connect_timeout to be a number of seconds, up to 65535".to_owned());
        }
        let is_option = name.starts_with("options[");
        if !is_option && !DATABASE_PARAMETERS.contains(&name.as_ref()) {
            let known = DATABASE_PARAMETERS.join(", ");
            return Err(format!("has a parameter that is none of {known}"));
        }
        let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        if ["sslmode", "ssl-mode"].contains(&name.as_ref()) && !modes.contains(&value.as_ref()) {
            return Err(format!("expected sslmode to be one of {}", modes.join(", ")));
        }
    }
    Ok(())
}

/// The file that is named, or the one of this folder.
fn the_file(named: Option<&PathBuf>) -> Result<Option<File>, Failure> {
    match named {
        Some(path) => File::read(path).map(Some),
        None if Path::new(FILE).exists() => File::read(Path::new(FILE)).map(Some),
        None => Ok(None),
    }
}

impl Settings {
    /// The options, with the values that the command which was asked for has; none for an option that it lacks.
    fn of(options: Vec<Arg>, asked: &Asked<'_>, file: Option<&File>) -> Self {
        let setting = |arg: Arg| {
            let source = match asked.source(&arg) {
                Some(ValueSource::CommandLine) => {
                    Source::Flag(format!("--{}", arg.get_long().unwrap_or_default()))
                }
                Some(ValueSource::EnvVariable) => {
                    Source::Environment(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
                }
                Some(_) => file.and_then(|file| file.source(&name(&arg))).unwrap_or(Source::Default),
                None => Source::Default,
            };
            Setting { values: asked.values(&arg), arg, source }
        };
        let file = file.map(|file| file.path().to_owned());
        Self { file, options: options.into_iter().map(setting).collect() }
    }

    /// What the file says of `log` at this moment, or its default; `None` where something above the file says it.
    ///
    /// # Errors
    /// When the file can't be read any more, or is wrong.
    pub(crate) fn log_in_file(&self) -> Result<Option<String>, Failure> {
        let log = self.options.iter().find(|setting| setting.name() == "log");
        let (Some(log), Some(path)) = (log, &self.file) else { return Ok(None) };
        if matches!(log.source, Source::Environment(_) | Source::Flag(_)) {
            return Ok(None);
        }
        let file = File::read(path)?;
        let options: Vec<_> = self.options.iter().map(|setting| setting.arg.clone()).collect();
        file.check(&options)?;
        let default = || log.arg.get_default_values().first().map(|value| text(value));
        Ok(file.value("log").or_else(default))
    }

    fn get(&self, name: &str) -> Option<&Setting> {
        self.options.iter().find(|setting| setting.name() == name && setting.is_set())
    }

    /// What is right by itself and not together.
    fn check_together(&self, is_ephemeral: bool) -> Result<(), Failure> {
        if is_ephemeral
            && let Some(ephemeral) = self.get("ephemeral")
            && let Some(database) = self.get("database_url").or_else(|| self.get("database_url_file"))
        {
            let why = format!("cannot be used with {}", database.shown());
            return Err(ephemeral.wrong(&why));
        }
        match (self.get("tls_cert"), self.get("tls_key")) {
            (Some(only), None) => Err(only.wrong("needs its key too: tls_key, --tls-key")),
            (None, Some(only)) => Err(only.wrong("needs its certificate too: tls_cert, --tls-cert")),
            _ => Ok(()),
        }
    }
}

impl Setting {
    fn name(&self) -> String {
        name(&self.arg)
    }

    fn is_set(&self) -> bool {
        !self.values.is_empty()
    }

    /// The option as it was named where it was set.
    fn shown(&self) -> String {
        match &self.source {
            Source::File(..) => format!("{} ({})", self.name(), self.source),
            Source::Default => self.name(),
            other => other.to_string(),
        }
    }

    fn wrong(&self, why: &str) -> Failure {
        match &self.source {
            Source::File(..) => Failure::new(format!("{}: {}: {why}", self.source, self.name())),
            _ => Failure::new(format!("{}: {why}", self.shown())),
        }
    }
}

/// The text of a value, if it is text.
fn text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

/// The variables that look like options and are none: mistyped, or of another version.
fn unknown_variables() -> Vec<String> {
    let known = variables(&Cli::command());
    let mut unknown: Vec<_> = std::env::vars_os()
        .map(|(variable, _)| text(&variable))
        .filter(|variable| variable.starts_with(PREFIX) && !known.contains(variable))
        // Skip the variables that Kubernetes sets for a Service named `countersign`, and those of the test suite.
        .filter(|variable| !variable.contains("_PORT") && !variable.contains("_SERVICE_"))
        .filter(|variable| !variable.starts_with("COUNTERSIGN_TEST_"))
        .collect();
    unknown.sort();
    unknown
}

/// The variables of a command and all below it.
fn variables(command: &Command) -> Vec<String> {
    let below = command.get_subcommands().flat_map(variables);
    command.get_arguments().filter_map(Arg::get_env).map(text).chain(below).collect()
}
