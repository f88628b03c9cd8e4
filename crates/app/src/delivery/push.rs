//! Attempts to send pushes. Each attempt reads the current state first, so that no push is sent for a challenge that
//! has been answered.

use std::sync::Arc;
use std::time::Instant;

use domain::alerts::Alert;
use domain::challenges::PushChallenge;
use domain::credentials::{Credential, CredentialType};
use domain::deliveries::{Delivery, Ending, PushWork};
use domain::factors::{Factor, Notification, Platform, PushFactor, RegistrationToken};
use domain::{Challenge, CredentialSid, EntityPath, Timestamp};
use push_client::{Message, Outcome, Preview};
use serde_json::json;
use store::Read;
use telemetry::metrics::{METRICS, Provider, ProviderLabels, PushLabels, PushOutcome};

use crate::App;
use crate::capture::{Capture, CapturedPush, PushVerdict};
use crate::delivery::attempt::{
    AlertSubject, AttemptResult, DeadToken, PUSH_FAILED_CODE, new_alert, prefixed_id,
};
use crate::delivery::credential_cache::connection_key;
use crate::delivery::senders::Senders;
use crate::error::Error;

/// Error code for pushes that expired before they were sent.
const EXPIRED_CODE: u32 = 52310;

/// The stored data that a push needs, read in one transaction.
struct PushContext {
    challenge: Challenge<PushChallenge>,
    factor: Factor<PushFactor>,
    credential_sid: Option<CredentialSid>,
    credential: Option<Credential>,
}

impl Senders {
    /// Makes one attempt to push a challenge to the device of its factor. Skips the push if the challenge can no longer
    /// be answered or the device cannot be reached.
    pub(super) async fn send_push(
        &self,
        app: &App,
        delivery: &Delivery,
        push: &PushWork,
        now: Timestamp,
    ) -> Result<AttemptResult, Error> {
        let Some(context) = PushContext::read(app, delivery, push).await? else {
            return Ok(AttemptResult::skipped("the challenge or its factor was deleted"));
        };
        if context.challenge.require_pending(now).is_err() {
            return Ok(AttemptResult::skipped("the challenge is no longer pending"));
        }
        let Some(token) =
            context.factor.kind.notification.token().filter(|_| !context.factor.kind.unreachable)
        else {
            return Ok(AttemptResult::skipped("the factor has no push token, or its device is unreachable"));
        };
        let outcome = self.push_to(app, delivery, push, &context, token, now).await;
        context.count(&outcome);
        Ok(context.result(app, delivery, push, outcome, now))
    }

    /// Sends the push to the provider, and returns the outcome. If the push has expired or the push credential is
    /// unusable, nothing is sent and the outcome is `Refused`.
    async fn push_to(
        &self,
        app: &App,
        delivery: &Delivery,
        push: &PushWork,
        context: &PushContext,
        token: &RegistrationToken,
        now: Timestamp,
    ) -> Outcome {
        let remaining_micros = delivery.expires_at.micros().saturating_sub(now.micros());
        if remaining_micros <= 0 {
            let reason = "the push expired before it could be sent".to_owned();
            return Outcome::Refused { code: EXPIRED_CODE, reason };
        }
        // Round up: rounding down could result in a time to live of 0, for which providers make only one attempt,
        // without delay.
        let remaining = u32::try_from(remaining_micros.saturating_add(999_999) / 1_000_000);
        let message = Message {
            challenge_sid: push.challenge_sid,
            factor_sid: push.factor_sid,
            text: context.challenge.kind.details.message.as_str().to_owned(),
            token: token.clone(),
            token_registered_at: context.factor.kind.token_registered_at,
            app_id: context.factor.kind.app_id.clone(),
            expires_at: (push.ttl > 0).then_some(delivery.expires_at),
            ttl: push.ttl.min(remaining.unwrap_or(push.ttl)),
            id: delivery.id.to_string(),
        };
        let usable = self.usable_credential(app, context);
        if let Some(capture) = &app.capture {
            let usable = usable.as_ref().map(|(_, credential)| &**credential).map_err(|(code, _)| *code);
            return context.capture(capture.as_ref(), delivery, push, &message, usable, now).await;
        }
        let (stored, credential) = match usable {
            Ok(found) => found,
            Err((code, reason)) => return Outcome::Refused { code, reason: reason.to_owned() },
        };
        let began = Instant::now();
        let outcome = self.pusher.send(&connection_key(stored), &credential, &message).await;
        let provider = context.provider();
        METRICS
            .push_duration
            .get_or_create(&ProviderLabels { provider })
            .observe(began.elapsed().as_secs_f64());
        outcome
    }

    /// Returns the push credential to use, both as stored and decrypted. If there is no usable credential, the error is
    /// an error code and its reason (docs/protocol/errors.md, section 6).
    fn usable_credential<'c>(
        &self,
        app: &App,
        context: &'c PushContext,
    ) -> Result<(&'c Credential, Arc<push_client::Credential>), (u32, &'static str)> {
        if context.credential_sid.is_none() {
            return Err((52004, "the service has no push credential for this platform"));
        }
        let stored =
            context.credential.as_ref().ok_or((52002, "the service's push credential does not exist"))?;
        let is_for_platform = match context.factor.kind.notification.platform() {
            Platform::Apn => stored.credential_type == CredentialType::Apn,
            Platform::Fcm => stored.credential_type == CredentialType::Fcm,
            Platform::None => false,
        };
        if !is_for_platform {
            return Err((52003, "the service's push credential is for another platform"));
        }
        let opened = self.credentials.open(app, stored);
        Ok((stored, opened.map_err(|_| (52005, "the push credential cannot be decrypted or parsed"))?))
    }
}

impl PushContext {
    /// Reads the stored data that a push needs. Returns `None` if the challenge, the factor or the service was deleted.
    async fn read(app: &App, delivery: &Delivery, push: &PushWork) -> Result<Option<Self>, Error> {
        let path = EntityPath {
            account_sid: delivery.account_sid,
            service_sid: push.service_sid,
            identity: push.identity.clone(),
        };
        let (challenge_sid, factor_sid) = (push.challenge_sid, push.factor_sid);
        app.store
            .read(async move |db: &mut Read| {
                let Some(challenge) = db.push_challenge(&path, challenge_sid).await? else { return Ok(None) };
                let Some(factor) = db.push_factor(&path, factor_sid).await? else { return Ok(None) };
                let Some(service) = db.service(path.account_sid, path.service_sid).await? else {
                    return Ok(None);
                };
                let credential_sid = match factor.kind.notification {
                    Notification::None => None,
                    Notification::Apn(_) => service.settings.push.apn_credential_sid,
                    Notification::Fcm(_) => service.settings.push.fcm_credential_sid,
                };
                let credential = match credential_sid {
                    Some(sid) => db.credential(path.account_sid, sid).await?,
                    None => None,
                };
                Ok(Some(Self { challenge, factor, credential_sid, credential }))
            })
            .await
    }

    /// Passes the push to the test server instead of its provider, and returns the outcome that the test server decides
    /// on. `usable` is the credential, or the debugger code that says why there is none.
    async fn capture(
        &self,
        capture: &dyn Capture,
        delivery: &Delivery,
        push: &PushWork,
        message: &Message,
        usable: Result<&push_client::Credential, u32>,
        now: Timestamp,
    ) -> Outcome {
        let platform = self.factor.kind.notification.platform();
        let preview = match platform {
            Platform::Fcm => Preview::of_fcm(message),
            Platform::Apn | Platform::None => Preview::of_apns(message, usable.ok(), now),
        };
        let captured = CapturedPush {
            delivery: delivery.id,
            at: now,
            platform,
            challenge: self.challenge.clone(),
            factor_sid: self.factor.sid,
            notification_sid: push.notification_sid,
            token: message.token.as_str().to_owned(),
            headers: preview.headers,
            body: preview.body,
            would_fail: usable.err().or(preview.refusal),
        };
        match capture.push(captured).await {
            PushVerdict::Delivered => {
                Outcome::Delivered { provider_id: Some("captured by test mode".to_owned()) }
            }
            PushVerdict::Failed(failure) => {
                let (kind, code) = match platform {
                    Platform::Fcm => failure.of_fcm(),
                    Platform::Apn | Platform::None => failure.of_apns(),
                };
                kind.outcome(code, "simulated by test mode", None)
            }
        }
    }

    /// Returns the provider of the push, as a label for the metrics.
    fn provider(&self) -> Provider {
        match self.factor.kind.notification.platform() {
            Platform::Fcm => Provider::Fcm,
            Platform::Apn | Platform::None => Provider::Apns,
        }
    }

    /// Counts the outcome of the push in the metrics.
    fn count(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Delivered { .. } => PushOutcome::Delivered,
            Outcome::Retry { .. } => PushOutcome::Retry,
            Outcome::DeadToken { .. } => PushOutcome::Gone,
            _ => PushOutcome::Refused,
        };
        METRICS.pushes.get_or_create(&PushLabels { provider: self.provider(), outcome }).inc();
    }

    /// Converts the push client's outcome to the result of the attempt, with an alert if the push failed.
    fn result(
        &self,
        app: &App,
        delivery: &Delivery,
        push: &PushWork,
        outcome: Outcome,
        now: Timestamp,
    ) -> AttemptResult {
        let dead_token = match outcome {
            Outcome::DeadToken { .. } => self.dead_token(),
            _ => None,
        };
        let (ending, code, reason) = match outcome {
            Outcome::Delivered { provider_id } => {
                return AttemptResult { detail: provider_id, ..AttemptResult::new(Ending::Delivered) };
            }
            // A time to live of 0 permits only a single attempt.
            Outcome::Retry { code, reason, .. } if push.ttl == 0 => (Ending::Failed, code, reason),
            Outcome::Retry { after, code, reason } => {
                let seconds = after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
                (Ending::RetryAfter { seconds }, code, reason)
            }
            Outcome::DeadToken { code, reason } | Outcome::Refused { code, reason } => {
                (Ending::Failed, code, reason)
            }
            _ => (Ending::Failed, PUSH_FAILED_CODE, "unknown push outcome".to_owned()),
        };
        AttemptResult {
            error_code: Some(code),
            alert: Some(self.alert(app, delivery, push, code, &reason, now)),
            detail: Some(reason),
            dead_token,
            ..AttemptResult::new(ending)
        }
    }

    fn dead_token(&self) -> Option<DeadToken> {
        self.factor.kind.notification.token().map(|token| DeadToken {
            factor_sid: self.factor.sid,
            token: token.as_str().to_owned(),
            registered_at: self.factor.kind.token_registered_at,
        })
    }

    /// Builds the alert about a failed push, with the same fields as the managed service's alerts
    /// (docs/protocol/push.md, section 3).
    fn alert(
        &self,
        app: &App,
        delivery: &Delivery,
        push: &PushWork,
        code: u32,
        reason: &str,
        now: Timestamp,
    ) -> Alert {
        let factor = &self.factor;
        let (binding_type, module) = match factor.kind.notification.platform() {
            Platform::Fcm => ("fcm", "FCMBA"),
            Platform::Apn | Platform::None => ("apn", "APNBA"),
        };
        let subject = AlertSubject {
            service_sid: Some(factor.service_sid),
            resource_sid: self.challenge.sid.to_string(),
        };
        Alert {
            more_info: json!({
                "bindingType": binding_type,
                "primaryCorrelationId": prefixed_id("RU", delivery.id),
                "bindingSid": prefixed_id("BS", delivery.id),
                "providerMessageId": delivery.id.to_string(),
                "requestId": prefixed_id("RQ", delivery.id),
                // This is a single string, because receivers search it for a SID.
                "correlationIds": format!(
                    "[{}, {}, {}, {}]",
                    factor.service_sid, factor.identity, factor.sid, self.challenge.sid
                ),
                "notificationSid": push.notification_sid,
                "module": module,
                "description": reason,
                "isPassthrough": "false",
                "deliverySid": prefixed_id("DA", delivery.id),
                "fromReference": self.credential_sid,
            }),
            ..new_alert(app, delivery, subject, code, reason.to_owned(), now)
        }
    }
}
