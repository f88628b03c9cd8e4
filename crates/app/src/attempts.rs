//! Use cases of attempts: reports on the messages with one-time codes.

use domain::verifications::{Attempt, AttemptSummary, reported_since};
use domain::{AccountSid, AttemptSid, Page, PageRequest, Timestamp};
pub use store::AttemptFilter;
use store::Read;

use crate::App;
use crate::error::Error;

impl App {
    /// Returns the attempt `sid` of an account.
    ///
    /// # Errors
    /// Fails with 20404 if the attempt does not exist or is too old to be reported. Also fails if the database fails.
    pub async fn attempt(&self, account_sid: AccountSid, sid: AttemptSid) -> Result<Attempt, Error> {
        let since = reported_since(self.clock.now());
        self.store
            .read(async move |db: &mut Read| {
                let found = db.attempt(account_sid, sid).await?;
                found.filter(|attempt| attempt.created_at >= since).ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of an account's reported attempts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn attempts(
        &self,
        account_sid: AccountSid,
        filter: AttemptFilter,
        page: PageRequest,
    ) -> Result<Page<Attempt>, Error> {
        let filter = reported(filter, self.clock.now());
        self.store.read(async move |db: &mut Read| Ok(db.attempts(account_sid, &filter, &page).await?)).await
    }

    /// Counts an account's reported attempts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn attempt_summary(
        &self,
        account_sid: AccountSid,
        filter: AttemptFilter,
    ) -> Result<AttemptSummary, Error> {
        let filter = reported(filter, self.clock.now());
        self.store.read(async move |db: &mut Read| Ok(db.attempt_summary(account_sid, &filter).await?)).await
    }
}

/// Restricts a filter to the attempts that are reported at `now`.
fn reported(filter: AttemptFilter, now: Timestamp) -> AttemptFilter {
    let since = reported_since(now);
    AttemptFilter { from: Some(filter.from.map_or(since, |from| from.max(since))), ..filter }
}
