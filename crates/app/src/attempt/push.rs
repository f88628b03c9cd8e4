//! Attempts at pushes. Everything is looked up at the last moment: a challenge that was answered is not
//! pushed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use domain::alerts::Alert;
use domain::credentials::{Credential, CredentialType};
use domain::deliveries::{AskedPush, Delivery, Ending};
use domain::factors::{Factor, Notification, Platform};
use domain::{Challenge, CredentialSid, EntityPath, Identity, Timestamp};
use push_client::{Message, Outcome};
use serde_json::json;
use store::Read;
use telemetry::metrics::{METRICS, Provider, Pushed, PushedBy, Verdict};

use super::{About, Attempted, Couriers, DeadToken, alert, sid_like};
use crate::App;
use crate::error::Error;

/// The code of a push that failed for a reason that has no code of its own.
pub(super) const INTERNAL: u32 = 52000;

/// Credentials that are kept in the open: more than a server has in use at one time.
const MOST_CREDENTIALS: usize = 256;

/// What a push needs to know, read at one go.
struct Facts {
    challenge: Challenge,
    factor: Factor,
    credential_sid: Option<CredentialSid>,
    credential: Option<Credential>,
}

impl Couriers {
    pub(super) async fn push(
        &self,
        app: &App,
        delivery: &Delivery,
        asked: &AskedPush,
        now: Timestamp,
    ) -> Result<Attempted, Error> {
        let Some(facts) = facts(app, delivery, asked).await? else {
            return Ok(Attempted::skipped("the challenge or its factor was deleted"));
        };
        if facts.challenge.answerable(now).is_err() {
            return Ok(Attempted::skipped("the challenge can't be answered any more"));
        }
        let Some(token) = facts.factor.notification.token().filter(|_| !facts.factor.unreachable) else {
            return Ok(Attempted::skipped("the factor has no token that leads anywhere"));
        };
        let left = delivery.give_up_at.micros().saturating_sub(now.micros());
        let outcome = if left <= 0 {
            Outcome::Refused { code: 52310, reason: "the push came too late to be sent".to_owned() }
        } else {
            match self.credentials.usable(app, &facts) {
                Err((code, reason)) => Outcome::Refused { code, reason: reason.to_owned() },
                Ok((key, credential)) => {
                    // Round up: a time to live of 0 means "now or never" to the providers.
                    let left = u32::try_from(left.saturating_add(999_999) / 1_000_000).unwrap_or(asked.ttl);
                    let message = Message {
                        challenge_sid: asked.challenge_sid,
                        factor_sid: asked.factor_sid,
                        text: facts.challenge.details.message.as_str().to_owned(),
                        token: token.clone(),
                        token_registered_at: facts.factor.token_registered_at,
                        app_id: facts.factor.app_id.clone(),
                        expires_at: (asked.ttl > 0).then_some(delivery.give_up_at),
                        ttl: asked.ttl.min(left),
                        id: delivery.id.to_string(),
                    };
                    let began = Instant::now();
                    let outcome = self.pusher.send(&key, &credential, &message).await;
                    let provider = provider(&facts);
                    let duration = METRICS.push_duration.get_or_create(&PushedBy { provider });
                    duration.observe(began.elapsed().as_secs_f64());
                    outcome
                }
            }
        };
        count(&facts, &outcome);
        let (ending, code, reason, dead_token) = match outcome {
            Outcome::Delivered { provider_id } => (Ending::Delivered, None, provider_id, None),
            Outcome::RetryAfter { after, code, reason } => {
                let after = after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
                let ending = if asked.ttl == 0 { Ending::Failed } else { Ending::Again { after } };
                (ending, Some(code), Some(reason), None)
            }
            Outcome::Gone { code, reason } => {
                let dead_token = DeadToken {
                    factor_sid: asked.factor_sid,
                    token: token.as_str().to_owned(),
                    registered_at: facts.factor.token_registered_at,
                };
                (Ending::Failed, Some(code), Some(reason), Some(dead_token))
            }
            Outcome::Refused { code, reason } => (Ending::Failed, Some(code), Some(reason), None),
            _ => (Ending::Failed, Some(INTERNAL), Some("unknown outcome".to_owned()), None),
        };
        let alert = code.map(|code| {
            let words = reason.as_deref().unwrap_or("the push was not delivered");
            push_alert(app, delivery, asked, &facts, code, words, now)
        });
        Ok(Attempted { ending, error_code: code, status: None, detail: reason, alert, dead_token })
    }
}

fn provider(facts: &Facts) -> Provider {
    match facts.factor.notification.platform() {
        Platform::Fcm => Provider::Fcm,
        Platform::Apn | Platform::None => Provider::Apns,
    }
}

fn count(facts: &Facts, outcome: &Outcome) {
    let verdict = match outcome {
        Outcome::Delivered { .. } => Verdict::Delivered,
        Outcome::RetryAfter { .. } => Verdict::Retry,
        Outcome::Gone { .. } => Verdict::Gone,
        _ => Verdict::Refused,
    };
    METRICS.pushes.get_or_create(&Pushed { provider: provider(facts), outcome: verdict }).inc();
}

async fn facts(app: &App, delivery: &Delivery, asked: &AskedPush) -> Result<Option<Facts>, Error> {
    let identity = Identity::from_stored(asked.identity.clone());
    let path = EntityPath { account_sid: delivery.account_sid, service_sid: asked.service_sid, identity };
    let (challenge_sid, factor_sid) = (asked.challenge_sid, asked.factor_sid);
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

/// Credentials in the open, since to unseal and parse one takes longer than to send a push with it.
#[derive(Default)]
pub(super) struct Credentials(RefCell<HashMap<String, Arc<push_client::Credential>>>);

impl Credentials {
    /// The credential with which to push, and the key of its connections; else the code and the words of
    /// what is wrong with it (docs/protocol/errors.md, section 6).
    fn usable(
        &self,
        app: &App,
        facts: &Facts,
    ) -> Result<(String, Arc<push_client::Credential>), (u32, &'static str)> {
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
        // Another one once it was changed.
        let key = format!("{} {}", credential.sid, credential.updated_at.micros());
        if let Some(open) = self.0.borrow().get(&key) {
            return Ok((key, Arc::clone(open)));
        }
        let open =
            app.open_credential(credential).map_err(|_| (52005, "the push credential can't be read"))?;
        let mut kept = self.0.borrow_mut();
        if kept.len() >= MOST_CREDENTIALS {
            kept.clear();
        }
        let open = Arc::new(open);
        kept.insert(key.clone(), Arc::clone(&open));
        Ok((key, open))
    }
}

/// The alert of a push that failed, with the facts that the managed service gives (docs/protocol/push.md, section 3).
fn push_alert(
    app: &App,
    delivery: &Delivery,
    asked: &AskedPush,
    facts: &Facts,
    code: u32,
    words: &str,
    now: Timestamp,
) -> Alert {
    let factor = &facts.factor;
    let (binding_type, module) = match factor.notification.platform() {
        Platform::Fcm => ("fcm", "FCMBA"),
        Platform::Apn | Platform::None => ("apn", "APNBA"),
    };
    let about =
        About { service_sid: Some(factor.service_sid), resource_sid: facts.challenge.sid.to_string() };
    Alert {
        more_info: json!({
            "bindingType": binding_type,
            "primaryCorrelationId": sid_like("RU", delivery.id),
            "bindingSid": sid_like("BS", delivery.id),
            "providerMessageId": delivery.id.to_string(),
            "requestId": sid_like("RQ", delivery.id),
            // One string, which receivers search for the SID that they know.
            "correlationIds": format!(
                "[{}, {}, {}, {}]",
                factor.service_sid, factor.identity, factor.sid, facts.challenge.sid
            ),
            "notificationSid": asked.notification_sid,
            "module": module,
            "description": words,
            "isPassthrough": "false",
            "deliverySid": sid_like("DA", delivery.id),
            "fromReference": facts.credential_sid,
        }),
        ..alert(app, delivery, about, code, words.to_owned(), now)
    }
}
