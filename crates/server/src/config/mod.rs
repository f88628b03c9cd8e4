//! The effective configuration: defaults < `countersign.toml` < environment < flags.
//!
//! The parser of the command line defines every option with its type and default. The values of the file become
//! defaults of the parser, and the command line is parsed again. So one parser reads all values, and the precedence
//! of environment and flags is that of clap. Errors name the place at which a value was set.

mod options_file;
mod requested_command;
mod validation;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::builder::{Resettable, Styles};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use terminal::{CliError, acts, say_text, warn_text};

use crate::config::options_file::OptionsFile;
use crate::config::requested_command::RequestedCommand;
use crate::config::validation::{check_environment, check_text};

/// The configuration file that is read by default, if it exists.
const DEFAULT_FILE: &str = "countersign.toml";

/// Prefix of the environment variables of options.
const PREFIX: &str = "COUNTERSIGN_";

/// Options whose value is never shown. For each there is an option with the suffix `_file`, for a file with the value.
const SECRETS: [&str; 7] = [
    "auth_token",
    "database_direct_url",
    "database_url",
    "master_key",
    "master_key_old",
    "otlp_headers",
    "push_proxy",
];

/// The error for an empty option that [`must_not_be_empty`].
const EMPTY: &str = "is empty; set a value, or remove it";

/// Every option of the server with its effective value. It contains secrets, so it does not implement `Debug`.
pub(crate) struct Settings {
    /// The configuration file that was read.
    pub(crate) file: Option<PathBuf>,
    /// The options in the order of `serve --help`.
    pub(crate) options: Vec<Setting>,
    /// Variables that begin with [`PREFIX`] and do not belong to an option.
    unknown_variables: Vec<String>,
}

/// An option with its effective value.
pub(crate) struct Setting {
    /// The definition of the option.
    pub(crate) arg: Arg,
    /// The values as text; empty if the option is not set.
    pub(crate) values: Vec<String>,
    /// The place that the values come from.
    pub(crate) source: Source,
}

/// The place at which an option was set.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Default,
    /// A configuration file, and the line in it.
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

/// Reads the command line `P`, the environment and the configuration file. Exits the process with a message if the
/// command line is invalid, or asks for help or the version.
///
/// # Errors
/// Returns an error with its place if the file can't be read, contains an unknown key, or a value is invalid.
pub(crate) fn read<P: CommandFactory + FromArgMatches>() -> Result<(P, Settings), CliError> {
    let options = server_options(P::command());
    // An empty variable counts as not set: templates of an environment often can't omit a variable.
    let command = for_each_command(P::command(), &|command| command.mut_args(ignore_empty_variable));
    let command = if has_control_characters_in_input() { command.styles(Styles::plain()) } else { command };
    // Parse without the file first, to learn which file to read and which command is requested.
    let matches = command.clone().try_get_matches().or_else(|error| -> Result<_, CliError> {
        if error.use_stderr() {
            // Report an invalid variable under its own name; clap would report it as a flag.
            check_environment(&options)?;
        }
        exit_with(&error)
    })?;
    let requested = RequestedCommand::new(&command, &matches);
    check_environment(options.iter().filter(|option| {
        requested.has(option) && requested.source(option) != Some(ValueSource::CommandLine)
    }))?;
    // A command without options of the server works also if the file is broken.
    let has_options = options.iter().any(|option| requested.has(option));
    let file = if has_options { read_file(matches.get_one::<PathBuf>("config"))? } else { None };
    let Some(file) = file else { return finish(&command, matches, options, None) };
    file.check(&options)?;
    let with_file = modify_command(command.clone(), &requested.names, &|command| {
        file.set_defaults(command, &requested, &options)
    });
    let matches = with_file.try_get_matches().unwrap_or_else(|error| exit_with(&error));
    finish(&command, matches, options, Some(&file))
}

fn finish<P: CommandFactory + FromArgMatches>(
    command: &Command,
    mut matches: ArgMatches,
    options: Vec<Arg>,
    file: Option<&OptionsFile>,
) -> Result<(P, Settings), CliError> {
    let requested = RequestedCommand::new(command, &matches);
    let is_ephemeral = requested.has_id("ephemeral") && requested.matches.get_flag("ephemeral");
    let settings = Settings::new(options, &requested, file, unknown_variables(&P::command()));
    for setting in &settings.options {
        for value in &setting.values {
            check_text(&setting.name(), value).map_err(|why| setting.error(&why))?;
        }
    }
    let parsed = P::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| exit_with(&error));
    settings.check_combinations(is_ephemeral)?;
    Ok((parsed, settings))
}

/// Returns the options of `serve`. These are all options of the server, and the keys of the configuration file.
fn server_options(program: Command) -> Vec<Arg> {
    let serve = program.find_subcommand("serve").cloned().unwrap_or_default();
    serve.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect()
}

/// Returns the key of an option in the configuration file: the name of its variable without [`PREFIX`].
pub(crate) fn option_name(arg: &Arg) -> String {
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    variable.trim_start_matches(PREFIX).to_lowercase()
}

/// Returns the option that sets the same secret in the other way: by value, or as a file.
fn alternative(name: &str) -> Option<String> {
    match name.strip_suffix("_file") {
        Some(secret) => is_secret(secret).then(|| secret.to_owned()),
        None => is_secret(name).then(|| format!("{name}_file")),
    }
}

/// Returns whether an empty value of this option is an error: the account, secrets, and files with secrets.
///
/// An empty value of another option counts as not set. Here it is usually the result of a reference that could not be
/// resolved, and the server would silently generate a new secret or use another database.
fn must_not_be_empty(name: &str) -> bool {
    name == "account_sid" || is_secret(name) || alternative(name).is_some()
}

/// Returns whether the value of this option is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// Returns whether an argument or a variable contains characters that a terminal interprets. Help and errors of clap
/// repeat arguments, which may come from the data of a user.
fn has_control_characters_in_input() -> bool {
    let variables = std::env::vars_os().filter(|(name, _)| os_text(name).starts_with(PREFIX));
    let mut values = variables.map(|(_, value)| value).chain(std::env::args_os());
    values.any(|value| os_text(&value).chars().any(acts))
}

/// Prints help, the version, or an error of the command line, and exits the process.
fn exit_with(error: &clap::Error) -> ! {
    if !has_control_characters_in_input() {
        error.exit();
    }
    // `read` has removed clap's own styles, so that only characters of the input are escaped.
    let message = error.render().ansi().to_string();
    if error.use_stderr() {
        warn_text(message.trim_end());
    } else {
        let _ = say_text(message.trim_end());
    }
    std::process::exit(error.exit_code())
}

/// Applies `change` to the subcommand with this path of names.
fn modify_command(command: Command, names: &[String], change: &dyn Fn(Command) -> Command) -> Command {
    match names.split_first() {
        None => change(command),
        Some((first, rest)) => {
            command.mut_subcommand(first, |subcommand| modify_command(subcommand, rest, change))
        }
    }
}

/// Applies `change` to a command and all its subcommands.
fn for_each_command(command: Command, change: &dyn Fn(Command) -> Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    names.iter().fold(change(command), |command, name| {
        command.mut_subcommand(name, |subcommand| for_each_command(subcommand, change))
    })
}

fn ignore_empty_variable(arg: Arg) -> Arg {
    let is_empty =
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    if is_empty { arg.env(Resettable::Reset) } else { arg }
}

/// Reads the file at `path`, or else [`DEFAULT_FILE`] if it exists.
fn read_file(path: Option<&PathBuf>) -> Result<Option<OptionsFile>, CliError> {
    match path {
        Some(path) => OptionsFile::read(path).map(Some),
        None if Path::new(DEFAULT_FILE).exists() => OptionsFile::read(Path::new(DEFAULT_FILE)).map(Some),
        None => Ok(None),
    }
}

impl Settings {
    /// Collects the values of the requested command. An option that the command lacks counts as not set.
    fn new(
        options: Vec<Arg>,
        requested: &RequestedCommand<'_>,
        file: Option<&OptionsFile>,
        unknown_variables: Vec<String>,
    ) -> Self {
        let setting = |arg: Arg| {
            let source = match requested.source(&arg) {
                Some(ValueSource::CommandLine) => {
                    Source::Flag(format!("--{}", arg.get_long().unwrap_or_default()))
                }
                Some(ValueSource::EnvVariable) => {
                    Source::Environment(os_text(arg.get_env().unwrap_or_default()))
                }
                Some(_) => file.and_then(|file| file.source(&option_name(&arg))).unwrap_or(Source::Default),
                None => Source::Default,
            };
            Setting { values: requested.values(&arg), arg, source }
        };
        let file = file.map(|file| file.path().to_owned());
        Self { file, options: options.into_iter().map(setting).collect(), unknown_variables }
    }

    /// Reads the configuration file again and returns its value of `log`, or the default. Returns `None` if no file
    /// is used, or a variable or a flag takes precedence.
    ///
    /// # Errors
    /// Returns an error if the file can't be read any more, or is invalid.
    pub(crate) fn reload_log(&self) -> Result<Option<String>, CliError> {
        let log = self.options.iter().find(|setting| setting.name() == "log");
        let (Some(log), Some(path)) = (log, &self.file) else { return Ok(None) };
        if matches!(log.source, Source::Environment(_) | Source::Flag(_)) {
            return Ok(None);
        }
        let file = OptionsFile::read(path)?;
        let options: Vec<_> = self.options.iter().map(|setting| setting.arg.clone()).collect();
        file.check(&options)?;
        let default = || log.arg.get_default_values().first().map(|value| os_text(value));
        Ok(file.value("log").or_else(default))
    }

    /// Returns what is probably a mistake, but not an error: unknown variables, and a file with a secret that other
    /// users can read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .unknown_variables
            .iter()
            .map(|variable| format!("environment variable {variable} is not an option; check its name"))
            .collect();
        let secret = self.options.iter().find(|setting| {
            is_secret(&setting.name()) && setting.is_set() && matches!(setting.source, Source::File(..))
        });
        if let (Some(setting), Some(path)) = (secret, &self.file)
            && std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
        {
            let path = path.display();
            warnings.push(format!(
                "{path} contains a secret, {}, but other users can read it; run chmod 600 {path}",
                setting.name()
            ));
        }
        warnings
    }

    fn get(&self, name: &str) -> Option<&Setting> {
        self.options.iter().find(|setting| setting.name() == name && setting.is_set())
    }

    /// Checks options that exclude or require each other.
    fn check_combinations(&self, is_ephemeral: bool) -> Result<(), CliError> {
        if is_ephemeral
            && let Some(ephemeral) = self.get("ephemeral")
            && let Some(database) = self.get("database_url").or_else(|| self.get("database_url_file"))
        {
            let why = format!("cannot be used with {}", database.label());
            return Err(ephemeral.error(&why));
        }
        match (self.get("tls_cert"), self.get("tls_key")) {
            (Some(only), None) => Err(only.error("requires the private key too: tls_key, --tls-key")),
            (None, Some(only)) => Err(only.error("requires the certificate too: tls_cert, --tls-cert")),
            _ => Ok(()),
        }
    }
}

impl Setting {
    /// Returns the key of the option in the configuration file.
    pub(crate) fn name(&self) -> String {
        option_name(&self.arg)
    }

    /// Returns whether the option has a value.
    pub(crate) fn is_set(&self) -> bool {
        !self.values.is_empty()
    }

    /// Returns the name of the option in the place at which it was set.
    fn label(&self) -> String {
        match &self.source {
            Source::File(..) => format!("{} ({})", self.name(), self.source),
            Source::Default => self.name(),
            other => other.to_string(),
        }
    }

    fn error(&self, why: &str) -> CliError {
        match &self.source {
            Source::File(..) => CliError::new(format!("{}: {}: {why}", self.source, self.name())),
            _ => CliError::new(format!("{}: {why}", self.label())),
        }
    }
}

/// Converts a value to text. Bytes that are not UTF-8 are replaced.
pub(crate) fn os_text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

/// Returns the variables that begin with [`PREFIX`] but belong to no option of `program`: misspelled, or of another
/// version.
fn unknown_variables(program: &Command) -> Vec<String> {
    let known = variables(program);
    let mut unknown: Vec<_> = std::env::vars_os()
        .map(|(variable, _)| os_text(&variable))
        .filter(|variable| variable.starts_with(PREFIX) && !known.contains(variable))
        // Skip the variables that Kubernetes sets for a Service named `countersign`, and those of the test suite.
        .filter(|variable| !variable.contains("_PORT") && !variable.contains("_SERVICE_"))
        .filter(|variable| !variable.starts_with("COUNTERSIGN_TEST_"))
        .collect();
    unknown.sort();
    unknown
}

/// Returns the variables of a command and all its subcommands.
fn variables(command: &Command) -> Vec<String> {
    let below = command.get_subcommands().flat_map(variables);
    command.get_arguments().filter_map(Arg::get_env).map(os_text).chain(below).collect()
}
