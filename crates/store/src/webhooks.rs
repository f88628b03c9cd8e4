//! Queries for webhooks.

use domain::deliveries::DeliveryId;
use domain::paging::{Page, PageRequest};
use domain::webhooks::{CallbackUrl, Status, Subscription, Version, Webhook};
use domain::{AccountSid, FriendlyName, Parameter, ServiceSid, Timestamp, WebhookSid};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str = "sid, account_sid, service_sid, friendly_name, event_types, url, status, version, \
    created_at, updated_at";

fn parse_webhook(row: &Row) -> Result<Webhook, Error> {
    let event_types: Vec<String> = row.json("event_types")?;
    let event_types = event_types.iter().map(|text| Subscription::from_parameter(text));
    Ok(Webhook {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        event_types: event_types
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Corrupt("event_types".into()))?,
        url: row.keyword::<CallbackUrl>("url")?,
        status: row.keyword::<Status>("status")?,
        version: row.keyword::<Version>("version")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the SQL query that selects one of a service's webhooks. `lock` is the locking clause, or empty for no lock.
fn select_by_path(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM webhooks WHERE sid = $1 AND service_sid = $2 AND account_sid = $3{lock}")
}

impl Read {
    /// Returns a service's webhook by SID, or `None` if the service has no such webhook.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn webhook(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
    ) -> Result<Option<Webhook>, Error> {
        self.fetch_optional(select_by_path(""), bind![sid, service_sid, account_sid], parse_webhook).await
    }

    /// Returns the requested page of a service's webhooks.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn webhooks(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        request: &PageRequest,
    ) -> Result<Page<Webhook>, Error> {
        let list = ListQuery::select(COLUMNS, "webhooks")
            .filter("service_sid = ? AND account_sid = ?", bind![service_sid, account_sid]);
        list.page(self, request, parse_webhook).await
    }

    /// Returns a service's enabled webhooks, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn enabled_webhooks(&mut self, service_sid: ServiceSid) -> Result<Vec<Webhook>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM webhooks WHERE service_sid = $1 AND status = 'enabled' ORDER BY created_at, sid"
        );
        self.fetch_all(sql, bind![service_sid], parse_webhook).await
    }

    /// Returns the webhooks of all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn all_webhooks(&mut self) -> Result<Vec<Webhook>, Error> {
        self.fetch_all(
            format!("SELECT {COLUMNS} FROM webhooks ORDER BY created_at, sid"),
            bind![],
            parse_webhook,
        )
        .await
    }
}

impl Write {
    /// Counts a service's webhooks.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_webhooks(&mut self, service_sid: ServiceSid) -> Result<i64, Error> {
        let sql = "SELECT count(*) AS count FROM webhooks WHERE service_sid = $1";
        Ok(self.fetch_optional(sql, bind![service_sid], |row| row.int("count")).await?.unwrap_or(0))
    }

    /// Inserts a webhook.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    pub async fn insert_webhook(&mut self, webhook: &Webhook) -> Result<(), Error> {
        let sql = "INSERT INTO webhooks (sid, account_sid, service_sid, friendly_name, event_types, url, status, \
                   version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let values = bind![
            webhook.sid,
            webhook.account_sid,
            webhook.service_sid,
            webhook.friendly_name.as_str(),
            to_json(&webhook.event_types),
            webhook.url.as_str(),
            webhook.status.as_str(),
            webhook.version.as_str(),
            webhook.created_at,
            webhook.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns a service's webhook, locked against changes by other transactions until this one ends. Returns `None` if
    /// the service has no such webhook.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_webhook(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
    ) -> Result<Option<Webhook>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional(select_by_path(lock), bind![sid, service_sid, account_sid], parse_webhook).await
    }

    /// Updates a webhook's mutable fields.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_webhook(&mut self, webhook: &Webhook) -> Result<(), Error> {
        let sql = "UPDATE webhooks SET friendly_name = $2, event_types = $3, url = $4, status = $5, version = $6, \
                   updated_at = $7 WHERE sid = $1";
        let values = bind![
            webhook.sid,
            webhook.friendly_name.as_str(),
            to_json(&webhook.event_types),
            webhook.url.as_str(),
            webhook.status.as_str(),
            webhook.version.as_str(),
            webhook.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Moves up to `count` of a webhook's pending deliveries to its present destination: the oldest that have another one
    /// and whose IDs follow `after`. Returns the last of them, or `None` if there are no more. Those that are due become
    /// due at `now`, so that workers examine them again.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn redirect_deliveries(
        &mut self,
        webhook: &Webhook,
        after: DeliveryId,
        count: i64,
        now: Timestamp,
    ) -> Result<Option<DeliveryId>, Error> {
        let sql = "UPDATE deliveries SET destination = $2, \
                   scheduled_at = CASE WHEN due_at < $5 THEN $5 ELSE scheduled_at END, \
                   due_at = CASE WHEN due_at < $5 THEN $5 ELSE due_at END \
                   WHERE state = 'owed' AND id IN (SELECT id FROM deliveries WHERE subject = $1 AND id > $3 \
                   AND state = 'owed' AND kind = 'webhook' AND destination <> $2 ORDER BY id LIMIT $4) RETURNING id";
        let values = bind![webhook.sid.to_string(), webhook.url.destination(), after, count, now];
        let parse = |row: &Row| row.id("id").map(DeliveryId::from_bytes);
        Ok(self.fetch_all(sql, values, parse).await?.into_iter().max())
    }

    /// Deletes a service's webhook. Returns `false` if the service has no such webhook.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_webhook(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
    ) -> Result<bool, Error> {
        let sql =
            "DELETE FROM webhooks WHERE sid = $1 AND service_sid = $2 AND account_sid = $3 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, service_sid, account_sid]).await? > 0)
    }
}
