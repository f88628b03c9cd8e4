//! Deliveries, as operators look at them from the command line.

use domain::audit::{Act, Change};
use domain::deliveries::{DeliveryId, Work};
use domain::{Webhook, WebhookSid};
pub use store::{AttemptRecord, DeliveryFilter, DeliveryStatus};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::webhooks;

impl App {
    /// The newest deliveries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries(&self, filter: DeliveryFilter, limit: i64) -> Result<Vec<DeliveryStatus>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.deliveries(&filter, limit).await?)).await
    }

    /// A delivery and its attempts, oldest first.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn delivery(&self, id: DeliveryId) -> Result<(DeliveryStatus, Vec<AttemptRecord>), Error> {
        self.store.read(async move |db: &mut Read| db.delivery(id).await?.ok_or_else(Error::not_found)).await
    }

    /// Owes a finished delivery once more, under the same name. Not a push: what it is about is over.
    ///
    /// # Errors
    /// 20404 when there is none, it is still owed, or it is a push; when the database fails.
    pub async fn redeliver(&self, origin: &Origin, id: DeliveryId) -> Result<(), Error> {
        let now = self.clock.now();
        let end = self.outbox.webhook_end(now);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let owed = tx.owe_again(id, now, end).await?.ok_or_else(Error::not_found)?;
                let change = match owed.work {
                    Work::Webhook { webhook_sid, .. } => {
                        Change::new(Act::DeliveryRepeated, owed.account_sid, webhook_sid)
                    }
                    Work::Debugger { alert_sid, .. } => {
                        Change::new(Act::DeliveryRepeated, owed.account_sid, alert_sid)
                    }
                    Work::Push(_) => return Err(Error::not_found()),
                };
                audit.note(tx, change.with("delivery", id.to_string())).await
            })
            .await?;
        Ok(self.store.announce().await?)
    }

    /// The webhooks of all accounts, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn all_webhooks(&self) -> Result<Vec<Webhook>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_webhooks().await?)).await
    }

    /// Owes a webhook a test event: type `webhook.test`, with nothing but whose it is. It is attempted once,
    /// even if the webhook is disabled, and raises no alert.
    ///
    /// # Errors
    /// 20404 when there is no such webhook; when the database fails.
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
        let delivery = self.outbox.to_webhook(id, webhook.account_sid, work, &webhook.url, now);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                tx.owe(&delivery).await?;
                audit.note(tx, webhooks::about(Act::WebhookTested, &webhook)).await
            })
            .await?;
        self.store.announce().await?;
        Ok(id)
    }
}
