//! `countersign clock`: what an operator knows of the clock, and the server can't.

use clap::{Args, Subcommand};

use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Clock {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let housekeeping act on the clock as it is now; when it has jumped, housekeeping waits for six hours otherwise
    Trust {
        #[command(flatten)]
        storage: Storage,
    },
}

pub(crate) async fn run(clock: Clock) -> Result<(), Failure> {
    let Command::Trust { storage } = clock.command;
    let app = storage.open_existing().await?;
    let trusted = app.trust_clock(&operator()).await;
    app.stop().await;
    say(format_args!("trusted       {}", trusted?))
}
