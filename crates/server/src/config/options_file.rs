//! The configuration file `countersign.toml`: one `key = value` for each option that differs from its default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use terminal::CliError;
use toml::de::{DeTable, DeValue};

use super::requested_command::RequestedCommand;
use super::validation::check_values;
use super::{EMPTY, Source, alternative, is_secret, must_not_be_empty, option_name};
use crate::input_file;

/// A configuration file that was read.
pub(super) struct OptionsFile {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// The value of a key.
struct Entry {
    line: usize,
    /// Whether the value is a TOML string. A secret must be one, because TOML may write a number in another form.
    is_text: bool,
    values: Vec<String>,
}

impl OptionsFile {
    /// Reads and parses a file. Keys and values are not checked yet.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, or with the line that is invalid TOML.
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

    /// Checks that every key is an option, with a valid value.
    ///
    /// # Errors
    /// Returns an error with the line, and what was expected there.
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
            return Err(format!("cannot be combined with {other}, which the file sets too"));
        }
        if entry.values.len() > 1 && option.get_value_delimiter().is_none() {
            return Err("expected one value, not a list".to_owned());
        }
        if is_secret(key) && !entry.is_text {
            return Err("expected a secret between quotation marks".to_owned());
        }
        check_values(option, &entry.values)
    }

    fn is_set(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.values.is_empty())
    }

    /// Makes the values of the file the defaults of the requested command.
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
            // A secret from the environment or a flag replaces that of the file, even if one is given by value and the
            // other as a file.
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

    /// Returns the first value of a key.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.entries.get(key)?.values.first().cloned()
    }

    /// Returns the place of a key that has a value.
    pub(super) fn source(&self, key: &str) -> Option<Source> {
        let entry = self.entries.get(key).filter(|entry| !entry.values.is_empty())?;
        Some(Source::File(self.path.clone(), entry.line))
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns a TOML value as texts for the command line, or `None` for a type that no option accepts. An empty text is
/// no value, because it counts as not set.
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
