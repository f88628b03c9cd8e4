//! What is stored about the message of an attempt. Its text is written from this whenever it is needed, and stored
//! nowhere.

use domain::locales::Locale;
use domain::templates::Template;
use domain::verifications::{Attempt, MessageOptions, OneTimeCode, Verification, VerificationTarget};
use domain::{Sealed, Service, Timestamp};
use store::Read;

use crate::error::Error;
use crate::verifications::wording::Wording;

/// The stored data of the message of an attempt whose verification is open.
pub(crate) struct StoredMessage {
    pub(crate) service: Service,
    pub(crate) verification: Verification,
    pub(crate) code: Sealed<OneTimeCode>,
    pub(crate) attempt: Attempt,
    pub(crate) options: MessageOptions,
    pub(crate) template: Option<Template>,
}

impl StoredMessage {
    /// Reads the message of an attempt. Returns `None` if its verification was closed or deleted.
    pub(crate) async fn read(db: &mut Read, attempt: Attempt) -> Result<Option<Self>, Error> {
        let account_sid = attempt.account_sid;
        let Some(service) = db.service(account_sid, attempt.service_sid).await? else { return Ok(None) };
        let target = VerificationTarget::Sid(attempt.verification_sid);
        let Some(verification) = db.open_verification(service.sid, &target).await? else { return Ok(None) };
        let Some(code) = verification.code.clone() else { return Ok(None) };
        let Some(options) = attempt.message.clone() else { return Ok(None) };
        let template = match options.template_sid {
            Some(sid) => db.template(account_sid, sid).await?,
            None => None,
        };
        Ok(Some(Self { service, verification, code, attempt, options, template }))
    }

    /// Returns what the text depends on at `now`.
    pub(crate) fn wording(&self, now: Timestamp) -> Wording<'_> {
        Wording {
            settings: &self.service.settings,
            options: &self.options,
            template: self.template.as_ref(),
            channel: self.attempt.channel,
            // The locale in which the text was written first.
            locale: self.attempt.locale.as_deref().and_then(Locale::from_tag).unwrap_or(Locale::ENGLISH),
            payment: self.verification.payment.as_ref(),
            seconds_left: self.seconds_left(now),
        }
    }

    /// Returns the number of seconds for which the code remains valid.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> i64 {
        i64::try_from(now.until(self.verification.expires_at).as_secs()).unwrap_or(i64::MAX)
    }
}
