//! Concurrent tasks, and gates that order their steps.

use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use store::{Error, Store, Write};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixtures::leak;

/// Longer than the five seconds that the store itself waits, even on a slow machine.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5 + 20);

/// Runs `count` tasks concurrently and returns their results.
pub(crate) async fn run_concurrently<T, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|number| tokio::spawn(task(number))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Runs `work` in a new single-threaded runtime, as a server's worker thread does.
pub(crate) fn block_on_new_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Polls `future` once, which queues a write.
///
/// # Panics
/// Panics if the future is ready after one poll.
pub(crate) fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    assert!(future.as_mut().now_or_never().is_none(), "the future is ready too early");
}

/// A gate that tasks wait for. It is closed at first and stays open once opened.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn closed() -> &'static Self {
        leak(Self(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub(crate) async fn wait_until_open(&self) {
        self.0.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// A write whose closure blocks until [`BlockedWrite::finish`]. On SQLite, no other write starts meanwhile.
pub(crate) struct BlockedWrite {
    end: &'static Gate,
    write: JoinHandle<Result<(), Error>>,
}

impl BlockedWrite {
    /// Starts the write and waits until its closure runs.
    pub(crate) async fn start(store: &Store) -> Self {
        let (started, end) = (Gate::closed(), Gate::closed());
        let store = store.clone();
        let block = async move |_: &mut Write| {
            started.open();
            end.wait_until_open().await;
            Ok(())
        };
        let write = tokio::spawn(async move { store.write(block).await });
        started.wait_until_open().await;
        Self { end, write }
    }

    /// Lets the write finish.
    pub(crate) async fn finish(self) {
        self.end.open();
        self.write.await.unwrap().unwrap();
    }
}
