//! `countersign api-key`: works on the database, also while the server runs.

use clap::{Args, Subcommand};
use domain::{AccountSid, ApiKeySid, FriendlyName, Parameter as _};

use crate::account::missing;
use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct ApiKeys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an API key and print its SID and secret, which can't be shown again
    Create {
        /// SID of the account that it is to stand for
        account_sid: AccountSid,
        /// Name for people, 1 to 64 characters
        #[arg(long, default_value = "API key")]
        name: String,
        #[command(flatten)]
        storage: Storage,
    },
    /// List the API keys of an account
    List {
        /// SID of the account
        account_sid: AccountSid,
        #[command(flatten)]
        storage: Storage,
    },
    /// Revoke an API key, at once
    Revoke {
        /// SID of the key
        sid: ApiKeySid,
        #[command(flatten)]
        storage: Storage,
    },
}

pub(crate) async fn run(keys: ApiKeys) -> Result<(), Failure> {
    match keys.command {
        Command::Create { account_sid, name, storage } => {
            let name = FriendlyName::from_parameter(&name)
                .map_err(|expected| Failure::new(format!("--name {expected}")))?;
            let app = storage.open_existing().await?;
            let made = app
                .create_api_key(&operator(), account_sid, name)
                .await
                .map_err(|error| missing(account_sid, error))?;
            say(format_args!("api key sid   {}", made.key.sid))?;
            say(format_args!("secret        {}", made.secret.expose()))?;
            app.stop().await;
        }
        Command::List { account_sid, storage } => {
            let app = storage.open_existing().await?;
            app.account(account_sid).await.map_err(|error| missing(account_sid, error))?;
            for key in app.api_keys(account_sid).await? {
                say(format_args!("{}  {}  {}", key.sid, key.created_at, key.friendly_name))?;
            }
            app.stop().await;
        }
        Command::Revoke { sid, storage } => {
            let app = storage.open_existing().await?;
            app.revoke_api_key(&operator(), sid).await.map_err(|error| missing(sid, error))?;
            say(format_args!("revoked {sid}"))?;
            app.stop().await;
        }
    }
    Ok(())
}
