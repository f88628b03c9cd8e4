//! Services.

use domain::audit::{Act, Change};
use domain::limits::{OwnLimit, ServiceLimits};
use domain::services::{Push, Settings};
use domain::{AccountSid, Page, PageRequest, Problem, Service, ServiceSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Makes a service.
    ///
    /// # Errors
    /// When the database fails.
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
                audit.note(tx, Change::new(Act::ServiceCreated, account_sid, sid)).await
            })
            .await?;
        Ok(service)
    }

    /// A service.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn service(&self, account_sid: AccountSid, sid: ServiceSid) -> Result<Service, Error> {
        self.store
            .read(async move |db: &mut Read| db.service(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// The services of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn services(&self, account_sid: AccountSid, page: PageRequest) -> Result<Page<Service>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.services(account_sid, &page).await?)).await
    }

    /// Changes a service's settings: all that `change` changes, or nothing if it refuses.
    ///
    /// # Errors
    /// 20404; those of `change`; when the database fails.
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
                    tx.forget_unreachable(account_sid, Some(sid)).await?;
                }
                let change = Change::new(Act::ServiceUpdated, account_sid, sid);
                audit.note(tx, change.with("changed", service.settings.changed(&before))).await?;
                Ok(service)
            })
            .await
    }

    /// Says how many challenges a factor of a service may be sent, where something is said, and returns what counts
    /// for the service then. The operator's affair: no account can.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn limit_service(
        &self,
        origin: &Origin,
        sid: ServiceSid,
        pending: Option<OwnLimit>,
        per_minute: Option<OwnLimit>,
    ) -> Result<Service, Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let service =
                    tx.limit_service(sid, pending, per_minute).await?.ok_or_else(Error::not_found)?;
                let change = Change::new(Act::ServiceUpdated, service.account_sid, sid);
                audit.note(tx, change.with("changed", ["limits"])).await?;
                Ok(service)
            })
            .await
    }

    /// Deletes a service and everything under it. Nothing of it is found from here on; housekeeping removes the rows.
    ///
    /// # Errors
    /// 20404; when the database fails.
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
                true => audit.note(tx, Change::new(Act::ServiceDeleted, account_sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await?;
        self.deleted.notify_one();
        Ok(())
    }
}
