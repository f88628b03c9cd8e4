//! Use cases of challenges: those that concern every type. The file of a type has the others.

mod passkey;
mod push;
mod totp;

use domain::audit::{AuditAction, Change};
use domain::challenges::{Answer, ChallengedKind};
use domain::limits::{ChallengeLimits, Window};
use domain::text::StringMap;
use domain::{
    Challenge, ChallengeSid, Code, EntityPath, EntityRef, Factor, FactorType, Page, PageRequest, Problem,
    Timestamp,
};
pub use store::ChallengeFilter;
use store::{Read, Write};
use telemetry::metrics::{AnswerLabels, METRICS};

use crate::App;
use crate::audit::Origin;
use crate::caller::BackendOrDevice;
pub use crate::challenges::passkey::PasskeySelection;
pub use crate::challenges::push::NewPushChallenge;
pub use crate::challenges::totp::NewTotpChallenge;
use crate::error::Error;
use crate::factors::{factor_label, factor_labels};

/// Length of the period over which a factor's new challenges are counted for the limit per minute, in seconds.
const CHALLENGE_LIMIT_SECONDS: i64 = 60;

impl App {
    /// Returns the challenge `sid` of the entity at `path`.
    ///
    /// # Errors
    /// Fails with 20404 if the challenge does not exist or the caller may not access it. Also fails if the database
    /// fails.
    pub async fn challenge(
        &self,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: ChallengeSid,
    ) -> Result<Challenge, Error> {
        caller.require_entity(&path)?;
        let challenge = self
            .store
            .read(async move |db: &mut Read| db.challenge(&path, sid).await?.ok_or_else(Error::not_found))
            .await?;
        caller.require_challenge(&challenge)?;
        Ok(challenge)
    }

    /// Returns one page of an entity's challenges, and the instant for which their status was computed. A device gets
    /// only the challenges for its own factor.
    ///
    /// # Errors
    /// Fails with 20404 if the caller may not access the entity, or if a device filters by any factor other than its
    /// own. Also fails if the database fails.
    pub async fn challenges(
        &self,
        caller: &BackendOrDevice,
        entity: &EntityRef,
        mut filter: ChallengeFilter,
        page: PageRequest,
    ) -> Result<(Page<Challenge>, Timestamp), Error> {
        caller.require_entity(&entity.path)?;
        if let Some(factor_sid) = filter.factor_sid {
            caller.require_factor(factor_sid)?;
        }
        if let BackendOrDevice::Device(factor) = caller {
            filter.factor_sid = Some(factor.sid);
        }
        let (entity_sid, now) = (entity.sid, self.clock.now());
        self.store
            .read(async move |db: &mut Read| Ok((db.challenges(entity_sid, filter, &page, now).await?, now)))
            .await
    }

    /// Replaces the metadata of a challenge of the entity at `path`, and returns the updated challenge.
    ///
    /// # Errors
    /// Fails with 20404 if the caller may not access the challenge, or if the challenge was deleted after it was read.
    /// Also fails if the database fails.
    pub async fn set_challenge_metadata<Kind: ChallengedKind>(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        challenge: &Challenge<Kind>,
        metadata: StringMap,
    ) -> Result<Challenge, Error> {
        caller.require_challenge(challenge)?;
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let sid = challenge.sid;
        let written = self.store.write(async move |tx: &mut Write| {
            let written = tx.set_challenge_metadata(&path, sid, &metadata, now).await?;
            let written = written.ok_or_else(Error::not_found)?;
            let change = about(AuditAction::ChallengeUpdated, &written).detail("changed", ["metadata"]);
            audit.record(tx, change).await?;
            Ok::<_, Error>(written)
        });
        let written = written.await?;
        self.touch_challenge(&written);
        Ok(written)
    }
}

/// Counts a new challenge in the metrics. Call this after the commit.
fn count_creation(factor_type: FactorType) {
    METRICS.challenges_created.get_or_create(&factor_labels(factor_type)).inc();
}

/// Counts the answer to a challenge in the metrics. Call this after the commit.
fn count_answer<Kind: ChallengedKind>(answer: Answer, challenge: &Challenge<Kind>, now: Timestamp) {
    let answer = match answer {
        Answer::Approved => telemetry::metrics::ChallengeAnswer::Approved,
        Answer::Denied => telemetry::metrics::ChallengeAnswer::Denied,
    };
    let factor_type = factor_label(challenge.factor_type());
    METRICS.challenges_answered.get_or_create(&AnswerLabels { factor_type, answer }).inc();
    METRICS.challenge_answer_time.observe(challenge.created_at.until(now).as_secs_f64());
}

/// Returns the change to record in the audit log for an action on a challenge.
fn about<Kind: ChallengedKind>(action: AuditAction, challenge: &Challenge<Kind>) -> Change {
    let change = Change::new(action, challenge.account_sid, challenge.sid);
    let change = change.detail("service_sid", challenge.service_sid);
    match challenge.target() {
        Some(target) => change.detail("factor_sid", target.factor_sid),
        None => change,
    }
}

/// Checks that a factor may get one more challenge within its `limits` and the mandatory `windows`. If any limit or
/// window applies, the caller must have locked the factor.
///
/// # Errors
/// Fails with 60312 if a limit is reached. If several are reached, `Retry-After` is the longest wait, so that a retry
/// at that time passes all limits. Also fails if the database fails.
async fn limit_challenges<Kind>(
    tx: &mut Write,
    factor: &Factor<Kind>,
    limits: ChallengeLimits,
    windows: &[Window],
    now: Timestamp,
) -> Result<(), Error> {
    let mut refusals = Vec::new();
    if let Some(most) = limits.pending
        && let Some(end) = tx.next_pending_slot_at(factor.entity_sid, factor.sid, most, now).await?
    {
        let advice = format_args!("{most} challenges are pending; wait until one is answered or expires");
        refusals.push(Problem::with_advice(Code::TooManyChallenges, advice).retry_at(end, now));
    }
    let per_minute = limits.per_minute.map(|most| Window::new(most, CHALLENGE_LIMIT_SECONDS));
    for window in windows.iter().copied().chain(per_minute) {
        let (entity_sid, span) = (factor.entity_sid, window.span(now));
        let back = tx.nth_latest_challenge_created_at(entity_sid, factor.sid, span, window.most()).await?;
        refusals.extend(window.check(back, now, Code::TooManyChallenges).err());
    }
    match refusals.into_iter().max_by_key(Problem::retry_after) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}
