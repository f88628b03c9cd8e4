//! Use cases of challenges: create, fetch, list, answer, and set the metadata.

use crypto::Jws;
use domain::audit::{AuditAction, Change};
use domain::challenges::{Answer, AnswerDigest, Details, Field, Message, State, resolve_expiration};
use domain::limits::{ChallengeLimits, Window};
use domain::parameter::Expected;
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Challenge, ChallengeSid, Code, EntityPath, EntityRef, Factor, FactorSid, FactorType, Page, PageRequest,
    Problem, Service, Timestamp,
};
pub use store::ChallengeFilter;
use store::{Read, Write};
use telemetry::metrics::{AnswerLabels, METRICS};

use crate::App;
use crate::audit::Origin;
use crate::caller::{Backend, BackendOrDevice};
use crate::error::Error;
use crate::outbox::PUSH_TTL_SECONDS;

/// Length of the period over which a factor's new challenges are counted for the limit per minute, in seconds.
const CHALLENGE_LIMIT_SECONDS: i64 = 60;

/// The parameters of a new push challenge.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// SID of the factor whose device should answer the challenge.
    pub factor_sid: FactorSid,
    /// The question that the device shows to the user.
    pub message: Message,
    /// Labeled details that the device shows together with the question.
    pub fields: Vec<Field>,
    /// Details that the device signs but does not show to the user.
    pub hidden_details: Option<StringMap>,
    /// When the challenge expires, or `None` for the default of five minutes after its creation.
    pub expires_at: Option<Timestamp>,
}

impl NewChallenge {
    /// Builds the pending challenge for `factor`, without storing it.
    fn to_challenge(
        &self,
        sid: ChallengeSid,
        service: &Service,
        factor: &Factor,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Challenge {
        Challenge {
            sid,
            account_sid: factor.account_sid,
            service_sid: factor.service_sid,
            entity_sid: factor.entity_sid,
            identity: factor.identity.clone(),
            factor_sid: factor.sid,
            state: State::Pending,
            details: Details {
                message: self.message.clone(),
                fields: self.fields.clone(),
                date: service.settings.push.include_date.then_some(now),
            },
            hidden_details: self.hidden_details.clone(),
            metadata: None,
            expires_at,
            created_at: now,
            updated_at: now,
        }
    }
}

impl App {
    /// Creates a challenge for a verified factor, enqueues its push, and returns the challenge.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 60306 if the expiration time is not allowed, or if the details are so long that they leave no room for a
    ///   signed answer.
    /// - 20404 if the service or the factor does not exist; 60318 if the factor is not verified.
    /// - 60312 if the factor has reached one of its limits on challenges.
    ///
    /// Also fails if the database fails.
    pub async fn create_challenge(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
        new: NewChallenge,
    ) -> Result<Challenge, Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let expires_at = resolve_expiration(new.expires_at, now)?;
        let sid = ChallengeSid::generate(FactorType::Push, now, self.entropy.as_ref());
        let (outbox, server_limits) = (self.outbox.clone(), self.limits.challenges);
        let audit = self.audit(origin, now);
        let challenge = self
            .store
            .write(async move |tx: &mut Write| {
                let service =
                    tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                let limits = service.limits.resolve(server_limits);
                let factor = match limits.is_none() {
                    true => tx.lock_factor_shared(&path, new.factor_sid).await?,
                    // The lock must be exclusive, so that concurrent requests are counted one after another.
                    false => tx.lock_factor(&path, new.factor_sid).await?,
                };
                let factor = factor.ok_or_else(Error::not_found)?;
                factor.require_verified()?;
                limit_challenges(tx, &factor, limits, now).await?;
                let challenge = new.to_challenge(sid, &service, &factor, expires_at, now);
                challenge.check_answer_length()?;
                tx.insert_challenge(&challenge).await?;
                audit.record(tx, about(AuditAction::ChallengeCreated, &challenge)).await?;
                outbox.enqueue_push(tx, &challenge, &factor, None, PUSH_TTL_SECONDS, now).await?;
                Ok::<_, Error>(challenge)
            })
            .await?;
        METRICS.challenges_created.inc();
        self.worker.notify();
        Ok(challenge)
    }

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

    /// Answers a challenge with the device's signed payload, and sets the challenge's metadata if any is given. Returns
    /// the answered challenge. If several answers arrive concurrently, exactly one is accepted.
    ///
    /// HTTP clients repeat a request whose connection failed, so the accepted payload may arrive again. In that case,
    /// the challenge is returned and nothing changes (docs/protocol/decisions.md, No. 30).
    ///
    /// `challenge` is the challenge as it was read earlier. Its current state is checked again when the answer is
    /// written.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the caller may not answer the challenge.
    /// - 60306 if the payload is not a JWS; 60324 if its signature is invalid or it does not match the challenge.
    /// - 60322 if the challenge has already been answered; 60323 if it has expired.
    ///
    /// Also fails if the database fails. On any error, nothing is changed.
    pub async fn answer_challenge(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        challenge: Challenge,
        payload: &str,
        metadata: Option<StringMap>,
    ) -> Result<Challenge, Error> {
        caller.require_challenge(&challenge)?;
        let now = self.clock.now();
        let jws = Jws::parse(payload).ok_or_else(not_a_jws)?;
        let digest = crypto::answer_digest(payload);
        let (sid, path) = (challenge.sid, challenge.path());
        let is_answered_by = async move |db: &mut Read| Ok::<_, Error>(db.is_answered_by(sid, digest).await?);
        if challenge.responded_at().is_some() && self.store.read(is_answered_by).await? {
            return Ok(challenge);
        }
        challenge.require_pending(now)?;
        let factor = self.factor_to_answer_with(caller, &challenge).await?;
        if !jws.verify(&factor.public_key) {
            let advice = "AuthPayload must be an ES256 JWS signed with the challenged factor's key";
            return Err(Problem::with_advice(Code::ChallengeVerificationFailed, advice).into());
        }
        let answer = challenge.parse_answer(jws.claims(), now)?;
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let written = self
            .store
            .write(async move |tx: &mut Write| {
                let Some(mut answered) = tx.answer_challenge(sid, answer, digest, now).await? else {
                    return current_state(tx, &path, sid, digest, now).await;
                };
                if let Some(metadata) = &metadata {
                    let written = tx.set_challenge_metadata(&path, sid, metadata, now).await?;
                    answered = written.ok_or_else(Error::not_found)?;
                }
                let (action, event_type) = match answer {
                    Answer::Approved => (AuditAction::ChallengeApproved, EventType::ChallengeApproved),
                    Answer::Denied => (AuditAction::ChallengeDenied, EventType::ChallengeDenied),
                };
                audit.record(tx, about(action, &answered)).await?;
                outbox.enqueue_webhooks(tx, event_type, &factor, Some(&answered), now).await?;
                Ok::<_, Error>(Written::Answered(answered))
            })
            .await?;
        match written {
            Written::Repeated(challenge) => Ok(challenge),
            Written::Answered(challenge) => {
                count_answer(answer, &challenge, now);
                self.worker.notify();
                Ok(challenge)
            }
        }
    }

    /// Returns the factor that must have signed the answer to `challenge`. A device may answer only challenges to its
    /// own factor, which was read when the device was authenticated.
    ///
    /// # Errors
    /// Fails with 60323 if the factor was deleted after the challenge was read, because deleting a factor voids its
    /// challenges. Also fails if the database fails.
    async fn factor_to_answer_with(
        &self,
        caller: &BackendOrDevice,
        challenge: &Challenge,
    ) -> Result<Factor, Error> {
        if let BackendOrDevice::Device(factor) = caller {
            return Ok((**factor).clone());
        }
        let (path, factor_sid) = (challenge.path(), challenge.factor_sid);
        let factor = self
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.factor(&path, factor_sid).await?))
            .await?;
        factor.ok_or_else(|| Code::ChallengeExpired.into())
    }

    /// Replaces the metadata of a challenge, and returns the updated challenge.
    ///
    /// # Errors
    /// Fails with 20404 if the caller may not access the challenge, or if the challenge was deleted after it was read.
    /// Also fails if the database fails.
    pub async fn set_challenge_metadata(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        challenge: &Challenge,
        metadata: StringMap,
    ) -> Result<Challenge, Error> {
        caller.require_challenge(challenge)?;
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let (path, sid) = (challenge.path(), challenge.sid);
        self.store
            .write(async move |tx: &mut Write| {
                let written = tx.set_challenge_metadata(&path, sid, &metadata, now).await?;
                let written = written.ok_or_else(Error::not_found)?;
                let change = about(AuditAction::ChallengeUpdated, &written).detail("changed", ["metadata"]);
                audit.record(tx, change).await?;
                Ok(written)
            })
            .await
    }
}

/// The result of an attempt to store an answer; both variants contain the challenge in its current state.
enum Written {
    /// The answer was stored now.
    Answered(Challenge),
    /// The same payload had been accepted before, so nothing was changed.
    Repeated(Challenge),
}

/// Determines the response if the answer could not be stored because another request changed the challenge first.
/// Returns [`Written::Repeated`] if that request carried the same payload; otherwise fails with the error for the
/// challenge's current state.
async fn current_state(
    tx: &mut Write,
    path: &EntityPath,
    sid: ChallengeSid,
    digest: AnswerDigest,
    now: Timestamp,
) -> Result<Written, Error> {
    let current = tx.challenge(path, sid).await?.ok_or_else(Error::not_found)?;
    if tx.is_answered_by(sid, digest).await? {
        return Ok(Written::Repeated(current));
    }
    current.require_pending(now)?;
    Err(Code::ChallengeExpired.into())
}

fn count_answer(answer: Answer, challenge: &Challenge, now: Timestamp) {
    let answer = match answer {
        Answer::Approved => telemetry::metrics::ChallengeAnswer::Approved,
        Answer::Denied => telemetry::metrics::ChallengeAnswer::Denied,
    };
    METRICS.challenges_answered.get_or_create(&AnswerLabels { answer }).inc();
    METRICS.challenge_answer_time.observe(challenge.created_at.until(now).as_secs_f64());
}

/// Returns the change to record in the audit log for an action on a challenge.
fn about(action: AuditAction, challenge: &Challenge) -> Change {
    let change = Change::new(action, challenge.account_sid, challenge.sid);
    change.detail("service_sid", challenge.service_sid).detail("factor_sid", challenge.factor_sid)
}

fn not_a_jws() -> Problem {
    let expected =
        Expected::new("must be a compact JWS of at most 5456 characters with JSON in its first two parts");
    Problem::invalid("AuthPayload", &expected)
}

/// Checks that a factor may get one more challenge within its `limits`. If there are any limits, the calling function
/// must have locked the factor.
///
/// # Errors
/// Fails with 60312 if a limit is reached. If both are reached, `Retry-After` is the longer of the two waits, so that a
/// retry at that time passes both limits. Also fails if the database fails.
async fn limit_challenges(
    tx: &mut Write,
    factor: &Factor,
    limits: ChallengeLimits,
    now: Timestamp,
) -> Result<(), Error> {
    let mut refusals = Vec::new();
    if let Some(most) = limits.pending
        && let Some(end) = tx.next_pending_slot_at(factor.entity_sid, factor.sid, most, now).await?
    {
        let advice = format_args!("{most} challenges are pending; wait until one is answered or expires");
        refusals.push(Problem::with_advice(Code::TooManyChallenges, advice).retry_at(end, now));
    }
    if let Some(most) = limits.per_minute {
        let window = Window::new(most, CHALLENGE_LIMIT_SECONDS);
        let (entity_sid, span) = (factor.entity_sid, window.span(now));
        let back = tx.nth_latest_challenge_created_at(entity_sid, factor.sid, span, window.most()).await?;
        refusals.extend(window.check(back, now, Code::TooManyChallenges).err());
    }
    match refusals.into_iter().max_by_key(Problem::retry_after) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}
