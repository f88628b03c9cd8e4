//! Attempts to send messages with one-time codes. Each attempt reads the current state first, so that no code is sent
//! for a verification that was closed. The text is written here, and stored nowhere.

use std::borrow::Cow;

use crypto::attempt_tokens::AttemptTokenUse;
use domain::alerts::Alert;
use domain::deliveries::{Delivery, Ending, MessageWork};
use domain::messages::ComposedMessage;
use domain::outlets::{Outlet, OutletChoice, OutletSid};
use domain::verifications::{Attempt, DeliveryProgress, OneTimeCode, Status};
use domain::{Channel, Timestamp};
use outlet_client::{Message, Outcome, OutletSettings};
use serde_json::json;
use store::Read;

use crate::App;
use crate::capture::{Capture, CapturedMessage};
use crate::delivery::attempt::{AlertSubject, AttemptResult, new_alert, prefixed_id};
use crate::delivery::senders::Senders;
use crate::error::Error;
use crate::verifications::stored_message::StoredMessage;

/// Error code for messages that failed for a reason without an error code of its own.
const MESSAGE_FAILED_CODE: u32 = 30008;

/// Error code for mail that failed for a reason without an error code of its own.
const MAIL_FAILED_CODE: u32 = 60603;

/// Returns the error code of a message that failed for a reason without an error code of its own.
pub(crate) const fn failure_code(channel: Channel) -> u32 {
    match channel {
        Channel::Email => MAIL_FAILED_CODE,
        Channel::Sms | Channel::Call | Channel::Whatsapp => MESSAGE_FAILED_CODE,
    }
}

/// Like [`failure_code`], for a message of which only the outlet is known.
pub(super) const fn failure_code_of_outlet(outlet: OutletChoice) -> u32 {
    match outlet {
        OutletChoice::SmtpUrl | OutletChoice::Stored(OutletSid::Mailer(_)) => MAIL_FAILED_CODE,
        OutletChoice::SmsUrl | OutletChoice::TestServer | OutletChoice::Stored(OutletSid::Messaging(_)) => {
            MESSAGE_FAILED_CODE
        }
    }
}

/// The stored data that sending a message needs, read in one transaction.
struct MessageContext {
    stored: StoredMessage,
    outlet: Option<Outlet>,
}

impl Senders {
    /// Makes one attempt to send the message of a verification. Skips the message if the verification is no longer
    /// pending.
    pub(super) async fn send_message(
        &self,
        app: &App,
        delivery: &Delivery,
        work: &MessageWork,
        mut now: Timestamp,
    ) -> Result<AttemptResult, Error> {
        let Some(mut context) = MessageContext::read(app, delivery, work).await? else {
            return result_of_closed(app, delivery, work, now).await;
        };
        // A message that is not sent must not wait for a turn, because later ones would wait behind it.
        if let Some(result) = context.result_without_sending(app, delivery, work, now) {
            return Ok(result);
        }
        if let Some((outlet, rate)) = context.outlet.as_ref().and_then(|outlet| Some((outlet, outlet.rate?)))
        {
            self.pacing.turn(outlet.sid, rate).await;
            // Meanwhile the verification may have ended, and the outlet may have got other settings.
            now = app.now();
            let Some(current) = MessageContext::read(app, delivery, work).await? else {
                return result_of_closed(app, delivery, work, now).await;
            };
            context = current;
            if let Some(result) = context.result_without_sending(app, delivery, work, now) {
                return Ok(result);
            }
        }
        let stored = &context.stored;
        let code = app.master_keys.open(&stored.code, &stored.verification.sid.to_string())?;
        let key_press_url = app.key_press_url(&stored.service.settings, &stored.attempt);
        let composed = match stored.wording(now).compose(code.expose(), key_press_url.as_deref()) {
            Ok(composed) => composed,
            // The text was written once before it was stored, so a template or a name has changed since.
            Err(problem) => {
                let outcome =
                    Outcome::Refused { code: problem.code().number(), reason: problem.message().to_owned() };
                return Ok(result(app, delivery, work, context.stored.attempt.channel, outcome, now));
            }
        };
        let message = context.message(app, code, composed, key_press_url, now);
        let outcome = self.send_through(app, delivery, work, &context, &message, now).await?;
        Ok(result(app, delivery, work, context.stored.attempt.channel, outcome, now))
    }

    /// Sends the message through its outlet, and returns the outcome. If the outlet no longer exists, nothing is sent
    /// and the outcome is `Refused`.
    async fn send_through(
        &self,
        app: &App,
        delivery: &Delivery,
        work: &MessageWork,
        context: &MessageContext,
        message: &Message,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        let gone = |reason: &str| Outcome::Refused {
            code: failure_code(context.stored.attempt.channel),
            reason: reason.to_owned(),
        };
        let configured = &app.configured_outlets;
        let settings: Cow<'_, OutletSettings> = match (work.outlet, &context.outlet) {
            (OutletChoice::TestServer, _) => {
                return Ok(match &app.capture {
                    Some(capture) => context.capture(capture.as_ref(), delivery, message, now),
                    None => gone("the server is no longer in test mode"),
                });
            }
            (OutletChoice::SmtpUrl, _) => match &configured.mail {
                Some(settings) => Cow::Borrowed(settings),
                None => return Ok(gone("the option smtp_url is no longer set")),
            },
            (OutletChoice::SmsUrl, _) => match &configured.text {
                Some(settings) => Cow::Borrowed(settings),
                None => return Ok(gone("the option sms_url is no longer set")),
            },
            (OutletChoice::Stored(_), Some(outlet)) => Cow::Owned(app.open_outlet(outlet)?),
            (OutletChoice::Stored(_), None) => return Ok(gone("the outlet was deleted")),
        };
        let key = match &context.outlet {
            Some(outlet) => outlet.version(),
            None => work.outlet.to_string(),
        };
        Ok(self.outlets.send(&key, &settings, message).await)
    }
}

impl MessageContext {
    /// Reads the stored data that sending a message needs. Returns `None` if the verification was closed or deleted.
    async fn read(app: &App, delivery: &Delivery, work: &MessageWork) -> Result<Option<Self>, Error> {
        let (account_sid, work) = (delivery.account_sid, work.clone());
        app.store
            .read(async move |db: &mut Read| {
                let Some(attempt) = db.attempt(account_sid, work.attempt_sid).await? else { return Ok(None) };
                let Some(stored) = StoredMessage::read(db, attempt).await? else { return Ok(None) };
                let outlet = match work.outlet {
                    OutletChoice::Stored(sid) => db.outlet(account_sid, sid).await?,
                    OutletChoice::SmtpUrl | OutletChoice::SmsUrl | OutletChoice::TestServer => None,
                };
                Ok(Some(Self { stored, outlet }))
            })
            .await
    }

    /// Returns the result of an attempt that sends nothing, because the message is no longer needed or its code has
    /// expired. Returns `None` if the message must be sent.
    fn result_without_sending(
        &self,
        app: &App,
        delivery: &Delivery,
        work: &MessageWork,
        now: Timestamp,
    ) -> Option<AttemptResult> {
        if self.stored.attempt.progress.is_some_and(DeliveryProgress::is_delivered) {
            return Some(AttemptResult::skipped("the outlet has reported that the message arrived"));
        }
        match self.stored.verification.status(now) {
            Status::Pending => None,
            Status::Expired => Some(expired(app, delivery, work, self.stored.attempt.channel, now)),
            Status::Approved | Status::Canceled | Status::MaxAttemptsReached => {
                Some(AttemptResult::skipped("the verification is no longer pending"))
            }
        }
    }

    fn message(
        &self,
        app: &App,
        code: OneTimeCode,
        composed: ComposedMessage,
        key_press_url: Option<String>,
        now: Timestamp,
    ) -> Message {
        let StoredMessage { service, verification, attempt, options, .. } = &self.stored;
        Message {
            channel: attempt.channel,
            to: verification.to.clone(),
            text: composed.text,
            subject: composed.subject,
            twiml: composed.twiml,
            code,
            service_name: self.stored.wording(now).service_name().to_owned(),
            locale: composed.locale_used.as_str().to_owned(),
            attempt_sid: attempt.sid,
            validity_seconds: u32::try_from(self.stored.seconds_left(now)).unwrap_or(u32::MAX),
            from: match attempt.channel {
                Channel::Whatsapp => {
                    service.settings.whatsapp.from.as_ref().map(|from| from.as_str().to_owned())
                }
                Channel::Sms | Channel::Call | Channel::Email => None,
            },
            send_digits: options.send_digits.as_ref().map(|keys| keys.as_str().to_owned()),
            key_press_url,
            report_url: app.attempt_url(AttemptTokenUse::DeliveryReport, attempt),
            mail: options.mail.clone(),
        }
    }

    /// Passes the message to the test server, which accepts it.
    fn capture(
        &self,
        capture: &dyn Capture,
        delivery: &Delivery,
        message: &Message,
        now: Timestamp,
    ) -> Outcome {
        capture.message(CapturedMessage {
            delivery: delivery.id,
            at: now,
            account_sid: delivery.account_sid,
            service_sid: self.stored.service.sid,
            verification_sid: self.stored.verification.sid,
            attempt_sid: self.stored.attempt.sid,
            channel: message.channel,
            to: message.to.as_str().to_owned(),
            subject: (message.channel == Channel::Email).then(|| message.subject.clone()),
            text: message.text.clone(),
            code: message.code.expose().to_owned(),
            locale: message.locale.clone(),
        });
        Outcome::Accepted { provider_id: Some("captured by test mode".to_owned()) }
    }
}

/// Returns the result for a message whose verification was closed or deleted before the message was sent. If the
/// verification was closed because it expired, the message has failed; otherwise it is no longer needed.
async fn result_of_closed(
    app: &App,
    delivery: &Delivery,
    work: &MessageWork,
    now: Timestamp,
) -> Result<AttemptResult, Error> {
    let (account_sid, ids) = (delivery.account_sid, work.clone());
    let (status, attempt) = app
        .store
        .read(async move |db: &mut Read| {
            let status = db.verification_status(ids.service_sid, ids.verification_sid).await?;
            Ok::<_, Error>((status, db.attempt(account_sid, ids.attempt_sid).await?))
        })
        .await?;
    let has_arrived = |attempt: &Attempt| attempt.progress.is_some_and(DeliveryProgress::is_delivered);
    Ok(match (status, attempt) {
        (Some(Status::Expired), Some(attempt)) if !has_arrived(&attempt) => {
            expired(app, delivery, work, attempt.channel, now)
        }
        _ => AttemptResult::skipped("the verification is closed"),
    })
}

/// Returns the result for a message whose code expired before the message was sent.
fn expired(
    app: &App,
    delivery: &Delivery,
    work: &MessageWork,
    channel: Channel,
    now: Timestamp,
) -> AttemptResult {
    let reason = "the code expired before the message was sent".to_owned();
    let outcome = Outcome::Refused { code: failure_code(channel), reason };
    result(app, delivery, work, channel, outcome, now)
}

/// Converts the outlet's outcome to the result of the attempt, with an alert if the message failed.
fn result(
    app: &App,
    delivery: &Delivery,
    work: &MessageWork,
    channel: Channel,
    outcome: Outcome,
    now: Timestamp,
) -> AttemptResult {
    let (ending, code, reason) = match outcome {
        Outcome::Accepted { provider_id } => {
            return AttemptResult { detail: provider_id, ..AttemptResult::new(Ending::Delivered) };
        }
        Outcome::Retry { after, code, reason } => {
            let seconds = after.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
            (Ending::RetryAfter { seconds }, code, reason)
        }
        Outcome::Refused { code, reason } => (Ending::Failed, code, reason),
    };
    AttemptResult {
        error_code: Some(code),
        alert: Some(alert(app, delivery, work, channel, code, &reason, now)),
        detail: Some(reason),
        ..AttemptResult::new(ending)
    }
}

/// Builds the alert about a message that was not sent, with the reason that its outlet gave.
fn alert(
    app: &App,
    delivery: &Delivery,
    work: &MessageWork,
    channel: Channel,
    code: u32,
    reason: &str,
    now: Timestamp,
) -> Alert {
    let subject =
        AlertSubject { service_sid: Some(work.service_sid), resource_sid: work.verification_sid.to_string() };
    Alert {
        more_info: json!({
            "description": reason,
            "channel": channel.as_str(),
            "outlet": work.outlet,
            "attemptSid": work.attempt_sid,
            "deliverySid": prefixed_id("DA", delivery.id),
        }),
        ..new_alert(app, delivery, subject, code, reason.to_owned(), now)
    }
}
