//! `countersign keys`: works on the database, also while servers run.

use std::time::Duration;

use app::{App, SealedUnder};
use clap::{Args, Subcommand};
use crypto::MasterKeys;
use store::{Kind, Location};

use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the keys, by name, and what is sealed under which master key
    List {
        #[command(flatten)]
        storage: Storage,
    },
    /// Change the master key: seal everything anew, while servers run. Ended in the midst, it goes on when it
    /// is called again
    Rotate {
        /// Make a new key for access tokens instead; those that were made before stay good
        #[arg(long)]
        enrollment: bool,
        #[command(flatten)]
        storage: Storage,
    },
}

/// How long a server may take until it seals nothing under the key of before: it looks every second whether
/// there is another, and what it sealed before that is written within a few.
const TAKE_UP: Duration = Duration::from_secs(10);

/// How often it is looked again for what servers have sealed meanwhile.
const PASSES: u32 = 5;

/// How the master key is changed that the operator keeps.
const HOW: &str = "give servers and this command the new key as COUNTERSIGN_MASTER_KEY and the present one as \
                   COUNTERSIGN_MASTER_KEY_OLD (or both in files); of several servers, give all of them the new \
                   one as COUNTERSIGN_MASTER_KEY_OLD before";

pub(crate) async fn run(keys: Keys) -> Result<(), Failure> {
    match keys.command {
        Command::List { storage } => {
            let app = storage.open_existing().await?;
            list(&app).await?;
            app.stop().await;
        }
        Command::Rotate { enrollment: true, storage } => {
            let app = storage.open_existing().await?;
            let made = app.rotate_enrollment_keys(&operator()).await?;
            say(format_args!("made enrollment key {}", made.kid))?;
            app.stop().await;
        }
        Command::Rotate { enrollment: false, storage } => rotate(&storage).await?,
    }
    Ok(())
}

async fn list(app: &App) -> Result<(), Failure> {
    let (keys, seals) = (app.master_keys(), app.seals().await?);
    for id in keys.ids() {
        let does = if id == keys.current().key_id() { "seals" } else { "opens" };
        let under: Vec<_> = seals.iter().filter(|sealed| sealed.key == Some(id)).map(words).collect();
        let under = if under.is_empty() { "nothing".to_owned() } else { under.join(", ") };
        say(format_args!("master key {id}  {does}    {under}"))?;
    }
    for sealed in missing(&keys, &seals) {
        say(format_args!("master key {}  is missing  {}", name(sealed), words(sealed)))?;
    }
    for key in app.enrollment_keys().await? {
        say(format_args!("enrollment key {}  made {}", key.kid, key.made_at))?;
    }
    Ok(())
}

async fn rotate(storage: &Storage) -> Result<(), Failure> {
    storage.existing_database()?;
    let old = match storage.location()? {
        _ if storage.is_master_key_given() => None,
        Location::Sqlite(database) => {
            let hold = storage.hold_kept_master_key()?;
            let old = storage.change_kept_master_key()?;
            // Who is there now may have the old key in memory; who comes later reads the new one.
            Some((old, store::is_in_use(&database)?, hold))
        }
        Location::Postgres(_) | Location::Memory => {
            return Err(Failure::new(format!("other servers may have the master key too: {HOW}")));
        }
    };
    let app = storage.open_existing().await?;
    let mut done = app.reseal(&operator()).await?;
    if let Some((_, true, _)) = old {
        // The change goes on, whether or not this is read.
        let _ = say(format_args!("waiting {} s for the server to take up the new key", TAKE_UP.as_secs()));
        tokio::time::sleep(TAKE_UP).await;
    }
    // What servers sealed meanwhile.
    let mut is_settled = false;
    for _ in 0..PASSES {
        let again = app.reseal(&operator()).await?;
        done.resealed += again.resealed;
        done.unopened = again.unopened;
        is_settled = again.resealed == 0;
        if is_settled {
            break;
        }
    }
    let (keys, seals) = (app.master_keys(), app.seals().await?);
    app.stop().await;
    let id = keys.current().id();
    match (old, done.resealed) {
        (Some(_), _) if !is_settled => {
            return Err(Failure::new(format!(
                "a server still seals under the key of before: see in its log why it does not take up {}, and run \
                 this again",
                storage.key_file().display()
            )));
        }
        (Some((old, _, _hold)), resealed) => {
            let retired = storage.retire_old_master_key(&old)?;
            say(format_args!("sealed {resealed} values anew under master key {id}"))?;
            say(format_args!(
                "the key of before is {} now: keep it with the backups that were made before, and keep {} anew",
                retired.display(),
                storage.key_file().display()
            ))?;
        }
        (None, 0) => say(format_args!("everything is sealed under master key {id}; to change it, {HOW}"))?,
        (None, resealed) => say(format_args!(
            "sealed {resealed} values anew under master key {id}; once every server has it as \
             COUNTERSIGN_MASTER_KEY, run this again, and take the old one away when `countersign keys list` \
             shows nothing under it"
        ))?,
    }
    if done.unopened > 0 {
        let left: Vec<_> =
            seals.iter().filter(|sealed| sealed.key != Some(keys.current().key_id())).collect();
        let left: Vec<_> =
            left.into_iter().map(|sealed| format!("{} under {}", words(sealed), name(sealed))).collect();
        return Err(Failure::new(format!(
            "{} can't be opened; if you have such a key, give it with COUNTERSIGN_MASTER_KEY_OLD",
            left.join(", ")
        )));
    }
    Ok(())
}

/// What is sealed under keys that are not there.
pub(crate) fn missing<'a>(
    keys: &'a MasterKeys,
    seals: &'a [SealedUnder],
) -> impl Iterator<Item = &'a SealedUnder> {
    seals.iter().filter(|sealed| sealed.key.is_none_or(|key| keys.get(key).is_none()))
}

/// The master key of sealed values.
pub(crate) fn name(sealed: &SealedUnder) -> String {
    sealed.key.map_or_else(|| "no key".to_owned(), |key| key.to_string())
}

/// How much of what, in words.
pub(crate) fn words(sealed: &SealedUnder) -> String {
    let (one, many) = match sealed.kind {
        Kind::AuthTokens => ("auth token", "auth tokens"),
        Kind::EnrollmentKeys => ("enrollment key", "enrollment keys"),
        Kind::ServerKeys => ("server key", "server keys"),
        Kind::AuditKey => ("audit key", "audit keys"),
        Kind::PushCredentials => ("push credential", "push credentials"),
        Kind::AccessTokens => ("access token", "access tokens"),
    };
    format!("{} {}", sealed.count, if sealed.count == 1 { one } else { many })
}
