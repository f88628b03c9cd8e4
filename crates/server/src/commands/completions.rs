//! `countersign completions`: prints the script with which a shell completes commands and options.

use clap::Args;
use clap_complete::Shell;
use terminal::{CliError, write};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Shell that runs the script
    shell: Shell,
}

/// Prints the script for `program`.
///
/// # Errors
/// Returns an error if standard output can't be written.
pub(super) fn run(arguments: &Arguments, mut program: clap::Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "countersign", &mut script);
    write(&script)
}
