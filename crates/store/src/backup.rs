//! Backups of SQLite databases: making, inspecting and restoring them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tempfile::NamedTempFile;

use crate::connection::{Connection, sqlite_options};
use crate::error::Error;
use crate::folder_lock::{FolderLock, lock_exclusively, lock_shared};
use crate::read_write::Read;
use crate::schema;
use crate::sqlite_files::{
    copy, file_error, give_to_owner_of, open_read_only, put_in_place, require_regular, sync_folder,
    with_suffix, write_draft,
};

/// Maximum time to wait for another program's lock before its database is replaced.
const MERGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Copies a consistent snapshot of a database to `file`, even while a server writes to it. Returns its size in bytes.
///
/// The copy replaces an existing file of that name once it is verified and durable. Only its owner can read it.
///
/// # Errors
/// Returns an error if the database cannot be read or the copy cannot be written, and [`Error::Damaged`] if the
/// database is not intact.
pub async fn back_up(database: &Path, file: &Path) -> Result<u64, Error> {
    if file.exists() {
        require_regular(file)?;
    }
    let _lock = lock_shared(database).await?;
    copy(database, file).await?;
    Ok(fs::metadata(file).map_err(|error| file_error(file, error))?.len())
}

/// What a backup's schema says about its origin.
#[derive(Debug)]
pub struct BackupInfo {
    /// Migrations in it that this version of Countersign does not know.
    pub newer: Vec<String>,
    /// How its schema differs from the result of its migrations, one phrase for each object. Not meaningful if there
    /// are newer migrations.
    pub differences: Vec<String>,
}

/// Opens a backup and inspects its schema. Changes nothing and runs no code from the schema, such as triggers.
///
/// # Errors
/// Returns [`Error::Damaged`] if `file` is not a Countersign database, and [`Error::File`] if it cannot be read or is
/// not a regular file.
pub async fn inspect_backup(file: &Path) -> Result<(Read, BackupInfo), Error> {
    require_regular(file)?;
    let inspected = async {
        let mut connection = open_read_only(file).await?;
        let missing = schema::missing_on_sqlite(&mut connection).await?;
        if missing.len() == schema::missing_on_empty_sqlite().len() {
            return Err(Error::Damaged(file.to_owned(), schema::NO_TABLES.to_owned()));
        }
        let newer = schema::newer_on_sqlite(&mut connection).await?;
        let differences = schema::differences_on_sqlite(&mut connection).await?;
        Ok((Read::new(Connection::Sqlite(Box::new(connection))), BackupInfo { newer, differences }))
    };
    inspected.await.map_err(|error| damaged(file, error))
}

/// Turns SQLite's errors about a file that it cannot interpret into [`Error::Damaged`] with the name of `file`.
fn damaged(file: &Path, error: Error) -> Error {
    match error {
        Error::Database(error) => Error::Damaged(file.to_owned(), error.to_string()),
        Error::Damaged(_, reason) => Error::Damaged(file.to_owned(), reason),
        error => error,
    }
}

/// A verified copy of a backup that is ready to replace a database. Locks the database's folder exclusively. Dropping
/// it changes nothing.
#[derive(Debug)]
pub struct Replacement {
    draft: NamedTempFile,
    database: PathBuf,
    _lock: FolderLock,
}

impl Replacement {
    /// Copies `backup` into the folder of `database` and verifies the copy.
    ///
    /// # Errors
    /// Returns [`Error::InUse`] if a process has the database open, [`Error::Damaged`] if the backup is not an intact
    /// Countersign database, or an error if a file cannot be read or written.
    pub async fn prepare(backup: &Path, database: &Path) -> Result<Self, Error> {
        let lock = lock_exclusively(database)?;
        require_regular(backup)?;
        let draft = Self::copy(backup, database).await.map_err(|error| damaged(backup, error))?;
        Ok(Self { draft, database: database.to_owned(), _lock: lock })
    }

    async fn copy(backup: &Path, database: &Path) -> Result<NamedTempFile, Error> {
        let draft = write_draft(open_read_only(backup).await?, database).await?;
        give_to_owner_of(draft.as_file(), database).map_err(|error| file_error(draft.path(), error))?;
        Ok(draft)
    }

    /// [Inspects](inspect_backup) the copy, because the backup may have changed since its own inspection.
    ///
    /// # Errors
    /// Fails as [`inspect_backup`] does.
    pub async fn inspect(&self) -> Result<(Read, BackupInfo), Error> {
        inspect_backup(self.draft.path()).await
    }

    /// Replaces the database. Links an existing one to the name `kept` first, and returns whether there was one. At
    /// every moment one of the two is in place and complete, even after a power failure.
    ///
    /// # Errors
    /// Returns [`Error::InUse`], with nothing changed, while another program reads or writes the database. Returns an
    /// error if a file cannot be written; then either database may be in place.
    pub async fn put_in_place(self, kept: &Path) -> Result<bool, Error> {
        let existed = self.database.exists();
        if existed {
            // Once its log is merged, the file is complete under any name. A damaged one may refuse that, and its log
            // is kept beside it.
            if let Err(Error::InUse(_) | Error::Unavailable(_)) = merge_log(&self.database).await {
                return Err(used_by_another_program(&self.database));
            }
            for suffix in ["", "-wal"] {
                let (from, to) = (with_suffix(&self.database, suffix), with_suffix(kept, suffix));
                if from.exists() {
                    fs::hard_link(&from, &to).map_err(|error| file_error(&to, error))?;
                }
            }
            sync_folder(&self.database)?;
        }
        // SQLite would apply the old database's log to the new file.
        for suffix in ["-wal", "-shm"] {
            let file = with_suffix(&self.database, suffix);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&file, error));
                }
                _ => {}
            }
        }
        sync_folder(&self.database)?;
        put_in_place(self.draft, &self.database)?;
        Ok(existed)
    }
}

/// Merges the write-ahead log of a database that no Countersign process has open into its file.
async fn merge_log(database: &Path) -> Result<(), Error> {
    let options = sqlite_options(Some(database)).create_if_missing(false).busy_timeout(MERGE_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // The first column is 1 if another connection blocked the checkpoint.
    let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
    connection.close().await?;
    match busy {
        0 => Ok(()),
        _ => Err(used_by_another_program(database)),
    }
}

fn used_by_another_program(database: &Path) -> Error {
    Error::InUse(format!("another program uses {}; stop it first", database.display()))
}
