//! `countersign`: the server and its commands in one binary. This crate connects the other crates and contains no
//! business rules of its own.
//!
//! How a request passes through the crates: `web` accepts the connection and reads the request. `POST …/Challenges` is
//! an entry in [`api::ROUTES`]. Its handler in `api/src/challenges/push.rs` reads the form and calls the use case with
//! the same name in `app/src/challenges/push.rs`. The use case applies the rules in `domain/src/challenges/` and writes
//! through `store/src/challenges/push.rs`. The device's signed answer takes the same path, and `crypto` verifies its
//! signature.
//!
//! | Question | File |
//! | --- | --- |
//! | Which commands are there? | `commands/mod.rs`, with one file per command |
//! | Which options does the server have? | `options.rs` |
//! | Where does the value of an option come from? | `config/mod.rs` |
//! | What happens when the server starts and stops? | `commands/serve.rs` |
//! | Where are the database and the master key? | `data_dir.rs`, `master_key_file.rs`, `database.rs` |

// All output must pass through the crate `terminal`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod config;
mod configured_outlets;
mod data_dir;
mod database;
mod database_url;
mod error;
mod first_account;
mod hangup;
mod http_server;
mod input_file;
mod last_backup;
mod log;
mod log_levels;
mod master_key_file;
mod metrics_listener;
mod open_files;
mod operator;
mod options;
mod sampling;
mod serve_settings;
mod stop_signal;
mod test_mode;
mod tls;

use std::process::ExitCode;

use clap::CommandFactory as _;
use terminal::CliError;

use crate::cli::Cli;

/// The memory allocator of the process. It is faster than the C library's for many small, short-lived allocations
/// (docs/decisions/0014-an-allocator-of-our-own.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Every TLS client and server in the process uses this crypto provider; no other one is linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_output_closed() => ExitCode::SUCCESS,
        Err(error) => {
            terminal::warn(format_args!("countersign: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), CliError> {
    let (cli, settings) = config::read::<Cli>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cli.command.run(settings, Cli::command()))
}
