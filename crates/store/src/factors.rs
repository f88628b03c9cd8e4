//! Queries for factors.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::MAX_LIFETIME_SECONDS;
use domain::factors::{Notification, Platform, PublicKey, RegistrationToken, Status};
use domain::paging::{Page, PageRequest};
use domain::{CredentialSid, EntityPath, EntitySid, Factor, FactorSid, FriendlyName, Identity, Timestamp};

use crate::connection::Connection;
use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind, to_json};

const COLUMNS: &str = "sid, account_sid, service_sid, entity_sid, identity, friendly_name, public_key, \
    credential_sid, status, app_id, sdk_version, notification_platform, notification_token, unreachable, \
    token_registered_at, metadata, created_at, updated_at";

/// Maximum number of challenges that are voided in the transaction that deletes their factor. Voiding that many takes
/// only a few milliseconds, so the transaction stays short.
const MAX_VOIDED_CHALLENGES: i64 = 200;

fn parse_factor(row: &Row) -> Result<Factor, Error> {
    let token = row.optional_text("notification_token")?.map(RegistrationToken::from_stored);
    Ok(Factor {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        entity_sid: row.sid("entity_sid")?,
        identity: Identity::from_stored(row.text("identity")?),
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        public_key: PublicKey::from_checked_der(row.bytes("public_key")?),
        credential_sid: row.sid("credential_sid")?,
        status: match row.text("status")?.as_str() {
            "unverified" => Status::Unverified,
            "verified" => Status::Verified,
            _ => return Err(Error::Corrupt("status".into())),
        },
        app_id: domain::factors::AppId::from_stored(row.text("app_id")?),
        sdk_version: row.optional_text("sdk_version")?.map(domain::factors::SdkVersion::from_stored),
        notification: Notification::new(row.keyword::<Platform>("notification_platform")?, token)
            .map_err(|_| Error::Corrupt("notification_token".into()))?,
        unreachable: row.int("unreachable")? != 0,
        token_registered_at: row.timestamp("token_registered_at")?,
        metadata: row.optional_json("metadata")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the SQL condition that selects one factor by its path. A deleted entity has no factors, so only the service
/// is checked for deletion.
fn path_condition() -> String {
    format!("sid = $1 AND service_sid = $2 AND identity = $3 AND account_sid = $4 AND {SERVICE_EXISTS}")
}

/// Returns the SQL query that selects one factor by its path and locks it. `lock` is the locking clause for PostgreSQL.
/// SQLite needs no lock, because it has only one write connection.
///
/// Locks the entity before the factor, in the same order as the deletion of an entity, to avoid a deadlock with it.
fn select_locked(lock: &str, connection: &Connection) -> String {
    let path_condition = path_condition();
    if !connection.is_postgres() {
        return format!("SELECT {COLUMNS} FROM factors WHERE {path_condition}");
    }
    format!(
        "WITH held AS (SELECT sid AS held_sid FROM entities \
         WHERE service_sid = $2 AND identity = $3 AND account_sid = $4 FOR KEY SHARE) \
         SELECT {COLUMNS} FROM factors, held WHERE {path_condition} AND entity_sid = held_sid {lock} OF factors"
    )
}

impl Read {
    /// Returns an entity's factor by SID, or `None` if the entity has no such factor.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        let sql = format!("SELECT {COLUMNS} FROM factors WHERE {}", path_condition());
        self.fetch_optional(sql, values, parse_factor).await
    }

    /// Returns the factor whose device sends the credential SID `sid` as the `kid` of its signatures, or `None` if
    /// there is none.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn factor_by_credential(&mut self, sid: CredentialSid) -> Result<Option<Factor>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM factors WHERE credential_sid = $1 AND {SERVICE_EXISTS}");
        self.fetch_optional(sql, bind![sid], parse_factor).await
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
        let list = ListQuery::select(COLUMNS, "factors").filter("entity_sid = ?", bind![entity_sid]);
        list.page(self, request, parse_factor).await
    }

    /// Counts an entity's factors.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_factors(&mut self, entity_sid: EntitySid) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) AS number FROM factors WHERE entity_sid = $1";
        Ok(self.fetch_optional(sql, bind![entity_sid], |row| row.int("number")).await?.unwrap_or(0))
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

impl Write {
    /// Inserts a factor.
    ///
    /// # Errors
    /// Returns [`Conflict::FactorKey`](crate::Conflict::FactorKey) in an [`Error::Conflict`] if the entity already has
    /// a factor with this public key, [`Error::ParentGone`] if the entity does not exist, or another error if the
    /// database operation fails.
    pub async fn insert_factor(&mut self, factor: &Factor) -> Result<(), Error> {
        let sql = "INSERT INTO factors (sid, account_sid, service_sid, entity_sid, identity, friendly_name, \
                   public_key, credential_sid, status, app_id, sdk_version, notification_platform, \
                   notification_token, token_registered_at, metadata, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
        let values = bind![
            factor.sid,
            factor.account_sid,
            factor.service_sid,
            factor.entity_sid,
            factor.identity.as_str(),
            factor.friendly_name.as_str(),
            factor.public_key.as_der(),
            factor.credential_sid,
            factor.status.as_str(),
            factor.app_id.as_str(),
            factor.sdk_version.as_ref().map(|version| version.as_str()),
            factor.notification.platform().as_str(),
            factor.notification.token().map(|token| token.as_str()),
            factor.token_registered_at,
            factor.metadata.as_ref().map(to_json),
            factor.created_at,
            factor.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns an entity's factor, locked against changes and deletion until the transaction ends. Returns `None` if
    /// the entity has no such factor.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let sql = select_locked("FOR NO KEY UPDATE", &self.connection);
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.fetch_optional(sql, values, parse_factor).await
    }

    /// Returns an entity's factor, locked against deletion until the transaction ends. Returns `None` if the entity has
    /// no such factor. A challenge created in this transaction is therefore voided by a later deletion, or not created
    /// at all if the deletion came first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_factor_shared(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor>, Error> {
        let sql = select_locked("FOR KEY SHARE", &self.connection);
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.fetch_optional(sql, values, parse_factor).await
    }

    /// Updates a factor's mutable fields.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_factor(&mut self, factor: &Factor) -> Result<(), Error> {
        let sql = "UPDATE factors SET friendly_name = $2, status = $3, sdk_version = $4, \
                   notification_platform = $5, notification_token = $6, unreachable = $7, \
                   token_registered_at = $8, updated_at = $9 \
                   WHERE sid = $1";
        let values = bind![
            factor.sid,
            factor.friendly_name.as_str(),
            factor.status.as_str(),
            factor.sdk_version.as_ref().map(|version| version.as_str()),
            factor.notification.platform().as_str(),
            factor.notification.token().map(|token| token.as_str()),
            i64::from(factor.unreachable),
            factor.token_registered_at,
            factor.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Deletes a factor and returns it, or returns `None` if there is no such factor.
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
    ) -> Result<Option<Factor>, Error> {
        let delete = format!("DELETE FROM factors WHERE {} RETURNING {COLUMNS}", path_condition());
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        let Some(factor) = self.fetch_optional(delete, values, parse_factor).await? else { return Ok(None) };
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

    /// Deletes up to `limit` unverified factors that were created before the instant `before`, and returns them. Keeps
    /// a factor that is being verified concurrently.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_unverified_factors(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<Factor>, Error> {
        // Both conditions on the status are needed: if a row changes concurrently, PostgreSQL rechecks only the outer
        // condition.
        let sql = format!(
            "DELETE FROM factors WHERE status = 'unverified' AND sid IN \
             (SELECT sid FROM factors WHERE status = 'unverified' AND created_at < $1 AND {SERVICE_EXISTS} \
              ORDER BY created_at LIMIT $2) RETURNING {COLUMNS}"
        );
        self.fetch_all(sql, bind![before, limit], parse_factor).await
    }

    /// Records the creation of a factor, so that the factor counts toward the limit on new factors even after its
    /// deletion.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn record_factor_creation(&mut self, factor: &Factor) -> Result<(), Error> {
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
