//! Services.

use domain::paging::{Page, PageRequest};
use domain::{AccountSid, Service, ServiceSid};

use crate::error::Error;
use crate::listing::List;
use crate::sql::{Row, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str = "sid, account_sid, settings, created_at, updated_at";

fn service(row: &Row) -> Result<Service, Error> {
    Ok(Service {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        settings: row.json("settings")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

impl Read {
    /// A service of this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM services WHERE sid = $1 AND account_sid = $2");
        self.one(sql, bind![sid, account_sid]).await?.as_ref().map(service).transpose()
    }

    /// The services of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn services(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Service>, Error> {
        let list = List::of(COLUMNS, "services").only("account_sid = ?", bind![account_sid]);
        list.page::<ServiceSid, _>(self, request, service).await
    }
}

impl Write {
    /// Adds a service.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such account.
    pub async fn insert_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "INSERT INTO services (sid, account_sid, settings, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let settings = to_json(&service.settings);
        let values =
            bind![service.sid, service.account_sid, settings, service.created_at, service.updated_at];
        self.all(sql, values).await.map(drop)
    }

    /// A service of this account, held until the transaction ends, so that what is changed is what was read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_service(
        &mut self,
        account_sid: AccountSid,
        sid: ServiceSid,
    ) -> Result<Option<Service>, Error> {
        let sql = if self.connection.is_postgres() {
            format!("SELECT {COLUMNS} FROM services WHERE sid = $1 AND account_sid = $2 FOR NO KEY UPDATE")
        } else {
            format!("SELECT {COLUMNS} FROM services WHERE sid = $1 AND account_sid = $2")
        };
        self.one(sql, bind![sid, account_sid]).await?.as_ref().map(service).transpose()
    }

    /// Replaces a service's settings.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn update_service(&mut self, service: &Service) -> Result<(), Error> {
        let sql = "UPDATE services SET settings = $2, updated_at = $3 WHERE sid = $1";
        let values = bind![service.sid, to_json(&service.settings), service.updated_at];
        self.all(sql, values).await.map(drop)
    }

    /// Removes a service and everything under it; `false` when there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_service(&mut self, account_sid: AccountSid, sid: ServiceSid) -> Result<bool, Error> {
        let sql = "DELETE FROM services WHERE sid = $1 AND account_sid = $2 RETURNING sid";
        Ok(self.one(sql, bind![sid, account_sid]).await?.is_some())
    }
}
