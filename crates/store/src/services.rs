//! Services.

use domain::limits::{OwnLimit, ServiceLimits};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Service, ServiceSid, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::sql::{Row, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str =
    "sid, account_sid, settings, max_pending_challenges, challenges_per_minute, created_at, updated_at";

/// A condition on a row with a `service_sid`: its service exists and is not deleted.
pub(crate) const IN_A_LIVE_SERVICE: &str = "EXISTS (SELECT 1 FROM services \
     WHERE services.sid = service_sid AND services.deleted_at IS NULL)";

fn by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM services WHERE sid = $1 AND account_sid = $2 AND deleted_at IS NULL{lock}")
}

fn service(row: &Row) -> Result<Service, Error> {
    let limit = |column: &str| {
        OwnLimit::from_stored(row.optional_int(column)?).ok_or_else(|| Error::Corrupt(column.to_owned()))
    };
    Ok(Service {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        settings: row.json("settings")?,
        limits: ServiceLimits {
            pending: limit("max_pending_challenges")?,
            per_minute: limit("challenges_per_minute")?,
        },
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

impl Read {
    /// A service of this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        self.one(by_sid(""), bind![sid, account_sid]).await?.as_ref().map(service).transpose()
    }

    /// The services of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn services(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Service>, Error> {
        let list =
            List::of(COLUMNS, "services").only("deleted_at IS NULL AND account_sid = ?", bind![account_sid]);
        list.page::<ServiceSid, _>(self, request, service).await
    }
}

impl Write {
    /// Adds a service.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such account.
    pub async fn insert_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "INSERT INTO services (sid, account_sid, settings, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let settings = to_json(&service.settings);
        let values =
            bind![service.sid, service.account_sid, settings, service.created_at, service.updated_at];
        self.all(sql, values).await.map(drop)
    }

    /// A service of this account, held until the transaction ends, so that what is changed is what was read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.one(by_sid(lock), bind![sid, account_sid]).await?.as_ref().map(service).transpose()
    }

    /// Replaces a service's settings.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "UPDATE services SET settings = $2, updated_at = $3 WHERE sid = $1 AND deleted_at IS NULL";
        let values = bind![service.sid, to_json(&service.settings), service.updated_at];
        self.all(sql, values).await.map(drop)
    }

    /// Changes what is said about the challenges of a service's factors, where something is said; `None` when
    /// there is no such service. Its settings, and when they changed, stay as they are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn limit_service(
        &mut self,
        sid: ServiceSid,
        pending: Option<OwnLimit>,
        per_minute: Option<OwnLimit>,
    ) -> Result<Option<Service>, Error> {
        let sql = format!(
            "UPDATE services SET \
             max_pending_challenges = CASE WHEN $2 = 1 THEN $3 ELSE max_pending_challenges END, \
             challenges_per_minute = CASE WHEN $4 = 1 THEN $5 ELSE challenges_per_minute END \
             WHERE sid = $1 AND deleted_at IS NULL RETURNING {COLUMNS}"
        );
        let given = |limit: Option<OwnLimit>| i64::from(limit.is_some());
        let stored = |limit: Option<OwnLimit>| limit.and_then(OwnLimit::stored);
        let values = bind![sid, given(pending), stored(pending), given(per_minute), stored(per_minute)];
        self.one(sql, values).await?.as_ref().map(service).transpose()
    }

    /// Marks a service as deleted and removes its webhooks; `false` when there is no such service. From here on
    /// nothing under it is found. [`remove_deleted`](Self::remove_deleted) removes the rows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mark = "UPDATE services SET deleted_at = $3 \
                    WHERE sid = $1 AND account_sid = $2 AND deleted_at IS NULL RETURNING sid";
        if self.one(mark, bind![sid, account_sid, now]).await?.is_none() {
            return Ok(false);
        }
        // A service has few of them, and without one nothing is sent.
        self.all("DELETE FROM webhooks WHERE service_sid = $1", bind![sid]).await.map(|_| true)
    }
}
