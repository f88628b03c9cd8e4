//! Use cases of alerts: fetch and list alerts, and set the debugger webhook that receives them.

use domain::alerts::Alert;
use domain::audit::{AuditAction, Change};
use domain::{AccountSid, AlertSid, CallbackUrl, Page, PageRequest};
pub use store::AlertFilter;
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
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

    /// Sets the URL of an account's debugger webhook, which receives the account's alerts. `None` removes the debugger
    /// webhook.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn set_debugger_webhook(
        &self,
        origin: &Origin,
        sid: AccountSid,
        url: Option<CallbackUrl>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                if !tx.set_debugger_webhook(sid, url.as_ref(), now).await? {
                    return Err(Error::not_found());
                }
                let change = Change::new(AuditAction::AccountUpdated, sid, sid);
                audit.record(tx, change.detail("changed", ["debugger_webhook"])).await
            })
            .await
    }
}
