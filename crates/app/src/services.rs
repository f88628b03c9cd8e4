//! Use cases of services: create, fetch, list, update and delete.

use domain::audit::{AuditAction, Change};
use domain::limits::{LimitOverride, ServiceLimits};
use domain::services::{Push, Settings};
use domain::{AccountSid, Page, PageRequest, Problem, Service, ServiceSid};
use store::{Read, Write};
use tracing::warn;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::passkey_settings;

impl App {
    /// Creates a service with these settings, and returns it.
    ///
    /// # Errors
    /// Fails with 60371 or 60372 if the relying party of passkeys is invalid. Also fails if the database fails.
    pub async fn create_service(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        mut settings: Settings,
    ) -> Result<Service, Error> {
        passkey_settings::normalize(&mut settings.passkeys)?;
        let now = self.clock.now();
        let sid = ServiceSid::generate(now, self.entropy.as_ref());
        let limits = ServiceLimits::default();
        let service = Service { sid, account_sid, settings, limits, created_at: now, updated_at: now };
        let (row, audit) = (service.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_service(&row).await?;
                audit.record(tx, Change::new(AuditAction::ServiceCreated, account_sid, sid)).await
            })
            .await?;
        warn_of_short_codes(&service);
        self.warn_of_calls_without_keys(&service);
        Ok(service)
    }

    /// Returns the service `sid` of an account.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn service(&self, account_sid: AccountSid, sid: ServiceSid) -> Result<Service, Error> {
        self.store
            .read(async move |db: &mut Read| db.service(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns one page of an account's services.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn services(&self, account_sid: AccountSid, page: PageRequest) -> Result<Page<Service>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.services(account_sid, &page).await?)).await
    }

    /// Applies `change` to the settings of a service, and returns the updated service. If `change` returns an error,
    /// nothing is changed.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, with the error that `change` returns, or with 60371 or 60372 if
    /// it makes the relying party of passkeys invalid. Also fails if the database fails.
    pub async fn update_service(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: ServiceSid,
        change: impl Fn(&mut Settings) -> Result<(), Problem> + Send + 'static,
    ) -> Result<Service, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let (service, before) = self
            .store
            .write(async move |tx: &mut Write| {
                let mut service = tx.lock_service(account_sid, sid).await?.ok_or_else(Error::not_found)?;
                let credentials = |push: &Push| (push.apn_credential_sid, push.fcm_credential_sid);
                let before = service.settings.clone();
                change(&mut service.settings)?;
                if service.settings.passkeys != before.passkeys {
                    passkey_settings::normalize(&mut service.settings.passkeys)?;
                }
                service.updated_at = now;
                tx.update_service(&service).await?;
                if credentials(&service.settings.push) != credentials(&before.push) {
                    tx.clear_unreachable(account_sid, Some(sid)).await?;
                }
                let change = Change::new(AuditAction::ServiceUpdated, account_sid, sid);
                audit.record(tx, change.detail("changed", service.settings.changed_fields(&before))).await?;
                Ok::<_, Error>((service, before))
            })
            .await?;
        if service.settings.code_length != before.code_length {
            warn_of_short_codes(&service);
        }
        if service.settings.dtmf_input_required != before.dtmf_input_required {
            self.warn_of_calls_without_keys(&service);
        }
        Ok(service)
    }

    /// Logs a warning if the calls of a service should ask for a key, but have no URL to continue with.
    fn warn_of_calls_without_keys(&self, service: &Service) {
        if service.settings.dtmf_input_required && self.public_url.is_none() {
            warn!(service = %service.sid, "a call with a code of this service does not ask for a key first; set public_url");
        }
    }

    /// Overrides the server's limits on challenges per factor for one service, and returns the updated service:
    /// `pending` limits the pending challenges of a factor, `per_minute` the new ones per minute. A limit that is
    /// `None` is left unchanged. Only operators may change these limits, so the API has no route for it.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn set_service_limits(
        &self,
        origin: &Origin,
        sid: ServiceSid,
        pending: Option<LimitOverride>,
        per_minute: Option<LimitOverride>,
    ) -> Result<Service, Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let service =
                    tx.set_service_limits(sid, pending, per_minute).await?.ok_or_else(Error::not_found)?;
                let change = Change::new(AuditAction::ServiceUpdated, service.account_sid, sid);
                audit.record(tx, change.detail("changed", ["limits"])).await?;
                Ok(service)
            })
            .await
    }

    /// Deletes a service and everything that belongs to it. The data is immediately inaccessible; housekeeping removes
    /// the rows later.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn delete_service(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| match tx.delete_service(account_sid, sid, now).await? {
                true => audit.record(tx, Change::new(AuditAction::ServiceDeleted, account_sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await?;
        self.deleted.notify_one();
        self.touch_any();
        Ok(())
    }
}

/// Minimum number of digits of a one-time code that is not easy to guess.
const SHORT_CODE_DIGITS: i64 = 6;

/// Logs a warning if the one-time codes of a service are easy to guess. With five checks every ten minutes, which the
/// server permits, a code of four digits is found on 7 of 100 days, and one of six digits on 7 of 10,000.
fn warn_of_short_codes(service: &Service) {
    let digits = service.settings.code_length.get();
    if digits < SHORT_CODE_DIGITS {
        warn!(service = %service.sid, digits, "one-time codes of this service are easy to guess; set CodeLength to 6 or more");
    }
}
