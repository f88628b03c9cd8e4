//! Accounts and API keys, as operators manage them from the command line.

use domain::accounts::{ApiKeySecret, AuthToken};
use domain::audit::{Act, Change};
use domain::{Account, AccountSid, ApiKey, ApiKeySid, FriendlyName};
use store::{Read, Write};

use crate::App;
use crate::audit::{Audit, Origin};
use crate::error::Error;

/// An account and its auth token, which is shown when it is made and on request.
#[derive(Debug)]
pub struct MadeAccount {
    /// The account.
    pub account: Account,
    /// Its auth token, in the open.
    pub auth_token: AuthToken,
}

/// An API key and its secret, which is shown this once.
#[derive(Debug)]
pub struct MadeApiKey {
    /// The key.
    pub key: ApiKey,
    /// Its secret, in the open.
    pub secret: ApiKeySecret,
}

impl App {
    /// Makes an account; with this SID and this auth token, if they are given. `None` when an account
    /// with that SID exists, which is then left as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_account(
        &self,
        origin: &Origin,
        sid: Option<AccountSid>,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> Result<Option<MadeAccount>, Error> {
        let made = self.new_account(sid, auth_token, friendly_name);
        let (row, audit) = (made.account.clone(), self.audit(origin, made.account.created_at));
        let is_new = self.store.write(async move |tx: &mut Write| insert(tx, &row, &audit).await).await?;
        Ok(is_new.then_some(made))
    }

    /// Makes an account if there is none at all; with this auth token, if it is given. However many
    /// servers start at once, one of them makes it; the others get `None`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_first_account(
        &self,
        origin: &Origin,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> Result<Option<MadeAccount>, Error> {
        let made = self.new_account(None, auth_token, friendly_name);
        let (row, audit) = (made.account.clone(), self.audit(origin, made.account.created_at));
        let is_first = self
            .store
            .write(async move |tx: &mut Write| {
                tx.lock_enrollment_keys().await?;
                Ok::<_, Error>(tx.accounts().await?.is_empty() && insert(tx, &row, &audit).await?)
            })
            .await?;
        Ok(is_first.then_some(made))
    }

    /// An account that is not stored yet.
    fn new_account(
        &self,
        sid: Option<AccountSid>,
        auth_token: Option<AuthToken>,
        friendly_name: FriendlyName,
    ) -> MadeAccount {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let sid = sid.unwrap_or_else(|| AccountSid::generate(now, entropy));
        let auth_token = auth_token.unwrap_or_else(|| AuthToken::generate(entropy));
        let sealed = self.master_keys.seal(&auth_token, &sid.to_string(), entropy);
        let account = Account {
            sid,
            friendly_name,
            auth_token: sealed,
            debugger_webhook: None,
            created_at: now,
            updated_at: now,
        };
        MadeAccount { account, auth_token }
    }

    /// All accounts, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accounts(&self) -> Result<Vec<Account>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.accounts().await?)).await
    }

    /// An account with its auth token in the open.
    ///
    /// # Errors
    /// 20404 when there is none; when the database fails.
    pub async fn account(&self, sid: AccountSid) -> Result<MadeAccount, Error> {
        let account =
            self.store.read(async move |db: &mut Read| Ok::<_, Error>(db.account(sid).await?)).await?;
        let account = account.ok_or_else(Error::not_found)?;
        let auth_token = self.master_keys.open(&account.auth_token, &sid.to_string())?;
        Ok(MadeAccount { account, auth_token })
    }

    /// Gives an account a new auth token; the old one stops working at once.
    ///
    /// # Errors
    /// 20404 when there is no such account; when the database fails.
    pub async fn rotate_auth_token(&self, origin: &Origin, sid: AccountSid) -> Result<AuthToken, Error> {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let auth_token = AuthToken::generate(entropy);
        let sealed = self.master_keys.seal(&auth_token, &sid.to_string(), entropy);
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| match tx.update_auth_token(sid, &sealed, now).await? {
                true => audit.note(tx, Change::new(Act::AuthTokenRotated, sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await?;
        Ok(auth_token)
    }

    /// Makes an API key for an account.
    ///
    /// # Errors
    /// 20404 when there is no such account; when the database fails.
    pub async fn create_api_key(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        friendly_name: FriendlyName,
    ) -> Result<MadeApiKey, Error> {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let sid = ApiKeySid::generate(now, entropy);
        let secret = ApiKeySecret::generate(entropy);
        let secret_hash = self.hashing.hash_secret(sid, secret.expose());
        let key = ApiKey { sid, account_sid, friendly_name, secret_hash, created_at: now };
        let (row, audit) = (key.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_api_key(&row).await?;
                audit.note(tx, Change::new(Act::ApiKeyCreated, account_sid, sid)).await
            })
            .await?;
        Ok(MadeApiKey { key, secret })
    }

    /// The API keys of an account, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_keys(&self, account_sid: AccountSid) -> Result<Vec<ApiKey>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.api_keys(account_sid).await?)).await
    }

    /// Revokes an API key, at once.
    ///
    /// # Errors
    /// 20404 when there is none; when the database fails.
    pub async fn revoke_api_key(&self, origin: &Origin, sid: ApiKeySid) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let account_sid = tx.delete_api_key(sid).await?.ok_or_else(Error::not_found)?;
                audit.note(tx, Change::new(Act::ApiKeyRevoked, account_sid, sid)).await
            })
            .await
    }
}

/// Adds an account; `false` when one with that SID exists.
async fn insert(tx: &mut Write, account: &Account, audit: &Audit) -> Result<bool, Error> {
    let is_new = tx.insert_account(account).await?;
    if is_new {
        audit.note(tx, Change::new(Act::AccountCreated, account.sid, account.sid)).await?;
    }
    Ok(is_new)
}
