//! The store: an open database with its connections for reads and writes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Secret;
use sqlx::Connection as _;
use telemetry::metrics::METRICS;

use crate::announcements::{Announcement, Announcements, ProcessTag};
use crate::error::Error;
use crate::folder_lock::lock_shared;
use crate::limits::ACQUIRE_TIMEOUT;
use crate::migrate::{self, MigrationReport, OldSchema};
use crate::pool::Pool;
use crate::postgres::{Server, Sessions};
use crate::read_write::{Read, Write};
use crate::retry::{Retries, retry};
use crate::schema::{self, Migration};
use crate::sqlite::{Access, SqliteConnection};
use crate::sqlite_files;
use crate::sqlite_readers::SqliteReaders;
use crate::writer::Writer;

/// Delay between attempts to open a SQLite file while another process changes its journal mode.
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(20);

/// The location of a database.
#[derive(Clone, Debug)]
pub enum Location {
    /// A database in memory, which is lost when the process ends.
    Memory,
    /// A SQLite file with this path, which is created if it does not exist.
    Sqlite(PathBuf),
    /// A PostgreSQL database with this URL.
    Postgres(Secret<String>),
}

/// The size of a database, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Size of the database itself; 0 for an in-memory database.
    pub database: u64,
    /// Size of a SQLite file's write-ahead log; 0 for other databases.
    pub write_ahead_log: u64,
}

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    readers: Readers,
    writer: Writer,
    /// The PostgreSQL server from which announcements of other processes are received, if they are available.
    announcer: Option<Server>,
}

#[derive(Clone)]
enum Readers {
    /// No separate connections: an in-memory database has only one, so reads are queued together with the writes.
    Memory,
    Sqlite(SqliteReaders),
    Postgres(Pool),
}

impl Store {
    /// Opens the database. If its schema is outdated, migrates it or returns an error, depending on `old_schema`. A
    /// SQLite file is copied before its migration. Returns the store and a migration report.
    ///
    /// # Errors
    /// Returns [`Error::OldSchema`] if the schema is outdated and `old_schema` forbids a migration,
    /// [`Error::NotCopied`] if the copy before a migration fails, or another error if the database cannot be reached or
    /// opened.
    pub async fn open(location: &Location, old_schema: OldSchema) -> Result<(Self, MigrationReport), Error> {
        match location {
            Location::Memory => {
                let connection = SqliteConnection::open_in_memory()?;
                let report = migrate::migrate_sqlite(&connection, None, OldSchema::Migrate)?;
                let writer = Writer::sqlite(connection, None)?;
                Ok((Self { readers: Readers::Memory, writer, announcer: None }, report))
            }
            Location::Sqlite(path) => Self::open_file(path, old_schema).await,
            Location::Postgres(url) => Self::open_postgres(url, old_schema).await,
        }
    }

    async fn open_file(path: &Path, old_schema: OldSchema) -> Result<(Self, MigrationReport), Error> {
        let lock = lock_shared(path).await?;
        let connection = connect_to_file(path).await?;
        let report = migrate::migrate_sqlite(&connection, Some(path), old_schema)?;
        let readers = SqliteReaders::start(path)?;
        let writer = Writer::sqlite(connection, Some(lock))?;
        Ok((Self { readers: Readers::Sqlite(readers), writer, announcer: None }, report))
    }

    async fn open_postgres(
        url: &Secret<String>,
        old_schema: OldSchema,
    ) -> Result<(Self, MigrationReport), Error> {
        let server = Server::parse(url)?;
        // This connection has no session limits, because a migration may take long.
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
                schema::missing_on_sqlite(&sqlite_files::open_read_only(path)?)
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

    /// Runs a closure that reads, and returns its result. Runs the closure again if its connection turns out to be
    /// lost.
    ///
    /// # Errors
    /// Returns the closure's error, or [`Error::Unavailable`] if no connection is available.
    pub async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let trace = telemetry::traces::start_database("read");
        match &self.readers {
            Readers::Memory => {
                trace.run_and_end(self.writer.write(async move |tx: &mut Write| work(tx).await)).await
            }
            Readers::Sqlite(readers) => trace.run_and_end(readers.read(work)).await,
            Readers::Postgres(_) => trace.run_and_end(self.writer.read(work)).await,
        }
    }

    /// Runs a closure that writes, in one transaction. Returns the closure's result after the commit.
    ///
    /// # Errors
    /// Returns the closure's error or [`Error::Unavailable`], with nothing written. Returns [`Error::OutcomeUnknown`]
    /// if the connection was lost during the commit.
    pub async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        telemetry::traces::start_database("write").run_and_end(self.writer.write(work)).await
    }

    /// Returns whether other processes receive the announcements of this one. It is `false` on SQLite.
    pub const fn can_announce(&self) -> bool {
        match self.readers {
            Readers::Postgres(_) => true,
            Readers::Memory | Readers::Sqlite(_) => false,
        }
    }

    /// Announces to the other processes that share this database that a delivery is pending, or that resources have
    /// changed. `from` is the tag of this process. Does nothing on SQLite. The announcement is never part of a
    /// transaction that writes, because PostgreSQL commits transactions with a `NOTIFY` one at a time, so writes would
    /// wait for each other.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the database cannot be reached.
    pub async fn announce(&self, announcement: Announcement, from: ProcessTag) -> Result<(), Error> {
        if !self.can_announce() {
            return Ok(());
        }
        // The announcement runs as a read, because reads replace stale connections.
        self.read(async move |db: &mut Read| db.announce(&announcement, from).await).await
    }

    /// Makes the store receive announcements over a direct connection to the PostgreSQL server at `url`, which bypasses
    /// a pooler. Takes effect at the next call of [`announcements`](Self::announcements).
    ///
    /// # Errors
    /// Returns an error if `url` is not a PostgreSQL URL.
    pub fn listen_at(&mut self, url: &Secret<String>) -> Result<(), Error> {
        self.announcer = Some(Server::parse(url)?);
        Ok(())
    }

    /// Starts receiving announcements from other processes. Changes that the process with the tag `own` has announced
    /// are ignored. Returns `None` if announcements are not available: on SQLite, and behind a pooler that shares
    /// sessions unless [`listen_at`](Self::listen_at) was called.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no connection can be opened.
    pub async fn announcements(&self, own: ProcessTag) -> Result<Option<Announcements>, Error> {
        let Some(server) = self.announcer.clone() else { return Ok(None) };
        Announcements::listen(server, own, &self.writer).await.map(Some)
    }

    /// Checks that new connections can be opened. While none can, a request fails if it finds no idle connection.
    ///
    /// # Errors
    /// Returns the error with which the last connection could not be opened.
    pub fn require_connectable(&self) -> Result<(), Error> {
        match &self.readers {
            Readers::Memory | Readers::Sqlite(_) => Ok(()),
            Readers::Postgres(pool) => pool.outage().map_or(Ok(()), Err),
        }
    }

    /// Updates the gauge metrics for open connections, idle connections and queued writes.
    pub fn refresh_gauges(&self) {
        let (open, idle) = match &self.readers {
            Readers::Memory => (0, 0),
            Readers::Sqlite(readers) => readers.count(),
            Readers::Postgres(pool) => pool.count(),
        };
        METRICS.database_connections.set(i64::try_from(open).unwrap_or(i64::MAX));
        METRICS.database_connections_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
        METRICS.database_writes_waiting.set(self.writer.queued());
    }

    /// Returns the size of the database.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the database cannot be reached, or [`Error::File`] if a file cannot be
    /// examined.
    pub async fn size(&self) -> Result<Size, Error> {
        match &self.readers {
            Readers::Memory => Ok(Size::default()),
            Readers::Sqlite(readers) => {
                let database = readers.file().to_owned();
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

    /// Finishes the queued writes, and closes all connections.
    pub async fn close(self) {
        if let Readers::Sqlite(readers) = &self.readers {
            // The last connection to close merges the write-ahead log into the file. A read-only connection cannot do
            // that, so the readers are closed first.
            readers.close().await;
        }
        self.writer.close().await;
    }
}

/// Connects to a SQLite file, and retries temporary failures for [`ACQUIRE_TIMEOUT`]. The retries are needed because
/// SQLite's busy timeout does not cover the change to WAL mode, which several processes may attempt at once.
async fn connect_to_file(path: &Path) -> Result<SqliteConnection, Error> {
    let connect = || async { Ok(SqliteConnection::open(path, Access::Create)?) };
    retry(Retries::within(ACQUIRE_TIMEOUT, OPEN_RETRY_DELAY), connect).await
}

impl Read {
    /// Returns the size of the current PostgreSQL database, in bytes.
    async fn postgres_size(&mut self) -> Result<u64, Error> {
        let sql = "SELECT pg_database_size(current_database()) AS bytes";
        let bytes = self.fetch_optional(sql, Vec::new(), |row| row.int("bytes")).await?;
        Ok(bytes.unwrap_or(0).unsigned_abs())
    }
}
