//! Use cases of push challenges: create and answer.

use crypto::Jws;
use domain::audit::AuditAction;
use domain::challenges::{
    Answer, AnswerDigest, Details, Field, Message, PushChallenge, State, Target, resolve_expiration,
};
use domain::factors::PushFactor;
use domain::parameter::Expected;
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Challenge, ChallengeSid, Code, EntityPath, Factor, FactorSid, FactorType, Problem, Service, Timestamp,
};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::{Backend, BackendOrDevice};
use crate::challenges::{about, count_answer, count_creation, limit_challenges};
use crate::error::Error;
use crate::outbox::{Outbox, PUSH_TTL_SECONDS};

/// The parameters of a new push challenge.
#[derive(Clone, Debug)]
pub struct NewPushChallenge {
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

impl NewPushChallenge {
    /// Builds the pending challenge for `factor`, without storing it.
    fn to_challenge(
        &self,
        sid: ChallengeSid,
        service: &Service,
        factor: &Factor<PushFactor>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Challenge<PushChallenge> {
        Challenge {
            sid,
            account_sid: factor.account_sid,
            service_sid: factor.service_sid,
            state: State::Pending,
            metadata: None,
            expires_at,
            created_at: now,
            updated_at: now,
            kind: PushChallenge {
                target: Target::of(factor),
                details: Details {
                    message: self.message.clone(),
                    fields: self.fields.clone(),
                    date: service.settings.push.include_date.then_some(now),
                },
                hidden_details: self.hidden_details.clone(),
            },
        }
    }
}

impl App {
    /// Creates a challenge for a verified push factor, enqueues its push, and returns the challenge.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 60306 if the expiration time is not allowed, or if the details are so long that they leave no room for a
    ///   signed answer.
    /// - 20404 if the service or the factor does not exist; 60318 if the factor is not verified.
    /// - 60312 if the factor has reached one of its limits on challenges.
    ///
    /// Also fails if the database fails.
    pub async fn create_push_challenge(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
        new: NewPushChallenge,
    ) -> Result<Challenge<PushChallenge>, Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let expires_at = resolve_expiration(new.expires_at, now)?;
        let sid = ChallengeSid::generate(FactorType::Push, now, self.entropy.as_ref());
        let server_limits = self.limits.challenges;
        let audit = self.audit(origin, now);
        let challenge = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let service =
                    tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                let limits = service.limits.resolve(server_limits);
                let factor = match limits.is_none() {
                    true => tx.lock_push_factor_shared(&path, new.factor_sid).await?,
                    // The lock must be exclusive, so that concurrent requests are counted one after another.
                    false => tx.lock_push_factor(&path, new.factor_sid).await?,
                };
                let factor = factor.ok_or_else(Error::not_found)?;
                factor.require_verified()?;
                limit_challenges(tx, &factor, limits, &[], now).await?;
                let challenge = new.to_challenge(sid, &service, &factor, expires_at, now);
                challenge.check_answer_length()?;
                tx.insert_push_challenge(&challenge).await?;
                audit.record(tx, about(AuditAction::ChallengeCreated, &challenge)).await?;
                outbox.enqueue_push(tx, &challenge, &factor, None, PUSH_TTL_SECONDS, now).await?;
                Ok::<_, Error>(challenge)
            })
            .await?;
        self.touch_challenge(&challenge);
        count_creation(FactorType::Push);
        if let Some(capture) = &self.capture {
            capture.challenge_created(&challenge);
        }
        Ok(challenge)
    }

    /// Answers a push challenge with the device's signed payload, and sets the challenge's metadata if any is given.
    /// Returns the answered challenge. If several answers arrive concurrently, exactly one is accepted.
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
    pub async fn answer_push_challenge(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        challenge: Challenge<PushChallenge>,
        payload: &str,
        metadata: Option<StringMap>,
    ) -> Result<Challenge<PushChallenge>, Error> {
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
        if !jws.verify(&factor.kind.public_key) {
            let advice = "AuthPayload must be an ES256 JWS signed with the challenged factor's key";
            return Err(Problem::with_advice(Code::ChallengeVerificationFailed, advice).into());
        }
        let answer = challenge.parse_answer(jws.claims(), now)?;
        let audit = self.audit(origin, now);
        let written = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let Some(mut answered) = tx.answer_push_challenge(sid, answer, digest, now).await? else {
                    return current_state(tx, &path, sid, digest, now).await;
                };
                if let Some(metadata) = &metadata {
                    let written = tx.set_challenge_metadata(&path, sid, metadata, now).await?;
                    let written = written.ok_or_else(Error::not_found)?;
                    (answered.metadata, answered.updated_at) = (written.metadata, written.updated_at);
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
                self.touch_challenge(&challenge);
                count_answer(answer, &challenge, now);
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
        challenge: &Challenge<PushChallenge>,
    ) -> Result<Factor<PushFactor>, Error> {
        if let BackendOrDevice::Device(factor) = caller {
            return Ok((**factor).clone());
        }
        let (path, factor_sid) = (challenge.path(), challenge.kind.target.factor_sid);
        let factor = self
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.push_factor(&path, factor_sid).await?))
            .await?;
        factor.ok_or_else(|| Code::ChallengeExpired.into())
    }
}

/// The result of an attempt to store an answer; both variants contain the challenge in its current state.
enum Written {
    /// The answer was stored now.
    Answered(Challenge<PushChallenge>),
    /// The same payload had been accepted before, so nothing was changed.
    Repeated(Challenge<PushChallenge>),
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
    let current = tx.push_challenge(path, sid).await?.ok_or_else(Error::not_found)?;
    if tx.is_answered_by(sid, digest).await? {
        return Ok(Written::Repeated(current));
    }
    current.require_pending(now)?;
    Err(Code::ChallengeExpired.into())
}

fn not_a_jws() -> Problem {
    let expected =
        Expected::new("must be a compact JWS of at most 5456 characters with JSON in its first two parts");
    Problem::invalid("AuthPayload", &expected)
}
