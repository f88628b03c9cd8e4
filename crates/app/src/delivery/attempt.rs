//! The result of one attempt to make a delivery, and the alert that the attempt may raise.

use domain::alerts::{Alert, Level};
use domain::deliveries::{Delivery, DeliveryId, Ending, Work};
use domain::{AlertSid, FactorSid, ServiceSid, Timestamp};
use serde_json::json;
use tracing::warn;

use crate::App;
use crate::delivery::message::failure_code_of_outlet;
use crate::error::Error;

/// Error code for webhook failures whose cause has no error code of its own.
const WEBHOOK_FAILED_CODE: u32 = 11200;

/// Error code for push failures whose cause has no error code of its own.
pub(crate) const PUSH_FAILED_CODE: u32 = 52000;

/// The result of an attempt: how the attempt ended, and what to record about it.
#[derive(Clone)]
pub(crate) struct AttemptResult {
    pub(crate) ending: Ending,
    pub(crate) error_code: Option<u32>,
    /// Status code of the HTTP response to a webhook, or `None` without a response.
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<String>,
    /// Alert to raise if no retry follows.
    pub(crate) alert: Option<Alert>,
    /// Push token that the provider reported as invalid.
    pub(crate) dead_token: Option<DeadToken>,
}

/// A push token that no longer reaches a device, and the factor to which it belongs.
#[derive(Clone)]
pub(crate) struct DeadToken {
    pub(crate) factor_sid: FactorSid,
    pub(crate) token: String,
    /// When the device registered the token.
    pub(crate) registered_at: Timestamp,
}

impl AttemptResult {
    /// Creates a result with this ending and no other information to record.
    pub(crate) const fn new(ending: Ending) -> Self {
        Self { ending, error_code: None, status: None, detail: None, alert: None, dead_token: None }
    }

    /// Creates the result of an attempt that was skipped because the delivery is no longer useful. `reason` says why.
    pub(crate) fn skipped(reason: &str) -> Self {
        Self { detail: Some(reason.to_owned()), ..Self::new(Ending::Skipped) }
    }

    /// Creates the result of an attempt that could not start because of a fault of this server: the attempt is retried.
    /// Also logs a warning.
    pub(crate) fn not_started(error: &Error, app: &App, delivery: &Delivery, now: Timestamp) -> Self {
        let detail = error.report();
        warn!("delivery attempt could not start, will retry: {detail}");
        let (service_sid, resource_sid, code) = match &delivery.work {
            Work::Webhook { webhook_sid, service_sid, .. } => {
                (Some(*service_sid), webhook_sid.to_string(), WEBHOOK_FAILED_CODE)
            }
            Work::Push(push) => (Some(push.service_sid), push.challenge_sid.to_string(), PUSH_FAILED_CODE),
            Work::Message(message) => {
                let code = failure_code_of_outlet(message.outlet);
                (Some(message.service_sid), message.verification_sid.to_string(), code)
            }
            Work::VerificationEvent { verification_sid, service_sid, .. } => {
                (Some(*service_sid), verification_sid.to_string(), WEBHOOK_FAILED_CODE)
            }
            Work::Debugger { alert_sid, .. } => (None, alert_sid.to_string(), WEBHOOK_FAILED_CODE),
        };
        let text = "the delivery could not be attempted and was given up".to_owned();
        let subject = AlertSubject { service_sid, resource_sid };
        let alert = Alert {
            more_info: json!({ "description": text, "deliverySid": prefixed_id("DA", delivery.id) }),
            ..new_alert(app, delivery, subject, code, text, now)
        };
        let ending = Ending::RetryAfter { seconds: None };
        Self { error_code: Some(code), detail: Some(detail), alert: Some(alert), ..Self::new(ending) }
    }
}

/// The service and the resource that an alert is about.
pub(crate) struct AlertSubject {
    pub(crate) service_sid: Option<ServiceSid>,
    pub(crate) resource_sid: String,
}

/// Builds an alert of level `Error` about a failed delivery, with an empty `more_info` and no `call`.
pub(crate) fn new_alert(
    app: &App,
    delivery: &Delivery,
    subject: AlertSubject,
    code: u32,
    text: String,
    now: Timestamp,
) -> Alert {
    Alert {
        sid: AlertSid::generate(now, app.entropy()),
        account_sid: delivery.account_sid,
        service_sid: subject.service_sid,
        resource_sid: subject.resource_sid,
        error_code: code,
        level: Level::Error,
        text,
        more_info: json!({}),
        call: None,
        created_at: now,
    }
}

/// Formats a delivery ID like a SID with this prefix. In an alert's `more_info`, such IDs identify objects that have no
/// SID of their own.
pub(crate) fn prefixed_id(prefix: &str, id: DeliveryId) -> String {
    format!("{prefix}{}", id.to_string().replace('-', ""))
}
