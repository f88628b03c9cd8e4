//! Use cases of factors: enroll, verify, fetch, list, update and delete.

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

/// Length of the period over which an entity's new factors are counted: one day, in seconds.
const FACTOR_LIMIT_SECONDS: i64 = 86_400;

/// The parameters of a new push factor.
#[derive(Clone, Debug)]
pub struct NewFactor {
    /// Display name of the factor: the user's name for the device.
    pub friendly_name: FriendlyName,
    /// Public key of the device, with which its signatures are verified.
    pub public_key: PublicKey,
    /// Identifier of the app on the device.
    pub app_id: AppId,
    /// Push platform and push token of the device, or none.
    pub notification: Notification,
    /// Version of the client SDK in the app.
    pub sdk_version: Option<SdkVersion>,
    /// Custom key-value data of the app, stored without interpretation.
    pub metadata: Option<StringMap>,
}

/// An update of a factor: a proof that verifies it, changes to its fields, or both.
#[derive(Clone, Debug, Default)]
pub struct FactorUpdate {
    /// DER-encoded signature of the factor's SID, which proves that the device holds the private key. It verifies the
    /// factor.
    pub proof: Option<Vec<u8>>,
    /// New values for the factor's fields.
    pub changes: Changes,
}

impl App {
    /// Creates a push factor, and also its entity if that does not exist yet. Returns the factor.
    ///
    /// An enrollee spends its access token on the factor. If it lost the response and repeats the request, it gets the
    /// same factor again as long as that factor is unverified (docs/protocol/decisions.md, No. 8).
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the service does not exist.
    /// - 60313 if the access token is for another service, identity or factor type; 20003 if it is spent or its service
    ///   was deleted.
    /// - 60315 if the entity already has 20 factors; 60326 if it has created too many within a day; 60328 if the
    ///   service has created too many entities within a second.
    /// - 60317 if the entity already has a factor with this public key.
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
    /// Fails with 20404 if the factor does not exist or the caller may not access it. Also fails if the database fails.
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

    /// Returns one page of the factors of the entity at `path`.
    ///
    /// # Errors
    /// Fails with 20404 if the entity does not exist or the caller may not access it. Also fails if the database fails.
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

    /// Verifies a factor, changes its fields, or both. Returns the updated factor. A proof for a factor that is already
    /// verified has no effect.
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it, with 60311 if the proof is not a
    /// valid signature, or with an error of [`Changes::apply`]. Also fails if the database fails. On any error, nothing
    /// is changed.
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
            // A factor's key never changes, so the expensive signature check can run before the transaction begins.
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

    /// Deletes a factor. Its challenges can still be read, but those that are pending can no longer be answered
    /// (docs/protocol/decisions.md, No. 17).
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it. Also fails if the database fails.
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

/// The creation of one factor. Its methods are the steps within the transaction, in the order in which they run.
struct Enrollment {
    path: EntityPath,
    new: NewFactor,
    /// The entity to store if the one at `path` does not exist yet.
    new_entity: Entity,
    /// What the caller's access token permits, or `None` if a backend creates the factor.
    grant: Option<Grant>,
    sid: FactorSid,
    credential_sid: CredentialSid,
    limits: CreationLimits,
    now: Timestamp,
}

impl Enrollment {
    /// Checks that the service exists. Otherwise a backend gets 20404. An enrollee gets 20003, because deleting a
    /// service also deletes its access tokens, so the enrollee's token is no longer valid.
    async fn require_service(&self, tx: &mut Write) -> Result<(), Error> {
        let service = tx.service(self.path.account_sid, self.path.service_sid).await?;
        match (service, &self.grant) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(Error::unauthenticated()),
            (None, None) => Err(Error::not_found()),
        }
    }

    /// Returns the entity at `path`, creating it if it does not exist yet.
    async fn ensure_entity(&self, tx: &mut Write, audit: &AuditWriter) -> Result<Entity, Error> {
        limit_entities(tx, &self.path, self.limits.max_entities_per_service_per_second, self.now).await?;
        let entity = tx.ensure_entity(&self.new_entity).await?;
        let is_new = entity.sid == self.new_entity.sid;
        if is_new {
            audit.record(tx, entities::created(&entity)).await?;
        }
        Ok(entity)
    }

    /// Returns the factor on which the access token was spent if this request repeats its creation, or `None` if the
    /// token is unspent or the caller is a backend. Fails with 20003 if the token was spent on another factor or is
    /// unknown. The entity is locked at this point, so concurrent requests with the same token see each other's factor.
    async fn factor_of_spent_token(&self, tx: &mut Write) -> Result<Option<Factor>, Error> {
        let Some(grant) = &self.grant else { return Ok(None) };
        let token = tx.access_token(grant.account_sid, grant.service_sid, grant.sid).await?;
        let token = token.ok_or_else(Error::unauthenticated)?;
        let Some(spent_on) = token.spent_on else { return Ok(None) };
        let factor = tx.factor(&self.path, spent_on).await?.ok_or_else(Error::unauthenticated)?;
        let is_repetition = factor.status == Status::Unverified && factor.public_key == self.new.public_key;
        if is_repetition { Ok(Some(factor)) } else { Err(Error::unauthenticated()) }
    }

    /// Checks the limits on factors per entity, stores the new factor, and returns it.
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

    /// Marks the access token, if any, as spent on the new factor. Fails with 20003 if a concurrent request has spent
    /// it.
    async fn spend_access_token(&self, tx: &mut Write) -> Result<(), Error> {
        let Some(grant) = &self.grant else { return Ok(()) };
        let is_spent_now = tx.spend_access_token(grant.sid, self.sid).await?;
        if is_spent_now { Ok(()) } else { Err(Error::unauthenticated()) }
    }
}

/// Returns the change to record in the audit log for an action on a factor.
pub(crate) fn about(action: AuditAction, factor: &Factor) -> Change {
    let change = Change::new(action, factor.account_sid, factor.sid);
    let change = change.detail("service_sid", factor.service_sid).detail("entity_sid", factor.entity_sid);
    change.detail("status", factor.status.as_str())
}
