//! Webhooks: create, fetch, list, update and delete.

use domain::audit::{AuditAction, Change};
use domain::webhooks::{Status, Subscription, Version, Webhook, require_webhook_capacity};
use domain::{AccountSid, CallbackUrl, FriendlyName, Page, PageRequest, Problem, ServiceSid, WebhookSid};
use store::{Read, Write};
use tracing::warn;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// The parameters of a new webhook.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// The operator's or backend's name for it.
    pub friendly_name: FriendlyName,
    /// The events that are sent to it.
    pub event_types: Vec<Subscription>,
    /// The URL that receives the events.
    pub url: CallbackUrl,
    /// Whether events are sent.
    pub status: Status,
    /// The version of the event format.
    pub version: Version,
}

impl App {
    /// Creates a webhook.
    ///
    /// # Errors
    /// 20404 for an unknown service, 60306 if it has as many webhooks as allowed. Also fails if the database fails.
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
                // Lock the service, so that concurrent requests are counted one after another.
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

    /// Logs a warning if the webhook's URL alone shows that its events will not arrive or will not verify.
    fn warn_of_undeliverable_url(&self, webhook: &Webhook) {
        let (sid, host) = (webhook.sid, webhook.url.destination());
        if self.webhook_guard.refuses_host_of(webhook.url.url()) {
            warn!(webhook = %sid, host, "webhook URL has an address that is not public, so nothing will be delivered; \
                   permit its network with --webhook-allow-network");
        }
        if !webhook.url.is_sent_as_signed() {
            warn!(webhook = %sid, host, "webhook URL is not sent as it is written; the receiver must validate signatures \
                   with the URL as it was configured");
        }
    }

    /// Returns a webhook of the service.
    ///
    /// # Errors
    /// 20404 if there is no such webhook. Also fails if the database fails.
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

    /// Returns a page of the webhooks of a service.
    ///
    /// # Errors
    /// 20404 for an unknown service. Also fails if the database fails.
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

    /// Applies `change` to a webhook. If it returns an error, nothing is changed. Pending deliveries are sent to the
    /// new URL.
    ///
    /// # Errors
    /// 20404 if there is no such webhook; the errors of `change`. Also fails if the database fails.
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
        let (updated, has_new_url) = self
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
                let has_new_url = webhook.url != before.url;
                Ok::<_, Error>((webhook, has_new_url))
            })
            .await?;
        if has_new_url {
            self.warn_of_undeliverable_url(&updated);
        }
        Ok(updated)
    }

    /// Deletes a webhook. Its pending deliveries are skipped.
    ///
    /// # Errors
    /// 20404 if there is no such webhook. Also fails if the database fails.
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

/// Returns the audit record for an action on a webhook.
pub(crate) fn about(action: AuditAction, webhook: &Webhook) -> Change {
    let change = Change::new(action, webhook.account_sid, webhook.sid);
    change.detail("service_sid", webhook.service_sid).detail("status", webhook.status.as_str())
}
