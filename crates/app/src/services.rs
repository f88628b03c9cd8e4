//! Services: create, fetch, list, update and delete.

use domain::audit::{AuditAction, Change};
use domain::limits::{LimitOverride, ServiceLimits};
use domain::services::{Push, Settings};
use domain::{AccountSid, Page, PageRequest, Problem, Service, ServiceSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Creates a service.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn create_service(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        settings: Settings,
    ) -> Result<Service, Error> {
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
        Ok(service)
    }

    /// Returns a service of the account.
    ///
    /// # Errors
    /// 20404 if there is no such service. Also fails if the database fails.
    pub async fn service(&self, account_sid: AccountSid, sid: ServiceSid) -> Result<Service, Error> {
        self.store
            .read(async move |db: &mut Read| db.service(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns a page of the services of an account.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn services(&self, account_sid: AccountSid, page: PageRequest) -> Result<Page<Service>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.services(account_sid, &page).await?)).await
    }

    /// Applies `change` to the settings of a service. If it returns an error, nothing is changed.
    ///
    /// # Errors
    /// 20404 if there is no such service; the errors of `change`. Also fails if the database fails.
    pub async fn update_service(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: ServiceSid,
        change: impl Fn(&mut Settings) -> Result<(), Problem> + Send + 'static,
    ) -> Result<Service, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let mut service = tx.lock_service(account_sid, sid).await?.ok_or_else(Error::not_found)?;
                let credentials = |push: &Push| (push.apn_credential_sid, push.fcm_credential_sid);
                let before = service.settings.clone();
                change(&mut service.settings)?;
                service.updated_at = now;
                tx.update_service(&service).await?;
                if credentials(&service.settings.push) != credentials(&before.push) {
                    tx.clear_unreachable(account_sid, Some(sid)).await?;
                }
                let change = Change::new(AuditAction::ServiceUpdated, account_sid, sid);
                audit.record(tx, change.detail("changed", service.settings.changed_fields(&before))).await?;
                Ok(service)
            })
            .await
    }

    /// Sets how many challenges a factor of the service may get, and returns the service. A limit that is `None` stays
    /// as it is. Only operators may do this, so the API has no route to it.
    ///
    /// # Errors
    /// 20404 if there is no such service. Also fails if the database fails.
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

    /// Deletes a service and everything under it. Its data can no longer be read from then on; housekeeping removes the
    /// rows later.
    ///
    /// # Errors
    /// 20404 if there is no such service. Also fails if the database fails.
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
        Ok(())
    }
}
