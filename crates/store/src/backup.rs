//! Creating, inspecting and restoring backups of SQLite databases.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::connection::Connection;
use crate::error::Error;
use crate::folder_lock::{FolderLock, lock_exclusively, lock_shared};
use crate::read_write::Read;
use crate::schema;
use crate::sqlite::{Access, SqliteConnection};
use crate::sqlite_files::{
    copy, file_error, give_to_owner_of, open_read_only, put_in_place, require_regular, sync_folder,
    with_suffix, write_draft,
};

/// Maximum time to wait for another program to unlock a database that is about to be replaced.
const MERGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Copies a consistent snapshot of `database` to `file`, even while a server writes to the database. Returns the copy's
/// size in bytes.
///
/// The copy is verified and made durable before it replaces an existing `file`. Only the copy's owner can read it.
///
/// # Errors
/// Returns [`Error::Damaged`] if the database is not intact, or another error if the database cannot be read or the
/// copy cannot be written.
pub async fn back_up(database: &Path, file: &Path) -> Result<u64, Error> {
    if file.exists() {
        require_regular(file)?;
    }
    let _lock = lock_shared(database).await?;
    copy(database, file)?;
    Ok(fs::metadata(file).map_err(|error| file_error(file, error))?.len())
}

/// The result of inspecting a backup's schema.
#[derive(Debug)]
pub struct BackupInfo {
    /// Names of the migrations in the backup that this version of Countersign does not know. They come from a newer
    /// version.
    pub newer: Vec<String>,
    /// Differences between the backup's schema and the result of its migrations, one phrase for each object. Not
    /// meaningful if `newer` is not empty.
    pub differences: Vec<String>,
}

/// Opens a backup and inspects its schema. Returns read access to the backup and the result of the inspection. Changes
/// nothing, and runs no code from the schema, such as triggers.
///
/// # Errors
/// Returns [`Error::Damaged`] if `file` is not a Countersign database, and [`Error::File`] if it cannot be read or is
/// not a regular file.
pub fn inspect_backup(file: &Path) -> Result<(Read, BackupInfo), Error> {
    require_regular(file)?;
    let inspect = || {
        let connection = open_read_only(file)?;
        let missing = schema::missing_on_sqlite(&connection)?;
        if missing.len() == schema::missing_on_empty_sqlite().len() {
            return Err(Error::Damaged(file.to_owned(), schema::NO_TABLES.to_owned()));
        }
        let newer = schema::newer_on_sqlite(&connection)?;
        let differences = schema::differences_on_sqlite(&connection)?;
        Ok((Read::new(Connection::Sqlite(Box::new(connection))), BackupInfo { newer, differences }))
    };
    inspect().map_err(|error| damaged(file, error))
}

/// Converts an error that SQLite reports about a file that it cannot interpret into an [`Error::Damaged`] for `file`.
/// Returns any other error unchanged.
fn damaged(file: &Path, error: Error) -> Error {
    match error {
        Error::Database(error) => Error::Damaged(file.to_owned(), error.to_string()),
        Error::Damaged(_, reason) => Error::Damaged(file.to_owned(), reason),
        error => error,
    }
}

/// A verified copy of a backup, ready to replace a database. Holds an exclusive lock on the database's folder. Dropping
/// the copy leaves the database unchanged.
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
    /// Countersign database, or another error if a file cannot be read or written.
    pub fn prepare(backup: &Path, database: &Path) -> Result<Self, Error> {
        let lock = lock_exclusively(database)?;
        require_regular(backup)?;
        let draft = Self::copy(backup, database).map_err(|error| damaged(backup, error))?;
        Ok(Self { draft, database: database.to_owned(), _lock: lock })
    }

    fn copy(backup: &Path, database: &Path) -> Result<NamedTempFile, Error> {
        let draft = write_draft(open_read_only(backup)?, database)?;
        give_to_owner_of(draft.as_file(), database).map_err(|error| file_error(draft.path(), error))?;
        Ok(draft)
    }

    /// Inspects the copy in the same way as [`inspect_backup`]. The backup itself may have changed since it was
    /// inspected, so an earlier inspection may not describe this copy.
    ///
    /// # Errors
    /// Returns the same errors as [`inspect_backup`].
    pub fn inspect(&self) -> Result<(Read, BackupInfo), Error> {
        inspect_backup(self.draft.path())
    }

    /// Replaces the current database with this copy. If a database exists, it is first hard-linked as `kept`, so that
    /// it is preserved. Returns whether one existed. A complete database is in place at every moment, even after a
    /// power failure.
    ///
    /// # Errors
    /// Returns [`Error::InUse`], changing nothing, if another program is reading or writing the database. Returns
    /// another error if a file cannot be written; either the old or the new database may then be in place.
    pub fn put_in_place(self, kept: &Path) -> Result<bool, Error> {
        let existed = self.database.exists();
        if existed {
            // Once its write-ahead log is merged, the database file is complete under any name. The merge may fail on a
            // damaged database, so its log is linked as well.
            if let Err(Error::InUse(_) | Error::Unavailable(_)) = merge_log(&self.database) {
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
        // Removes the old database's write-ahead log, which SQLite would otherwise apply to the new file.
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

/// Merges the write-ahead log of a database into its file. No Countersign process may have the database open. Returns
/// [`Error::InUse`] if another program prevents the merge.
fn merge_log(database: &Path) -> Result<(), Error> {
    let connection = SqliteConnection::open(database, Access::Write)?;
    connection.set_busy_timeout(MERGE_TIMEOUT)?;
    // The first column is 1 if another connection blocked the checkpoint.
    let busy: Vec<i64> = connection.column("PRAGMA wal_checkpoint(TRUNCATE)")?;
    match busy[..] {
        [0] => Ok(()),
        _ => Err(used_by_another_program(database)),
    }
}

fn used_by_another_program(database: &Path) -> Error {
    Error::InUse(format!("another program uses {}; stop it first", database.display()))
}
