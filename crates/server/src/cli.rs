//! The command-line parser.
//!
//! This file only combines the commands. Each command defines its own arguments; `options.rs` defines those of the
//! server.

use std::path::PathBuf;

use clap::Parser;

use crate::commands::Command;

/// Self-hosted server compatible with Twilio's Verify Push API.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file [default: countersign.toml in the working directory, if it exists]
    #[arg(long, env = "COUNTERSIGN_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}
