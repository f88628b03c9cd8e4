//! Use cases of deliveries, for operators on the command line: list and repeat deliveries, and send test events.

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
    /// Returns the newest deliveries that match `filter`, at most `limit`, newest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn deliveries(&self, filter: DeliveryFilter, limit: i64) -> Result<Vec<DeliveryStatus>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.deliveries(&filter, limit).await?)).await
    }

    /// Returns a delivery and its attempts, oldest attempt first.
    ///
    /// # Errors
    /// Fails with 20404 if the delivery does not exist. Also fails if the database fails.
    pub async fn delivery(&self, id: DeliveryId) -> Result<(DeliveryStatus, Vec<AttemptRecord>), Error> {
        self.store.read(async move |db: &mut Read| db.delivery(id).await?.ok_or_else(Error::not_found)).await
    }

    /// Enqueues a finished delivery again, with the same ID. A push is refused, because its content would be
    /// outdated by then.
    ///
    /// # Errors
    /// Fails with 20404 if the delivery does not exist, is still pending, or is a push or a message. Also fails if the
    /// database fails.
    pub async fn redeliver(&self, origin: &Origin, id: DeliveryId) -> Result<(), Error> {
        let now = self.clock.now();
        let end = self.outbox().webhook_expires_at(now);
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
                    Work::VerificationEvent { verification_sid, .. } => {
                        Change::new(AuditAction::DeliveryRepeated, delivery.account_sid, verification_sid)
                    }
                    Work::Push(_) | Work::Message(_) => return Err(Error::not_found()),
                };
                audit.record(tx, change.detail("delivery", id.to_string())).await
            })
            .await?;
        self.announce_deliveries().await
    }

    /// Returns the webhooks of all accounts, oldest first. For operators.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_webhooks(&self) -> Result<Vec<Webhook>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_webhooks().await?)).await
    }

    /// Enqueues a test event of type `webhook.test` for a webhook, and returns the ID of its delivery. Besides its own
    /// ID and type, the event contains only the account and the service of the webhook. The delivery is attempted once,
    /// even if the webhook is disabled, and a failure raises no alert.
    ///
    /// # Errors
    /// Fails with 20404 if the webhook does not exist. Also fails if the database fails.
    pub async fn test_webhook(&self, origin: &Origin, sid: WebhookSid) -> Result<DeliveryId, Error> {
        let now = self.clock.now();
        let webhooks = self.all_webhooks().await?;
        let webhook = webhooks.into_iter().find(|webhook| webhook.sid == sid).ok_or_else(Error::not_found)?;
        let outbox = self.outbox();
        let id = outbox.delivery_id(now);
        let parameters = [
            ("uuid", id.to_string()),
            ("type", "webhook.test".to_owned()),
            ("account_sid", webhook.account_sid.to_string()),
            ("service_sid", webhook.service_sid.to_string()),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let work =
            Work::Webhook { webhook_sid: sid, service_sid: webhook.service_sid, parameters, once: true };
        let delivery = outbox.webhook_delivery(id, webhook.account_sid, work, &webhook.url, now);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_delivery(&delivery).await?;
                audit.record(tx, webhooks::about(AuditAction::WebhookTested, &webhook)).await
            })
            .await?;
        self.announce_deliveries().await?;
        Ok(id)
    }
}
