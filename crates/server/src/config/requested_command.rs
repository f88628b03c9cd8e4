//! The requested subcommand and the values of its options.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::os_text;

/// The requested subcommand, with its definition and its parsed arguments.
///
/// Most commands lack most of the server's options, and clap panics in debug builds if a missing option is looked up.
/// So every lookup first checks the definition of the command.
pub(super) struct RequestedCommand<'a> {
    /// The names of the subcommands on the path from the program to the command, such as `config` and `show`.
    pub(super) names: Vec<String>,
    command: &'a Command,
    pub(super) matches: &'a ArgMatches,
}

impl<'a> RequestedCommand<'a> {
    /// Finds the subcommand that `matches` selects below the program `command`.
    pub(super) fn new(mut command: &'a Command, mut matches: &'a ArgMatches) -> Self {
        let mut names = Vec::new();
        while let Some((name, matches_below)) = matches.subcommand() {
            let Some(below) = command.find_subcommand(name) else { break };
            names.push(name.to_owned());
            (command, matches) = (below, matches_below);
        }
        Self { names, command, matches }
    }

    /// Returns whether the command accepts this option.
    pub(super) fn has(&self, option: &Arg) -> bool {
        self.has_id(option.get_id().as_str())
    }

    /// Returns whether the command has an argument with this id.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.command.get_arguments().any(|argument| argument.get_id().as_str() == id)
    }

    /// Returns the source of this option's value, or `None` if the option has no value or the command does not accept
    /// it.
    pub(super) fn source(&self, option: &Arg) -> Option<ValueSource> {
        if self.has(option) { self.matches.value_source(option.get_id().as_str()) } else { None }
    }

    /// Returns this option's values as the user wrote them. The result is empty if the option has no value or the
    /// command does not accept it.
    pub(super) fn values(&self, option: &Arg) -> Vec<String> {
        let raw = if self.has(option) { self.matches.get_raw(option.get_id().as_str()) } else { None };
        raw.unwrap_or_default().map(os_text).collect()
    }
}
