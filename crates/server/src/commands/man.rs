//! `countersign man`: prints or writes manual pages, which are generated from the same texts as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use terminal::{CliError, say, write};

use crate::error::file_error;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder to which a manual page is written for each command, such as /usr/local/share/man/man1. If not set, the
    /// page countersign(1) is printed
    dir: Option<PathBuf>,
}

/// Prints the manual page of `program`, or writes the pages of all its commands to a folder.
///
/// # Errors
/// Returns an error if a page can't be written.
pub(super) fn run(arguments: &Arguments, program: clap::Command) -> Result<(), CliError> {
    let Some(folder) = &arguments.dir else {
        // Do the same as `generate_to`, so that the printed page equals the written one.
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        return write(&page);
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(program, folder))
        .map_err(|error| file_error(folder, &error))?;
    say(format_args!("manual pages written to {}", folder.display()))
}
