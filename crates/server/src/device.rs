//! `countersign device`: a software phone for the terminal.
//!
//! It does what an app with one of Twilio's SDKs does, by means of the crate `device`, and keeps its
//! enrollments in a keyring file. What a server sends is shown by [`screen`].

mod answer;
mod enroll;
mod input;
mod look;
mod phones;
mod screen;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use device::Answer;
use domain::{ChallengeSid, Parameter};

use crate::device::phones::Phones;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Device {
    /// File that keeps the enrollments and their private keys; made on first use, for you alone
    #[arg(
        long,
        env = "COUNTERSIGN_DEVICE_KEYRING",
        default_value = phones::KEYRING,
        value_name = "FILE",
        global = true
    )]
    keyring: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enroll this phone for a user, with an access token from your backend
    Enroll(Box<enroll::Enroll>),
    /// List the enrollments, and how many challenges wait for an answer
    List {
        /// Show only what the keyring knows
        #[arg(long)]
        offline: bool,
    },
    /// Show the challenges that wait for an answer, or one challenge in full
    Show {
        /// SID of the challenge
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: Option<ChallengeSid>,
        #[command(flatten)]
        which: Which,
    },
    /// Approve a challenge: sign "approved" with the phone's key
    Approve {
        /// SID of the challenge
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: ChallengeSid,
        #[command(flatten)]
        which: Which,
    },
    /// Deny a challenge: sign "denied" with the phone's key
    Deny {
        /// SID of the challenge
        #[arg(value_parser = parameter::<ChallengeSid>)]
        challenge: ChallengeSid,
        #[command(flatten)]
        which: Which,
    },
    /// Wait for challenges and ask you about each; end with Ctrl-C
    Watch {
        #[command(flatten)]
        which: Which,
        /// Time between two looks at the server, such as 500ms, 2s or 1m
        #[arg(long, default_value = "2s", value_parser = interval)]
        interval: Duration,
    },
    /// Delete a factor on the server, then its key from the keyring
    Forget {
        /// SID of the factor, or the beginning of it
        factor: String,
        /// Leave the server alone: only delete the key
        #[arg(long)]
        local: bool,
    },
}

/// Which of the keyring's factors.
#[derive(Debug, Args)]
struct Which {
    /// Only this factor: its SID, or the beginning of it; all of the keyring's when not given
    #[arg(long)]
    factor: Option<String>,
}

pub(crate) async fn run(device: Box<Device>) -> Result<(), Failure> {
    let mut phones = Phones::open(device.keyring)?;
    match device.command {
        Command::Enroll(options) => enroll::run(&mut phones, *options).await,
        Command::List { offline: true } => look::list_offline(&phones),
        Command::List { offline: false } => look::list(&mut phones).await,
        Command::Show { challenge: None, which } => look::pending(&mut phones, which.factor).await,
        Command::Show { challenge: Some(sid), which } => {
            look::challenge(&mut phones, which.factor, sid).await
        }
        Command::Approve { challenge, which } => {
            answer::run(&mut phones, which.factor, challenge, Answer::Approved).await
        }
        Command::Deny { challenge, which } => {
            answer::run(&mut phones, which.factor, challenge, Answer::Denied).await
        }
        Command::Watch { which, interval } => watch::run(phones.take(which.factor).await?, interval).await,
        Command::Forget { factor, local } => phones.forget(&factor, local).await,
    }
}

/// Reads an argument as the API would read the parameter, so that what can't be right is never sent.
fn parameter<T: Parameter>(text: &str) -> Result<T, String> {
    T::from_parameter(text).map_err(|expected| expected.to_string())
}

/// `500ms`, `2s`, `1m`; a bare number is seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let milliseconds = number.parse::<u64>().ok().zip(factor).and_then(|(number, f)| number.checked_mul(f));
    milliseconds
        .filter(|milliseconds| (100..=86_400_000).contains(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "must be a time such as 500ms, 2s or 1m, from 100ms to a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        for (text, milliseconds) in [("500ms", 500), ("2s", 2000), ("2", 2000), ("1m", 60_000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "0", "99ms", "-1s", "1.5s", "2h", "2 s", "1441m", "99999999999999999999s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
