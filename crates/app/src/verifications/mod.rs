//! Use cases of verifications: create, send again, check, fetch and update.

mod check;
mod create;
mod outlet_choice;
pub(crate) mod stored_message;
pub(crate) mod wording;

pub use check::NewCheck;
pub use create::{NewVerification, TemplateRequest, TemplateSelection};

use domain::audit::{AuditAction, Change};
use domain::verifications::{Attempt, Conclusion, Verification, VerificationTarget};
use domain::{AccountSid, ServiceSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::outbox::Outbox;

/// A verification with its attempts, oldest first.
#[derive(Clone, Debug)]
pub struct VerificationWithAttempts {
    /// The verification.
    pub verification: Verification,
    /// Its attempts, of which there are at most five.
    pub attempts: Vec<Attempt>,
}

/// Returns the change to record in the audit log for an action on a verification. It contains neither the recipient nor
/// anything about the code.
fn about(action: AuditAction, verification: &Verification) -> Change {
    Change::new(action, verification.account_sid, verification.sid)
        .detail("service_sid", verification.service_sid)
        .detail("channel", verification.channel.as_str())
}

impl App {
    /// Returns the pending verification of a service that `target` names.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, or has no such verification, or if it was approved or canceled,
    /// its checks are used up, or it has expired. Also fails if the database fails.
    pub async fn pending_verification(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        target: VerificationTarget,
    ) -> Result<Verification, Error> {
        let now = self.clock.now();
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                let found = db.open_verification(service_sid, &target).await?;
                found.filter(|verification| verification.is_pending(now)).ok_or_else(Error::not_found)
            })
            .await
    }

    /// Adds its attempts to a verification.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn with_attempts(&self, verification: Verification) -> Result<VerificationWithAttempts, Error> {
        let sid = verification.sid;
        let attempts = self
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.attempts_of_verification(sid).await?))
            .await?;
        Ok(VerificationWithAttempts { verification, attempts })
    }

    /// Ends a verification without a code, and returns it. If several requests do so at once, one succeeds.
    ///
    /// # Errors
    /// Fails with 20404 if the verification is no longer pending. Also fails if the database fails.
    pub async fn conclude_verification(
        &self,
        origin: &Origin,
        verification: &Verification,
        conclusion: Conclusion,
    ) -> Result<VerificationWithAttempts, Error> {
        let now = self.clock.now();
        let (service_sid, target) = (verification.service_sid, VerificationTarget::Sid(verification.sid));
        let (account_sid, audit) = (verification.account_sid, self.audit(origin, now));
        self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            let found = tx.lock_open_verification(service_sid, &target).await?;
            let pending = found.filter(|verification| verification.is_pending(now));
            let mut verification = pending.ok_or_else(Error::not_found)?;
            let payment = verification.payment.clone();
            verification.close(conclusion.status(), now);
            let service = tx.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
            outbox.enqueue_verification_event(tx, &service, &verification, false, now).await?;
            tx.update_verification(&verification).await?;
            let action = match conclusion {
                Conclusion::Approved => {
                    tx.convert_latest_attempt(verification.sid, now).await?;
                    AuditAction::VerificationApproved
                }
                Conclusion::Canceled => AuditAction::VerificationCanceled,
            };
            audit.record(tx, about(action, &verification)).await?;
            let attempts = tx.attempts_of_verification(verification.sid).await?;
            // The response still shows the payment, which is no longer stored.
            verification.payment = payment;
            Ok(VerificationWithAttempts { verification, attempts })
        })
        .await
    }
}
