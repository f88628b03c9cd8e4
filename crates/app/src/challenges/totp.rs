//! Use cases of TOTP challenges: create and answer.

use std::sync::Arc;

use domain::audit::AuditAction;
use domain::challenges::{
    Answer, Field, Message, State, Target, TotpChallenge, challenge_limits, resolve_expiration,
};
use domain::factors::{TotpCode, TotpFactor};
use domain::text::StringMap;
use domain::{Challenge, ChallengeSid, Code, EntityPath, Factor, FactorSid, FactorType, Timestamp};
use store::Write;

use crate::App;
use crate::audit::Origin;
use crate::caller::{Backend, BackendOrDevice};
use crate::challenges::{about, count_answer, count_creation, limit_challenges};
use crate::error::Error;
use crate::factors::totp::{count_refused_code, find_step};

/// The parameters of a new TOTP challenge.
#[derive(Clone, Debug)]
pub struct NewTotpChallenge {
    /// SID of the factor whose code should answer the challenge.
    pub factor_sid: FactorSid,
    /// Message, stored without interpretation.
    pub message: Option<Message>,
    /// Labeled details, stored without interpretation.
    pub fields: Vec<Field>,
    /// Further details, stored without interpretation.
    pub hidden_details: Option<StringMap>,
    /// When the challenge expires, or `None` for the default of five minutes after its creation.
    pub expires_at: Option<Timestamp>,
    /// The user's code, if the backend has it already.
    pub code: Option<TotpCode>,
}

impl NewTotpChallenge {
    /// Builds the pending challenge for `factor`, without storing it.
    fn to_challenge(
        &self,
        sid: ChallengeSid,
        factor: &Factor<TotpFactor>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Challenge<TotpChallenge> {
        Challenge {
            sid,
            account_sid: factor.account_sid,
            service_sid: factor.service_sid,
            state: State::Pending,
            metadata: None,
            expires_at,
            created_at: now,
            updated_at: now,
            kind: TotpChallenge {
                target: Target::of(factor),
                message: self.message.clone(),
                fields: self.fields.clone(),
                hidden_details: self.hidden_details.clone(),
                attempts: 0,
            },
        }
    }
}

impl App {
    /// Creates a challenge for a verified TOTP factor, and answers it at once if the request contains a code. Returns
    /// the challenge, which is pending if there is no code or if the code is wrong.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 60306 if the expiration time is not allowed.
    /// - 20404 if the service or the factor does not exist; 60318 if the factor is not verified.
    /// - 60312 if the factor has reached one of its limits on challenges.
    ///
    /// Also fails if the database fails.
    pub async fn create_totp_challenge(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
        new: NewTotpChallenge,
    ) -> Result<Challenge<TotpChallenge>, Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let expires_at = resolve_expiration(new.expires_at, now)?;
        let sid = ChallengeSid::generate(FactorType::Totp, now, self.entropy.as_ref());
        let server_limits = self.limits.challenges;
        let (audit, master_keys) = (self.audit(origin, now), Arc::clone(&self.master_keys));
        let challenge = self
            .store
            .write(async move |tx: &mut Write| {
                let service =
                    tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                let factor = tx.lock_totp_factor(&path, new.factor_sid).await?;
                let mut factor = factor.ok_or_else(Error::not_found)?;
                factor.require_verified()?;
                let limits = service.limits.resolve(server_limits);
                limit_challenges(tx, &factor, limits, challenge_limits(factor.kind.code_length), now).await?;
                let mut challenge = new.to_challenge(sid, &factor, expires_at, now);
                if let Some(code) = &new.code {
                    let step = find_step(&master_keys, &factor, code, now)?;
                    challenge.record_code(step.is_some(), now);
                    if step.is_some() {
                        factor.kind.last_step = step;
                        tx.record_totp_code(&factor).await?;
                    }
                }
                tx.insert_totp_challenge(&challenge).await?;
                audit.record(tx, about(AuditAction::ChallengeCreated, &challenge)).await?;
                if challenge.responded_at().is_some() {
                    audit.record(tx, about(AuditAction::ChallengeApproved, &challenge)).await?;
                }
                Ok::<_, Error>(challenge)
            })
            .await?;
        self.touch_challenge(&challenge);
        count_creation(FactorType::Totp);
        count_code(&challenge, now);
        Ok(challenge)
    }

    /// Tries a code on a TOTP challenge, and sets the challenge's metadata if any is given. Returns the challenge,
    /// which is still pending if the code is wrong. Of several equal codes for challenges of one factor, exactly one is
    /// right.
    ///
    /// `challenge` is the challenge as it was read earlier. Its current state is read again under the lock on its
    /// factor.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the caller may not answer the challenge.
    /// - 60322 if the challenge has already been answered; 60323 if it has expired or its factor was deleted.
    /// - 60308 if five codes were wrong.
    ///
    /// Also fails if the database fails. On any error, nothing is changed.
    pub async fn answer_totp_challenge(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        challenge: Challenge<TotpChallenge>,
        code: TotpCode,
        metadata: Option<StringMap>,
    ) -> Result<Challenge<TotpChallenge>, Error> {
        caller.require_challenge(&challenge)?;
        let now = self.clock.now();
        challenge.require_pending(now)?;
        let (audit, master_keys) = (self.audit(origin, now), Arc::clone(&self.master_keys));
        let (sid, factor_sid, path) = (challenge.sid, challenge.kind.target.factor_sid, challenge.path());
        let challenge = self
            .store
            .write(async move |tx: &mut Write| {
                let factor = tx.lock_totp_factor(&path, factor_sid).await?;
                let mut factor = factor.ok_or(Code::ChallengeExpired)?;
                let mut challenge = tx.totp_challenge(&path, sid).await?.ok_or_else(Error::not_found)?;
                challenge.require_pending(now)?;
                challenge.require_attempt()?;
                let step = find_step(&master_keys, &factor, &code, now)?;
                challenge.record_code(step.is_some(), now);
                if step.is_some() {
                    factor.kind.last_step = step;
                    tx.record_totp_code(&factor).await?;
                }
                if !tx.update_totp_challenge(&challenge).await? {
                    return Err(Code::ChallengeExpired.into());
                }
                if let Some(metadata) = &metadata {
                    let written = tx.set_challenge_metadata(&path, sid, metadata, now).await?;
                    let written = written.ok_or_else(Error::not_found)?;
                    (challenge.metadata, challenge.updated_at) = (written.metadata, written.updated_at);
                    if step.is_none() {
                        let change = about(AuditAction::ChallengeUpdated, &challenge);
                        audit.record(tx, change.detail("changed", ["metadata"])).await?;
                    }
                }
                if step.is_some() {
                    audit.record(tx, about(AuditAction::ChallengeApproved, &challenge)).await?;
                }
                Ok::<_, Error>(challenge)
            })
            .await?;
        self.touch_challenge(&challenge);
        count_code(&challenge, now);
        Ok(challenge)
    }
}

/// Counts the code that a request sent for the challenge, if any, in the metrics.
fn count_code(challenge: &Challenge<TotpChallenge>, now: Timestamp) {
    if challenge.responded_at().is_some() {
        count_answer(Answer::Approved, challenge, now);
    } else if challenge.kind.attempts > 0 {
        count_refused_code();
    }
}
