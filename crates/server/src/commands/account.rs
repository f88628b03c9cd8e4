//! `countersign account`: manages accounts in the database, even while servers are running.

use app::{AccountChanges, App, UrlChange};
use clap::{ArgGroup, Args, Subcommand};
use domain::{Account, AccountSid, FriendlyName, Parameter as _};
use terminal::{CliError, say, warn};

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
    /// Create an account and print its SID and auth token
    Create {
        /// Display name, 1 to 64 characters
        #[arg(long, default_value = "Account")]
        name: String,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Show an account
    Show {
        /// SID of the account; if not set, the oldest account
        sid: Option<AccountSid>,
        /// Also print the auth token
        #[arg(long)]
        reveal: bool,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Change an account
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// SID of the account
        sid: AccountSid,
        /// URL to which alerts are sent, such as those about failed deliveries; an empty value disables this
        #[arg(long, group = "change")]
        debugger_webhook: Option<String>,
        /// URL to which events about verifications are sent, for services with VerifyEventSubscriptionEnabled; an
        /// empty value disables this
        #[arg(long, group = "change")]
        verification_events_url: Option<String>,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Replace an account's auth token and print the new one; the previous token stops working at once
    RotateToken {
        /// SID of the account
        sid: AccountSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::Create { name, storage } => {
            let name = FriendlyName::from_parameter(&name)
                .map_err(|expected| CliError::new(format!("--name {expected}")))?;
            storage.with_app_or_create(async |app| create(app, name).await).await
        }
        Command::List { storage } => storage.with_app(list).await,
        Command::Show { sid, reveal, storage } => {
            storage.with_app(async |app| show(app, sid, reveal).await).await
        }
        Command::Set { sid, debugger_webhook, verification_events_url, storage } => {
            let parse = |option: &str, url: Option<String>| {
                UrlChange::parse(url.as_deref())
                    .map_err(|expected| CliError::new(format!("{option} {expected}")))
            };
            let changes = AccountChanges {
                debugger_webhook: parse("--debugger-webhook", debugger_webhook)?,
                verification_events_url: parse("--verification-events-url", verification_events_url)?,
            };
            storage.with_app(async |app| set(app, sid, changes).await).await
        }
        Command::RotateToken { sid, storage } => {
            storage.with_app(async |app| rotate_token(app, sid).await).await
        }
    }
}

async fn create(app: &App, name: FriendlyName) -> Result<(), CliError> {
    let created = app.create_account(&operator(), None, None, name).await?;
    let created = created
        .ok_or_else(|| CliError::new("an account with the generated SID already exists; try again"))?;
    print(&created.account)?;
    say(format_args!("auth token    {}", created.auth_token.expose()))
}

async fn list(app: &App) -> Result<(), CliError> {
    for account in app.accounts().await? {
        say(format_args!("{}  {}  {}", account.sid, account.created_at, account.friendly_name))?;
    }
    Ok(())
}

async fn show(app: &App, sid: Option<AccountSid>, reveal: bool) -> Result<(), CliError> {
    let sid = match sid {
        Some(sid) => Some(sid),
        None => app.accounts().await?.first().map(|account| account.sid),
    };
    let sid = sid
        .ok_or_else(|| CliError::new("there is no account; create one with `countersign account create`"))?;
    let found = app.account_with_token(sid).await.map_err(|error| not_found(sid, error))?;
    print(&found.account)?;
    if let Some(url) = &found.account.debugger_webhook {
        say(format_args!("debugger      {}", url.as_str()))?;
    }
    if let Some(url) = &found.account.verification_events_url {
        say(format_args!("events        {}", url.as_str()))?;
    }
    if reveal {
        say(format_args!("auth token    {}", found.auth_token.expose()))?;
    }
    Ok(())
}

async fn set(app: &App, sid: AccountSid, changes: AccountChanges) -> Result<(), CliError> {
    app.update_account(&operator(), sid, changes.clone()).await.map_err(|error| not_found(sid, error))?;
    print_change("debugger      ", &changes.debugger_webhook)?;
    print_change("events        ", &changes.verification_events_url)
}

/// Prints a URL that was set or removed after `label`, with a warning if the receiver may fail to validate signatures.
fn print_change(label: &str, change: &UrlChange) -> Result<(), CliError> {
    let Some(url) = change.value() else { return Ok(()) };
    if url.is_some_and(|url| !url.is_sent_as_signed()) {
        warn(
            "warning: the URL is not sent exactly as it is written here; the receiver must validate signatures with \
             this spelling",
        );
    }
    say(format_args!("{label}{}", url.map_or("none", |url| url.as_str())))
}

async fn rotate_token(app: &App, sid: AccountSid) -> Result<(), CliError> {
    let auth_token = app.rotate_auth_token(&operator(), sid).await.map_err(|error| not_found(sid, error))?;
    say(format_args!("auth token    {}", auth_token.expose()))
}

fn print(account: &Account) -> Result<(), CliError> {
    say(format_args!("account sid   {}", account.sid))?;
    say(format_args!("name          {}", account.friendly_name))?;
    say(format_args!("created       {}", account.created_at))
}
