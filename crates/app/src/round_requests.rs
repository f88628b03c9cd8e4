//! Requests for a round of housekeeping before the next one is due.

use std::collections::BTreeMap;

use tokio::sync::{Mutex, mpsc, oneshot};

/// The number of rows that a round removed, by the kind of data.
pub type RemovedRows = BTreeMap<&'static str, usize>;

/// Requests for a round of retention before the next one is due.
pub(crate) struct RoundRequests {
    sender: mpsc::UnboundedSender<oneshot::Sender<RemovedRows>>,
    receiver: Mutex<mpsc::UnboundedReceiver<oneshot::Sender<RemovedRows>>>,
}

impl RoundRequests {
    /// Creates an empty queue of requests.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Requests a round, and returns what it removed. Returns `None` if the round failed, or if nothing handles requests.
    pub(crate) async fn send(&self) -> Option<RemovedRows> {
        let (reply, removed) = oneshot::channel();
        self.sender.send(reply).ok()?;
        removed.await.ok()
    }

    /// Waits for the next request.
    pub(crate) async fn next(&self) -> Option<oneshot::Sender<RemovedRows>> {
        self.receiver.lock().await.recv().await
    }
}
