//! Delivery reports: what outlets report about messages that they have accepted.
//!
//! The outlet gets a URL with each message. The token in it permits reports about this message, and nothing else.

use crypto::attempt_tokens::AttemptTokenUse;
use domain::AlertSid;
use domain::alerts::{Alert, Level};
use domain::verifications::{AttemptReference, DeliveryReport};
use serde_json::json;
use store::Write;

use crate::App;
use crate::delivery::failure_code;
use crate::error::Error;
use crate::outbox::Outbox;

impl App {
    /// Returns the attempt that the token of a URL names.
    ///
    /// # Errors
    /// Fails with 20404 if this server did not issue the token.
    pub fn reported_attempt(&self, token: &str) -> Result<AttemptReference, Error> {
        self.attempt_of_token(AttemptTokenUse::DeliveryReport, token)
    }

    /// Records what became of the message of an attempt. Raises an alert if it did not arrive. A report that is
    /// repeated, or that arrives after a later one, changes nothing.
    ///
    /// # Errors
    /// Fails with 20404 if the attempt or its service does not exist. Also fails if the database fails.
    pub async fn record_delivery_report(
        &self,
        reference: AttemptReference,
        report: DeliveryReport,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let alert_sid = AlertSid::generate(now, self.entropy());
        self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            let attempt = tx.lock_attempt(reference.service_sid, reference.attempt_sid).await?;
            let attempt = attempt.ok_or_else(Error::not_found)?;
            // The rows of a deleted service stay until housekeeping removes them.
            tx.service(attempt.account_sid, attempt.service_sid).await?.ok_or_else(Error::not_found)?;
            let is_failure = report.progress.is_failure();
            let error_code = is_failure.then(|| report.error_code.unwrap_or(failure_code(attempt.channel)));
            let is_news = tx.set_attempt_progress(attempt.sid, report.progress, error_code, now).await?;
            if let (true, Some(error_code)) = (is_news, error_code) {
                let text = format!("the outlet reports that the message is {}", report.progress.as_str());
                let alert = Alert {
                    sid: alert_sid,
                    account_sid: attempt.account_sid,
                    service_sid: Some(attempt.service_sid),
                    resource_sid: attempt.verification_sid.to_string(),
                    error_code,
                    level: Level::Error,
                    more_info: json!({
                        "description": text,
                        "channel": attempt.channel.as_str(),
                        "attemptSid": attempt.sid,
                    }),
                    text,
                    call: None,
                    created_at: now,
                };
                outbox.raise_alert(tx, &alert, now).await?;
            }
            Ok(())
        })
        .await
    }
}
