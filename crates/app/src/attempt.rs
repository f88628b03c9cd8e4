//! One attempt at one delivery: look up what it takes, send, and say what came of it.

mod call;
mod push;

use std::sync::Arc;

use domain::alerts::{Alert, Level};
use domain::deliveries::{Delivery, DeliveryId, Ending, Work};
use domain::{AlertSid, Clock, FactorSid, ServiceSid, Timestamp};
use serde_json::json;
use tracing::warn;

use crate::App;
use crate::attempt::push::Credentials;
use crate::deliver::{CourierError, DeliverySettings};
use crate::error::Error;

/// What came of an attempt, and what is to be remembered of it.
#[derive(Clone)]
pub(crate) struct Attempted {
    pub(crate) ending: Ending,
    pub(crate) error_code: Option<u32>,
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<String>,
    /// To be raised if nobody tries again.
    pub(crate) alert: Option<Alert>,
    /// The token that the provider calls dead.
    pub(crate) dead_token: Option<DeadToken>,
}

/// A notification token that leads nowhere.
#[derive(Clone)]
pub(crate) struct DeadToken {
    pub(crate) factor_sid: FactorSid,
    pub(crate) token: String,
    /// When the device sent it.
    pub(crate) registered_at: Timestamp,
}

impl Attempted {
    fn skipped(why: &str) -> Self {
        Self {
            ending: Ending::Skipped,
            error_code: None,
            status: None,
            detail: Some(why.to_owned()),
            alert: None,
            dead_token: None,
        }
    }

    /// An attempt that could not begin because of a fault of this server, which may pass.
    fn put_off(error: &Error, app: &App, delivery: &Delivery, now: Timestamp) -> Self {
        let detail = error.chain();
        warn!("not attempted: {detail}");
        let (service_sid, resource_sid, code) = match &delivery.work {
            Work::Webhook { webhook_sid, service_sid, .. } => {
                (Some(*service_sid), webhook_sid.to_string(), call::UNDELIVERED)
            }
            Work::Push(asked) => (Some(asked.service_sid), asked.challenge_sid.to_string(), push::INTERNAL),
            Work::Debugger { alert_sid, .. } => (None, alert_sid.to_string(), call::UNDELIVERED),
        };
        let text = "the delivery could not be attempted, and is given up".to_owned();
        let about = About { service_sid, resource_sid };
        let alert = Alert {
            more_info: json!({ "description": text, "deliverySid": sid_like("DA", delivery.id) }),
            ..alert(app, delivery, about, code, text, now)
        };
        let ending = Ending::Again { after: None };
        Self { ending, error_code: Some(code), alert: Some(alert), ..Self::skipped(&detail) }
    }
}

/// What an alert is about.
struct About {
    service_sid: Option<ServiceSid>,
    resource_sid: String,
}

fn alert(app: &App, delivery: &Delivery, about: About, code: u32, text: String, now: Timestamp) -> Alert {
    Alert {
        sid: AlertSid::generate(now, app.entropy()),
        account_sid: delivery.account_sid,
        service_sid: about.service_sid,
        resource_sid: about.resource_sid,
        error_code: code,
        level: Level::Error,
        text,
        more_info: json!({}),
        call: None,
        created_at: now,
    }
}

/// A name like a SID, for what has none of its own, as the debugger's `more_info` carries them.
fn sid_like(prefix: &str, id: DeliveryId) -> String {
    format!("{prefix}{}", id.to_string().replace('-', ""))
}

/// The webhook and push clients that the delivery worker uses.
pub struct Couriers {
    webhooks: webhook_client::Sender,
    pusher: push_client::Pusher,
    credentials: Credentials,
}

impl Couriers {
    /// Makes them, and reads what the settings name for them.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(settings: &DeliverySettings, clock: Arc<dyn Clock>) -> Result<Self, CourierError> {
        Ok(Self {
            webhooks: webhook_client::Sender::new(settings.webhooks.clone())?,
            pusher: push_client::Pusher::new(settings.push.clone(), clock)?,
            credentials: Credentials::default(),
        })
    }

    pub(crate) async fn attempt(&self, app: &App, delivery: &Delivery, now: Timestamp) -> Attempted {
        let attempted = match &delivery.work {
            // However late, since no server ran, it is attempted once more: the last time.
            Work::Webhook { webhook_sid, service_sid, parameters, once } => {
                let to = (*service_sid, *webhook_sid);
                self.webhook(app, delivery, to, parameters, *once, now).await
            }
            Work::Debugger { alert_sid, parameters } => {
                self.debugger(app, delivery, *alert_sid, parameters, now).await
            }
            Work::Push(asked) => self.push(app, delivery, asked, now).await,
        };
        attempted.unwrap_or_else(|error| Attempted::put_off(&error, app, delivery, now))
    }
}
