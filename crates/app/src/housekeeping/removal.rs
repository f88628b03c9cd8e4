//! Removal of rows in batches, each in its own transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::audit::{AuditAction, Change};
use domain::housekeeping::Pace;
use domain::verifications::Status;
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

/// The rows to remove: one kind of data, in most cases older than the given instant.
#[derive(Clone, Copy)]
pub(super) enum Removal {
    /// Factors that were created before this instant and are still unverified.
    UnverifiedFactors(Timestamp),
    /// Challenges that expired before this instant.
    Challenges(Timestamp),
    /// Open verifications whose validity ended before this instant. They are closed, not removed.
    ExpiredVerifications(Timestamp),
    /// Verifications that were closed before this instant, with their attempts.
    Verifications(Timestamp),
    /// Requests that rate limits stopped counting before this instant.
    BucketHits(Timestamp),
    /// Access tokens that expired before this instant.
    AccessTokens(Timestamp),
    /// Records of factor creations before this instant, which no longer count toward the daily limit per entity.
    FactorCreations(Timestamp),
    /// Deliveries that finished before this instant.
    Deliveries(Timestamp),
    /// Alerts that were raised before this instant.
    Alerts(Timestamp),
    /// Enrollment keys that were replaced by a newer key before this instant.
    EnrollmentKeys(Timestamp),
    /// Audit records that were written before this instant.
    AuditRecords(Timestamp),
    /// Rows of deleted services and entities, of any age.
    Deleted,
}

/// A batch of rows whose removal has been committed.
pub(super) struct Batch {
    pub(super) rows: usize,
    /// How long removing the rows took, without the commit.
    pub(super) worked: Duration,
    /// How long the transaction occupied the database writer, including the commit.
    pub(super) took: Duration,
}

/// The parts of the application that the removal of a batch needs besides the transaction.
struct BatchContext {
    audit: AuditWriter,
    chain: Arc<ChainState>,
    now: Timestamp,
}

/// The progress of a removal over all of its batches.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) removed: usize,
    longest_batch: Duration,
    pace: Pace,
}

impl Removal {
    /// Returns the kind of data, as a label for metrics and logs.
    const fn label(self) -> HousekeepingKind {
        match self {
            Self::UnverifiedFactors(_) => HousekeepingKind::UnverifiedFactors,
            Self::Challenges(_) => HousekeepingKind::Challenges,
            Self::ExpiredVerifications(_) => HousekeepingKind::ExpiredVerifications,
            Self::Verifications(_) => HousekeepingKind::Verifications,
            Self::BucketHits(_) => HousekeepingKind::BucketHits,
            Self::AccessTokens(_) => HousekeepingKind::AccessTokens,
            Self::FactorCreations(_) => HousekeepingKind::FactorCreations,
            Self::Deliveries(_) => HousekeepingKind::Deliveries,
            Self::Alerts(_) => HousekeepingKind::Alerts,
            Self::EnrollmentKeys(_) => HousekeepingKind::EnrollmentKeys,
            Self::AuditRecords(_) => HousekeepingKind::AuditRecords,
            Self::Deleted => HousekeepingKind::Deleted,
        }
    }

    /// Returns the action to record in the audit log for each batch, or `None` for data whose removal is not recorded
    /// per batch.
    const fn audit_action(self) -> Option<AuditAction> {
        match self {
            Self::UnverifiedFactors(_)
            | Self::ExpiredVerifications(_)
            | Self::BucketHits(_)
            | Self::FactorCreations(_)
            | Self::AuditRecords(_)
            | Self::Deleted => None,
            Self::Verifications(_) => Some(AuditAction::VerificationsRemoved),
            Self::Challenges(_) => Some(AuditAction::ChallengesRemoved),
            Self::AccessTokens(_) => Some(AuditAction::AccessTokensRemoved),
            Self::Deliveries(_) => Some(AuditAction::DeliveriesRemoved),
            Self::Alerts(_) => Some(AuditAction::AlertsRemoved),
            Self::EnrollmentKeys(_) => Some(AuditAction::EnrollmentKeysRemoved),
        }
    }

    /// Returns the maximum number of rows of a batch. The events of a verification need several statements, but only of
    /// some services, so the time of one batch says little about the next.
    const fn max_rows(self) -> u32 {
        match self {
            Self::ExpiredVerifications(_) => 200,
            _ => u32::MAX,
        }
    }

    /// Deletes at most `limit` rows, and returns how many were deleted. Enrollment keys are deleted without a limit.
    async fn delete(
        self,
        tx: &mut Write,
        outbox: &Outbox,
        context: &BatchContext,
        limit: i64,
    ) -> Result<usize, Error> {
        Ok(match self {
            Self::UnverifiedFactors(before) => {
                delete_unverified_factors(tx, outbox, context, before, limit).await?
            }
            Self::Challenges(before) => tx.delete_old_challenges(before, limit).await?,
            Self::ExpiredVerifications(before) => {
                close_expired_verifications(tx, outbox, context, before, limit).await?
            }
            Self::Verifications(before) => tx.delete_old_verifications(before, limit).await?,
            Self::BucketHits(before) => tx.delete_expired_bucket_hits(before, limit).await?,
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

/// Deletes at most `limit` unverified factors that were created before `before`, and returns how many were deleted. As
/// with a deletion through the API, each factor gets an audit record and a webhook event.
async fn delete_unverified_factors(
    tx: &mut Write,
    outbox: &Outbox,
    context: &BatchContext,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let BatchContext { audit, now, .. } = context;
    let deleted = tx.delete_unverified_factors(before, limit).await?;
    for factor in &deleted {
        audit.record(tx, factors::about(AuditAction::FactorDeleted, factor)).await?;
        outbox.enqueue_webhooks(tx, EventType::FactorDeleted, factor, None, *now).await?;
    }
    Ok(deleted.len())
}

/// Closes at most `limit` verifications whose validity ended before `before`, and returns how many were closed. Those
/// that were pending get an event.
async fn close_expired_verifications(
    tx: &mut Write,
    outbox: &Outbox,
    context: &BatchContext,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let closed = tx.close_expired_verifications(before, limit).await?;
    let mut services = HashMap::new();
    for verification in closed.iter().filter(|closed| closed.stored_status == Status::Expired) {
        let (account_sid, sid) = (verification.account_sid, verification.service_sid);
        if let Entry::Vacant(unknown) = services.entry(sid) {
            unknown.insert(tx.service(account_sid, sid).await?);
        }
        // A service that is being deleted sends no events.
        if let Some(Some(service)) = services.get(&sid) {
            outbox.enqueue_verification_event(tx, service, verification, false, context.now).await?;
        }
    }
    tx.forget_messages(closed.iter().map(|verification| verification.sid)).await?;
    Ok(closed.len())
}

impl BatchContext {
    fn new(app: &App) -> Self {
        let now = app.now();
        let audit = app.audit(&Origin::housekeeping(), now);
        Self { audit, chain: Arc::clone(&app.chain), now }
    }
}

impl Progress {
    /// Returns the maximum number of rows for the next batch.
    pub(super) const fn batch_rows(&self) -> u32 {
        self.pace.rows()
    }

    /// Adds a batch to the counts and the metrics, and adapts the size of the next batch to the time that this one
    /// took.
    pub(super) fn add(&mut self, removal: Removal, batch: &Batch) {
        let removed = METRICS
            .housekeeping_removed
            .get_or_create_owned(&HousekeepingKindLabels { kind: removal.label() });
        removed.inc_by(u64::try_from(batch.rows).unwrap_or(u64::MAX));
        self.removed += batch.rows;
        self.longest_batch = self.longest_batch.max(batch.took);
        self.pace = self.pace.after(batch.worked, batch.took);
    }

    /// Returns the duration of the longest batch, in milliseconds.
    pub(super) fn longest_batch_milliseconds(&self) -> u64 {
        u64::try_from(self.longest_batch.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Housekeeper {
    /// Removes all rows that `removal` selects, batch by batch.
    pub(super) async fn remove(&self, removal: Removal) -> Result<(), Interrupted> {
        let kind = removal.label().as_str();
        let mut progress = Progress::default();
        loop {
            let limit = progress.batch_rows().min(removal.max_rows());
            let batch = self.remove_batch(removal, limit).await?;
            progress.add(removal, &batch);
            debug!(kind, rows = batch.rows, took = batch.took.as_micros(), "batch of expired data removed");
            if batch.rows < limit as usize {
                break;
            }
            tokio::time::sleep(Pace::pause_after(batch.took)).await;
        }
        *self.removed.borrow_mut().entry(kind).or_default() += progress.removed;
        if progress.removed > 0 {
            let longest_batch = progress.longest_batch_milliseconds();
            info!(kind, removed = progress.removed, longest_batch, "expired data removed");
        }
        Ok(())
    }

    /// Removes at most `limit` rows in one transaction, which also renews the lease and writes the audit record.
    pub(super) async fn remove_batch(&self, removal: Removal, limit: u32) -> Result<Batch, Interrupted> {
        let (lease, context) = (self.lease()?, BatchContext::new(&self.app));
        let write = async move |tx: &mut Write, outbox: &Outbox| {
            if !lease.renew(tx).await? {
                return Ok(None);
            }
            // Start timing inside the transaction, because waiting in the writer's queue does not block other writes.
            let began = Instant::now();
            let rows = removal.delete(tx, outbox, &context, i64::from(limit)).await?;
            if let Some(action) = removal.audit_action().filter(|_| rows > 0) {
                context.audit.record(tx, Change::of_server(action).detail("count", rows)).await?;
            }
            Ok::<_, Error>(Some((rows, began, began.elapsed())))
        };
        let (rows, began, worked) = self.app.write_with_outbox(write).await?.ok_or(Interrupted::OtherNode)?;
        Ok(Batch { rows, worked, took: began.elapsed() })
    }
}
