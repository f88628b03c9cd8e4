//! The writer thread, on which writes run.
//!
//! A transaction on this thread does not depend on its caller: a client that disconnects or a handler that is dropped
//! never leaves a half-finished operation behind. On SQLite, the thread also makes commits cheap, because queued
//! closures share one transaction and its `fsync`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use telemetry::metrics::{GaugeGuard, METRICS};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::connection::Connection;
use crate::error::{Error, is_rolled_back};
use crate::folder_lock::FolderLock;
use crate::limits::{ACQUIRE_TIMEOUT, MAX_POSTGRES_WRITES, POSTGRES_POOL_SIZE};
use crate::pool::{Pool, PooledConnection};
use crate::read_write::{Read, Write};
use crate::retry::{Retries, retry};

/// Maximum number of queued writes. Further writes are refused at once with [`Error::Unavailable`].
const MAX_QUEUED_WRITES: usize = 1024;

/// Maximum number of closures that share a SQLite transaction. Large enough to spread the cost of a commit, and small
/// enough that no closure waits long for the others.
const MAX_BATCH_SIZE: usize = 128;

/// Maximum number of times that a PostgreSQL transaction is retried after a deadlock or a lost connection.
const MAX_TRANSACTION_RETRIES: u32 = 4;

/// Maximum time that a write waits in the queue. Shorter than [`ACQUIRE_TIMEOUT`]: if a write fails after that full
/// timeout, the writes that were queued when it began have waited too long by then, and are refused at once instead of
/// after another full timeout.
const MAX_QUEUE_WAIT: Duration = Duration::from_millis(ACQUIRE_TIMEOUT.as_millis() as u64 * 9 / 10);

/// Maximum time to wait for the PostgreSQL connections to close.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The decision whether a queued write begins. It can be taken only once: by the writer, to begin the write, or by the
/// caller, to withdraw the write, whichever comes first.
#[derive(Clone, Default)]
struct Decision(Arc<AtomicBool>);

impl Decision {
    /// Takes the decision. Returns `false` if it was already taken.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A queued write: the closure, its result, and the channel to its caller.
trait Job: Send {
    /// Takes the [`Decision`] about the write, and returns whether the write may begin. Returns `false` if the caller
    /// has withdrawn the write, or if it has waited for [`MAX_QUEUE_WAIT`].
    fn start(&self) -> bool;

    /// Runs the closure and keeps its result. Returns whether the closure succeeded, so that its transaction may
    /// commit.
    fn run<'a>(&'a mut self, tx: &'a mut Write) -> LocalBoxFuture<'a, bool>;

    /// Sends the result to the caller: the closure's error if it returned one, otherwise `failure` if there is one,
    /// otherwise the closure's value.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct QueuedWrite<F, T, E> {
    queued_at: Instant,
    decision: Decision,
    /// The caller's span, for log messages.
    span: Span,
    trace: telemetry::traces::Span,
    work: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for QueuedWrite<F, T, E>
where
    F: AsyncFn(&mut Write) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn start(&self) -> bool {
        let waited = self.queued_at.elapsed();
        METRICS.database_write_wait.observe(waited.as_secs_f64());
        self.decision.take() && waited < MAX_QUEUE_WAIT
    }

    fn run<'a>(&'a mut self, tx: &'a mut Write) -> LocalBoxFuture<'a, bool> {
        Box::pin(async move {
            // A closure that panics must not end the thread, because one bug would then stop all writes. The closure is
            // called inside the caught future, because a closure that is not `async` runs before it returns a future.
            let work = self.trace.clone().run(async { (self.work)(tx).await }).instrument(self.span.clone());
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(Error::Panicked.into()));
            self.result.insert(result).is_ok()
        })
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            (Some(result @ Err(_)), _) | (Some(result), None) => result,
            (_, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::Unavailable(None).into()),
        };
        // The caller's future may have been dropped; the write takes effect all the same.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Write(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// A handle to the writer thread, on which writes run.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    runtime: Handle,
}

impl Writer {
    /// Starts the writer thread for a SQLite database. `connection` is the database's only write connection. The thread
    /// holds `lock` until that connection is closed.
    pub(crate) fn sqlite(connection: SqliteConnection, lock: Option<FolderLock>) -> Result<Self, Error> {
        Self::start(async move |queue| {
            let mut tx = Write(Read::new(Connection::Sqlite(Box::new(connection))));
            let closed = write_in_batches(&mut tx, queue).await;
            if let Connection::Sqlite(connection) = tx.0.connection {
                // Everything is committed by now. If closing fails, the next process merges the remaining write-ahead
                // log.
                let _ = connection.close().await;
            }
            drop(lock);
            for reply in closed {
                let _ = reply.send(());
            }
        })
    }

    /// Starts the writer thread for a PostgreSQL database, on which several transactions run concurrently.
    pub(crate) fn postgres(pool: Pool) -> Result<Self, Error> {
        Self::start(async move |queue| write_concurrently(&pool, queue).await)
    }

    fn start(work: impl AsyncFnOnce(mpsc::Receiver<Message>) + Send + 'static) -> Result<Self, Error> {
        let (sender, queue) = mpsc::channel(MAX_QUEUED_WRITES);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(sqlx::Error::Io)?;
        let writer = Self { queue: sender, runtime: runtime.handle().clone() };
        let run = move || LocalSet::new().block_on(&runtime, work(queue));
        std::thread::Builder::new().name("store-writer".into()).spawn(run).map_err(sqlx::Error::Io)?;
        Ok(writer)
    }

    /// Returns a PostgreSQL connection for a read: an idle one, or a new one that is opened on the writer thread. A
    /// socket stops working when the runtime in which it was opened ends, and callers' runtimes may be short-lived.
    pub(crate) async fn connection(&self, pool: &Pool) -> Result<PooledConnection, Error> {
        if let Some(idle) = pool.take_idle() {
            return Ok(idle);
        }
        let pool = pool.clone();
        match self.spawn(async move { pool.acquire().await }).join_next().await {
            Some(Ok(acquired)) => acquired,
            Some(Err(_)) | None => Err(sqlx::Error::PoolClosed.into()),
        }
    }

    /// Runs a task on the writer thread. Dropping the returned set aborts the task.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinSet<T> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(task, &self.runtime);
        tasks
    }

    /// Queues a closure to run in a transaction. Returns the closure's result after the commit.
    pub(crate) async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Write) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, mut result) = oneshot::channel();
        let (queued_at, span, trace) = (Instant::now(), Span::current(), telemetry::traces::Span::current());
        let decision = Decision::default();
        let write =
            QueuedWrite { queued_at, decision: decision.clone(), span, trace, work, result: None, reply };
        let job = Message::Write(Box::new(write));
        // Sending fails if the queue is full, or if it is closed because the server is stopping.
        self.queue.try_send(job).map_err(|_| Error::Unavailable(None).counted())?;
        let result = match timeout(MAX_QUEUE_WAIT, &mut result).await {
            Ok(result) => result,
            // The write was still queued and is now withdrawn. The writer counts the failure when it takes the write
            // from the queue.
            Err(_) if decision.take() => return Err(Error::Unavailable(None).into()),
            // The write has already begun and may be committed: only the writer knows the result.
            Err(_) => result.await,
        };
        result.unwrap_or_else(|_| Err(Error::Unavailable(None).into()))
    }

    /// Returns the number of queued writes.
    pub(crate) fn queued(&self) -> i64 {
        i64::try_from(self.queue.max_capacity() - self.queue.capacity()).unwrap_or(i64::MAX)
    }

    /// Finishes the queued writes, and closes the database connections.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// The outcome of one closure's savepoint within a transaction.
enum SavepointEnd {
    /// The closure's changes are part of the transaction.
    Kept,
    /// The closure's changes were rolled back: because the closure failed (`None`), or because a statement failed with
    /// this error.
    RolledBack(Option<Error>),
    /// The whole transaction was lost because of this error, for example a full disk.
    TransactionLost(Error),
}

/// Runs queued closures on SQLite until the queue is closed. Returns the channels of the callers that wait for the
/// close.
async fn write_in_batches(tx: &mut Write, mut queue: mpsc::Receiver<Message>) -> Vec<oneshot::Sender<()>> {
    let mut closed = Vec::new();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Write(job) => {
                if let Some(job) = start_or_refuse(job) {
                    write_batch(tx, job, &mut queue, &mut closed).await;
                }
            }
            Message::Close(reply) => closed.push(reply),
        }
        if !closed.is_empty() {
            queue.close();
        }
    }
    closed
}

/// Returns the job if it may begin. Otherwise, reports [`Error::Unavailable`] to its caller and returns `None`.
fn start_or_refuse(job: Box<dyn Job>) -> Option<Box<dyn Job>> {
    if job.start() {
        return Some(job);
    }
    job.finish(Some(Error::Unavailable(None).counted()));
    None
}

/// Runs `first` and the jobs queued behind it in one transaction, and sends their results after its commit. Adds the
/// reply channels of queued close requests to `closed`.
async fn write_batch(
    tx: &mut Write,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Message>,
    closed: &mut Vec<oneshot::Sender<()>>,
) {
    if let Err(error) = tx.execute("BEGIN IMMEDIATE", Vec::new()).await {
        tx.failure = None;
        return first.finish(Some(error));
    }
    let mut kept = Vec::new();
    let mut next = Some(first);
    let mut failure = None;
    let mut begun = 0;
    while let Some(mut job) = next.take() {
        begun += 1;
        match run_in_savepoint(tx, job.as_mut()).await {
            SavepointEnd::Kept => kept.push(job),
            SavepointEnd::RolledBack(error) => job.finish(error),
            SavepointEnd::TransactionLost(error) => {
                job.finish(Some(error.clone()));
                failure = Some(error);
                break;
            }
        }
        // Jobs that were rolled back count toward the batch size too, because the other jobs wait for them as well.
        while next.is_none() && begun < MAX_BATCH_SIZE {
            match queue.try_recv() {
                Ok(Message::Write(job)) => next = start_or_refuse(job),
                Ok(Message::Close(reply)) => closed.push(reply),
                Err(_) => break,
            }
        }
    }
    if failure.is_none() {
        METRICS.database_batch.observe(kept.len() as f64);
        failure = time_commit(tx.connection.commit()).await.err().map(|error| Error::from(error).counted());
    }
    if failure.is_some() {
        tx.connection.roll_back().await;
    }
    tx.failure = None;
    for job in kept {
        job.finish(failure.clone());
    }
}

/// Runs a closure in a savepoint. Rolls back to the savepoint unless the closure and all its statements succeed.
async fn run_in_savepoint(tx: &mut Write, job: &mut dyn Job) -> SavepointEnd {
    if let Err(error) = tx.execute("SAVEPOINT job", Vec::new()).await {
        return SavepointEnd::TransactionLost(error);
    }
    let succeeded = job.run(tx).await;
    let failure = tx.failure.take();
    let keep = succeeded && failure.is_none();
    match end_savepoint(tx, keep).await {
        Err(error) => SavepointEnd::TransactionLost(error),
        Ok(()) if keep => SavepointEnd::Kept,
        Ok(()) => SavepointEnd::RolledBack(failure),
    }
}

async fn end_savepoint(tx: &mut Write, keep: bool) -> Result<(), Error> {
    if !keep {
        // An error here is not counted in the metrics: if the whole transaction is gone, its first failure was already
        // counted.
        tx.connection.rows("ROLLBACK TO job", Vec::new()).await?;
    }
    tx.execute("RELEASE job", Vec::new()).await
}

/// Runs queued closures on PostgreSQL, at most [`MAX_POSTGRES_WRITES`] at once, until the queue is closed. Then closes
/// `pool`.
async fn write_concurrently(pool: &Pool, mut queue: mpsc::Receiver<Message>) {
    let permits = Arc::new(Semaphore::new(MAX_POSTGRES_WRITES as usize));
    let mut closed = Vec::new();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Write(job) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let Some(mut job) = start_or_refuse(job) else { continue };
                let pool = pool.clone();
                tokio::task::spawn_local(async move {
                    let result = transact(&pool, job.as_mut()).await;
                    job.finish(result.err());
                    drop(permit);
                });
            }
            Message::Close(reply) => {
                closed.push(reply);
                queue.close();
            }
        }
    }
    // Once all permits are acquired, no transaction is running.
    let _ = permits.acquire_many(MAX_POSTGRES_WRITES).await;
    // Closing a connection whose peer has vanished can block, so the wait is bounded.
    let _ = timeout(SHUTDOWN_TIMEOUT, pool.close()).await;
    for reply in closed {
        let _ = reply.send(());
    }
}

/// Runs a closure in its own transaction, and runs it again after a temporary failure such as a deadlock. Returns `Ok`
/// if the closure's own result is final: it is committed, or the closure failed although all its statements succeeded.
async fn transact(pool: &Pool, job: &mut dyn Job) -> Result<(), Error> {
    let mut retries = Retries::at_most(MAX_TRANSACTION_RETRIES);
    loop {
        let mut tx = begin(pool).await?;
        let succeeded = job.run(&mut tx).await;
        let failure = tx.failure.take();
        if succeeded && failure.is_none() {
            return commit(&mut tx.connection).await.map_err(Error::counted);
        }
        tx.connection.roll_back().await;
        match failure {
            Some(failure) if retries.allow(&failure).await => {}
            failure => return failure.map_or(Ok(()), Err),
        }
    }
}

async fn commit(connection: &mut Connection) -> Result<(), Error> {
    match time_commit(connection.commit()).await {
        Ok(()) => Ok(()),
        Err(error) if is_rolled_back(&error) => Err(error.into()),
        Err(error) => Err(Error::OutcomeUnknown(Arc::new(error))),
    }
}

/// Begins a transaction on a pooled connection. Replaces connections that turn out to be lost.
async fn begin(pool: &Pool) -> Result<Write, Error> {
    retry(Retries::at_most(POSTGRES_POOL_SIZE), || begin_once(pool)).await
}

async fn begin_once(pool: &Pool) -> Result<Write, Error> {
    let waiting = GaugeGuard::increment(&METRICS.database_connections_waiting);
    let acquired = pool.acquire().await.map_err(Error::counted);
    drop(waiting);
    let mut pooled = acquired?;
    pooled.begin().await.map_err(|error| Error::from(error).counted())?;
    Ok(Write(Read::new(Connection::Postgres(pooled))))
}

/// Runs a commit and records its duration in the metrics. Returns the commit's result.
async fn time_commit<T>(commit: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = commit.await;
    METRICS.database_commit.observe(began.elapsed().as_secs_f64());
    result
}
