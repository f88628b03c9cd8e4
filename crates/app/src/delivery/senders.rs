//! One attempt to make a delivery: read the required data, send the request, and return the result.

use std::sync::Arc;

use domain::deliveries::{Delivery, Work};
use domain::{Clock, Timestamp};

use crate::App;
use crate::delivery::attempt::AttemptResult;
use crate::delivery::credential_cache::CredentialCache;
use crate::delivery::pacing::Pacing;
use crate::delivery::settings::{DeliverySettings, WorkerError};

/// The clients that the delivery worker uses, with the credential cache and the turns of outlets.
pub struct Senders {
    pub(crate) webhooks: webhook_client::WebhookClient,
    pub(crate) pusher: push_client::PushClient,
    pub(crate) credentials: CredentialCache,
    pub(crate) outlets: outlet_client::OutletClient,
    pub(crate) pacing: Pacing,
}

impl Senders {
    /// Creates the clients, parsing the certificates in the settings.
    ///
    /// # Errors
    /// Returns an error if the settings of a client are invalid.
    pub fn new(settings: &DeliverySettings, clock: Arc<dyn Clock>) -> Result<Self, WorkerError> {
        Ok(Self {
            webhooks: webhook_client::WebhookClient::new(settings.webhooks.clone())?,
            pusher: push_client::PushClient::new(settings.push.clone(), clock)?,
            credentials: CredentialCache::default(),
            outlets: outlet_client::OutletClient::new(settings.outlets.clone())?,
            pacing: Pacing::default(),
        })
    }

    /// Makes one attempt to make a delivery, and returns the result. If a fault of this server prevents the attempt,
    /// the result asks for a retry.
    pub(crate) async fn attempt(&self, app: &App, delivery: &Delivery, now: Timestamp) -> AttemptResult {
        let result = match &delivery.work {
            // A webhook that expired while no server was running is still attempted once.
            Work::Webhook { webhook_sid, service_sid, parameters, once } => {
                let target = (*service_sid, *webhook_sid);
                self.send_webhook(app, delivery, target, parameters, *once, now).await
            }
            Work::Debugger { alert_sid, parameters } => {
                self.send_debugger_webhook(app, delivery, *alert_sid, parameters, now).await
            }
            Work::Push(push) => self.send_push(app, delivery, push, now).await,
            Work::VerificationEvent { verification_sid, service_sid, body } => {
                let subject = (*service_sid, *verification_sid);
                self.send_verification_event(app, delivery, subject, body, now).await
            }
            Work::Message(message) => self.send_message(app, delivery, message, now).await,
        };
        result.unwrap_or_else(|error| AttemptResult::not_started(&error, app, delivery, now))
    }
}
