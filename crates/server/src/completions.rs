//! `countersign completions`: what a shell needs in order to complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::terminal::write;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Shell that reads them
    shell: Shell,
}

/// Prints the script of a shell.
///
/// # Errors
/// When it can't be printed.
pub(crate) fn run(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "countersign", &mut script);
    write(&script)
}
