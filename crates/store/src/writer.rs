//! The writer thread, on which writes run.
//!
//! A transaction on this thread does not depend on its caller: a client that disconnects or a handler that is dropped
//! never leaves a half-finished operation behind. On SQLite, the thread also makes commits cheap, because queued
//! closures share one transaction and its `fsync`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::metrics::{GaugeGuard, METRICS};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::error::{Error, is_rolled_back};
use crate::folder_lock::FolderLock;
use crate::job::{Job, start_or_refuse, submit};
use crate::limits::{MAX_POSTGRES_WRITES, POSTGRES_POOL_SIZE};
use crate::pool::Pool;
use crate::read_write::{Read, Write};
use crate::retry::{Retries, retry};
use crate::sqlite::SqliteConnection;

/// Maximum number of queued jobs. Further ones are refused at once with [`Error::Unavailable`].
const MAX_QUEUED_JOBS: usize = 1024;

/// Maximum number of closures that share a SQLite transaction. Large enough to spread the cost of a commit, and small
/// enough that no closure waits long for the others.
const MAX_BATCH_SIZE: usize = 128;

/// Maximum number of times that a PostgreSQL transaction is retried after a deadlock or a lost connection.
const MAX_TRANSACTION_RETRIES: u32 = 4;

/// Maximum time to wait for the PostgreSQL connections to close.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

enum Message {
    Write(Box<dyn Job<Write>>),
    /// A read on PostgreSQL. It runs on this thread, to which the connections belong.
    Read(Box<dyn Job<Read>>),
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
        connection.restore_from_memory()?;
        Self::start(Builder::new_current_thread().enable_time(), async move |queue| {
            let mut tx = Write(Read::new(Connection::Sqlite(Box::new(connection))));
            let closed = write_in_batches(&mut tx, queue).await;
            // Everything is committed by now. If closing fails, the next process merges the remaining write-ahead log.
            drop(tx);
            drop(lock);
            for reply in closed {
                let _ = reply.send(());
            }
        })
    }

    /// Starts the writer thread for a PostgreSQL database, on which several transactions run concurrently.
    pub(crate) fn postgres(pool: Pool) -> Result<Self, Error> {
        Self::start(Builder::new_current_thread().enable_all(), async move |queue| {
            run_concurrently(&pool, queue).await;
        })
    }

    fn start(
        runtime: &mut Builder,
        work: impl AsyncFnOnce(mpsc::Receiver<Message>) + Send + 'static,
    ) -> Result<Self, Error> {
        let (sender, queue) = mpsc::channel(MAX_QUEUED_JOBS);
        let runtime = runtime.build().map_err(sqlx::Error::Io)?;
        let writer = Self { queue: sender, runtime: runtime.handle().clone() };
        let run = move || LocalSet::new().block_on(&runtime, work(queue));
        std::thread::Builder::new().name("store-writer".into()).spawn(run).map_err(sqlx::Error::Io)?;
        Ok(writer)
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
        // Sending fails if the queue is full, or if it is closed because the server is stopping.
        submit(work, None, |job| self.queue.try_send(Message::Write(job)).is_ok()).await
    }

    /// Queues a closure that reads from PostgreSQL, and returns its result.
    pub(crate) async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let waiting = GaugeGuard::increment(&METRICS.database_connections_waiting);
        submit(work, Some(waiting), |job| self.queue.try_send(Message::Read(job)).is_ok()).await
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
                if let Some(job) = start_write(job) {
                    write_batch(tx, job, &mut queue, &mut closed).await;
                }
            }
            // Reads have connections of their own on SQLite.
            Message::Read(job) => job.finish(None),
            Message::Close(reply) => closed.push(reply),
        }
        if !closed.is_empty() {
            queue.close();
        }
    }
    closed
}

/// Takes a write from the queue: records how long it waited, and returns it if it may begin.
fn start_write(job: Box<dyn Job<Write>>) -> Option<Box<dyn Job<Write>>> {
    METRICS.database_write_wait.observe(job.waited().as_secs_f64());
    start_or_refuse(job)
}

/// Runs `first` and the jobs queued behind it in one transaction, and sends their results after its commit. Adds the
/// reply channels of queued close requests to `closed`.
async fn write_batch(
    tx: &mut Write,
    first: Box<dyn Job<Write>>,
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
                Ok(Message::Write(job)) => next = start_write(job),
                Ok(Message::Read(job)) => job.finish(None),
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
async fn run_in_savepoint(tx: &mut Write, job: &mut dyn Job<Write>) -> SavepointEnd {
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
        tx.connection.execute("ROLLBACK TO job").await?;
    }
    tx.execute("RELEASE job", Vec::new()).await
}

/// Runs queued closures on PostgreSQL until the queue is closed, at most [`MAX_POSTGRES_WRITES`] writes at once. Then
/// closes `pool`.
async fn run_concurrently(pool: &Pool, mut queue: mpsc::Receiver<Message>) {
    let permits = Arc::new(Semaphore::new(MAX_POSTGRES_WRITES as usize));
    let mut closed = Vec::new();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Write(job) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let Some(mut job) = start_write(job) else { continue };
                let pool = pool.clone();
                tokio::task::spawn_local(async move {
                    let result = transact(&pool, job.as_mut()).await;
                    job.finish(result.err());
                    drop(permit);
                });
            }
            Message::Read(job) => {
                let pool = pool.clone();
                tokio::task::spawn_local(async move { read(&pool, job).await });
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

/// Runs a closure that reads, and runs it again if its connection turns out to be lost.
async fn read(pool: &Pool, job: Box<dyn Job<Read>>) {
    // Allows one retry for each connection of the pool: after a database restart, every pooled connection may be stale.
    let mut retries = Retries::at_most(POSTGRES_POOL_SIZE);
    let mut connection = pool.acquire().await;
    let Some(mut job) = start_or_refuse(job) else { return };
    loop {
        let mut read = match connection {
            Ok(pooled) => Read::new(Connection::Postgres(pooled)),
            Err(error) => return job.finish(Some(error.counted())),
        };
        job.run(&mut read).await;
        match read.failure.take() {
            Some(failure) if retries.allow(&failure).await => connection = pool.acquire().await,
            _ => return job.finish(None),
        }
    }
}

/// Runs a closure in its own transaction, and runs it again after a temporary failure such as a deadlock. Returns `Ok`
/// if the closure's own result is final: it is committed, or the closure failed although all its statements succeeded.
async fn transact(pool: &Pool, job: &mut dyn Job<Write>) -> Result<(), Error> {
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
