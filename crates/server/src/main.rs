//! `countersign`: the one binary. It wires the crates together and holds no rules of its own.
//!
//! Follow a challenge through the house: `POST …/Challenges` is a line of [`api::ROUTES`]; its handler in
//! `api/src/challenges.rs` reads the form and calls the use case of the same name in
//! `app/src/challenges.rs`, which asks `domain/src/challenges.rs` what may be and writes with
//! `store/src/challenges.rs`. The device's signed answer takes the same path, with `crypto` deciding
//! whether the signature holds.

mod account;
mod api_key;
mod audit;
mod backup;
mod cli;
mod clock;
mod config;
mod credential;
mod demo;
mod device;
mod doctor;
mod failure;
mod file;
mod health;
mod keys;
mod log;
mod metrics;
mod migrate;
mod restore;
mod serve;
mod service;
mod storage;
mod tls;
mod webhooks;

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;

fn main() -> ExitCode {
    // One provider for everything that speaks TLS; there is no other in the graph to fall back to.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody may be there to hear it.
            let _ = writeln!(std::io::stderr(), "countersign: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (cli, settings) = config::read()?;
    let run = async move {
        match cli.command {
            Command::Serve(options) => serve::run(options, settings).await,
            Command::Demo => demo::run().await,
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
            Command::Clock(command) => clock::run(command).await,
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)
}
