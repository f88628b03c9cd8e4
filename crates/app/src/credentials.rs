//! Push credentials.

use domain::audit::{Act, Change};
use domain::credentials::{Content, Credential};
use domain::parameter::Expected;
use domain::{AccountSid, CredentialSid, FriendlyName, Page, PageRequest, Problem, Sealed, Timestamp};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

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
    fn check(&self, now: Timestamp) -> Result<push::Credential, Problem> {
        let made = match self {
            Self::Certificate { certificate, private_key, sandbox } => {
                push::Credential::apns_certificate(certificate, private_key, *sandbox, now)
            }
            Self::Token { private_key, key_id, team_id, sandbox } => {
                push::Credential::apns_token(private_key, key_id, team_id, *sandbox)
            }
            Self::ServiceAccount(json) => push::Credential::fcm(json),
        };
        made.map_err(|invalid| unusable(&invalid))
    }
}

/// What is wrong, said of the parameter that brought it.
fn unusable(invalid: &push::Invalid) -> Problem {
    let parameter = match invalid.field {
        push::Field::Certificate => "Certificate",
        push::Field::PrivateKey => "PrivateKey",
        push::Field::KeyId => "KeyId",
        push::Field::TeamId => "TeamId",
        push::Field::ServiceAccount => "Secret",
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
            content: self.sealed(sid, &secrets),
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
        let mut credential = self.credential(account_sid, sid).await?;
        let secrets = match (&change.upload, change.sandbox) {
            (Some(upload), _) => Some(upload.check(now)?),
            (None, Some(sandbox)) => {
                let secrets = self.open_credential(&credential)?;
                let environment = push::Environment::of(sandbox);
                Some(secrets.in_environment(environment).map_err(|invalid| unusable(&invalid))?)
            }
            (None, None) => None,
        };
        let are_other_secrets = secrets.is_some();
        if let Some(secrets) = secrets {
            let summary = secrets.summary();
            if summary.kind != credential.credential_type {
                return Err(Problem::invalid("Type", &Expected::new("can't be changed")).into());
            }
            credential.sandbox = is_sandbox(&secrets);
            credential.content = self.sealed(sid, &secrets);
            credential.expires_at = summary.not_after;
        }
        if change.friendly_name.is_some() {
            credential.friendly_name = change.friendly_name;
        }
        credential.updated_at = now;
        self.store
            .write(async move |tx: &mut Write| {
                tx.credential(account_sid, sid).await?.ok_or_else(Error::not_found)?;
                tx.update_credential(&credential).await?;
                if are_other_secrets {
                    tx.forget_unreachable(account_sid, None).await?;
                }
                let change = about(Act::CredentialUpdated, &credential);
                audit.note(tx, change.with("changed", &changed)).await?;
                Ok(credential.clone())
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

    /// The content of a credential as it is stored.
    fn sealed(&self, sid: CredentialSid, secrets: &push::Credential) -> Sealed<Content> {
        let content = Content::new(secrets.to_bytes());
        self.master_keys.seal(&content, &sid.to_string(), self.entropy.as_ref())
    }

    /// The content of a credential, in the open.
    ///
    /// # Errors
    /// When it can't be unsealed or read.
    pub fn open_credential(&self, credential: &Credential) -> Result<push::Credential, Error> {
        let content = self.master_keys.open(&credential.content, &credential.sid.to_string())?;
        push::Credential::from_bytes(content.expose())
            .ok_or_else(|| Problem::new(domain::Code::Internal).into())
    }
}

/// Whether its pushes go to Apple's sandbox.
fn is_sandbox(secrets: &push::Credential) -> bool {
    secrets.summary().environment == Some(push::Environment::Sandbox)
}
