//! Removal of the rows that belong to deleted services and entities.
//!
//! Deleting a service or an entity only marks its row (`deleted_at`), so that the duration does not depend on the
//! number of rows under it. Queries find nothing under a marked row. Housekeeping removes the rows later, a few in each
//! transaction.

use domain::{EntitySid, ServiceSid, Sid};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Value, bind, to_hex, to_json};

/// The tables whose rows belong to an entity, each with its key column, in the order of removal. A row of `factors` is
/// removed with its one row in the table of its type, and so is a row of `challenges`.
const ENTITY_TABLES: [(&str, &str); 3] =
    [("challenges", "sid"), ("factor_creations", "factor_sid"), ("factors", "sid")];

impl Read {
    /// Counts the services and entities that are marked as deleted but not yet removed.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_deleted(&mut self) -> Result<i64, Error> {
        let sql = "SELECT (SELECT COUNT(*) FROM services WHERE deleted_at IS NOT NULL) \
                   + (SELECT COUNT(*) FROM entities WHERE deleted_at IS NOT NULL) AS deleted";
        Ok(self.fetch_optional(sql, bind![], |row| row.int("deleted")).await?.unwrap_or(0))
    }
}

impl Write {
    /// Removes up to `limit` rows that belong to deleted services and entities. Returns the number of rows removed; 0
    /// means that none are left. Removes rows before their parents, so that no deletion cascades beyond the limit.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn remove_deleted(&mut self, limit: i64) -> Result<usize, Error> {
        let deleted = "SELECT sid FROM entities WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT $1";
        let entities: Vec<EntitySid> = self.select_locked(deleted, bind![limit]).await?;
        if !entities.is_empty() {
            return self.remove_entities(&entities, limit).await;
        }
        let deleted = "SELECT sid FROM services WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT 1";
        let mut services: Vec<ServiceSid> = self.select_locked(deleted, bind![]).await?;
        let Some(service) = services.pop() else { return Ok(0) };
        let under = "SELECT sid FROM entities WHERE service_sid = $1 AND deleted_at IS NULL \
                     ORDER BY created_at, sid LIMIT $2";
        let entities: Vec<EntitySid> = self.select_locked(under, bind![service, limit]).await?;
        if !entities.is_empty() {
            return self.remove_entities(&entities, limit).await;
        }
        // Without an order, PostgreSQL may search for the rows of a large service from the start of the table, in each
        // batch again. A range of one value, unlike an equality, makes it read in the order of the index.
        let of_service = if self.connection.is_postgres() { "BETWEEN $1 AND $1" } else { "= $1" };
        for (table, condition) in
            [("challenges", " AND entity_sid IS NULL"), ("access_tokens", ""), ("verifications", "")]
        {
            let sql = format!(
                "DELETE FROM {table} WHERE sid IN (SELECT sid FROM {table} \
                 WHERE service_sid {of_service}{condition} ORDER BY service_sid LIMIT $2) RETURNING sid"
            );
            let removed = self.count_rows(sql, bind![service, limit]).await?;
            if removed > 0 {
                return Ok(removed);
            }
        }
        // Nothing is left under the service, except rows that a server of an older version is adding at this moment.
        self.count_rows("DELETE FROM services WHERE sid = $1 RETURNING sid", bind![service]).await
    }

    /// Removes up to `limit` rows that belong to the entities with these SIDs, and then the entities' own rows. Returns
    /// the number of rows removed.
    async fn remove_entities(&mut self, entities: &[EntitySid], limit: i64) -> Result<usize, Error> {
        let sids: Vec<_> = entities.iter().copied().map(to_hex).collect();
        let among = if self.connection.is_postgres() {
            "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST($1 AS JSONB)) AS UUID)))"
        } else {
            "IN (SELECT unhex(value) FROM json_each($1))"
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut removed = 0;
        for (table, key) in ENTITY_TABLES {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN \
                 (SELECT {key} FROM {table} WHERE entity_sid {among} LIMIT $2) RETURNING {key}"
            );
            let left = i64::try_from(limit - removed).unwrap_or(i64::MAX);
            removed += self.count_rows(sql, bind![to_json(&sids), left]).await?;
            if removed >= limit {
                return Ok(removed);
            }
        }
        let childless = (limit - removed).min(entities.len());
        let sql = format!("DELETE FROM entities WHERE sid {among} RETURNING sid");
        removed += self.count_rows(sql, bind![to_json(&&sids[..childless])]).await?;
        Ok(removed)
    }

    /// Runs a query for SIDs, locks the selected rows until the transaction ends, and returns the SIDs. All
    /// transactions lock an entity before the rows under it, to avoid deadlocks.
    async fn select_locked<S: Sid>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<S>, Error> {
        let lock = if self.connection.is_postgres() { " FOR UPDATE" } else { "" };
        self.fetch_all(format!("{sql}{lock}"), values, |row| row.sid("sid")).await
    }
}
