//! Use cases of factors: those that concern every type, and the steps that every creation has. The file of a type has
//! the others.

mod passkey;
mod push;
pub(crate) mod totp;

use domain::audit::{AuditAction, Change};
use domain::factors::Status;
use domain::limits::{CreationLimits, Window};
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{
    Code, Entity, EntityPath, Factor, FactorSid, FactorType, FriendlyName, HasFactorType, Page, PageRequest,
    Timestamp,
};
use store::{Read, Write};
use telemetry::metrics::{FactorLabels, METRICS};

use crate::App;
use crate::audit::{AuditWriter, Origin};
use crate::caller::{Backend, BackendOrDevice};
use crate::entities::{self, limit_entities};
use crate::error::Error;
pub use crate::factors::passkey::NewPasskey;
pub use crate::factors::push::{NewPushFactor, PushFactorUpdate};
pub use crate::factors::totp::{CreatedTotpFactor, NewTotpFactor, TotpFactorUpdate};
use crate::outbox::Outbox;

/// Length of the period over which an entity's new factors are counted: one day, in seconds.
const FACTOR_LIMIT_SECONDS: i64 = 86_400;

impl App {
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
        let audit = self.audit(origin, now);
        let factor = self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            let factor = tx.delete_factor(&path, sid, now).await?.ok_or_else(Error::not_found)?;
            audit.record(tx, about(AuditAction::FactorDeleted, &factor)).await?;
            outbox.enqueue_webhooks(tx, EventType::FactorDeleted, &factor, None, now).await?;
            Ok(factor)
        });
        self.touch_factor(&factor.await?);
        Ok(())
    }
}

/// The creation of one factor of any type. Its methods are steps within the transaction, in the order in which they
/// run. Between the last two, the use case of the type inserts the factor.
struct FactorCreation {
    path: EntityPath,
    /// The entity to store if the one at `path` does not exist yet.
    new_entity: Entity,
    factor_type: FactorType,
    sid: FactorSid,
    limits: CreationLimits,
    now: Timestamp,
}

impl App {
    /// Prepares the creation of a factor of the entity at `path`.
    fn factor_creation(&self, factor_type: FactorType, path: EntityPath, now: Timestamp) -> FactorCreation {
        FactorCreation {
            new_entity: self.new_entity(&path, now),
            path,
            factor_type,
            sid: FactorSid::generate(factor_type, now, self.entropy.as_ref()),
            limits: self.limits,
            now,
        }
    }
}

impl FactorCreation {
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

    /// Checks the limits on the factors of an entity.
    ///
    /// # Errors
    /// Fails with 60315 if the entity has as many factors of this type as it may have, and with 60326 if it has created
    /// too many factors within a day. Also fails if the database fails.
    async fn check_limits(&self, tx: &mut Write, entity: &Entity) -> Result<(), Error> {
        if tx.count_factors(entity.sid, self.factor_type).await? >= self.factor_type.max_per_entity() {
            return Err(self.factor_type.too_many().into());
        }
        if let Some(window) = self.daily_window() {
            let back =
                tx.nth_latest_factor_created_at(entity.sid, window.span(self.now), window.most()).await?;
            window.check(back, self.now, Code::TooManyFactorCreations)?;
        }
        Ok(())
    }

    fn daily_window(&self) -> Option<Window> {
        self.limits.max_factors_per_entity_per_day.map(|most| Window::new(most, FACTOR_LIMIT_SECONDS))
    }

    /// Returns the new factor, without storing it.
    fn factor<Kind>(
        &self,
        entity: Entity,
        friendly_name: FriendlyName,
        metadata: Option<StringMap>,
        kind: Kind,
    ) -> Factor<Kind> {
        Factor {
            sid: self.sid,
            account_sid: self.path.account_sid,
            service_sid: self.path.service_sid,
            entity_sid: entity.sid,
            identity: entity.identity,
            friendly_name,
            status: Status::Unverified,
            metadata,
            created_at: self.now,
            updated_at: self.now,
            kind,
        }
    }

    /// Records the creation of the factor, which has been inserted: for the limit per day, in the audit log, and for
    /// webhooks.
    async fn record<Kind: HasFactorType>(
        &self,
        tx: &mut Write,
        factor: &Factor<Kind>,
        audit: &AuditWriter,
        outbox: &Outbox,
    ) -> Result<(), Error> {
        if self.daily_window().is_some() {
            tx.record_factor_creation(factor).await?;
        }
        audit.record(tx, about(AuditAction::FactorCreated, factor)).await?;
        outbox.enqueue_webhooks(tx, EventType::FactorCreated, factor, None, self.now).await
    }
}

/// Counts a new factor in the metrics. Call this after the commit.
fn count_creation(factor_type: FactorType) {
    METRICS.factors_created.get_or_create(&factor_labels(factor_type)).inc();
}

/// Counts a verified factor in the metrics. Call this after the commit.
fn count_verification(factor_type: FactorType) {
    METRICS.factors_verified.get_or_create(&factor_labels(factor_type)).inc();
}

/// Returns the labels of metrics about factors of this type.
pub(crate) fn factor_labels(factor_type: FactorType) -> FactorLabels {
    FactorLabels { factor_type: factor_label(factor_type) }
}

/// Returns the value of the label `factor_type`.
pub(crate) const fn factor_label(factor_type: FactorType) -> telemetry::metrics::FactorType {
    match factor_type {
        FactorType::Push => telemetry::metrics::FactorType::Push,
        FactorType::Totp => telemetry::metrics::FactorType::Totp,
        FactorType::Passkeys => telemetry::metrics::FactorType::Passkeys,
    }
}

/// Returns the change to record in the audit log for an action on a factor.
pub(crate) fn about<Kind>(action: AuditAction, factor: &Factor<Kind>) -> Change {
    let change = Change::new(action, factor.account_sid, factor.sid);
    let change = change.detail("service_sid", factor.service_sid).detail("entity_sid", factor.entity_sid);
    change.detail("status", factor.status.as_str())
}
