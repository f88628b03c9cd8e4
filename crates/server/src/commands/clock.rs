//! `countersign clock`: confirms to the server that the system clock is correct after a jump.

use clap::{Args, Subcommand};
use terminal::{CliError, say};

use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Confirm that the current time is correct, so that housekeeping resumes at once. Otherwise it pauses for six
    /// hours after the clock jumped
    Trust {
        #[command(flatten)]
        storage: StorageOptions,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let Command::Trust { storage } = arguments.command;
    let trusted = storage.with_app(async |app| Ok(app.trust_clock(&operator()).await?)).await?;
    say(format_args!("trusted       {trusted}"))
}
