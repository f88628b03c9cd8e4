//! Queries for accounts, API keys, enrollment keys (which encrypt access tokens) and server keys.

use domain::{
    Account, AccountSid, ApiKey, ApiKeySid, CallbackUrl, FriendlyName, Page, PageRequest, Parameter, Sealed,
    Timestamp,
};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

const ACCOUNT: &str =
    "sid, friendly_name, auth_token, debugger_webhook, verification_events_url, created_at, updated_at";

fn parse_account(row: &Row) -> Result<Account, Error> {
    Ok(Account {
        sid: row.sid("sid")?,
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        auth_token: row.sealed("auth_token")?,
        debugger_webhook: parse_url(row, "debugger_webhook")?,
        verification_events_url: parse_url(row, "verification_events_url")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn parse_url(row: &Row, column: &str) -> Result<Option<CallbackUrl>, Error> {
    let url = row.optional_text(column)?.map(|url| CallbackUrl::from_parameter(&url));
    url.transpose().map_err(|_| Error::Corrupt(column.to_owned()))
}

const API_KEY: &str = "sid, account_sid, friendly_name, secret_hash, created_at";

fn parse_api_key(row: &Row) -> Result<ApiKey, Error> {
    Ok(ApiKey {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        secret_hash: row.bytes("secret_hash")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// A stored enrollment key. `K` is the type of the key when decrypted.
#[derive(Debug)]
pub struct EnrollmentKeyRow<K> {
    /// The key's ID: the `kid` of the access tokens that are encrypted with this key.
    pub kid: String,
    /// The key itself, sealed with the master key.
    pub secret: Sealed<K>,
}

impl Read {
    /// Returns the account with this SID, or `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn account(&mut self, sid: AccountSid) -> Result<Option<Account>, Error> {
        let sql = format!("SELECT {ACCOUNT} FROM accounts WHERE sid = $1");
        self.fetch_optional(sql, bind![sid], parse_account).await
    }

    /// Returns all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn accounts(&mut self) -> Result<Vec<Account>, Error> {
        let sql = format!("SELECT {ACCOUNT} FROM accounts ORDER BY created_at, sid");
        self.fetch_all(sql, bind![], parse_account).await
    }

    /// Returns the API key with this SID, of any account, or `None` if there is none. For authentication, which does
    /// not know the account yet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn api_key(&mut self, sid: ApiKeySid) -> Result<Option<ApiKey>, Error> {
        let sql = format!("SELECT {API_KEY} FROM api_keys WHERE sid = $1");
        self.fetch_optional(sql, bind![sid], parse_api_key).await
    }

    /// Returns an account's API key by SID, or `None` if the account has no such key.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn api_key_of_account(
        &mut self,
        account_sid: AccountSid,
        sid: ApiKeySid,
    ) -> Result<Option<ApiKey>, Error> {
        let sql = format!("SELECT {API_KEY} FROM api_keys WHERE sid = $1 AND account_sid = $2");
        self.fetch_optional(sql, bind![sid, account_sid], parse_api_key).await
    }

    /// Returns the requested page of an account's API keys.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn api_keys(
        &mut self,
        account_sid: AccountSid,
        request: &PageRequest,
    ) -> Result<Page<ApiKey>, Error> {
        let list = ListQuery::select(API_KEY, "api_keys").filter("account_sid = ?", bind![account_sid]);
        list.page(self, request, parse_api_key).await
    }

    /// Returns all API keys of an account, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn all_api_keys(&mut self, account_sid: AccountSid) -> Result<Vec<ApiKey>, Error> {
        let sql = format!("SELECT {API_KEY} FROM api_keys WHERE account_sid = $1 ORDER BY created_at, sid");
        self.fetch_all(sql, bind![account_sid], parse_api_key).await
    }

    /// Returns all enrollment keys, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn enrollment_keys<K>(&mut self) -> Result<Vec<EnrollmentKeyRow<K>>, Error> {
        let sql = "SELECT kid, secret FROM enrollment_keys ORDER BY kid";
        self.fetch_all(sql, bind![], |row| {
            Ok(EnrollmentKeyRow { kid: row.text("kid")?, secret: row.sealed("secret")? })
        })
        .await
    }

    /// Returns the server key called `name`, sealed, or `None` if there is none. Server keys are used only by the
    /// servers themselves. `K` is the type of the key when decrypted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn server_key<K>(&mut self, name: &str) -> Result<Option<Sealed<K>>, Error> {
        let sql = "SELECT secret FROM server_keys WHERE name = $1";
        self.fetch_optional(sql, bind![name], |row| row.sealed("secret")).await
    }
}

impl Write {
    /// Inserts the server key called `name`, created at `now`. Server keys are used only by the servers themselves.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_server_key<K>(
        &mut self,
        name: &str,
        secret: &Sealed<K>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO server_keys (name, secret, created_at) VALUES ($1, $2, $3)";
        self.execute(sql, bind![name, secret, now]).await
    }

    /// Deletes every enrollment key whose successor was created before the instant `before`. Returns the number of keys
    /// deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_replaced_enrollment_keys(&mut self, before: Timestamp) -> Result<usize, Error> {
        let sql = "DELETE FROM enrollment_keys WHERE kid < \
                   (SELECT max(kid) FROM enrollment_keys WHERE created_at < $1) RETURNING kid";
        self.count_rows(sql, bind![before]).await
    }

    /// Inserts an account. Returns `false`, changing nothing, if an account with this SID already exists.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_account(&mut self, account: &Account) -> Result<bool, Error> {
        let sql = "INSERT INTO accounts (sid, friendly_name, auth_token, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (sid) DO NOTHING RETURNING sid";
        let values = bind![
            account.sid,
            account.friendly_name.as_str(),
            &account.auth_token,
            account.created_at,
            account.updated_at
        ];
        Ok(self.count_rows(sql, values).await? > 0)
    }

    /// Locks an account against changes by other transactions until this one ends, so that its resources can be
    /// counted. Returns `false` if there is no such account.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_account(&mut self, sid: AccountSid) -> Result<bool, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let sql = format!("SELECT sid FROM accounts WHERE sid = $1{lock}");
        Ok(self.count_rows(sql, bind![sid]).await? > 0)
    }

    /// Replaces an account's auth token and sets its update time to `now`. Returns `false` if there is no such account.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_auth_token(
        &mut self,
        sid: AccountSid,
        auth_token: &Sealed<domain::accounts::AuthToken>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let sql = "UPDATE accounts SET auth_token = $2, updated_at = $3 WHERE sid = $1 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, auth_token, now]).await? > 0)
    }

    /// Sets the URL to which an account's alerts are sent, or removes it if `url` is `None`. Returns `false` if there
    /// is no such account.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_debugger_webhook(
        &mut self,
        sid: AccountSid,
        url: Option<&CallbackUrl>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let sql = "UPDATE accounts SET debugger_webhook = $2, updated_at = $3 WHERE sid = $1 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, url.map(CallbackUrl::as_str), now]).await? > 0)
    }

    /// Sets the URL to which events about an account's verifications are sent, or removes it if `url` is `None`. Returns
    /// `false` if there is no such account.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_verification_events_url(
        &mut self,
        sid: AccountSid,
        url: Option<&CallbackUrl>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let sql =
            "UPDATE accounts SET verification_events_url = $2, updated_at = $3 WHERE sid = $1 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, url.map(CallbackUrl::as_str), now]).await? > 0)
    }

    /// Inserts an API key.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    pub async fn insert_api_key(&mut self, key: &ApiKey) -> Result<(), Error> {
        let sql = "INSERT INTO api_keys (sid, account_sid, friendly_name, secret_hash, created_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let values = bind![
            key.sid,
            key.account_sid,
            key.friendly_name.as_str(),
            key.secret_hash.as_slice(),
            key.created_at
        ];
        self.execute(sql, values).await
    }

    /// Renames an account's API key, and returns the key. Returns `None` if the account has no such key.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn rename_api_key(
        &mut self,
        account_sid: AccountSid,
        sid: ApiKeySid,
        friendly_name: &FriendlyName,
    ) -> Result<Option<ApiKey>, Error> {
        let sql = format!(
            "UPDATE api_keys SET friendly_name = $3 WHERE sid = $1 AND account_sid = $2 RETURNING {API_KEY}"
        );
        self.fetch_optional(sql, bind![sid, account_sid, friendly_name.as_str()], parse_api_key).await
    }

    /// Deletes an API key. Returns the SID of the account that owned the key, or `None` if there is no such key.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_api_key(&mut self, sid: ApiKeySid) -> Result<Option<AccountSid>, Error> {
        let sql = "DELETE FROM api_keys WHERE sid = $1 RETURNING account_sid";
        self.fetch_optional(sql, bind![sid], |row| row.sid("account_sid")).await
    }

    /// Inserts an enrollment key, created at `now`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_enrollment_key<K>(
        &mut self,
        key: &EnrollmentKeyRow<K>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO enrollment_keys (kid, secret, created_at) VALUES ($1, $2, $3)";
        self.execute(sql, bind![key.kid.as_str(), &key.secret, now]).await
    }

    /// Locks the table of enrollment keys until the transaction ends, so that only one of several servers that start at
    /// the same time creates the first key or the first account.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_enrollment_keys(&mut self) -> Result<(), Error> {
        // SQLite needs no lock: this is the only write connection.
        if self.connection.is_postgres() {
            self.execute("LOCK TABLE enrollment_keys IN SHARE ROW EXCLUSIVE MODE", bind![]).await?;
        }
        Ok(())
    }
}
