//! Queries for outlets, through which one-time codes are sent.

use std::num::NonZeroU32;

use domain::outlets::{Outlet, OutletKind, OutletSid};
use domain::{AccountSid, Channel, FriendlyName};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str =
    "sid, account_sid, friendly_name, kind, channels, settings, rate, created_at, updated_at";

fn parse_outlet(row: &Row) -> Result<Outlet, Error> {
    let sid = row.id("sid")?;
    let account_sid = row.sid("account_sid")?;
    let friendly_name = FriendlyName::from_stored(row.text("friendly_name")?);
    let kind = row.keyword::<OutletKind>("kind")?;
    let channels: Vec<Channel> = row.json("channels")?;
    Ok(Outlet {
        sid: OutletSid::from_stored(sid, &channels),
        account_sid,
        friendly_name,
        kind,
        channels,
        content: row.sealed("settings")?,
        rate: row.optional_int("rate")?.map(parse_rate).transpose()?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn parse_rate(rate: i64) -> Result<NonZeroU32, Error> {
    let rate = u32::try_from(rate).ok().and_then(NonZeroU32::new);
    rate.ok_or_else(|| Error::Corrupt("rate".to_owned()))
}

/// Returns an outlet's rate as it is stored.
fn rate_value(outlet: &Outlet) -> Option<i64> {
    outlet.rate.map(|rate| i64::from(rate.get()))
}

/// Returns the SQL query that selects one of an account's outlets. `lock` is the locking clause, or empty for no lock.
fn select_by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM outlets WHERE sid = $1 AND account_sid = $2{lock}")
}

impl Read {
    /// Returns an account's outlet by SID, or `None` if the account has no such outlet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn outlet(&mut self, account_sid: AccountSid, sid: OutletSid) -> Result<Option<Outlet>, Error> {
        let found = self.fetch_optional(select_by_sid(""), bind![sid, account_sid], parse_outlet).await?;
        // The prefix of a SID, which is not stored, follows from the channels.
        Ok(found.filter(|outlet| outlet.sid == sid))
    }

    /// Returns the outlets of an account, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn outlets_of_account(&mut self, account_sid: AccountSid) -> Result<Vec<Outlet>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM outlets WHERE account_sid = $1 ORDER BY created_at, sid");
        self.fetch_all(sql, bind![account_sid], parse_outlet).await
    }

    /// Returns the outlets of all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn all_outlets(&mut self) -> Result<Vec<Outlet>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM outlets ORDER BY created_at, sid");
        self.fetch_all(sql, bind![], parse_outlet).await
    }
}

impl Write {
    /// Counts the outlets of an account. Lock the account first, so that no other transaction adds one.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_outlets(&mut self, account_sid: AccountSid) -> Result<i64, Error> {
        let sql = "SELECT count(*) AS count FROM outlets WHERE account_sid = $1";
        Ok(self.fetch_optional(sql, bind![account_sid], |row| row.int("count")).await?.unwrap_or(0))
    }

    /// Inserts an outlet.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    pub async fn insert_outlet(&mut self, outlet: &Outlet) -> Result<(), Error> {
        let sql = "INSERT INTO outlets (sid, account_sid, friendly_name, kind, channels, settings, rate, created_at, \
                   updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let values = bind![
            outlet.sid,
            outlet.account_sid,
            outlet.friendly_name.as_str(),
            outlet.kind.as_str(),
            to_json(&outlet.channels),
            &outlet.content,
            rate_value(outlet),
            outlet.created_at,
            outlet.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns an account's outlet, locked against changes by other transactions until this one ends. Returns `None` if
    /// the account has no such outlet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_outlet(
        &mut self,
        account_sid: AccountSid,
        sid: OutletSid,
    ) -> Result<Option<Outlet>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let found = self.fetch_optional(select_by_sid(lock), bind![sid, account_sid], parse_outlet).await?;
        Ok(found.filter(|outlet| outlet.sid == sid))
    }

    /// Updates an outlet's mutable fields. Its kind, and whether it sends mail, must not change.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_outlet(&mut self, outlet: &Outlet) -> Result<(), Error> {
        let sql = "UPDATE outlets SET friendly_name = $2, channels = $3, settings = $4, rate = $5, updated_at = $6 \
                   WHERE sid = $1";
        let values = bind![
            outlet.sid,
            outlet.friendly_name.as_str(),
            to_json(&outlet.channels),
            &outlet.content,
            rate_value(outlet),
            outlet.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Deletes an account's outlet. Returns `false` if the account has no such outlet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_outlet(&mut self, account_sid: AccountSid, sid: OutletSid) -> Result<bool, Error> {
        let sql = "DELETE FROM outlets WHERE sid = $1 AND account_sid = $2 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, account_sid]).await? > 0)
    }
}
