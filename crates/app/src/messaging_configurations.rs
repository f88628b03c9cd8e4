//! Use cases of messaging configurations: create, fetch, list, update and delete.

use domain::audit::{AuditAction, Change};
use domain::messaging_configurations::MessagingCountry;
use domain::{
    AccountSid, MessagingConfiguration, MessagingConfigurationSid, MessagingServiceSid, Page, PageRequest,
    ServiceSid,
};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Creates a messaging configuration, and returns it. The outlet need not exist.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, and with 60213 if it already has a messaging configuration for
    /// this country. Also fails if the database fails.
    pub async fn create_messaging_configuration(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        country: MessagingCountry,
        messaging_service_sid: MessagingServiceSid,
    ) -> Result<MessagingConfiguration, Error> {
        let now = self.clock.now();
        let configuration = MessagingConfiguration {
            sid: MessagingConfigurationSid::generate(now, self.entropy.as_ref()),
            account_sid,
            service_sid,
            country,
            messaging_service_sid,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                // Lock the service, because nothing may be added to a service that is being deleted.
                tx.lock_service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                tx.insert_messaging_configuration(&configuration).await?;
                audit.record(tx, about(AuditAction::MessagingConfigurationCreated, &configuration)).await?;
                Ok(configuration.clone())
            })
            .await
    }

    /// Returns the messaging configuration of a service for exactly this country.
    ///
    /// # Errors
    /// Fails with 20404 if the messaging configuration does not exist. Also fails if the database fails.
    pub async fn messaging_configuration(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        country: MessagingCountry,
    ) -> Result<MessagingConfiguration, Error> {
        self.store
            .read(async move |db: &mut Read| {
                let found = db.messaging_configuration(account_sid, service_sid, country).await?;
                found.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of a service's messaging configurations.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn messaging_configurations(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        page: PageRequest,
    ) -> Result<Page<MessagingConfiguration>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                Ok(db.messaging_configurations(account_sid, service_sid, &page).await?)
            })
            .await
    }

    /// Gives a messaging configuration another outlet, and returns the updated messaging configuration. The outlet need
    /// not exist.
    ///
    /// # Errors
    /// Fails with 20404 if the messaging configuration does not exist. Also fails if the database fails.
    pub async fn update_messaging_configuration(
        &self,
        origin: &Origin,
        configuration: &MessagingConfiguration,
        messaging_service_sid: MessagingServiceSid,
    ) -> Result<MessagingConfiguration, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let MessagingConfiguration { account_sid, service_sid, country, .. } = *configuration;
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_messaging_configuration(account_sid, service_sid, country).await?;
                let before = found.ok_or_else(Error::not_found)?;
                let is_same = messaging_service_sid == before.messaging_service_sid;
                let configuration =
                    MessagingConfiguration { messaging_service_sid, updated_at: now, ..before };
                tx.update_messaging_configuration(&configuration).await?;
                let changed: &[&str] = if is_same { &[] } else { &["messaging_service_sid"] };
                let updated = about(AuditAction::MessagingConfigurationUpdated, &configuration);
                audit.record(tx, updated.detail("changed", changed)).await?;
                Ok::<_, Error>(configuration)
            })
            .await
    }

    /// Deletes a messaging configuration.
    ///
    /// # Errors
    /// Fails with 20404 if the messaging configuration does not exist. Also fails if the database fails.
    pub async fn delete_messaging_configuration(
        &self,
        origin: &Origin,
        configuration: MessagingConfiguration,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let MessagingConfiguration { account_sid, service_sid, country, .. } = configuration;
                if !tx.delete_messaging_configuration(account_sid, service_sid, country).await? {
                    return Err(Error::not_found());
                }
                audit.record(tx, about(AuditAction::MessagingConfigurationDeleted, &configuration)).await
            })
            .await
    }
}

/// Returns the change to record in the audit log for an action on a messaging configuration. Callers know no SID of a
/// messaging configuration, so the record names its service and its country.
fn about(action: AuditAction, configuration: &MessagingConfiguration) -> Change {
    let change = Change::new(action, configuration.account_sid, configuration.service_sid);
    change.detail("country", configuration.country.as_str())
}
