//! Attempts at webhooks: those of services, and those that hear of alerts.

use std::collections::BTreeMap;

use domain::accounts::AuthToken;
use domain::alerts::{Alert, FailedCall, FailedResponse};
use domain::deliveries::{Delivery, Ending};
use domain::webhooks::{CallbackUrl, Condition, Status};
use domain::{AlertSid, ServiceSid, Timestamp, WebhookSid};
use serde_json::json;
use store::Read;
use telemetry::metrics::METRICS;

use super::{About, Attempted, Couriers, alert, sid_like};
use crate::App;
use crate::error::Error;

/// The code of a webhook that could not be called for a reason that has no code of its own.
pub(super) const UNDELIVERED: u32 = 11200;

/// Most characters of an answer's body that an alert remembers.
const LONGEST_BODY: usize = 1024;

/// Most bytes and lines of an answer's head that an alert remembers.
const LONGEST_HEAD: usize = 4096;
const MOST_HEADERS: usize = 32;

impl Couriers {
    pub(super) async fn webhook(
        &self,
        app: &App,
        delivery: &Delivery,
        (service_sid, sid): (ServiceSid, WebhookSid),
        parameters: &[(String, String)],
        once: bool,
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let account_sid = delivery.account_sid;
        let found = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.webhook(account_sid, service_sid, sid).await?))
            .await?;
        let Some(webhook) = found else { return Ok(Attempted::skipped("the webhook was deleted")) };
        if webhook.status == Status::Disabled && !once {
            return Ok(Attempted::skipped("the webhook is disabled"));
        }
        let auth_token = app.account(account_sid).await?.auth_token;
        let about = About { service_sid: Some(service_sid), resource_sid: sid.to_string() };
        let attempted = self.call(app, delivery, about, &webhook.url, parameters, &auth_token, now).await;
        Ok(match attempted.ending {
            Ending::Again { .. } | Ending::AtOnce | Ending::Failed if once => {
                Attempted { ending: Ending::Failed, alert: None, ..attempted }
            }
            _ => attempted,
        })
    }

    pub(super) async fn debugger(
        &self,
        app: &App,
        delivery: &Delivery,
        alert_sid: AlertSid,
        parameters: &[(String, String)],
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let account = app.account(delivery.account_sid).await?;
        let Some(url) = account.account.debugger_webhook else {
            return Ok(Attempted::skipped("the account has no debugger webhook"));
        };
        let about = About { service_sid: None, resource_sid: alert_sid.to_string() };
        Ok(self.call(app, delivery, about, &url, parameters, &account.auth_token, now).await)
    }

    #[expect(clippy::too_many_arguments, reason = "they have nothing in common but this call")]
    async fn call(
        &self,
        app: &App,
        delivery: &Delivery,
        about: About,
        url: &CallbackUrl,
        parameters: &[(String, String)],
        auth_token: &AuthToken,
        now: Timestamp,
    ) -> Attempted {
        let idempotency_token = delivery.id.to_string();
        let request =
            webhook_client::Request { url, parameters, auth_token, idempotency_token: &idempotency_token };
        let attempt = self.webhooks.send(&request, now).await;
        METRICS.webhook_duration.observe(attempt.duration.as_secs_f64());
        let (outcome, response) = (attempt.outcome, attempt.response.as_ref());
        let ending = if outcome.is_delivered() {
            Ending::Delivered
        } else if url.overrides().decide_on_retries() {
            // A retry begins when this attempt has ended.
            let took = i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX);
            let ended = Timestamp::from_micros(now.micros().saturating_add(took));
            overridden(delivery, url, outcome.condition(), ended)
        } else if outcome.is_transient() {
            let after = response.and_then(|response| response.retry_after);
            Ending::Again { after: after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX)) }
        } else {
            Ending::Failed
        };
        let code = (!outcome.is_delivered()).then(|| outcome.error_code());
        let alert = code.map(|code| {
            let text = outcome.to_string();
            Alert {
                more_info: json!({ "Msg": text, "deliverySid": sid_like("DA", delivery.id) }),
                call: Some(FailedCall {
                    url: url.signed().to_owned(),
                    variables: impersonal(parameters),
                    response: response.map(remembered),
                }),
                ..alert(app, delivery, about, code, text, now)
            }
        });
        Attempted {
            ending,
            error_code: code,
            status: response.map(|response| response.status),
            detail: Some(attempt.to_string()),
            alert,
            dead_token: None,
        }
    }
}

/// What the receiver's own overrides make of a failure (docs/protocol/decisions.md, No. 13): `rc` tries on the conditions
/// in `rp`, by default on `ct`, within `tt`.
fn overridden(
    delivery: &Delivery,
    url: &CallbackUrl,
    condition: Option<Condition>,
    now: Timestamp,
) -> Ending {
    let overrides = url.overrides();
    let policy = overrides.policy.as_deref().unwrap_or(&[Condition::Connect]);
    let fits = condition.is_some_and(|it| policy.contains(&it) || policy.contains(&Condition::All));
    let total = overrides.total.map_or(15_000, |total| i64::try_from(total.as_millis()).unwrap_or(15_000));
    let in_time = now.micros() < delivery.created_at.micros().saturating_add(total.saturating_mul(1000));
    // The first attempt is no retry.
    if fits && in_time && delivery.attempts <= overrides.retries.unwrap_or(1) {
        Ending::AtOnce
    } else {
        Ending::Failed
    }
}

/// The parameters without what people wrote: alerts are kept, and read by many.
fn impersonal(parameters: &[(String, String)]) -> Vec<(String, String)> {
    const PERSONAL: [&str; 4] =
        ["challenge_details", "challenge_hidden_details", "challenge_metadata", "factor_friendly_name"];
    let keep = |(name, _): &&(String, String)| !PERSONAL.contains(&name.as_str()) && name != "Payload";
    parameters.iter().filter(keep).cloned().collect()
}

fn remembered(response: &webhook_client::Response) -> FailedResponse {
    let mut headers = BTreeMap::<String, String>::new();
    let mut room = LONGEST_HEAD;
    for (name, value) in response.headers.iter().take(MOST_HEADERS) {
        // A cookie is a secret between the receiver and whoever calls it.
        if name == "set-cookie" || name.len() + value.len() > room {
            continue;
        }
        room -= name.len() + value.len();
        let values = headers.entry(name.clone()).or_default();
        *values = if values.is_empty() { value.clone() } else { format!("{values}, {value}") };
    }
    FailedResponse {
        status: response.status,
        headers: headers.into_iter().collect(),
        body: String::from_utf8_lossy(&response.body).chars().take(LONGEST_BODY).collect(),
    }
}
