//! The interface to a test server, which receives what the server would send.
//!
//! Without it, which is the rule, nothing changes. With it, the delivery worker passes pushes and messages to the test
//! server instead of the push providers and outlets, and webhooks before each attempt. Use cases report what virtual
//! devices have to know.

use std::fmt;
use std::pin::Pin;

use domain::access_tokens::{Grant, TokenText};
use domain::challenges::PushChallenge;
use domain::deliveries::{AttemptOutcome, DeliveryId};
use domain::factors::Platform;
use domain::{
    AccountSid, AttemptSid, Challenge, Channel, FactorSid, NotificationSid, ServiceSid, Timestamp,
    VerificationSid, WebhookSid,
};

/// A future that a [`Capture`] returns.
pub type CaptureFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Receives what a test server would send, and what its virtual devices have to know.
pub trait Capture: fmt::Debug + Send + Sync {
    /// Called when a push challenge was created, after the commit. The push of the challenge may arrive before.
    fn challenge_created(&self, challenge: &Challenge<PushChallenge>);

    /// Called when an access token was created, after the commit.
    fn access_token_created(&self, grant: &Grant, text: &TokenText);

    /// Takes the place of a push provider: receives a push, and decides what the provider would have responded.
    fn push(&self, push: CapturedPush) -> CaptureFuture<'_, PushVerdict>;

    /// Takes the place of an outlet: receives a message with a one-time code.
    fn message(&self, message: CapturedMessage);

    /// Receives a webhook before each of its attempts, and decides whether the attempt is made.
    fn webhook(&self, webhook: CapturedWebhook) -> CaptureFuture<'_, WebhookVerdict>;

    /// Called when an attempt was recorded in the database, whether the delivery is a push or a webhook.
    fn attempt_recorded(&self, attempt: &RecordedAttempt);
}

/// A push that would be sent to its provider. It has no `Debug`, because the message may contain personal data.
pub struct CapturedPush {
    /// ID of the delivery, the same for all attempts.
    pub delivery: DeliveryId,
    /// Time of the attempt.
    pub at: Timestamp,
    /// Provider of the push.
    pub platform: Platform,
    /// Challenge that the push is about.
    pub challenge: Challenge<PushChallenge>,
    /// Factor whose device receives the push.
    pub factor_sid: FactorSid,
    /// Notification with which a backend requested the push; `None` for the push about a new challenge.
    pub notification_sid: Option<NotificationSid>,
    /// Registration token of the device.
    pub token: String,
    /// Names and values of the request's headers, without credentials.
    pub headers: Vec<(&'static str, String)>,
    /// The request's body.
    pub body: Vec<u8>,
    /// Debugger code with which a server with real providers would give up the push; `None` if it would send the push.
    pub would_fail: Option<u32>,
}

/// A message that would be sent through an outlet. It has no `Debug`, because it contains a code and a recipient.
pub struct CapturedMessage {
    /// ID of the delivery, the same for all attempts.
    pub delivery: DeliveryId,
    /// Time of the attempt.
    pub at: Timestamp,
    /// Account that owns the verification.
    pub account_sid: AccountSid,
    /// Service to which the verification belongs.
    pub service_sid: ServiceSid,
    /// Verification whose code the message contains.
    pub verification_sid: VerificationSid,
    /// Attempt to which the message belongs.
    pub attempt_sid: AttemptSid,
    /// Channel of the message.
    pub channel: Channel,
    /// Phone number or mail address of the recipient.
    pub to: String,
    /// Subject of a mail; `None` for other channels.
    pub subject: Option<String>,
    /// Text of the message.
    pub text: String,
    /// Code in the text.
    pub code: String,
    /// Locale of the text.
    pub locale: String,
}

/// The response of the push provider that a test server decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushVerdict {
    /// The provider accepts the push.
    Delivered,
    /// The provider does not accept it.
    Failed(push_client::SimulatedFailure),
}

/// A webhook that is about to be sent. It has no `Debug`, because the parameters may contain personal data.
pub struct CapturedWebhook {
    /// ID of the delivery, the same for all attempts.
    pub delivery: DeliveryId,
    /// Time of the attempt.
    pub at: Timestamp,
    /// Account that receives the webhook.
    pub account_sid: AccountSid,
    /// Service of the webhook or the event; `None` for a debugger webhook.
    pub service_sid: Option<ServiceSid>,
    /// Webhook; `None` for debugger webhooks and verification events, whose URLs belong to the account.
    pub webhook_sid: Option<WebhookSid>,
    /// URL of the receiver.
    pub url: String,
    /// Form parameters of the request; none if it has a JSON body.
    pub parameters: Vec<(String, String)>,
    /// JSON body of the request; `None` if it has form parameters.
    pub body: Option<String>,
    /// Names and values of the request's headers, spelled as they are sent.
    pub headers: Vec<(String, String)>,
}

/// What a test server decides about an attempt to send a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookVerdict {
    /// The webhook is sent.
    Send,
    /// The webhook is not sent, and the delivery is finished.
    Keep,
    /// The webhook is not sent, and the attempt fails in this way.
    Fail(webhook_client::SimulatedFailure),
}

/// An attempt that was recorded in the database.
#[derive(Clone, Debug)]
pub struct RecordedAttempt {
    /// ID of the delivery.
    pub delivery: DeliveryId,
    /// Start of the attempt.
    pub began_at: Timestamp,
    /// What happens next to the delivery.
    pub outcome: AttemptOutcome,
    /// Status code of the receiver's response, if there was one.
    pub status: Option<u16>,
    /// Duration of the attempt.
    pub milliseconds: i64,
    /// Description of the result.
    pub detail: Option<String>,
}
