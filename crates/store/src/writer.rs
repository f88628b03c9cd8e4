//! The thread on which writes run.
//!
//! It exists so that a transaction does not depend on whoever asked for it: a client that hangs up, a
//! handler that is dropped, never leaves half a use case behind. On SQLite it also is what makes
//! commits cheap: the closures that wait share one transaction, and its one `fsync`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use telemetry::metrics::{METRICS, Ongoing};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::error::{Error, is_undone};
use crate::files::Hold;
use crate::pool::{Pool, Pooled};
use crate::sql::Connection;
use crate::{PATIENCE, POSTGRES_POOL, POSTGRES_WRITES, Read, Write};

/// Writes that may wait. Whoever comes when so many do is told at once that the database is busy.
const QUEUE: usize = 1024;

/// Closures that share a SQLite transaction: enough to spread the cost of a commit, few enough that
/// none waits long for the others.
const BATCH: usize = 128;

/// How often a transaction is run when PostgreSQL asks to run it again.
const TRIES: u32 = 5;

/// How long a write may wait for its turn. Shorter than the wait for a connection: whoever stands behind
/// those who waited for one in vain is told at once, and not after as long again.
const TURN: Duration = Duration::from_millis(PATIENCE.as_millis() as u64 * 9 / 10);

/// How long connections to PostgreSQL may take to be closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// The right to decide on a waiting write: the writer takes it to begin the write, or its caller takes it to withdraw the
/// write. One of them gets it.
#[derive(Clone, Default)]
struct Decision(Arc<AtomicBool>);

impl Decision {
    /// Takes the right; `false` when it was taken before.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A write that waits for its turn: the closure, its result, and who waits for it.
trait Job: Send {
    /// Ends the waiting. `false` when the write must not be begun: its caller has withdrawn it, or it has waited for
    /// [`TURN`], since each write ahead of it may have taken long.
    fn end_waiting(&self) -> bool;

    /// Runs the closure; tells whether its transaction is to be kept.
    fn run<'a>(&'a mut self, tx: &'a mut Write) -> LocalBoxFuture<'a, bool>;

    /// Tells who waits: what the closure returned if that was an error or `committed` is `Ok`, else why
    /// it was not committed.
    fn finish(self: Box<Self>, committed: Result<(), Error>);
}

struct Waiting<F, T, E> {
    since: Instant,
    decision: Decision,
    /// Of whoever asked, for the log.
    span: Span,
    trace: telemetry::traces::Span,
    work: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Waiting<F, T, E>
where
    F: AsyncFn(&mut Write) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn end_waiting(&self) -> bool {
        let waited = self.since.elapsed();
        METRICS.database_write_wait.observe(waited.as_secs_f64());
        self.decision.take() && waited < TURN
    }

    fn run<'a>(&'a mut self, tx: &'a mut Write) -> LocalBoxFuture<'a, bool> {
        Box::pin(async move {
            // The thread must outlive a closure that panics, or one bug would end all writes. Called inside,
            // since one that is not `async` itself runs before there is anything to await.
            let work =
                self.trace.clone().within(async { (self.work)(tx).await }).instrument(self.span.clone());
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(Error::Panicked.into()));
            self.result.insert(result).is_ok()
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), Error>) {
        let result = match (self.result, committed) {
            (Some(result @ Err(_)), _) | (Some(result), Ok(())) => result,
            (_, Err(error)) => Err(error.into()),
            (None, Ok(())) => Err(Error::Panicked.into()),
        };
        // Whoever asked may have gone; the write stands all the same.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Write(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    runtime: Handle,
}

impl Writer {
    /// Starts the thread on the one connection that writes to a SQLite database. It keeps the hold on the
    /// database's folder until that is closed.
    pub(crate) fn sqlite(connection: SqliteConnection, hold: Option<Hold>) -> Result<Self, Error> {
        Self::start(async move |queue| {
            let mut tx = Write(Read::on(Connection::Sqlite(Box::new(connection))));
            let closed = write_in_batches(&mut tx, queue).await;
            if let Connection::Sqlite(connection) = tx.0.connection {
                // It has all been committed; what fails here is tidied up by whoever opens the file next.
                let _ = connection.close().await;
            }
            drop(hold);
            for reply in closed {
                let _ = reply.send(());
            }
        })
    }

    /// Starts the thread on which PostgreSQL transactions run side by side.
    pub(crate) fn postgres(pool: Pool) -> Result<Self, Error> {
        Self::start(async move |queue| write_side_by_side(&pool, queue).await)
    }

    fn start(work: impl AsyncFnOnce(mpsc::Receiver<Message>) + Send + 'static) -> Result<Self, Error> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(sqlx::Error::Io)?;
        let writer = Self { queue: sender, runtime: runtime.handle().clone() };
        let run = move || LocalSet::new().block_on(&runtime, work(queue));
        std::thread::Builder::new().name("store-writer".into()).spawn(run).map_err(sqlx::Error::Io)?;
        Ok(writer)
    }

    /// A connection to PostgreSQL, for a reader. If it takes a new one, that is made on the thread: a
    /// socket belongs to the runtime in which it was opened, stands still when that does and dies with
    /// it, and the callers' runtimes come and go.
    pub(crate) async fn connection(&self, pool: &Pool) -> Result<Pooled, Error> {
        if let Some(idle) = pool.take_idle() {
            return Ok(idle);
        }
        let pool = pool.clone();
        match self.spawn(async move { pool.acquire().await }).join_next().await {
            Some(Ok(acquired)) => acquired,
            Some(Err(_)) | None => Err(sqlx::Error::PoolClosed.into()),
        }
    }

    /// Runs a task on the thread. It is returned in a set, since it ends when that goes.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinSet<T> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(task, &self.runtime);
        tasks
    }

    pub(crate) async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, mut result) = oneshot::channel();
        let (since, span, trace) = (Instant::now(), Span::current(), telemetry::traces::Span::current());
        let decision = Decision::default();
        let waiting = Waiting { since, decision: decision.clone(), span, trace, work, result: None, reply };
        let job = Message::Write(Box::new(waiting));
        // Full: too many wait already. Closed: the server is stopping.
        self.queue.try_send(job).map_err(|_| Error::Unavailable(None).counted())?;
        let result = match timeout(TURN, &mut result).await {
            Ok(result) => result,
            // Still in the queue, where the writer counts it as failed when its turn comes.
            Err(_) if decision.take() => return Err(Error::Unavailable(None).into()),
            // Begun: it may be committed, so that only its result can be told.
            Err(_) => result.await,
        };
        result.unwrap_or_else(|_| Err(Error::Unavailable(None).into()))
    }

    /// How many writes wait for their turn.
    pub(crate) fn waiting(&self) -> i64 {
        i64::try_from(self.queue.max_capacity() - self.queue.capacity()).unwrap_or(i64::MAX)
    }

    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// Returns who waits for the end.
async fn write_in_batches(tx: &mut Write, mut queue: mpsc::Receiver<Message>) -> Vec<oneshot::Sender<()>> {
    let mut closed = Vec::new();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Write(job) if !job.end_waiting() => job.finish(Err(Error::Unavailable(None).counted())),
            Message::Write(job) => write_batch(tx, job, &mut queue, &mut closed).await,
            Message::Close(reply) => closed.push(reply),
        }
        if !closed.is_empty() {
            queue.close();
        }
    }
    closed
}

/// Runs `first` and whatever waits behind it in one transaction, and acknowledges them after its commit.
async fn write_batch(
    tx: &mut Write,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Message>,
    closed: &mut Vec<oneshot::Sender<()>>,
) {
    if let Err(error) = tx.all("BEGIN IMMEDIATE", Vec::new()).await {
        tx.failure = None;
        return first.finish(Err(error));
    }
    let mut kept = Vec::new();
    let mut next = Some(first);
    let mut broken = None;
    let mut begun = 0;
    while let Some(mut job) = next.take() {
        begun += 1;
        match in_savepoint(tx, job.as_mut()).await {
            Ok(Ok(())) => kept.push(job),
            Ok(Err(refused)) => job.finish(refused),
            // The whole transaction is gone: a full disk, a broken file.
            Err(error) => {
                job.finish(Err(error.clone()));
                broken = Some(error);
                break;
            }
        }
        // Counted with those that are refused: the others wait for them too.
        while next.is_none() && begun < BATCH {
            match queue.try_recv() {
                Ok(Message::Write(job)) if !job.end_waiting() => {
                    job.finish(Err(Error::Unavailable(None).counted()));
                }
                Ok(Message::Write(job)) => next = Some(job),
                Ok(Message::Close(reply)) => closed.push(reply),
                Err(_) => break,
            }
        }
    }
    let committed = match broken {
        None => {
            METRICS.database_batch.observe(kept.len() as f64);
            timed(tx.all("COMMIT", Vec::new())).await.map(drop)
        }
        Some(error) => Err(error),
    };
    if committed.is_err() {
        // It may be gone already, which is as well.
        let _ = tx.connection.rows("ROLLBACK", Vec::new()).await;
    }
    tx.failure = None;
    for job in kept {
        job.finish(committed.clone());
    }
}

/// Runs a closure in a savepoint. The inner result is `Err` when it is not to be kept, with what is to
/// be told if the closure itself did not say; the outer one is `Err` when the savepoint is gone.
async fn in_savepoint(tx: &mut Write, job: &mut dyn Job) -> Result<Result<(), Result<(), Error>>, Error> {
    tx.all("SAVEPOINT job", Vec::new()).await?;
    let keep = job.run(tx).await;
    let failure = tx.failure.take();
    if keep && failure.is_none() {
        tx.all("RELEASE job", Vec::new()).await?;
        return Ok(Ok(()));
    }
    // After a full disk the whole transaction may be gone with it, which that failure has told already.
    tx.connection.rows("ROLLBACK TO job", Vec::new()).await?;
    tx.all("RELEASE job", Vec::new()).await?;
    Ok(Err(failure.map_or(Ok(()), Err)))
}

async fn write_side_by_side(pool: &Pool, mut queue: mpsc::Receiver<Message>) {
    let permits = Arc::new(Semaphore::new(POSTGRES_WRITES as usize));
    let mut closed = Vec::new();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Write(mut job) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                if !job.end_waiting() {
                    job.finish(Err(Error::Unavailable(None).counted()));
                    continue;
                }
                let pool = pool.clone();
                tokio::task::spawn_local(async move {
                    let committed = transact(&pool, job.as_mut()).await;
                    job.finish(committed);
                    drop(permit);
                });
            }
            Message::Close(reply) => {
                closed.push(reply);
                queue.close();
            }
        }
    }
    // All permits at once means that no transaction is under way.
    let _ = permits.acquire_many(POSTGRES_WRITES).await;
    // Closing a connection whose peer has vanished can block, so bound the wait.
    let _ = tokio::time::timeout(FAREWELL, pool.close()).await;
    for reply in closed {
        let _ = reply.send(());
    }
}

/// Runs a closure in a transaction of its own, again if PostgreSQL asks for that.
async fn transact(pool: &Pool, job: &mut dyn Job) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut tx = begin(pool).await?;
        let keep = job.run(&mut tx).await;
        let failure = tx.failure.take();
        let Connection::Postgres(pooled) = &mut tx.connection else { return Err(Error::Panicked) };
        if keep && failure.is_none() {
            return commit(pooled).await.map_err(Error::counted);
        }
        pooled.roll_back().await;
        match failure {
            Some(failure) if failure.is_worth_repeating() && tries < TRIES => {}
            failure => return failure.map_or(Ok(()), Err),
        }
    }
}

async fn commit(pooled: &mut Pooled) -> Result<(), Error> {
    match timed(pooled.commit()).await {
        Ok(()) => Ok(()),
        Err(error) if is_undone(&error) => Err(error.into()),
        Err(error) => Err(Error::OutcomeUnknown(Arc::new(error))),
    }
}

/// Begins a transaction, passing over pooled connections that turn out to be lost.
async fn begin(pool: &Pool) -> Result<Write, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let waiting = Ongoing::in_gauge(&METRICS.database_connections_waiting);
        let acquired = pool.acquire().await.map_err(Error::counted);
        drop(waiting);
        let mut pooled = acquired?;
        match pooled.begin().await.map_err(|error| Error::from(error).counted()) {
            Ok(()) => return Ok(Write(Read::on(Connection::Postgres(pooled)))),
            Err(error) if error.is_worth_repeating() && tries <= POSTGRES_POOL => {}
            Err(error) => return Err(error),
        }
    }
}

/// A commit, and how long it takes.
async fn timed<T>(commit: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let committed = commit.await;
    METRICS.database_commit.observe(began.elapsed().as_secs_f64());
    committed
}
