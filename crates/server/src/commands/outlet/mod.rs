//! `countersign outlet`: manages the outlets for one-time codes in the database, even while servers are running, and
//! tests them.

mod settings;

use std::num::NonZeroU32;

use app::App;
use app::outlets::{NewOutlet, OutletChange};
use clap::{Args, Subcommand};
use domain::outlets::{Outlet, OutletKind, OutletSid};
use domain::{AccountSid, Channel, FriendlyName, Parameter, Recipient};
use outlet_client::{Outcome, OutletSettings};
use terminal::{CliError, say};

use self::settings::SettingsArguments;
use super::not_found::not_found;
use crate::operator::operator;
use crate::options::{OutletClientOptions, StorageOptions};
use crate::serve_settings::outlet_client;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create an outlet: a mail server, a gateway, or a file that records messages
    Create {
        /// Kind of the outlet: smtp, twilio, http or capture
        #[arg(long, value_parser = parse::<OutletKind>)]
        kind: OutletKind,
        /// Channel that the outlet serves: sms, call, email or whatsapp; can be repeated
        #[arg(long = "channel", required = true, value_name = "CHANNEL", value_parser = parse::<Channel>)]
        channels: Vec<Channel>,
        /// Display name, 1 to 64 characters
        #[arg(long, value_parser = parse::<FriendlyName>)]
        name: FriendlyName,
        /// Maximum number of messages per second; if not set, there is no limit
        #[arg(long)]
        rate: Option<NonZeroU32>,
        /// SID of the account that owns the outlet; if not set, the oldest account
        #[arg(long)]
        account: Option<AccountSid>,
        #[command(flatten)]
        settings: Box<SettingsArguments>,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// List the outlets of all accounts
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Show the settings of an outlet, without its secret
    Show {
        /// SID of the outlet (MG… or MD…)
        sid: OutletSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Change an outlet; what is not given stays as it is
    Update {
        /// SID of the outlet (MG… or MD…)
        sid: OutletSid,
        /// Channels that the outlet serves from now on; can be repeated
        #[arg(long = "channel", value_name = "CHANNEL", value_parser = parse::<Channel>)]
        channels: Vec<Channel>,
        /// New display name, 1 to 64 characters
        #[arg(long, value_parser = parse::<FriendlyName>)]
        name: Option<FriendlyName>,
        /// New maximum number of messages per second; 0 removes the limit
        #[arg(long)]
        rate: Option<u32>,
        #[command(flatten)]
        settings: Box<SettingsArguments>,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Delete an outlet
    Delete {
        /// SID of the outlet (MG… or MD…)
        sid: OutletSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Send a test message through an outlet at once, and show what the server said. Exits with code 0 if it was
    /// accepted
    Test {
        /// SID of the outlet (MG… or MD…)
        sid: OutletSid,
        /// Phone number or mail address to which the message is sent
        #[arg(long, value_parser = parse::<Recipient>)]
        to: Recipient,
        /// Channel of the message; if not set, the first one that the outlet serves
        #[arg(long, value_parser = parse::<Channel>)]
        channel: Option<Channel>,
        #[command(flatten)]
        client: OutletClientOptions,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

/// Parses an argument as a parameter.
fn parse<T: Parameter>(text: &str) -> Result<T, String> {
    T::from_parameter(text).map_err(|expected| expected.to_string())
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::Create { kind, channels, name, rate, account, settings, storage } => {
            let settings = settings.create(kind)?;
            let new = NewOutlet { friendly_name: name, channels, settings, rate };
            storage.with_app(async |app| create(app, account, new).await).await
        }
        Command::List { storage } => storage.with_app(list).await,
        Command::Show { sid, storage } => {
            storage.with_app(async |app| show(app, &find(app, sid).await?)).await
        }
        Command::Update { sid, channels, name, rate, settings, storage } => {
            let change = OutletChange {
                friendly_name: name,
                channels: (!channels.is_empty()).then_some(channels),
                settings: if settings.is_given() { Some(settings.into_change()?) } else { None },
                rate: rate.map(NonZeroU32::new),
            };
            storage.with_app(async |app| update(app, sid, change).await).await
        }
        Command::Delete { sid, storage } => storage.with_app(async |app| delete(app, sid).await).await,
        Command::Test { sid, to, channel, client, storage } => {
            storage.with_app(async |app| test(app, sid, to, channel, &client).await).await
        }
    }
}

async fn create(app: &App, account: Option<AccountSid>, new: NewOutlet) -> Result<(), CliError> {
    let accounts = app.accounts().await?;
    let account = match account {
        Some(sid) if accounts.iter().any(|found| found.sid == sid) => sid,
        Some(sid) => return Err(CliError::new(format!("there is no {sid}"))),
        None => accounts.first().map(|oldest| oldest.sid).ok_or_else(|| {
            CliError::new("there is no account; create one with `countersign account create`")
        })?,
    };
    let outlet = app.create_outlet(&operator(), account, new).await?;
    show(app, &outlet)
}

async fn list(app: &App) -> Result<(), CliError> {
    for outlet in app.all_outlets().await? {
        let (kind, channels) = (outlet.kind.as_str(), channels(&outlet));
        say(format_args!("{}  {kind:7}  {channels:8}  {}", outlet.sid, outlet.friendly_name))?;
    }
    Ok(())
}

async fn update(app: &App, sid: OutletSid, change: OutletChange) -> Result<(), CliError> {
    let outlet = find(app, sid).await?;
    let updated = app.update_outlet(&operator(), outlet.account_sid, sid, change).await?;
    show(app, &updated)
}

async fn delete(app: &App, sid: OutletSid) -> Result<(), CliError> {
    let outlet = find(app, sid).await?;
    app.delete_outlet(&operator(), outlet.account_sid, sid).await.map_err(|error| not_found(sid, error))?;
    say(format_args!("deleted {sid}"))
}

async fn test(
    app: &App,
    sid: OutletSid,
    to: Recipient,
    channel: Option<Channel>,
    client: &OutletClientOptions,
) -> Result<(), CliError> {
    let client = outlet_client(client)?;
    let outlet = find(app, sid).await?;
    let first = outlet.channels.first().copied();
    let channel = channel.or(first).ok_or_else(|| CliError::new(format!("{sid} serves no channel")))?;
    let to = Recipient::of_channel(channel, to.as_str()).map_err(|expected| {
        CliError::new(format!("--to {expected}, for the channel {}", channel.as_str()))
    })?;
    match app.test_outlet(&operator(), &client, &outlet, channel, to).await? {
        Outcome::Accepted { provider_id: None } => say("accepted"),
        Outcome::Accepted { provider_id: Some(id) } => say(format_args!("accepted, with the ID {id}")),
        Outcome::Retry { after: None, code, reason } => {
            Err(CliError::new(format!("not accepted now, error {code}: {reason}")))
        }
        Outcome::Retry { after: Some(after), code, reason } => Err(CliError::new(format!(
            "not accepted now, error {code}: {reason}; try again after {} seconds",
            after.as_secs()
        ))),
        Outcome::Refused { code, reason } => Err(CliError::new(format!("refused, error {code}: {reason}"))),
    }
}

async fn find(app: &App, sid: OutletSid) -> Result<Outlet, CliError> {
    let found = app.all_outlets().await?.into_iter().find(|outlet| outlet.sid == sid);
    found.ok_or_else(|| CliError::new(format!("there is no {sid}")))
}

/// Prints an outlet with its settings, but no secret.
fn show(app: &App, outlet: &Outlet) -> Result<(), CliError> {
    let settings: OutletSettings = app.open_outlet(outlet)?;
    let summary = settings.summary();
    let line = |label: &str, value: Option<String>| match value {
        Some(value) => say(format_args!("{label:10}  {value}")),
        None => Ok(()),
    };
    line("outlet sid", Some(outlet.sid.to_string()))?;
    line("account", Some(outlet.account_sid.to_string()))?;
    line("name", Some(outlet.friendly_name.to_string()))?;
    line("kind", Some(outlet.kind.as_str().to_owned()))?;
    line("channels", Some(channels(outlet)))?;
    line("target", Some(summary.target))?;
    line("user", summary.user)?;
    line("from", summary.from)?;
    line("rate", outlet.rate.map(|rate| format!("{rate} per second")))
}

/// Returns the names of the channels that an outlet serves.
fn channels(outlet: &Outlet) -> String {
    outlet.channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ")
}
