//! The parser of the command line.
//!
//! It only joins the commands; each defines its own arguments, and `options.rs` those of the server.

use std::path::PathBuf;

use clap::Parser;

use crate::commands::Command;

/// Self-hosted server that speaks Twilio's Verify Push API.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file [default: countersign.toml in the current folder, if it exists]
    #[arg(long, env = "COUNTERSIGN_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}
