//! The effective configuration: defaults < `countersign.toml` < environment < flags.
//!
//! The command-line parser defines every option with its type and default. The values in the file become the parser's
//! defaults, and the command line is parsed again. So one parser reads all values, and clap decides the precedence of
//! environment variables and flags. Error messages say where an invalid value was set.

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

/// Configuration file that is read by default, if it exists in the working directory.
const DEFAULT_FILE: &str = "countersign.toml";

/// Prefix of the options' environment variables.
const PREFIX: &str = "COUNTERSIGN_";

/// Options whose values are never shown. For each, the option with the suffix `_file` sets the path of a file that
/// contains the value.
const SECRETS: [&str; 9] = [
    "auth_token",
    "database_direct_url",
    "database_url",
    "master_key",
    "master_key_old",
    "otlp_headers",
    "push_proxy",
    "sms_url",
    "smtp_url",
];

/// Error text for an empty option for which [`must_not_be_empty`] is true.
const EMPTY: &str = "is empty; set a value, or remove it";

/// Every option of the server with its effective value. This type does not implement `Debug`, because it contains
/// secrets.
pub(crate) struct Settings {
    /// Path of the configuration file that was read; `None` if no file was read.
    pub(crate) file: Option<PathBuf>,
    /// The options, in the order of `serve --help`.
    pub(crate) options: Vec<Setting>,
    /// Environment variables that begin with [`PREFIX`] and do not belong to an option.
    unknown_variables: Vec<String>,
}

/// An option with its effective value, and the place at which it was set.
pub(crate) struct Setting {
    /// The definition of the option in the command-line parser.
    pub(crate) arg: Arg,
    /// The values as text; empty if the option is not set.
    pub(crate) values: Vec<String>,
    /// The place at which the values were set.
    pub(crate) source: Source,
}

/// The place at which an option was set.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The option was not set, so its default applies.
    Default,
    /// The option was set in the configuration file at this path, in the line with this number, counted from 1.
    File(PathBuf, usize),
    /// The option was set by the environment variable with this name.
    Environment(String),
    /// The option was set by this command-line flag, such as `--listen`.
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

/// Parses the command line as a `P`, together with the environment and the configuration file. Returns the parsed
/// command and all settings. Prints a message and exits the process if the command line is invalid, or asks for help or
/// the version.
///
/// # Errors
/// Returns an error that says where the problem is if the file can't be read or contains an unknown key, or if a value
/// is invalid.
pub(crate) fn read<P: CommandFactory + FromArgMatches>() -> Result<(P, Settings), CliError> {
    let options = server_options(P::command());
    // An empty variable counts as not set, because environment templates often can't omit a variable.
    let command = for_each_command(P::command(), &|command| command.mut_args(ignore_empty_variable));
    let command = if has_control_characters_in_input() { command.styles(Styles::plain()) } else { command };
    // Parse without the file first, to find out which file to read and which command is requested.
    let matches = command.clone().try_get_matches().or_else(|error| -> Result<_, CliError> {
        if error.use_stderr() {
            // Report an invalid environment variable under its own name; clap would report it as a flag.
            check_environment(&options)?;
        }
        exit_with(&error)
    })?;
    let requested = RequestedCommand::new(&command, &matches);
    check_environment(options.iter().filter(|option| {
        requested.has(option) && requested.source(option) != Some(ValueSource::CommandLine)
    }))?;
    // A command that takes no server options must work even if the file is broken.
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

/// Returns the options of `serve`, which are all options of the server. They are also the keys of the configuration
/// file.
fn server_options(program: Command) -> Vec<Arg> {
    let serve = program.find_subcommand("serve").cloned().unwrap_or_default();
    serve.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect()
}

/// Returns the option's key in the configuration file: the lowercase name of its environment variable without
/// [`PREFIX`].
pub(crate) fn option_name(arg: &Arg) -> String {
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    variable.trim_start_matches(PREFIX).to_lowercase()
}

/// Returns the other option that sets the same secret: for `auth_token`, the option `auth_token_file`, and vice versa.
/// Returns `None` if the option sets no secret.
fn alternative(name: &str) -> Option<String> {
    match name.strip_suffix("_file") {
        Some(secret) => is_secret(secret).then(|| secret.to_owned()),
        None => is_secret(name).then(|| format!("{name}_file")),
    }
}

/// Returns whether an empty value of the option `name` is an error. This applies to `account_sid`, secrets, and files
/// with secrets.
///
/// An empty value of any other option counts as not set. An empty value of the options above is usually a reference
/// that could not be resolved. If it counted as not set, the server would silently generate a new secret or use another
/// database.
fn must_not_be_empty(name: &str) -> bool {
    name == "account_sid" || is_secret(name) || alternative(name).is_some()
}

/// Returns whether the value of the option `name` is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// Returns whether a command-line argument or a `COUNTERSIGN_` variable contains characters that a terminal interprets.
/// clap's help and errors repeat these inputs, so the characters are escaped when such a text is printed.
fn has_control_characters_in_input() -> bool {
    let variables = std::env::vars_os().filter(|(name, _)| os_text(name).starts_with(PREFIX));
    let mut values = variables.map(|(_, value)| value).chain(std::env::args_os());
    values.any(|value| os_text(&value).chars().any(acts))
}

/// Prints clap's help, version or error, and exits the process.
fn exit_with(error: &clap::Error) -> ! {
    if !has_control_characters_in_input() {
        error.exit();
    }
    // `read` has removed clap's own styles, so this escapes only characters from the input.
    let message = error.render().ansi().to_string();
    if error.use_stderr() {
        warn_text(message.trim_end());
    } else {
        let _ = say_text(message.trim_end());
    }
    std::process::exit(error.exit_code())
}

/// Applies `change` to the subcommand at the path `names` below `command`, and returns the modified `command`.
fn modify_command(command: Command, names: &[String], change: &dyn Fn(Command) -> Command) -> Command {
    match names.split_first() {
        None => change(command),
        Some((first, rest)) => {
            command.mut_subcommand(first, |subcommand| modify_command(subcommand, rest, change))
        }
    }
}

/// Applies `change` to a command and all its subcommands at every level, and returns the modified command.
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

/// Reads the configuration file at `path`, or [`DEFAULT_FILE`] if no path is given. Returns `None` if no path is given
/// and [`DEFAULT_FILE`] does not exist.
fn read_file(path: Option<&PathBuf>) -> Result<Option<OptionsFile>, CliError> {
    match path {
        Some(path) => OptionsFile::read(path).map(Some),
        None if Path::new(DEFAULT_FILE).exists() => OptionsFile::read(Path::new(DEFAULT_FILE)).map(Some),
        None => Ok(None),
    }
}

impl Settings {
    /// Collects the values of all options for the requested command. Options that the command lacks count as not set.
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

    /// Reads the configuration file again and returns its value of `log`, or the default if the file does not set
    /// `log`. Returns `None` if no configuration file is used, or if an environment variable or a flag takes
    /// precedence.
    ///
    /// # Errors
    /// Returns an error if the configuration file can no longer be read, or is invalid.
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

    /// Returns warnings about probable mistakes that are not errors: unknown environment variables, and a configuration
    /// file that contains a secret and is readable by other users.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .unknown_variables
            .iter()
            .map(|variable| {
                format!("environment variable {variable} is not an option; check the spelling of its name")
            })
            .collect();
        let secret = self.options.iter().find(|setting| {
            is_secret(&setting.name()) && setting.is_set() && matches!(setting.source, Source::File(..))
        });
        if let (Some(setting), Some(path)) = (secret, &self.file)
            && std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
        {
            let path = path.display();
            warnings.push(format!(
                "{path} contains the secret {}, but other users can read it; run chmod 600 {path}",
                setting.name()
            ));
        }
        warnings
    }

    /// Returns the option with this key, or `None` if it has no value.
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.options.iter().find(|setting| setting.name() == name && setting.is_set())
    }

    /// Checks the options that depend on each other. Returns an error if `ephemeral` is combined with a database URL,
    /// if
    /// only one of `tls_cert` and `tls_key` is set, or if only one of the mail server and the sender of mails is.
    fn check_combinations(&self, is_ephemeral: bool) -> Result<(), CliError> {
        if is_ephemeral
            && let Some(ephemeral) = self.get("ephemeral")
            && let Some(database) = self.get("database_url").or_else(|| self.get("database_url_file"))
        {
            let why = format!("cannot be used with {}", database.label());
            return Err(ephemeral.error(&why));
        }
        match (self.get("tls_cert"), self.get("tls_key")) {
            (Some(only), None) => Err(only.error("requires the private key too: tls_key, --tls-key"))?,
            (None, Some(only)) => Err(only.error("requires the certificate too: tls_cert, --tls-cert"))?,
            _ => {}
        }
        match (self.get("smtp_url").or_else(|| self.get("smtp_url_file")), self.get("mail_from")) {
            (Some(only), None) => Err(only.error("requires the sender too: mail_from, --mail-from")),
            (None, Some(only)) => Err(only.error("requires the mail server too: smtp_url, --smtp-url")),
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

    /// Returns the name of the option as written at the place where it was set, such as `--listen` or
    /// `COUNTERSIGN_LISTEN`.
    pub(crate) fn label(&self) -> String {
        match &self.source {
            Source::File(..) => format!("{} ({})", self.name(), self.source),
            Source::Default => self.name(),
            other => other.to_string(),
        }
    }

    /// Returns the error for this option that names the place at which it was set.
    pub(crate) fn error(&self, why: &str) -> CliError {
        match &self.source {
            Source::File(..) => CliError::new(format!("{}: {}: {why}", self.source, self.name())),
            _ => CliError::new(format!("{}: {why}", self.label())),
        }
    }
}

/// Converts an operating system string to text, replacing bytes that are not valid UTF-8.
pub(crate) fn os_text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

/// Returns the environment variables that begin with [`PREFIX`] but belong to no option of `program`. They may be
/// misspelled, or belong to another version of Countersign.
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

/// Returns the names of the environment variables that a command and all its subcommands read.
fn variables(command: &Command) -> Vec<String> {
    let below = command.get_subcommands().flat_map(variables);
    command.get_arguments().filter_map(Arg::get_env).map(os_text).chain(below).collect()
}
