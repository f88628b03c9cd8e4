//! Push credentials.

use domain::credentials::{Credential, CredentialType};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, CredentialSid, FriendlyName, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::sql::{Row, bind};
use crate::{Read, Write};

const COLUMNS: &str =
    "sid, account_sid, friendly_name, type, sandbox, content, expires_at, created_at, updated_at";

fn credential(row: &Row) -> Result<Credential, Error> {
    Ok(Credential {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        friendly_name: row.optional_text("friendly_name")?.map(FriendlyName::from_stored),
        credential_type: row.word::<CredentialType>("type")?,
        sandbox: row.int("sandbox")? != 0,
        content: row.sealed("content")?,
        expires_at: row.optional_timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Of this account; `lock` is how it is held.
fn by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM credentials WHERE sid = $1 AND account_sid = $2{lock}")
}

impl Read {
    /// A push credential of this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<Option<Credential>, Error> {
        self.one(by_sid(""), bind![sid, account_sid]).await?.as_ref().map(credential).transpose()
    }

    /// The push credentials of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn credentials(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<Credential>, Error> {
        let list = List::of(COLUMNS, "credentials").only("account_sid = ?", bind![account_sid]);
        list.page::<CredentialSid, _>(self, request, credential).await
    }

    /// The push credentials of all accounts, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn all_credentials(&mut self) -> Result<Vec<Credential>, Error> {
        let rows =
            self.all(format!("SELECT {COLUMNS} FROM credentials ORDER BY created_at, sid"), bind![]).await?;
        rows.iter().map(credential).collect()
    }
}

impl Write {
    /// Adds a push credential.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such account.
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
        self.all(sql, values).await.map(drop)
    }

    /// A push credential of this account, held until the transaction ends, so that what is changed is what was read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<Option<Credential>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.one(by_sid(lock), bind![sid, account_sid]).await?.as_ref().map(credential).transpose()
    }

    /// Writes what can change of a push credential; whoever was warned of its end is warned of a new one.
    ///
    /// # Errors
    /// When the database fails.
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
        self.all(sql, values).await.map(drop)
    }

    /// Removes a push credential; `false` when there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_credential(
        &mut self,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM credentials WHERE sid = $1 AND account_sid = $2 RETURNING sid";
        Ok(self.one(sql, bind![sid, account_sid]).await?.is_some())
    }

    /// The credentials that end within so many days and whose accounts were not warned of that yet; from
    /// now on they count as warned.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ending_credentials(&mut self, days: i64, now: Timestamp) -> Result<Vec<Credential>, Error> {
        let sql = format!(
            "UPDATE credentials SET warned_days = $1 \
             WHERE expires_at <= $2 AND (warned_days IS NULL OR warned_days > $1) RETURNING {COLUMNS}"
        );
        self.all(sql, bind![days, now.plus_seconds(days * 86_400)]).await?.iter().map(credential).collect()
    }
}
