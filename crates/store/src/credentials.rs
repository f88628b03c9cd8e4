//! Queries for push credentials.

use domain::credentials::{Credential, CredentialType};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, CredentialSid, FriendlyName, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

const COLUMNS: &str =
    "sid, account_sid, friendly_name, type, sandbox, content, expires_at, created_at, updated_at";

fn parse_credential(row: &Row) -> Result<Credential, Error> {
    Ok(Credential {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        friendly_name: row.optional_text("friendly_name")?.map(FriendlyName::from_stored),
        credential_type: row.keyword::<CredentialType>("type")?,
        sandbox: row.int("sandbox")? != 0,
        content: row.sealed("content")?,
        expires_at: row.optional_timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the SQL query that selects one of an account's push credentials. `lock` is the locking clause, or empty for
/// no lock.
fn select_by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM credentials WHERE sid = $1 AND account_sid = $2{lock}")
}

impl Read {
    /// Returns an account's push credential by SID, or `None` if the account has no such credential.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<Option<Credential>, Error> {
        self.fetch_optional(select_by_sid(""), bind![sid, account_sid], parse_credential).await
    }

    /// Returns the requested page of an account's push credentials.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn credentials(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Credential>, Error> {
        let list = ListQuery::select(COLUMNS, "credentials").filter("account_sid = ?", bind![account_sid]);
        list.page(self, request, parse_credential).await
    }

    /// Returns the push credentials of all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn all_credentials(&mut self) -> Result<Vec<Credential>, Error> {
        self.fetch_all(
            format!("SELECT {COLUMNS} FROM credentials ORDER BY created_at, sid"),
            bind![],
            parse_credential,
        )
        .await
    }
}

impl Write {
    /// Inserts a push credential.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    pub async fn insert_credential(&mut self, credential: &Credential) -> Result<(), Error> {
        let sql = "INSERT INTO credentials (sid, account_sid, friendly_name, type, sandbox, content, expires_at, \
                   created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let values = bind![
            credential.sid,
            credential.account_sid,
            credential.friendly_name.as_ref().map(|name| name.as_str()),
            credential.credential_type.as_str(),
            i64::from(credential.sandbox),
            &credential.content,
            credential.expires_at,
            credential.created_at,
            credential.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns an account's push credential, locked against changes by other transactions until this one ends. Returns
    /// `None` if the account has no such credential.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<Option<Credential>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional(select_by_sid(lock), bind![sid, account_sid], parse_credential).await
    }

    /// Updates a push credential's mutable fields. If the expiry time changes, the record of past expiry warnings is
    /// cleared.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_credential(&mut self, credential: &Credential) -> Result<(), Error> {
        let sql = "UPDATE credentials SET friendly_name = $2, sandbox = $3, content = $4, expires_at = $5, \
                   updated_at = $6, warned_days = CASE WHEN expires_at = $5 THEN warned_days END WHERE sid = $1";
        let values = bind![
            credential.sid,
            credential.friendly_name.as_ref().map(|name| name.as_str()),
            i64::from(credential.sandbox),
            &credential.content,
            credential.expires_at,
            credential.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Deletes an account's push credential. Returns `false` if the account has no such credential.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM credentials WHERE sid = $1 AND account_sid = $2 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, account_sid]).await? > 0)
    }

    /// Returns the push credentials that expire within `days` days of `now` and for which no warning for that period
    /// has been sent. Marks these warnings as sent.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn claim_expiring_credentials(
        &mut self,
        days: i64,
        now: Timestamp,
    ) -> Result<Vec<Credential>, Error> {
        let sql = format!(
            "UPDATE credentials SET warned_days = $1 \
             WHERE expires_at <= $2 AND (warned_days IS NULL OR warned_days > $1) RETURNING {COLUMNS}"
        );
        self.fetch_all(sql, bind![days, now.plus_seconds(days * 86_400)], parse_credential).await
    }
}
