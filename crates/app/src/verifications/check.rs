//! Checking the code that a user entered.

use crypto::constant_time_eq;
use domain::audit::AuditAction;
use domain::verifications::{CustomCode, Payment, Status, Verification, VerificationTarget};
use domain::{Code, Recipient, Service, VerificationSid};
use store::Write;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::verifications::about;

/// The parameters of a check.
#[derive(Clone, Debug)]
pub struct NewCheck {
    /// Recipient of the code.
    pub to: Option<Recipient>,
    /// SID of the verification. With `to`, both must fit.
    pub verification_sid: Option<VerificationSid>,
    /// Code that the user entered.
    pub code: CustomCode,
    /// Payment that the user confirms.
    pub payment: Option<Payment>,
}

impl NewCheck {
    /// Returns the target of the check.
    ///
    /// # Errors
    /// Returns error code 60221 if the check names neither a recipient nor a verification.
    fn target(&self) -> Result<VerificationTarget, Code> {
        match (self.verification_sid, &self.to) {
            (Some(sid), _) => Ok(VerificationTarget::Sid(sid)),
            (None, Some(recipient)) => Ok(VerificationTarget::Recipient(recipient.clone())),
            (None, None) => Err(Code::NoCheckTarget),
        }
    }

    /// Returns whether the verification is the one that the check names.
    fn fits(&self, verification: &Verification) -> bool {
        self.to.as_ref().is_none_or(|recipient| recipient.key() == verification.to.key())
    }
}

impl App {
    /// Checks a code, and returns the verification: approved if the code is right. Of several right checks at once, one
    /// succeeds. A wrong code is counted; the fifth uses the checks up.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 60221 if neither a recipient nor a verification is named; 60206 if the service confirms payments and the check
    ///   names none.
    /// - 20404 if there is no such verification, or it was approved or canceled or has expired.
    /// - 60202 if the checks are used up.
    ///
    /// Also fails if the database fails. On any error, nothing is changed.
    pub async fn check_verification(
        &self,
        origin: &Origin,
        service: &Service,
        check: NewCheck,
    ) -> Result<Verification, Error> {
        let target = check.target()?;
        let confirms_payments = service.settings.psd2_enabled;
        if confirms_payments && check.payment.is_none() {
            return Err(Code::PaymentParameters.into());
        }
        let now = self.clock.now();
        let (service, audit) = (service.clone(), self.audit(origin, now));
        let master_keys = std::sync::Arc::clone(&self.master_keys);
        self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            let found = tx.lock_open_verification(service.sid, &target).await?;
            let mut verification =
                found.filter(|verification| check.fits(verification)).ok_or_else(Error::not_found)?;
            verification.require_check(now)?;
            let sealed = verification.code.as_ref().ok_or_else(Error::not_found)?;
            let code = master_keys.open(sealed, &verification.sid.to_string())?;
            // In a service that does not confirm payments, neither the check nor the verification needs one.
            let needs_payment =
                confirms_payments || check.payment.is_some() && verification.payment.is_some();
            let is_right = constant_time_eq(code.expose().as_bytes(), check.code.expose().as_bytes())
                && (!needs_payment || check.payment == verification.payment);
            let payment = verification.payment.clone();
            let action = if is_right {
                verification.close(Status::Approved, now);
                tx.convert_latest_attempt(verification.sid, now).await?;
                AuditAction::VerificationApproved
            } else {
                verification.count_wrong_check(now);
                AuditAction::VerificationRefused
            };
            if verification.stored_status != Status::Pending {
                outbox.enqueue_verification_event(tx, &service, &verification, is_right, now).await?;
            }
            tx.update_verification(&verification).await?;
            audit.record(tx, about(action, &verification)).await?;
            // The response still shows the payment, which is no longer stored.
            verification.payment = payment;
            Ok(verification)
        })
        .await
    }
}
