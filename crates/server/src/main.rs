//! `countersign`: the one binary. It wires the crates together and holds no rules of its own.
//!
//! Follow a challenge through the house: `POST …/Challenges` is a line of [`api::ROUTES`]; its handler in
//! `api/src/challenges.rs` reads the form and calls the use case of the same name in
//! `app/src/challenges.rs`, which asks `domain/src/challenges.rs` what may be and writes with
//! `store/src/challenges.rs`. The device's signed answer takes the same path, with `crypto` deciding
//! whether the signature holds.

// Everything that is printed passes through `terminal.rs`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod account;
mod api_key;
mod audit;
mod backup;
mod cli;
mod clock;
mod completions;
mod config;
mod credential;
mod demo;
mod device;
mod doctor;
mod failure;
mod file;
mod hangup;
mod health;
mod keys;
mod last_backup;
mod log;
mod man;
mod metrics;
mod migrate;
mod open_files;
mod restore;
mod sampling;
mod serve;
mod service;
mod storage;
mod terminal;
mod tls;
mod webhooks;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;

fn main() -> ExitCode {
    // One provider for everything that speaks TLS; there is no other in the graph to fall back to.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // As after `| head`.
        Err(failure) if failure.is_unread() => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::warn(format_args!("countersign: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (cli, settings) = config::read()?;
    let run = async move {
        match cli.command {
            Command::Serve(options) => serve::run(options, settings).await,
            Command::Demo(options) => demo::run(&options).await,
            Command::Device(command) => device::run(command).await,
            Command::Health(command) => health::run(command).await,
            Command::Config(command) => config::show::run(&command, &settings),
            Command::Doctor(command) => doctor::run(&command, &settings).await,
            Command::Migrate(options) => migrate::run(&options).await,
            Command::Keys(command) => keys::run(command).await,
            Command::Backup(options) => backup::run(options).await,
            Command::Restore(options) => restore::run(options).await,
            Command::Account(command) => account::run(command).await,
            Command::ApiKey(command) => api_key::run(command).await,
            Command::Service(command) => service::run(command).await,
            Command::Webhooks(command) => webhooks::run(command).await,
            Command::Credential(command) => credential::run(command).await,
            Command::Audit(command) => audit::run(command).await,
            Command::Completions(options) => completions::run(&options),
            Command::Man(options) => man::run(&options),
            Command::Clock(command) => clock::run(command).await,
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)
}
