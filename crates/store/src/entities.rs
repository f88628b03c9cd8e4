//! Entities.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Entity, EntityPath, EntitySid, Identity, ServiceSid, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::services::IN_A_LIVE_SERVICE;
use crate::sql::{Row, bind};
use crate::{Read, Write};

const COLUMNS: &str = "sid, account_sid, service_sid, identity, created_at, updated_at";

fn entity(row: &Row) -> Result<Entity, Error> {
    Ok(Entity {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        identity: Identity::from_stored(row.text("identity")?),
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

impl Read {
    /// An entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn entity(&mut self, path: &EntityPath) -> Result<Option<Entity>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM entities \
             WHERE service_sid = $1 AND identity = $2 AND account_sid = $3 AND {IN_A_LIVE_SERVICE}"
        );
        let values = bind![path.service_sid, path.identity.as_str(), path.account_sid];
        self.one(sql, values).await?.as_ref().map(entity).transpose()
    }

    /// The entities of a service.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn entities(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        request: &PageRequest,
    ) -> Result<Page<Entity>, Error> {
        let list = List::of(COLUMNS, "entities").only(
            "deleted_at IS NULL AND service_sid = ? AND account_sid = ?",
            bind![service_sid, account_sid],
        );
        list.page::<EntitySid, _>(self, request, entity).await
    }
}

impl Read {
    /// Returns the creation time of the `most`-th newest entity of a service within `span`, its end included; `None` if
    /// there are fewer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn entity_back(
        &mut self,
        service_sid: ServiceSid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM entities WHERE service_sid = $1 AND created_at > $2 AND created_at <= $3 \
                   AND deleted_at IS NULL ORDER BY created_at DESC, sid DESC LIMIT 1 OFFSET $4";
        let row = self.one(sql, bind![service_sid, span.start, span.end, i64::from(most.get()) - 1]).await?;
        row.map(|row| row.timestamp("created_at")).transpose()
    }
}

impl Write {
    /// Adds an entity; `false` when one of that identity exists.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such service.
    pub async fn insert_entity(&mut self, entity: &Entity) -> Result<bool, Error> {
        let sql = "INSERT INTO entities (sid, account_sid, service_sid, identity, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (service_sid, identity) DO NOTHING RETURNING sid";
        Ok(self.one(sql, values(entity)).await?.is_some())
    }

    /// The entity of that identity: the one that exists, else this one, added. Either way it is held
    /// until the transaction ends, so that its factors can be counted before one is added.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such service.
    pub async fn ensure_entity(&mut self, new: &Entity) -> Result<Entity, Error> {
        // Writing a column back to itself is what makes the existing row come back, locked.
        let sql = format!(
            "INSERT INTO entities (sid, account_sid, service_sid, identity, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (service_sid, identity) \
             DO UPDATE SET updated_at = entities.updated_at RETURNING {COLUMNS}"
        );
        let row = self.one(sql, values(new)).await?;
        row.as_ref().map_or(Err(Error::ParentGone), entity)
    }

    /// Marks an entity as deleted and removes its factors; returns its SID, `None` when there is no such entity.
    /// From here on nothing under it is found. [`remove_deleted`](Self::remove_deleted) removes the rows.
    ///
    /// The mark replaces the identity by a text that no identity can be (see [`Identity`]), so that a new entity can
    /// have that at once, and paths no longer lead to this one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_entity(
        &mut self,
        path: &EntityPath,
        now: Timestamp,
    ) -> Result<Option<EntitySid>, Error> {
        let mark = format!(
            "UPDATE entities SET deleted_at = $4, identity = '~' || sid \
             WHERE service_sid = $1 AND identity = $2 AND account_sid = $3 AND {IN_A_LIVE_SERVICE} RETURNING sid"
        );
        let values = bind![path.service_sid, path.identity.as_str(), path.account_sid, now];
        let Some(row) = self.one(mark, values).await? else { return Ok(None) };
        let sid: EntitySid = row.sid("sid")?;
        // An entity has few of them, and without one no device signs in.
        self.all("DELETE FROM factors WHERE entity_sid = $1", bind![sid]).await?;
        Ok(Some(sid))
    }
}

fn values(entity: &Entity) -> Vec<crate::sql::Value> {
    bind![
        entity.sid,
        entity.account_sid,
        entity.service_sid,
        entity.identity.as_str(),
        entity.created_at,
        entity.updated_at
    ]
}
