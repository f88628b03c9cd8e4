//! The pool of PostgreSQL connections that reads and writes share.
//!
//! Unlike the pool of `sqlx`, this one fails at once while PostgreSQL cannot be reached, and returns the reason.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::error::{Error, ends_connection};
use crate::limits::{ACQUIRE_TIMEOUT, POSTGRES_POOL_SIZE};
use crate::postgres::{Server, Sessions};
use crate::values::{Value, bound};

/// Maximum time to wait for the response to a statement. PostgreSQL's own limits end a statement sooner, so this
/// timeout takes effect only on broken connections.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time to wait for the response to a long-running statement. PostgreSQL's own limit is
/// [`LIMIT_LONG_STATEMENT`].
const LONG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(3610);

/// Sets PostgreSQL's limit for long-running statements, in milliseconds, until the transaction ends.
const LIMIT_LONG_STATEMENT: &str = "SET LOCAL statement_timeout = 3600000";

/// Maximum time to wait for the response to a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time for which connecting is retried before the failure counts as an outage. Long enough for a proxy to
/// switch to another server, and short enough to refuse a request within a second.
const CONNECT_RETRY_TIMEOUT: Duration = Duration::from_millis(500);

/// Delay between attempts to connect.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Maximum age of a connection. An older connection is not reused.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(1800);

/// Maximum time that a connection stays idle in the pool.
const MAX_IDLE_TIME: Duration = Duration::from_secs(600);

/// Statements that begin a transaction on a shared session. They set the limits, in milliseconds, that an unshared
/// session gets when its connection is opened.
const BEGIN_ON_SHARED_SESSION: &str = "BEGIN; SET LOCAL statement_timeout = 8000; \
     SET LOCAL lock_timeout = 4000; SET LOCAL idle_in_transaction_session_timeout = 15000";

/// A pool of connections to one PostgreSQL database. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    sessions: Sessions,
    /// Permits to use connections: one is taken for each connection that is in use or being opened.
    permits: Arc<Semaphore>,
    /// Idle connections, in the order of their last use; the most recently used one is last.
    idle: Mutex<Vec<IdleConnection>>,
    outage: Mutex<Option<Outage>>,
    /// Held by the one request that tries to connect during an outage.
    probe: tokio::sync::Mutex<()>,
}

struct IdleConnection {
    connection: PgConnection,
    opened_at: Instant,
    idle_since: Instant,
}

/// A period during which no connection can be opened.
struct Outage {
    began: Instant,
    error: Error,
}

impl Pool {
    /// Creates an empty pool. Connections are opened when they are needed.
    pub(crate) fn new(server: Server, sessions: Sessions) -> Self {
        Self(Arc::new(Shared {
            server,
            sessions,
            permits: Arc::new(Semaphore::new(POSTGRES_POOL_SIZE as usize)),
            idle: Mutex::default(),
            outage: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns the number of connections in the pool, and how many of them are idle.
    pub(crate) fn count(&self) -> (usize, usize) {
        let idle = lock(&self.0.idle).len();
        (POSTGRES_POOL_SIZE as usize - self.0.permits.available_permits() + idle, idle)
    }

    /// Takes an idle connection from the pool, or opens a new one. During an outage, tries to open one in any case, because
    /// only a new connection ends the outage. Must be called on the store's writer thread, because a connection belongs to
    /// the runtime in which it was opened.
    ///
    /// # Errors
    /// Returns [`Error::Unreachable`] if no connection can be opened, and [`Error::Unavailable`] if the pool is closed
    /// or all its connections stay in use for [`ACQUIRE_TIMEOUT`].
    pub(crate) async fn acquire(&self) -> Result<PooledConnection, Error> {
        let Ok(permit) = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.0.permits).acquire_owned()).await else {
            return Err(sqlx::Error::PoolTimedOut.into());
        };
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let (connection, opened_at) = match self.0.take_idle() {
            Some((idle, opened_at)) if self.0.outage().is_some() => match self.0.connect().await {
                // The idle connection is closed, so that there are never more of them than the limit.
                Ok(connection) => (connection, Instant::now()),
                Err(_) => (idle, opened_at),
            },
            Some(taken) => taken,
            None => (self.0.connect().await?, Instant::now()),
        };
        Ok(self.wrap(connection, opened_at, permit))
    }

    /// Returns the reason for which no connection could be opened last, or `None` if one could.
    pub(crate) fn outage(&self) -> Option<Error> {
        self.0.outage()
    }

    fn wrap(
        &self,
        connection: PgConnection,
        opened_at: Instant,
        permit: OwnedSemaphorePermit,
    ) -> PooledConnection {
        let begin = match self.0.sessions {
            Sessions::Own => "BEGIN",
            Sessions::Shared => BEGIN_ON_SHARED_SESSION,
        };
        let mut pooled = PooledConnection::without_pool(connection, self.0.sessions, begin);
        pooled.origin = Some(PoolOrigin { pool: Arc::clone(&self.0), opened_at, _permit: permit });
        pooled
    }

    /// Closes the pool and its idle connections. Connections in use are closed when they are dropped.
    pub(crate) async fn close(&self) {
        self.0.permits.close();
        let idle = std::mem::take(&mut *lock(&self.0.idle));
        for idle in idle {
            let _ = idle.connection.close().await;
        }
    }
}

impl Shared {
    fn take_idle(&self) -> Option<(PgConnection, Instant)> {
        let mut idle = lock(&self.idle);
        idle.retain(|idle| {
            idle.opened_at.elapsed() < MAX_CONNECTION_AGE && idle.idle_since.elapsed() < MAX_IDLE_TIME
        });
        idle.pop().map(|idle| (idle.connection, idle.opened_at))
    }

    fn give_back(&self, connection: PgConnection, opened_at: Instant) {
        if !self.permits.is_closed() {
            lock(&self.idle).push(IdleConnection { connection, opened_at, idle_since: Instant::now() });
        }
    }

    /// Opens a connection. During an outage, only one request at a time tries to connect; the others fail at once.
    async fn connect(&self) -> Result<PgConnection, Error> {
        let probe = self.probe.try_lock();
        if let (Err(_), Some(error)) = (&probe, self.outage()) {
            return Err(error);
        }
        let deadline = Instant::now() + CONNECT_RETRY_TIMEOUT;
        loop {
            match self.server.connect_for(self.sessions).await {
                Ok(connection) => {
                    self.end_outage();
                    return Ok(connection);
                }
                Err(error)
                    if error.is_temporary() && self.outage().is_none() && Instant::now() < deadline =>
                {
                    tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                }
                Err(error) => {
                    self.begin_outage(&error);
                    return Err(error);
                }
            }
        }
    }

    fn outage(&self) -> Option<Error> {
        lock(&self.outage).as_ref().map(|outage| outage.error.clone())
    }

    /// Records that no connection can be opened, and logs the error if this begins an outage.
    fn begin_outage(&self, error: &Error) {
        let mut outage = lock(&self.outage);
        let began = outage.as_ref().map(|outage| outage.began);
        if began.is_none() {
            tracing::error!(
                "database lost, requests are answered with 503 until it is back: {}",
                domain::error_report(error)
            );
        }
        *outage = Some(Outage { began: began.unwrap_or_else(Instant::now), error: error.clone() });
    }

    fn end_outage(&self) {
        if let Some(outage) = lock(&self.outage).take() {
            let seconds = outage.began.elapsed().as_secs();
            tracing::info!(seconds, "database is back: {}", self.server.place());
        }
    }
}

/// Locks a mutex and returns its guard, even if a thread panicked while holding it. This is safe because no critical
/// section leaves partial changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool to which a connection returns, and the connection's permit.
struct PoolOrigin {
    pool: Arc<Shared>,
    opened_at: Instant,
    // The permit is released only after the connection has returned to the pool.
    _permit: OwnedSemaphorePermit,
}

/// A PostgreSQL connection that returns to its pool on drop. If the connection is lost, waits for a response or is
/// inside a transaction, it is closed instead.
pub(crate) struct PooledConnection {
    connection: Option<PgConnection>,
    origin: Option<PoolOrigin>,
    sessions: Sessions,
    /// The statements that begin a transaction on this connection.
    begin: &'static str,
    /// Whether a statement is running or was abandoned, so that the next statement would have to wait for it.
    is_busy: bool,
    /// Whether the connection is lost, so that no further statement can succeed.
    is_lost: bool,
    in_transaction: bool,
    /// Maximum time to wait for the response to a statement, raised during a commit.
    response_timeout: Duration,
}

impl PooledConnection {
    /// Wraps a connection that belongs to no pool. `begin` contains the statements that begin a transaction.
    pub(crate) const fn without_pool(
        connection: PgConnection,
        sessions: Sessions,
        begin: &'static str,
    ) -> Self {
        Self {
            connection: Some(connection),
            origin: None,
            sessions,
            begin,
            is_busy: false,
            is_lost: false,
            in_transaction: false,
            response_timeout: STATEMENT_TIMEOUT,
        }
    }

    /// Begins a transaction. A connection that is dropped before its transaction ends does not return to the pool.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.in_transaction = true;
        self.execute(self.begin).await
    }

    /// Commits the transaction. Waits longer than for other statements, because a standby may have to confirm the
    /// commit. Giving up early would leave a running transaction behind.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.response_timeout = COMMIT_TIMEOUT;
        self.end_transaction().await
    }

    async fn end_transaction(&mut self) -> Result<(), sqlx::Error> {
        let committed = self.execute("COMMIT").await;
        self.response_timeout = STATEMENT_TIMEOUT;
        // If PostgreSQL refuses to commit a transaction, it rolls the transaction back.
        self.in_transaction = false;
        committed
    }

    /// Rolls back the transaction. If the connection is lost, PostgreSQL rolls back by itself.
    pub(crate) async fn roll_back(&mut self) {
        if self.execute("ROLLBACK").await.is_ok() {
            self.in_transaction = false;
        }
    }

    /// Runs a statement and returns all its rows. On a shared session, a statement outside a transaction gets a
    /// transaction of its own, because it must be prepared and executed in the same session.
    pub(crate) async fn rows(&mut self, sql: SqlStr, values: Vec<Value>) -> Result<Vec<PgRow>, sqlx::Error> {
        if self.sessions == Sessions::Own || self.in_transaction {
            return self.rows_in_session(sql, values).await;
        }
        self.begin().await?;
        let rows = self.rows_in_session(sql, values).await;
        match &rows {
            Ok(_) => self.end_transaction().await?,
            Err(_) => self.roll_back().await,
        }
        rows
    }

    /// Runs a statement like [`rows`](Self::rows), and lets it take up to an hour. Inside a transaction, the usual limit
    /// holds.
    pub(crate) async fn rows_of_long_statement(
        &mut self,
        sql: SqlStr,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        if self.in_transaction {
            return self.rows_in_session(sql, values).await;
        }
        self.begin().await?;
        self.execute(LIMIT_LONG_STATEMENT).await?;
        self.response_timeout = LONG_STATEMENT_TIMEOUT;
        let rows = self.rows_in_session(sql, values).await;
        self.response_timeout = STATEMENT_TIMEOUT;
        match &rows {
            Ok(_) => self.end_transaction().await?,
            Err(_) => self.roll_back().await,
        }
        rows
    }

    async fn rows_in_session(&mut self, sql: SqlStr, values: Vec<Value>) -> Result<Vec<PgRow>, sqlx::Error> {
        // On a shared session, the name of a prepared statement may belong to another client's statement.
        let keep_prepared = self.sessions == Sessions::Own;
        let query = bound(sql, values).persistent(keep_prepared);
        let response_timeout = self.response_timeout;
        let rows = timeout(response_timeout, query.fetch_all(self.ready()?)).await;
        self.received(rows)
    }

    /// Runs one or more statements that take no parameters, and ignores their results.
    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let response_timeout = self.response_timeout;
        let done = timeout(response_timeout, sqlx::raw_sql(sql).execute(self.ready()?)).await;
        self.received(done).map(drop)
    }

    /// Returns the connection for the next statement. Marks the connection as busy until the response is
    /// [`received`](Self::received).
    fn ready(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.is_lost {
            return Err(connection_lost("a previous response is missing"));
        }
        self.is_busy = true;
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Updates the connection's state after a response or a timeout, and returns the response.
    fn received<T>(&mut self, response: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, sqlx::Error> {
        let Ok(response) = response else {
            self.is_lost = true;
            return Err(connection_lost("no response in time"));
        };
        self.is_busy = false;
        self.is_lost = response.as_ref().is_err_and(ends_connection);
        response
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let (Some(origin), Some(connection)) = (&self.origin, self.connection.take())
            && !(self.is_busy || self.is_lost || self.in_transaction)
        {
            origin.pool.give_back(connection, origin.opened_at);
        }
    }
}

/// Builds the error for a connection on which responses can no longer be matched to statements.
fn connection_lost(reason: &str) -> sqlx::Error {
    sqlx::Error::Protocol(reason.to_owned())
}
