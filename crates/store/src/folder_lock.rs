//! Locks on the folder of a SQLite database (`flock`, which the kernel releases when the process ends).
//!
//! Processes that have a database open share the lock. A process that replaces the database file holds the lock
//! exclusively.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::sqlite_files::{file_error, folder_of};

/// Maximum number of attempts to take the shared lock while another process holds the lock exclusively. With
/// [`LOCK_RETRY_DELAY`] between them, the attempts outlast a call of [`is_in_use`] in another process, which holds the
/// lock for a moment.
const MAX_LOCK_ATTEMPTS: u32 = 25;

/// Delay between attempts to take the shared lock.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);

/// A lock on a database's folder, released on drop.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started inherits the descriptor, and with it
        // the lock, until it executes its own program.
        let _ = self.0.unlock();
    }
}

/// Takes the shared lock, which every process holds while it has the database open.
///
/// # Errors
/// Returns [`Error::InUse`] if the database is being replaced, or another error if its folder cannot be opened.
pub(crate) async fn lock_shared(database: &Path) -> Result<FolderLock, Error> {
    let folder = folder_of(database);
    let file = File::open(folder).map_err(|error| file_error(folder, error))?;
    for _ in 0..MAX_LOCK_ATTEMPTS {
        match file.try_lock_shared() {
            Ok(()) => return Ok(FolderLock(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY_DELAY).await,
            Err(TryLockError::Error(error)) => return Err(file_error(folder, error)),
        }
    }
    Err(Error::InUse(format!(
        "a backup is being restored to {}; try again when the restore has finished",
        database.display()
    )))
}

/// Returns whether a Countersign process has the database open.
///
/// # Errors
/// Returns an error if the database's folder cannot be opened.
pub fn is_in_use(database: &Path) -> Result<bool, Error> {
    match lock_exclusively(database) {
        Ok(_) => Ok(false),
        Err(Error::InUse(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes the exclusive lock, so that no other process can open the database.
///
/// # Errors
/// Returns [`Error::InUse`] if another process has the database open, or another error if its folder cannot be opened.
pub(crate) fn lock_exclusively(database: &Path) -> Result<FolderLock, Error> {
    let folder = folder_of(database);
    let file = File::open(folder).map_err(|error| file_error(folder, error))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(format!(
            "a server or another command uses {}; stop it first",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => Err(file_error(folder, error)),
    }
}
