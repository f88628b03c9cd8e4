//! Push credentials.

use std::sync::Arc;

use domain::audit::{Act, Change};
use domain::credentials::{Content, Credential};
use domain::parameter::Expected;
use domain::{
    AccountSid, Code, CredentialSid, Entropy, FriendlyName, Page, PageRequest, Problem, Sealed, Timestamp,
};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::master_keys::MasterKeySource;

/// A push credential as it is uploaded.
#[derive(Debug)]
pub struct NewCredential {
    /// What people call it.
    pub friendly_name: Option<FriendlyName>,
    /// The secrets.
    pub upload: Upload,
}

/// The secrets of a push credential, as their owner has them.
pub enum Upload {
    /// A certificate and its key, in PEM.
    Certificate {
        /// The certificate.
        certificate: String,
        /// Its key.
        private_key: String,
        /// Whether it is for Apple's sandbox.
        sandbox: bool,
    },
    /// A key that signs for all apps of a team; beyond Twilio.
    Token {
        /// The `.p8` file.
        private_key: String,
        /// Its id.
        key_id: String,
        /// The team's id.
        team_id: String,
        /// Whether it is for Apple's sandbox.
        sandbox: bool,
    },
    /// The JSON file of a service account.
    ServiceAccount(String),
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload(…)")
    }
}

impl Upload {
    /// Checks the secrets.
    ///
    /// # Errors
    /// 60306, naming the parameter that holds them and what is wrong with them.
    fn check(&self, now: Timestamp) -> Result<push_client::Credential, Problem> {
        let made = match self {
            Self::Certificate { certificate, private_key, sandbox } => {
                push_client::Credential::apns_certificate(certificate, private_key, *sandbox, now)
            }
            Self::Token { private_key, key_id, team_id, sandbox } => {
                push_client::Credential::apns_token(private_key, key_id, team_id, *sandbox)
            }
            Self::ServiceAccount(json) => push_client::Credential::fcm(json),
        };
        made.map_err(|invalid| unusable(&invalid))
    }
}

/// What is wrong, said of the parameter that brought it.
fn unusable(invalid: &push_client::Invalid) -> Problem {
    let parameter = match invalid.field {
        push_client::Field::Certificate => "Certificate",
        push_client::Field::PrivateKey => "PrivateKey",
        push_client::Field::KeyId => "KeyId",
        push_client::Field::TeamId => "TeamId",
        push_client::Field::ServiceAccount => "Secret",
    };
    Problem::invalid(parameter, &Expected::new(invalid.fault.to_string()))
}

/// What is to change of a push credential; its type does not.
#[derive(Debug, Default)]
pub struct CredentialChange {
    /// What people call it.
    pub friendly_name: Option<FriendlyName>,
    /// Other secrets of the same type.
    pub upload: Option<Upload>,
    /// Which of Apple's environments it is for, if the secrets stay.
    pub sandbox: Option<bool>,
}

impl CredentialChange {
    /// What is to change; the secrets go by that name.
    fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("secrets", self.upload.is_some()),
            ("sandbox", self.sandbox.is_some()),
        ];
        names.into_iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name).collect()
    }
}

/// What was done to a push credential.
fn about(act: Act, credential: &Credential) -> Change {
    let change = Change::new(act, credential.account_sid, credential.sid);
    change.with("type", credential.credential_type.as_str())
}

impl App {
    /// Makes a push credential.
    ///
    /// # Errors
    /// 60306 for secrets that can't be used; when the database fails.
    pub async fn create_credential(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        new: NewCredential,
    ) -> Result<Credential, Error> {
        let now = self.clock.now();
        let secrets = new.upload.check(now)?;
        let sid = CredentialSid::generate(now, self.entropy.as_ref());
        let credential = Credential {
            sid,
            account_sid,
            friendly_name: new.friendly_name,
            credential_type: secrets.summary().kind,
            sandbox: is_sandbox(&secrets),
            content: seal(&self.master_keys, sid, &secrets, self.entropy.as_ref()),
            expires_at: secrets.summary().not_after,
            created_at: now,
            updated_at: now,
        };
        let (row, audit) = (credential.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.insert_credential(&row).await?;
                audit.note(tx, about(Act::CredentialCreated, &row)).await
            })
            .await?;
        Ok(credential)
    }

    /// A push credential.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn credential(&self, account_sid: AccountSid, sid: CredentialSid) -> Result<Credential, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.credential(account_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// The push credentials of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn credentials(
        &self,
        account_sid: AccountSid,
        page: PageRequest,
    ) -> Result<Page<Credential>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.credentials(account_sid, &page).await?)).await
    }

    /// The push credentials of all accounts, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn all_credentials(&self) -> Result<Vec<Credential>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_credentials().await?)).await
    }

    /// Changes a push credential. Pushes that are still owed go out with what it is now.
    ///
    /// # Errors
    /// 20404; 60306 for secrets that can't be used, or are of another type; when the database fails.
    pub async fn update_credential(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: CredentialSid,
        change: CredentialChange,
    ) -> Result<Credential, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let changed = change.names();
        // What is not there is said before what is wrong with the secrets.
        self.credential(account_sid, sid).await?;
        let uploaded = change.upload.as_ref().map(|upload| upload.check(now)).transpose()?;
        let (master_keys, entropy) = (Arc::clone(&self.master_keys), Arc::clone(&self.entropy));
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_credential(account_sid, sid).await?;
                let mut credential = found.ok_or_else(Error::not_found)?;
                let secrets = match (&uploaded, change.sandbox) {
                    (Some(uploaded), _) => Some(uploaded.clone()),
                    (None, Some(sandbox)) => {
                        let environment = push_client::Environment::of(sandbox);
                        let moved = open(&master_keys, &credential)?.in_environment(environment);
                        Some(moved.map_err(|invalid| unusable(&invalid))?)
                    }
                    (None, None) => None,
                };
                if let Some(secrets) = secrets {
                    let summary = secrets.summary();
                    if summary.kind != credential.credential_type {
                        return Err(Problem::invalid("Type", &Expected::new("can't be changed")).into());
                    }
                    credential.sandbox = is_sandbox(&secrets);
                    credential.content = seal(&master_keys, sid, &secrets, entropy.as_ref());
                    credential.expires_at = summary.not_after;
                    tx.forget_unreachable(account_sid, None).await?;
                }
                if let Some(name) = &change.friendly_name {
                    credential.friendly_name = Some(name.clone());
                }
                credential.updated_at = now;
                tx.update_credential(&credential).await?;
                let change = about(Act::CredentialUpdated, &credential);
                audit.note(tx, change.with("changed", &changed)).await?;
                Ok(credential)
            })
            .await
    }

    /// Deletes a push credential.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn delete_credential(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| match tx.delete_credential(account_sid, sid).await? {
                true => audit.note(tx, Change::new(Act::CredentialDeleted, account_sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await
    }

    /// The content of a credential, in the open.
    ///
    /// # Errors
    /// When it can't be unsealed or read.
    pub fn open_credential(&self, credential: &Credential) -> Result<push_client::Credential, Error> {
        open(&self.master_keys, credential)
    }
}

/// The content of a credential as it is stored.
fn seal(
    master_keys: &MasterKeySource,
    sid: CredentialSid,
    secrets: &push_client::Credential,
    entropy: &dyn Entropy,
) -> Sealed<Content> {
    master_keys.seal(&Content::new(secrets.to_bytes()), &sid.to_string(), entropy)
}

/// The content of a credential, in the open.
fn open(master_keys: &MasterKeySource, credential: &Credential) -> Result<push_client::Credential, Error> {
    let content = master_keys.open(&credential.content, &credential.sid.to_string())?;
    push_client::Credential::from_bytes(content.expose()).ok_or_else(|| Code::Internal.into())
}

/// Whether its pushes go to Apple's sandbox.
fn is_sandbox(secrets: &push_client::Credential) -> bool {
    secrets.summary().environment == Some(push_client::Environment::Sandbox)
}
