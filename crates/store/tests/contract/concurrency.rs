//! Concurrent tasks, and gates that determine the order of their steps.

use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use store::{Error, Store, Write};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixtures::leak;

/// Maximum time that a test waits. It exceeds the five seconds that the store itself waits, with a reserve for slow
/// machines.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5 + 20);

/// Runs `count` tasks concurrently. `task` gets the number of each task, from 0. Returns the results in the order of
/// these numbers.
///
/// # Panics
/// Panics if a task panics.
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

/// Runs `work` to completion in a new single-threaded runtime, like a worker thread of the server, and returns its
/// result.
pub(crate) fn block_on_new_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Polls `future` once. If it is a write, this puts the write into the store's queue.
///
/// # Panics
/// Panics if `future` completes on this poll.
pub(crate) fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    assert!(future.as_mut().now_or_never().is_none(), "the future completed on its first poll");
}

/// A gate at which tasks wait until it is opened. Once open, it stays open.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// Returns a new, closed gate.
    pub(crate) fn closed() -> &'static Self {
        leak(Self(watch::Sender::new(false)))
    }

    /// Opens the gate, which wakes all waiting tasks.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub(crate) async fn wait_until_open(&self) {
        self.0.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// A write whose closure waits until [`BlockedWrite::finish`] is called. On SQLite, no other write starts before that.
pub(crate) struct BlockedWrite {
    end: &'static Gate,
    write: JoinHandle<Result<(), Error>>,
}

impl BlockedWrite {
    /// Starts the write, and returns when its closure is running.
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

    /// Lets the write finish, and waits until it has succeeded.
    pub(crate) async fn finish(self) {
        self.end.open();
        self.write.await.unwrap().unwrap();
    }
}
