//! Gauges that are computed at each scrape, because their values change without an event that could update them.

use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::Kind;
use store::Read;
use telemetry::metrics::{GaugeFamily, METRICS, PendingKind, PendingKindLabels};
use tracing::debug;

use crate::App;
use crate::error::Error;

/// Time limit for the database queries of each gauge. The metrics must stay readable, especially when the database is
/// slow.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The length of the period whose expired challenges one query counts, in seconds. It is short enough for the time
/// limit, even if the metrics were not read for hours.
const COUNTED_SECONDS: i64 = 300;

/// The maximum length of the time since the last count, in seconds.
const MAX_COUNTED_SECONDS: i64 = 30 * 86_400;

impl App {
    /// Refreshes the gauges of the database connections, pending deliveries and pending deletions, and counts the
    /// challenges that expired since the last call. A gauge that cannot be computed keeps its previous value.
    pub async fn refresh_gauges(&self) {
        self.store.refresh_gauges();
        // Only one call runs at a time, because each counts the challenges that expired since the previous call.
        let Ok(mut counted_until) = self.counted_until.try_lock() else { return };
        let now = self.clock.now();
        // Each has its own time limit, so that one that takes too long does not stop the others.
        let _ = tokio::time::timeout(QUERY_TIMEOUT, self.refresh_pending_deletions()).await;
        let _ = tokio::time::timeout(QUERY_TIMEOUT, self.refresh_pending_deliveries(now)).await;
        let _ =
            tokio::time::timeout(QUERY_TIMEOUT, self.count_expired_challenges(&mut counted_until, now)).await;
    }

    /// Refreshes the gauges of the database size. This may take seconds, so it does not run each time the metrics are
    /// read. A gauge that cannot be computed keeps its previous value.
    pub async fn refresh_size_gauges(&self) {
        match self.store.size().await {
            Ok(size) => {
                METRICS.database_size.set(gauge_value(size.database));
                METRICS.database_wal_size.set(gauge_value(size.write_ahead_log));
            }
            Err(error) => debug!("could not measure the database size: {}", Error::from(error).report()),
        }
    }

    async fn refresh_pending_deliveries(&self, now: Timestamp) -> Result<(), Error> {
        let read = async |db: &mut Read| {
            let next_due = db.next_delivery_due_at(Timestamp::MIN..=Timestamp::MAX, &[]).await?;
            Ok::<_, Error>((db.pending_deliveries().await?, next_due))
        };
        let (pending, next_due) = self.store.read(read).await?;
        let kinds = [
            (PendingKind::Push, Kind::Push),
            (PendingKind::Message, Kind::Message),
            (PendingKind::Webhook, Kind::Webhook),
            (PendingKind::VerificationEvent, Kind::VerificationEvent),
            (PendingKind::Debugger, Kind::Debugger),
        ];
        for (label, kind) in kinds {
            let pending = pending.iter().find(|pending| pending.kind == kind.as_str());
            let set = |gauges: &GaugeFamily<PendingKindLabels>, value| {
                gauges.get_or_create(&PendingKindLabels { kind: label }).set(value)
            };
            set(&METRICS.deliveries_owed, pending.map_or(0, |pending| pending.deliveries));
            set(
                &METRICS.deliveries_oldest_owed_age,
                pending.map_or(0, |pending| seconds_between(pending.oldest, now)),
            );
        }
        METRICS.deliveries_overdue.set(next_due.map_or(0, |due| seconds_between(due, now)));
        Ok(())
    }

    async fn refresh_pending_deletions(&self) -> Result<(), Error> {
        let deleted =
            self.store.read(async |db: &mut Read| Ok::<_, Error>(db.count_deleted().await?)).await?;
        METRICS.deletions_pending.set(deleted);
        Ok(())
    }

    /// Counts the challenges that expired unanswered since `counted_until`, and advances it. If it stops early, the
    /// next call continues.
    async fn count_expired_challenges(
        &self,
        counted_until: &mut Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        // The clock can be set back, or forward from the beginning of time. Older challenges have been removed anyway.
        *counted_until = (*counted_until).clamp(now.plus_seconds(-MAX_COUNTED_SECONDS), now);
        while *counted_until < now {
            let (after, until) = (*counted_until, counted_until.plus_seconds(COUNTED_SECONDS).min(now));
            let count = async move |db: &mut Read| Ok::<_, Error>(db.count_expired(after, until).await?);
            METRICS.challenges_expired.inc_by(self.store.read(count).await?);
            *counted_until = until;
        }
        Ok(())
    }
}

/// Converts a number of bytes to a gauge value, which is at most `i64::MAX`.
fn gauge_value(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Returns the number of whole seconds from one instant to another.
fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(from.until(to).as_secs()).unwrap_or(i64::MAX)
}
