//! Queries for entities.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::MAX_LIFETIME_SECONDS;
use domain::paging::{Page, PageRequest};
use domain::{
    AccountSid, ChallengeSid, Entity, EntityPath, EntitySid, FactorSid, Identity, ServiceSid, Timestamp,
};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind};

const COLUMNS: &str = "sid, account_sid, service_sid, identity, created_at, updated_at";

fn parse_entity(row: &Row) -> Result<Entity, Error> {
    Ok(Entity {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        identity: Identity::from_stored(row.text("identity")?),
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// What was deleted with an entity.
#[derive(Clone, Debug)]
pub struct DeletedEntity {
    /// SID of the entity.
    pub sid: EntitySid,
    /// SIDs of its factors.
    pub factors: Vec<FactorSid>,
    /// SIDs of its passkey challenges that name no factor and may still be pending.
    pub challenges: Vec<ChallengeSid>,
}

impl Read {
    /// Returns the entity at `path`, or `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn entity(&mut self, path: &EntityPath) -> Result<Option<Entity>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM entities \
             WHERE service_sid = $1 AND identity = $2 AND account_sid = $3 AND {SERVICE_EXISTS}"
        );
        let values = bind![path.service_sid, path.identity.as_str(), path.account_sid];
        self.fetch_optional(sql, values, parse_entity).await
    }

    /// Returns the identity of a service's entity, or `None` if the service has no such entity.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn entity_identity(
        &mut self,
        service_sid: ServiceSid,
        sid: EntitySid,
    ) -> Result<Option<Identity>, Error> {
        let sql = "SELECT identity FROM entities WHERE sid = $1 AND service_sid = $2 AND deleted_at IS NULL";
        let parse = |row: &Row<'_>| row.text("identity").map(Identity::from_stored);
        self.fetch_optional(sql, bind![sid, service_sid], parse).await
    }

    /// Returns the requested page of a service's entities.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn entities(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        request: &PageRequest,
    ) -> Result<Page<Entity>, Error> {
        let list = ListQuery::select(COLUMNS, "entities").filter(
            "deleted_at IS NULL AND service_sid = ? AND account_sid = ?",
            bind![service_sid, account_sid],
        );
        list.page(self, request, parse_entity).await
    }

    /// Returns the creation time of a service's `most`-th newest entity within `span`, or `None` if there are fewer.
    /// Counts entities created after the start of `span` and no later than its end.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn nth_latest_entity_created_at(
        &mut self,
        service_sid: ServiceSid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM entities WHERE service_sid = $1 AND created_at > $2 AND created_at <= $3 \
                   AND deleted_at IS NULL ORDER BY created_at DESC, sid DESC LIMIT 1 OFFSET $4";
        let values = bind![service_sid, span.start, span.end, i64::from(most.get()) - 1];
        self.fetch_optional(sql, values, |row| row.timestamp("created_at")).await
    }
}

impl Write {
    /// Inserts an entity. Returns `false`, changing nothing, if the service already has an entity with this identity.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    pub async fn insert_entity(&mut self, entity: &Entity) -> Result<bool, Error> {
        let sql = "INSERT INTO entities (sid, account_sid, service_sid, identity, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (service_sid, identity) DO NOTHING RETURNING sid";
        Ok(self.count_rows(sql, bound_values(entity)).await? > 0)
    }

    /// Returns the entity that has the identity of `new`, after inserting `new` if there is none. Locks the entity
    /// until the transaction ends, so that its factors can be counted before one is added.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    pub async fn ensure_entity(&mut self, new: &Entity) -> Result<Entity, Error> {
        // The update changes no value, but makes the statement lock and return an existing row.
        let sql = format!(
            "INSERT INTO entities (sid, account_sid, service_sid, identity, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (service_sid, identity) \
             DO UPDATE SET updated_at = entities.updated_at RETURNING {COLUMNS}"
        );
        self.fetch_optional(sql, bound_values(new), parse_entity).await?.ok_or(Error::ParentGone)
    }

    /// Marks an entity as deleted and deletes its factors. Returns what was deleted, or `None` if there is no such entity.
    /// From then on, queries find nothing under the entity. [`remove_deleted`](Self::remove_deleted) later
    /// removes the remaining rows.
    ///
    /// Replaces the identity with text that is not a valid [`Identity`]. Paths therefore no longer lead to this entity,
    /// and a new entity can use the identity at once.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_entity(
        &mut self,
        path: &EntityPath,
        now: Timestamp,
    ) -> Result<Option<DeletedEntity>, Error> {
        let sid_text = if self.connection.is_postgres() { "CAST(sid AS TEXT)" } else { "hex(sid)" };
        let mark = format!(
            "UPDATE entities SET deleted_at = $4, identity = '~' || {sid_text} \
             WHERE service_sid = $1 AND identity = $2 AND account_sid = $3 AND {SERVICE_EXISTS} RETURNING sid"
        );
        let values = bind![path.service_sid, path.identity.as_str(), path.account_sid, now];
        let marked = self.fetch_optional(mark, values, |row| row.sid("sid")).await?;
        let Some(sid): Option<EntitySid> = marked else { return Ok(None) };
        // The factors are deleted immediately: an entity has only a few, and without its factor no device can
        // authenticate.
        let delete = "DELETE FROM factors WHERE entity_sid = $1 RETURNING sid";
        let factors = self.fetch_all(delete, bind![sid], |row| row.sid("sid")).await?;
        let open = "SELECT sid FROM challenges WHERE service_sid = $1 AND entity_sid = $2 AND responded_at IS NULL \
                    AND created_at > $3 AND factor_sid IS NULL";
        let values = bind![path.service_sid, sid, now.plus_seconds(-MAX_LIFETIME_SECONDS)];
        let challenges = self.fetch_all(open, values, |row| row.sid("sid")).await?;
        Ok(Some(DeletedEntity { sid, factors, challenges }))
    }
}

fn bound_values(entity: &Entity) -> Vec<crate::values::Value> {
    bind![
        entity.sid,
        entity.account_sid,
        entity.service_sid,
        entity.identity.as_str(),
        entity.created_at,
        entity.updated_at
    ]
}
