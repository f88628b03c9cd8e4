//! One attempt at one delivery: look up what it takes, send, and say what came of it.

use std::sync::Arc;

use domain::accounts::AuthToken;
use domain::alerts::{Alert, FailedCall, FailedResponse, Level};
use domain::credentials::CredentialType;
use domain::deliveries::{Delivery, Ending, Work};
use domain::factors::{Factor, Notification, Platform};
use domain::webhooks::{CallbackUrl, Condition};
use domain::{
    AccountSid, AlertSid, Challenge, ChallengeSid, CredentialSid, EntityPath, FactorSid, Identity,
    NotificationSid, ServiceSid, Timestamp, WebhookSid,
};
use serde_json::json;
use store::Read;

use crate::App;
use crate::deliver::{CourierError, DeliverySettings};
use crate::error::Error;
use crate::outbox::delivery_sid;

/// What came of an attempt, and what is to be remembered of it.
pub(crate) struct Attempted {
    pub(crate) ending: Ending,
    pub(crate) error_code: Option<u32>,
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<String>,
    /// To be raised if nobody tries again.
    pub(crate) alert: Option<Alert>,
    /// The factor whose token the provider calls dead, and the token.
    pub(crate) dead_token: Option<(FactorSid, String)>,
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

    /// Our own database is in the way: as good as not attempted.
    fn put_off(error: &Error) -> Self {
        Self { ending: Ending::Again { after: None }, detail: Some(error.to_string()), ..Self::skipped("") }
    }
}

/// Those who send.
pub(crate) struct Couriers {
    webhooks: ::webhooks::Sender,
    pusher: push::Pusher,
}

/// What a push needs to know, read at one go.
struct Facts {
    challenge: Challenge,
    factor: Factor,
    credential_sid: Option<CredentialSid>,
    credential: Option<domain::credentials::Credential>,
}

impl Couriers {
    pub(crate) fn new(app: &App, settings: &DeliverySettings) -> Result<Self, CourierError> {
        Ok(Self {
            webhooks: ::webhooks::Sender::new(settings.webhooks.clone())?,
            pusher: push::Pusher::new(settings.push.clone(), Arc::clone(&app.clock))?,
        })
    }

    pub(crate) async fn attempt(&self, app: &App, delivery: &Delivery, now: Timestamp) -> Attempted {
        let account_sid = delivery.account_sid;
        // One that was never attempted, since no server ran, is attempted once, however late.
        if delivery.attempts > 1 && delivery.give_up_at <= now && !matches!(delivery.work, Work::Push { .. }) {
            return Attempted { ending: Ending::Failed, ..Attempted::skipped("the time for it is over") };
        }
        let attempted = match &delivery.work {
            Work::Webhook { webhook_sid, service_sid, parameters } => {
                self.webhook(app, delivery, (account_sid, *service_sid, *webhook_sid), parameters, now).await
            }
            Work::Debugger { parameters, .. } => self.debugger(app, delivery, parameters, now).await,
            Work::Push { challenge_sid, factor_sid, service_sid, identity, notification_sid, ttl } => {
                let identity = Identity::from_stored(identity.clone());
                let path = EntityPath { account_sid, service_sid: *service_sid, identity };
                let asked = (*challenge_sid, *factor_sid, *notification_sid, *ttl);
                self.push(app, delivery, path, asked, now).await
            }
        };
        attempted.unwrap_or_else(|error| Attempted::put_off(&error))
    }

    async fn webhook(
        &self,
        app: &App,
        delivery: &Delivery,
        (account_sid, service_sid, sid): (AccountSid, ServiceSid, WebhookSid),
        parameters: &[(String, String)],
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let found = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.webhook(account_sid, service_sid, sid).await?))
            .await?;
        let Some(webhook) = found else { return Ok(Attempted::skipped("the webhook was deleted")) };
        if webhook.status == domain::webhooks::Status::Disabled {
            return Ok(Attempted::skipped("the webhook is disabled"));
        }
        let auth_token = app.account(account_sid).await?.auth_token;
        let mut attempted = self.call(delivery, &webhook.url, parameters, &auth_token, now).await;
        if let Some(alert) = &mut attempted.alert {
            alert.sid = AlertSid::generate(now, app.entropy());
            alert.service_sid = Some(service_sid);
            alert.resource_sid = sid.to_string();
        }
        Ok(attempted)
    }

    async fn debugger(
        &self,
        app: &App,
        delivery: &Delivery,
        parameters: &[(String, String)],
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let account = app.account(delivery.account_sid).await?;
        let Some(url) = account.account.debugger_webhook else {
            return Ok(Attempted::skipped("the account has no debugger webhook"));
        };
        let attempted = self.call(delivery, &url, parameters, &account.auth_token, now).await;
        // An alert about an alert would have no end.
        Ok(Attempted { alert: None, ..attempted })
    }

    /// Calls a webhook of either kind.
    async fn call(
        &self,
        delivery: &Delivery,
        url: &CallbackUrl,
        parameters: &[(String, String)],
        auth_token: &AuthToken,
        now: Timestamp,
    ) -> Attempted {
        let idempotency_token = delivery.id.to_string();
        let request =
            ::webhooks::Request { url, parameters, auth_token, idempotency_token: &idempotency_token };
        let attempt = self.webhooks.send(&request, now).await;
        let outcome = attempt.outcome;
        let ending = if outcome.is_delivered() {
            Ending::Delivered
        } else if url.overrides().decide_on_retries() {
            overridden(delivery, url, outcome.condition(), now)
        } else if outcome.is_transient() {
            let after = attempt.response.as_ref().and_then(|response| response.retry_after);
            Ending::Again { after: after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX)) }
        } else {
            Ending::Failed
        };
        let alert = (!outcome.is_delivered()).then(|| Alert {
            // The caller knows better what it is about.
            sid: AlertSid::generate(now, &crypto::SystemEntropy),
            account_sid: delivery.account_sid,
            service_sid: None,
            resource_sid: String::new(),
            error_code: outcome.error_code(),
            level: Level::Error,
            text: outcome.to_string(),
            more_info: json!({ "Msg": outcome.to_string(), "deliverySid": delivery_sid(delivery.id) }),
            call: Some(FailedCall {
                url: url.url().to_string(),
                variables: names(parameters),
                response: attempt.response.as_ref().map(|response| FailedResponse {
                    status: response.status,
                    headers: response.headers.clone(),
                    body: String::from_utf8_lossy(&response.body).chars().take(1024).collect(),
                }),
            }),
            created_at: now,
        });
        Attempted {
            ending,
            error_code: (!outcome.is_delivered()).then(|| outcome.error_code()),
            status: attempt.response.as_ref().map(|response| response.status),
            detail: Some(attempt.to_string()),
            alert,
            dead_token: None,
        }
    }

    async fn push(
        &self,
        app: &App,
        delivery: &Delivery,
        path: EntityPath,
        (challenge_sid, factor_sid, notification_sid, ttl): (
            ChallengeSid,
            FactorSid,
            Option<NotificationSid>,
            u32,
        ),
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let Some(facts) = facts(app, path, challenge_sid, factor_sid).await? else {
            return Ok(Attempted::skipped("the challenge or its factor was deleted"));
        };
        if facts.challenge.answerable(now).is_err() {
            return Ok(Attempted::skipped("the challenge can't be answered any more"));
        }
        let Some(token) = facts.factor.notification.token().filter(|_| !facts.factor.unreachable) else {
            return Ok(Attempted::skipped("the factor has no token that leads anywhere"));
        };
        let outcome = match usable(app, &facts) {
            _ if delivery.give_up_at <= now => {
                push::Outcome::Refused { code: 52310, reason: "the push came too late to be sent".to_owned() }
            }
            Err((code, reason)) => push::Outcome::Refused { code, reason: reason.to_owned() },
            Ok((key, credential)) => {
                let message = push::Message {
                    challenge_sid,
                    factor_sid,
                    text: facts.challenge.details.message.as_str().to_owned(),
                    token: token.clone(),
                    app_id: facts.factor.app_id.clone(),
                    expires_at: (ttl > 0).then_some(delivery.give_up_at),
                    ttl,
                    id: delivery.id.to_string(),
                };
                self.pusher.send(&key, &credential, &message).await
            }
        };
        let (ending, code, reason, dead_token) = match outcome {
            push::Outcome::Delivered { provider_id } => (Ending::Delivered, None, provider_id, None),
            push::Outcome::RetryAfter { after, code, reason } => {
                let after = after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
                let ending = if ttl == 0 { Ending::Failed } else { Ending::Again { after } };
                (ending, Some(code), Some(reason), None)
            }
            push::Outcome::Gone { code, reason } => {
                let dead_token = (factor_sid, token.as_str().to_owned());
                (Ending::Failed, Some(code), Some(reason), Some(dead_token))
            }
            push::Outcome::Refused { code, reason } => (Ending::Failed, Some(code), Some(reason), None),
            _ => (Ending::Failed, Some(52000), Some("unknown outcome".to_owned()), None),
        };
        let alert = code
            .map(|code| push_alert(app, delivery, &facts, notification_sid, code, reason.as_deref(), now));
        Ok(Attempted { ending, error_code: code, status: None, detail: reason, alert, dead_token })
    }
}

/// What the receiver's own overrides make of a failure (protocol 00, row 13): `rc` tries on the conditions
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

/// The names of the parameters: their values may be personal, and are in the delivery.
fn names(parameters: &[(String, String)]) -> String {
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    names.join("&")
}

async fn facts(
    app: &App,
    path: EntityPath,
    challenge_sid: ChallengeSid,
    factor_sid: FactorSid,
) -> Result<Option<Facts>, Error> {
    app.store
        .read(async move |db: &mut Read| {
            let Some(challenge) = db.challenge(&path, challenge_sid).await? else { return Ok(None) };
            let Some(factor) = db.factor(&path, factor_sid).await? else { return Ok(None) };
            let Some(service) = db.service(path.account_sid, path.service_sid).await? else {
                return Ok(None);
            };
            let credential_sid = match factor.notification {
                Notification::None => None,
                Notification::Apn(_) => service.settings.push.apn_credential_sid,
                Notification::Fcm(_) => service.settings.push.fcm_credential_sid,
            };
            let credential = match credential_sid {
                Some(sid) => db.credential(path.account_sid, sid).await?,
                None => None,
            };
            Ok(Some(Facts { challenge, factor, credential_sid, credential }))
        })
        .await
}

/// The credential with which to push, and the key of its connections; else the code and the words of
/// what is wrong with it (protocol 04 section 6).
fn usable(app: &App, facts: &Facts) -> Result<(String, push::Credential), (u32, &'static str)> {
    if facts.credential_sid.is_none() {
        return Err((52004, "the service names no push credential for this platform"));
    }
    let credential =
        facts.credential.as_ref().ok_or((52002, "the service's push credential does not exist"))?;
    let fits = match facts.factor.notification.platform() {
        Platform::Apn => credential.credential_type == CredentialType::Apn,
        Platform::Fcm => credential.credential_type == CredentialType::Fcm,
        Platform::None => false,
    };
    if !fits {
        return Err((52003, "the service's push credential is for another platform"));
    }
    let content =
        app.open_credential(credential).map_err(|_| (52005, "the push credential can't be read"))?;
    Ok((format!("{} {}", credential.sid, credential.updated_at.micros()), content))
}

/// The alert of a push that failed, with the facts that the managed service gives (protocol 06 section 3).
fn push_alert(
    app: &App,
    delivery: &Delivery,
    facts: &Facts,
    notification_sid: Option<NotificationSid>,
    code: u32,
    reason: Option<&str>,
    now: Timestamp,
) -> Alert {
    let factor = &facts.factor;
    let (binding_type, module) = match factor.notification.platform() {
        Platform::Fcm => ("fcm", "FCMBA"),
        Platform::Apn | Platform::None => ("apn", "APNBA"),
    };
    let description = reason.unwrap_or("the push was not delivered");
    Alert {
        sid: AlertSid::generate(now, app.entropy()),
        account_sid: delivery.account_sid,
        service_sid: Some(factor.service_sid),
        resource_sid: facts.challenge.sid.to_string(),
        error_code: code,
        level: Level::Error,
        text: description.to_owned(),
        more_info: json!({
            "bindingType": binding_type,
            // One string, which receivers search for the SID that they know.
            "correlationIds": format!(
                "[{}, {}, {}, {}]",
                factor.service_sid, factor.identity, factor.sid, facts.challenge.sid
            ),
            "notificationSid": notification_sid,
            "module": module,
            "description": description,
            "isPassthrough": "false",
            "deliverySid": delivery_sid(delivery.id),
            "fromReference": facts.credential_sid,
        }),
        call: None,
        created_at: now,
    }
}
