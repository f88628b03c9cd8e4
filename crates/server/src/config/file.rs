//! `countersign.toml`: `key = value`, one for each option that is not to have its default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

use crate::config::{Asked, EMPTY, Source, check_alone, is_secret, matters, name, twin};
use crate::failure::Failure;
use crate::file;

/// A file of options, as it was read.
pub(super) struct File {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    line: usize,
    /// Whether it is written as text, and not as a number, which could be read in another way than it is meant.
    is_text: bool,
    values: Vec<String>,
}

impl File {
    /// Reads a file. What it says is not looked at yet.
    ///
    /// # Errors
    /// When it can't be read, or is no TOML, with the line.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = file::read_text(path)?;
        let line = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let here = |line: usize, why: &str| Failure::new(format!("{}:{line}: {why}", path.display()));
        let table = DeTable::parse(&text).map_err(|error| {
            let line = line(error.span().map_or(0, |span| span.start));
            here(line, &format!("expected `name = value`: {}", error.message()))
        })?;
        let mut entries = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let line = line(key.span().start);
            let values = values(value.get_ref()).ok_or_else(|| {
                let expected = "expected text, a number, true or false, or a list of texts";
                here(line, &format!("{}: {expected}", key.get_ref()))
            })?;
            let is_text = value.get_ref().is_str();
            entries.insert(key.get_ref().to_string(), Entry { line, is_text, values });
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Whether every key is an option, and takes its value.
    ///
    /// # Errors
    /// With the line, and what was expected.
    pub(super) fn check(&self, options: &[Arg]) -> Result<(), Failure> {
        for (key, entry) in &self.entries {
            let here = |why: &str| {
                Err(Failure::new(format!("{}:{}: {key}: {why}", self.path.display(), entry.line)))
            };
            let Some(option) = options.iter().find(|option| name(option) == *key) else {
                return here("there is no such option; `countersign config defaults` prints them all");
            };
            if twin(key).is_some_and(|twin| self.is_set(&twin)) && self.is_set(key) {
                return here("cannot be used with its twin, which the file sets too");
            }
            if matters(key) && !self.is_set(key) {
                return here(EMPTY);
            }
            if entry.values.len() > 1 && option.get_value_delimiter().is_none() {
                return here("expected one value, not a list");
            }
            if is_secret(key) && !entry.is_text {
                return here("expected a secret between quotation marks");
            }
            if self.is_set(key)
                && let Err(why) = check_alone(option, &entry.values)
            {
                return here(&why);
            }
        }
        Ok(())
    }

    fn is_set(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.values.is_empty())
    }

    /// Makes the values of the file the defaults of the command that was asked for.
    pub(super) fn under(&self, mut command: Command, asked: &Asked<'_>, options: &[Arg]) -> Command {
        let is_given = |option: &Arg| asked.source(option).is_some();
        for option in options {
            let name = name(option);
            let is_twin = |other: &&Arg| twin(&name).is_some_and(|twin| super::name(other) == twin);
            // A secret that the environment or a flag gives, by value or as a file, is not taken from here in the
            // other way.
            if !asked.has(option) || options.iter().filter(is_twin).any(is_given) {
                continue;
            }
            if let Some(entry) = self.entries.get(&name).filter(|entry| !entry.values.is_empty()) {
                let values = entry.values.clone();
                command = command.mut_arg(option.get_id(), |arg| arg.default_values(values));
            }
        }
        command
    }

    /// What the file says of an option that has one value.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.entries.get(key)?.values.first().cloned()
    }

    /// The place of a key.
    pub(super) fn source(&self, key: &str) -> Option<Source> {
        let entry = self.entries.get(key).filter(|entry| !entry.values.is_empty())?;
        Some(Source::File(self.path.clone(), entry.line))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The texts of a value, as the command line would have them; none of an empty one, which sets nothing.
fn values(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(|value| scalar(value.get_ref())).collect();
            Some(texts?.into_iter().filter(|text| !text.is_empty()).collect())
        }
        scalar_value => scalar(scalar_value).map(|text| if text.is_empty() { vec![] } else { vec![text] }),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
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
