//! Factors.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::MAX_LIFETIME;
use domain::factors::{Notification, Platform, PublicKey, RegistrationToken, Status};
use domain::paging::{Page, PageRequest};
use domain::{CredentialSid, EntityPath, EntitySid, Factor, FactorSid, FriendlyName, Identity, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::services::IN_A_LIVE_SERVICE;
use crate::sql::{Connection, Row, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str = "sid, account_sid, service_sid, entity_sid, identity, friendly_name, public_key, \
    credential_sid, status, app_id, sdk_version, notification_platform, notification_token, unreachable, \
    token_registered_at, metadata, created_at, updated_at";

/// Challenges that are voided in the transaction in which their factor is deleted: a few milliseconds of work.
const VOIDED_AT_ONCE: i64 = 200;

fn factor(row: &Row) -> Result<Factor, Error> {
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
        notification: Notification::new(row.word::<Platform>("notification_platform")?, token)
            .map_err(|_| Error::Corrupt("notification_token".into()))?,
        unreachable: row.int("unreachable")? != 0,
        token_registered_at: match row.optional_timestamp("token_registered_at")? {
            Some(at) => at,
            None => row.timestamp("created_at")?,
        },
        metadata: row.optional_json("metadata")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The condition on one factor. A deleted entity has no factors, so that only the service is looked at.
fn on_path() -> String {
    format!("sid = $1 AND service_sid = $2 AND identity = $3 AND account_sid = $4 AND {IN_A_LIVE_SERVICE}")
}

/// The query for one factor that is to be held. `lock` is PostgreSQL's; SQLite has one writer.
///
/// The entity is held first, since who deletes it begins there too: two who take the same in different orders wait for
/// each other.
fn held_by_path(lock: &str, connection: &Connection) -> String {
    let on_path = on_path();
    if !connection.is_postgres() {
        return format!("SELECT {COLUMNS} FROM factors WHERE {on_path}");
    }
    format!(
        "WITH held AS (SELECT sid AS held_sid FROM entities \
         WHERE service_sid = $2 AND identity = $3 AND account_sid = $4 FOR KEY SHARE) \
         SELECT {COLUMNS} FROM factors, held WHERE {on_path} AND entity_sid = held_sid {lock} OF factors"
    )
}

impl Read {
    /// A factor of this entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        let sql = format!("SELECT {COLUMNS} FROM factors WHERE {}", on_path());
        self.one(sql, values).await?.as_ref().map(factor).transpose()
    }

    /// The factor whose device signs with this `kid`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn factor_by_credential(&mut self, sid: CredentialSid) -> Result<Option<Factor>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM factors WHERE credential_sid = $1 AND {IN_A_LIVE_SERVICE}");
        self.one(sql, bind![sid]).await?.as_ref().map(factor).transpose()
    }

    /// The factors of an entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn factors(
        &mut self,
        entity_sid: EntitySid,
        request: &PageRequest,
    ) -> Result<Page<Factor>, Error> {
        let list = List::of(COLUMNS, "factors").only("entity_sid = ?", bind![entity_sid]);
        list.page::<FactorSid, _>(self, request, factor).await
    }

    /// How many factors an entity has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_factors(&mut self, entity_sid: EntitySid) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) AS number FROM factors WHERE entity_sid = $1";
        self.one(sql, bind![entity_sid]).await?.map_or(Ok(0), |row| row.int("number"))
    }
}

impl Read {
    /// When the factor of an entity was made that is the `most`-th of the latest, if so many were noted in
    /// `span`, its end included; those that were deleted included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn factor_creation_back(
        &mut self,
        entity_sid: EntitySid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM factor_creations WHERE entity_sid = $1 AND created_at > $2 AND created_at <= $3 \
                   ORDER BY created_at DESC LIMIT 1 OFFSET $4";
        let row = self.one(sql, bind![entity_sid, span.start, span.end, i64::from(most.get()) - 1]).await?;
        row.map(|row| row.timestamp("created_at")).transpose()
    }
}

impl Write {
    /// Adds a factor.
    ///
    /// # Errors
    /// [`Conflict::FactorKey`](crate::Conflict::FactorKey) when the entity has one with that key,
    /// [`Error::ParentGone`] when there is no such entity.
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
        self.all(sql, values).await.map(drop)
    }

    /// A factor of this entity, held until the transaction ends: nobody changes or deletes it meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let sql = held_by_path("FOR NO KEY UPDATE", &self.connection);
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.one(sql, values).await?.as_ref().map(factor).transpose()
    }

    /// A factor of this entity, which can't be deleted until the transaction ends, so that a challenge
    /// to it is either made before and voided with it, or not made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_factor(&mut self, path: &EntityPath, sid: FactorSid) -> Result<Option<Factor>, Error> {
        let sql = held_by_path("FOR KEY SHARE", &self.connection);
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.one(sql, values).await?.as_ref().map(factor).transpose()
    }

    /// Writes what can change of a factor.
    ///
    /// # Errors
    /// When the database fails.
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
        self.all(sql, values).await.map(drop)
    }

    /// Removes a factor and returns it; `None` when there is no such factor. Its pending challenges are void from here
    /// on and stay to be read. The latest 200 of them are written as such, which is all of them but for
    /// a factor that was flooded; the others are recognized when they are read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
        now: Timestamp,
    ) -> Result<Option<Factor>, Error> {
        let delete = format!("DELETE FROM factors WHERE {} RETURNING {COLUMNS}", on_path());
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        let Some(row) = self.one(delete, values).await? else { return Ok(None) };
        // The status is asked for twice, since the one outside is looked at again when the row has changed.
        // None lives longer than that, so those that expired long ago are not looked through.
        let begin = now.plus_seconds(-MAX_LIFETIME);
        let void = "UPDATE challenges SET status = 'voided', updated_at = $2 \
                    WHERE status = 'pending' AND sid IN \
                    (SELECT sid FROM challenges WHERE factor_sid = $1 AND status = 'pending' \
                     AND created_at >= $3 AND expires_at > $2 ORDER BY created_at DESC, sid DESC LIMIT $4)";
        self.all(void, bind![sid, now, begin, VOIDED_AT_ONCE]).await?;
        factor(&row).map(Some)
    }

    /// Removes at most `limit` factors that were made before an instant and are not verified. Returns what
    /// was removed. One that is verified at the same time stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_unverified_factors(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<Factor>, Error> {
        // The status is asked for twice, since the one outside is looked at again when the row has changed.
        let sql = format!(
            "DELETE FROM factors WHERE status = 'unverified' AND sid IN \
             (SELECT sid FROM factors WHERE status = 'unverified' AND created_at < $1 AND {IN_A_LIVE_SERVICE} \
              ORDER BY created_at LIMIT $2) RETURNING {COLUMNS}"
        );
        self.all(sql, bind![before, limit]).await?.iter().map(factor).collect()
    }

    /// Notes that a factor is made, so that it counts even when it is deleted.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such entity.
    pub async fn note_factor_creation(&mut self, factor: &Factor) -> Result<(), Error> {
        let sql = "INSERT INTO factor_creations (factor_sid, entity_sid, created_at) VALUES ($1, $2, $3)";
        self.all(sql, bind![factor.sid, factor.entity_sid, factor.created_at]).await.map(drop)
    }

    /// Removes at most `limit` notes of factors that were made before an instant; returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_old_factor_creations(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<usize, Error> {
        let sql = "DELETE FROM factor_creations WHERE factor_sid IN \
                   (SELECT factor_sid FROM factor_creations WHERE created_at < $1 ORDER BY created_at LIMIT $2) \
                   RETURNING factor_sid";
        Ok(self.all(sql, bind![before, limit]).await?.len())
    }
}
