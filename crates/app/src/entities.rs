//! Entities.

use std::num::NonZeroU32;

use domain::audit::{Act, Change};
use domain::limits::Window;
use domain::{AccountSid, Code, Entity, EntityPath, EntitySid, Page, PageRequest, ServiceSid, Timestamp};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// An entity that is not stored yet.
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

    /// Makes an entity.
    ///
    /// # Errors
    /// 20404 without the service, 60301 when it exists, 60328 when too many are made; when the database fails.
    pub async fn create_entity(&self, origin: &Origin, path: EntityPath) -> Result<Entity, Error> {
        let now = self.clock.now();
        let (entity, audit) = (self.new_entity(&path, now), self.audit(origin, now));
        let most = self.limits.entities_per_service_and_second;
        self.store
            .write(async move |tx: &mut Write| {
                tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                limit_entities(tx, &path, most, entity.created_at).await?;
                match tx.insert_entity(&entity).await? {
                    true => audit.note(tx, created(&entity)).await?,
                    false => return Err(Code::EntityExists.into()),
                }
                Ok(entity.clone())
            })
            .await
    }

    /// An entity.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn entity(&self, path: EntityPath) -> Result<Entity, Error> {
        self.store.read(async move |db: &mut Read| db.entity(&path).await?.ok_or_else(Error::not_found)).await
    }

    /// The entities of a service.
    ///
    /// # Errors
    /// 20404 without the service; when the database fails.
    pub async fn entities(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        page: PageRequest,
    ) -> Result<Page<Entity>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                Ok(db.entities(account_sid, service_sid, &page).await?)
            })
            .await
    }

    /// Deletes an entity with its factors and challenges. Nothing of it is found from here on; housekeeping removes the
    /// rows.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn delete_entity(&self, origin: &Origin, path: EntityPath) -> Result<(), Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let sid = tx.delete_entity(&path, now).await?.ok_or_else(Error::not_found)?;
                let change = Change::new(Act::EntityDeleted, path.account_sid, sid);
                audit.note(tx, change.with("service_sid", path.service_sid)).await
            })
            .await?;
        self.deleted.notify_one();
        Ok(())
    }
}

/// Refuses an entity that is not there yet when its service has had as many within a second as it may. Its service is
/// held from then on, so that those who ask at once are counted one after the other.
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
    // Somebody may have made it while this waited.
    if tx.entity(path).await?.is_some() {
        return Ok(());
    }
    let back = tx.entity_back(path.service_sid, window.span(now), window.most()).await?;
    Ok(window.admits(back, now, Code::TooManyEntityCreations)?)
}

/// That this entity has come to be.
pub(crate) fn created(entity: &Entity) -> Change {
    let change = Change::new(Act::EntityCreated, entity.account_sid, entity.sid);
    change.with("service_sid", entity.service_sid)
}
