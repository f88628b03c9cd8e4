//! `countersign account`: works on the database, also while the server runs.

use clap::{Args, Subcommand};
use domain::{Account, AccountSid, CallbackUrl, FriendlyName, Parameter as _};
use store::OldSchema;

use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Accounts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account and print its SID and auth token
    Create {
        /// Name for people, 1 to 64 characters
        #[arg(long, default_value = "Account")]
        name: String,
        #[command(flatten)]
        storage: Storage,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        storage: Storage,
    },
    /// Show an account
    Show {
        /// SID of the account; the oldest when not given
        sid: Option<AccountSid>,
        /// Print the auth token too
        #[arg(long)]
        reveal: bool,
        #[command(flatten)]
        storage: Storage,
    },
    /// Change an account
    Set {
        /// SID of the account
        sid: AccountSid,
        /// Address that hears of what could not be delivered; empty for none
        #[arg(long)]
        debugger_webhook: String,
        #[command(flatten)]
        storage: Storage,
    },
    /// Give an account a new auth token, which is printed; the old one stops working at once
    RotateToken {
        /// SID of the account
        sid: AccountSid,
        #[command(flatten)]
        storage: Storage,
    },
}

pub(crate) async fn run(accounts: Accounts) -> Result<(), Failure> {
    match accounts.command {
        Command::Create { name, storage } => {
            let name = FriendlyName::from_parameter(&name)
                .map_err(|expected| Failure::new(format!("--name {expected}")))?;
            let app = storage.open(OldSchema::Refuse).await?;
            let made = app.create_account(&operator(), None, None, name).await?;
            let made = made.ok_or_else(|| Failure::new("an account with the new SID exists; try again"))?;
            print(&made.account)?;
            say(format_args!("auth token    {}", made.auth_token.expose()))?;
            app.stop().await;
        }
        Command::List { storage } => {
            let app = storage.open_existing().await?;
            for account in app.accounts().await? {
                say(format_args!("{}  {}  {}", account.sid, account.created_at, account.friendly_name))?;
            }
            app.stop().await;
        }
        Command::Show { sid, reveal, storage } => {
            let app = storage.open_existing().await?;
            let sid = match sid {
                Some(sid) => Some(sid),
                None => app.accounts().await?.first().map(|account| account.sid),
            };
            let sid = sid.ok_or_else(|| Failure::new("there is no account"))?;
            let made = app.account(sid).await.map_err(|error| missing(sid, error))?;
            print(&made.account)?;
            if let Some(url) = &made.account.debugger_webhook {
                say(format_args!("debugger      {}", url.as_str()))?;
            }
            if reveal {
                say(format_args!("auth token    {}", made.auth_token.expose()))?;
            }
            app.stop().await;
        }
        Command::Set { sid, debugger_webhook, storage } => {
            let url = (!debugger_webhook.is_empty()).then(|| CallbackUrl::from_parameter(&debugger_webhook));
            let url =
                url.transpose().map_err(|expected| Failure::new(format!("--debugger-webhook {expected}")))?;
            let app = storage.open_existing().await?;
            app.set_debugger_webhook(&operator(), sid, url.clone())
                .await
                .map_err(|error| missing(sid, error))?;
            say(format_args!("debugger      {}", url.as_ref().map_or("none", |url| url.as_str())))?;
            app.stop().await;
        }
        Command::RotateToken { sid, storage } => {
            let app = storage.open_existing().await?;
            let auth_token =
                app.rotate_auth_token(&operator(), sid).await.map_err(|error| missing(sid, error))?;
            say(format_args!("auth token    {}", auth_token.expose()))?;
            app.stop().await;
        }
    }
    Ok(())
}

/// A 404 in words for a terminal.
pub(crate) fn missing(sid: impl std::fmt::Display, error: app::Error) -> Failure {
    match error {
        app::Error::Problem(_) => Failure::new(format!("there is no {sid}")),
        fault => fault.into(),
    }
}

fn print(account: &Account) -> Result<(), Failure> {
    say(format_args!("account sid   {}", account.sid))?;
    say(format_args!("name          {}", account.friendly_name))?;
    say(format_args!("created       {}", account.created_at))
}
