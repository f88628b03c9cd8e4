//! Queries for messaging configurations.

use domain::messaging_configurations::{MessagingConfiguration, MessagingCountry};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Country, MessagingServiceSid, ServiceSid};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

const COLUMNS: &str = "sid, account_sid, service_sid, country, messaging_service_sid, created_at, updated_at";

fn parse_configuration(row: &Row) -> Result<MessagingConfiguration, Error> {
    Ok(MessagingConfiguration {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        country: row.keyword::<MessagingCountry>("country")?,
        messaging_service_sid: row.sid("messaging_service_sid")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the SQL query that selects one of a service's messaging configurations. `lock` is the locking clause, or
/// empty for no lock.
fn select_by_country(lock: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM messaging_configurations \
         WHERE country = $1 AND service_sid = $2 AND account_sid = $3{lock}"
    )
}

impl Read {
    /// Returns a service's messaging configuration for a country, or `None` if the service has none with exactly
    /// this country.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn messaging_configuration(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        country: MessagingCountry,
    ) -> Result<Option<MessagingConfiguration>, Error> {
        let values = bind![country.as_str(), service_sid, account_sid];
        self.fetch_optional(select_by_country(""), values, parse_configuration).await
    }

    /// Returns the requested page of a service's messaging configurations.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn messaging_configurations(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        request: &PageRequest,
    ) -> Result<Page<MessagingConfiguration>, Error> {
        let list = ListQuery::select(COLUMNS, "messaging_configurations")
            .filter("service_sid = ? AND account_sid = ?", bind![service_sid, account_sid]);
        list.page(self, request, parse_configuration).await
    }

    /// Returns the outlets that a service's messaging configurations name for text messages to `country`: first the one
    /// for this country, then the one for all countries.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn messaging_services_for(
        &mut self,
        service_sid: ServiceSid,
        country: Option<Country>,
    ) -> Result<Vec<MessagingServiceSid>, Error> {
        let sql = "SELECT messaging_service_sid FROM messaging_configurations \
                   WHERE service_sid = $1 AND country IN ($2, $3) ORDER BY country = $3";
        let all = MessagingCountry::All;
        let country = country.map_or(all, MessagingCountry::Only);
        let values = bind![service_sid, country.as_str(), all.as_str()];
        self.fetch_all(sql, values, |row| row.sid("messaging_service_sid")).await
    }

    /// Returns the messaging configurations of all accounts whose outlet does not exist in their account, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn messaging_configurations_without_outlet(
        &mut self,
    ) -> Result<Vec<MessagingConfiguration>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM messaging_configurations AS c WHERE NOT EXISTS (SELECT 1 FROM outlets \
             WHERE outlets.sid = c.messaging_service_sid AND outlets.account_sid = c.account_sid) \
             ORDER BY created_at, sid"
        );
        self.fetch_all(sql, bind![], parse_configuration).await
    }
}

impl Write {
    /// Inserts a messaging configuration.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] with [`MessagingCountry`] if the service already has a messaging configuration for
    /// this country, [`Error::ParentGone`] if the service does not exist, or another error if the database operation
    /// fails.
    ///
    /// [`MessagingCountry`]: crate::Conflict::MessagingCountry
    pub async fn insert_messaging_configuration(
        &mut self,
        configuration: &MessagingConfiguration,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO messaging_configurations (sid, account_sid, service_sid, country, \
                   messaging_service_sid, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = bind![
            configuration.sid,
            configuration.account_sid,
            configuration.service_sid,
            configuration.country.as_str(),
            configuration.messaging_service_sid,
            configuration.created_at,
            configuration.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns a service's messaging configuration, locked against changes by other transactions until this one ends.
    /// Returns `None` if the service has none with exactly this country.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_messaging_configuration(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        country: MessagingCountry,
    ) -> Result<Option<MessagingConfiguration>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let values = bind![country.as_str(), service_sid, account_sid];
        self.fetch_optional(select_by_country(lock), values, parse_configuration).await
    }

    /// Updates a messaging configuration's mutable fields.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_messaging_configuration(
        &mut self,
        configuration: &MessagingConfiguration,
    ) -> Result<(), Error> {
        let sql =
            "UPDATE messaging_configurations SET messaging_service_sid = $2, updated_at = $3 WHERE sid = $1";
        let values = bind![configuration.sid, configuration.messaging_service_sid, configuration.updated_at];
        self.execute(sql, values).await
    }

    /// Deletes a service's messaging configuration. Returns `false` if the service has none with exactly this
    /// country.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_messaging_configuration(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        country: MessagingCountry,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM messaging_configurations \
                   WHERE country = $1 AND service_sid = $2 AND account_sid = $3 RETURNING sid";
        Ok(self.count_rows(sql, bind![country.as_str(), service_sid, account_sid]).await? > 0)
    }
}
