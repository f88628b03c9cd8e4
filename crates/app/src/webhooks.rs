//! Use cases of webhooks: create, fetch, list, update and delete.

use domain::audit::{AuditAction, Change};
use domain::deliveries::DeliveryId;
use domain::webhooks::{Status, Subscription, Version, Webhook, require_webhook_capacity};
use domain::{AccountSid, CallbackUrl, FriendlyName, Page, PageRequest, Problem, ServiceSid, WebhookSid};
use store::{Read, Write};
use tracing::warn;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// Maximum number of deliveries that one transaction redirects.
const REDIRECT_BATCH: i64 = 500;

/// The parameters of a new webhook.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Display name of the webhook.
    pub friendly_name: FriendlyName,
    /// Event types that are sent to the webhook.
    pub event_types: Vec<Subscription>,
    /// URL to which the events are sent.
    pub url: CallbackUrl,
    /// Whether the webhook is enabled. A disabled webhook gets no events.
    pub status: Status,
    /// Version of the event format that the webhook receives.
    pub version: Version,
}

impl App {
    /// Creates a webhook, and returns it. Logs a warning if its URL shows that deliveries will fail.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, and with 60306 if it already has the maximum number of webhooks.
    /// Also fails if the database fails.
    pub async fn create_webhook(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        new: NewWebhook,
    ) -> Result<Webhook, Error> {
        let now = self.clock.now();
        let webhook = Webhook {
            sid: WebhookSid::generate(now, self.entropy.as_ref()),
            account_sid,
            service_sid,
            friendly_name: new.friendly_name,
            event_types: new.event_types,
            url: new.url,
            status: new.status,
            version: new.version,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit(origin, now);
        let created = self
            .store
            .write(async move |tx: &mut Write| {
                // Lock the service so that concurrent requests are counted one after another.
                tx.lock_service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                require_webhook_capacity(tx.count_webhooks(service_sid).await?)?;
                tx.insert_webhook(&webhook).await?;
                audit.record(tx, about(AuditAction::WebhookCreated, &webhook)).await?;
                Ok::<_, Error>(webhook.clone())
            })
            .await?;
        self.warn_of_undeliverable_url(&created);
        Ok(created)
    }

    /// Logs a warning if the webhook's URL alone shows that its events will not arrive, or that the receiver may fail
    /// to validate their signatures.
    fn warn_of_undeliverable_url(&self, webhook: &Webhook) {
        let (sid, host) = (webhook.sid, webhook.url.destination());
        if self.webhook_guard.refuses_host_of(webhook.url.url()) {
            warn!(webhook = %sid, host, "webhook URL has an address that is not public, so nothing will be delivered; \
                   permit its network with --webhook-allow-network");
        }
        if !webhook.url.is_sent_as_signed() {
            warn!(webhook = %sid, host, "webhook URL is not sent exactly as configured; the receiver must validate \
                   signatures with the configured URL");
        }
    }

    /// Returns the webhook `sid` of a service.
    ///
    /// # Errors
    /// Fails with 20404 if the webhook does not exist. Also fails if the database fails.
    pub async fn webhook(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
    ) -> Result<Webhook, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.webhook(account_sid, service_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of a service's webhooks.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn webhooks(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        page: PageRequest,
    ) -> Result<Page<Webhook>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                Ok(db.webhooks(account_sid, service_sid, &page).await?)
            })
            .await
    }

    /// Applies `change` to a webhook, and returns the updated webhook. If `change` returns an error, nothing is
    /// changed. Pending deliveries are sent to the new URL.
    ///
    /// # Errors
    /// Fails with 20404 if the webhook does not exist, or with the error that `change` returns. Also fails if the
    /// database fails.
    pub async fn update_webhook(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
        change: impl Fn(&mut Webhook) -> Result<(), Problem> + Send + 'static,
    ) -> Result<Webhook, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let (updated, old_url) = self
            .store
            .write(async move |tx: &mut Write| {
                let webhook = tx.lock_webhook(account_sid, service_sid, sid).await?;
                let before = webhook.ok_or_else(Error::not_found)?;
                let mut webhook = before.clone();
                change(&mut webhook)?;
                webhook.updated_at = now;
                tx.update_webhook(&webhook).await?;
                let changed = about(AuditAction::WebhookUpdated, &webhook)
                    .detail("changed", webhook.changed_fields(&before));
                audit.record(tx, changed).await?;
                Ok::<_, Error>((webhook, before.url))
            })
            .await?;
        if updated.url != old_url {
            self.warn_of_undeliverable_url(&updated);
        }
        if updated.url.destination() != old_url.destination()
            && let Err(fault) = self.redirect_deliveries(&updated).await
        {
            warn!("could not redirect all pending deliveries of {}: {}", updated.sid, fault.report());
        }
        Ok(updated)
    }

    /// Moves a webhook's pending deliveries to its new destination, with which they share a limit. There may be many, so
    /// each transaction moves only some. Stops if the destination is changed again meanwhile. If this is interrupted, the
    /// others wait with the deliveries to the old destination, but are sent to the new URL all the same.
    async fn redirect_deliveries(&self, webhook: &Webhook) -> Result<(), Error> {
        let (account_sid, service_sid, sid) = (webhook.account_sid, webhook.service_sid, webhook.sid);
        let mut after = DeliveryId::MIN;
        loop {
            let (destination, now) = (webhook.url.destination(), self.now());
            let redirect = async move |tx: &mut Write| {
                let present = tx.lock_webhook(account_sid, service_sid, sid).await?;
                match present.filter(|present| present.url.destination() == destination) {
                    Some(present) => Ok(tx.redirect_deliveries(&present, after, REDIRECT_BATCH, now).await?),
                    None => Ok::<_, Error>(None),
                }
            };
            match self.store.write(redirect).await? {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Deletes a webhook. Its pending deliveries will be skipped.
    ///
    /// # Errors
    /// Fails with 20404 if the webhook does not exist. Also fails if the database fails.
    pub async fn delete_webhook(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: WebhookSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                if !tx.delete_webhook(account_sid, service_sid, sid).await? {
                    return Err(Error::not_found());
                }
                let change = Change::new(AuditAction::WebhookDeleted, account_sid, sid);
                audit.record(tx, change.detail("service_sid", service_sid)).await
            })
            .await
    }
}

/// Returns the change to record in the audit log for an action on a webhook.
pub(crate) fn about(action: AuditAction, webhook: &Webhook) -> Change {
    let change = Change::new(action, webhook.account_sid, webhook.sid);
    change.detail("service_sid", webhook.service_sid).detail("status", webhook.status.as_str())
}
