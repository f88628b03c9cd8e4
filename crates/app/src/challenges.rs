//! Challenges: the question, and the one answer.

use crypto::Jws;
use domain::audit::{Act, Change};
use domain::challenges::{Answer, Details, Field, Message, State, expiry};
use domain::limits::{ChallengeLimits, Window};
use domain::parameter::Expected;
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Challenge, ChallengeSid, Code, EntityPath, EntitySid, FactorSid, FactorType, Page, PageRequest, Problem,
    Timestamp,
};
pub use store::Filter;
use store::{Read, Write};
use telemetry::metrics::{Answered, METRICS};

use crate::App;
use crate::audit::Origin;
use crate::caller::Caller;
use crate::error::Error;
use crate::outbox::PUSH_TTL;

/// A push challenge as it is asked for.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// Who is asked.
    pub factor_sid: FactorSid,
    /// The question.
    pub message: Message,
    /// The facts beside it.
    pub fields: Vec<Field>,
    /// What is signed but not shown.
    pub hidden_details: Option<StringMap>,
    /// Until when; five minutes when `None`.
    pub expires_at: Option<Timestamp>,
}

impl App {
    /// Asks a verified factor.
    ///
    /// # Errors
    /// 60306 for an expiry that can't be and for details that leave no room for an answer, 20404 without the factor, 60318 while it is unverified, 60312
    /// when it has as many as it may; when the database fails.
    pub async fn create_challenge(
        &self,
        origin: &Origin,
        path: EntityPath,
        new: NewChallenge,
    ) -> Result<Challenge, Error> {
        let now = self.clock.now();
        let expires_at = expiry(new.expires_at, now)?;
        let sid = ChallengeSid::generate(FactorType::Push, now, self.entropy.as_ref());
        let (outbox, server_limits) = (self.outbox.clone(), self.limits.challenges);
        let audit = self.audit(origin, now);
        let challenge = self
            .store
            .write(async move |tx: &mut Write| {
                let service =
                    tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                let limits = service.limits.over(server_limits);
                let factor = match limits.is_none() {
                    true => tx.hold_factor(&path, new.factor_sid).await?,
                    // Held alone, so that those who ask at once are counted one after the other.
                    false => tx.lock_factor(&path, new.factor_sid).await?,
                };
                let factor = factor.ok_or_else(Error::not_found)?;
                factor.challengeable()?;
                limit_challenges(tx, factor.sid, limits, now).await?;
                let challenge = Challenge {
                    sid,
                    account_sid: factor.account_sid,
                    service_sid: factor.service_sid,
                    entity_sid: factor.entity_sid,
                    identity: factor.identity.clone(),
                    factor_sid: factor.sid,
                    state: State::Pending,
                    details: Details {
                        message: new.message.clone(),
                        fields: new.fields.clone(),
                        date: service.settings.push.include_date.then_some(now),
                    },
                    hidden_details: new.hidden_details.clone(),
                    metadata: None,
                    expires_at,
                    created_at: now,
                    updated_at: now,
                };
                challenge.fits_into_an_answer()?;
                tx.insert_challenge(&challenge).await?;
                audit.note(tx, about(Act::ChallengeCreated, &challenge)).await?;
                outbox.owe_push(tx, &challenge, &factor, None, PUSH_TTL, now).await?;
                Ok::<_, Error>(challenge)
            })
            .await?;
        METRICS.challenges_created.inc();
        self.wake.ring();
        Ok(challenge)
    }

    /// A challenge.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn challenge(
        &self,
        caller: &Caller,
        path: EntityPath,
        sid: ChallengeSid,
    ) -> Result<Challenge, Error> {
        let challenge = self
            .store
            .read(async move |db: &mut Read| db.challenge(&path, sid).await?.ok_or_else(Error::not_found))
            .await?;
        caller.concerns(challenge.factor_sid)?;
        Ok(challenge)
    }

    /// The challenges of an entity; a device sees those to its own factor. Returned with the instant at
    /// which their status was computed.
    ///
    /// # Errors
    /// 20404 when a device asks for another factor's; when the database fails.
    pub async fn challenges(
        &self,
        caller: &Caller,
        entity_sid: EntitySid,
        mut filter: Filter,
        page: PageRequest,
    ) -> Result<(Page<Challenge>, Timestamp), Error> {
        let now = self.clock.now();
        if let Some(factor_sid) = filter.factor_sid {
            caller.concerns(factor_sid)?;
        }
        if let Caller::Device(factor) = caller {
            filter.factor_sid = Some(factor.sid);
        }
        self.store
            .read(async move |db: &mut Read| Ok((db.challenges(entity_sid, filter, &page, now).await?, now)))
            .await
    }

    /// Answers a challenge with the device's signed payload. However many answers race, one is taken. The payload
    /// that was taken may come again, since HTTP clients repeat a request whose connection died: it is answered with
    /// the challenge, and nothing changes (docs/protocol/decisions.md, No. 30).
    ///
    /// `challenge` is as the caller found it; what has become of it meanwhile is found out again.
    ///
    /// # Errors
    /// 60306 for a payload that is no JWS, 60322 and 60323 when the challenge can't be answered any more,
    /// 60324 for a payload that does not hold; when the database fails. Nothing has changed then.
    pub async fn answer_challenge(
        &self,
        origin: &Origin,
        challenge: Challenge,
        payload: &str,
        metadata: Option<StringMap>,
    ) -> Result<Challenge, Error> {
        let now = self.clock.now();
        let jws = Jws::parse(payload).ok_or_else(not_a_jws)?;
        let digest = crypto::answer_digest(payload);
        let (sid, factor_sid, path) = (challenge.sid, challenge.factor_sid, challenge.path());
        let is_answered_by = async move |db: &mut Read| Ok::<_, Error>(db.is_answered_by(sid, digest).await?);
        if challenge.responded_at().is_some() && self.store.read(is_answered_by).await? {
            return Ok(challenge);
        }
        challenge.answerable(now)?;
        let place = path.clone();
        let factor = self
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.factor(&place, factor_sid).await?))
            .await?
            // A pending challenge whose factor is gone was voided with it, in this very moment.
            .ok_or(Code::ChallengeExpired)?;
        if !jws.verify(&factor.public_key) {
            let advice = "AuthPayload must be an ES256 JWS that the challenged factor's key signed";
            return Err(Problem::with(Code::ChallengeVerificationFailed, advice).into());
        }
        let answer = challenge.answer_in(jws.claims(), now)?;
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let (answered, is_taken) = self
            .store
            .write(async move |tx: &mut Write| {
                let Some(answered) = tx.answer_challenge(sid, answer, digest, now).await? else {
                    // Another request changed the challenge first; its current state determines the outcome.
                    let current = tx.challenge(&path, sid).await?.ok_or_else(Error::not_found)?;
                    if tx.is_answered_by(sid, digest).await? {
                        return Ok((current, false));
                    }
                    current.answerable(now)?;
                    return Err(Code::ChallengeExpired.into());
                };
                let answered = match &metadata {
                    Some(metadata) => {
                        let written = tx.set_challenge_metadata(&path, sid, metadata, now).await?;
                        written.ok_or_else(Error::not_found)?
                    }
                    None => answered,
                };
                let (act, event_type) = match answer {
                    Answer::Approved => (Act::ChallengeApproved, EventType::ChallengeApproved),
                    Answer::Denied => (Act::ChallengeDenied, EventType::ChallengeDenied),
                };
                audit.note(tx, about(act, &answered)).await?;
                outbox.owe_webhooks(tx, event_type, &factor, Some(&answered), now).await?;
                Ok::<_, Error>((answered, true))
            })
            .await?;
        if !is_taken {
            return Ok(answered);
        }
        let word = match answer {
            Answer::Approved => telemetry::metrics::Answer::Approved,
            Answer::Denied => telemetry::metrics::Answer::Denied,
        };
        METRICS.challenges_answered.get_or_create(&Answered { answer: word }).inc();
        METRICS.challenge_answer_time.observe(answered.created_at.until(now).as_secs_f64());
        self.wake.ring();
        Ok(answered)
    }

    /// Replaces a challenge's metadata and nothing else.
    ///
    /// # Errors
    /// 20404 when it was deleted meanwhile; when the database fails.
    pub async fn set_challenge_metadata(
        &self,
        origin: &Origin,
        challenge: &Challenge,
        metadata: StringMap,
    ) -> Result<Challenge, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let (path, sid) = (challenge.path(), challenge.sid);
        self.store
            .write(async move |tx: &mut Write| {
                let written = tx.set_challenge_metadata(&path, sid, &metadata, now).await?;
                let written = written.ok_or_else(Error::not_found)?;
                let change = about(Act::ChallengeUpdated, &written).with("changed", ["metadata"]);
                audit.note(tx, change).await?;
                Ok(written)
            })
            .await
    }
}

/// What was done to a challenge.
fn about(act: Act, challenge: &Challenge) -> Change {
    let change = Change::new(act, challenge.account_sid, challenge.sid);
    change.with("service_sid", challenge.service_sid).with("factor_sid", challenge.factor_sid)
}

fn not_a_jws() -> Problem {
    let expected =
        Expected::new("must be a compact JWS of at most 5456 characters with JSON in its first two parts");
    Problem::invalid("AuthPayload", &expected)
}

/// Refuses one more challenge to a factor, which is locked if there is a limit at all, when it has as many as it may.
async fn limit_challenges(
    tx: &mut Write,
    factor_sid: FactorSid,
    limits: ChallengeLimits,
    now: Timestamp,
) -> Result<(), Error> {
    let too_many = async |tx: &mut Write, most| {
        let Some(end) = tx.pending_until(factor_sid, most, now).await? else { return Ok::<_, Error>(None) };
        let advice = format_args!("{most} are pending; wait until one is answered or expires");
        Ok(Some(Problem::with(Code::TooManyChallenges, advice).until(end, now)))
    };
    let too_often = async |tx: &mut Write, window: Window| {
        let back = tx.challenge_back(factor_sid, window.span(now), window.most()).await?;
        Ok::<_, Error>(window.admits(back, now, Code::TooManyChallenges).err())
    };
    let refused = [
        match limits.pending {
            Some(most) => too_many(tx, most).await?,
            None => None,
        },
        match limits.per_minute {
            Some(most) => too_often(tx, Window::new(most, 60)).await?,
            None => None,
        },
    ];
    // Report the longer of the two waits, so that a retry after `Retry-After` passes both limits.
    match refused.into_iter().flatten().max_by_key(Problem::retry_after) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}
