//! `countersign config`: what counts, where it comes from, and whether it is right.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use clap::{Arg, Args, Subcommand};

use crate::cli::Serve;
use crate::config::{Setting, Settings, Source, is_secret, name, unknown_variables};
use crate::failure::Failure;
use crate::serve;
use crate::terminal::{plain_json, say, say_text};

/// What is shown in place of a secret.
const HIDDEN: &str = "(secret)";

/// What stands at the head of the file.
const PREFACE: &str = "\
# Countersign's options, each with its default. Take the `#` away in front of what is to be changed.
#
# A variable of the environment goes before this file, and a flag before both, all of the same name:
# data_dir here, COUNTERSIGN_DATA_DIR there, --data-dir on the command line. What is empty counts as
# not set; but account_sid, secrets and the files that hold these must not be empty, here or there.
# `countersign config show` tells what counts, and why.
#
# The file is read from the folder in which the server starts, or from where --config or
# COUNTERSIGN_CONFIG says. One that holds a secret should be readable to the server alone. Paths in it lead
# from the folder in which the server starts.
";

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what `serve` would start with, without starting; makes and changes nothing
    Check(Box<Serve>),
    /// Show every option, its value and where that comes from; secrets are not shown
    Show(Box<Serve>),
    /// Print a `countersign.toml` with every option at its default
    Defaults,
}

pub(crate) fn run(config: &Config, settings: &Settings) -> Result<(), Failure> {
    match &config.command {
        Command::Check(options) => check(options, settings),
        Command::Show(_) => say_text(show(settings).trim_end()),
        Command::Defaults => say_text(defaults(settings).trim_end()),
    }
}

/// Looks at all that `serve` looks at before it opens the database.
fn check(options: &Serve, settings: &Settings) -> Result<(), Failure> {
    serve::prepare(options)?;
    options.storage.given_secrets()?;
    for warning in settings.warnings() {
        say(format_args!("warning: {warning}"))?;
    }
    match &settings.file {
        Some(path) => say(format_args!("the configuration is right, with {}", path.display())),
        None => say("the configuration is right, without a file"),
    }
}

fn show(settings: &Settings) -> String {
    let mut text = String::new();
    for setting in &settings.options {
        let line = match setting.values.as_slice() {
            [] => format!("#{} = {}", setting.name(), nothing(&setting.arg)),
            _ if is_secret(&setting.name()) => format!("{} = \"{HIDDEN}\"", setting.name()),
            values => format!("{} = {}", setting.name(), toml(&setting.arg, values)),
        };
        let source = if setting.is_set() { setting.source.to_string() } else { "not set".to_owned() };
        let _ = writeln!(text, "{line:<56} # {source}");
    }
    text
}

/// The options with what is said of each on the command line, so that neither can be forgotten.
fn defaults(settings: &Settings) -> String {
    let mut text = PREFACE.to_owned();
    let mut heading = None;
    for Setting { arg, .. } in &settings.options {
        let of_option = arg.get_help_heading().unwrap_or("Server");
        if heading != Some(of_option) {
            let _ = write!(text, "\n\n# {of_option}\n");
            heading = Some(of_option);
        }
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = arg.get_default_values().iter().map(|value| super::text(value)).collect();
        let value = if values.is_empty() { nothing(arg).to_owned() } else { toml(arg, &values) };
        let _ = write!(text, "\n# {}\n#{} = {value}\n", wrapped(&help, 108).join("\n# "), name(arg));
    }
    text
}

/// How an option is written that is not set.
fn nothing(arg: &Arg) -> &'static str {
    if arg.get_value_delimiter().is_some() { "[]" } else { "\"\"" }
}

/// Values as TOML.
fn toml(arg: &Arg, values: &[String]) -> String {
    // A text in JSON is one in TOML.
    let quoted = |value: &String| plain_json(&serde_json::Value::from(value.as_str()));
    match values {
        _ if arg.get_value_delimiter().is_some() => {
            format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", "))
        }
        [value] if value.parse::<i64>().is_ok() || value == "true" || value == "false" => value.clone(),
        values => values.iter().map(quoted).collect(),
    }
}

/// A paragraph in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Settings {
    /// What is not wrong, and should be looked at.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = unknown_variables()
            .into_iter()
            .map(|variable| format!("{variable} is not the name of an option"))
            .collect();
        let secret = self.options.iter().find(|setting| {
            is_secret(&setting.name()) && setting.is_set() && matches!(setting.source, Source::File(..))
        });
        if let (Some(setting), Some(path)) = (secret, &self.file)
            && std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
        {
            warnings.push(format!(
                "{} holds a secret, {}, and others can read it: chmod 600",
                path.display(),
                setting.name()
            ));
        }
        warnings
    }
}
