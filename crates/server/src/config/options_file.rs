//! The configuration file `countersign.toml`, with one `key = value` for each option that differs from its default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use terminal::CliError;
use toml::de::{DeTable, DeValue};

use super::requested_command::RequestedCommand;
use super::validation::check_values;
use super::{EMPTY, Source, alternative, is_secret, must_not_be_empty, option_name};
use crate::input_file;

/// A configuration file that was read and parsed.
pub(super) struct OptionsFile {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// The value of one key in the configuration file.
struct Entry {
    /// Line number of the key, counted from 1.
    line: usize,
    /// Whether the value is a TOML string. Secrets must be strings, because a TOML number may be written in another
    /// form than the secret.
    is_text: bool,
    /// The value as text, or the elements of a list; empty if the option counts as not set.
    values: Vec<String>,
}

impl OptionsFile {
    /// Reads and parses the configuration file at `path`. Does not check keys and values; [`check`](Self::check) does
    /// that.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or is not valid TOML. For invalid TOML, the error contains the line.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let text = input_file::read_text(path)?;
        let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let error = |line: usize, why: &str| CliError::new(format!("{}:{line}: {why}", path.display()));
        let table = DeTable::parse(&text).map_err(|parse_error| {
            let line = line_at(parse_error.span().map_or(0, |span| span.start));
            error(line, &format!("expected `name = value`: {}", parse_error.message()))
        })?;
        let mut entries = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let line = line_at(key.span().start);
            let values = value_texts(value.get_ref()).ok_or_else(|| {
                let expected = "expected text, a number, true or false, or a list of texts";
                error(line, &format!("{}: {expected}", key.get_ref()))
            })?;
            let is_text = value.get_ref().is_str();
            entries.insert(key.get_ref().to_string(), Entry { line, is_text, values });
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Checks that every key in the file is an option and has a valid value.
    ///
    /// # Errors
    /// Returns an error that contains the line of the invalid key or value, and what is expected there.
    pub(super) fn check(&self, options: &[Arg]) -> Result<(), CliError> {
        for (key, entry) in &self.entries {
            self.check_entry(key, entry, options).map_err(|why| {
                CliError::new(format!("{}:{}: {key}: {why}", self.path.display(), entry.line))
            })?;
        }
        Ok(())
    }

    fn check_entry(&self, key: &str, entry: &Entry, options: &[Arg]) -> Result<(), String> {
        let Some(option) = options.iter().find(|option| option_name(option) == key) else {
            return Err("no such option; `countersign config defaults` lists all options".to_owned());
        };
        if must_not_be_empty(key) && entry.values.is_empty() {
            return Err(EMPTY.to_owned());
        }
        if entry.values.is_empty() {
            return Ok(());
        }
        if let Some(other) = alternative(key).filter(|other| self.is_set(other)) {
            return Err(format!("cannot be combined with {other}, which the file also sets"));
        }
        if entry.values.len() > 1 && option.get_value_delimiter().is_none() {
            return Err("expected one value, not a list".to_owned());
        }
        if is_secret(key) && !entry.is_text {
            return Err("expected a value in quotation marks, because this option is a secret".to_owned());
        }
        check_values(option, &entry.values)
    }

    fn is_set(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.values.is_empty())
    }

    /// Makes the values in the file the defaults of the requested command, and returns the modified command.
    pub(super) fn set_defaults(
        &self,
        mut command: Command,
        requested: &RequestedCommand<'_>,
        options: &[Arg],
    ) -> Command {
        let is_given = |option: &Arg| requested.source(option).is_some();
        for option in options {
            let name = option_name(option);
            let is_alternative =
                |other: &&Arg| alternative(&name).is_some_and(|name| option_name(other) == name);
            // A secret from the environment or a flag replaces the one in the configuration file. This holds even if
            // one is given as a value and the other as the path of a file.
            if !requested.has(option) || options.iter().filter(is_alternative).any(is_given) {
                continue;
            }
            if let Some(entry) = self.entries.get(&name).filter(|entry| !entry.values.is_empty()) {
                let values = entry.values.clone();
                command = command.mut_arg(option.get_id(), |arg| arg.default_values(values));
            }
        }
        command
    }

    /// Returns the first value of a key, or `None` if the key has no value in this file.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.entries.get(key)?.values.first().cloned()
    }

    /// Returns the place at which a key is set, or `None` if the key has no value in this file.
    pub(super) fn source(&self, key: &str) -> Option<Source> {
        let entry = self.entries.get(key).filter(|entry| !entry.values.is_empty())?;
        Some(Source::File(self.path.clone(), entry.line))
    }

    /// Returns the path of the configuration file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Converts a TOML value to texts for the command-line parser, or returns `None` if no option accepts the value's type.
/// An empty string yields no text, because it counts as not set.
fn value_texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(|value| scalar_text(value.get_ref())).collect();
            Some(texts?.into_iter().filter(|text| !text.is_empty()).collect())
        }
        scalar => scalar_text(scalar).map(|text| if text.is_empty() { vec![] } else { vec![text] }),
    }
}

fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok().map(|n| n.to_string())
        }
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok().map(|n: f64| n.to_string()),
        _ => None,
    }
}
