//! Announcements between the nodes that share a database: a commit on one node wakes the delivery workers and the
//! streams of all nodes.

use std::sync::Arc;
use std::time::Duration;

use store::Announcements;
use tracing::debug;

use crate::App;

/// Minimum time between two announcements of this process.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before reconnecting after the connection that receives announcements was lost.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Background task: notifies the other nodes when a commit of this process has enqueued a delivery or changed a
/// resource.
pub(crate) async fn announce(app: Arc<App>) {
    loop {
        app.feed.announcement_requested().await;
        if let Err(error) = app.store.announce(app.announcement(), app.feed.tag).await {
            debug!("could not announce deliveries and changes to other nodes: {error}");
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Background task: wakes this node's delivery worker and its streams when another node announces a commit. While the
/// connection is lost, the worker still finds the deliveries within its poll interval, and streams find changes when
/// they read again. If announcements are not available, the task does nothing and never ends.
pub(crate) async fn listen(app: Arc<App>) {
    loop {
        match app.store.announcements(app.feed.tag).await {
            Ok(None) => std::future::pending().await,
            Ok(Some(announcements)) => receive(&app, announcements).await,
            Err(error) => debug!("could not listen for announcements from other nodes: {error}"),
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

/// Receives announcements until their connection is lost.
async fn receive(app: &App, mut announcements: Announcements) {
    // Announcements may have been missed before the connection was made.
    app.worker.notify_local();
    app.feed.wake_all();
    while let Ok(announcement) = announcements.next().await {
        if announcement.has_deliveries {
            app.worker.notify_local();
        }
        app.feed.receive(&announcement.changes);
    }
}
