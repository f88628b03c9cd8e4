//! `countersign credential`: manages push credentials in the database, even while servers are running.

use std::path::PathBuf;

use app::App;
use app::credentials::{NewCredential, Upload};
use clap::{Args, Subcommand};
use domain::credentials::Credential;
use domain::{AccountSid, CredentialSid, FriendlyName, Parameter as _};
use terminal::{CliError, say};

use super::not_found::not_found;
use crate::input_file::read_text;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a push credential from certificate or key files
    Create {
        #[command(flatten)]
        files: CredentialFiles,
        /// Display name, 1 to 64 characters
        #[arg(long)]
        name: Option<String>,
        /// SID of the account that owns the credential; if not set, the oldest account
        #[arg(long)]
        account: Option<AccountSid>,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// List the push credentials of all accounts
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Show a push credential's app or project, environment and expiry
    Check {
        /// SID of the push credential
        sid: CredentialSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Delete a push credential
    Delete {
        /// SID of the push credential
        sid: CredentialSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct CredentialFiles {
    /// Apple: PEM file that contains the push certificate; requires --private-key
    #[arg(long, requires = "private_key", conflicts_with_all = ["p8", "service_account"])]
    certificate: Option<PathBuf>,
    /// Apple: PEM file that contains the certificate's private key
    #[arg(long, requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Apple: token signing key (.p8 file); requires --key-id and --team-id
    #[arg(long, requires_all = ["key_id", "team_id"], conflicts_with = "service_account")]
    p8: Option<PathBuf>,
    /// Apple: id of the token signing key
    #[arg(long, requires = "p8")]
    key_id: Option<String>,
    /// Apple: id of the developer team that the token signing key belongs to
    #[arg(long, requires = "p8")]
    team_id: Option<String>,
    /// Apple: use the sandbox environment, for development builds of an app
    #[arg(long, conflicts_with = "service_account")]
    sandbox: bool,
    /// Google: JSON key file of a service account
    #[arg(long)]
    service_account: Option<PathBuf>,
}

impl CredentialFiles {
    fn read(self) -> Result<Upload, CliError> {
        let sandbox = self.sandbox;
        match (self.certificate, self.private_key, self.p8, self.service_account) {
            (Some(certificate), Some(private_key), None, None) => Ok(Upload::Certificate {
                certificate: read_text(&certificate)?,
                private_key: read_text(&private_key)?,
                sandbox,
            }),
            (None, None, Some(p8), None) => Ok(Upload::Token {
                private_key: read_text(&p8)?,
                key_id: self.key_id.unwrap_or_default(),
                team_id: self.team_id.unwrap_or_default(),
                sandbox,
            }),
            (None, None, None, Some(path)) => Ok(Upload::ServiceAccount(read_text(&path)?)),
            _ => Err(CliError::new(
                "missing files: use --certificate with --private-key, or --p8, or --service-account",
            )),
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::Create { files, name, account, storage } => {
            let upload = files.read()?;
            let friendly_name = name.as_deref().map(FriendlyName::from_parameter).transpose();
            let friendly_name =
                friendly_name.map_err(|expected| CliError::new(format!("--name {expected}")))?;
            let new = NewCredential { friendly_name, upload };
            storage.with_app(async |app| create(app, account, new).await).await
        }
        Command::List { storage } => storage.with_app(list).await,
        Command::Check { sid, storage } => storage.with_app(async |app| show(app, sid).await).await,
        Command::Delete { sid, storage } => storage.with_app(async |app| delete(app, sid).await).await,
    }
}

async fn create(app: &App, account: Option<AccountSid>, new: NewCredential) -> Result<(), CliError> {
    let oldest = app.accounts().await?.first().map(|account| account.sid);
    let account = account
        .or(oldest)
        .ok_or_else(|| CliError::new("there is no account; create one with `countersign account create`"))?;
    let credential = app.create_credential(&operator(), account, new).await?;
    say(format_args!("credential sid  {}", credential.sid))?;
    show(app, credential.sid).await
}

async fn list(app: &App) -> Result<(), CliError> {
    for credential in app.all_credentials().await? {
        let name = credential.friendly_name.map(|name| name.to_string()).unwrap_or_default();
        say(format_args!("{}  {}  {}", credential.sid, credential.credential_type.as_str(), name))?;
    }
    Ok(())
}

async fn delete(app: &App, sid: CredentialSid) -> Result<(), CliError> {
    let credential = find(app, sid).await?;
    app.delete_credential(&operator(), credential.account_sid, sid)
        .await
        .map_err(|error| not_found(sid, error))?;
    say(format_args!("deleted {sid}"))
}

async fn find(app: &App, sid: CredentialSid) -> Result<Credential, CliError> {
    let found = app.all_credentials().await?.into_iter().find(|credential| credential.sid == sid);
    found.ok_or_else(|| CliError::new(format!("there is no {sid}")))
}

/// Prints a credential's provider, app or project, environment and expiry, but no secrets.
async fn show(app: &App, sid: CredentialSid) -> Result<(), CliError> {
    let credential = find(app, sid).await?;
    let summary = app.open_credential(&credential)?.summary();
    let line = |label: &str, value: Option<String>| match value {
        Some(value) => say(format_args!("{label:14}  {value}")),
        None => Ok(()),
    };
    line("provider", Some(summary.kind.as_str().to_owned()))?;
    line("app", (!summary.topics.is_empty()).then(|| summary.topics.join(", ")))?;
    line("team", summary.team)?;
    line("project", summary.project)?;
    line("environment", summary.environment.map(|environment| environment.as_str().to_owned()))?;
    if let Some(expires_at) = summary.not_after {
        let days = (expires_at.seconds() - app.now().seconds()).div_euclid(86_400);
        line("expires", Some(format!("{expires_at}, {days} days from now")))?;
    }
    Ok(())
}
