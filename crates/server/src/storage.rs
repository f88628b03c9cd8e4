//! The data folder, the master key in it, and the database.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use app::{App, MasterKeySource, SystemClock};
use crypto::{MasterKey, MasterKeys, SystemEntropy};
use domain::Secret;
use store::{Location, Migrated, OldSchema, Store};
use tempfile::NamedTempFile;

use crate::cli::Storage;
use crate::config::check_database_url;
use crate::failure::Failure;
use crate::file;

/// A secret that is given by value, or in a file.
///
/// # Errors
/// When the file can't be read.
pub(crate) fn secret(
    value: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret<String>>, Failure> {
    match (value, file) {
        (Some(value), _) => Ok(Some(Secret::new(value.clone()))),
        (None, Some(path)) => Ok(Some(Secret::new(file::read_text(path)?.trim().to_owned()))),
        (None, None) => Ok(None),
    }
}

/// Bytes of the header of a SQLite database.
const SQLITE_HEADER: u64 = 100;
/// The pause between two looks at a database that is not up yet.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// File name prefix of a master key that is still being written.
const DRAFT: &str = "master.key.draft-";

/// What is said of a text that is no master key.
pub(crate) const NOT_A_MASTER_KEY: &str = "the master key must be 32 bytes in base64 or hexadecimal";

/// The master keys in a text, separated by commas or new lines.
pub(crate) fn master_keys_in(text: &str) -> Option<Vec<MasterKey>> {
    let texts = text.split([',', '\n']).map(str::trim).filter(|text| !text.is_empty());
    texts.map(MasterKey::from_base64).collect()
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

impl Storage {
    /// Where the database is, or will be.
    ///
    /// # Errors
    /// When a file can't be read, or the URL is none of PostgreSQL's.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        if let Some(url) = self.given_database()? {
            return Ok(Location::Postgres(url));
        }
        let database = self.database();
        if database.exists() {
            store::require_regular(&database)?;
        }
        Ok(Location::Sqlite(database))
    }

    /// Opens the database and takes it into service.
    ///
    /// # Errors
    /// When it can't be opened, is too old, or was sealed under another master key.
    pub(crate) async fn open(&self, old: OldSchema) -> Result<App, Failure> {
        self.open_within(old, Duration::ZERO).await
    }

    /// The same, and waits for as long as `patience` for a PostgreSQL database that is not up yet.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the database is not up in time. What waiting can't mend, such as a wrong
    /// password, is refused at once.
    pub(crate) async fn open_within(&self, old: OldSchema, patience: Duration) -> Result<App, Failure> {
        let location = self.location()?;
        self.require_no_lost_database(&location)?;
        let master_keys = self.master_keys()?;
        self.make_private(&location).await?;
        // A file of our own is migrated without being asked; a shared database only when told to.
        let old = if matches!(location, Location::Sqlite(_)) { OldSchema::Migrate } else { old };
        let direct = self.given_direct_database()?;
        let (mut store, migrated) = open_store(&location, old, patience).await?;
        if let (Location::Postgres(_), Some(direct)) = (&location, &direct) {
            store.listen_at(direct)?;
        }
        if let Some(copy) = migrated.copy {
            tracing::info!(copy = %copy.display(), "copied before migrating");
        }
        for name in migrated.applied {
            tracing::info!(migration = name, "migrated");
        }
        for difference in migrated.differences {
            tracing::warn!(
                difference,
                "the schema is not as the migrations make it; see `countersign doctor`"
            );
        }
        let again = self.clone();
        let read = move || match again.present_master_keys() {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => Err(format!("{} is gone", again.key_file().display())),
            Err(failure) => Err(failure.to_string()),
        };
        start(store, MasterKeySource::changing(master_keys, Box::new(read))).await
    }

    /// Opens a database that must be there: who looks for something should not be shown a new, empty one.
    ///
    /// # Errors
    /// When there is none, and as [`open`](Self::open).
    pub(crate) async fn open_existing(&self) -> Result<App, Failure> {
        self.existing_database()?;
        self.open(OldSchema::Refuse).await
    }

    /// That there is a database, as far as can be seen from here.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn existing_database(&self) -> Result<(), Failure> {
        let on_postgres = self.database_url.is_some() || self.database_url_file.is_some();
        if !on_postgres && !self.database().exists() {
            let database = self.database();
            return Err(Failure::new(format!(
                "there is no database {}: name its folder with --data-dir, or start a server first",
                database.display()
            )));
        }
        Ok(())
    }

    /// Reads the secrets that the options name, if they name any, and makes nothing.
    ///
    /// # Errors
    /// When one can't be read, or is not what it should be.
    pub(crate) fn given_secrets(&self) -> Result<(), Failure> {
        self.given_database()?;
        self.given_direct_database()?;
        self.given_master_key()?;
        self.given_old_master_keys().map(drop)
    }

    fn given_database(&self) -> Result<Option<Secret<String>>, Failure> {
        let url = secret(self.database_url.as_ref(), self.database_url_file.as_ref())?;
        checked(url, "--database-url")
    }

    fn given_direct_database(&self) -> Result<Option<Secret<String>>, Failure> {
        let url = secret(self.database_direct_url.as_ref(), self.database_direct_url_file.as_ref())?;
        checked(url, "--database-direct-url")
    }

    fn given_master_key(&self) -> Result<Option<MasterKey>, Failure> {
        secret(self.master_key.as_ref(), self.master_key_file.as_ref())?
            .map(|text| MasterKey::from_base64(text.expose()).ok_or_else(|| Failure::new(NOT_A_MASTER_KEY)))
            .transpose()
    }

    fn given_old_master_keys(&self) -> Result<Vec<MasterKey>, Failure> {
        match secret(self.master_key_old.as_ref(), self.master_key_old_file.as_ref())? {
            Some(text) => {
                let expected = "each of the old master keys must be 32 bytes in base64 or hexadecimal";
                master_keys_in(text.expose()).ok_or_else(|| Failure::new(expected))
            }
            None => Ok(Vec::new()),
        }
    }

    /// Whether the options give the master key, which is in the data folder otherwise.
    pub(crate) const fn is_master_key_given(&self) -> bool {
        self.master_key.is_some() || self.master_key_file.is_some()
    }

    fn database(&self) -> PathBuf {
        self.data_dir.join("countersign.db")
    }

    /// Makes the data folder, and the database's file, so that only its owner can read it whatever the folder
    /// allows; what SQLite puts beside it gets the same rights.
    ///
    /// # Errors
    /// When they can't be made.
    pub(crate) async fn make_private(&self, location: &Location) -> Result<(), Failure> {
        let Location::Sqlite(path) = location else { return Ok(()) };
        self.make_data_dir()?;
        if !path.exists() {
            store::make(path).await?;
        }
        Ok(())
    }

    /// Refuses to begin anew where a SQLite database was lost: its file is empty beside a master key, cut off within
    /// its header, or gone while its log is there. SQLite would take each for a new database, and delete the log.
    ///
    /// # Errors
    /// When a database was lost, or a master key can't be read.
    pub(crate) fn require_no_lost_database(&self, location: &Location) -> Result<(), Failure> {
        let Location::Sqlite(path) = location else { return Ok(()) };
        let log_file = self.log_file();
        let (size, log) = (size(path), size(&log_file).unwrap_or(0));
        let found = match size {
            None | Some(0) if log > 0 => {
                format!("{} is empty or gone, but its log {} is there", path.display(), log_file.display())
            }
            Some(0) if self.present_master_keys()?.is_some() => {
                format!("{} is empty, but there is a master key", path.display())
            }
            Some(1..SQLITE_HEADER) => format!("{} is cut off within its header", path.display()),
            _ => return Ok(()),
        };
        Err(Failure::new(format!(
            "{found}: the database was lost; restore a backup with `countersign restore`, or remove {} and its log if \
             this is a new installation",
            path.display()
        )))
    }

    /// Whether the database has anything in it.
    pub(crate) fn has_data(&self) -> bool {
        size(&self.database()).unwrap_or(0) > 0
    }

    fn log_file(&self) -> PathBuf {
        self.data_dir.join("countersign.db-wal")
    }

    pub(crate) fn make_data_dir(&self) -> Result<(), Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir);
        made.map_err(|error| at(&self.data_dir, &error))
    }

    /// The master keys; makes one in the data folder if there is neither one nor a database.
    ///
    /// # Errors
    /// When one is no key, can't be read or made, or is lost.
    pub(crate) fn master_keys(&self) -> Result<MasterKeys, Failure> {
        if !self.is_master_key_given() {
            self.make_data_dir()?;
        }
        if let Some(keys) = self.present_master_keys()? {
            return Ok(keys);
        }
        if self.has_data() {
            return Err(Failure::new(format!(
                "{} is there, but not its master key {}; restore it from where you keep it, or give it with \
                 COUNTERSIGN_MASTER_KEY",
                self.database().display(),
                self.key_file().display()
            )));
        }
        Ok(MasterKeys::new(self.make_master_key()?, self.given_old_master_keys()?))
    }

    /// The master keys that the options give, or else those in the data folder; `None` when there is none.
    ///
    /// # Errors
    /// When one is no key, or can't be read.
    pub(crate) fn present_master_keys(&self) -> Result<Option<MasterKeys>, Failure> {
        let mut old = self.given_old_master_keys()?;
        let current = match self.given_master_key()? {
            Some(key) => Some(key),
            None => {
                // In this order: while the key is changed, the one is moved to the place of the other.
                let key = read_key(&self.key_file())?;
                old.extend(read_key(&self.old_key_file())?);
                key
            }
        };
        Ok(current.map(|current| MasterKeys::new(current, old)))
    }

    /// Returns the path of the generated master key.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.data_dir.join("master.key")
    }

    /// Where the one before it is, while it is changed.
    fn old_key_file(&self) -> PathBuf {
        self.data_dir.join("master.key.old")
    }

    /// Keeps everybody else from changing the master key in the data folder, for as long as what this returns is
    /// there (`flock`, which ends with the process), and takes away what one who was killed has left.
    ///
    /// # Errors
    /// When somebody else is at it, or a file can't be made or removed.
    pub(crate) fn hold_kept_master_key(&self) -> Result<File, Failure> {
        let path = self.data_dir.join("master.key.lock");
        // Given away only where it is made just now: root must not be led to give away another file under this name.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let made = made.and_then(|file| store::give_to_owner_of(&file, &self.key_file()).map(|()| file));
        let opened = made.or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => File::open(&path),
            _ => Err(error),
        });
        let hold = opened.map_err(|error| at(&path, &error))?;
        match hold.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new("another `countersign keys rotate` is under way; let it end"));
            }
            Err(TryLockError::Error(error)) => return Err(at(&path, &error)),
        }
        for file in self.data_dir.read_dir().map_err(|error| at(&self.data_dir, &error))? {
            let file = file.map_err(|error| at(&self.data_dir, &error))?;
            if file.file_name().to_string_lossy().starts_with(DRAFT) {
                fs::remove_file(file.path()).map_err(|error| at(&file.path(), &error))?;
            }
        }
        Ok(hold)
    }

    /// Puts a new master key in the place of the one in the data folder, which is kept beside it. If that was
    /// begun before and not finished, nothing is done. Returns the name of the one of before.
    ///
    /// Whenever this ends, both keys are there under one name or the other. Two at once would lose one: see
    /// [`hold_kept_master_key`](Self::hold_kept_master_key).
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub(crate) fn change_kept_master_key(&self) -> Result<String, Failure> {
        let (key_file, old_key_file) = (self.key_file(), self.old_key_file());
        let lost = || Failure::new(format!("there is no master key {}", key_file.display()));
        let current = read_key(&key_file)?.ok_or_else(lost)?.id();
        match read_key(&old_key_file)? {
            Some(old) if old.id() != current => return Ok(old.id()),
            Some(_) => {}
            None => fs::hard_link(&key_file, &old_key_file).map_err(|error| at(&old_key_file, &error))?,
        }
        self.sync_data_dir()?;
        let draft = self.draft_of(&MasterKey::generate(&SystemEntropy))?;
        draft.persist(&key_file).map_err(|error| at(&key_file, &error.error))?;
        self.sync_data_dir()?;
        Ok(current)
    }

    /// Puts the master key of before aside, since nothing is sealed under it any more. Returns where it is now.
    ///
    /// # Errors
    /// When the file can't be renamed.
    pub(crate) fn retire_old_master_key(&self, id: &str) -> Result<PathBuf, Failure> {
        let retired = self.data_dir.join(format!("master.key.retired-{id}"));
        fs::rename(self.old_key_file(), &retired).map_err(|error| at(&retired, &error))?;
        self.sync_data_dir()?;
        Ok(retired)
    }

    /// Makes a key that only the owner can read. If another process is faster, its key is taken.
    fn make_master_key(&self) -> Result<MasterKey, Failure> {
        let key_file = self.key_file();
        match self.draft_of(&MasterKey::generate(&SystemEntropy))?.persist_noclobber(&key_file) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
                return Err(at(&key_file, &error.error));
            }
            _ => self.sync_data_dir()?,
        }
        read_key(&key_file)?.ok_or_else(|| at(&key_file, &ErrorKind::NotFound.into()))
    }

    /// Writes a key that only the owner can read, whole, under a name that nobody else has: nobody ever reads half a
    /// key. It goes when it is dropped.
    fn draft_of(&self, key: &MasterKey) -> Result<NamedTempFile, Failure> {
        let draft = tempfile::Builder::new().prefix(DRAFT).tempfile_in(&self.data_dir);
        let mut draft = draft.map_err(|error| at(&self.data_dir, &error))?;
        writeln!(draft, "{}", key.to_base64().expose())
            .and_then(|()| store::give_to_owner_of(draft.as_file(), &self.key_file()))
            .and_then(|()| draft.as_file().sync_all())
            .map_err(|error| at(draft.path(), &error))?;
        Ok(draft)
    }

    /// So that names survive a power failure too.
    fn sync_data_dir(&self) -> Result<(), Failure> {
        let synced = File::open(&self.data_dir).and_then(|folder| folder.sync_all());
        synced.map_err(|error| at(&self.data_dir, &error))
    }
}

/// The size of a file in bytes; `None` when there is none.
fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.len())
}

/// A database URL that an option gives, if it is one.
fn checked(url: Option<Secret<String>>, option: &str) -> Result<Option<Secret<String>>, Failure> {
    if let Some(url) = &url {
        check_database_url(url.expose()).map_err(|why| Failure::new(format!("{option} {why}")))?;
    }
    Ok(url)
}

/// Opens the store, and waits for a PostgreSQL database that is not up yet.
async fn open_store(
    location: &Location,
    old: OldSchema,
    patience: Duration,
) -> Result<(Store, Migrated), store::Error> {
    let is_shared = matches!(location, Location::Postgres(_));
    let give_up = Instant::now() + patience;
    let mut is_waiting = false;
    loop {
        match Store::open(location, old).await {
            Err(error) if is_shared && error.may_pass() && Instant::now() < give_up => {
                if !is_waiting {
                    let seconds = patience.as_secs();
                    tracing::warn!(seconds, "waiting for the database: {}", domain::causes(&error));
                }
                is_waiting = true;
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            opened => return opened,
        }
    }
}

fn read_key(path: &Path) -> Result<Option<MasterKey>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => MasterKey::from_base64(&text)
            .map(Some)
            .ok_or_else(|| Failure::new(format!("{}: expected 32 bytes in base64", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, &error)),
    }
}

/// Takes an open database into service.
///
/// # Errors
/// When the database fails, or was sealed under another master key.
pub(crate) async fn start(store: Store, master_keys: MasterKeySource) -> Result<App, Failure> {
    Ok(App::start(store, Arc::new(SystemClock), Arc::new(SystemEntropy), master_keys).await?)
}

/// A master key that nobody else has, for what is gone with the process.
pub(crate) fn passing_master_key() -> MasterKeySource {
    MasterKeySource::fixed(MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new()))
}
