//! Alerts.

use domain::alerts::{Alert, Level};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, AlertSid, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::sql::{Row, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str =
    "sid, account_sid, service_sid, resource_sid, error_code, level, text, more_info, call, created_at";

fn alert(row: &Row) -> Result<Alert, Error> {
    let service_sid = row.optional_text("service_sid")?.map(|sid| sid.parse());
    Ok(Alert {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: service_sid.transpose().map_err(|_| Error::Corrupt("service_sid".into()))?,
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

/// Which alerts of an account are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlertFilter {
    /// Only those of this level.
    pub level: Option<Level>,
    /// Only those from this instant on.
    pub from: Option<Timestamp>,
    /// Only those before this instant.
    pub to: Option<Timestamp>,
}

impl Read {
    /// An alert of this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alert(&mut self, account_sid: AccountSid, sid: AlertSid) -> Result<Option<Alert>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM alerts WHERE sid = $1 AND account_sid = $2");
        self.one(sql, bind![sid, account_sid]).await?.as_ref().map(alert).transpose()
    }

    /// The alerts of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alerts(
        &mut self,
        account_sid: AccountSid,
        filter: AlertFilter,
        request: &PageRequest,
    ) -> Result<Page<Alert>, Error> {
        let mut list = List::of(COLUMNS, "alerts").only("account_sid = ?", bind![account_sid]);
        if let Some(level) = filter.level {
            list = list.only("level = ?", bind![level.as_str()]);
        }
        if let Some(from) = filter.from {
            list = list.only("created_at >= ?", bind![from]);
        }
        if let Some(to) = filter.to {
            list = list.only("created_at < ?", bind![to]);
        }
        list.page::<AlertSid, _>(self, request, alert).await
    }
}

impl Write {
    /// Adds an alert. One of an account that is gone is dropped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_alert(&mut self, alert: &Alert) -> Result<(), Error> {
        let sql = "INSERT INTO alerts (sid, account_sid, service_sid, resource_sid, error_code, level, text, \
                   more_info, call, created_at) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 \
                   WHERE EXISTS (SELECT 1 FROM accounts WHERE sid = $2)";
        let values = bind![
            alert.sid,
            alert.account_sid,
            alert.service_sid.map(|sid| sid.to_string()),
            alert.resource_sid.as_str(),
            i64::from(alert.error_code),
            alert.level.as_str(),
            alert.text.as_str(),
            alert.more_info.to_string(),
            alert.call.as_ref().map(to_json),
            alert.created_at
        ];
        self.all(sql, values).await.map(drop)
    }

    /// Removes at most `limit` alerts that are older than `before`; returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_old_alerts(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM alerts WHERE sid IN \
                   (SELECT sid FROM alerts WHERE created_at < $1 ORDER BY created_at LIMIT $2) RETURNING sid";
        Ok(self.all(sql, bind![before, limit]).await?.len())
    }
}
