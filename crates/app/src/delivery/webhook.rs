//! Attempts to send webhooks: those of services, and the debugger webhooks and verification events of accounts.

use std::collections::BTreeMap;

use domain::accounts::AuthToken;
use domain::alerts::{Alert, FailedCall, FailedResponse};
use domain::deliveries::{Delivery, Ending, Work};
use domain::webhooks::{CallbackUrl, Condition, Status};
use domain::{AlertSid, ServiceSid, Timestamp, VerificationSid, WebhookSid};
use serde_json::json;
use store::Read;
use telemetry::metrics::METRICS;
use webhook_client::{Attempt, Content, Response};

use crate::App;
use crate::capture::{CapturedWebhook, WebhookVerdict};
use crate::delivery::attempt::{AlertSubject, AttemptResult, new_alert, prefixed_id};
use crate::delivery::senders::Senders;
use crate::error::Error;

/// Maximum length of the response body that an alert stores, in characters. Longer bodies are truncated.
const MAX_ALERT_BODY_CHARS: usize = 1024;

/// Maximum total length of the response headers that an alert stores, in bytes.
const MAX_ALERT_HEADER_BYTES: usize = 4096;

/// Maximum number of response headers that an alert stores.
const MAX_ALERT_HEADERS: usize = 32;

/// Total time of all attempts, in milliseconds, if the fragment of the webhook's URL contains retry overrides but does
/// not set the total time.
const DEFAULT_OVERRIDE_TOTAL_MILLISECONDS: i64 = 15_000;

/// A request to a webhook, and the subject of the alert if the request fails.
struct WebhookCall<'c> {
    delivery: &'c Delivery,
    subject: AlertSubject,
    url: &'c CallbackUrl,
    content: Content<'c>,
    auth_token: &'c AuthToken,
}

impl Senders {
    /// Makes one attempt to send an event to a service's webhook. If `once` is set, as for test events, the event is
    /// sent even if the webhook is disabled, and a failure is not retried and raises no alert.
    pub(super) async fn send_webhook(
        &self,
        app: &App,
        delivery: &Delivery,
        (service_sid, sid): (ServiceSid, WebhookSid),
        parameters: &[(String, String)],
        once: bool,
        now: Timestamp,
    ) -> Result<AttemptResult, Error> {
        let account_sid = delivery.account_sid;
        let found = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.webhook(account_sid, service_sid, sid).await?))
            .await?;
        let Some(webhook) = found else { return Ok(AttemptResult::skipped("the webhook was deleted")) };
        if webhook.status == Status::Disabled && !once {
            return Ok(AttemptResult::skipped("the webhook is disabled"));
        }
        let auth_token = app.account_with_token(account_sid).await?.auth_token;
        let subject = AlertSubject { service_sid: Some(service_sid), resource_sid: sid.to_string() };
        let content = Content::Form(parameters);
        let call = WebhookCall { delivery, subject, url: &webhook.url, content, auth_token: &auth_token };
        let result = self.call(app, call, now).await;
        Ok(match result.ending {
            Ending::RetryAfter { .. } | Ending::RetryNow | Ending::Failed if once => {
                AttemptResult { ending: Ending::Failed, alert: None, ..result }
            }
            _ => result,
        })
    }

    /// Makes one attempt to send an alert to the account's debugger webhook.
    pub(super) async fn send_debugger_webhook(
        &self,
        app: &App,
        delivery: &Delivery,
        alert_sid: AlertSid,
        parameters: &[(String, String)],
        now: Timestamp,
    ) -> Result<AttemptResult, Error> {
        let account = app.account_with_token(delivery.account_sid).await?;
        let Some(url) = account.account.debugger_webhook else {
            return Ok(AttemptResult::skipped("the account has no debugger webhook"));
        };
        let subject = AlertSubject { service_sid: None, resource_sid: alert_sid.to_string() };
        let content = Content::Form(parameters);
        let call = WebhookCall { delivery, subject, url: &url, content, auth_token: &account.auth_token };
        Ok(self.call(app, call, now).await)
    }

    /// Makes one attempt to send an event about a verification to the account's URL for such events.
    pub(super) async fn send_verification_event(
        &self,
        app: &App,
        delivery: &Delivery,
        (service_sid, sid): (ServiceSid, VerificationSid),
        body: &str,
        now: Timestamp,
    ) -> Result<AttemptResult, Error> {
        let account_sid = delivery.account_sid;
        let found = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.service(account_sid, service_sid).await?))
            .await?;
        if !found.is_some_and(|service| service.settings.verify_event_subscription_enabled) {
            return Ok(AttemptResult::skipped("the service was deleted or sends no events any more"));
        }
        let account = app.account_with_token(account_sid).await?;
        let Some(url) = account.account.verification_events_url else {
            return Ok(AttemptResult::skipped("the account has no URL for verification events"));
        };
        let subject = AlertSubject { service_sid: Some(service_sid), resource_sid: sid.to_string() };
        let content = Content::Json(body);
        let call = WebhookCall { delivery, subject, url: &url, content, auth_token: &account.auth_token };
        Ok(self.call(app, call, now).await)
    }

    /// Passes a webhook to the test server, if this is one, and returns what happens to the webhook.
    async fn capture(
        &self,
        app: &App,
        delivery: &Delivery,
        request: &webhook_client::Request<'_>,
        now: Timestamp,
    ) -> WebhookVerdict {
        let Some(capture) = &app.capture else { return WebhookVerdict::Send };
        let (service_sid, webhook_sid) = match &delivery.work {
            Work::Webhook { webhook_sid, service_sid, .. } => (Some(*service_sid), Some(*webhook_sid)),
            Work::VerificationEvent { service_sid, .. } => (Some(*service_sid), None),
            Work::Debugger { .. } | Work::Push(_) | Work::Message(_) => (None, None),
        };
        let captured = CapturedWebhook {
            delivery: delivery.id,
            at: now,
            account_sid: delivery.account_sid,
            service_sid,
            webhook_sid,
            url: request.effective_url().signed().to_owned(),
            parameters: form(request.content).to_vec(),
            body: match request.content {
                Content::Form(_) => None,
                Content::Json(body) => Some(body.to_owned()),
            },
            headers: self.webhooks.headers(request),
        };
        capture.webhook(captured).await
    }

    async fn call(&self, app: &App, call: WebhookCall<'_>, now: Timestamp) -> AttemptResult {
        let WebhookCall { delivery, subject, url, content, auth_token } = call;
        let idempotency_token = delivery.id.to_string();
        let request =
            webhook_client::Request { url, content, auth_token, idempotency_token: &idempotency_token };
        let attempt = match self.capture(app, delivery, &request, now).await {
            WebhookVerdict::Send => self.webhooks.send(&request, now).await,
            WebhookVerdict::Fail(failure) => Attempt::simulated(failure, now.until(app.now())),
            WebhookVerdict::Keep => return AttemptResult::skipped("not sent, as test mode requires"),
        };
        METRICS.webhook_duration.observe(attempt.duration.as_secs_f64());
        let (outcome, response) = (attempt.outcome, attempt.response.as_ref());
        let ending = if outcome.is_delivered() {
            Ending::Delivered
        } else if url.overrides().has_retry_policy() {
            // The total time that the URL sets is compared with the instant at which this attempt ended.
            let duration = i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX);
            let ended_at = Timestamp::from_micros(now.micros().saturating_add(duration));
            ending_by_overrides(delivery, url, outcome.condition(), ended_at)
        } else if outcome.is_transient() {
            let wait = response.and_then(|response| response.retry_after);
            let seconds = wait.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
            Ending::RetryAfter { seconds }
        } else {
            Ending::Failed
        };
        let code = (!outcome.is_delivered()).then(|| outcome.error_code());
        let alert = code.map(|code| {
            let text = outcome.to_string();
            Alert {
                more_info: json!({ "Msg": text, "deliverySid": prefixed_id("DA", delivery.id) }),
                call: Some(FailedCall {
                    url: url.signed().to_owned(),
                    variables: without_personal_data(form(content)),
                    response: response.map(|response| response_for_alert(response, content)),
                }),
                ..new_alert(app, delivery, subject, code, text, now)
            }
        });
        AttemptResult {
            error_code: code,
            status: response.map(|response| response.status),
            detail: Some(attempt.to_string()),
            alert,
            ..AttemptResult::new(ending)
        }
    }
}

/// Returns the form parameters of a request; none for a JSON body.
const fn form<'c>(content: Content<'c>) -> &'c [(String, String)] {
    match content {
        Content::Form(parameters) => parameters,
        Content::Json(_) => &[],
    }
}

/// Decides whether a failed attempt is retried, by the retry overrides in the URL's fragment
/// (docs/protocol/decisions.md, No. 13): at most `rc` retries (by default 1), only under the conditions in `rp` (by
/// default `ct`), and only within the total time `tt` since the delivery was created. `now` is the end of the attempt.
fn ending_by_overrides(
    delivery: &Delivery,
    url: &CallbackUrl,
    condition: Option<Condition>,
    now: Timestamp,
) -> Ending {
    let overrides = url.overrides();
    let policy = overrides.policy.as_deref().unwrap_or(&[Condition::Connect]);
    let is_retryable = condition.is_some_and(|it| policy.contains(&it) || policy.contains(&Condition::All));
    let total = overrides.total.and_then(|total| i64::try_from(total.as_millis()).ok());
    let total = total.unwrap_or(DEFAULT_OVERRIDE_TOTAL_MILLISECONDS);
    let is_in_time = now.micros() < delivery.created_at.micros().saturating_add(total.saturating_mul(1000));
    // The first attempt does not count as a retry.
    let has_retries_left = delivery.attempts <= overrides.retries.unwrap_or(1);
    if is_retryable && is_in_time && has_retries_left { Ending::RetryNow } else { Ending::Failed }
}

/// Returns the parameters without those that may contain personal data. Alerts do not store such data, because they are
/// kept for a long time and have many readers.
fn without_personal_data(parameters: &[(String, String)]) -> Vec<(String, String)> {
    const PERSONAL: [&str; 4] =
        ["challenge_details", "challenge_hidden_details", "challenge_metadata", "factor_friendly_name"];
    let keep = |(name, _): &&(String, String)| !PERSONAL.contains(&name.as_str()) && name != "Payload";
    parameters.iter().filter(keep).cloned().collect()
}

/// Converts a response to the form that an alert stores: truncated, and without cookies. If the request had a JSON body,
/// only the status is stored, because a receiver that refuses the body may quote it, including the recipient.
fn response_for_alert(response: &Response, content: Content<'_>) -> FailedResponse {
    if let Content::Json(_) = content {
        return FailedResponse { status: response.status, headers: Vec::new(), body: String::new() };
    }
    let mut headers = BTreeMap::<String, String>::new();
    let mut remaining = MAX_ALERT_HEADER_BYTES;
    for (name, value) in response.headers.iter().take(MAX_ALERT_HEADERS) {
        // Cookies are secrets between the receiver and its client, so they are not stored.
        if name == "set-cookie" || name.len() + value.len() > remaining {
            continue;
        }
        remaining -= name.len() + value.len();
        let values = headers.entry(name.clone()).or_default();
        *values = if values.is_empty() { value.clone() } else { format!("{values}, {value}") };
    }
    FailedResponse {
        status: response.status,
        headers: headers.into_iter().collect(),
        body: String::from_utf8_lossy(&response.body).chars().take(MAX_ALERT_BODY_CHARS).collect(),
    }
}
