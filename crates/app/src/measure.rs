//! What is measured when somebody reads the metrics, since nothing happens when it changes.

use std::time::Duration;

use domain::Timestamp;
use store::Read;
use telemetry::metrics::{Gauges, METRICS, Owed, Owing};
use tracing::debug;

use crate::App;
use crate::error::Error;

/// How long the database may take. Whoever asks for metrics wants them above all when it takes longer.
const PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Measures what is owed, what has expired since the last time, and how busy the database is. What can't be
    /// measured stays as it was.
    pub async fn measure(&self) {
        self.store.measure();
        // One at a time: each counts on from where the last one ended.
        let Ok(mut counted_until) = self.counted_until.try_lock() else { return };
        let now = self.clock.now();
        let measured = tokio::time::timeout(PATIENCE, self.look(*counted_until, now)).await;
        if let Ok(Ok(())) = measured {
            *counted_until = now;
        }
    }

    /// Measures how much room the database takes. This may take seconds, so it is not done for each request for
    /// metrics. What can't be measured stays as it was.
    pub async fn measure_size(&self) {
        match self.store.size().await {
            Ok(size) => {
                METRICS.database_size.set(saturating(size.database));
                METRICS.database_wal_size.set(saturating(size.write_ahead_log));
            }
            Err(error) => debug!("the size of the database was not measured: {}", Error::from(error).chain()),
        }
    }

    async fn look(&self, after: Timestamp, now: Timestamp) -> Result<(), Error> {
        let (owed, next_due, expired, deleted) = self
            .store
            .read(async move |db: &mut Read| {
                let (owed, next_due) = (db.owed().await?, db.next_due().await?);
                let expired = db.count_expired(after, now).await?;
                Ok::<_, Error>((owed, next_due, expired, db.count_deleted().await?))
            })
            .await?;
        for (kind, word) in [(Owed::Push, "push"), (Owed::Webhook, "webhook"), (Owed::Debugger, "debugger")] {
            let owed = owed.iter().find(|owed| owed.kind == word);
            let set = |gauges: &Gauges<Owing>, value| gauges.get_or_create(&Owing { kind }).set(value);
            set(&METRICS.deliveries_owed, owed.map_or(0, |owed| owed.deliveries));
            set(&METRICS.deliveries_oldest_owed_age, owed.map_or(0, |owed| seconds(owed.oldest, now)));
        }
        METRICS.deliveries_overdue.set(next_due.map_or(0, |due| seconds(due, now)));
        METRICS.challenges_expired.inc_by(expired);
        METRICS.deletions_pending.set(deleted);
        Ok(())
    }
}

/// A number of bytes as a gauge holds it.
fn saturating(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The whole seconds from one instant to another.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(from.until(to).as_secs()).unwrap_or(i64::MAX)
}
