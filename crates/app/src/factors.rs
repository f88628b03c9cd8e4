//! Factors: enrollment, verification, and what a device keeps up to date.

use domain::access_tokens::Grant;
use domain::audit::{Act, Change};
use domain::factors::{AppId, Changes, MAX_PUSH_FACTORS, Notification, PublicKey, SdkVersion, Status};
use domain::limits::Window;
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Code, CredentialSid, EntityPath, Factor, FactorSid, FactorType, FriendlyName, Page, PageRequest,
};
use store::{Read, Write};
use telemetry::metrics::METRICS;

use crate::App;
use crate::audit::Origin;
use crate::caller::Caller;
use crate::entities::{self, limit_entities};
use crate::error::Error;

/// A push factor as it is asked for.
#[derive(Clone, Debug)]
pub struct NewFactor {
    /// What the user calls the device.
    pub friendly_name: FriendlyName,
    /// The device's key.
    pub public_key: PublicKey,
    /// The app.
    pub app_id: AppId,
    /// How it hears of challenges.
    pub notification: Notification,
    /// Version of the SDK.
    pub sdk_version: Option<SdkVersion>,
    /// What the app wants to be remembered.
    pub metadata: Option<StringMap>,
}

/// What an update brings: changes, a proof of the key, or both.
#[derive(Clone, Debug, Default)]
pub struct FactorUpdate {
    /// DER signature of the factor's own SID.
    pub proof: Option<Vec<u8>>,
    /// The rest.
    pub changes: Changes,
}

impl App {
    /// Makes a push factor, and its entity if it isn't there. A phone does so with an access token,
    /// which is spent on it; if the phone repeats itself because it lost the answer, it gets the factor
    /// that it made, while that is unverified (docs/protocol/decisions.md, No. 8).
    ///
    /// # Errors
    /// 20404 without the service, 60313 for an access token that was made for something else, 20003 for
    /// one that is spent or whose service is gone, 60315 for the twenty-first, 60326 and 60328 for too many in a day or a second, 60317 for a key that the
    /// entity has; when the
    /// database fails.
    pub async fn create_factor(
        &self,
        origin: &Origin,
        caller: &Caller,
        path: EntityPath,
        new: NewFactor,
    ) -> Result<Factor, Error> {
        let now = self.clock.now();
        caller.may_enroll(Some(path.service_sid), Some(&path.identity))?;
        caller.may_create(FactorType::Push)?;
        let grant = match caller {
            Caller::Enrollee(enrollee) => Some(enrollee.grant.clone()),
            _ => None,
        };
        let new_entity = self.new_entity(&path, now);
        let sid = FactorSid::generate(FactorType::Push, now, self.entropy.as_ref());
        let credential_sid = CredentialSid::generate(now, self.entropy.as_ref());
        let (outbox, limits) = (self.outbox.clone(), self.limits);
        let audit = self.audit(origin, now);
        let factor = self
            .store
            .write(async move |tx: &mut Write| {
                let service = tx.service(path.account_sid, path.service_sid).await?;
                // The access token of a service that is gone has gone with it.
                service.ok_or_else(if grant.is_some() {
                    Error::unauthenticated
                } else {
                    Error::not_found
                })?;
                limit_entities(tx, &path, limits.entities_per_service_and_second, now).await?;
                let entity = tx.ensure_entity(&new_entity).await?;
                if entity.sid == new_entity.sid {
                    audit.note(tx, entities::created(&entity)).await?;
                }
                if let Some(grant) = &grant
                    && let Some(factor) = enrolled_before(tx, grant, &path, &new.public_key).await?
                {
                    return Ok(factor);
                }
                if tx.count_factors(entity.sid).await? >= MAX_PUSH_FACTORS {
                    return Err(Code::TooManyFactors.into());
                }
                let a_day = limits.factors_per_entity_and_day.map(|most| Window::new(most, 86_400));
                if let Some(window) = a_day {
                    let back = tx.factor_creation_back(entity.sid, window.span(now), window.most()).await?;
                    window.admits(back, now, Code::TooManyFactorCreations)?;
                }
                let factor = Factor {
                    sid,
                    account_sid: path.account_sid,
                    service_sid: path.service_sid,
                    entity_sid: entity.sid,
                    identity: entity.identity,
                    friendly_name: new.friendly_name.clone(),
                    public_key: new.public_key.clone(),
                    credential_sid,
                    status: Status::Unverified,
                    app_id: new.app_id.clone(),
                    sdk_version: new.sdk_version.clone(),
                    notification: new.notification.clone(),
                    unreachable: false,
                    token_registered_at: now,
                    metadata: new.metadata.clone(),
                    created_at: now,
                    updated_at: now,
                };
                tx.insert_factor(&factor).await?;
                if a_day.is_some() {
                    tx.note_factor_creation(&factor).await?;
                }
                if let Some(grant) = &grant
                    && !tx.spend_access_token(grant.sid, factor.sid).await?
                {
                    return Err(Error::unauthenticated());
                }
                audit.note(tx, about(Act::FactorCreated, &factor)).await?;
                outbox.owe_webhooks(tx, EventType::FactorCreated, &factor, None, now).await?;
                Ok::<_, Error>(factor)
            })
            .await?;
        // A phone that repeated itself got the factor that it had made before.
        if factor.sid == sid {
            METRICS.factors_created.inc();
        }
        self.wake.ring();
        Ok(factor)
    }

    /// A factor.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn factor(&self, caller: &Caller, path: EntityPath, sid: FactorSid) -> Result<Factor, Error> {
        caller.concerns(sid)?;
        self.store
            .read(async move |db: &mut Read| db.factor(&path, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// The factors of an entity.
    ///
    /// # Errors
    /// 20404 without the entity; when the database fails.
    pub async fn factors(&self, path: EntityPath, page: PageRequest) -> Result<Page<Factor>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                let entity = db.entity(&path).await?.ok_or_else(Error::not_found)?;
                Ok(db.factors(entity.sid, &page).await?)
            })
            .await
    }

    /// Verifies a factor, changes it, or both. Proving the key again changes nothing.
    ///
    /// # Errors
    /// 20404; 60311 for a proof that does not hold, after which nothing has changed; those of
    /// [`Changes::apply`]; when the database fails.
    pub async fn update_factor(
        &self,
        origin: &Origin,
        caller: &Caller,
        path: EntityPath,
        sid: FactorSid,
        update: FactorUpdate,
    ) -> Result<Factor, Error> {
        let now = self.clock.now();
        let current = self.factor(caller, path.clone(), sid).await?;
        let verified = match &update.proof {
            // The key never changes, so the costly part is done before the transaction begins.
            Some(proof) if crypto::verify_der(&current.public_key, sid.to_string().as_bytes(), proof) => true,
            Some(_) => return Err(Code::FactorVerificationFailed.into()),
            None => false,
        };
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let (factor, became_verified) = self
            .store
            .write(async move |tx: &mut Write| {
                let mut factor = tx.lock_factor(&path, sid).await?.ok_or_else(Error::not_found)?;
                let becomes_verified = verified && factor.status == Status::Unverified;
                if becomes_verified {
                    factor.status = Status::Verified;
                    factor.updated_at = now;
                }
                if !update.changes.is_empty() {
                    update.changes.clone().apply(&mut factor, now)?;
                    let change = about(Act::FactorUpdated, &factor);
                    audit.note(tx, change.with("changed", update.changes.names())).await?;
                }
                if factor.updated_at == now {
                    tx.update_factor(&factor).await?;
                }
                if becomes_verified {
                    audit.note(tx, about(Act::FactorVerified, &factor)).await?;
                    outbox.owe_webhooks(tx, EventType::FactorVerified, &factor, None, now).await?;
                }
                Ok::<_, Error>((factor, becomes_verified))
            })
            .await?;
        if became_verified {
            METRICS.factors_verified.inc();
        }
        self.wake.ring();
        Ok(factor)
    }

    /// Deletes a factor. Its challenges stay to be read, its pending ones can't be answered any more
    /// (docs/protocol/decisions.md, No. 17).
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn delete_factor(
        &self,
        origin: &Origin,
        caller: &Caller,
        path: EntityPath,
        sid: FactorSid,
    ) -> Result<(), Error> {
        caller.concerns(sid)?;
        let now = self.clock.now();
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                let factor = tx.delete_factor(&path, sid, now).await?.ok_or_else(Error::not_found)?;
                audit.note(tx, about(Act::FactorDeleted, &factor)).await?;
                outbox.owe_webhooks(tx, EventType::FactorDeleted, &factor, None, now).await
            })
            .await?;
        self.wake.ring();
        Ok(())
    }
}

/// What was done to a factor.
pub(crate) fn about(act: Act, factor: &Factor) -> Change {
    let change = Change::new(act, factor.account_sid, factor.sid);
    let change = change.with("service_sid", factor.service_sid).with("entity_sid", factor.entity_sid);
    change.with("status", factor.status.as_str())
}

/// The factor that a phone made with this access token before, if it asks for the same once more.
/// Called while the entity is held, so that two requests with one token see each other.
async fn enrolled_before(
    tx: &mut Write,
    grant: &Grant,
    path: &EntityPath,
    public_key: &PublicKey,
) -> Result<Option<Factor>, Error> {
    let token = tx.access_token(grant.account_sid, grant.service_sid, grant.sid).await?;
    let token = token.ok_or_else(Error::unauthenticated)?;
    let Some(spent_on) = token.spent_on else { return Ok(None) };
    match tx.factor(path, spent_on).await? {
        Some(factor) if factor.status == Status::Unverified && factor.public_key == *public_key => {
            Ok(Some(factor))
        }
        _ => Err(Error::unauthenticated()),
    }
}
