//! The threads that read a SQLite file.
//!
//! Each thread has a connection of its own, so that reads neither wait for each other nor for the writer. A closure
//! runs on such a thread as a whole: changing threads costs more than most statements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};
use telemetry::metrics::{GaugeGuard, METRICS};
use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::error::Error;
use crate::job::{Job, start_or_refuse, submit};
use crate::read_write::Read;
use crate::retry::Retries;
use crate::sqlite::{Access, SqliteConnection};

/// Number of threads that read a file.
const READERS: usize = 4;

/// Maximum number of queued reads. Further reads are refused at once with [`Error::Unavailable`].
const MAX_QUEUED_READS: usize = 4096;

/// Maximum number of times that a read is repeated while another process holds a lock.
const MAX_READ_RETRIES: u32 = 4;

enum Message {
    Read(Box<dyn Job<Read>>),
    /// Ends the thread that receives this message.
    Close(oneshot::Sender<()>),
}

/// A handle to the threads that read a SQLite file. Clones share the threads.
#[derive(Clone)]
pub(crate) struct SqliteReaders {
    queue: Sender<Message>,
    shared: Arc<Shared>,
}

struct Shared {
    file: PathBuf,
    /// Number of threads whose connection is open.
    open: AtomicUsize,
    /// Number of threads that are running a job.
    busy: AtomicUsize,
}

impl SqliteReaders {
    /// Starts the threads. Each opens its connection when it receives its first job.
    pub(crate) fn start(file: &Path) -> Result<Self, Error> {
        let (sender, queue) = crossbeam_channel::bounded(MAX_QUEUED_READS);
        let (open, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { file: file.to_owned(), open, busy });
        for _ in 0..READERS {
            let (queue, shared) = (queue.clone(), Arc::clone(&shared));
            let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(sqlx::Error::Io)?;
            let run = move || runtime.block_on(run_jobs(&queue, &shared));
            std::thread::Builder::new().name("store-reader".into()).spawn(run).map_err(sqlx::Error::Io)?;
        }
        Ok(Self { queue: sender, shared })
    }

    /// Returns the path of the file.
    pub(crate) fn file(&self) -> &Path {
        &self.shared.file
    }

    /// Returns the number of open connections, and how many of them are idle.
    pub(crate) fn count(&self) -> (usize, usize) {
        let (open, busy) =
            (self.shared.open.load(Ordering::Relaxed), self.shared.busy.load(Ordering::Relaxed));
        (open, open.saturating_sub(busy))
    }

    /// Queues a closure that reads, and returns its result.
    pub(crate) async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&mut Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let waiting = GaugeGuard::increment(&METRICS.database_connections_waiting);
        submit(work, Some(waiting), |job| self.queue.try_send(Message::Read(job)).is_ok()).await
    }

    /// Finishes the queued reads, closes the connections and ends the threads.
    pub(crate) async fn close(&self) {
        let mut closed = Vec::new();
        for _ in 0..READERS {
            let (reply, done) = oneshot::channel();
            if self.queue.try_send(Message::Close(reply)).is_ok() {
                closed.push(done);
            }
        }
        for done in closed {
            let _ = done.await;
        }
    }
}

/// Runs queued jobs until a [`Message::Close`] arrives or every handle is dropped.
async fn run_jobs(queue: &Receiver<Message>, shared: &Shared) {
    let mut reader = None;
    while let Ok(message) = queue.recv() {
        match message {
            Message::Read(job) => {
                shared.busy.fetch_add(1, Ordering::Relaxed);
                if let Some(job) = start_or_refuse(job) {
                    run_job(job, &mut reader, shared).await;
                }
                shared.busy.fetch_sub(1, Ordering::Relaxed);
            }
            Message::Close(reply) => {
                if reader.take().is_some() {
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                }
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// Runs a job with `reader`, which is opened first if there is none. Repeats the job if another process holds a lock.
async fn run_job(mut job: Box<dyn Job<Read>>, reader: &mut Option<Read>, shared: &Shared) {
    let read = match reader {
        Some(read) => read,
        None => match SqliteConnection::open(&shared.file, Access::Read) {
            Ok(connection) => {
                shared.open.fetch_add(1, Ordering::Relaxed);
                reader.insert(Read::new(Connection::Sqlite(Box::new(connection))))
            }
            Err(error) => return job.finish(Some(Error::from(error).counted())),
        },
    };
    let mut retries = Retries::at_most(MAX_READ_RETRIES);
    loop {
        job.run(read).await;
        match read.failure.take() {
            Some(failure) if retries.allow(&failure).await => {}
            _ => return job.finish(None),
        }
    }
}
