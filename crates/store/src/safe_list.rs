//! Queries for the safe list.

use domain::{AccountSid, PhoneNumber, SafeNumber, SafeNumberSid};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

const COLUMNS: &str = "sid, account_sid, phone_number, created_at";

fn parse_safe_number(row: &Row) -> Result<SafeNumber, Error> {
    Ok(SafeNumber {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        phone_number: PhoneNumber::from_stored(row.text("phone_number")?),
        created_at: row.timestamp("created_at")?,
    })
}

impl Read {
    /// Returns the entry of a phone number on an account's safe list, or `None` if the number is not on it.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn safe_number(
        &mut self,
        account_sid: AccountSid,
        number: &PhoneNumber,
    ) -> Result<Option<SafeNumber>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM safe_numbers WHERE account_sid = $1 AND phone_number = $2");
        self.fetch_optional(sql, bind![account_sid, number.as_str()], parse_safe_number).await
    }

    /// Returns whether a phone number is on an account's safe list.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn is_safe_number(
        &mut self,
        account_sid: AccountSid,
        number: &PhoneNumber,
    ) -> Result<bool, Error> {
        Ok(self.safe_number(account_sid, number).await?.is_some())
    }
}

impl Write {
    /// Inserts an entry of the safe list.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] with [`SafeNumber`] if the phone number is already on the account's safe list,
    /// [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    ///
    /// [`SafeNumber`]: crate::Conflict::SafeNumber
    pub async fn insert_safe_number(&mut self, number: &SafeNumber) -> Result<(), Error> {
        let sql =
            "INSERT INTO safe_numbers (sid, account_sid, phone_number, created_at) VALUES ($1, $2, $3, $4)";
        let values = bind![number.sid, number.account_sid, number.phone_number.as_str(), number.created_at];
        self.execute(sql, values).await
    }

    /// Deletes a phone number from an account's safe list. Returns the SID of its entry, or `None` if the number is not
    /// on the list.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_safe_number(
        &mut self,
        account_sid: AccountSid,
        number: &PhoneNumber,
    ) -> Result<Option<SafeNumberSid>, Error> {
        let sql = "DELETE FROM safe_numbers WHERE account_sid = $1 AND phone_number = $2 RETURNING sid";
        self.fetch_optional(sql, bind![account_sid, number.as_str()], |row| row.sid("sid")).await
    }
}
