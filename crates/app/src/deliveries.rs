//! Deliveries: what operators may list, repeat and test on the command line.

use domain::audit::{AuditAction, Change};
use domain::deliveries::{DeliveryId, Work};
use domain::{Webhook, WebhookSid};
pub use store::{AttemptRecord, DeliveryFilter, DeliveryStatus};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::webhooks;

impl App {
    /// Returns up to `limit` of the newest deliveries, newest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn deliveries(&self, filter: DeliveryFilter, limit: i64) -> Result<Vec<DeliveryStatus>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.deliveries(&filter, limit).await?)).await
    }

    /// Returns a delivery and its attempts, oldest first.
    ///
    /// # Errors
    /// 20404 if there is no such delivery. Also fails if the database fails.
    pub async fn delivery(&self, id: DeliveryId) -> Result<(DeliveryStatus, Vec<AttemptRecord>), Error> {
        self.store.read(async move |db: &mut Read| db.delivery(id).await?.ok_or_else(Error::not_found)).await
    }

    /// Enqueues a finished delivery again, under the same id. A push cannot be repeated, because its challenge is over.
    ///
    /// # Errors
    /// 20404 if there is no such delivery, it is still pending, or it is a push. Also fails if the database fails.
    pub async fn redeliver(&self, origin: &Origin, id: DeliveryId) -> Result<(), Error> {
        let now = self.clock.now();
        let end = self.outbox.webhook_expires_at(now);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let delivery = tx.requeue_delivery(id, now, end).await?.ok_or_else(Error::not_found)?;
                let change = match delivery.work {
                    Work::Webhook { webhook_sid, .. } => {
                        Change::new(AuditAction::DeliveryRepeated, delivery.account_sid, webhook_sid)
                    }
                    Work::Debugger { alert_sid, .. } => {
                        Change::new(AuditAction::DeliveryRepeated, delivery.account_sid, alert_sid)
                    }
                    Work::Push(_) => return Err(Error::not_found()),
                };
                audit.record(tx, change.detail("delivery", id.to_string())).await
            })
            .await?;
        Ok(self.store.announce().await?)
    }

    /// Returns the webhooks of all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_webhooks(&self) -> Result<Vec<Webhook>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_webhooks().await?)).await
    }

    /// Enqueues a test event for a webhook, of type `webhook.test`, which carries only its account and service. It is
    /// attempted once, even if the webhook is disabled, and raises no alert.
    ///
    /// # Errors
    /// 20404 if there is no such webhook. Also fails if the database fails.
    pub async fn test_webhook(&self, origin: &Origin, sid: WebhookSid) -> Result<DeliveryId, Error> {
        let now = self.clock.now();
        let webhooks = self.all_webhooks().await?;
        let webhook = webhooks.into_iter().find(|webhook| webhook.sid == sid).ok_or_else(Error::not_found)?;
        let id = self.outbox.delivery_id(now);
        let parameters = [
            ("uuid", id.to_string()),
            ("type", "webhook.test".to_owned()),
            ("account_sid", webhook.account_sid.to_string()),
            ("service_sid", webhook.service_sid.to_string()),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let work =
            Work::Webhook { webhook_sid: sid, service_sid: webhook.service_sid, parameters, once: true };
        let delivery = self.outbox.webhook_delivery(id, webhook.account_sid, work, &webhook.url, now);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_delivery(&delivery).await?;
                audit.record(tx, webhooks::about(AuditAction::WebhookTested, &webhook)).await
            })
            .await?;
        self.store.announce().await?;
        Ok(id)
    }
}
