//! Use cases of the safe list: add, fetch and delete a phone number.

use domain::audit::{AuditAction, Change};
use domain::{AccountSid, PhoneNumber, SafeNumber, SafeNumberSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Adds a phone number to an account's safe list, and returns its entry.
    ///
    /// # Errors
    /// Fails with 60411 if the number is already on the list. Also fails if the database fails.
    pub async fn create_safe_number(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        phone_number: PhoneNumber,
    ) -> Result<SafeNumber, Error> {
        let now = self.clock.now();
        let sid = SafeNumberSid::generate(now, self.entropy.as_ref());
        let number = SafeNumber { sid, account_sid, phone_number, created_at: now };
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_safe_number(&number).await?;
                audit.record(tx, Change::new(AuditAction::SafeNumberCreated, account_sid, sid)).await?;
                Ok(number.clone())
            })
            .await
    }

    /// Returns the entry of a phone number on an account's safe list.
    ///
    /// # Errors
    /// Fails with 20404 if the number is not on the list. Also fails if the database fails.
    pub async fn safe_number(
        &self,
        account_sid: AccountSid,
        phone_number: PhoneNumber,
    ) -> Result<SafeNumber, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.safe_number(account_sid, &phone_number).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Deletes a phone number from its account's safe list.
    ///
    /// # Errors
    /// Fails with 20404 if the number is not on the list. Also fails if the database fails.
    pub async fn delete_safe_number(&self, origin: &Origin, number: SafeNumber) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        let account_sid = number.account_sid;
        self.store
            .write(async move |tx: &mut Write| {
                let deleted = tx.delete_safe_number(account_sid, &number.phone_number).await?;
                let sid = deleted.ok_or_else(Error::not_found)?;
                audit.record(tx, Change::new(AuditAction::SafeNumberDeleted, account_sid, sid)).await
            })
            .await
    }
}
