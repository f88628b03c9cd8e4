//! Webhooks.

use domain::audit::{Act, Change};
use domain::webhooks::{Status, Subscription, Version, Webhook, may_be_one_more};
use domain::{AccountSid, CallbackUrl, FriendlyName, Page, PageRequest, Problem, ServiceSid, WebhookSid};
use store::{Read, Write};
use tracing::warn;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// A webhook as it is asked for.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// What people call it.
    pub friendly_name: FriendlyName,
    /// What it wants to hear of.
    pub event_types: Vec<Subscription>,
    /// Where to.
    pub url: CallbackUrl,
    /// Whether anything is sent.
    pub status: Status,
    /// How much is told.
    pub version: Version,
}

impl App {
    /// Makes a webhook.
    ///
    /// # Errors
    /// 20404 without the service, 60306 when it has as many webhooks as it can; when the database fails.
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
                // Held, so that those who create at once are counted one after the other.
                tx.lock_service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                may_be_one_more(tx.count_webhooks(service_sid).await?)?;
                tx.insert_webhook(&webhook).await?;
                audit.note(tx, about(Act::WebhookCreated, &webhook)).await?;
                Ok::<_, Error>(webhook.clone())
            })
            .await?;
        self.warn_of(&created);
        Ok(created)
    }

    /// Logs what will keep the webhook's events from arriving, as far as its address shows it.
    fn warn_of(&self, webhook: &Webhook) {
        let (sid, host) = (webhook.sid, webhook.url.destination());
        if self.webhook_guard.refuses_host_of(webhook.url.url()) {
            warn!(webhook = %sid, host, "webhook leads to an address that is not public, so nothing will be delivered; \
                   permit its network with --webhook-allow");
        }
        if !webhook.url.is_sent_as_signed() {
            warn!(webhook = %sid, host, "webhook URL can't be sent as it is written; a receiver must validate signatures \
                   with the URL as it was configured");
        }
    }

    /// A webhook.
    ///
    /// # Errors
    /// 20404; when the database fails.
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

    /// The webhooks of a service.
    ///
    /// # Errors
    /// 20404 without the service; when the database fails.
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

    /// Changes a webhook: all that `change` changes, or nothing if it refuses. What the webhook is still
    /// owed goes to its new address.
    ///
    /// # Errors
    /// 20404; those of `change`; when the database fails.
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
                let changed = about(Act::WebhookUpdated, &webhook).with("changed", webhook.changed(&before));
                audit.note(tx, changed).await?;
                let has_new_url = webhook.url != before.url;
                Ok::<_, Error>((webhook, has_new_url))
            })
            .await?;
        if has_new_url {
            self.warn_of(&updated);
        }
        Ok(updated)
    }

    /// Deletes a webhook; what it is still owed is skipped.
    ///
    /// # Errors
    /// 20404; when the database fails.
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
                let change = Change::new(Act::WebhookDeleted, account_sid, sid);
                audit.note(tx, change.with("service_sid", service_sid)).await
            })
            .await
    }
}

/// What was done to a webhook.
pub(crate) fn about(act: Act, webhook: &Webhook) -> Change {
    let change = Change::new(act, webhook.account_sid, webhook.sid);
    change.with("service_sid", webhook.service_sid).with("status", webhook.status.as_str())
}
