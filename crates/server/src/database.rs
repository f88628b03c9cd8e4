//! Opens the database and the master key that the options name, and starts the use cases (`App`) on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use app::{App, AppConfig, MasterKeySource, SystemClock};
use crypto::{MasterKey, MasterKeys, SystemEntropy};
use domain::Secret;
use store::{Location, MigrationReport, OldSchema, Store};
use terminal::CliError;

use crate::data_dir::DataDir;
use crate::database_url::check_database_url;
use crate::input_file::read_secret;
use crate::master_key_file::{INVALID_MASTER_KEY, MasterKeyFile, parse_master_keys};
use crate::options::StorageOptions;

/// Time between two attempts to connect to a database that is not reachable yet.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(500);

impl StorageOptions {
    /// Returns the data folder.
    pub(crate) fn data_dir(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }

    /// Returns the file of the generated master key, which is used if the options give none.
    pub(crate) fn master_key_file(&self) -> MasterKeyFile {
        MasterKeyFile::new(self.data_dir())
    }

    /// Returns where the database is, or is going to be created.
    ///
    /// # Errors
    /// Returns an error if a file can't be read, the path of the SQLite database is not a regular file, or the URL is
    /// not one of PostgreSQL.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        if let Some(url) = self.given_database_url()? {
            return Ok(Location::Postgres(url));
        }
        let database = self.data_dir().database_file();
        if database.exists() {
            store::require_regular(&database)?;
        }
        Ok(Location::Sqlite(database))
    }

    /// Runs `command` on an existing database, and stops the app afterwards, also if the command fails. Stopping it
    /// completes the audit chain.
    ///
    /// # Errors
    /// Returns an error if there is no database, it can't be opened, or the command fails.
    pub(crate) async fn with_app<T>(
        &self,
        command: impl AsyncFnOnce(&App) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        // A command that looks something up must not create an empty database.
        self.require_existing_database()?;
        self.with_app_or_create(command).await
    }

    /// Runs `command` as [`with_app`](Self::with_app) does, and creates the database if there is none.
    ///
    /// # Errors
    /// Returns an error if the database can't be opened or created, or the command fails.
    pub(crate) async fn with_app_or_create<T>(
        &self,
        command: impl AsyncFnOnce(&App) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let app = self.open(OldSchema::Refuse, Duration::ZERO, AppConfig::default()).await?;
        let result = command(&app).await;
        app.stop().await;
        result
    }

    /// Opens the database and starts the app on it. Waits up to `connect_timeout` for a PostgreSQL database that is
    /// not reachable yet. The caller stops the app.
    ///
    /// # Errors
    /// Returns an error if the database can't be opened, lacks migrations, was lost, or was sealed under another
    /// master key. Errors that waiting can't resolve, such as a wrong password, are returned at once.
    pub(crate) async fn open(
        &self,
        old_schema: OldSchema,
        connect_timeout: Duration,
        config: AppConfig,
    ) -> Result<App, CliError> {
        let location = self.location()?;
        self.require_no_lost_database(&location)?;
        let master_keys = self.master_keys()?;
        if let Location::Sqlite(_) = location {
            self.data_dir().create_database_file().await?;
        }
        // A SQLite file belongs to this server alone. A shared database is migrated on request only.
        let old_schema =
            if matches!(location, Location::Sqlite(_)) { OldSchema::Migrate } else { old_schema };
        let direct_url = self.given_direct_database_url()?;
        let (mut store, migrated) = open_store(&location, old_schema, connect_timeout).await?;
        if let (Location::Postgres(_), Some(direct_url)) = (&location, &direct_url) {
            store.listen_at(direct_url)?;
        }
        log_migrated(migrated);
        let options = self.clone();
        let reload = move || match options.present_master_keys() {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => Err(format!("{} is missing", options.master_key_file().path().display())),
            Err(error) => Err(error.to_string()),
        };
        start(store, MasterKeySource::reloadable(master_keys, Box::new(reload)), config).await
    }

    /// Requires that the SQLite database exists. A PostgreSQL database is not checked.
    ///
    /// # Errors
    /// Returns an error if the database file does not exist.
    pub(crate) fn require_existing_database(&self) -> Result<(), CliError> {
        let is_postgres = self.database_url.is_some() || self.database_url_file.is_some();
        let database = self.data_dir().database_file();
        if !is_postgres && !database.exists() {
            return Err(CliError::new(format!(
                "there is no database {}; set its folder with --data-dir, or start a server first",
                database.display()
            )));
        }
        Ok(())
    }

    /// Requires that a SQLite database was not lost, as far as its files show.
    ///
    /// # Errors
    /// Returns an error if the database was lost, or a master key can't be read.
    pub(crate) fn require_no_lost_database(&self, location: &Location) -> Result<(), CliError> {
        let Location::Sqlite(_) = location else { return Ok(()) };
        self.data_dir().require_no_lost_database(|| Ok(self.present_master_keys()?.is_some()))
    }

    /// Checks the secrets that the options give, and creates nothing.
    ///
    /// # Errors
    /// Returns an error if a file can't be read, or a secret has the wrong form.
    pub(crate) fn check_given_secrets(&self) -> Result<(), CliError> {
        self.given_database_url()?;
        self.given_direct_database_url()?;
        self.given_master_key()?;
        self.given_old_master_keys().map(drop)
    }

    fn given_database_url(&self) -> Result<Option<Secret<String>>, CliError> {
        let url = read_secret(self.database_url.as_ref(), self.database_url_file.as_ref())?;
        require_database_url(url, "--database-url")
    }

    fn given_direct_database_url(&self) -> Result<Option<Secret<String>>, CliError> {
        let url = read_secret(self.database_direct_url.as_ref(), self.database_direct_url_file.as_ref())?;
        require_database_url(url, "--database-direct-url")
    }

    fn given_master_key(&self) -> Result<Option<MasterKey>, CliError> {
        read_secret(self.master_key.as_ref(), self.master_key_file.as_ref())?
            .map(|text| MasterKey::parse(text.expose()).ok_or_else(|| CliError::new(INVALID_MASTER_KEY)))
            .transpose()
    }

    fn given_old_master_keys(&self) -> Result<Vec<MasterKey>, CliError> {
        match read_secret(self.master_key_old.as_ref(), self.master_key_old_file.as_ref())? {
            Some(text) => {
                let expected = "each of the old master keys must be 32 bytes in base64 or hexadecimal";
                parse_master_keys(text.expose()).ok_or_else(|| CliError::new(expected))
            }
            None => Ok(Vec::new()),
        }
    }

    /// Returns whether the options give the master key. Otherwise it is generated in the data folder.
    pub(crate) const fn is_master_key_given(&self) -> bool {
        self.master_key.is_some() || self.master_key_file.is_some()
    }

    /// Returns the master keys. Generates one in the data folder if there is neither a key nor a database.
    ///
    /// # Errors
    /// Returns an error if a key is invalid, can't be read or written, or is missing although there is a database.
    pub(crate) fn master_keys(&self) -> Result<MasterKeys, CliError> {
        let data_dir = self.data_dir();
        if !self.is_master_key_given() {
            data_dir.create()?;
        }
        if let Some(keys) = self.present_master_keys()? {
            return Ok(keys);
        }
        let key_file = self.master_key_file();
        if data_dir.has_data() {
            return Err(CliError::new(format!(
                "the database {} exists, but its master key {} does not; restore the key from your backup, or give it \
                 with COUNTERSIGN_MASTER_KEY",
                data_dir.database_file().display(),
                key_file.path().display()
            )));
        }
        Ok(MasterKeys::new(key_file.create()?, self.given_old_master_keys()?))
    }

    /// Returns the master keys that the options give, or else those in the data folder; `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if a key is invalid or can't be read.
    pub(crate) fn present_master_keys(&self) -> Result<Option<MasterKeys>, CliError> {
        let mut old = self.given_old_master_keys()?;
        let current = match self.given_master_key()? {
            Some(key) => Some(key),
            None => {
                let (current, previous) = self.master_key_file().read()?;
                old.extend(previous);
                current
            }
        };
        Ok(current.map(|current| MasterKeys::new(current, old)))
    }
}

fn require_database_url(
    url: Option<Secret<String>>,
    option: &str,
) -> Result<Option<Secret<String>>, CliError> {
    if let Some(url) = &url {
        check_database_url(url.expose()).map_err(|why| CliError::new(format!("{option} {why}")))?;
    }
    Ok(url)
}

fn log_migrated(migrated: MigrationReport) {
    if let Some(copy) = migrated.copy {
        tracing::info!(copy = %copy.display(), "database copied before migration");
    }
    for name in migrated.applied {
        tracing::info!(migration = name, "migration applied");
    }
    for difference in migrated.differences {
        tracing::warn!(
            difference,
            "database schema differs from what the migrations create; run `countersign doctor`"
        );
    }
}

/// Opens the store, and retries for `connect_timeout` while a PostgreSQL database is not reachable.
async fn open_store(
    location: &Location,
    old_schema: OldSchema,
    connect_timeout: Duration,
) -> Result<(Store, MigrationReport), store::Error> {
    let is_shared = matches!(location, Location::Postgres(_));
    let deadline = Instant::now() + connect_timeout;
    let mut is_logged = false;
    loop {
        match Store::open(location, old_schema).await {
            Err(error) if is_shared && error.is_temporary() && Instant::now() < deadline => {
                if !is_logged {
                    let timeout_s = connect_timeout.as_secs();
                    tracing::warn!(timeout_s, "waiting for the database: {}", domain::error_report(&error));
                }
                is_logged = true;
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
            }
            opened => return opened,
        }
    }
}

/// Starts the app on an open store, with the system's clock and randomness.
///
/// # Errors
/// Returns an error if the database fails, or was sealed under another master key.
pub(crate) async fn start(
    store: Store,
    master_keys: MasterKeySource,
    config: AppConfig,
) -> Result<App, CliError> {
    Ok(App::start(store, Arc::new(SystemClock), Arc::new(SystemEntropy), master_keys, config).await?)
}
