//! The data folder, which contains the SQLite database.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use terminal::CliError;

use crate::error::file_error;

/// Size of a SQLite database's header, in bytes. A non-empty file that is shorter was truncated.
const SQLITE_HEADER_BYTES: u64 = 100;

/// The data folder, given by its path. The folder need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Creates a `DataDir` for the folder at `path`. Does not access the file system.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the path of the data folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the SQLite database file in this folder.
    pub(crate) fn database_file(&self) -> PathBuf {
        self.0.join("countersign.db")
    }

    fn wal_file(&self) -> PathBuf {
        self.0.join("countersign.db-wal")
    }

    /// Returns whether the SQLite database file exists and is not empty.
    pub(crate) fn has_data(&self) -> bool {
        file_size(&self.database_file()).unwrap_or(0) > 0
    }

    /// Creates the folder, accessible to its owner only, and any missing parent folders. Does nothing if the folder
    /// exists.
    ///
    /// # Errors
    /// Returns an error if the folder can't be created.
    pub(crate) fn create(&self) -> Result<(), CliError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(|error| file_error(&self.0, &error))
    }

    /// Creates the folder and an empty database file where they do not exist. Only the owner can read the file,
    /// regardless of the folder's permissions. SQLite gives its additional files, such as the write-ahead log, the same
    /// permissions.
    ///
    /// # Errors
    /// Returns an error if the folder or the file can't be created.
    pub(crate) async fn create_database_file(&self) -> Result<(), CliError> {
        self.create()?;
        let database = self.database_file();
        if !database.exists() {
            store::create_empty(&database)?;
        }
        Ok(())
    }

    /// Checks that the SQLite database was not lost. It counts as lost if its file is:
    ///
    /// - empty although a master key exists,
    /// - truncated within its header, or
    /// - missing or empty although its write-ahead log has data.
    ///
    /// SQLite would treat such a file as a new database, and delete the write-ahead log. `has_master_key` returns
    /// whether a master key exists; it is called only if needed.
    ///
    /// # Errors
    /// Returns an error if the database was lost, or if `has_master_key` fails.
    pub(crate) fn require_no_lost_database(
        &self,
        has_master_key: impl FnOnce() -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let (database, wal) = (self.database_file(), self.wal_file());
        let found = match (file_size(&database), file_size(&wal).unwrap_or(0)) {
            (None | Some(0), 1..) => {
                format!(
                    "{} is empty or missing, but its write-ahead log {} exists",
                    database.display(),
                    wal.display()
                )
            }
            (Some(0), 0) if has_master_key()? => {
                format!("{} is empty, but there is a master key", database.display())
            }
            (Some(1..SQLITE_HEADER_BYTES), _) => {
                format!("{} is truncated within its header", database.display())
            }
            _ => return Ok(()),
        };
        Err(CliError::new(format!(
            "{found}: the database was lost; restore a backup with `countersign restore`, or remove {} and its write-ahead \
             log if this is a new installation",
            database.display()
        )))
    }

    /// Syncs the folder, so that files just created or renamed in it survive a power failure.
    ///
    /// # Errors
    /// Returns an error if the folder can't be synced.
    pub(crate) fn sync(&self) -> Result<(), CliError> {
        let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.map_err(|error| file_error(&self.0, &error))
    }
}

/// Returns the size of a file in bytes, or `None` if the file does not exist or can't be accessed.
fn file_size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.len())
}
