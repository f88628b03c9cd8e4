//! Locks on the folder of a SQLite database (`flock`, which the kernel releases when the process ends).
//!
//! Processes that have a database open share the lock. A process that replaces the file holds it exclusively.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::sqlite_files::{file_error, folder_of};

/// How often a shared lock is tried while another process holds the lock exclusively, and the delay between. Long
/// enough for [`is_in_use`] of another process, which holds it for a moment.
const MAX_LOCK_ATTEMPTS: u32 = 25;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);

/// A lock on the folder of a database, released on drop.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started inherits the descriptor, and with it
        // the lock, until it executes its own program.
        let _ = self.0.unlock();
    }
}

/// Takes the lock that all processes with the database open share.
///
/// # Errors
/// Returns [`Error::InUse`] while the database is being replaced, or an error if its folder cannot be opened.
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

/// Returns whether a process has the database open.
///
/// # Errors
/// Returns an error if its folder cannot be opened.
pub fn is_in_use(database: &Path) -> Result<bool, Error> {
    match lock_exclusively(database) {
        Ok(_) => Ok(false),
        Err(Error::InUse(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes the lock for this process alone.
///
/// # Errors
/// Returns [`Error::InUse`] if another process has the database open, or an error if its folder cannot be opened.
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
