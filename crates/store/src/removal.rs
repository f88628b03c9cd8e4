//! Removal of the rows of deleted services and entities.
//!
//! A deletion only marks its row (`deleted_at`), so that it takes as long for a large service as for a small one.
//! Queries find nothing under a marked row. The rows go afterwards, a few in each transaction.

use crate::error::Error;
use crate::sql::{Value, bind, to_json};
use crate::{Read, Write};

/// The tables under an entity, each with its key, in the order in which they are emptied.
const UNDER_AN_ENTITY: [(&str, &str); 3] =
    [("challenges", "sid"), ("factor_creations", "factor_sid"), ("factors", "sid")];

impl Read {
    /// Counts the services and entities that are deleted and not removed yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_deleted(&mut self) -> Result<i64, Error> {
        let sql = "SELECT (SELECT COUNT(*) FROM services WHERE deleted_at IS NOT NULL) \
                   + (SELECT COUNT(*) FROM entities WHERE deleted_at IS NOT NULL) AS deleted";
        self.one(sql, bind![]).await?.map_or(Ok(0), |row| row.int("deleted"))
    }
}

impl Write {
    /// Removes at most `limit` rows of deleted services and entities, and returns how many. They are all gone when it
    /// returns 0. A row goes before its parent, so that no statement removes more than it is told to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_deleted(&mut self, limit: i64) -> Result<usize, Error> {
        let deleted = "SELECT sid FROM entities WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT $1";
        let entities = self.locked(deleted, bind![limit]).await?;
        if !entities.is_empty() {
            return self.remove_entities(&entities, limit).await;
        }
        let deleted = "SELECT sid FROM services WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT 1";
        let Some(service) = self.locked(deleted, bind![]).await?.pop() else { return Ok(0) };
        let under = "SELECT sid FROM entities WHERE service_sid = $1 ORDER BY created_at, sid LIMIT $2";
        let entities = self.locked(under, bind![service.as_str(), limit]).await?;
        if !entities.is_empty() {
            return self.remove_entities(&entities, limit).await;
        }
        let tokens = "DELETE FROM access_tokens WHERE sid IN \
                      (SELECT sid FROM access_tokens WHERE service_sid = $1 LIMIT $2) RETURNING sid";
        let tokens = self.all(tokens, bind![service.as_str(), limit]).await?.len();
        if tokens > 0 {
            return Ok(tokens);
        }
        // It has nothing under it any more but what an older server adds at this moment.
        let service = self.all("DELETE FROM services WHERE sid = $1 RETURNING sid", bind![service]).await?;
        Ok(service.len())
    }

    /// Removes at most `limit` rows that are these entities or under them, and returns how many.
    async fn remove_entities(&mut self, entities: &[String], limit: i64) -> Result<usize, Error> {
        let sids = to_json(&entities);
        let among = if self.connection.is_postgres() {
            "= ANY (ARRAY(SELECT jsonb_array_elements_text(CAST($1 AS JSONB))))"
        } else {
            "IN (SELECT value FROM json_each($1))"
        };
        let mut left = limit;
        for (table, key) in UNDER_AN_ENTITY {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN \
                 (SELECT {key} FROM {table} WHERE entity_sid {among} LIMIT $2) RETURNING {key}"
            );
            left -= self.count(sql, bind![sids.as_str(), left]).await?;
            if left <= 0 {
                break;
            }
        }
        let childless = usize::try_from(left).unwrap_or(0).min(entities.len());
        if childless > 0 {
            let sql = format!("DELETE FROM entities WHERE sid {among} RETURNING sid");
            left -= self.count(sql, bind![to_json(&&entities[..childless])]).await?;
        }
        Ok(usize::try_from(limit - left).unwrap_or(0))
    }

    /// Runs a statement and returns how many rows it returns.
    async fn count(&mut self, sql: String, values: Vec<Value>) -> Result<i64, Error> {
        let rows = self.all(sql, values).await?.len();
        Ok(i64::try_from(rows).unwrap_or(i64::MAX))
    }

    /// Selects SIDs and locks their rows. Other transactions lock an entity before what is under it, and so does a
    /// removal: otherwise each could wait for the other.
    async fn locked(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<String>, Error> {
        let lock = if self.connection.is_postgres() { " FOR UPDATE" } else { "" };
        self.all(format!("{sql}{lock}"), values).await?.iter().map(|row| row.text("sid")).collect()
    }
}
