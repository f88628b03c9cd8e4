//! Announcements between nodes that share a database: a commit on one node wakes the workers of all.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::App;

/// Shortest time between two announcements.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// Pause before a lost connection to the other nodes is opened again.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Background task: announces commits of this process to other nodes.
pub(crate) async fn announce(app: Arc<App>) {
    loop {
        app.worker.announcement_needed().await;
        if let Err(error) = app.store.announce().await {
            debug!("could not announce deliveries to other nodes: {error}");
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Background task: wakes the worker when another node announces a commit. While the connection is lost, the poll
/// interval of the worker bounds the delay.
pub(crate) async fn listen(app: Arc<App>) {
    loop {
        match app.store.announcements().await {
            Ok(None) => std::future::pending().await,
            Ok(Some(mut announcements)) => {
                while announcements.next().await.is_ok() {
                    app.worker.notify_local();
                }
            }
            Err(error) => debug!("could not listen for announcements of other nodes: {error}"),
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}
