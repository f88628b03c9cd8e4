//! Announcements between the nodes that share a database: a commit on one node wakes the delivery workers of all nodes.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::App;

/// Minimum time between two announcements of this process.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before reconnecting after the connection that receives announcements was lost.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Background task: notifies the other nodes when a commit of this process may have enqueued a delivery.
pub(crate) async fn announce(app: Arc<App>) {
    loop {
        app.worker.announcement_needed().await;
        if let Err(error) = app.store.announce().await {
            debug!("could not announce deliveries to other nodes: {error}");
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Background task: wakes this node's delivery worker when another node announces a commit. While the connection is
/// lost, the worker still finds the deliveries within its poll interval. If announcements are not available, the task
/// does nothing and never ends.
pub(crate) async fn listen(app: Arc<App>) {
    loop {
        match app.store.announcements().await {
            Ok(None) => std::future::pending().await,
            Ok(Some(mut announcements)) => {
                while announcements.next().await.is_ok() {
                    app.worker.notify_local();
                }
            }
            Err(error) => debug!("could not listen for announcements from other nodes: {error}"),
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}
