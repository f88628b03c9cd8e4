//! `countersign man`: manual pages, made from the same texts as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::terminal::{say, write};

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder to write a page for each command to, such as /usr/local/share/man/man1; without one,
    /// countersign(1) is printed
    dir: Option<PathBuf>,
}

/// Prints the page of the program, or writes the pages of all commands.
///
/// # Errors
/// When a page can't be written.
pub(crate) fn run(options: &Man) -> Result<(), Failure> {
    let Some(folder) = &options.dir else {
        // As `generate_to` does.
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return write(&page);
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    say(format_args!("wrote the manual pages to {}", folder.display()))
}
