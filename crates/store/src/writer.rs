//! The thread on which writes run.
//!
//! A transaction on this thread does not depend on its caller: a client that disconnects or a handler that is dropped
//! never leaves half a use case behind. On SQLite the thread also makes commits cheap, because queued closures share
//! one transaction and its `fsync`.

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

/// Writes that may be queued. Further ones are refused at once with [`Error::Unavailable`].
const MAX_QUEUED_WRITES: usize = 1024;

/// Closures that share a SQLite transaction: enough to spread the cost of a commit, few enough that none waits long
/// for the others.
const MAX_BATCH_SIZE: usize = 128;

/// How often a PostgreSQL transaction runs again after a deadlock or a lost connection.
const MAX_TRANSACTION_RETRIES: u32 = 4;

/// Maximum time in the queue. Shorter than [`ACQUIRE_TIMEOUT`], so that writes queued behind one that timed out are
/// refused at once instead of after another full timeout.
const MAX_QUEUE_WAIT: Duration = Duration::from_millis(ACQUIRE_TIMEOUT.as_millis() as u64 * 9 / 10);

/// Maximum time for closing the connections to PostgreSQL.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The right to decide on a queued write. The writer takes it to begin the write, or the caller takes it to withdraw
/// the write; only the first one gets it.
#[derive(Clone, Default)]
struct Decision(Arc<AtomicBool>);

impl Decision {
    /// Takes the right; returns `false` if it is taken already.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A queued write: the closure, its result, and the channel to its caller.
trait Job: Send {
    /// Takes the write from the queue. Returns `false` if it must not begin, because its caller has withdrawn it or
    /// because it has waited for [`MAX_QUEUE_WAIT`].
    fn start(&self) -> bool;

    /// Runs the closure; returns whether it succeeded, so that its transaction may commit.
    fn run<'a>(&'a mut self, tx: &'a mut Write) -> LocalBoxFuture<'a, bool>;

    /// Sends the result to the caller: the error of the closure if it returned one, else `failure` if there is one,
    /// else what the closure returned.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct QueuedWrite<F, T, E> {
    queued_at: Instant,
    decision: Decision,
    /// The caller's span, for the log.
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
            // The thread must outlive a closure that panics, or one bug would end all writes. The closure is called
            // inside the caught future, because one that is not `async` runs before it returns a future.
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
        // The caller may have been dropped; the write is valid all the same.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Write(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// A handle to the thread on which writes run.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    runtime: Handle,
}

impl Writer {
    /// Starts the thread with the only write connection of a SQLite database. It keeps `lock` until that connection
    /// is closed.
    pub(crate) fn sqlite(connection: SqliteConnection, lock: Option<FolderLock>) -> Result<Self, Error> {
        Self::start(async move |queue| {
            let mut tx = Write(Read::new(Connection::Sqlite(Box::new(connection))));
            let closed = write_in_batches(&mut tx, queue).await;
            if let Connection::Sqlite(connection) = tx.0.connection {
                // Everything is committed by now; a failure here only leaves a log for the next process to merge.
                let _ = connection.close().await;
            }
            drop(lock);
            for reply in closed {
                let _ = reply.send(());
            }
        })
    }

    /// Starts the thread on which several PostgreSQL transactions run at once.
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

    /// Returns a PostgreSQL connection for a read. Opens new ones on this thread: a socket stops working with the
    /// runtime in which it was opened, and callers' runtimes may be short-lived.
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

    /// Runs a task on the thread, and aborts it when the returned set is dropped.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinSet<T> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(task, &self.runtime);
        tasks
    }

    /// Queues a closure and returns its result after the commit.
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
        // The queue is full, or closed because the server is stopping.
        self.queue.try_send(job).map_err(|_| Error::Unavailable(None).counted())?;
        let result = match timeout(MAX_QUEUE_WAIT, &mut result).await {
            Ok(result) => result,
            // Still queued. The writer counts the failure when it takes the write from the queue.
            Err(_) if decision.take() => return Err(Error::Unavailable(None).into()),
            // Already begun, so it may be committed: only the writer knows the result.
            Err(_) => result.await,
        };
        result.unwrap_or_else(|_| Err(Error::Unavailable(None).into()))
    }

    /// Returns the number of queued writes.
    pub(crate) fn queued(&self) -> i64 {
        i64::try_from(self.queue.max_capacity() - self.queue.capacity()).unwrap_or(i64::MAX)
    }

    /// Finishes the queued writes and closes the connections.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// How the savepoint of one closure ended.
enum SavepointEnd {
    /// The changes of the closure are part of the transaction.
    Kept,
    /// The changes are rolled back: by the closure, or because a statement failed with this error.
    RolledBack(Option<Error>),
    /// The whole transaction is lost, for example because the disk is full.
    TransactionLost(Error),
}

/// Runs queued closures on SQLite until the queue is closed; returns the channels that wait for the close.
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

/// Returns the job if it may begin; reports [`Error::Unavailable`] to its caller otherwise.
fn start_or_refuse(job: Box<dyn Job>) -> Option<Box<dyn Job>> {
    if job.start() {
        return Some(job);
    }
    job.finish(Some(Error::Unavailable(None).counted()));
    None
}

/// Runs `first` and the jobs queued behind it in one transaction, and acknowledges them after its commit.
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
        // Jobs that were rolled back count too, because the others wait for them as well.
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

/// Runs a closure in a savepoint, and rolls back to it unless the closure succeeds.
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
        // Not counted in the metrics: if the whole transaction is gone, its first failure was counted already.
        tx.connection.rows("ROLLBACK TO job", Vec::new()).await?;
    }
    tx.execute("RELEASE job", Vec::new()).await
}

/// Runs queued closures on PostgreSQL, several at once, until the queue is closed.
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
    // With all permits in hand, no transaction is running.
    let _ = permits.acquire_many(MAX_POSTGRES_WRITES).await;
    // Closing a connection whose peer has vanished can block, so bound the wait.
    let _ = timeout(SHUTDOWN_TIMEOUT, pool.close()).await;
    for reply in closed {
        let _ = reply.send(());
    }
}

/// Runs a closure in a transaction of its own; runs it again after a temporary failure such as a deadlock. Returns
/// `Ok` if the result of the closure itself is final: it failed without a failed statement, or it is committed.
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

/// Begins a transaction. Replaces pooled connections that turn out to be lost.
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

/// Runs a commit and records its duration.
async fn time_commit<T>(commit: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = commit.await;
    METRICS.database_commit.observe(began.elapsed().as_secs_f64());
    result
}
