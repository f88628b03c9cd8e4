//! Accounts and API keys. Operators manage both on the command line, and an account manages its API keys over HTTP.

use domain::accounts::{ApiKeySecret, AuthToken};
use domain::audit::{AuditAction, Change};
use domain::{
    Account, AccountSid, ApiKey, ApiKeySid, CallbackUrl, Expected, FriendlyName, Page, PageRequest,
    Parameter as _,
};
use store::{Read, Write};

use crate::App;
use crate::audit::{AuditWriter, Origin};
use crate::error::Error;

/// An account together with its auth token in plaintext.
#[derive(Debug)]
pub struct AccountWithToken {
    /// The account.
    pub account: Account,
    /// The account's auth token, in plaintext.
    pub auth_token: AuthToken,
}

/// A new API key together with its secret, which cannot be read again later.
#[derive(Debug)]
pub struct ApiKeyWithSecret {
    /// The API key.
    pub key: ApiKey,
    /// The API key's secret, in plaintext. The database only stores a hash of it.
    pub secret: ApiKeySecret,
}

/// Changes of an account.
#[derive(Clone, Debug, Default)]
pub struct AccountChanges {
    /// URL that receives the account's alerts.
    pub debugger_webhook: UrlChange,
    /// URL that receives events about the account's verifications.
    pub verification_events_url: UrlChange,
}

/// A change of an optional URL.
#[derive(Clone, Debug, Default)]
pub enum UrlChange {
    /// The URL stays as it is.
    #[default]
    Keep,
    /// The URL is removed.
    Remove,
    /// The URL is replaced by this one.
    Set(CallbackUrl),
}

impl UrlChange {
    /// Parses the URL that an operator gives. `None` changes nothing, and an empty text removes the URL.
    ///
    /// # Errors
    /// Returns what is expected if the text is no URL.
    pub fn parse(text: Option<&str>) -> Result<Self, Expected> {
        match text {
            None => Ok(Self::Keep),
            Some("") => Ok(Self::Remove),
            Some(url) => CallbackUrl::from_parameter(url).map(Self::Set),
        }
    }

    /// Returns the new URL, which may be none. Returns `None` if nothing changes.
    pub const fn value(&self) -> Option<Option<&CallbackUrl>> {
        match self {
            Self::Keep => None,
            Self::Remove => Some(None),
            Self::Set(url) => Some(Some(url)),
        }
    }
}

impl App {
    /// Creates an account. A SID or auth token that is `None` is generated. Returns `None`, and changes nothing, if an
    /// account with the given SID already exists.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn create_account(
        &self,
        origin: &Origin,
        sid: Option<AccountSid>,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> Result<Option<AccountWithToken>, Error> {
        let new = self.new_account(sid, auth_token, friendly_name);
        let (row, audit) = (new.account.clone(), self.audit(origin, new.account.created_at));
        let is_new = self.store.write(async move |tx: &mut Write| insert(tx, &row, &audit).await).await?;
        Ok(is_new.then_some(new))
    }

    /// Creates an account if the database has no account yet, with the given auth token or a generated one. Returns
    /// `None` if an account already exists; if several servers start at once, only one of them creates it.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn create_first_account(
        &self,
        origin: &Origin,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> Result<Option<AccountWithToken>, Error> {
        let new = self.new_account(None, auth_token, friendly_name);
        let (row, audit) = (new.account.clone(), self.audit(origin, new.account.created_at));
        let is_first = self
            .store
            .write(async move |tx: &mut Write| {
                tx.lock_enrollment_keys().await?;
                Ok::<_, Error>(tx.accounts().await?.is_empty() && insert(tx, &row, &audit).await?)
            })
            .await?;
        Ok(is_first.then_some(new))
    }

    /// Builds an account without storing it, with the given SID and auth token or generated ones.
    fn new_account(
        &self,
        sid: Option<AccountSid>,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> AccountWithToken {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let sid = sid.unwrap_or_else(|| AccountSid::generate(now, entropy));
        let auth_token = auth_token.unwrap_or_else(|| AuthToken::generate(entropy));
        let sealed = self.master_keys.seal(&auth_token, &sid.to_string(), entropy);
        let account = Account {
            sid,
            friendly_name,
            auth_token: sealed,
            debugger_webhook: None,
            verification_events_url: None,
            created_at: now,
            updated_at: now,
        };
        AccountWithToken { account, auth_token }
    }

    /// Returns all accounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn accounts(&self) -> Result<Vec<Account>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.accounts().await?)).await
    }

    /// Returns the account `sid`, with its auth token sealed.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn account(&self, sid: AccountSid) -> Result<Account, Error> {
        self.store.read(async move |db: &mut Read| db.account(sid).await?.ok_or_else(Error::not_found)).await
    }

    /// Returns the account `sid` together with its auth token in plaintext.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn account_with_token(&self, sid: AccountSid) -> Result<AccountWithToken, Error> {
        let account = self.account(sid).await?;
        let auth_token = self.master_keys.open(&account.auth_token, &sid.to_string())?;
        Ok(AccountWithToken { account, auth_token })
    }

    /// Replaces the auth token of an account with a generated one, and returns the new token in plaintext. The previous
    /// token stops working immediately.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn rotate_auth_token(&self, origin: &Origin, sid: AccountSid) -> Result<AuthToken, Error> {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let auth_token = AuthToken::generate(entropy);
        let sealed = self.master_keys.seal(&auth_token, &sid.to_string(), entropy);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| match tx.update_auth_token(sid, &sealed, now).await? {
                true => audit.record(tx, Change::new(AuditAction::AuthTokenRotated, sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await?;
        Ok(auth_token)
    }

    /// Changes an account.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn update_account(
        &self,
        origin: &Origin,
        sid: AccountSid,
        changes: AccountChanges,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let mut changed = Vec::new();
                if let Some(url) = changes.debugger_webhook.value() {
                    if !tx.set_debugger_webhook(sid, url, now).await? {
                        return Err(Error::not_found());
                    }
                    changed.push("debugger_webhook");
                }
                if let Some(url) = changes.verification_events_url.value() {
                    if !tx.set_verification_events_url(sid, url, now).await? {
                        return Err(Error::not_found());
                    }
                    changed.push("verification_events_url");
                }
                if changed.is_empty() {
                    return Ok(());
                }
                let change = Change::new(AuditAction::AccountUpdated, sid, sid);
                audit.record(tx, change.detail("changed", changed)).await
            })
            .await
    }

    /// Creates an API key for an account, and returns it with its secret.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist. Also fails if the database fails.
    pub async fn create_api_key(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        friendly_name: FriendlyName,
    ) -> Result<ApiKeyWithSecret, Error> {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let sid = ApiKeySid::generate(now, entropy);
        let secret = ApiKeySecret::generate(entropy);
        let secret_hash = self.hashing.hash_secret(sid, secret.expose());
        let key = ApiKey { sid, account_sid, friendly_name, secret_hash, created_at: now };
        let (row, audit) = (key.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_api_key(&row).await?;
                audit.record(tx, Change::new(AuditAction::ApiKeyCreated, account_sid, sid)).await
            })
            .await?;
        Ok(ApiKeyWithSecret { key, secret })
    }

    /// Returns the API key `sid` of an account.
    ///
    /// # Errors
    /// Fails with 20404 if the API key does not exist. Also fails if the database fails.
    pub async fn api_key(&self, account_sid: AccountSid, sid: ApiKeySid) -> Result<ApiKey, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.api_key_of_account(account_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of an account's API keys.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn api_keys(&self, account_sid: AccountSid, page: PageRequest) -> Result<Page<ApiKey>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.api_keys(account_sid, &page).await?)).await
    }

    /// Returns all API keys of an account, oldest first. For operators.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_api_keys(&self, account_sid: AccountSid) -> Result<Vec<ApiKey>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.all_api_keys(account_sid).await?)).await
    }

    /// Renames an API key, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the API key does not exist. Also fails if the database fails.
    pub async fn rename_api_key(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: ApiKeySid,
        friendly_name: FriendlyName,
    ) -> Result<ApiKey, Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let renamed = tx.rename_api_key(account_sid, sid, &friendly_name).await?;
                let key = renamed.ok_or_else(Error::not_found)?;
                let change = Change::new(AuditAction::ApiKeyUpdated, account_sid, sid);
                audit.record(tx, change.detail("changed", ["friendly_name"])).await?;
                Ok(key)
            })
            .await
    }

    /// Revokes an API key, effective immediately.
    ///
    /// # Errors
    /// Fails with 20404 if the API key does not exist. Also fails if the database fails.
    pub async fn revoke_api_key(&self, origin: &Origin, sid: ApiKeySid) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let account_sid = tx.delete_api_key(sid).await?.ok_or_else(Error::not_found)?;
                audit.record(tx, Change::new(AuditAction::ApiKeyRevoked, account_sid, sid)).await
            })
            .await
    }
}

/// Inserts an account and its audit record. Returns `false`, and inserts nothing, if an account with that SID exists.
async fn insert(tx: &mut Write, account: &Account, audit: &AuditWriter) -> Result<bool, Error> {
    let is_new = tx.insert_account(account).await?;
    if is_new {
        audit.record(tx, Change::new(AuditAction::AccountCreated, account.sid, account.sid)).await?;
    }
    Ok(is_new)
}
