//! The open database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Secret;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use telemetry::metrics::{GaugeGuard, METRICS};

use crate::announcements::Announcements;
use crate::connection::{Connection, sqlite_options};
use crate::error::Error;
use crate::folder_lock::lock_shared;
use crate::limits::{ACQUIRE_TIMEOUT, POSTGRES_POOL_SIZE};
use crate::migrate::{self, MigrationReport, OldSchema};
use crate::pool::Pool;
use crate::postgres::{Server, Sessions};
use crate::read_write::{Read, Write};
use crate::retry::{Retries, retry};
use crate::schema::{self, Migration};
use crate::sqlite_files;
use crate::writer::Writer;

/// Connections that read a SQLite file.
const SQLITE_READERS: u32 = 4;

/// Delay between attempts to open a SQLite file whose journal mode another process changes.
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Location {
    /// In memory; lost when the process ends.
    Memory,
    /// A SQLite file, which is created if it does not exist.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by URL.
    Postgres(Secret<String>),
}

/// The size of a database, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The database itself; 0 for one in memory.
    pub database: u64,
    /// The write-ahead log of a SQLite file; 0 for all others.
    pub write_ahead_log: u64,
}

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    readers: Readers,
    writer: Writer,
    /// The server that delivers the announcements of other processes, if there is one.
    announcer: Option<Server>,
}

#[derive(Clone)]
enum Readers {
    /// Reads are queued with the writes, because there is only one connection.
    Memory,
    Sqlite(SqlitePool),
    Postgres(Pool),
}

impl Store {
    /// Opens the database and migrates its schema, or refuses an older schema, as `old_schema` says. Copies a SQLite
    /// file before its migration. Returns the store and what was done to the schema.
    ///
    /// # Errors
    /// Returns an error if the database cannot be reached or opened, [`Error::OldSchema`] if its schema is refused,
    /// and [`Error::NotCopied`] if the copy before a migration fails.
    pub async fn open(location: &Location, old_schema: OldSchema) -> Result<(Self, MigrationReport), Error> {
        match location {
            Location::Memory => {
                let mut connection = SqliteConnection::connect_with(&sqlite_options(None)).await?;
                let report = migrate::migrate_sqlite(&mut connection, None, OldSchema::Migrate).await?;
                let writer = Writer::sqlite(connection, None)?;
                Ok((Self { readers: Readers::Memory, writer, announcer: None }, report))
            }
            Location::Sqlite(path) => Self::open_file(path, old_schema).await,
            Location::Postgres(url) => Self::open_postgres(url, old_schema).await,
        }
    }

    async fn open_file(path: &Path, old_schema: OldSchema) -> Result<(Self, MigrationReport), Error> {
        let lock = lock_shared(path).await?;
        let mut connection = connect_to_file(path).await?;
        let report = migrate::migrate_sqlite(&mut connection, Some(path), old_schema).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(sqlite_options(Some(path)).read_only(true).create_if_missing(false));
        let writer = Writer::sqlite(connection, Some(lock))?;
        Ok((Self { readers: Readers::Sqlite(readers), writer, announcer: None }, report))
    }

    async fn open_postgres(
        url: &Secret<String>,
        old_schema: OldSchema,
    ) -> Result<(Self, MigrationReport), Error> {
        let server = Server::parse(url)?;
        // A connection without the limits of a session, since a migration may take long.
        let mut connection = server.connect().await?;
        server.check_encoding(&mut connection).await?;
        let report = migrate::migrate_postgres(&mut connection, old_schema).await?;
        let sessions = server.detect_sessions(&mut connection).await?;
        connection.close().await?;
        if sessions == Sessions::Shared {
            tracing::info!("a pooler in transaction mode is in front of {}", server.place());
        }
        let announcer = (sessions == Sessions::Own).then(|| server.clone());
        let pool = Pool::new(server, sessions);
        let writer = Writer::postgres(pool.clone())?;
        Ok((Self { readers: Readers::Postgres(pool), writer, announcer }, report))
    }

    /// Returns the migrations that the database lacks. Changes nothing and creates no file.
    ///
    /// # Errors
    /// Returns an error if the database cannot be reached or read.
    pub async fn missing_migrations(location: &Location) -> Result<Vec<Migration>, Error> {
        match location {
            Location::Sqlite(path) if path.exists() => {
                schema::missing_on_sqlite(&mut sqlite_files::open_read_only(path).await?).await
            }
            Location::Memory | Location::Sqlite(_) => Ok(schema::missing_on_empty_sqlite()),
            Location::Postgres(url) => {
                let server = Server::parse(url)?;
                let mut connection = server.connect().await?;
                server.check_encoding(&mut connection).await?;
                schema::missing_on_postgres(&mut connection).await
            }
        }
    }

    /// Runs a closure that reads. Runs it again if the connection turns out to be lost.
    ///
    /// # Errors
    /// Returns the error of the closure, or [`Error::Unavailable`].
    pub async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        telemetry::traces::start_database("read").run_and_end(self.read_with_retries(work)).await
    }

    async fn read_with_retries<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        // After a restart of the database, every pooled connection may be stale.
        let mut retries = Retries::at_most(POSTGRES_POOL_SIZE);
        loop {
            let waiting = GaugeGuard::increment(&METRICS.database_connections_waiting);
            let connection = match &self.readers {
                Readers::Memory => {
                    return self.writer.write(async move |tx: &mut Write| work(tx).await).await;
                }
                Readers::Sqlite(pool) => {
                    pool.acquire().await.map(Connection::SqliteReader).map_err(Error::from)
                }
                Readers::Postgres(pool) => self.writer.connection(pool).await.map(Connection::Postgres),
            };
            drop(waiting);
            let mut read = Read::new(connection.map_err(Error::counted)?);
            let result = work(&mut read).await;
            match read.failure {
                Some(failure) if retries.allow(&failure).await => {}
                _ => return result,
            }
        }
    }

    /// Runs a closure that writes, in one transaction.
    ///
    /// # Errors
    /// Returns the error of the closure or [`Error::Unavailable`], with nothing written; or
    /// [`Error::OutcomeUnknown`] if the connection broke during the commit.
    pub async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        telemetry::traces::start_database("write").run_and_end(self.writer.write(work)).await
    }

    /// Announces to the other processes on this database that a delivery is pending. Never part of a transaction:
    /// PostgreSQL commits transactions with a `NOTIFY` one at a time.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the database cannot be reached.
    pub async fn announce(&self) -> Result<(), Error> {
        match self.readers {
            // Runs as a read because reads replace stale connections.
            Readers::Postgres(_) => self.read(async |db: &mut Read| db.announce().await).await,
            Readers::Memory | Readers::Sqlite(_) => Ok(()),
        }
    }

    /// Receives announcements over a connection to this URL, which bypasses a pooler.
    ///
    /// # Errors
    /// Returns an error if `url` is not a PostgreSQL URL.
    pub fn listen_at(&mut self, url: &Secret<String>) -> Result<(), Error> {
        self.announcer = Some(Server::parse(url)?);
        Ok(())
    }

    /// Returns the announcements of other processes; `None` on SQLite and on shared sessions, which have none.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no connection can be opened.
    pub async fn announcements(&self) -> Result<Option<Announcements>, Error> {
        let Some(server) = self.announcer.clone() else { return Ok(None) };
        Announcements::listen(server, &self.writer).await.map(Some)
    }

    /// Sets the gauges for connections and queued writes.
    pub fn refresh_gauges(&self) {
        let (open, idle) = match &self.readers {
            Readers::Memory => (0, 0),
            Readers::Sqlite(pool) => (pool.size() as usize, pool.num_idle()),
            Readers::Postgres(pool) => pool.count(),
        };
        METRICS.database_connections.set(i64::try_from(open).unwrap_or(i64::MAX));
        METRICS.database_connections_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
        METRICS.database_writes_waiting.set(self.writer.queued());
    }

    /// Returns the size of the database.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the database cannot be reached, or an error if a file cannot be examined.
    pub async fn size(&self) -> Result<Size, Error> {
        match &self.readers {
            Readers::Memory => Ok(Size::default()),
            Readers::Sqlite(pool) => {
                let database = pool.connect_options().get_filename().to_owned();
                // Runs on a blocking thread because a network file system may respond slowly.
                let sizes = tokio::task::spawn_blocking(move || sqlite_files::sizes(&database)).await;
                let (database, write_ahead_log) = sizes.unwrap_or(Err(Error::Panicked))?;
                Ok(Size { database, write_ahead_log })
            }
            Readers::Postgres(_) => {
                let bytes = self.read(async |db: &mut Read| db.postgres_size().await).await?;
                Ok(Size { database: bytes, write_ahead_log: 0 })
            }
        }
    }

    /// Finishes the queued writes and closes the connections.
    pub async fn close(self) {
        if let Readers::Sqlite(readers) = &self.readers {
            // The last connection to close merges the log into the file, which a read-only one cannot do.
            readers.close().await;
        }
        self.writer.close().await;
    }
}

/// Connects to a SQLite file. Repeats the attempt for [`ACQUIRE_TIMEOUT`], because SQLite's busy timeout does not
/// cover the change to WAL, which several processes may try at once.
async fn connect_to_file(path: &Path) -> Result<SqliteConnection, Error> {
    let connect = || async { Ok(SqliteConnection::connect_with(&sqlite_options(Some(path))).await?) };
    retry(Retries::within(ACQUIRE_TIMEOUT, OPEN_RETRY_DELAY), connect).await
}

impl Read {
    /// Returns the size of this PostgreSQL database, in bytes.
    async fn postgres_size(&mut self) -> Result<u64, Error> {
        let row =
            self.fetch_optional("SELECT pg_database_size(current_database()) AS bytes", Vec::new()).await?;
        row.map_or(Ok(0), |row| Ok(row.int("bytes")?.unsigned_abs()))
    }
}
