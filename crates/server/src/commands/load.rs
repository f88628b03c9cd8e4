//! `countersign load`, which the crate `load` implements. This file reads the credentials.

use std::path::PathBuf;
use std::sync::Arc;

use ::load::{Credentials, LoadOptions};
use app::SystemClock;
use clap::Args;
use terminal::CliError;

use crate::input_file::read_secret;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: LoadOptions,

    #[command(flatten)]
    credentials: CredentialOptions,
}

/// The credentials of the backend. Their variables are those of the server; their ids are not, so that the command does
/// not read the configuration file of a server.
#[derive(Debug, Args)]
struct CredentialOptions {
    /// SID of the account (AC…) or of an API key (SK…)
    #[arg(
        id = "load_account_sid",
        long = "account-sid",
        env = "COUNTERSIGN_ACCOUNT_SID",
        value_name = "SID"
    )]
    account_sid: Option<String>,

    /// Auth token of the account, or secret of the API key. On a shared machine, use the variable or the file, because
    /// other users can see command arguments
    #[arg(
        id = "load_auth_token",
        long = "auth-token",
        env = "COUNTERSIGN_AUTH_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    auth_token: Option<String>,

    /// File that contains the auth token
    #[arg(
        id = "load_auth_token_file",
        long = "auth-token-file",
        env = "COUNTERSIGN_AUTH_TOKEN_FILE",
        conflicts_with = "load_auth_token",
        value_name = "FILE"
    )]
    auth_token_file: Option<PathBuf>,
}

/// Puts a deployment under load and prints a report.
///
/// # Errors
/// Returns an error if credentials are missing, or if the run fails.
pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let credentials = || arguments.credentials.read();
    ::load::run(arguments.load, credentials, Arc::new(SystemClock)).await
}

impl CredentialOptions {
    fn read(&self) -> Result<Credentials, CliError> {
        let missing = |name: &str, option: &str| {
            CliError::new(format!("load needs the backend's {name}; set {option}"))
        };
        let sid =
            self.account_sid.clone().ok_or_else(|| missing("account SID", "COUNTERSIGN_ACCOUNT_SID"))?;
        let secret = read_secret(self.auth_token.as_ref(), self.auth_token_file.as_ref())?;
        let secret = secret
            .ok_or_else(|| missing("auth token", "COUNTERSIGN_AUTH_TOKEN or COUNTERSIGN_AUTH_TOKEN_FILE"))?;
        Ok(Credentials { sid, secret })
    }
}
