//! `countersign completions`: prints a shell script for completing commands and options.

use clap::Args;
use clap_complete::Shell;
use terminal::{CliError, write};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Shell for which to print the script
    shell: Shell,
}

/// Prints the completion script for the command line `program`.
///
/// # Errors
/// Returns an error if standard output can't be written.
pub(super) fn run(arguments: &Arguments, mut program: clap::Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "countersign", &mut script);
    write(&script)
}
