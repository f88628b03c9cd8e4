//! Entities.

use std::num::NonZeroU32;

use domain::limits::Window;
use domain::{AccountSid, Code, Entity, EntityPath, EntitySid, Page, PageRequest, ServiceSid, Timestamp};
use store::{Read, Write};

use crate::App;
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
    pub async fn create_entity(&self, path: EntityPath) -> Result<Entity, Error> {
        let entity = self.new_entity(&path, self.clock.now());
        let most = self.limits.entities_per_service_and_second;
        self.store
            .write(async move |tx: &mut Write| {
                tx.service(path.account_sid, path.service_sid).await?.ok_or_else(Error::not_found)?;
                limit_entities(tx, &path, most, entity.created_at).await?;
                match tx.insert_entity(&entity).await? {
                    true => Ok(entity.clone()),
                    false => Err(Code::EntityExists.into()),
                }
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

    /// Deletes an entity with its factors and challenges.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn delete_entity(&self, path: EntityPath) -> Result<(), Error> {
        self.store
            .write(async move |tx: &mut Write| match tx.delete_entity(&path).await? {
                true => Ok(()),
                false => Err(Error::not_found()),
            })
            .await
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
    let back = tx.entity_back(path.service_sid, window.begin(now), window.most()).await?;
    Ok(window.admits(back, now, Code::TooManyEntityCreations)?)
}
