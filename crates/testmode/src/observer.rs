//! Receives what the server reports: captures pushes, messages and webhooks, and passes challenges to virtual devices.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use app::{
    Capture, CaptureFuture, CapturedMessage, CapturedPush, CapturedWebhook, PushFailure, PushVerdict,
    RecordedAttempt, WebhookVerdict,
};
use domain::Challenge;
use domain::access_tokens::{Grant, TokenText};
use domain::challenges::PushChallenge;

use crate::behavior::Reaction;
use crate::captures::Captures;
use crate::chaos::Chaos;
use crate::fleet::Fleet;

/// The receiver of everything that the server reports.
pub(crate) struct Observer {
    pub(crate) captures: Arc<Captures>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) chaos: Chaos,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Capture for Observer {
    fn challenge_created(&self, challenge: &Challenge<PushChallenge>) {
        let Some(device) = self.fleet.find(challenge.kind.target.factor_sid) else { return };
        device.learn_of(challenge);
        if !device.has_push() {
            self.fleet.notice(device, challenge.sid);
        }
    }

    fn access_token_created(&self, grant: &Grant, text: &TokenText) {
        self.fleet.offer(grant, text);
    }

    fn push(&self, push: CapturedPush) -> CaptureFuture<'_, PushVerdict> {
        let device = self.fleet.find(push.factor_sid);
        // The push may arrive before the report that the challenge was created.
        let reaction = device.as_ref().map(|device| device.learn_of(&push.challenge));
        let (verdict, latency) = match reaction {
            Some(Reaction::Uninstall) => (PushVerdict::Failed(PushFailure::Gone), Duration::ZERO),
            _ => self.chaos.push(),
        };
        self.captures.add_push(&push, verdict);
        Box::pin(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            if let Some(device) = device
                && verdict == PushVerdict::Delivered
                && reaction != Some(Reaction::Offline)
            {
                self.fleet.notice(device, push.challenge.sid);
            }
            verdict
        })
    }

    fn message(&self, message: CapturedMessage) {
        self.captures.add_message(&message);
    }

    fn webhook(&self, webhook: CapturedWebhook) -> CaptureFuture<'_, WebhookVerdict> {
        let (verdict, latency) = self.chaos.webhook();
        self.captures.add_webhook(&webhook, verdict == WebhookVerdict::Keep);
        Box::pin(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            verdict
        })
    }

    fn attempt_recorded(&self, attempt: &RecordedAttempt) {
        self.captures.add_attempt(attempt);
    }
}
