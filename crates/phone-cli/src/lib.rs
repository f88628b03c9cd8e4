//! The command `countersign device`: a software phone for the terminal.
//!
//! The command does what an app with one of Twilio's SDKs does. It uses the crate [`device`] and stores its
//! enrollments in a keyring file. The binary parses [`DeviceOptions`] and calls [`run`]; nothing here depends
//! on the server.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `enroll.rs` | `enroll` |
//! | `show.rs` | `list` and `show` |
//! | `answer.rs` | `approve` and `deny` |
//! | `watch.rs`, `input.rs` | `watch`, and the lines that the user types |
//! | `qr.rs` | `qr`, the link that enrolls a browser |
//! | `totp.rs` | `totp`, an authenticator app |
//! | `phones.rs` | the keyring with a [`device::Phone`] for each enrollment; `forget` |
//! | `screen.rs` | how a challenge is displayed |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod enroll;
mod input;
mod parameters;
mod phones;
mod qr;
mod screen;
mod show;
mod totp;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use device::Answer;
use domain::{ChallengeSid, Clock};
use terminal::CliError;

use crate::parameters::{interval, parameter};
use crate::phones::Phones;

/// Options and subcommands of `countersign device`.
#[derive(Debug, Args)]
pub struct DeviceOptions {
    /// Keyring file with the enrollments and their private keys, created on first use and readable only by
    /// you
    #[arg(
        long,
        env = "COUNTERSIGN_DEVICE_KEYRING",
        default_value = phones::DEFAULT_KEYRING,
        value_name = "FILE",
        global = true
    )]
    keyring: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enroll a phone for a user, with an access token from your backend
    Enroll(Box<enroll::Enroll>),
    /// List the enrollments, each with its number of pending challenges
    List {
        /// Show only the contents of the keyring, without contacting the server
        #[arg(long)]
        offline: bool,
    },
    /// Show all pending challenges, or one challenge in full
    Show {
        /// SID of the challenge to show; without it, all pending challenges are shown
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: Option<ChallengeSid>,
        #[command(flatten)]
        filter: FactorFilter,
    },
    /// Approve a challenge: sign "approved" with the phone's private key and send the answer
    Approve {
        /// SID of the challenge to approve
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: ChallengeSid,
        #[command(flatten)]
        filter: FactorFilter,
    },
    /// Deny a challenge: sign "denied" with the phone's private key and send the answer
    Deny {
        /// SID of the challenge to deny
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: ChallengeSid,
        #[command(flatten)]
        filter: FactorFilter,
    },
    /// Wait for challenges and ask you to answer each one; stop with Ctrl-C
    Watch {
        #[command(flatten)]
        filter: FactorFilter,
        /// Interval between requests for pending challenges, such as 500ms, 2s, or 1m; from 100ms to one day
        #[arg(long, default_value = "2s", value_parser = interval)]
        interval: Duration,
    },
    /// Print a QR code that enrolls a browser as a phone, with an access token from your backend
    Qr(Box<qr::Qr>),
    /// Use the phone as an authenticator app, which shows the codes of TOTP factors
    #[command(subcommand)]
    Totp(totp::TotpCommand),
    /// Delete a factor on the server, then delete its private key from the keyring
    Forget {
        /// SID of the factor to delete, or a unique prefix of it
        factor: String,
        /// Delete only the private key from the keyring; the factor stays on the server
        #[arg(long)]
        local: bool,
    },
}

/// Selects the factors in the keyring that a command applies to.
#[derive(Debug, Args)]
struct FactorFilter {
    /// SID of the factor, or a unique prefix of it; without this option, all factors in the keyring are used
    #[arg(long)]
    factor: Option<String>,
}

/// Runs `countersign device`. `clock` is the local clock, from which the phone takes the time for its tokens.
///
/// # Errors
/// Returns an error with a message for the terminal if the keyring, the server, or standard output fails, or
/// if the server refuses a request.
pub async fn run(options: DeviceOptions, clock: Arc<dyn Clock>) -> Result<(), CliError> {
    let mut phones = Phones::open(options.keyring, clock)?;
    match options.command {
        Command::Qr(options) => qr::run(*options),
        Command::Enroll(options) => enroll::run(&mut phones, *options).await,
        Command::List { offline: true } => show::list_offline(&phones),
        Command::List { offline: false } => show::list(&mut phones).await,
        Command::Show { challenge: None, filter } => show::pending(&mut phones, filter.factor).await,
        Command::Show { challenge: Some(sid), filter } => {
            show::challenge(&mut phones, filter.factor, sid).await
        }
        Command::Approve { challenge, filter } => {
            answer::run(&mut phones, filter.factor, challenge, Answer::Approved).await
        }
        Command::Deny { challenge, filter } => {
            answer::run(&mut phones, filter.factor, challenge, Answer::Denied).await
        }
        Command::Watch { filter, interval } => {
            watch::run(phones.enrolled(filter.factor).await?, interval).await
        }
        Command::Totp(command) => totp::run(&mut phones, command),
        Command::Forget { factor, local } => phones.forget(&factor, local).await,
    }
}
