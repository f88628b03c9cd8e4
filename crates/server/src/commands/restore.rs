//! `countersign restore`: replaces the SQLite database with a backup while no server runs.

use std::path::{Path, PathBuf};

use app::SystemClock;
use clap::Args;
use crypto::MasterKeys;
use domain::Clock as _;
use store::{BackupInfo, Location, Read, Replacement};
use terminal::{CliError, say};

use super::backup::POSTGRES_ADVICE;
use super::keys;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Backup file that was written by `countersign backup`
    file: PathBuf,
    /// Accept a backup from a newer version of Countersign, without checking its schema
    #[arg(long)]
    allow_newer: bool,
    #[command(flatten)]
    storage: StorageOptions,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let storage = arguments.storage;
    let Location::Sqlite(database) = storage.location()? else {
        return Err(CliError::new(POSTGRES_ADVICE));
    };
    let file = arguments.file.display();
    let master_keys = storage.present_master_keys()?.ok_or_else(|| {
        CliError::new(format!(
            "there is no master key, and {file} is useless without it; restore the key to {}, or provide it \
             with COUNTERSIGN_MASTER_KEY",
            storage.master_key_file().path().display()
        ))
    })?;
    let requirements =
        Requirements { file: &arguments.file, allow_newer: arguments.allow_newer, master_keys };
    // Check before copying too, because copying can take a long time.
    requirements.check(store::inspect_backup(&arguments.file)?).await?;
    storage.data_dir().create()?;
    let replacement = Replacement::prepare(&arguments.file, &database)?;
    requirements.check(replacement.inspect()?).await?;
    let kept = unused_name_beside(&database);
    if replacement.put_in_place(&kept)? {
        say(format_args!("kept the replaced database as {}", kept.display()))?;
    }
    say(format_args!("restored {} from {file}", database.display()))?;
    Ok(())
}

/// The requirements that a backup must meet to be restored.
struct Requirements<'a> {
    file: &'a Path,
    allow_newer: bool,
    master_keys: MasterKeys,
}

impl Requirements<'_> {
    async fn check(&self, (mut db, origin): (Read, BackupInfo)) -> Result<(), CliError> {
        let file = self.file.display();
        self.check_schema(&origin)?;
        let seals = app::count_sealed_values(&mut db).await?;
        if let Some(sealed) = keys::under_missing_keys(&self.master_keys, &seals).next() {
            let (what, key) = (keys::describe(sealed), keys::key_name(sealed));
            return Err(CliError::new(format!(
                "{file} needs another master key: it contains {what} sealed under master key {key}"
            )));
        }
        app::check_master_keys(&mut db, &self.master_keys).await.map_err(|error| {
            CliError::new(format!("{file} can't be opened with the master key: {}", CliError::from(error)))
        })
    }

    fn check_schema(&self, BackupInfo { newer, differences }: &BackupInfo) -> Result<(), CliError> {
        let file = self.file.display();
        if !newer.is_empty() {
            // The newer migrations are unknown to this version, so their schema can't be distinguished from a
            // manipulated one.
            return if self.allow_newer {
                Ok(())
            } else {
                Err(CliError::new(format!(
                    "{file} was written by a newer version of Countersign, with the migrations {}; restore it with that \
                     version, or use --allow-newer, which skips the check of the schema",
                    newer.join(", ")
                )))
            };
        }
        if !differences.is_empty() {
            return Err(CliError::new(format!(
                "the schema of {file} differs from what the migrations create: {}; an added trigger or view can change \
                 the server's decisions, so restore another backup, or repair this one with sqlite3",
                differences.join("; ")
            )));
        }
        Ok(())
    }
}

/// Returns an unused path next to `database` at which to keep the replaced database. The path is unused even if several
/// restores run within one second. No other process can start to use it in the meantime, because the data folder is
/// locked.
fn unused_name_beside(database: &Path) -> PathBuf {
    let now: String = SystemClock.now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let with = |end: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(format!(".before-restore-{now}{end}"));
        PathBuf::from(name)
    };
    let (mut end, mut number) = (String::new(), 1);
    while with(&end).exists() || with(&format!("{end}-wal")).exists() {
        number += 1;
        end = format!("-{number}");
    }
    with(&end)
}
