//! Removal of rows in batches, each in a transaction of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::audit::{AuditAction, Change};
use domain::housekeeping::Pace;
use domain::webhooks::EventType;
use store::Write;
use telemetry::metrics::{HousekeepingKind, HousekeepingKindLabels, METRICS};
use tracing::{debug, info};

use crate::App;
use crate::audit::chain_state::ChainState;
use crate::audit::{AuditWriter, Origin, chain};
use crate::error::Error;
use crate::factors;
use crate::housekeeping::{Housekeeper, Interrupted};
use crate::outbox::Outbox;

/// The rows to remove: one kind of data, from before an instant.
#[derive(Clone, Copy)]
pub(super) enum Removal {
    /// Factors that were created before, and never verified.
    UnverifiedFactors(Timestamp),
    /// Challenges that expired before.
    Challenges(Timestamp),
    /// Access tokens that expired before.
    AccessTokens(Timestamp),
    /// Counted creations of factors from before.
    FactorCreations(Timestamp),
    /// Deliveries that finished before.
    Deliveries(Timestamp),
    /// Alerts from before.
    Alerts(Timestamp),
    /// Enrollment keys that were replaced before.
    EnrollmentKeys(Timestamp),
    /// Audit records from before.
    AuditRecords(Timestamp),
    /// Rows of deleted services and entities, of any age.
    Deleted,
}

/// A committed batch.
pub(super) struct Batch {
    pub(super) rows: usize,
    /// Time for which the transaction occupied the writer, including the commit.
    pub(super) took: Duration,
}

/// What a batch needs besides the transaction.
struct BatchContext {
    audit: AuditWriter,
    outbox: Outbox,
    chain: Arc<ChainState>,
    now: Timestamp,
}

/// The progress of a removal over its batches.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) removed: usize,
    longest_batch: Duration,
    pace: Pace,
}

impl Removal {
    /// Returns the label of the data in metrics and logs.
    const fn label(self) -> HousekeepingKind {
        match self {
            Self::UnverifiedFactors(_) => HousekeepingKind::UnverifiedFactors,
            Self::Challenges(_) => HousekeepingKind::Challenges,
            Self::AccessTokens(_) => HousekeepingKind::AccessTokens,
            Self::FactorCreations(_) => HousekeepingKind::FactorCreations,
            Self::Deliveries(_) => HousekeepingKind::Deliveries,
            Self::Alerts(_) => HousekeepingKind::Alerts,
            Self::EnrollmentKeys(_) => HousekeepingKind::EnrollmentKeys,
            Self::AuditRecords(_) => HousekeepingKind::AuditRecords,
            Self::Deleted => HousekeepingKind::Deleted,
        }
    }

    /// Returns the audit action of a batch. It is `None` for data whose removal is not recorded per batch.
    const fn audit_action(self) -> Option<AuditAction> {
        match self {
            Self::UnverifiedFactors(_) | Self::FactorCreations(_) | Self::AuditRecords(_) | Self::Deleted => {
                None
            }
            Self::Challenges(_) => Some(AuditAction::ChallengesRemoved),
            Self::AccessTokens(_) => Some(AuditAction::AccessTokensRemoved),
            Self::Deliveries(_) => Some(AuditAction::DeliveriesRemoved),
            Self::Alerts(_) => Some(AuditAction::AlertsRemoved),
            Self::EnrollmentKeys(_) => Some(AuditAction::EnrollmentKeysRemoved),
        }
    }

    /// Deletes at most `limit` rows; returns how many.
    async fn delete(self, tx: &mut Write, context: &BatchContext, limit: i64) -> Result<usize, Error> {
        Ok(match self {
            Self::UnverifiedFactors(before) => delete_unverified_factors(tx, context, before, limit).await?,
            Self::Challenges(before) => tx.delete_old_challenges(before, limit).await?,
            Self::AccessTokens(before) => tx.delete_old_access_tokens(before, limit).await?,
            Self::FactorCreations(before) => tx.delete_old_factor_creations(before, limit).await?,
            Self::Deliveries(before) => tx.delete_old_deliveries(before, limit).await?,
            Self::Alerts(before) => tx.delete_old_alerts(before, limit).await?,
            Self::EnrollmentKeys(before) => tx.delete_replaced_enrollment_keys(before).await?,
            Self::AuditRecords(before) => {
                chain::remove_old_records(tx, &context.chain, &context.audit, before, limit).await?
            }
            Self::Deleted => tx.remove_deleted(limit).await?,
        })
    }
}

/// Deletes unverified factors like a caller would: with an audit record and a webhook event for each.
async fn delete_unverified_factors(
    tx: &mut Write,
    context: &BatchContext,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let BatchContext { audit, outbox, now, .. } = context;
    let deleted = tx.delete_unverified_factors(before, limit).await?;
    for factor in &deleted {
        audit.record(tx, factors::about(AuditAction::FactorDeleted, factor)).await?;
        outbox.enqueue_webhooks(tx, EventType::FactorDeleted, factor, None, *now).await?;
    }
    Ok(deleted.len())
}

impl BatchContext {
    fn new(app: &App) -> Self {
        let now = app.now();
        let audit = app.audit(&Origin::housekeeping(), now);
        Self { audit, outbox: app.outbox.clone(), chain: Arc::clone(&app.chain), now }
    }
}

impl Progress {
    /// Returns the size of the next batch.
    pub(super) const fn batch_rows(&self) -> u32 {
        self.pace.rows()
    }

    /// Counts a batch, and adapts the size of the next one to the time that it took.
    pub(super) fn add(&mut self, removal: Removal, batch: &Batch) {
        let removed = METRICS
            .housekeeping_removed
            .get_or_create_owned(&HousekeepingKindLabels { kind: removal.label() });
        removed.inc_by(u64::try_from(batch.rows).unwrap_or(u64::MAX));
        self.removed += batch.rows;
        self.longest_batch = self.longest_batch.max(batch.took);
        self.pace = self.pace.after(batch.took);
    }

    /// Returns the duration of the longest batch, in milliseconds.
    pub(super) fn longest_batch_milliseconds(&self) -> u64 {
        u64::try_from(self.longest_batch.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Housekeeper {
    /// Removes all rows of `removal`, batch by batch.
    pub(super) async fn remove(&self, removal: Removal) -> Result<(), Interrupted> {
        let kind = removal.label().as_str();
        let mut progress = Progress::default();
        loop {
            let limit = progress.batch_rows();
            let batch = self.remove_batch(removal, limit).await?;
            progress.add(removal, &batch);
            debug!(kind, rows = batch.rows, took = batch.took.as_micros(), "batch of expired data removed");
            if batch.rows < limit as usize {
                break;
            }
            tokio::time::sleep(Pace::pause_after(batch.took)).await;
        }
        if progress.removed > 0 {
            let longest_batch = progress.longest_batch_milliseconds();
            info!(kind, removed = progress.removed, longest_batch, "expired data removed");
        }
        if progress.removed > 0 && matches!(removal, Removal::UnverifiedFactors(_)) {
            self.app.worker.notify();
        }
        Ok(())
    }

    /// Removes at most `limit` rows in one transaction.
    pub(super) async fn remove_batch(&self, removal: Removal, limit: u32) -> Result<Batch, Interrupted> {
        let (lease, context) = (self.lease()?, BatchContext::new(&self.app));
        let write = async move |tx: &mut Write| {
            if !lease.renew(tx).await? {
                return Ok(None);
            }
            // Start timing inside the transaction: time spent in the writer's queue does not block other writes.
            let began = Instant::now();
            let rows = removal.delete(tx, &context, i64::from(limit)).await?;
            if let Some(action) = removal.audit_action().filter(|_| rows > 0) {
                context.audit.record(tx, Change::of_server(action).detail("count", rows)).await?;
            }
            Ok::<_, Error>(Some((rows, began)))
        };
        let (rows, began) = self.app.store.write(write).await?.ok_or(Interrupted::OtherNode)?;
        Ok(Batch { rows, took: began.elapsed() })
    }
}
