//! What a change owes to the outside, written in the change's own transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::alerts::Alert;
use domain::deliveries::{AskedPush, Delivery, DeliveryId, Work};
use domain::events::Event;
use domain::factors::Platform;
use domain::webhooks::EventType;
use domain::{AccountSid, CallbackUrl, Challenge, Entropy, Factor, NotificationSid, Timestamp};
use serde_json::json;
use store::Write;
use tokio::sync::Notify;

use crate::error::Error;

/// Seconds for which a webhook is tried, unless the operator says otherwise (docs/protocol/decisions.md, No. 13).
const WEBHOOK_PATIENCE: i64 = 24 * 3600;

/// Seconds that a push may stand in line that may not wait.
const QUEUE: i64 = 10;

/// Seconds that the push of a new challenge may take, as a notification does by default.
pub(crate) const PUSH_TTL: u32 = 300;

/// Wakes whoever delivers.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    here: Notify,
    elsewhere: Notify,
}

impl Wake {
    /// Something may be owed: a commit says so.
    pub(crate) fn ring(&self) {
        self.here.notify_one();
        self.elsewhere.notify_one();
    }

    /// Something may be owed, or can be attempted now; no other process need know.
    pub(crate) fn ring_here(&self) {
        self.here.notify_one();
    }

    /// Waits until it rings here, or has rung since the last time.
    pub(crate) async fn rung(&self) {
        self.here.notified().await;
    }

    /// Waits until others should be told.
    pub(crate) async fn to_be_told(&self) {
        self.elsewhere.notified().await;
    }
}

/// What a use case needs in order to owe something.
#[derive(Clone)]
pub(crate) struct Outbox {
    entropy: Arc<dyn Entropy>,
    webhook_patience: i64,
}

impl Outbox {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, webhook_patience: WEBHOOK_PATIENCE }
    }

    /// Seconds for which webhooks are tried that are owed from now on.
    pub(crate) const fn set_webhook_patience(&mut self, seconds: i64) {
        self.webhook_patience = seconds;
    }

    /// When a webhook that is owed now is given up.
    pub(crate) const fn webhook_end(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.webhook_patience)
    }

    /// Names a delivery.
    pub(crate) fn delivery_id(&self, now: Timestamp) -> DeliveryId {
        DeliveryId::generate(now, self.entropy.as_ref())
    }

    /// A delivery to a webhook of either kind.
    pub(crate) fn to_webhook(
        &self,
        id: DeliveryId,
        account_sid: AccountSid,
        work: Work,
        url: &CallbackUrl,
        now: Timestamp,
    ) -> Delivery {
        Delivery::new(
            id,
            account_sid,
            work,
            url.destination(),
            now,
            self.webhook_end(now),
            telemetry::traces::here(),
        )
    }

    /// Owes every webhook that wants to hear of it what happened just now.
    pub(crate) async fn owe_webhooks(
        &self,
        tx: &mut Write,
        event_type: EventType,
        factor: &Factor,
        challenge: Option<&Challenge>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let webhooks = tx.enabled_webhooks(factor.service_sid).await?;
        let event = Event::new(event_type, factor, challenge, self.entropy.as_ref());
        for webhook in webhooks.iter().filter(|webhook| webhook.wants(event_type)) {
            let work = Work::Webhook {
                webhook_sid: webhook.sid,
                service_sid: webhook.service_sid,
                parameters: event.parameters(webhook.version),
                once: false,
            };
            let id = self.delivery_id(now);
            tx.owe(&self.to_webhook(id, webhook.account_sid, work, &webhook.url, now)).await?;
        }
        Ok(())
    }

    /// Owes a device a push about its challenge, if it wants any and can be reached. `ttl` is in seconds; 0
    /// means one attempt, now.
    pub(crate) async fn owe_push(
        &self,
        tx: &mut Write,
        challenge: &Challenge,
        factor: &Factor,
        notification_sid: Option<NotificationSid>,
        ttl: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        if factor.notification.platform() == Platform::None || factor.unreachable {
            return Ok(());
        }
        // Even a push that may not wait may have to stand in line for its one attempt.
        let patience = now.plus_seconds(if ttl == 0 { QUEUE } else { i64::from(ttl) });
        let work = Work::Push(AskedPush {
            challenge_sid: challenge.sid,
            factor_sid: factor.sid,
            service_sid: factor.service_sid,
            identity: factor.identity.to_string(),
            notification_sid,
            ttl,
        });
        let destination = format!("{} {}", factor.notification.platform().as_str(), factor.service_sid);
        let give_up_at = patience.min(challenge.expires_at);
        let id = self.delivery_id(now);
        let (account_sid, trace) = (challenge.account_sid, telemetry::traces::here());
        Ok(tx.owe(&Delivery::new(id, account_sid, work, destination, now, give_up_at, trace)).await?)
    }

    /// Stores an alert, and owes it to the account's debugger webhook if there is one.
    pub(crate) async fn raise(&self, tx: &mut Write, alert: &Alert, now: Timestamp) -> Result<(), Error> {
        tx.insert_alert(alert).await?;
        let account = tx.account(alert.account_sid).await?;
        let Some(url) = account.and_then(|account| account.debugger_webhook) else { return Ok(()) };
        let work = Work::Debugger { alert_sid: alert.sid, parameters: debugger_parameters(alert) };
        let id = self.delivery_id(now);
        Ok(tx.owe(&self.to_webhook(id, alert.account_sid, work, &url, now)).await?)
    }
}

/// The platform of a push: its destination begins with it.
pub(crate) fn platform(push: &Delivery) -> Platform {
    let word = push.destination.split(' ').next().unwrap_or_default();
    let is_it = |platform: &Platform| platform.as_str() == word;
    [Platform::Apn, Platform::Fcm].into_iter().find(is_it).unwrap_or(Platform::None)
}

/// The form that a debugger webhook gets (docs/protocol/push.md, section 3).
fn debugger_parameters(alert: &Alert) -> Vec<(String, String)> {
    let mut payload = json!({
        "resource_sid": alert.resource_sid,
        "service_sid": alert.service_sid,
        "error_code": alert.error_code.to_string(),
        "more_info": alert.more_info,
    });
    if let Some(call) = &alert.call {
        // Objects, as receivers expect them, even where there was no answer.
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
