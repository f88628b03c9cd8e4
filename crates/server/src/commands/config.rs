//! `countersign config`: checks the configuration, shows it with the source of each value, or prints all defaults.

use std::fmt::Write as _;

use clap::{Arg, Args, Subcommand};
use terminal::{CliError, plain_json, say, say_text, wrap};

use crate::config::{Setting, Settings, is_secret, option_name, os_text};
use crate::options::ServeOptions;
use crate::serve_settings::ServeSettings;
use crate::test_mode;

/// Text that is shown in place of a secret.
const HIDDEN: &str = "(secret)";

/// Maximum width of a comment in the printed file, in columns, without its `# ` prefix.
const COMMENT_WIDTH: usize = 108;

/// Comment at the beginning of the printed file.
const PREFACE: &str = "\
# All options of Countersign with their defaults. To change an option, remove the `#` in front of it.
#
# Flags take precedence over environment variables, which take precedence over this file. An option has the
# same name in all three: data_dir in this file, COUNTERSIGN_DATA_DIR in the environment, and --data-dir as a
# flag. An empty value counts as not set, but account_sid, secrets and files with secrets must not be empty.
# `countersign config show` prints the effective value of each option and where it was set.
#
# The server reads `countersign.toml` in its working directory, or the file given by --config or
# COUNTERSIGN_CONFIG. Relative paths are relative to the working directory. If the file contains a secret,
# make it readable only to the user that runs the server.
";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration as `serve` would, without starting a server or changing anything
    Check(Box<ServeOptions>),
    /// Show each option with its value and where it was set; secrets are hidden
    Show(Box<ServeOptions>),
    /// Print a `countersign.toml` that lists all options with their defaults
    Defaults,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Result<(), CliError> {
    match &arguments.command {
        Command::Check(options) => check(options, settings),
        Command::Show(_) => say_text(format_settings(settings).trim_end()),
        Command::Defaults => say_text(format_defaults(settings).trim_end()),
    }
}

/// Checks everything that `serve` checks before it opens the database, and prints warnings and the result.
fn check(options: &ServeOptions, settings: &Settings) -> Result<(), CliError> {
    ServeSettings::read(options)?;
    test_mode::require_off(options, settings)?;
    options.storage.check_given_secrets()?;
    for warning in settings.warnings() {
        say(format_args!("warning: {warning}"))?;
    }
    match &settings.file {
        Some(path) => say(format_args!("configuration is valid (file: {})", path.display())),
        None => say("configuration is valid (no file)"),
    }
}

fn format_settings(settings: &Settings) -> String {
    let mut text = String::new();
    for setting in &settings.options {
        let line = match setting.values.as_slice() {
            [] => format!("#{} = {}", setting.name(), unset_value(&setting.arg)),
            _ if is_secret(&setting.name()) => format!("{} = \"{HIDDEN}\"", setting.name()),
            values => format!("{} = {}", setting.name(), toml_value(&setting.arg, values)),
        };
        let source = if setting.is_set() { setting.source.to_string() } else { "not set".to_owned() };
        let _ = writeln!(text, "{line:<56} # {source}");
    }
    text
}

/// Formats a configuration file in which all options are commented out. The comment above an option is its command-line
/// help.
fn format_defaults(settings: &Settings) -> String {
    let mut text = PREFACE.to_owned();
    let mut heading = None;
    for Setting { arg, .. } in &settings.options {
        let option_heading = arg.get_help_heading().unwrap_or("Server");
        if heading != Some(option_heading) {
            let _ = write!(text, "\n\n# {option_heading}\n");
            heading = Some(option_heading);
        }
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = arg.get_default_values().iter().map(|value| os_text(value)).collect();
        let value = if values.is_empty() { unset_value(arg).to_owned() } else { toml_value(arg, &values) };
        let comment = wrap(&help, COMMENT_WIDTH).join("\n# ");
        let _ = write!(text, "\n# {comment}\n#{} = {value}\n", option_name(arg));
    }
    text
}

/// Returns the TOML value that represents an option which is not set: an empty list or string.
fn unset_value(arg: &Arg) -> &'static str {
    if arg.get_value_delimiter().is_some() { "[]" } else { "\"\"" }
}

/// Formats the values of an option as TOML.
fn toml_value(arg: &Arg, values: &[String]) -> String {
    // A JSON string is also a TOML string.
    let quoted = |value: &String| plain_json(&serde_json::Value::from(value.as_str()));
    match values {
        _ if arg.get_value_delimiter().is_some() => {
            format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", "))
        }
        [value] if value.parse::<i64>().is_ok() || value == "true" || value == "false" => value.clone(),
        values => values.iter().map(quoted).collect(),
    }
}
