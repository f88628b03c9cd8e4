//! Factors: enrollment, verification, updates and deletion.

use domain::access_tokens::Grant;
use domain::audit::{AuditAction, Change};
use domain::factors::{AppId, Changes, MAX_PUSH_FACTORS, Notification, PublicKey, SdkVersion, Status};
use domain::limits::{CreationLimits, Window};
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Code, CredentialSid, Entity, EntityPath, Factor, FactorSid, FactorType, FriendlyName, Page, PageRequest,
    Timestamp,
};
use store::{Read, Write};
use telemetry::metrics::METRICS;

use crate::App;
use crate::audit::{AuditWriter, Origin};
use crate::caller::{Backend, BackendOrDevice, BackendOrEnrollee};
use crate::entities::{self, limit_entities};
use crate::error::Error;

/// Length of the period in which new factors of an entity are counted.
const FACTOR_LIMIT_SECONDS: i64 = 86_400;

/// The parameters of a new push factor.
#[derive(Clone, Debug)]
pub struct NewFactor {
    /// The user's name for the device.
    pub friendly_name: FriendlyName,
    /// The device's public key.
    pub public_key: PublicKey,
    /// The app on the device.
    pub app_id: AppId,
    /// How the device receives pushes.
    pub notification: Notification,
    /// Version of the SDK.
    pub sdk_version: Option<SdkVersion>,
    /// Free data of the app.
    pub metadata: Option<StringMap>,
}

/// An update of a factor: changes, a proof of the key, or both.
#[derive(Clone, Debug, Default)]
pub struct FactorUpdate {
    /// DER signature of the factor's own SID.
    pub proof: Option<Vec<u8>>,
    /// New values of the factor's fields.
    pub changes: Changes,
}

impl App {
    /// Creates a push factor, and its entity if there is none yet.
    ///
    /// A phone spends its access token on the factor. If it lost the response and repeats the request, it gets the same
    /// factor again while that is unverified (docs/protocol/decisions.md, No. 8).
    ///
    /// # Errors
    /// - 20404 for an unknown service.
    /// - 60313 for an access token of another service, identity or factor type; 20003 for one that is spent or whose
    ///   service is deleted.
    /// - 60315 if the entity has 20 factors, 60326 if it created too many in a day, 60328 if the service created too
    ///   many entities in a second.
    /// - 60317 if the entity has a factor with this key.
    ///
    /// Also fails if the database fails.
    pub async fn create_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrEnrollee,
        path: EntityPath,
        new: NewFactor,
    ) -> Result<Factor, Error> {
        caller.require_enrollment(&path, FactorType::Push)?;
        let now = self.clock.now();
        let sid = FactorSid::generate(FactorType::Push, now, self.entropy.as_ref());
        let enrollment = Enrollment {
            new_entity: self.new_entity(&path, now),
            path,
            new,
            grant: caller.grant().cloned(),
            sid,
            credential_sid: CredentialSid::generate(now, self.entropy.as_ref()),
            limits: self.limits,
            now,
        };
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let factor = self
            .store
            .write(async move |tx: &mut Write| {
                enrollment.require_service(tx).await?;
                let entity = enrollment.ensure_entity(tx, &audit).await?;
                if let Some(factor) = enrollment.factor_of_spent_token(tx).await? {
                    return Ok(factor);
                }
                let factor = enrollment.insert_factor(tx, entity).await?;
                enrollment.spend_access_token(tx).await?;
                audit.record(tx, about(AuditAction::FactorCreated, &factor)).await?;
                outbox.enqueue_webhooks(tx, EventType::FactorCreated, &factor, None, now).await?;
                Ok::<_, Error>(factor)
            })
            .await?;
        let is_repetition = factor.sid != sid;
        if !is_repetition {
            METRICS.factors_created.inc();
        }
        self.worker.notify();
        Ok(factor)
    }

    /// Returns the factor `sid` of the entity at `path`.
    ///
    /// # Errors
    /// 20404 if there is none that the caller may see. Also fails if the database fails.
    pub async fn factor(
        &self,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
    ) -> Result<Factor, Error> {
        caller.require_entity(&path)?;
        caller.require_factor(sid)?;
        self.store
            .read(async move |db: &mut Read| db.factor(&path, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns a page of the factors of the entity at `path`.
    ///
    /// # Errors
    /// 20404 if there is no such entity. Also fails if the database fails.
    pub async fn factors(
        &self,
        caller: Backend,
        path: EntityPath,
        page: PageRequest,
    ) -> Result<Page<Factor>, Error> {
        caller.require_entity(&path)?;
        self.store
            .read(async move |db: &mut Read| {
                let entity = db.entity(&path).await?.ok_or_else(Error::not_found)?;
                Ok(db.factors(entity.sid, &page).await?)
            })
            .await
    }

    /// Verifies a factor, changes it, or both. A proof for a factor that is verified already changes nothing.
    ///
    /// # Errors
    /// 20404 if there is no factor that the caller may use; 60311 if the proof does not verify, and nothing is changed
    /// then; the errors of [`Changes::apply`]. Also fails if the database fails.
    pub async fn update_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
        update: FactorUpdate,
    ) -> Result<Factor, Error> {
        let now = self.clock.now();
        let current = self.factor(caller, path.clone(), sid).await?;
        let is_proven = match &update.proof {
            // The key never changes, so the expensive check is done before the transaction begins.
            Some(proof) if crypto::verify_der(&current.public_key, sid.to_string().as_bytes(), proof) => true,
            Some(_) => return Err(Code::FactorVerificationFailed.into()),
            None => false,
        };
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let (factor, becomes_verified) = self
            .store
            .write(async move |tx: &mut Write| {
                let mut factor = tx.lock_factor(&path, sid).await?.ok_or_else(Error::not_found)?;
                let becomes_verified = is_proven && factor.status == Status::Unverified;
                let has_changes = !update.changes.is_empty();
                if becomes_verified {
                    factor.status = Status::Verified;
                    factor.updated_at = now;
                }
                if has_changes {
                    update.changes.clone().apply(&mut factor, now)?;
                    let change = about(AuditAction::FactorUpdated, &factor);
                    audit.record(tx, change.detail("changed", update.changes.names())).await?;
                }
                if becomes_verified || has_changes {
                    tx.update_factor(&factor).await?;
                }
                if becomes_verified {
                    audit.record(tx, about(AuditAction::FactorVerified, &factor)).await?;
                    outbox.enqueue_webhooks(tx, EventType::FactorVerified, &factor, None, now).await?;
                }
                Ok::<_, Error>((factor, becomes_verified))
            })
            .await?;
        if becomes_verified {
            METRICS.factors_verified.inc();
        }
        self.worker.notify();
        Ok(factor)
    }

    /// Deletes a factor. Its challenges can still be read, but the pending ones can no longer be answered
    /// (docs/protocol/decisions.md, No. 17).
    ///
    /// # Errors
    /// 20404 if there is no factor that the caller may use. Also fails if the database fails.
    pub async fn delete_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
    ) -> Result<(), Error> {
        caller.require_entity(&path)?;
        caller.require_factor(sid)?;
        let now = self.clock.now();
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                let factor = tx.delete_factor(&path, sid, now).await?.ok_or_else(Error::not_found)?;
                audit.record(tx, about(AuditAction::FactorDeleted, &factor)).await?;
                outbox.enqueue_webhooks(tx, EventType::FactorDeleted, &factor, None, now).await
            })
            .await?;
        self.worker.notify();
        Ok(())
    }
}

/// The creation of one factor. Its methods are the steps within the transaction, in this order.
struct Enrollment {
    path: EntityPath,
    new: NewFactor,
    /// The entity that is stored if there is none at `path` yet.
    new_entity: Entity,
    /// What the caller's access token permits; `None` if a backend creates the factor.
    grant: Option<Grant>,
    sid: FactorSid,
    credential_sid: CredentialSid,
    limits: CreationLimits,
    now: Timestamp,
}

impl Enrollment {
    /// Checks that the service exists. Deleting a service deletes its access tokens, so without the service a token is
    /// not valid (20003); a backend gets 20404.
    async fn require_service(&self, tx: &mut Write) -> Result<(), Error> {
        let service = tx.service(self.path.account_sid, self.path.service_sid).await?;
        match (service, &self.grant) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(Error::unauthenticated()),
            (None, None) => Err(Error::not_found()),
        }
    }

    /// Returns the entity, and creates it if there is none.
    async fn ensure_entity(&self, tx: &mut Write, audit: &AuditWriter) -> Result<Entity, Error> {
        limit_entities(tx, &self.path, self.limits.max_entities_per_service_per_second, self.now).await?;
        let entity = tx.ensure_entity(&self.new_entity).await?;
        let is_new = entity.sid == self.new_entity.sid;
        if is_new {
            audit.record(tx, entities::created(&entity)).await?;
        }
        Ok(entity)
    }

    /// Returns the factor on which the access token was spent, if this request repeats its creation. The entity is
    /// locked at this point, so concurrent requests with one token see each other's factor.
    async fn factor_of_spent_token(&self, tx: &mut Write) -> Result<Option<Factor>, Error> {
        let Some(grant) = &self.grant else { return Ok(None) };
        let token = tx.access_token(grant.account_sid, grant.service_sid, grant.sid).await?;
        let token = token.ok_or_else(Error::unauthenticated)?;
        let Some(spent_on) = token.spent_on else { return Ok(None) };
        let factor = tx.factor(&self.path, spent_on).await?.ok_or_else(Error::unauthenticated)?;
        let is_repetition = factor.status == Status::Unverified && factor.public_key == self.new.public_key;
        if is_repetition { Ok(Some(factor)) } else { Err(Error::unauthenticated()) }
    }

    /// Checks the limits of the entity, and stores the factor.
    async fn insert_factor(&self, tx: &mut Write, entity: Entity) -> Result<Factor, Error> {
        if tx.count_factors(entity.sid).await? >= MAX_PUSH_FACTORS {
            return Err(Code::TooManyFactors.into());
        }
        let window =
            self.limits.max_factors_per_entity_per_day.map(|most| Window::new(most, FACTOR_LIMIT_SECONDS));
        if let Some(window) = window {
            let back =
                tx.nth_latest_factor_created_at(entity.sid, window.span(self.now), window.most()).await?;
            window.check(back, self.now, Code::TooManyFactorCreations)?;
        }
        let factor = self.factor(entity);
        tx.insert_factor(&factor).await?;
        if window.is_some() {
            tx.record_factor_creation(&factor).await?;
        }
        Ok(factor)
    }

    fn factor(&self, entity: Entity) -> Factor {
        let new = self.new.clone();
        Factor {
            sid: self.sid,
            account_sid: self.path.account_sid,
            service_sid: self.path.service_sid,
            entity_sid: entity.sid,
            identity: entity.identity,
            friendly_name: new.friendly_name,
            public_key: new.public_key,
            credential_sid: self.credential_sid,
            status: Status::Unverified,
            app_id: new.app_id,
            sdk_version: new.sdk_version,
            notification: new.notification,
            unreachable: false,
            token_registered_at: self.now,
            metadata: new.metadata,
            created_at: self.now,
            updated_at: self.now,
        }
    }

    /// Marks the access token as spent on the new factor. Fails if a concurrent request has spent it.
    async fn spend_access_token(&self, tx: &mut Write) -> Result<(), Error> {
        let Some(grant) = &self.grant else { return Ok(()) };
        let is_spent_now = tx.spend_access_token(grant.sid, self.sid).await?;
        if is_spent_now { Ok(()) } else { Err(Error::unauthenticated()) }
    }
}

/// Returns the audit record for an action on a factor.
pub(crate) fn about(action: AuditAction, factor: &Factor) -> Change {
    let change = Change::new(action, factor.account_sid, factor.sid);
    let change = change.detail("service_sid", factor.service_sid).detail("entity_sid", factor.entity_sid);
    change.detail("status", factor.status.as_str())
}
