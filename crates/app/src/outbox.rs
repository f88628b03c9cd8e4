//! The outbox: use cases store deliveries in the same transaction as the change that causes them.
//!
//! Therefore a delivery exists if and only if its change was committed. After the commit,
//! [`App::write_with_outbox`](crate::App::write_with_outbox) wakes the delivery workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::alerts::Alert;
use domain::challenges::PushChallenge;
use domain::deliveries::{Delivery, DeliveryId, Destination, MessageWork, PushWork, Work};
use domain::events::Event;
use domain::factors::{Platform, PushFactor};
use domain::outlets::OutletChoice;
use domain::verifications::{Verification, VerificationEvent};
use domain::webhooks::EventType;
use domain::{
    AccountSid, AttemptSid, CallbackUrl, Challenge, Entropy, Factor, FactorType, HasFactorType,
    NotificationSid, Service, Timestamp,
};
use serde_json::json;
use store::Write;
use tokio::sync::Notify;

use crate::error::Error;

/// Default time for which the delivery of a webhook is attempted, in seconds (docs/protocol/decisions.md, No. 13).
/// Operators can set another value.
pub(crate) const WEBHOOK_MAX_AGE_SECONDS: i64 = 24 * 3600;

/// Maximum time for which a push with a time to live of 0 may wait for its only attempt, in seconds.
const MAX_QUEUE_SECONDS: i64 = 10;

/// Time to live of the push for a new challenge, in seconds. Notifications have the same default.
pub(crate) const PUSH_TTL_SECONDS: u32 = 300;

/// Signals that wake the delivery worker of this process, and through announcements the workers of other nodes.
#[derive(Debug, Default)]
pub(crate) struct WorkerNotify {
    local: Notify,
    is_unannounced: AtomicBool,
}

impl WorkerNotify {
    /// Wakes the delivery worker of this process after a commit that enqueued a delivery. The workers of other nodes
    /// are woken by the next announcement, which the caller requests.
    pub(crate) fn notify(&self) {
        self.local.notify_one();
        self.is_unannounced.store(true, Ordering::Release);
    }

    /// Wakes only the delivery worker of this process.
    pub(crate) fn notify_local(&self) {
        self.local.notify_one();
    }

    /// Waits for the next notification of this process's worker. Returns immediately if one arrived since the last
    /// wait.
    pub(crate) async fn notified(&self) {
        self.local.notified().await;
    }

    /// Returns whether a delivery was enqueued since the last call.
    pub(crate) fn take_unannounced(&self) -> bool {
        self.is_unannounced.swap(false, Ordering::AcqRel)
    }
}

/// Enqueues the deliveries of one transaction.
pub(crate) struct Outbox {
    entropy: Arc<dyn Entropy>,
    webhook_max_age_seconds: i64,
    has_enqueued: Arc<AtomicBool>,
}

impl Outbox {
    /// Creates an outbox that gives each webhook delivery `webhook_max_age_seconds` until it expires.
    pub(crate) fn new(entropy: Arc<dyn Entropy>, webhook_max_age_seconds: i64) -> Self {
        Self { entropy, webhook_max_age_seconds, has_enqueued: Arc::default() }
    }

    /// Returns a flag that is set as soon as a delivery is enqueued.
    pub(crate) fn enqueued_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_enqueued)
    }

    /// Stores a delivery.
    async fn enqueue(&self, tx: &mut Write, delivery: &Delivery) -> Result<(), Error> {
        self.has_enqueued.store(true, Ordering::Relaxed);
        Ok(tx.insert_delivery(delivery).await?)
    }

    /// Returns the expiration time of a webhook delivery that is enqueued at `now`.
    pub(crate) const fn webhook_expires_at(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.webhook_max_age_seconds)
    }

    /// Generates an ID for a new delivery.
    pub(crate) fn delivery_id(&self, now: Timestamp) -> DeliveryId {
        DeliveryId::generate(now, self.entropy.as_ref())
    }

    /// Builds a delivery of `work` to `url`, without storing it.
    pub(crate) fn webhook_delivery(
        &self,
        id: DeliveryId,
        account_sid: AccountSid,
        work: Work,
        url: &CallbackUrl,
        now: Timestamp,
    ) -> Delivery {
        let destination = Destination::Host(url.destination());
        let (expires_at, trace) = (self.webhook_expires_at(now), telemetry::traces::current_parent());
        Delivery::new(id, account_sid, work, destination, now, expires_at, trace)
    }

    /// Enqueues an event for every enabled webhook of the factor's service that subscribes to this event type. Only
    /// push factors have events (docs/protocol/decisions.md, No. 23).
    pub(crate) async fn enqueue_webhooks<Kind: HasFactorType>(
        &self,
        tx: &mut Write,
        event_type: EventType,
        factor: &Factor<Kind>,
        challenge: Option<&Challenge<PushChallenge>>,
        now: Timestamp,
    ) -> Result<(), Error> {
        match factor.factor_type() {
            FactorType::Push => {}
            FactorType::Totp | FactorType::Passkeys => return Ok(()),
        }
        let webhooks = tx.enabled_webhooks(factor.service_sid).await?;
        let event = Event::new(event_type, factor, challenge, self.entropy.as_ref());
        for webhook in webhooks.iter().filter(|webhook| webhook.is_subscribed_to(event_type)) {
            let work = Work::Webhook {
                webhook_sid: webhook.sid,
                service_sid: webhook.service_sid,
                parameters: event.parameters(webhook.version),
                once: false,
            };
            let id = self.delivery_id(now);
            let delivery = self.webhook_delivery(id, webhook.account_sid, work, &webhook.url, now);
            self.enqueue(tx, &delivery).await?;
        }
        Ok(())
    }

    /// Enqueues a push for a challenge, unless the factor has no push platform or its device is unreachable. `ttl` is
    /// the time to live in seconds; 0 means a single attempt, as soon as possible.
    pub(crate) async fn enqueue_push(
        &self,
        tx: &mut Write,
        challenge: &Challenge<PushChallenge>,
        factor: &Factor<PushFactor>,
        notification_sid: Option<NotificationSid>,
        ttl: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        let platform = factor.kind.notification.platform();
        if platform == Platform::None || factor.kind.unreachable {
            return Ok(());
        }
        // A push with a time to live of 0 may still have to wait in the queue for its only attempt.
        let lifetime = if ttl == 0 { MAX_QUEUE_SECONDS } else { i64::from(ttl) };
        let expires_at = now.plus_seconds(lifetime).min(challenge.expires_at);
        let work = Work::Push(PushWork {
            challenge_sid: challenge.sid,
            factor_sid: factor.sid,
            service_sid: factor.service_sid,
            identity: factor.identity.clone(),
            notification_sid,
            ttl,
        });
        let destination = Destination::Push { platform, service_sid: factor.service_sid };
        let id = self.delivery_id(now);
        let (account_sid, trace) = (challenge.account_sid, telemetry::traces::current_parent());
        let delivery = Delivery::new(id, account_sid, work, destination, now, expires_at, trace);
        self.enqueue(tx, &delivery).await
    }

    /// Enqueues the message of an attempt. It is attempted until the verification expires.
    pub(crate) async fn enqueue_message(
        &self,
        tx: &mut Write,
        verification: &Verification,
        attempt_sid: AttemptSid,
        outlet: OutletChoice,
        now: Timestamp,
    ) -> Result<(), Error> {
        let work = Work::Message(MessageWork {
            verification_sid: verification.sid,
            attempt_sid,
            service_sid: verification.service_sid,
            outlet,
        });
        let id = self.delivery_id(now);
        let (account_sid, trace) = (verification.account_sid, telemetry::traces::current_parent());
        let destination = Destination::Outlet(outlet);
        let delivery = Delivery::new(id, account_sid, work, destination, now, verification.expires_at, trace);
        self.enqueue(tx, &delivery).await
    }

    /// Enqueues an event about a verification that was created, sent again, or ended, if its service sends such events
    /// and the account has a URL for them. Must be called before the attempts' messages are forgotten, because the event
    /// contains their custom friendly name.
    pub(crate) async fn enqueue_verification_event(
        &self,
        tx: &mut Write,
        service: &Service,
        verification: &Verification,
        has_right_check: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !service.settings.verify_event_subscription_enabled {
            return Ok(());
        }
        let account = tx.account(verification.account_sid).await?;
        let Some(url) = account.and_then(|account| account.verification_events_url) else { return Ok(()) };
        let attempts = tx.attempts_of_verification(verification.sid).await?;
        let event = VerificationEvent {
            verification,
            attempts: &attempts,
            service_name: service.settings.friendly_name.as_str(),
            has_right_check,
            time: now,
        };
        let work = Work::VerificationEvent {
            verification_sid: verification.sid,
            service_sid: verification.service_sid,
            body: event.to_body(self.entropy.as_ref()),
        };
        let id = self.delivery_id(now);
        self.enqueue(tx, &self.webhook_delivery(id, verification.account_sid, work, &url, now)).await
    }

    /// Stores an alert, and enqueues its delivery to the account's debugger webhook if the account has one.
    pub(crate) async fn raise_alert(
        &self,
        tx: &mut Write,
        alert: &Alert,
        now: Timestamp,
    ) -> Result<(), Error> {
        tx.insert_alert(alert).await?;
        let account = tx.account(alert.account_sid).await?;
        let Some(url) = account.and_then(|account| account.debugger_webhook) else { return Ok(()) };
        let work = Work::Debugger { alert_sid: alert.sid, parameters: debugger_parameters(alert) };
        let id = self.delivery_id(now);
        self.enqueue(tx, &self.webhook_delivery(id, alert.account_sid, work, &url, now)).await
    }
}

/// Builds the form parameters of a request to a debugger webhook (docs/protocol/push.md, section 3).
fn debugger_parameters(alert: &Alert) -> Vec<(String, String)> {
    let mut payload = json!({
        "resource_sid": alert.resource_sid,
        "service_sid": alert.service_sid,
        "error_code": alert.error_code.to_string(),
        "more_info": alert.more_info,
    });
    if let Some(call) = &alert.call {
        // Receivers expect a `response` object even if the webhook returned no response.
        let response = call.response.clone().unwrap_or_default();
        payload["webhook"] = json!({
            "type": "application/json",
            "request": {
                "url": call.url,
                "method": "POST",
                "headers": {},
                "parameters": BTreeMap::from_iter(call.variables.iter().cloned()),
            },
            "response": {
                "status_code": call.response.as_ref().map(|response| response.status),
                "headers": BTreeMap::from_iter(response.headers),
                "body": response.body,
            },
        });
    }
    [
        ("Sid", alert.sid.to_string()),
        ("AccountSid", alert.account_sid.to_string()),
        ("Timestamp", alert.created_at.to_string()),
        ("Level", alert.level.as_str().to_uppercase()),
        ("PayloadType", "application/json".to_owned()),
        ("Payload", payload.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
