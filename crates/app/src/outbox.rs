//! What a change owes to the outside, written in the change's own transaction.

use domain::alerts::Alert;
use domain::deliveries::{Delivery, DeliveryId, Work};
use domain::events::Event;
use domain::factors::Platform;
use domain::webhooks::EventType;
use domain::{Challenge, Entropy, Factor, NotificationSid, Timestamp};
use serde_json::json;
use store::Write;
use tokio::sync::Notify;

use crate::error::Error;

/// Seconds for which a webhook is tried (protocol 00, row 13).
const WEBHOOK_PATIENCE: i64 = 24 * 3600;

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

/// Owes every webhook that wants to hear of it what happened just now.
pub(crate) async fn owe_webhooks(
    tx: &mut Write,
    event_type: EventType,
    factor: &Factor,
    challenge: Option<&Challenge>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), Error> {
    let webhooks = tx.enabled_webhooks(factor.service_sid).await?;
    let event = Event::new(event_type, factor, challenge, entropy);
    for webhook in webhooks.iter().filter(|webhook| webhook.wants(event_type)) {
        let work = Work::Webhook {
            webhook_sid: webhook.sid,
            service_sid: webhook.service_sid,
            parameters: event.parameters(webhook.version),
        };
        tx.owe(&Delivery {
            id: DeliveryId::generate(now, entropy),
            account_sid: webhook.account_sid,
            work,
            destination: webhook.url.destination(),
            attempts: 0,
            created_at: now,
            due_at: now,
            give_up_at: now.plus_seconds(WEBHOOK_PATIENCE),
        })
        .await?;
    }
    Ok(())
}

/// Owes a device a push about its challenge, if it wants any and can be reached. `ttl` is in seconds; 0
/// means one attempt, now.
pub(crate) async fn owe_push(
    tx: &mut Write,
    challenge: &Challenge,
    factor: &Factor,
    notification_sid: Option<NotificationSid>,
    ttl: u32,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), Error> {
    if factor.notification.platform() == Platform::None || factor.unreachable {
        return Ok(());
    }
    // Even a push that may not wait takes a moment to be attempted.
    let patience = now.plus_seconds(i64::from(ttl.max(1)));
    tx.owe(&Delivery {
        id: DeliveryId::generate(now, entropy),
        account_sid: challenge.account_sid,
        work: Work::Push {
            challenge_sid: challenge.sid,
            factor_sid: factor.sid,
            service_sid: factor.service_sid,
            identity: factor.identity.to_string(),
            notification_sid,
            ttl,
        },
        destination: format!("{} {}", factor.notification.platform().as_str(), factor.service_sid),
        attempts: 0,
        created_at: now,
        due_at: now,
        give_up_at: patience.min(challenge.expires_at),
    })
    .await?;
    Ok(())
}

/// Stores an alert, and owes it to the account's debugger webhook if there is one.
pub(crate) async fn raise(
    tx: &mut Write,
    alert: &Alert,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), Error> {
    tx.insert_alert(alert).await?;
    let account = tx.account(alert.account_sid).await?;
    let Some(url) = account.and_then(|account| account.debugger_webhook) else { return Ok(()) };
    tx.owe(&Delivery {
        id: DeliveryId::generate(now, entropy),
        account_sid: alert.account_sid,
        work: Work::Debugger { alert_sid: alert.sid, parameters: debugger_parameters(alert) },
        destination: url.destination(),
        attempts: 0,
        created_at: now,
        due_at: now,
        give_up_at: now.plus_seconds(WEBHOOK_PATIENCE),
    })
    .await?;
    Ok(())
}

/// The form that a debugger webhook gets (protocol 06 section 3).
fn debugger_parameters(alert: &Alert) -> Vec<(String, String)> {
    let mut payload = json!({
        "resource_sid": alert.resource_sid,
        "service_sid": alert.service_sid,
        "error_code": alert.error_code.to_string(),
        "more_info": alert.more_info,
    });
    if let Some(call) = &alert.call {
        payload["webhook"] = json!({
            "type": "application/json",
            "request": { "url": call.url, "method": "POST", "headers": {}, "parameters": call.variables },
            "response": call.response.as_ref().map(|response| json!({
                "status_code": response.status,
                "headers": response.headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                "body": response.body,
            })),
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

/// A SID-like name for a delivery, as the debugger's `more_info` carries it.
pub(crate) fn delivery_sid(id: DeliveryId) -> String {
    format!("DA{}", id.to_string().replace('-', ""))
}
