//! Opens the database and master key selected by the options, and starts the use cases (`App`) on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use app::{App, AppConfig, MasterKeySource, SystemClock};
use crypto::{MasterKey, MasterKeys, SystemEntropy};
use domain::{Clock, Secret};
use store::{Location, MigrationReport, OldSchema, Store};
use terminal::CliError;

use crate::data_dir::DataDir;
use crate::database_url::check_database_url;
use crate::input_file::read_secret;
use crate::master_key_file::{INVALID_MASTER_KEY, MasterKeyFile, parse_master_keys};
use crate::options::StorageOptions;

/// Delay between two attempts to connect to an unreachable database.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(500);

impl StorageOptions {
    /// Returns the data folder set by `--data-dir`.
    pub(crate) fn data_dir(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }

    /// Returns the file of the generated master key. This key is used if the options do not provide one.
    pub(crate) fn master_key_file(&self) -> MasterKeyFile {
        MasterKeyFile::new(self.data_dir())
    }

    /// Returns the location of the database: the PostgreSQL URL if one is set, otherwise the SQLite file in the data
    /// folder, which need not exist yet.
    ///
    /// # Errors
    /// Returns an error if the file with the URL can't be read or the URL is not a supported PostgreSQL URL. For
    /// SQLite, returns an error if the path exists but is not a regular file.
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

    /// Starts the app on an existing database, runs `command`, and returns its result. Stops the app afterwards even if
    /// the command fails; stopping the app completes the audit chain.
    ///
    /// # Errors
    /// Returns an error if the database does not exist or can't be opened, or if `command` fails.
    pub(crate) async fn with_app<T>(
        &self,
        command: impl AsyncFnOnce(&App) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        // A command that expects existing data must not create an empty database.
        self.require_existing_database()?;
        self.with_app_or_create(command).await
    }

    /// Runs `command` like [`with_app`](Self::with_app), but creates the database if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the database can't be opened or created, or if `command` fails.
    pub(crate) async fn with_app_or_create<T>(
        &self,
        command: impl AsyncFnOnce(&App) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let app = self.open(OldSchema::Refuse, Duration::ZERO, AppConfig::default()).await?;
        let result = command(&app).await;
        app.stop().await;
        result
    }

    /// Opens the database, creating a SQLite database if none exists, and starts the app on it. Waits up to
    /// `connect_timeout` for an unreachable PostgreSQL database. `old_schema` applies to PostgreSQL only, because
    /// SQLite databases are always migrated. The caller must stop the returned app.
    ///
    /// # Errors
    /// Returns an error if the database can't be opened, was lost, has pending migrations that `old_schema` refuses, or
    /// was sealed under another master key. Errors that waiting can't resolve, such as a wrong password, are returned
    /// immediately.
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
        // A SQLite file is used by this server only, so it is always migrated. A shared database is migrated only on
        // request.
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
            Ok(None) => {
                Err(format!("the master key file {} is missing", options.master_key_file().path().display()))
            }
            Err(error) => Err(error.to_string()),
        };
        start(
            store,
            Arc::new(SystemClock),
            MasterKeySource::reloadable(master_keys, Box::new(reload)),
            config,
        )
        .await
    }

    /// Checks that the SQLite database file exists. Does nothing if the options select PostgreSQL.
    ///
    /// # Errors
    /// Returns an error if the database file does not exist.
    pub(crate) fn require_existing_database(&self) -> Result<(), CliError> {
        let is_postgres = self.database_url.is_some() || self.database_url_file.is_some();
        let database = self.data_dir().database_file();
        if !is_postgres && !database.exists() {
            return Err(CliError::new(format!(
                "there is no database {}; set its folder with --data-dir, or start a server first to create it",
                database.display()
            )));
        }
        Ok(())
    }

    /// Checks that a SQLite database was not lost, as far as its files show. Does nothing for PostgreSQL.
    ///
    /// # Errors
    /// Returns an error if the database was lost, or if a master key can't be read.
    pub(crate) fn require_no_lost_database(&self, location: &Location) -> Result<(), CliError> {
        let Location::Sqlite(_) = location else { return Ok(()) };
        self.data_dir().require_no_lost_database(|| Ok(self.present_master_keys()?.is_some()))
    }

    /// Checks the secrets given in the options. Unlike opening the database, this creates no files.
    ///
    /// # Errors
    /// Returns an error if a file with a secret can't be read, or if a secret is malformed.
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
                let expected = "each old master key must be 32 bytes in base64 or hexadecimal";
                parse_master_keys(text.expose()).ok_or_else(|| CliError::new(expected))
            }
            None => Ok(Vec::new()),
        }
    }

    /// Returns whether the options provide the master key. If they do not, the generated key in the data folder is
    /// used.
    pub(crate) const fn is_master_key_given(&self) -> bool {
        self.master_key.is_some() || self.master_key_file.is_some()
    }

    /// Returns the master keys. If there is neither a master key nor a SQLite database, generates a key in the data
    /// folder.
    ///
    /// # Errors
    /// Returns an error if a key is invalid, can't be read or can't be written, or if a SQLite database exists without
    /// its key.
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
                "the database {} exists, but its master key {} does not; restore the key from your backup, or \
                 provide it with COUNTERSIGN_MASTER_KEY",
                data_dir.database_file().display(),
                key_file.path().display()
            )));
        }
        Ok(MasterKeys::new(key_file.create()?, self.given_old_master_keys()?))
    }

    /// Returns the master keys without generating any: those given in the options, or else those in the data folder.
    /// Returns `None` if there is no current master key.
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
            "database schema differs from what the migrations create; run `countersign doctor` for details"
        );
    }
}

/// Opens the store. If a PostgreSQL database is unreachable, retries for up to `connect_timeout`. Returns the store and
/// a report of the migration.
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
                    tracing::warn!(
                        timeout_s,
                        "waiting for the database, which is not reachable yet: {}",
                        domain::error_report(&error)
                    );
                }
                is_logged = true;
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
            }
            opened => return opened,
        }
    }
}

/// Starts the app on an open store, using the system's random number generator.
///
/// # Errors
/// Returns an error if the database fails, or was sealed under another master key.
pub(crate) async fn start(
    store: Store,
    clock: Arc<dyn Clock>,
    master_keys: MasterKeySource,
    config: AppConfig,
) -> Result<App, CliError> {
    let (entropy, cipher) = (Arc::new(SystemEntropy), Arc::new(jwe::Josekit));
    Ok(App::start(store, clock, entropy, cipher, master_keys, config).await?)
}
