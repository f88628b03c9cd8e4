//! Alerts.

use domain::alerts::Alert;
use domain::audit::{Act, Change};
use domain::{AccountSid, AlertSid, CallbackUrl, Page, PageRequest};
pub use store::AlertFilter;
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// An alert.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn alert(&self, account_sid: AccountSid, sid: AlertSid) -> Result<Alert, Error> {
        self.store
            .read(async move |db: &mut Read| db.alert(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// The alerts of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alerts(
        &self,
        account_sid: AccountSid,
        filter: AlertFilter,
        page: PageRequest,
    ) -> Result<Page<Alert>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.alerts(account_sid, filter, &page).await?)).await
    }

    /// Sets where an account hears of its alerts; nowhere when `None`.
    ///
    /// # Errors
    /// 20404; when the database fails.
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
                let change = Change::new(Act::AccountUpdated, sid, sid);
                audit.note(tx, change.with("changed", ["debugger_webhook"])).await
            })
            .await
    }
}
