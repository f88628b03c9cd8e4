//! Housekeeping: removes expired and deleted data, and warns about certificates that expire soon.
//!
//! There are two tasks, called duties, each of which runs on one node at a time: [`run_retention`] every minute, and
//! [`run_deletions`] when a service or an entity is deleted. The node that holds a duty's lease performs the duty, and
//! renews the lease in each transaction. If the node dies, another node takes over when the lease expires. Rows are
//! removed in small batches with pauses in between, so that other writes do not wait long
//! ([`Pace`](domain::housekeeping::Pace)).

mod certificates;
mod clock_trust;
mod deletions;
mod removal;
mod retention;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::clock_trust::ClockRecord;
use domain::housekeeping::Retention;
use store::Write;
use telemetry::metrics::{HousekeepingLabels, METRICS};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::App;
use crate::error::Error;
use crate::round_requests::{RemovedRows, RoundReply};

/// Pause between two rounds of a duty.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);

/// Delay before this node tries again to remove deleted data while another node does so.
const OTHER_NODE_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Duration of the retention lease, in seconds: if a node dies, another node takes over after this time.
const RETENTION_LEASE_SECONDS: i64 = 180;

/// Duration of the deletions lease, in seconds: if a node dies, another node takes over after this time. It can be
/// short, because the lease is renewed several times a second.
const DELETIONS_LEASE_SECONDS: i64 = 30;

impl App {
    /// Runs a whole round of retention now, and returns what it removed. Returns `None` if the round failed, or if the
    /// delivery worker does not run.
    pub async fn run_housekeeping(&self) -> Option<RemovedRows> {
        self.round_requests.send().await
    }
}

/// Background task: removes expired data every minute until shutdown, then releases the lease. `node` is the name of
/// this node as the lease holder.
pub(crate) async fn run_retention(
    app: Arc<App>,
    node: String,
    retention: Retention,
    mut stopped: watch::Receiver<bool>,
) {
    let housekeeper = Housekeeper::new(app, node, Duty::Retention, stopped.clone());
    let mut requests = housekeeper.app.round_requests.take();
    let mut requested: Option<RoundReply> = None;
    loop {
        let began = Instant::now();
        housekeeper.removed.take();
        let outcome = match housekeeper.apply_retention(retention).await {
            Ok(()) => {
                if let Some(reply) = requested.take() {
                    // The caller may have stopped waiting.
                    let _ = reply.send(housekeeper.removed.take());
                }
                METRICS.housekeeping_last_success_timestamp.set(housekeeper.app.now().seconds());
                METRICS.housekeeping_duration.observe(began.elapsed().as_secs_f64());
                telemetry::metrics::HousekeepingOutcome::Done
            }
            Err(Interrupted::OtherNode) => {
                debug!("another node runs housekeeping");
                telemetry::metrics::HousekeepingOutcome::OtherNode
            }
            Err(Interrupted::Stopped) => break,
            Err(Interrupted::ClockDoubted) => telemetry::metrics::HousekeepingOutcome::ClockDoubted,
            Err(Interrupted::Failed(fault)) => {
                error!("housekeeping failed: {}", fault.report());
                telemetry::metrics::HousekeepingOutcome::Failed
            }
        };
        METRICS.housekeeping_rounds.get_or_create(&HousekeepingLabels { outcome }).inc();
        // If the reply is still there, the round has failed. Dropping it ends the caller's wait.
        drop(requested.take());
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            request = next_request(requests.as_mut()) => requested = request,
        }
    }
    housekeeper.hand_over().await;
}

/// Waits for the next request for a round; forever if another task handles requests.
async fn next_request(requests: Option<&mut mpsc::Receiver<RoundReply>>) -> Option<RoundReply> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}

/// Background task: removes the rows of services and entities as soon as these are deleted, until shutdown. `node` is
/// the name of this node as the lease holder. The first run also removes what other nodes have left behind.
pub(crate) async fn run_deletions(app: Arc<App>, node: String, mut stopped: watch::Receiver<bool>) {
    let housekeeper = Housekeeper::new(app, node, Duty::Deletions, stopped.clone());
    loop {
        let wait = match housekeeper.remove_deleted().await {
            // Removing deleted data does not depend on the clock, so `ClockDoubted` never occurs here.
            Ok(()) | Err(Interrupted::ClockDoubted) => ROUND_INTERVAL,
            Err(Interrupted::OtherNode) => OTHER_NODE_RETRY_DELAY,
            Err(Interrupted::Stopped) => break,
            Err(Interrupted::Failed(fault)) => {
                error!("removal of deleted services and entities failed, will retry: {}", fault.report());
                ROUND_INTERVAL
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = housekeeper.app.deleted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    housekeeper.hand_over().await;
}

/// A housekeeping task that one node performs for all nodes.
#[derive(Clone, Copy)]
enum Duty {
    /// Removal of expired data, every minute.
    Retention,
    /// Removal of the rows of deleted services and entities, after each deletion.
    Deletions,
}

impl Duty {
    /// Returns the name of the duty's lease in the database.
    const fn lease_name(self) -> &'static str {
        match self {
            Self::Retention => "housekeeping",
            Self::Deletions => "removal",
        }
    }

    const fn lease_seconds(self) -> i64 {
        match self {
            Self::Retention => RETENTION_LEASE_SECONDS,
            Self::Deletions => DELETIONS_LEASE_SECONDS,
        }
    }
}

/// The reason a duty ended early.
#[derive(Debug)]
enum Interrupted {
    /// Another node holds the lease of the duty.
    OtherNode,
    /// This node is shutting down.
    Stopped,
    /// The clock has jumped, so the age of the data is unknown.
    ClockDoubted,
    /// The database failed, or the audit chain was altered.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A runner of one housekeeping duty on this node.
struct Housekeeper {
    app: Arc<App>,
    /// Name of this node as the lease holder.
    node: String,
    duty: Duty,
    /// Set to `true` at shutdown. It is checked only between transactions, because a transaction that was abandoned
    /// halfway could take the lease again after its release.
    stopped: watch::Receiver<bool>,
    /// The clock record that this node stored last, and the reading of the monotonic clock at that time.
    clock: Cell<Option<(ClockRecord, Duration)>>,
    /// What the current round has removed so far.
    removed: RefCell<RemovedRows>,
}

impl Housekeeper {
    fn new(app: Arc<App>, node: String, duty: Duty, stopped: watch::Receiver<bool>) -> Self {
        Self { app, node, duty, stopped, clock: Cell::default(), removed: RefCell::default() }
    }

    /// Returns the lease that the next transaction must renew, or the error [`Interrupted::Stopped`] at shutdown.
    fn lease(&self) -> Result<DutyLease, Interrupted> {
        if *self.stopped.borrow() {
            return Err(Interrupted::Stopped);
        }
        Ok(DutyLease { duty: self.duty, node: self.node.clone(), now: self.app.now() })
    }

    async fn release_lease(&self) -> Result<(), Error> {
        let (node, lease) = (self.node.clone(), self.duty.lease_name());
        self.app.store.write(async move |tx: &mut Write| Ok(tx.release_lease(lease, &node).await?)).await
    }

    /// Releases the lease at shutdown, so that another node can take over immediately.
    async fn hand_over(self) {
        if let Err(fault) = self.release_lease().await {
            debug!("could not release the housekeeping lease, it will expire: {}", fault.report());
        }
    }
}

/// The lease of a duty. Each transaction of the duty renews it.
struct DutyLease {
    duty: Duty,
    node: String,
    now: Timestamp,
}

impl DutyLease {
    /// Takes or renews the lease. Returns `false` if another node holds it.
    async fn renew(&self, tx: &mut Write) -> Result<bool, Error> {
        let expires_at = self.now.plus_seconds(self.duty.lease_seconds());
        Ok(tx.acquire_lease(self.duty.lease_name(), &self.node, self.now, expires_at).await?)
    }
}
