//! Requests for a round of housekeeping before the next one is due.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// Maximum number of requests that wait for their round.
const MAX_WAITING: usize = 16;

/// The number of rows that a round removed, by the kind of data.
pub type RemovedRows = BTreeMap<&'static str, usize>;

/// The end of a request to which the result is sent. If it is dropped, the round has failed.
pub(crate) type RoundReply = oneshot::Sender<RemovedRows>;

/// Requests for a round of retention before the next one is due.
pub(crate) struct RoundRequests {
    sender: mpsc::Sender<RoundReply>,
    receiver: Mutex<Option<mpsc::Receiver<RoundReply>>>,
}

impl RoundRequests {
    /// Creates an empty queue of requests.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Requests a round, waits for it, and returns what it removed. Returns `None` if the round failed, the task that
    /// handles requests has ended, or too many requests wait.
    pub(crate) async fn send(&self) -> Option<RemovedRows> {
        let (reply, removed) = oneshot::channel();
        self.sender.try_send(reply).ok()?;
        removed.await.ok()
    }

    /// Returns the queue, for the task that handles requests. Returns `None` to every task but the first.
    pub(crate) fn take(&self) -> Option<mpsc::Receiver<RoundReply>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
