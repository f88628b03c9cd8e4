//! Use cases of passkey challenges: create and approve.

use crypto::passkeys::{
    Assertion, AssertionResponse, CheckedAssertion, ExpectedAssertion, PasskeyChallenge as ChallengeBytes,
    PasskeyPublicKey, Rejection, StoredCredential, request_options, with_challenge,
};
use domain::alerts::{Alert, Level};
use domain::audit::AuditAction;
use domain::challenges::{Answer, PasskeyChallenge, PasskeyTarget, State, Target, resolve_expiration};
use domain::factors::PasskeyFactor;
use domain::factors::passkey::{
    Origin as WebOrigin, PasskeyCredential, RelyingPartyId, WebAuthnChallengeDigest,
};
use domain::services::Requirement;
use domain::{
    AccountSid, AlertSid, Challenge, ChallengeSid, Code, EntityPath, Factor, FactorSid, FactorType, Identity,
    Problem, Service, ServiceSid, Timestamp,
};
use serde_json::{Value, json};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::Backend;
use crate::challenges::{about, count_answer, count_creation};
use crate::error::Error;
use crate::factors;
use crate::outbox::Outbox;
use crate::passkey_settings::{accepted_origins, id_of_service, or_default};

/// The passkeys that a new challenge permits.
#[derive(Clone, Debug)]
pub enum PasskeySelection {
    /// Every discoverable passkey of the service's relying party.
    Any,
    /// The passkeys of an entity.
    OfEntity(Identity),
    /// One passkey, which must belong to the entity if one is named.
    One(FactorSid, Option<Identity>),
}

/// Whose passkey may answer a new challenge, and what the answer must match.
struct Scope {
    target: PasskeyTarget,
    relying_party_id: RelyingPartyId,
    origins: Vec<WebOrigin>,
    user_verification: Requirement,
    allowed: Vec<PasskeyCredential>,
}

impl App {
    /// Creates a challenge for passkeys, and returns it. It expires after five minutes.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the service does not exist.
    /// - 60371 if the challenge is for any passkey, and the service names no relying party.
    /// - 60392 if the entity does not exist; 60390 if it has no such passkey; 60318 if the passkey is unverified.
    ///
    /// Also fails if the database fails.
    pub async fn create_passkey_challenge(
        &self,
        origin: &Origin,
        caller: Backend,
        service_sid: ServiceSid,
        selection: PasskeySelection,
    ) -> Result<Challenge<PasskeyChallenge>, Error> {
        let (now, account_sid) = (self.clock.now(), caller.account_sid());
        let expires_at = resolve_expiration(None, now)?;
        let sid = ChallengeSid::generate(FactorType::Passkeys, now, self.entropy.as_ref());
        let bytes = ChallengeBytes::generate(&sid.to_string(), self.entropy.as_ref());
        let audit = self.audit(origin, now);
        let inserted = bytes.clone();
        let challenge = self.store.write(async move |tx: &mut Write| {
            let service = tx.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
            let scope = match &selection {
                PasskeySelection::Any => any_passkey(&service)?,
                PasskeySelection::OfEntity(identity) => passkeys_of_entity(tx, &service, identity).await?,
                PasskeySelection::One(sid, identity) => {
                    one_passkey(tx, &service, *sid, identity.as_ref()).await?
                }
            };
            let allowed: Vec<_> = scope.allowed.iter().collect();
            let options = request_options(&scope.relying_party_id, &allowed, scope.user_verification);
            let challenge = Challenge {
                sid,
                account_sid,
                service_sid,
                state: State::Pending,
                metadata: None,
                expires_at,
                created_at: now,
                updated_at: now,
                kind: PasskeyChallenge {
                    target: scope.target,
                    challenge_digest: WebAuthnChallengeDigest(inserted.digest()),
                    relying_party_id: scope.relying_party_id,
                    origins: scope.origins,
                    user_verification: scope.user_verification,
                    options,
                },
            };
            tx.insert_passkey_challenge(&challenge).await?;
            audit.record(tx, about(AuditAction::ChallengeCreated, &challenge)).await?;
            Ok::<_, Error>(challenge)
        });
        let mut challenge = challenge.await?;
        challenge.kind.options = with_challenge(challenge.kind.options, &bytes);
        self.touch_challenge(&challenge);
        count_creation(FactorType::Passkeys);
        Ok(challenge)
    }

    /// Approves a passkey challenge with the response of an authenticator, and returns the challenge. `credential` is
    /// the JSON of the browser. Its challenge names the challenge to approve. If several responses arrive concurrently,
    /// exactly one is accepted.
    ///
    /// # Errors
    /// Fails with one of these codes, in the order of docs/protocol/resources.md, section 8:
    /// - 60375 to 60382 if the response is refused. If its signature counter did not grow, an alert is raised too.
    /// - 60391 if the service has no such challenge; 60322 if that has been answered; 60323 if it has expired.
    /// - 60390 if the challenge permits no passkey with this credential.
    ///
    /// Also fails if the database fails. On any error, the challenge stays pending.
    pub async fn approve_passkey_challenge(
        &self,
        origin: &Origin,
        caller: Backend,
        service_sid: ServiceSid,
        credential: &Value,
    ) -> Result<Challenge<PasskeyChallenge>, Error> {
        let (now, account_sid) = (self.clock.now(), caller.account_sid());
        let response = AssertionResponse::parse(credential)?;
        let sid = response.challenge().sid().and_then(|sid| sid.parse::<ChallengeSid>().ok());
        let sid = sid.ok_or(Code::PasskeyChallengeNotFound)?;
        let key = Key { account_sid, service_sid, sid };
        let challenge =
            self.store.read(async move |db: &mut Read| pending_challenge(db, key, now).await).await?;
        let kind = &challenge.kind;
        let origins = accepted_origins(&kind.relying_party_id, &kind.origins);
        let bytes = response.challenge().clone();
        let response = response.check(&kind.challenge_digest.0, &origins)?;
        let answering = Answering { key, challenge, response };
        let factor = {
            let answering = answering.clone();
            self.store.read(async move |db: &mut Read| answering.factor(db).await).await?
        };
        let result = match answering.verify(&factor) {
            Ok(assertion) => self.write_approval(origin, &answering, &factor, assertion, now).await?,
            Err(rejection) => Err(rejection),
        };
        match result {
            Ok(mut challenge) => {
                challenge.kind.options = with_challenge(challenge.kind.options, &bytes);
                self.touch_challenge(&challenge);
                count_answer(Answer::Approved, &challenge, now);
                Ok(challenge)
            }
            Err(Rejection::Counter) => {
                self.report_counter(origin, &answering, factor, now).await?;
                Err(Rejection::Counter.into())
            }
            Err(rejection) => Err(rejected_assertion(rejection)),
        }
    }

    /// Stores the approval of a challenge and the values of the accepted signature. `factor` is the passkey for which
    /// `assertion` was verified. Returns a rejection if another sign-in with the passkey has overtaken this one.
    async fn write_approval(
        &self,
        origin: &Origin,
        answering: &Answering,
        factor: &Factor<PasskeyFactor>,
        assertion: Assertion,
        now: Timestamp,
    ) -> Result<Result<Challenge<PasskeyChallenge>, Rejection>, Error> {
        let (audit, answering) = (self.audit(origin, now), answering.clone());
        let (path, factor_sid, verified_count) = (factor.path(), factor.sid, sign_count(factor));
        self.store
            .write(async move |tx: &mut Write| {
                let factor = tx.lock_passkey_factor(&path, factor_sid).await?;
                let mut factor = factor.ok_or_else(|| Error::from(Code::PasskeyNotFound))?;
                let challenge = pending_challenge(tx, answering.key, now).await?;
                if sign_count(&factor) != verified_count
                    && let Err(rejection) = answering.verify(&factor)
                {
                    return Ok(Err(rejection));
                }
                let target = Target::of(&factor);
                if !tx.approve_passkey_challenge(challenge.sid, &target, now).await? {
                    // Another passkey has answered in the meantime; otherwise the challenge has expired.
                    pending_challenge(tx, answering.key, now).await?;
                    return Err(Code::ChallengeExpired.into());
                }
                if let Some(credential) = &mut factor.kind.credential {
                    credential.sign_count = assertion.sign_count;
                    credential.backed_up = assertion.is_backed_up;
                    credential.last_used_at = Some(now);
                }
                tx.update_passkey_factor(&factor).await?;
                let (challenge, mut kind) = challenge.split();
                kind.target = PasskeyTarget::Factor(target);
                let approved = Challenge {
                    state: State::Answered { answer: Answer::Approved, at: now },
                    updated_at: now,
                    ..challenge.with(kind)
                };
                audit.record(tx, about(AuditAction::ChallengeApproved, &approved)).await?;
                Ok(Ok(approved))
            })
            .await
    }

    /// Records in the audit log and as an alert that the signature counter of a passkey did not grow, so that it may
    /// have been copied.
    ///
    /// # Errors
    /// Fails with 60322 or 60323, and records nothing, if the challenge is no longer pending: then the same response
    /// has arrived twice. Also fails if the database fails.
    async fn report_counter(
        &self,
        origin: &Origin,
        answering: &Answering,
        factor: Factor<PasskeyFactor>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let alert = Alert {
            sid: AlertSid::generate(now, self.entropy.as_ref()),
            account_sid: factor.account_sid,
            service_sid: Some(factor.service_sid),
            resource_sid: factor.sid.to_string(),
            error_code: Code::InvalidAuthenticatorData.number(),
            level: Level::Warning,
            text: "The signature counter of a passkey did not grow: the passkey may have been copied"
                .to_owned(),
            more_info: json!({ "challengeSid": answering.key.sid }),
            call: None,
            created_at: now,
        };
        let (audit, key) = (self.audit(origin, now), answering.key);
        self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            pending_challenge(tx, key, now).await?;
            let change = factors::about(AuditAction::FactorCounterRefused, &factor);
            audit.record(tx, change.detail("challenge_sid", key.sid)).await?;
            outbox.raise_alert(tx, &alert, now).await
        })
        .await
    }
}

/// The key of a passkey challenge, which belongs to a service and may belong to no entity.
#[derive(Clone, Copy)]
struct Key {
    account_sid: AccountSid,
    service_sid: ServiceSid,
    sid: ChallengeSid,
}

/// A response to a challenge whose client data have been checked.
#[derive(Clone)]
struct Answering {
    key: Key,
    /// The challenge as it was read earlier.
    challenge: Challenge<PasskeyChallenge>,
    response: CheckedAssertion,
}

impl Answering {
    /// Returns the passkey with the credential of the response.
    ///
    /// # Errors
    /// Fails with 60390 if the challenge permits no such passkey, and with 60382 if the challenged entity has it for
    /// another relying party. Also fails if the database fails.
    async fn factor(&self, db: &mut Read) -> Result<Factor<PasskeyFactor>, Error> {
        let Key { account_sid, service_sid, .. } = self.key;
        let PasskeyChallenge { target, relying_party_id, .. } = &self.challenge.kind;
        let id = self.response.credential_id();
        let found = db.passkey_by_credential(account_sid, service_sid, relying_party_id, id).await?;
        if let Some(factor) = found {
            return if target.permits(&factor) { Ok(factor) } else { Err(Code::PasskeyNotFound.into()) };
        }
        if let Some(entity_sid) = target.entity_sid() {
            let passkeys = db.passkey_factors(service_sid, entity_sid).await?;
            let mut credentials = passkeys.iter().filter_map(|passkey| passkey.kind.credential.as_ref());
            if credentials.any(|credential| credential.id == *id) {
                return Err(Code::OtherRelyingParty.into());
            }
        }
        Err(Code::PasskeyNotFound.into())
    }

    /// Verifies the response with the key and the counter of `factor`.
    fn verify(&self, factor: &Factor<PasskeyFactor>) -> Result<Assertion, Rejection> {
        let kind = &self.challenge.kind;
        let credential = factor.kind.credential.as_ref().ok_or(Rejection::Signature)?;
        let public_key =
            PasskeyPublicKey::from_checked_der(credential.algorithm, credential.public_key.clone());
        let requirements = [kind.user_verification, factor.kind.user_verification];
        self.response.verify(&ExpectedAssertion {
            relying_party_id: kind.relying_party_id.as_str(),
            requires_user_verification: requirements.contains(&Requirement::Required),
            user_handle: &factor.entity_sid.to_string(),
            requires_user_handle: kind.target == PasskeyTarget::Anyone,
            credential: StoredCredential {
                public_key: &public_key,
                sign_count: credential.sign_count,
                is_backup_eligible: credential.backup_eligible,
            },
        })
    }
}

/// Returns the challenge, which must be pending at `now`.
///
/// # Errors
/// Fails with 60391 if the service has no such challenge, 60322 if it has been answered, and 60323 if it has expired.
/// Also fails if the database fails.
async fn pending_challenge(
    db: &mut Read,
    key: Key,
    now: Timestamp,
) -> Result<Challenge<PasskeyChallenge>, Error> {
    let challenge = db.passkey_challenge(key.account_sid, key.service_sid, key.sid).await?;
    let challenge = challenge.ok_or_else(|| Error::from(Code::PasskeyChallengeNotFound))?;
    challenge.require_pending(now)?;
    Ok(challenge)
}

/// Returns the error for a rejected sign-in. Its authenticator data need no credential, so a malformed one is an error
/// of these data.
fn rejected_assertion(rejection: Rejection) -> Error {
    match rejection {
        Rejection::CredentialIdLength | Rejection::PublicKey | Rejection::TrailingData => {
            Problem::with_advice(Code::InvalidAuthenticatorData, rejection).into()
        }
        other => other.into(),
    }
}

fn sign_count(factor: &Factor<PasskeyFactor>) -> Option<u32> {
    factor.kind.credential.as_ref().map(|credential| credential.sign_count)
}

/// Returns the scope of a challenge for every discoverable passkey of the service's relying party.
fn any_passkey(service: &Service) -> Result<Scope, Problem> {
    let settings = &service.settings.passkeys;
    let relying_party_id = id_of_service(settings)?.ok_or_else(|| {
        let advice = "the service has none, so the request must name an identity or a factor_sid";
        Problem::with_advice(Code::InvalidRelyingParty, advice)
    })?;
    let origins = settings.relying_party.origins.clone().unwrap_or_default();
    Ok(Scope {
        target: PasskeyTarget::Anyone,
        origins: or_default(origins, &relying_party_id),
        relying_party_id,
        user_verification: settings.user_verification.unwrap_or(Requirement::Preferred),
        allowed: Vec::new(),
    })
}

/// Returns the scope of a challenge for all passkeys of an entity: those of the service's relying party, or of the
/// newest passkey's if the service has none. Then the origins of all these passkeys are permitted. The strictest
/// passkey determines whether the user must be verified.
async fn passkeys_of_entity(tx: &mut Write, service: &Service, identity: &Identity) -> Result<Scope, Error> {
    let path =
        EntityPath { account_sid: service.account_sid, service_sid: service.sid, identity: identity.clone() };
    let entity = tx.entity(&path).await?.ok_or_else(|| Error::from(Code::EntityNotFound))?;
    let mut passkeys = tx.passkey_factors(service.sid, entity.sid).await?;
    passkeys.retain(|passkey| passkey.kind.credential.is_some());
    let settings = &service.settings.passkeys;
    let id_of_service = id_of_service(settings)?;
    let newest = passkeys.last().map(|passkey| passkey.kind.relying_party.id.clone());
    let relying_party_id = id_of_service.clone().or(newest).ok_or(Code::PasskeyNotFound)?;
    passkeys.retain(|passkey| passkey.kind.relying_party.id == relying_party_id);
    if passkeys.is_empty() {
        return Err(Code::PasskeyNotFound.into());
    }
    let origins = match id_of_service {
        Some(id) => or_default(settings.relying_party.origins.clone().unwrap_or_default(), &id),
        None => {
            let mut origins: Vec<_> =
                passkeys.iter().flat_map(|passkey| passkey.kind.relying_party.origins.clone()).collect();
            origins.sort();
            origins.dedup();
            origins
        }
    };
    let requirements = passkeys.iter().map(|passkey| passkey.kind.user_verification);
    Ok(Scope {
        target: PasskeyTarget::Entity { entity_sid: entity.sid, identity: entity.identity },
        origins,
        user_verification: requirements.min().unwrap_or(Requirement::Preferred),
        allowed: passkeys.iter().filter_map(|passkey| passkey.kind.credential.clone()).collect(),
        relying_party_id,
    })
}

/// Returns the scope of a challenge for one passkey.
async fn one_passkey(
    tx: &mut Write,
    service: &Service,
    sid: FactorSid,
    identity: Option<&Identity>,
) -> Result<Scope, Error> {
    let factor = tx.passkey_factor(service.account_sid, service.sid, sid).await?;
    let factor = factor.filter(|factor| identity.is_none_or(|identity| factor.identity == *identity));
    let factor = factor.ok_or_else(|| Error::from(Code::PasskeyNotFound))?;
    factor.require_verified()?;
    Ok(Scope {
        target: PasskeyTarget::Factor(Target::of(&factor)),
        relying_party_id: factor.kind.relying_party.id,
        origins: factor.kind.relying_party.origins,
        user_verification: factor.kind.user_verification,
        allowed: factor.kind.credential.into_iter().collect(),
    })
}
