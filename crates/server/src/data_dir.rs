//! The data folder, with the SQLite database in it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use terminal::CliError;

use crate::error::file_error;

/// Size of the header of a SQLite database. A shorter file that is not empty was truncated.
const SQLITE_HEADER_BYTES: u64 = 100;

/// The data folder. It need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Creates a reference to the folder at `path`.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the SQLite database.
    pub(crate) fn database_file(&self) -> PathBuf {
        self.0.join("countersign.db")
    }

    fn wal_file(&self) -> PathBuf {
        self.0.join("countersign.db-wal")
    }

    /// Returns whether the database exists and is not empty.
    pub(crate) fn has_data(&self) -> bool {
        file_size(&self.database_file()).unwrap_or(0) > 0
    }

    /// Creates the folder with access for its owner only, unless it exists.
    ///
    /// # Errors
    /// Returns an error if the folder can't be created.
    pub(crate) fn create(&self) -> Result<(), CliError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(|error| file_error(&self.0, &error))
    }

    /// Creates the folder and an empty database file, unless they exist. Only the owner can read the file, whatever the
    /// folder permits; SQLite gives its additional files the same permissions.
    ///
    /// # Errors
    /// Returns an error if one of them can't be created.
    pub(crate) async fn create_database_file(&self) -> Result<(), CliError> {
        self.create()?;
        let database = self.database_file();
        if !database.exists() {
            store::create_empty(&database).await?;
        }
        Ok(())
    }

    /// Refuses to continue if the database was lost. That is the case if its file is
    ///
    /// - empty although a master key exists,
    /// - truncated within its header, or
    /// - missing or empty although its write-ahead log has data.
    ///
    /// SQLite would treat each of them as a new database, and delete the log.
    ///
    /// # Errors
    /// Returns an error if the database was lost, or `has_master_key` fails.
    pub(crate) fn require_no_lost_database(
        &self,
        has_master_key: impl FnOnce() -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let (database, wal) = (self.database_file(), self.wal_file());
        let found = match (file_size(&database), file_size(&wal).unwrap_or(0)) {
            (None | Some(0), 1..) => {
                format!("{} is empty or missing, but its log {} exists", database.display(), wal.display())
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
            "{found}: the database was lost; restore a backup with `countersign restore`, or remove {} and its log if \
             this is a new installation",
            database.display()
        )))
    }

    /// Makes new and renamed files in the folder survive a power failure.
    ///
    /// # Errors
    /// Returns an error if the folder can't be synced.
    pub(crate) fn sync(&self) -> Result<(), CliError> {
        let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.map_err(|error| file_error(&self.0, &error))
    }
}

/// Returns the size of a file in bytes, or `None` if it does not exist.
fn file_size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.len())
}
