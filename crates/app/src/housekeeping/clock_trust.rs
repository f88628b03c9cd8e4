//! Protection against clock jumps: retention pauses until the clock can be trusted again, because a wrong clock would
//! make it remove data too early.

use std::time::Duration;

use domain::Timestamp;
use domain::audit::{AuditAction, Change};
use domain::clock_trust::ClockRecord;
use store::Write;
use telemetry::metrics::METRICS;
use tracing::{error, info};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::housekeeping::{Housekeeper, Interrupted};

impl App {
    /// Declares the current time correct after a clock jump, so that housekeeping removes expired data again. Returns
    /// the current time.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn trust_clock(&self, origin: &Origin) -> Result<Timestamp, Error> {
        let now = self.now();
        let audit = self.audit(origin, now);
        let trust = async move |tx: &mut Write| {
            tx.set_clock_record(&ClockRecord::trusting(now)).await?;
            audit.record(tx, Change::of_server(AuditAction::ClockTrusted)).await
        };
        self.store.write(trust).await?;
        Ok(now)
    }
}

impl Housekeeper {
    /// Updates the stored clock record, and returns the current time if the clock can be trusted. Otherwise returns
    /// [`Interrupted::ClockDoubted`]. A round of retention uses the returned time throughout, so that a clock jump
    /// during the round has no effect.
    pub(super) async fn trusted_now(&self) -> Result<Timestamp, Interrupted> {
        if self.app.capture.is_some() {
            // The clock of a test server jumps because a test requests that.
            return Ok(self.app.now());
        }
        let (now, monotonic) = (self.app.now(), self.app.clock.monotonic());
        let (lease, written) = (self.lease()?, self.clock.get());
        let update = async move |tx: &mut Write| {
            if !lease.renew(tx).await? {
                return Ok(None);
            }
            let known = match tx.clock_record().await? {
                Some(known) => known,
                // Without a clock record, use the time of the newest audit record: a server was running at that time.
                None => ClockRecord::trusting(tx.newest_audit_record_at().await?.unwrap_or(now)),
            };
            let own = written.filter(|(record, _)| *record == known);
            // Truncate to whole microseconds, which is the precision of the clock record.
            let elapsed =
                own.map(|(_, at)| Duration::from_micros(monotonic.saturating_sub(at).as_micros() as u64));
            let record = known.after(now, elapsed);
            tx.set_clock_record(&record).await?;
            Ok::<_, Error>(Some(record))
        };
        let record = self.app.store.write(update).await?.ok_or(Interrupted::OtherNode)?;
        let previous = self.clock.replace(Some((record, monotonic)));
        METRICS.clock_doubted.set(i64::from(record.doubted.is_some()));
        let was_doubted = previous.is_some_and(|(record, _)| record.doubted.is_some());
        match (record.doubted.is_some(), was_doubted) {
            (true, false) => error!(
                clock = %now,
                expected = %record.expected_at(),
                "housekeeping removes nothing: the clock jumped, or no server ran for more than an hour; it resumes \
                 when the clock is right again, after six hours without a jump, or after `countersign clock trust`"
            ),
            (false, true) => info!(clock = %now, "housekeeping trusts the clock again"),
            _ => {}
        }
        if record.doubted.is_some() { Err(Interrupted::ClockDoubted) } else { Ok(now) }
    }
}
