//! Services.

use domain::limits::{LimitOverride, ServiceLimits};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Service, ServiceSid, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str =
    "sid, account_sid, settings, max_pending_challenges, challenges_per_minute, created_at, updated_at";

/// The condition that the service of a row, given by its `service_sid`, exists and is not deleted.
pub(crate) const SERVICE_EXISTS: &str = "EXISTS (SELECT 1 FROM services \
     WHERE services.sid = service_sid AND services.deleted_at IS NULL)";

/// Returns the query that selects one service. `lock` is a locking clause or empty.
fn select_by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM services WHERE sid = $1 AND account_sid = $2 AND deleted_at IS NULL{lock}")
}

fn parse_service(row: &Row) -> Result<Service, Error> {
    let limit = |column: &str| {
        LimitOverride::from_stored(row.optional_int(column)?).ok_or_else(|| Error::Corrupt(column.to_owned()))
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
    /// Returns a service of an account.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        self.fetch_optional_as(select_by_sid(""), bind![sid, account_sid], parse_service).await
    }

    /// Returns the services of an account.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn services(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Service>, Error> {
        let list = ListQuery::select(COLUMNS, "services")
            .filter("deleted_at IS NULL AND account_sid = ?", bind![account_sid]);
        list.page::<ServiceSid, _>(self, request, parse_service).await
    }
}

impl Write {
    /// Adds a service.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or an error if the database fails.
    pub async fn insert_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "INSERT INTO services (sid, account_sid, settings, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let settings = to_json(&service.settings);
        let values =
            bind![service.sid, service.account_sid, settings, service.created_at, service.updated_at];
        self.execute(sql, values).await
    }

    /// Returns a service of an account, locked until the transaction ends against changes by others.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn lock_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional_as(select_by_sid(lock), bind![sid, account_sid], parse_service).await
    }

    /// Replaces a service's settings.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "UPDATE services SET settings = $2, updated_at = $3 WHERE sid = $1 AND deleted_at IS NULL";
        let values = bind![service.sid, to_json(&service.settings), service.updated_at];
        self.execute(sql, values).await
    }

    /// Sets the limits of a service that are given, on pending challenges and on challenges per minute, both for each
    /// factor. Returns the service, or `None` if there is no such service. Its `updated_at` stays the same.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn set_service_limits(
        &mut self,
        sid: ServiceSid,
        pending: Option<LimitOverride>,
        per_minute: Option<LimitOverride>,
    ) -> Result<Option<Service>, Error> {
        let sql = format!(
            "UPDATE services SET \
             max_pending_challenges = CASE WHEN $2 = 1 THEN $3 ELSE max_pending_challenges END, \
             challenges_per_minute = CASE WHEN $4 = 1 THEN $5 ELSE challenges_per_minute END \
             WHERE sid = $1 AND deleted_at IS NULL RETURNING {COLUMNS}"
        );
        let given = |limit: Option<LimitOverride>| i64::from(limit.is_some());
        let stored = |limit: Option<LimitOverride>| limit.and_then(LimitOverride::to_stored);
        let values = bind![sid, given(pending), stored(pending), given(per_minute), stored(per_minute)];
        self.fetch_optional_as(sql, values, parse_service).await
    }

    /// Marks a service as deleted and deletes its webhooks. Returns `false` if there is no such service. From then on,
    /// queries find nothing under it; [`remove_deleted`](Self::remove_deleted) removes the rows.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn delete_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mark = "UPDATE services SET deleted_at = $3 \
                    WHERE sid = $1 AND account_sid = $2 AND deleted_at IS NULL RETURNING sid";
        if self.fetch_optional(mark, bind![sid, account_sid, now]).await?.is_none() {
            return Ok(false);
        }
        // A service has few webhooks, and no event is sent without one.
        self.fetch_all("DELETE FROM webhooks WHERE service_sid = $1", bind![sid]).await.map(|_| true)
    }
}
