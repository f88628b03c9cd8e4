//! `countersign credential`: works on the database, also while the server runs.

use std::path::PathBuf;

use app::App;
use app::credentials::{NewCredential, Upload};
use clap::{Args, Subcommand};
use domain::{AccountSid, CredentialSid, FriendlyName, Parameter as _};

use crate::account::missing;
use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::file::read_text;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Credentials {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a push credential out of files
    Create {
        #[command(flatten)]
        files: Files,
        /// Name for people, 1 to 64 characters
        #[arg(long)]
        name: Option<String>,
        /// Account that it is for; the oldest when not given
        #[arg(long)]
        account: Option<AccountSid>,
        #[command(flatten)]
        storage: Storage,
    },
    /// List the push credentials of all accounts
    List {
        #[command(flatten)]
        storage: Storage,
    },
    /// Show what a push credential is good for: which app or project, which environment, until when
    Check {
        /// SID of the credential
        sid: CredentialSid,
        #[command(flatten)]
        storage: Storage,
    },
    /// Delete a push credential
    Delete {
        /// SID of the credential
        sid: CredentialSid,
        #[command(flatten)]
        storage: Storage,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Files {
    /// Apple: certificate in PEM, with --private-key
    #[arg(long, requires = "private_key", conflicts_with_all = ["p8", "service_account"])]
    certificate: Option<PathBuf>,
    /// Apple: the certificate's private key in PEM
    #[arg(long, requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Apple: token key (.p8), with --key-id and --team-id
    #[arg(long, requires_all = ["key_id", "team_id"], conflicts_with = "service_account")]
    p8: Option<PathBuf>,
    /// Apple: id of the token key
    #[arg(long, requires = "p8")]
    key_id: Option<String>,
    /// Apple: id of the team
    #[arg(long, requires = "p8")]
    team_id: Option<String>,
    /// Apple: for apps that were built for development
    #[arg(long, conflicts_with = "service_account")]
    sandbox: bool,
    /// Google: JSON file of the service account
    #[arg(long)]
    service_account: Option<PathBuf>,
}

impl Files {
    fn read(self) -> Result<Upload, Failure> {
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
            _ => Err(Failure::new("give --certificate and --private-key, or --p8, or --service-account")),
        }
    }
}

pub(crate) async fn run(credentials: Credentials) -> Result<(), Failure> {
    match credentials.command {
        Command::Create { files, name, account, storage } => {
            let upload = files.read()?;
            let friendly_name = name.as_deref().map(FriendlyName::from_parameter).transpose();
            let friendly_name =
                friendly_name.map_err(|expected| Failure::new(format!("--name {expected}")))?;
            let app = storage.open_existing().await?;
            let oldest = app.accounts().await?.first().map(|account| account.sid);
            let account = account.or(oldest).ok_or_else(|| Failure::new("there is no account"))?;
            let credential =
                app.create_credential(&operator(), account, NewCredential { friendly_name, upload }).await?;
            say(format_args!("credential sid  {}", credential.sid))?;
            check(&app, credential.sid).await?;
            app.stop().await;
        }
        Command::List { storage } => {
            let app = storage.open_existing().await?;
            for credential in app.all_credentials().await? {
                let name = credential.friendly_name.map(|name| name.to_string()).unwrap_or_default();
                say(format_args!("{}  {}  {}", credential.sid, credential.credential_type.as_str(), name))?;
            }
            app.stop().await;
        }
        Command::Check { sid, storage } => {
            let app = storage.open_existing().await?;
            check(&app, sid).await?;
            app.stop().await;
        }
        Command::Delete { sid, storage } => {
            let app = storage.open_existing().await?;
            let credential = find(&app, sid).await?;
            app.delete_credential(&operator(), credential.account_sid, sid)
                .await
                .map_err(|error| missing(sid, error))?;
            say(format_args!("deleted {sid}"))?;
            app.stop().await;
        }
    }
    Ok(())
}

async fn find(app: &App, sid: CredentialSid) -> Result<domain::credentials::Credential, Failure> {
    let found = app.all_credentials().await?.into_iter().find(|credential| credential.sid == sid);
    found.ok_or_else(|| Failure::new(format!("there is no {sid}")))
}

async fn check(app: &App, sid: CredentialSid) -> Result<(), Failure> {
    let credential = find(app, sid).await?;
    let summary = app.open_credential(&credential)?.summary();
    let line = |what: &str, value: Option<String>| match value {
        Some(value) => say(format_args!("{what:14}  {value}")),
        None => Ok(()),
    };
    line("provider", Some(summary.kind.as_str().to_owned()))?;
    line("app", (!summary.topics.is_empty()).then(|| summary.topics.join(", ")))?;
    line("team", summary.team)?;
    line("project", summary.project)?;
    line("environment", summary.environment.map(|environment| environment.as_str().to_owned()))?;
    if let Some(end) = summary.not_after {
        let days = (end.seconds() - app.now().seconds()).div_euclid(86_400);
        line("ends", Some(format!("{end}, {days} days from now")))?;
    }
    Ok(())
}
