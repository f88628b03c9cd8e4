//! The connections to PostgreSQL that reads and writes share.
//!
//! Unlike the pool of `sqlx` it fails at once when PostgreSQL can't be reached, and says why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::error::{Error, ends_connection};
use crate::postgres::{Server, Sessions};
use crate::sql::{Row, Value, bound};
use crate::{PATIENCE, POSTGRES_POOL};

/// How long PostgreSQL may take over a statement. The session's limits end it sooner: this is for a line over
/// which no answer comes at all.
const ANSWER: Duration = Duration::from_secs(10);

/// How long PostgreSQL may take to commit.
const COMMIT: Duration = Duration::from_secs(60);

/// How long a new connection is tried for before it counts as an outage, and the pause between: long enough for a
/// proxy that changes its backend, and short enough for a request to be refused within a second.
const RETRY_FOR: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How long a connection is used, and how long it is kept without use.
const LIFETIME: Duration = Duration::from_secs(1800);
const IDLE_TIME: Duration = Duration::from_secs(600);

/// Begins a transaction, with the limits that a session of its own has from its beginning.
const BEGIN_ON_SHARED_SESSION: &str = "BEGIN; SET LOCAL statement_timeout = 8000; \
     SET LOCAL lock_timeout = 4000; SET LOCAL idle_in_transaction_session_timeout = 15000";

/// The connections to one database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    sessions: Sessions,
    /// One for each connection that is in use, or being made.
    permits: Arc<Semaphore>,
    /// Connections without use; the last is the one that was used last.
    idle: Mutex<Vec<Idle>>,
    outage: Mutex<Option<Outage>>,
    /// Held by the one request that tries to connect during an outage.
    probe: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: PgConnection,
    made: Instant,
    since: Instant,
}

/// The time in which no connection can be made.
struct Outage {
    began: Instant,
    error: Error,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(server: Server, sessions: Sessions) -> Self {
        Self(Arc::new(Shared {
            server,
            sessions,
            permits: Arc::new(Semaphore::new(POSTGRES_POOL as usize)),
            idle: Mutex::default(),
            outage: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
        }))
    }

    /// How many connections there are, and how many of them are without use.
    pub(crate) fn count(&self) -> (usize, usize) {
        let idle = lock(&self.0.idle).len();
        (POSTGRES_POOL as usize - self.0.permits.available_permits() + idle, idle)
    }

    /// Takes a connection that is without use, if there is one.
    pub(crate) fn take_idle(&self) -> Option<Pooled> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        let (connection, made) = self.0.take_idle()?;
        Some(self.pooled(connection, made, permit))
    }

    /// Takes a connection, or makes one. To be called on the store's thread: a connection belongs to the runtime
    /// on which it was made.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when none can be made, [`Error::Unavailable`] when all are in use for too long.
    pub(crate) async fn acquire(&self) -> Result<Pooled, Error> {
        let Ok(permit) = timeout(PATIENCE, Arc::clone(&self.0.permits).acquire_owned()).await else {
            return Err(sqlx::Error::PoolTimedOut.into());
        };
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let (connection, made) = match self.0.take_idle() {
            Some(taken) => taken,
            None => (self.0.connect().await?, Instant::now()),
        };
        Ok(self.pooled(connection, made, permit))
    }

    fn pooled(&self, connection: PgConnection, made: Instant, permit: OwnedSemaphorePermit) -> Pooled {
        let begin = match self.0.sessions {
            Sessions::Own => "BEGIN",
            Sessions::Shared => BEGIN_ON_SHARED_SESSION,
        };
        let mut pooled = Pooled::alone(connection, self.0.sessions, begin);
        pooled.home = Some(Home { pool: Arc::clone(&self.0), made, _permit: permit });
        pooled
    }

    /// Closes the connections without use. Those in use are closed when they are given back.
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
        idle.retain(|idle| idle.made.elapsed() < LIFETIME && idle.since.elapsed() < IDLE_TIME);
        idle.pop().map(|idle| (idle.connection, idle.made))
    }

    fn give_back(&self, connection: PgConnection, made: Instant) {
        if !self.permits.is_closed() {
            lock(&self.idle).push(Idle { connection, made, since: Instant::now() });
        }
    }

    /// Makes a connection. During an outage one request at a time tries to; the others are refused at once.
    async fn connect(&self) -> Result<PgConnection, Error> {
        let probe = self.probe.try_lock();
        if let (Err(_), Some(error)) = (&probe, self.outage()) {
            return Err(error);
        }
        let give_up = Instant::now() + RETRY_FOR;
        loop {
            match self.server.connect_for(self.sessions).await {
                Ok(connection) => {
                    self.end_outage();
                    return Ok(connection);
                }
                Err(error) if error.may_pass() && self.outage().is_none() && Instant::now() < give_up => {
                    tokio::time::sleep(RETRY_AFTER).await;
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

    /// Notes that no connection can be made, and logs it once.
    fn begin_outage(&self, error: &Error) {
        let mut outage = lock(&self.outage);
        let began = outage.as_ref().map(|outage| outage.began);
        if began.is_none() {
            tracing::error!("database lost, requests get 503 until it is back: {}", domain::causes(error));
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

/// Locks what holds no half-made state, whatever panicked meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a connection goes back to.
struct Home {
    pool: Arc<Shared>,
    made: Instant,
    // Released after the connection is back.
    _permit: OwnedSemaphorePermit,
}

/// A connection to PostgreSQL. It goes back to its pool when it is dropped, unless it is of no more use: one that
/// was lost, that was left while an answer was awaited, or in the midst of a transaction, is closed instead.
pub(crate) struct Pooled {
    connection: Option<PgConnection>,
    home: Option<Home>,
    sessions: Sessions,
    /// Begins a transaction.
    begin: &'static str,
    /// Whether a statement is under way, or was abandoned, so that the next one would wait for it.
    is_busy: bool,
    /// Whether no further statement can succeed.
    is_lost: bool,
    in_transaction: bool,
    /// How long an answer may take.
    patience: Duration,
}

impl Pooled {
    /// A connection that is in no pool.
    pub(crate) const fn alone(connection: PgConnection, sessions: Sessions, begin: &'static str) -> Self {
        Self {
            connection: Some(connection),
            home: None,
            sessions,
            begin,
            is_busy: false,
            is_lost: false,
            in_transaction: false,
            patience: ANSWER,
        }
    }

    /// Begins a transaction. Until it has ended, the connection must not go back to the pool.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.in_transaction = true;
        self.command(self.begin).await
    }

    /// Commits the transaction, which may take longer than a statement, where a standby has to confirm. Giving up
    /// early would leave a transaction behind that goes on.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.patience = COMMIT;
        self.end().await
    }

    async fn end(&mut self) -> Result<(), sqlx::Error> {
        let committed = self.command("COMMIT").await;
        self.patience = ANSWER;
        // What PostgreSQL refuses to commit is undone.
        self.in_transaction = false;
        committed
    }

    /// Undoes the transaction. PostgreSQL does so itself if the connection is lost.
    pub(crate) async fn roll_back(&mut self) {
        if self.command("ROLLBACK").await.is_ok() {
            self.in_transaction = false;
        }
    }

    /// Runs a statement and returns all its rows. On a shared session it gets a transaction of its own if there
    /// is none: what is prepared in one can't be executed in another.
    pub(crate) async fn rows(&mut self, sql: SqlStr, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        if self.sessions == Sessions::Own || self.in_transaction {
            return self.rows_in_session(sql, values).await;
        }
        self.begin().await?;
        let rows = self.rows_in_session(sql, values).await;
        match &rows {
            Ok(_) => self.end().await?,
            Err(_) => self.roll_back().await,
        }
        rows
    }

    async fn rows_in_session(&mut self, sql: SqlStr, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        // A name of ours may be another statement in another session.
        let keep_prepared = self.sessions == Sessions::Own;
        let query = bound!(sqlx::Postgres, sql, values).persistent(keep_prepared);
        let patience = self.patience;
        let rows = timeout(patience, query.fetch_all(self.ready()?)).await;
        Ok(self.answered(rows)?.into_iter().map(Row::Postgres).collect())
    }

    /// Runs what has no parameters and no rows.
    async fn command(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let patience = self.patience;
        let done = timeout(patience, sqlx::raw_sql(sql).execute(self.ready()?)).await;
        self.answered(done).map(drop)
    }

    /// The connection, which is busy from now on until it has [`answered`](Self::answered).
    fn ready(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.is_lost {
            return Err(lost("an answer is missing"));
        }
        self.is_busy = true;
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Notes what an answer, or its absence, means for the connection.
    fn answered<T>(&mut self, answer: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, sqlx::Error> {
        let Ok(answer) = answer else {
            self.is_lost = true;
            return Err(lost("no answer came in time"));
        };
        self.is_busy = false;
        self.is_lost = answer.as_ref().is_err_and(ends_connection);
        answer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(home), Some(connection)) = (&self.home, self.connection.take())
            && !(self.is_busy || self.is_lost || self.in_transaction)
        {
            home.pool.give_back(connection, home.made);
        }
    }
}

/// The connection is lost, and with it every answer that was to come.
fn lost(why: &str) -> sqlx::Error {
    sqlx::Error::Protocol(why.to_owned())
}
