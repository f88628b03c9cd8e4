//! Removal of the database rows of deleted services and entities.

use std::time::{Duration, Instant};

use domain::housekeeping::Pace;
use store::Read;
use tracing::info;

use crate::error::Error;
use crate::housekeeping::removal::{Progress, Removal};
use crate::housekeeping::{Housekeeper, Interrupted};

/// Minimum time between two log lines about the progress of a long removal.
const PROGRESS_LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Housekeeper {
    /// Removes the rows of all deleted services and entities in batches, then releases the lease. Does nothing if there
    /// are none.
    pub(super) async fn remove_deleted(&self) -> Result<(), Interrupted> {
        if self.count_deleted().await? == 0 {
            return Ok(());
        }
        let (began, mut logged) = (Instant::now(), Instant::now());
        let mut progress = Progress::default();
        loop {
            let batch = self.remove_batch(Removal::Deleted, progress.batch_rows()).await?;
            if batch.rows == 0 {
                break;
            }
            progress.add(Removal::Deleted, &batch);
            if logged.elapsed() >= PROGRESS_LOG_INTERVAL {
                logged = Instant::now();
                let left = self.count_deleted().await?;
                info!(removed = progress.removed, left, "removing deleted services and entities");
            }
            tokio::time::sleep(Pace::pause_after(batch.took)).await;
        }
        self.release_lease().await?;
        let longest_batch = progress.longest_batch_milliseconds();
        let seconds = began.elapsed().as_secs();
        info!(
            removed = progress.removed,
            longest_batch, seconds, "deleted services and entities were removed"
        );
        Ok(())
    }

    /// Returns the number of deleted services and entities whose rows have not been completely removed yet.
    async fn count_deleted(&self) -> Result<i64, Error> {
        self.app.store.read(async |db: &mut Read| Ok::<_, Error>(db.count_deleted().await?)).await
    }
}
