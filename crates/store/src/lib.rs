//! Both databases behind one [`Store`]. The only crate with SQL.
//!
//! A read is a closure over [`Read`], a write a closure over [`Write`], which can read too:
//!
//! ```ignore
//! let challenge = store.read(async move |db| db.challenge(&path, sid).await).await?;
//! store.write(async move |tx| tx.answer_challenge(sid, answer, digest, now).await).await?;
//! ```
//!
//! **A write is a transaction.** It commits when the closure returns `Ok` and is undone when it
//! returns `Err`; when `write` has returned `Ok`, it survives power loss. A closure that has begun
//! runs to its end, even if whoever asked for it has gone. It may be run more than once (a deadlock, a
//! connection that was lost before anything was committed), so it changes nothing but the database.
//! What only reads is done before the write begins and guarded again in the statement.
//!
//! * On SQLite one thread owns the only writing connection. It runs the closures that wait, each in
//!   its own savepoint, inside one transaction, and acknowledges them all after one durable commit
//!   (`writer.rs`). Readers have connections of their own. A database in memory has one connection for
//!   everything.
//! * On PostgreSQL each write is a transaction of its own at READ COMMITTED, and many run at once: a
//!   closure that counts before it inserts must hold a lock on what it counts
//!   ([`Write::ensure_entity`], [`Write::lock_factor`]).
//!
//! The SQL is one text for both wherever it can be (`sql.rs`); where it can't, both texts stand side by
//! side. Migrations are in `migrations/`, one folder per database, the same names in both.

mod access_tokens;
mod accounts;
mod alerts;
mod audit;
mod challenges;
mod clock_record;
mod credentials;
mod deliveries;
mod entities;
mod error;
mod factors;
mod files;
mod leases;
mod listing;
mod look;
mod notifications;
mod pool;
mod postgres;
mod removal;
mod schema;
mod seals;
mod services;
mod sql;
mod webhooks;
mod writer;

use std::borrow::Cow;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::Secret;
use sqlx::postgres::{PgListener, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Executor as _, SqliteConnection, SqlitePool};
use telemetry::metrics::{METRICS, Ongoing};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use crate::accounts::EnrollmentKeyRow;
pub use crate::alerts::AlertFilter;
pub use crate::audit::{
    AuditChain, AuditFilter, AuditLine, AuditTail, ChainedLine, WaitingLine, WaitingPlace,
};
pub use crate::challenges::Filter;
pub use crate::deliveries::{AttemptRecord, DeliveryFilter, DeliveryStatus, Owed};
pub use crate::error::{Conflict, Error};
pub use crate::files::{
    Origin, Replacement, back_up, give_to_owner_of, inspect, is_in_use, make, require_regular,
};
pub use crate::look::{Condition, differences, look, writes_ahead};
pub use crate::schema::{Migrated, Migration, OldSchema};
pub use crate::seals::Kind;

use crate::pool::Pool;
use crate::postgres::{Server, Sessions};
use crate::sql::{Connection, Row, Value};
use crate::writer::Writer;

/// Seconds to wait for a connection, for another process's lock, or for a turn to write, before a caller
/// hears 503.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections to PostgreSQL per process: those that work, and the one that hears what others announce.
pub const POSTGRES_CONNECTIONS: u32 = POSTGRES_POOL + 1;

/// Connections that work: more than about two per core only add waiting.
const POSTGRES_POOL: u32 = 8;

/// Writes at one time: fewer than there are connections, so that writes that wait for a lock leave some for
/// those who read.
const POSTGRES_WRITES: u32 = 5;

/// Where processes on one PostgreSQL tell each other that something is owed.
const CHANNEL: &str = "countersign_deliveries";

/// How long nothing may be heard before it is looked whether the line still stands.
const SILENCE: Duration = Duration::from_secs(30);

/// Connections that read a SQLite file.
const SQLITE_READERS: u32 = 4;

/// Bytes to which the write-ahead log shrinks once it is written back. It grows beyond that while a long read, such as
/// a backup, keeps SQLite from beginning it anew.
const WAL_SIZE_LIMIT: &str = "67108864";

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Location {
    /// Nowhere: gone with the process.
    Memory,
    /// A SQLite file; made when it isn't there.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by URL.
    Postgres(Secret<String>),
}

/// How much room a database takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The database itself; 0 for one in memory.
    pub database: u64,
    /// The write-ahead log of a SQLite file; 0 for all others.
    pub write_ahead_log: u64,
}

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    readers: Readers,
    writer: Writer,
    /// Where other processes' announcements can be received.
    announcer: Option<Server>,
}

#[derive(Clone)]
enum Readers {
    /// Reads take their turn among the writes.
    Memory,
    Sqlite(SqlitePool),
    Postgres(Pool),
}

/// What can be read. The methods are in the file of the resource that they read.
pub struct Read {
    connection: Connection,
    /// The first statement that failed.
    failure: Option<Error>,
}

/// A transaction: what can be written, and read on the way. A statement that fails ends it.
pub struct Write(Read);

impl std::ops::Deref for Write {
    type Target = Read;

    fn deref(&self) -> &Read {
        &self.0
    }
}

impl std::ops::DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Read {
        &mut self.0
    }
}

impl Store {
    /// Opens the database and brings its schema up to date, or refuses to, as `old` says. Returns the
    /// store and what was done. A SQLite file is copied before it is migrated.
    ///
    /// # Errors
    /// When the database can't be reached or opened, [`Error::OldSchema`], and [`Error::NotCopied`].
    pub async fn open(location: &Location, old: OldSchema) -> Result<(Self, Migrated), Error> {
        match location {
            Location::Memory => {
                let mut connection = SqliteConnection::connect_with(&sqlite(None)).await?;
                let migrated = schema::bring_up_sqlite(&mut connection, None, OldSchema::Migrate).await?;
                let writer = Writer::sqlite(connection, None)?;
                Ok((Self { readers: Readers::Memory, writer, announcer: None }, migrated))
            }
            Location::Sqlite(path) => {
                let hold = files::share(path).await?;
                let mut connection = connect_to_file(path).await?;
                let migrated = schema::bring_up_sqlite(&mut connection, Some(path), old).await?;
                let readers = SqlitePoolOptions::new()
                    .max_connections(SQLITE_READERS)
                    .acquire_timeout(PATIENCE)
                    .test_before_acquire(false)
                    .connect_lazy_with(sqlite(Some(path)).read_only(true).create_if_missing(false));
                let writer = Writer::sqlite(connection, Some(hold))?;
                Ok((Self { readers: Readers::Sqlite(readers), writer, announcer: None }, migrated))
            }
            Location::Postgres(url) => {
                let server = Server::parse(url)?;
                // On a connection of its own, since a migration may take its time.
                let mut connection = server.connect().await?;
                server.check_encoding(&mut connection).await?;
                let migrated = schema::bring_up_postgres(&mut connection, old).await?;
                let sessions = server.sessions(&mut connection).await?;
                connection.close().await?;
                if sessions == Sessions::Shared {
                    tracing::info!("a pooler in transaction mode is in front of {}", server.place());
                }
                let announcer = (sessions == Sessions::Own).then(|| server.clone());
                let pool = Pool::new(server, sessions);
                let writer = Writer::postgres(pool.clone())?;
                Ok((Self { readers: Readers::Postgres(pool), writer, announcer }, migrated))
            }
        }
    }

    /// What the database lacks. Changes nothing, and makes no file.
    ///
    /// # Errors
    /// When the database can't be reached or read.
    pub async fn missing(location: &Location) -> Result<Vec<Migration>, Error> {
        match location {
            Location::Sqlite(path) if path.exists() => {
                schema::missing_on_sqlite(&mut files::look_at(path).await?).await
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

    /// Reads. The closure is run again if the connection turns out to be lost.
    ///
    /// # Errors
    /// Those of the closure, and [`Error::Unavailable`].
    pub async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        telemetry::traces::database("read").around(self.read_on_a_connection(work)).await
    }

    async fn read_on_a_connection<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let mut tries = 0;
        loop {
            let waiting = Ongoing::in_gauge(&METRICS.database_connections_waiting);
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
            let mut read = Read::on(connection.map_err(Error::counted)?);
            let result = work(&mut read).await;
            tries += 1;
            // After a restart of the database every pooled connection may be stale, one after the other.
            match read.failure {
                Some(failure) if failure.is_worth_repeating() && tries <= POSTGRES_POOL => {}
                _ => return result,
            }
        }
    }

    /// Writes, in one transaction.
    ///
    /// # Errors
    /// Those of the closure, after which nothing was written; [`Error::Unavailable`], likewise; and
    /// [`Error::OutcomeUnknown`].
    pub async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        telemetry::traces::database("write").around(self.writer.write(work)).await
    }

    /// Tells other processes on the same database that something is owed. Never part of a transaction,
    /// since PostgreSQL would then commit one announcing transaction at a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn announce(&self) -> Result<(), Error> {
        match self.readers {
            // A read, since that passes over stale connections.
            Readers::Postgres(_) => self.read(async |db: &mut Read| db.announce().await).await,
            Readers::Memory | Readers::Sqlite(_) => Ok(()),
        }
    }

    /// Receives announcements over a connection to this URL, which leads past a pooler to PostgreSQL itself.
    ///
    /// # Errors
    /// When it is no URL of PostgreSQL.
    pub fn listen_at(&mut self, url: &Secret<String>) -> Result<(), Error> {
        self.announcer = Some(Server::parse(url)?);
        Ok(())
    }

    /// Receives the announcements of other processes; `None` where there are none: on SQLite, and on sessions that
    /// are shared.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn announcements(&self) -> Result<Option<Announcements>, Error> {
        let Some(server) = self.announcer.clone() else { return Ok(None) };
        let (tell, told) = mpsc::channel(1);
        // On the store's own thread, like all connections: one that is given back to the pool must work for
        // others too, and it can only be given back inside a runtime.
        let listener = self.writer.spawn(async move {
            let mut tries = 0;
            loop {
                // After a restart of the database every pooled connection may be stale, one after the other.
                match listen(&server.pool_of_one(), &tell, &mut tries).await.map_err(Error::from) {
                    Err(error) if error.is_worth_repeating() && tries <= POSTGRES_POOL => {}
                    ended => return ended,
                }
            }
        });
        let mut announcements = Announcements { told, listener };
        // That it listens from now on.
        announcements.next().await?;
        Ok(Some(announcements))
    }

    /// Measures how busy the database's connections are.
    pub fn measure(&self) {
        let (open, idle) = match &self.readers {
            Readers::Memory => (0, 0),
            Readers::Sqlite(pool) => (pool.size() as usize, pool.num_idle()),
            Readers::Postgres(pool) => pool.count(),
        };
        METRICS.database_connections.set(i64::try_from(open).unwrap_or(i64::MAX));
        METRICS.database_connections_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
        METRICS.database_writes_waiting.set(self.writer.waiting());
    }

    /// Returns the size of the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and when a file can't be looked at.
    pub async fn size(&self) -> Result<Size, Error> {
        match &self.readers {
            Readers::Memory => Ok(Size::default()),
            Readers::Sqlite(pool) => {
                let database = pool.connect_options().get_filename().to_owned();
                // On a thread of its own, since a network file system may take long.
                let looked = tokio::task::spawn_blocking(move || files::size(&database)).await;
                looked.unwrap_or(Err(Error::Panicked))
            }
            Readers::Postgres(_) => {
                let bytes = self.read(async |db: &mut Read| db.postgres_size().await).await?;
                Ok(Size { database: bytes, write_ahead_log: 0 })
            }
        }
    }

    /// Finishes the writes that were asked for and closes the connections.
    pub async fn close(self) {
        if let Readers::Sqlite(readers) = &self.readers {
            // The last connection to a file merges its log into it, which a reader's can't.
            readers.close().await;
        }
        self.writer.close().await;
    }
}

/// A connection to a file, if it can be made in time. While several are the first to write it ahead, SQLite does not
/// wait as it does for every other lock.
async fn connect_to_file(path: &Path) -> Result<SqliteConnection, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match SqliteConnection::connect_with(&sqlite(Some(path))).await.map_err(Error::from) {
            Err(error) if error.is_worth_repeating() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connected => return connected,
        }
    }
}

/// Announcements of other processes, as they come.
pub struct Announcements {
    told: mpsc::Receiver<()>,
    listener: JoinSet<Result<Infallible, Error>>,
}

impl Announcements {
    /// Waits for the next one; several that nobody waited for count as one. What was announced while the
    /// connection was lost is not told again, so that a reconnection counts as one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the connection can't be made again; from then on always.
    pub async fn next(&mut self) -> Result<(), Error> {
        if self.told.recv().await.is_some() {
            return Ok(());
        }
        match self.listener.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => Err(Error::Unavailable(None)),
        }
    }
}

/// Listens until the connection is lost, and tells at first that it does: something may have been missed.
async fn listen(own: &PgPool, tell: &mpsc::Sender<()>, tries: &mut u32) -> Result<Infallible, sqlx::Error> {
    *tries += 1;
    // On a connection of its own: one that is lost must take no other's place.
    let mut listener = PgListener::connect_with(own).await?;
    listener.listen(CHANNEL).await?;
    *tries = 0;
    loop {
        // Announcements coalesce: a full channel already holds an unread one.
        let _ = tell.try_send(());
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(received) => break drop(received?),
                // Nothing to hear, or nobody to hear it from?
                Err(_) => match timeout(PATIENCE, listener.execute("SELECT 1")).await {
                    Ok(answered) => answered.map(|_| ())?,
                    Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                },
            }
        }
    }
}

impl Read {
    const fn on(connection: Connection) -> Self {
        Self { connection, failure: None }
    }

    /// Runs a statement and returns all its rows.
    async fn all(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let result = self.connection.rows(sql, values).await.map_err(|error| Error::from(error).counted());
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// Runs a statement that finds one row or none.
    async fn one(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    async fn announce(&mut self) -> Result<(), Error> {
        self.all("SELECT pg_notify($1, '')", sql::bind![CHANNEL]).await.map(drop)
    }

    /// Returns the size of the PostgreSQL database that this is connected to, in bytes.
    async fn postgres_size(&mut self) -> Result<u64, Error> {
        let row = self.one("SELECT pg_database_size(current_database()) AS bytes", Vec::new()).await?;
        row.map_or(Ok(0), |row| Ok(row.int("bytes")?.unsigned_abs()))
    }
}

/// Options for a SQLite file, or for memory. `FULL` and WAL always: what was acknowledged survives
/// power loss.
fn sqlite(path: Option<&Path>) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-8000");
    match path {
        None => options.in_memory(true),
        Some(path) => options
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("journal_size_limit", WAL_SIZE_LIMIT),
    }
}
