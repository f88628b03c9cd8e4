//! Rounds of retention, each of which removes all expired data.

use domain::Timestamp;
use domain::housekeeping::Retention;
use tracing::error;

use crate::enrollment_keys::KEY_OVERLAP_SECONDS;
use crate::housekeeping::removal::Removal;
use crate::housekeeping::{Housekeeper, Interrupted};

/// How long the record of a factor creation is kept for the daily limit per entity, in seconds: one day, plus one hour
/// because the clocks of the nodes may differ.
const FACTOR_CREATION_SECONDS: i64 = 25 * 3600;

/// How much the clocks of the nodes may differ, in seconds.
const CLOCK_DIFFERENCE_SECONDS: i64 = 60;

impl Housekeeper {
    /// Raises alerts about push certificates that expire soon, and removes all expired data. If one kind of data cannot
    /// be removed, the other kinds are removed nevertheless. The first failure is returned, and all others are logged.
    pub(super) async fn apply_retention(&self, retention: Retention) -> Result<(), Interrupted> {
        let now = self.trusted_now().await?;
        let warned = self.warn_about_certificates().await;
        if let Err(Interrupted::OtherNode | Interrupted::Stopped) = warned {
            return warned;
        }
        let mut outcomes = vec![warned];
        for removal in removals(retention, now) {
            outcomes.push(self.remove(removal).await);
        }
        let mut interrupted = outcomes.into_iter().filter_map(Result::err);
        let first = interrupted.next();
        for other in interrupted {
            if let Interrupted::Failed(fault) = other {
                error!("housekeeping failed: {}", fault.report());
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Returns the removals of all data that has expired at `now`.
fn removals(retention: Retention, now: Timestamp) -> Vec<Removal> {
    let before = |seconds: i64| now.plus_seconds(-seconds);
    let mut removals = vec![
        Removal::UnverifiedFactors(before(retention.unverified_factors)),
        Removal::Challenges(before(retention.challenges)),
        Removal::ExpiredVerifications(before(CLOCK_DIFFERENCE_SECONDS)),
        Removal::Verifications(before(retention.challenges)),
        Removal::BucketHits(before(CLOCK_DIFFERENCE_SECONDS)),
        Removal::AccessTokens(before(retention.access_tokens)),
        Removal::FactorCreations(before(FACTOR_CREATION_SECONDS)),
        Removal::Deliveries(before(retention.deliveries)),
        Removal::Alerts(before(retention.deliveries)),
        Removal::EnrollmentKeys(before(KEY_OVERLAP_SECONDS)),
    ];
    removals.extend(retention.audit_log.map(|seconds| Removal::AuditRecords(before(seconds))));
    removals
}
