//! `countersign keys`: lists and rotates the master key and the enrollment keys, even while servers are running.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use app::{App, SealedCount};
use clap::{Args, Subcommand};
use crypto::{KeyId, MasterKeys};
use store::{Location, SealedColumn};
use terminal::{CliError, say};

use crate::master_key_file::MasterKeyFile;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the keys by id, with the number of values sealed under each master key
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Replace the master key and re-seal all stored secrets under the new key. An interrupted rotation continues when
    /// the command runs again
    Rotate {
        /// Instead, create a new enrollment key for access tokens; existing access tokens stay valid
        #[arg(long)]
        enrollment: bool,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

/// Time to wait until a running server uses a new key. The server checks for a new key every second, and finishes
/// writing values sealed under the previous key within a few seconds, so ten seconds suffice.
const SERVER_RELOAD_WAIT: Duration = Duration::from_secs(10);

/// Maximum number of additional passes that re-seal the values which servers sealed under the previous key in the
/// meantime.
const MAX_RESEAL_PASSES: u32 = 5;

/// Advice on rotating a master key that the operator provides through an option.
const GIVEN_KEY_ADVICE: &str = "provide servers and this command with the new key as COUNTERSIGN_MASTER_KEY and the \
     current one as COUNTERSIGN_MASTER_KEY_OLD (or both in files); with several servers, first provide all of them with \
     the new key as COUNTERSIGN_MASTER_KEY_OLD";

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::List { storage } => storage.with_app(list).await,
        Command::Rotate { enrollment: true, storage } => storage.with_app(rotate_enrollment_key).await,
        Command::Rotate { enrollment: false, storage } => rotate_master_key(&storage).await,
    }
}

async fn list(app: &App) -> Result<(), CliError> {
    let (keys, seals) = (app.master_keys(), app.count_sealed_values().await?);
    for id in keys.ids() {
        let role = if id == keys.current().key_id() { "seals" } else { "opens" };
        let values: Vec<_> = seals.iter().filter(|sealed| sealed.key == Some(id)).map(describe).collect();
        let values = if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
        say(format_args!("master key {id}  {role}    {values}"))?;
    }
    for sealed in under_missing_keys(&keys, &seals) {
        say(format_args!("master key {}  is missing  {}", key_name(sealed), describe(sealed)))?;
    }
    for key in app.enrollment_keys().await? {
        say(format_args!("enrollment key {}  created {}", key.kid, key.created_at))?;
    }
    Ok(())
}

async fn rotate_enrollment_key(app: &App) -> Result<(), CliError> {
    let key = app.rotate_enrollment_keys(&operator()).await?;
    say(format_args!("created enrollment key {}", key.kid))
}

/// A rotation of the generated master key that has begun (see `master_key_file.rs`).
struct GeneratedKeyRotation {
    file: MasterKeyFile,
    previous_id: String,
    /// Whether a server is running. Such a server may still seal values under the previous key.
    is_server_running: bool,
    /// Prevents other rotations until it is dropped.
    _lock: File,
}

impl GeneratedKeyRotation {
    fn begin(file: MasterKeyFile, database: &Path) -> Result<Self, CliError> {
        let lock = file.lock_for_rotation()?;
        let previous_id = file.begin_rotation()?;
        // Check this only after the new key is in place: a server that starts later reads the new key anyway.
        let is_server_running = store::is_in_use(database)?;
        Ok(Self { file, previous_id, is_server_running, _lock: lock })
    }
}

/// The result of re-sealing the values in the database.
struct ResealResult {
    /// Number of values that were re-sealed under the current key.
    resealed: u64,
    /// Whether servers have stopped sealing values under the previous key.
    is_complete: bool,
    /// Id of the current master key.
    current: KeyId,
    /// Descriptions of the values whose master keys are not available.
    unopened: Vec<String>,
}

async fn rotate_master_key(storage: &StorageOptions) -> Result<(), CliError> {
    storage.require_existing_database()?;
    let rotation = match storage.location()? {
        _ if storage.is_master_key_given() => None,
        Location::Sqlite(database) => {
            Some(GeneratedKeyRotation::begin(storage.master_key_file(), &database)?)
        }
        Location::Postgres(_) | Location::Memory => {
            return Err(CliError::new(format!(
                "can't rotate the generated master key of a PostgreSQL database, because other servers may have a copy: \
                 {GIVEN_KEY_ADVICE}"
            )));
        }
    };
    let is_server_running = rotation.as_ref().is_some_and(|rotation| rotation.is_server_running);
    let result = storage.with_app(async |app| reseal(app, is_server_running).await).await?;
    match rotation {
        Some(rotation) => finish_generated(&rotation, &result)?,
        None => report_given(&result)?,
    }
    if result.unopened.is_empty() {
        return Ok(());
    }
    Err(CliError::new(format!(
        "could not reseal {}: the key is missing; if you have it, provide it as COUNTERSIGN_MASTER_KEY_OLD",
        result.unopened.join(", ")
    )))
}

/// Re-seals all values under the current key. Servers may still seal values under the previous key in the meantime.
/// Further passes, at most [`MAX_RESEAL_PASSES`], therefore follow until a pass finds no such values.
async fn reseal(app: &App, is_server_running: bool) -> Result<ResealResult, CliError> {
    let mut total = app.reseal(&operator()).await?;
    if is_server_running {
        let wait_s = SERVER_RELOAD_WAIT.as_secs();
        // Continue even if standard output is closed.
        let _ = say(format_args!("waiting {wait_s} s until the running server uses the new key"));
        tokio::time::sleep(SERVER_RELOAD_WAIT).await;
    }
    let mut is_complete = false;
    for _ in 0..MAX_RESEAL_PASSES {
        let pass = app.reseal(&operator()).await?;
        total.resealed += pass.resealed;
        total.unopened = pass.unopened;
        is_complete = pass.resealed == 0;
        if is_complete {
            break;
        }
    }
    let (keys, seals) = (app.master_keys(), app.count_sealed_values().await?);
    let current = keys.current().key_id();
    let unopened = if total.unopened > 0 {
        let others = seals.iter().filter(|sealed| sealed.key != Some(current));
        others.map(|sealed| format!("{} under {}", describe(sealed), key_name(sealed))).collect()
    } else {
        Vec::new()
    };
    Ok(ResealResult { resealed: total.resealed, is_complete, current, unopened })
}

/// Retires the previous key of a generated master key, and prints the result. Returns an error if a server still seals
/// under the previous key.
fn finish_generated(rotation: &GeneratedKeyRotation, result: &ResealResult) -> Result<(), CliError> {
    let path = rotation.file.path();
    if !result.is_complete {
        return Err(CliError::new(format!(
            "a server still seals under the previous master key; see its log for why it does not use {}, then \
             run this command again",
            path.display()
        )));
    }
    let retired = rotation.file.finish_rotation(&rotation.previous_id)?;
    say(format_args!("resealed {} values under master key {}", result.resealed, result.current))?;
    say(format_args!(
        "the previous key was renamed to {}: keep it with the backups made before this rotation, and back up {} again",
        retired.display(),
        path.display()
    ))
}

/// Prints the result of rotating a master key that the operator provides, and the next step.
fn report_given(result: &ResealResult) -> Result<(), CliError> {
    let ResealResult { resealed, current, .. } = result;
    if *resealed == 0 {
        return say(format_args!(
            "all values are sealed under master key {current}; to replace it, {GIVEN_KEY_ADVICE}"
        ));
    }
    say(format_args!(
        "resealed {resealed} values under master key {current}; once every server has it as COUNTERSIGN_MASTER_KEY, run \
         this command again, and remove the previous key when `countersign keys list` shows no values under it"
    ))
}

/// Returns the counts of sealed values whose master key is not among `keys`.
pub(super) fn under_missing_keys<'a>(
    keys: &'a MasterKeys,
    seals: &'a [SealedCount],
) -> impl Iterator<Item = &'a SealedCount> {
    seals.iter().filter(|sealed| sealed.key.is_none_or(|key| keys.get(key).is_none()))
}

/// Returns the id of the master key under which the values are sealed, or `no key` if they carry no key id.
pub(super) fn key_name(sealed: &SealedCount) -> String {
    sealed.key.map_or_else(|| "no key".to_owned(), |key| key.to_string())
}

/// Describes sealed values by their number and kind, such as `2 auth tokens`.
pub(super) fn describe(sealed: &SealedCount) -> String {
    let (one, many) = match sealed.kind {
        SealedColumn::AuthTokens => ("auth token", "auth tokens"),
        SealedColumn::EnrollmentKeys => ("enrollment key", "enrollment keys"),
        SealedColumn::ServerKeys => ("server key", "server keys"),
        SealedColumn::AuditKey => ("audit key", "audit keys"),
        SealedColumn::PushCredentials => ("push credential", "push credentials"),
        SealedColumn::AccessTokens => ("access token", "access tokens"),
        SealedColumn::TotpSecrets => ("TOTP secret", "TOTP secrets"),
        SealedColumn::OutletSettings => ("outlet", "outlets"),
        SealedColumn::VerificationCodes => ("one-time code", "one-time codes"),
    };
    format!("{} {}", sealed.count, if sealed.count == 1 { one } else { many })
}
