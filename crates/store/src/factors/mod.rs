//! Queries for factors: those that concern every type, and those that are the same for each. The file of a type has the
//! others, with the table of the type.

pub(crate) mod passkey;
pub(crate) mod push;
pub(crate) mod totp;

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::MAX_LIFETIME_SECONDS;
use domain::factors::{FactorKind, Status};
use domain::paging::{Page, PageRequest};
use domain::{
    EntityPath, EntitySid, Factor, FactorSid, FactorType, FriendlyName, HasFactorType, Identity, ServiceSid,
    Timestamp,
};

use crate::connection::Connection;
use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind, to_json};

/// The columns of the table `factors`. The tables of the types have copies of some of them.
const COLUMNS: &str = "sid, factors.account_sid AS account_sid, factors.service_sid AS service_sid, \
    factors.entity_sid AS entity_sid, factor_type, identity, friendly_name, status, metadata, created_at, updated_at";

/// SQL condition that the service of a row of `factors` exists and is not deleted.
const SERVICE_EXISTS: &str = "EXISTS (SELECT 1 FROM services \
    WHERE services.sid = factors.service_sid AND services.deleted_at IS NULL)";

/// SQL condition that selects one factor by its path, without the condition on its service. A deleted entity has no
/// factors.
const PATH: &str =
    "factors.sid = $1 AND factors.service_sid = $2 AND factors.identity = $3 AND factors.account_sid = $4";

/// Maximum number of challenges that are voided in the transaction that deletes their factor. Voiding that many takes
/// only a few milliseconds, so the transaction stays short.
const MAX_VOIDED_CHALLENGES: i64 = 200;

/// The table of a factor type.
struct KindTable<Kind> {
    name: &'static str,
    /// Columns of the table, in the order in which `parse` reads them.
    columns: &'static str,
    parse: fn(&Row<'_>) -> Result<Kind, Error>,
}

impl<Kind> KindTable<Kind> {
    /// Returns the SQL text that joins the table to `factors`, from `JOIN` on.
    fn join(&self) -> String {
        let name = self.name;
        format!("JOIN {name} ON {name}.factor_sid = factors.sid AND {name}.service_sid = factors.service_sid")
    }

    /// Returns the SQL query for factors of this type that meet `condition`.
    fn select(&self, condition: &str) -> String {
        format!("SELECT {COLUMNS}, {} FROM factors {} WHERE {condition}", self.columns, self.join())
    }

    /// Returns the SQL query that selects one factor of this type by its path.
    fn select_by_path(&self) -> String {
        self.select(&format!("{PATH} AND {SERVICE_EXISTS}"))
    }

    /// Returns the SQL query that selects one factor of this type by its path and locks it. SQLite needs no lock,
    /// because it has only one write connection.
    ///
    /// Locks the entity before the factor, in the same order as the deletion of an entity, to avoid a deadlock with it.
    fn select_locked(&self, lock: Lock, connection: &Connection) -> String {
        if !connection.is_postgres() {
            return self.select_by_path();
        }
        let lock = match lock {
            Lock::Shared => "FOR KEY SHARE OF factors".to_owned(),
            // After a wait for a lock, a query returns changed rows only from the tables that it locks.
            Lock::Exclusive => format!("FOR NO KEY UPDATE OF factors FOR NO KEY UPDATE OF {}", self.name),
        };
        format!(
            "WITH held AS (SELECT sid AS held_sid FROM entities \
             WHERE service_sid = $2 AND identity = $3 AND account_sid = $4 FOR KEY SHARE) \
             SELECT {COLUMNS}, {} FROM factors {}, held \
             WHERE {PATH} AND {SERVICE_EXISTS} AND factors.entity_sid = held_sid {lock}",
            self.columns,
            self.join()
        )
    }

    fn parse(&self, row: &Row<'_>) -> Result<Factor<Kind>, Error> {
        Ok(parse_common(row)?.with((self.parse)(row)?))
    }
}

/// The strength of the lock on a factor.
#[derive(Clone, Copy)]
enum Lock {
    /// Excludes only deletion.
    Shared,
    /// Excludes changes and deletion.
    Exclusive,
}

fn parse_common(row: &Row<'_>) -> Result<Factor<()>, Error> {
    Ok(parse_factor_of_type(row)?.split().0)
}

/// Parses the columns of the table `factors`, which has the factor's type and not what the type adds.
fn parse_factor_of_type(row: &Row<'_>) -> Result<Factor<FactorType>, Error> {
    Ok(Factor {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        entity_sid: row.sid("entity_sid")?,
        kind: row.keyword("factor_type")?,
        identity: Identity::from_stored(row.text("identity")?),
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        status: match row.text("status")?.as_str() {
            "unverified" => Status::Unverified,
            "verified" => Status::Verified,
            _ => return Err(Error::Corrupt("status".into())),
        },
        metadata: row.optional_json("metadata")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the columns of a query for factors of any type.
fn columns_of_any_type() -> String {
    format!("{COLUMNS}, {}, {}, {}", push::TABLE.columns, totp::TABLE.columns, passkey::TABLE.columns)
}

/// Returns the tables of a query for factors of any type.
fn tables_of_any_type() -> String {
    let joins = [push::TABLE.join(), totp::TABLE.join(), passkey::TABLE.join()];
    format!("factors LEFT {}", joins.join(" LEFT "))
}

fn parse_factor(row: &Row<'_>) -> Result<Factor, Error> {
    let (factor, factor_type) = parse_factor_of_type(row)?.split();
    Ok(factor.with(match factor_type {
        FactorType::Push => FactorKind::Push((push::TABLE.parse)(row)?),
        FactorType::Totp => FactorKind::Totp((totp::TABLE.parse)(row)?),
        FactorType::Passkeys => FactorKind::Passkey((passkey::TABLE.parse)(row)?),
    }))
}

/// Returns the values of [`PATH`].
fn path_values(path: &EntityPath, sid: FactorSid) -> Vec<Value> {
    bind![sid, path.service_sid, path.identity.as_str(), path.account_sid]
}

impl Read {
    /// Returns an entity's factor by SID, or `None` if the entity has no such factor.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let (columns, tables) = (columns_of_any_type(), tables_of_any_type());
        let sql = format!("SELECT {columns} FROM {tables} WHERE {PATH} AND {SERVICE_EXISTS}");
        self.fetch_optional(sql, path_values(path, sid), parse_factor).await
    }

    /// Returns an entity's factor of one type by SID, or `None` if the entity has no such factor.
    async fn factor_of_kind<Kind>(
        &mut self,
        table: &KindTable<Kind>,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<Kind>>, Error> {
        self.fetch_optional(table.select_by_path(), path_values(path, sid), |row| table.parse(row)).await
    }

    /// Returns the requested page of an entity's factors.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn factors(
        &mut self,
        entity_sid: EntitySid,
        request: &PageRequest,
    ) -> Result<Page<Factor>, Error> {
        let list = ListQuery::select(&columns_of_any_type(), &tables_of_any_type());
        list.filter("factors.entity_sid = ?", bind![entity_sid]).page(self, request, parse_factor).await
    }

    /// Counts an entity's factors of one type.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_factors(
        &mut self,
        entity_sid: EntitySid,
        factor_type: FactorType,
    ) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) AS number FROM factors WHERE entity_sid = $1 AND factor_type = $2";
        let values = bind![entity_sid, factor_type.as_str()];
        Ok(self.fetch_optional(sql, values, |row| row.int("number")).await?.unwrap_or(0))
    }

    /// Returns the creation time of an entity's `most`-th newest factor within `span`, or `None` if there are fewer.
    /// Counts factors created after the start of `span` and no later than its end, including deleted ones.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn nth_latest_factor_created_at(
        &mut self,
        entity_sid: EntitySid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM factor_creations WHERE entity_sid = $1 AND created_at > $2 AND created_at <= $3 \
                   ORDER BY created_at DESC LIMIT 1 OFFSET $4";
        let values = bind![entity_sid, span.start, span.end, i64::from(most.get()) - 1];
        self.fetch_optional(sql, values, |row| row.timestamp("created_at")).await
    }
}

impl Read {
    /// Returns whether an entity's factor exists.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn has_factor(
        &mut self,
        service_sid: ServiceSid,
        entity_sid: EntitySid,
        sid: FactorSid,
    ) -> Result<bool, Error> {
        let sql = format!(
            "SELECT COUNT(*) AS found FROM factors WHERE sid = $1 AND service_sid = $2 AND entity_sid = $3 \
             AND {SERVICE_EXISTS} AND EXISTS (SELECT 1 FROM entities WHERE entities.sid = $3 \
             AND entities.service_sid = $2 AND entities.deleted_at IS NULL)"
        );
        let values = bind![sid, service_sid, entity_sid];
        Ok(self.fetch_optional(sql, values, |row| row.int("found")).await?.is_some_and(|found| found > 0))
    }
}

impl Write {
    /// Inserts what all types of factors have.
    async fn insert_common<Kind: HasFactorType>(&mut self, factor: &Factor<Kind>) -> Result<(), Error> {
        let sql = "INSERT INTO factors (sid, account_sid, service_sid, entity_sid, factor_type, identity, \
                   friendly_name, status, metadata, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let values = bind![
            factor.sid,
            factor.account_sid,
            factor.service_sid,
            factor.entity_sid,
            factor.factor_type().as_str(),
            factor.identity.as_str(),
            factor.friendly_name.as_str(),
            factor.status.as_str(),
            factor.metadata.as_ref().map(to_json),
            factor.created_at,
            factor.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns an entity's factor of one type, locked until the transaction ends, or `None` if the entity has no such
    /// factor.
    async fn lock_factor_of_kind<Kind>(
        &mut self,
        table: &KindTable<Kind>,
        lock: Lock,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<Kind>>, Error> {
        let sql = table.select_locked(lock, &self.connection);
        self.fetch_optional(sql, path_values(path, sid), |row| table.parse(row)).await
    }

    /// Updates the mutable fields that all types of factors have.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_factor<Kind>(&mut self, factor: &Factor<Kind>) -> Result<(), Error> {
        let sql = "UPDATE factors SET friendly_name = $2, status = $3, updated_at = $4 WHERE sid = $1";
        let values =
            bind![factor.sid, factor.friendly_name.as_str(), factor.status.as_str(), factor.updated_at];
        self.execute(sql, values).await
    }

    /// Deletes a factor of any type. Returns it without what its type adds, or returns `None` if there is no such
    /// factor.
    ///
    /// The factor's pending challenges become void and stay readable. The newest 200 of their rows are updated, which
    /// is usually all of them; the status of any others is computed when they are read.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
        now: Timestamp,
    ) -> Result<Option<Factor<FactorType>>, Error> {
        let delete = format!("DELETE FROM factors WHERE {PATH} AND {SERVICE_EXISTS} RETURNING {COLUMNS}");
        let deleted = self.fetch_optional(delete, path_values(path, sid), parse_factor_of_type).await?;
        let Some(factor) = deleted else { return Ok(None) };
        // Both conditions on the status are needed: if a row changes concurrently, PostgreSQL rechecks only the outer
        // condition. The condition on `created_at` excludes challenges that expired long ago: no challenge outlives the
        // maximum lifetime.
        let begin = now.plus_seconds(-MAX_LIFETIME_SECONDS);
        let void = "UPDATE challenges SET status = 'voided', updated_at = $2 \
                    WHERE status = 'pending' AND sid IN \
                    (SELECT sid FROM challenges WHERE entity_sid = $1 AND factor_sid = $5 AND responded_at IS NULL \
                     AND status = 'pending' AND created_at >= $3 AND expires_at > $2 \
                     ORDER BY created_at DESC, sid DESC LIMIT $4)";
        self.execute(void, bind![factor.entity_sid, now, begin, MAX_VOIDED_CHALLENGES, sid]).await?;
        Ok(Some(factor))
    }

    /// Deletes up to `limit` unverified factors of all types that were created before the instant `before`, and returns
    /// them without what their types add. Keeps a factor that is being verified concurrently.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_unverified_factors(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<Factor<FactorType>>, Error> {
        // Both conditions on the status are needed: if a row changes concurrently, PostgreSQL rechecks only the outer
        // condition.
        let sql = format!(
            "DELETE FROM factors WHERE status = 'unverified' AND sid IN \
             (SELECT sid FROM factors WHERE status = 'unverified' AND created_at < $1 AND {SERVICE_EXISTS} \
              ORDER BY created_at LIMIT $2) RETURNING {COLUMNS}"
        );
        self.fetch_all(sql, bind![before, limit], parse_factor_of_type).await
    }

    /// Records the creation of a factor, so that the factor counts toward the limit on new factors even after its
    /// deletion.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn record_factor_creation<Kind>(&mut self, factor: &Factor<Kind>) -> Result<(), Error> {
        let sql = "INSERT INTO factor_creations (factor_sid, entity_sid, created_at) VALUES ($1, $2, $3)";
        self.execute(sql, bind![factor.sid, factor.entity_sid, factor.created_at]).await
    }

    /// Deletes up to `limit` records of factor creations before the instant `before`. Returns the number of records
    /// deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_factor_creations(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<usize, Error> {
        let sql = "DELETE FROM factor_creations WHERE factor_sid IN \
                   (SELECT factor_sid FROM factor_creations WHERE created_at < $1 ORDER BY created_at LIMIT $2) \
                   RETURNING factor_sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
