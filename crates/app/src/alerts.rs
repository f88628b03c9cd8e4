//! Use cases of alerts: fetch one alert, and list the alerts of an account.

use domain::alerts::Alert;
use domain::{AccountSid, AlertSid, Page, PageRequest};
pub use store::AlertFilter;
use store::Read;

use crate::App;
use crate::error::Error;

impl App {
    /// Returns the alert `sid` of an account.
    ///
    /// # Errors
    /// Fails with 20404 if the alert does not exist. Also fails if the database fails.
    pub async fn alert(&self, account_sid: AccountSid, sid: AlertSid) -> Result<Alert, Error> {
        self.store
            .read(async move |db: &mut Read| db.alert(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns one page of an account's alerts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn alerts(
        &self,
        account_sid: AccountSid,
        filter: AlertFilter,
        page: PageRequest,
    ) -> Result<Page<Alert>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.alerts(account_sid, filter, &page).await?)).await
    }
}
