//! The generated master key in the data folder, and its rotation.
//!
//! A master key that the operator provides through an option is never written to a file. Without one, the first start
//! generates a key in `master.key`. `countersign keys rotate` replaces this key in steps, so that every value sealed in
//! the database can still be opened after a crash at any point:
//!
//! ```text
//!                    master.key   master.key.old   master.key.retired-ID
//!                    ──────────   ──────────────   ─────────────────────
//!   first start          –              –                   –
//!        │ create: write a draft, rename it
//!        ▼
//!   stable               A              –                   –   ◀─────────────────────┐
//!        │ begin_rotation: link the current key as the previous one                   │
//!        ▼                                                                            │
//!   linked               A              A                   –                         │
//!        │ begin_rotation: write a draft of a new key, rename it over master.key      │
//!        ▼                                                                            │
//!   rotating             B              A                   –                         │
//!        │ (the command re-seals all values under B; servers can open A and B)        │
//!        │ finish_rotation: rename the previous key                                   │
//!        ▼                                                                            │
//!   stable               B              –                   A   ──────────────────────┘
//! ```
//!
//! An interrupted rotation continues from the state in which it stopped. `master.key.lock` prevents two rotations from
//! running at the same time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use app::MasterKeySource;
use crypto::{MasterKey, MasterKeys, SystemEntropy};
use tempfile::NamedTempFile;
use terminal::CliError;

use crate::data_dir::DataDir;
use crate::error::file_error;

/// File name prefix of a master key file that is still being written.
const DRAFT_PREFIX: &str = "master.key.draft-";

/// Error text for a value that is not a valid master key.
pub(crate) const INVALID_MASTER_KEY: &str = "the master key must be 32 bytes in base64 or hexadecimal";

/// Parses master keys separated by commas or line breaks, ignoring empty entries. Returns `None` if any of the keys is
/// invalid.
pub(crate) fn parse_master_keys(text: &str) -> Option<Vec<MasterKey>> {
    let texts = text.split([',', '\n']).map(str::trim).filter(|text| !text.is_empty());
    texts.map(MasterKey::parse).collect()
}

/// Generates a master key that exists in memory only, for a server whose data is lost when the process ends.
pub(crate) fn ephemeral_master_key() -> MasterKeySource {
    MasterKeySource::fixed(MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new()))
}

/// The files of the generated master key in a data folder: the current key and, during a rotation, the previous one.
#[derive(Debug)]
pub(crate) struct MasterKeyFile(DataDir);

impl MasterKeyFile {
    /// Creates a `MasterKeyFile` for `data_dir`. Does not access the file system.
    pub(crate) const fn new(data_dir: DataDir) -> Self {
        Self(data_dir)
    }

    /// Returns the path of the current master key's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("master.key")
    }

    /// Returns the path of the previous master key's file, which exists only during a rotation.
    fn previous_path(&self) -> PathBuf {
        self.0.path().join("master.key.old")
    }

    /// Reads the current and the previous master key, and returns them in this order. Each is `None` if its file does
    /// not exist.
    ///
    /// # Errors
    /// Returns an error if a file can't be read, or does not contain a master key.
    pub(crate) fn read(&self) -> Result<(Option<MasterKey>, Option<MasterKey>), CliError> {
        // Read the current key first: a concurrent rotation moves it to the previous key's path, so reading the files
        // in reverse order could miss it.
        let current = read_key(&self.path())?;
        Ok((current, read_key(&self.previous_path())?))
    }

    /// Generates a master key and stores it in a file that only its owner can read. If another process creates a key at
    /// the same time, returns that key instead.
    ///
    /// # Errors
    /// Returns an error if the file can't be written or read.
    pub(crate) fn create(&self) -> Result<MasterKey, CliError> {
        let path = self.path();
        match self.write_draft(&MasterKey::generate(&SystemEntropy))?.persist_noclobber(&path) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
                return Err(file_error(&path, &error.error));
            }
            _ => self.0.sync()?,
        }
        read_key(&path)?.ok_or_else(|| file_error(&path, &ErrorKind::NotFound.into()))
    }

    /// Prevents other rotations while the returned file is open, and removes drafts that a killed process left behind.
    /// The lock is a `flock`, which is released when the process ends.
    ///
    /// # Errors
    /// Returns an error if another rotation is running, the lock file can't be created or locked, or a draft can't be
    /// removed.
    pub(crate) fn lock_for_rotation(&self) -> Result<File, CliError> {
        let path = self.0.path().join("master.key.lock");
        // Change the owner of a newly created file only: root must not give away a file that another user placed at
        // this path.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let created = created.and_then(|file| store::give_to_owner_of(&file, &self.path()).map(|()| file));
        let opened = created.or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => File::open(&path),
            _ => Err(error),
        });
        let lock = opened.map_err(|error| file_error(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CliError::new(
                    "another `countersign keys rotate` is running; wait until it ends",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(file_error(&path, &error)),
        }
        self.remove_drafts()?;
        Ok(lock)
    }

    fn remove_drafts(&self) -> Result<(), CliError> {
        let folder = self.0.path();
        for file in folder.read_dir().map_err(|error| file_error(folder, &error))? {
            let file = file.map_err(|error| file_error(folder, &error))?;
            if file.file_name().to_string_lossy().starts_with(DRAFT_PREFIX) {
                fs::remove_file(file.path()).map_err(|error| file_error(&file.path(), &error))?;
            }
        }
        Ok(())
    }

    /// Replaces the current master key with a newly generated one, and keeps the replaced key as the previous one.
    /// Changes nothing if an interrupted rotation already did this. Returns the previous key's id.
    ///
    /// At every moment, each key that is still needed is stored in a file. The caller must hold the lock from
    /// [`lock_for_rotation`](Self::lock_for_rotation), because two concurrent rotations would lose a key.
    ///
    /// # Errors
    /// Returns an error if there is no current key, or if a file can't be read or written.
    pub(crate) fn begin_rotation(&self) -> Result<String, CliError> {
        let (path, previous_path) = (self.path(), self.previous_path());
        let missing = || CliError::new(format!("there is no master key file {}", path.display()));
        let current = read_key(&path)?.ok_or_else(missing)?.id();
        match read_key(&previous_path)? {
            Some(previous) if previous.id() != current => return Ok(previous.id()),
            Some(_) => {}
            None => {
                fs::hard_link(&path, &previous_path).map_err(|error| file_error(&previous_path, &error))?
            }
        }
        self.0.sync()?;
        let draft = self.write_draft(&MasterKey::generate(&SystemEntropy))?;
        draft.persist(&path).map_err(|error| file_error(&path, &error.error))?;
        self.0.sync()?;
        Ok(current)
    }

    /// Renames the file of the previous master key, whose id is `id`, and returns the file's new path. Call this only
    /// once no value is sealed under that key.
    ///
    /// # Errors
    /// Returns an error if the file can't be renamed.
    pub(crate) fn finish_rotation(&self, id: &str) -> Result<PathBuf, CliError> {
        let retired = self.0.path().join(format!("master.key.retired-{id}"));
        fs::rename(self.previous_path(), &retired).map_err(|error| file_error(&retired, &error))?;
        self.0.sync()?;
        Ok(retired)
    }

    /// Writes a key to a draft file with a unique name, which only its owner can read. The draft is removed when the
    /// returned value is dropped, unless it was renamed before. So no process ever reads a partially written key.
    fn write_draft(&self, key: &MasterKey) -> Result<NamedTempFile, CliError> {
        let folder = self.0.path();
        let draft = tempfile::Builder::new().prefix(DRAFT_PREFIX).tempfile_in(folder);
        let mut draft = draft.map_err(|error| file_error(folder, &error))?;
        writeln!(draft, "{}", key.to_base64().expose())
            .and_then(|()| store::give_to_owner_of(draft.as_file(), &self.path()))
            .and_then(|()| draft.as_file().sync_all())
            .map_err(|error| file_error(draft.path(), &error))?;
        Ok(draft)
    }
}

fn read_key(path: &Path) -> Result<Option<MasterKey>, CliError> {
    match fs::read_to_string(path) {
        Ok(text) => MasterKey::parse(&text)
            .map(Some)
            .ok_or_else(|| CliError::new(format!("{}: expected 32 bytes in base64", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, &error)),
    }
}
