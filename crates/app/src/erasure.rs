//! Erasure of everything that tests created on a test server.

use std::sync::Arc;

use domain::{AccountSid, Timestamp};
use store::Write;

use crate::App;
use crate::audit::{Origin, chain};
use crate::error::Error;

/// Number of audit records that one transaction removes.
const ERASURE_BATCH: i64 = 1000;

/// What an erasure leaves.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The account that always stays.
    pub account_sid: AccountSid,
    /// Whether the other accounts and the API keys stay.
    pub accounts: bool,
    /// Whether the push credentials stay.
    pub credentials: bool,
}

impl App {
    /// Deletes what tests created: services with everything in them, deliveries, alerts, audit records, and what `kept`
    /// does not name. Only a test server calls this.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn erase(&self, kept: Kept) -> Result<(), Error> {
        self.store
            .write(async move |tx: &mut Write| {
                Ok::<_, Error>(tx.erase(kept.account_sid, kept.accounts, kept.credentials).await?)
            })
            .await?;
        // Records leave the chain at its start, as they do after their retention, so the chain stays valid.
        chain::append_unchained(self).await?;
        loop {
            let (state, audit) = (Arc::clone(&self.chain), self.audit(&Origin::housekeeping(), self.now()));
            let end = Timestamp::from_micros(i64::MAX);
            let remove = async move |tx: &mut Write| {
                chain::remove_old_records(tx, &state, &audit, end, ERASURE_BATCH).await
            };
            if self.store.write(remove).await? == 0 {
                return Ok(());
            }
        }
    }
}
