//! `countersign api-key`: manages API keys in the database, even while servers are running.

use app::App;
use clap::{Args, Subcommand};
use domain::{AccountSid, ApiKey, ApiKeySid, FriendlyName, Parameter as _};
use terminal::{CliError, say};

use super::not_found::not_found;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create an API key and print its SID and secret; the secret can't be shown again
    Create {
        /// SID of the account that the key authenticates
        account_sid: AccountSid,
        /// Display name, 1 to 64 characters
        #[arg(long, default_value = ApiKey::DEFAULT_NAME)]
        name: String,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// List the API keys of an account
    List {
        /// SID of the account
        account_sid: AccountSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Revoke an API key, effective immediately
    Revoke {
        /// SID of the API key
        sid: ApiKeySid,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::Create { account_sid, name, storage } => {
            let name = FriendlyName::from_parameter(&name)
                .map_err(|expected| CliError::new(format!("--name {expected}")))?;
            storage.with_app(async |app| create(app, account_sid, name).await).await
        }
        Command::List { account_sid, storage } => {
            storage.with_app(async |app| list(app, account_sid).await).await
        }
        Command::Revoke { sid, storage } => storage.with_app(async |app| revoke(app, sid).await).await,
    }
}

async fn create(app: &App, account_sid: AccountSid, name: FriendlyName) -> Result<(), CliError> {
    let created = app
        .create_api_key(&operator(), account_sid, name)
        .await
        .map_err(|error| not_found(account_sid, error))?;
    say(format_args!("api key sid   {}", created.key.sid))?;
    say(format_args!("secret        {}", created.secret.expose()))
}

async fn list(app: &App, account_sid: AccountSid) -> Result<(), CliError> {
    app.account(account_sid).await.map_err(|error| not_found(account_sid, error))?;
    for key in app.all_api_keys(account_sid).await? {
        say(format_args!("{}  {}  {}", key.sid, key.created_at, key.friendly_name))?;
    }
    Ok(())
}

async fn revoke(app: &App, sid: ApiKeySid) -> Result<(), CliError> {
    app.revoke_api_key(&operator(), sid).await.map_err(|error| not_found(sid, error))?;
    say(format_args!("revoked {sid}"))
}
