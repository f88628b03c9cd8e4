//! Queries for alerts.

use domain::alerts::{Alert, Level};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, AlertSid, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str =
    "sid, account_sid, service_sid, resource_sid, error_code, level, text, more_info, call, created_at";

fn parse_alert(row: &Row) -> Result<Alert, Error> {
    Ok(Alert {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.optional_sid("service_sid")?,
        resource_sid: row.text("resource_sid")?,
        error_code: u32::try_from(row.int("error_code")?).map_err(|_| Error::Corrupt("error_code".into()))?,
        level: match row.text("level")?.as_str() {
            "error" => Level::Error,
            "warning" => Level::Warning,
            _ => return Err(Error::Corrupt("level".into())),
        },
        text: row.text("text")?,
        more_info: row.json("more_info")?,
        call: row.optional_json("call")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// A filter for listing an account's alerts. A field that is `None` does not restrict the list.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlertFilter {
    /// Matches only alerts of this level.
    pub level: Option<Level>,
    /// Matches only alerts created at this instant or later.
    pub from: Option<Timestamp>,
    /// Matches only alerts created before this instant.
    pub to: Option<Timestamp>,
}

impl Read {
    /// Returns an account's alert by SID, or `None` if the account has no such alert.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn alert(&mut self, account_sid: AccountSid, sid: AlertSid) -> Result<Option<Alert>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM alerts WHERE sid = $1 AND account_sid = $2");
        self.fetch_optional(sql, bind![sid, account_sid], parse_alert).await
    }

    /// Returns the requested page of an account's alerts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn alerts(
        &mut self,
        account_sid: AccountSid,
        filter: AlertFilter,
        request: &PageRequest,
    ) -> Result<Page<Alert>, Error> {
        let mut list = ListQuery::select(COLUMNS, "alerts").filter("account_sid = ?", bind![account_sid]);
        if let Some(level) = filter.level {
            list = list.filter("level = ?", bind![level.as_str()]);
        }
        if let Some(from) = filter.from {
            list = list.filter("created_at >= ?", bind![from]);
        }
        if let Some(to) = filter.to {
            list = list.filter("created_at < ?", bind![to]);
        }
        list.page(self, request, parse_alert).await
    }
}

impl Write {
    /// Inserts an alert. Does nothing if the alert's account does not exist.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_alert(&mut self, alert: &Alert) -> Result<(), Error> {
        let sql = "INSERT INTO alerts (sid, account_sid, service_sid, resource_sid, error_code, level, text, \
                   more_info, call, created_at) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 \
                   WHERE EXISTS (SELECT 1 FROM accounts WHERE sid = $2)";
        let values = bind![
            alert.sid,
            alert.account_sid,
            alert.service_sid,
            alert.resource_sid.as_str(),
            i64::from(alert.error_code),
            alert.level.as_str(),
            alert.text.as_str(),
            alert.more_info.to_string(),
            alert.call.as_ref().map(to_json),
            alert.created_at
        ];
        self.execute(sql, values).await
    }

    /// Deletes up to `limit` alerts that were created before the instant `before`. Returns the number of alerts
    /// deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_alerts(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM alerts WHERE sid IN \
                   (SELECT sid FROM alerts WHERE created_at < $1 ORDER BY created_at LIMIT $2) RETURNING sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
