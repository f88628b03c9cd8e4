//! Queries for services.

use domain::limits::{LimitOverride, ServiceLimits};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Service, ServiceSid, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str =
    "sid, account_sid, settings, max_pending_challenges, challenges_per_minute, created_at, updated_at";

/// SQL condition that the service in a row's column `service_sid` exists and is not deleted.
pub(crate) const SERVICE_EXISTS: &str = "EXISTS (SELECT 1 FROM services \
     WHERE services.sid = service_sid AND services.deleted_at IS NULL)";

/// Returns the SQL query that selects one of an account's services. `lock` is the locking clause, or empty for no lock.
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
    /// Returns an account's service by SID, or `None` if the account has no such service.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        self.fetch_optional(select_by_sid(""), bind![sid, account_sid], parse_service).await
    }

    /// Returns the requested page of an account's services.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn services(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Service>, Error> {
        let list = ListQuery::select(COLUMNS, "services")
            .filter("deleted_at IS NULL AND account_sid = ?", bind![account_sid]);
        list.page(self, request, parse_service).await
    }
}

impl Write {
    /// Inserts a service.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    pub async fn insert_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "INSERT INTO services (sid, account_sid, settings, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let settings = to_json(&service.settings);
        let values =
            bind![service.sid, service.account_sid, settings, service.created_at, service.updated_at];
        self.execute(sql, values).await
    }

    /// Returns an account's service, locked against changes by other transactions until this one ends. Returns `None`
    /// if the account has no such service.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional(select_by_sid(lock), bind![sid, account_sid], parse_service).await
    }

    /// Replaces a service's settings. Does nothing if the service is deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "UPDATE services SET settings = $2, updated_at = $3 WHERE sid = $1 AND deleted_at IS NULL";
        let values = bind![service.sid, to_json(&service.settings), service.updated_at];
        self.execute(sql, values).await
    }

    /// Sets a service's limits on pending challenges and on challenges per minute, both per factor. A limit that is
    /// `None` stays unchanged. Returns the updated service, or `None` if there is no such service. Does not change
    /// `updated_at`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
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
        self.fetch_optional(sql, values, parse_service).await
    }

    /// Marks a service as deleted, and deletes its webhooks, rate limits and messaging configurations. Returns `false`
    /// if the account has no such service. From then on, queries find nothing under the service.
    /// [`remove_deleted`](Self::remove_deleted) later removes the remaining rows.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mark = "UPDATE services SET deleted_at = $3 \
                    WHERE sid = $1 AND account_sid = $2 AND deleted_at IS NULL RETURNING sid";
        if self.count_rows(mark, bind![sid, account_sid, now]).await? == 0 {
            return Ok(false);
        }
        // These rows are deleted immediately: a service has only a few, and without a webhook no event is sent.
        for table in ["webhooks", "rate_limits", "messaging_configurations"] {
            self.execute(format!("DELETE FROM {table} WHERE service_sid = $1"), bind![sid]).await?;
        }
        Ok(true)
    }
}
