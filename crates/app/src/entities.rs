//! Use cases of entities: create, fetch, list and delete.

use std::num::NonZeroU32;

use domain::audit::{AuditAction, Change};
use domain::limits::Window;
use domain::{Code, Entity, EntityPath, EntityRef, EntitySid, Page, PageRequest, ServiceSid, Timestamp};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::{Backend, BackendOrDevice};
use crate::error::Error;

impl App {
    /// Builds a new entity with a generated SID, without storing it.
    pub(crate) fn new_entity(&self, path: &EntityPath, now: Timestamp) -> Entity {
        Entity {
            sid: EntitySid::generate(now, self.entropy.as_ref()),
            account_sid: path.account_sid,
            service_sid: path.service_sid,
            identity: path.identity.clone(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Creates the entity at `path`, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, with 60301 if the entity already exists, and with 60328 if the
    /// service has created too many entities within the last second. Also fails if the database fails.
    pub async fn create_entity(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
    ) -> Result<Entity, Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let (entity, audit) = (self.new_entity(&path, now), self.audit(origin, now));
        let most = self.limits.max_entities_per_service_per_second;
        self.store
            .write(async move |tx: &mut Write| {
                tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                limit_entities(tx, &path, most, entity.created_at).await?;
                match tx.insert_entity(&entity).await? {
                    true => audit.record(tx, created(&entity)).await?,
                    false => return Err(Code::EntityExists.into()),
                }
                Ok(entity.clone())
            })
            .await
    }

    /// Returns the entity at `path`.
    ///
    /// # Errors
    /// Fails with 20404 if the entity does not exist or the caller may not access it. Also fails if the database fails.
    pub async fn entity(&self, caller: &BackendOrDevice, path: EntityPath) -> Result<Entity, Error> {
        caller.require_entity(&path)?;
        self.store.read(async move |db: &mut Read| db.entity(&path).await?.ok_or_else(Error::not_found)).await
    }

    /// Returns a reference to the entity at `path`. For a device, the database is not read: the device's factor exists,
    /// and therefore its entity does.
    ///
    /// # Errors
    /// Fails with 20404 if the entity does not exist or the caller may not access it. Also fails if the database fails.
    pub async fn entity_ref(&self, caller: &BackendOrDevice, path: EntityPath) -> Result<EntityRef, Error> {
        caller.require_entity(&path)?;
        let sid = match caller {
            BackendOrDevice::Device(factor) => factor.entity_sid,
            BackendOrDevice::Backend(_) => self.entity(caller, path.clone()).await?.sid,
        };
        Ok(EntityRef { sid, path })
    }

    /// Returns one page of a service's entities.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn entities(
        &self,
        caller: Backend,
        service_sid: ServiceSid,
        page: PageRequest,
    ) -> Result<Page<Entity>, Error> {
        let account_sid = caller.account_sid();
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                Ok(db.entities(account_sid, service_sid, &page).await?)
            })
            .await
    }

    /// Deletes an entity with its factors and challenges. The data is immediately inaccessible; housekeeping removes
    /// the rows later.
    ///
    /// # Errors
    /// Fails with 20404 if the entity does not exist or the caller may not access it. Also fails if the database fails.
    pub async fn delete_entity(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
    ) -> Result<(), Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let account_sid = path.account_sid;
        let deleted = self.store.write(async move |tx: &mut Write| {
            let deleted = tx.delete_entity(&path, now).await?.ok_or_else(Error::not_found)?;
            let change = Change::new(AuditAction::EntityDeleted, path.account_sid, deleted.sid);
            audit.record(tx, change.detail("service_sid", path.service_sid)).await?;
            Ok::<_, Error>(deleted)
        });
        let deleted = deleted.await?;
        self.deleted.notify_one();
        self.touch_deleted(account_sid, &deleted);
        Ok(())
    }
}

/// Checks that the service may create one more entity: it must have created fewer than `most` within the last second,
/// unless `most` is `None`. Locks the service, so that concurrent requests are counted one after another. If the entity
/// already exists, the check succeeds, because nothing is created.
///
/// # Errors
/// Fails with 60328 if the limit is reached, and with 20404 if the service does not exist. Also fails if the database
/// fails.
pub(crate) async fn limit_entities(
    tx: &mut Write,
    path: &EntityPath,
    most: Option<NonZeroU32>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(window) = most.map(|most| Window::new(most, 1)) else { return Ok(()) };
    if tx.entity(path).await?.is_some() {
        return Ok(());
    }
    tx.lock_service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
    // Another request may have created the entity while this one waited for the lock.
    if tx.entity(path).await?.is_some() {
        return Ok(());
    }
    let back = tx.nth_latest_entity_created_at(path.service_sid, window.span(now), window.most()).await?;
    Ok(window.check(back, now, Code::TooManyEntityCreations)?)
}

/// Returns the change to record in the audit log for a created entity.
pub(crate) fn created(entity: &Entity) -> Change {
    let change = Change::new(AuditAction::EntityCreated, entity.account_sid, entity.sid);
    change.detail("service_sid", entity.service_sid)
}
