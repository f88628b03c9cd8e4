//! Use cases of push credentials: create, fetch, list, update, delete and decrypt.

use std::sync::Arc;

use domain::audit::{AuditAction, Change};
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

/// The parameters of a new push credential.
#[derive(Debug)]
pub struct NewCredential {
    /// Display name of the push credential.
    pub friendly_name: Option<FriendlyName>,
    /// The secrets, as uploaded.
    pub upload: Upload,
}

/// The secrets of a push credential, as a backend or an operator uploads them.
pub enum Upload {
    /// An APNs certificate and its private key.
    Certificate {
        /// The certificate, in PEM.
        certificate: String,
        /// The private key of the certificate, in PEM.
        private_key: String,
        /// Whether pushes are sent to Apple's sandbox instead of the production environment.
        sandbox: bool,
    },
    /// An APNs token signing key, which is valid for all apps of an Apple developer team. Twilio does not support these
    /// keys.
    Token {
        /// The private key: the content of the `.p8` file from Apple.
        private_key: String,
        /// Apple's ID for the key.
        key_id: String,
        /// Apple's ID for the developer team.
        team_id: String,
        /// Whether pushes are sent to Apple's sandbox instead of the production environment.
        sandbox: bool,
    },
    /// An FCM service account: the content of its JSON key file.
    ServiceAccount(String),
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload(…)")
    }
}

impl Upload {
    /// Parses and validates the secrets. A certificate is rejected if it has expired at `now`.
    ///
    /// # Errors
    /// Fails with 60306; the message says which parameter is invalid and why.
    fn parse(&self, now: Timestamp) -> Result<push_client::Credential, Problem> {
        let parsed = match self {
            Self::Certificate { certificate, private_key, sandbox } => {
                push_client::Credential::apns_certificate(certificate, private_key, *sandbox, now)
            }
            Self::Token { private_key, key_id, team_id, sandbox } => {
                push_client::Credential::apns_token(private_key, key_id, team_id, *sandbox)
            }
            Self::ServiceAccount(json) => push_client::Credential::fcm(json),
        };
        parsed.map_err(|invalid| invalid_parameter(&invalid))
    }
}

/// Returns the error 60306 for invalid secrets, with the name of the API parameter that is invalid.
fn invalid_parameter(invalid: &push_client::InvalidCredential) -> Problem {
    let parameter = match invalid.field {
        push_client::CredentialField::Certificate => "Certificate",
        push_client::CredentialField::PrivateKey => "PrivateKey",
        push_client::CredentialField::KeyId => "KeyId",
        push_client::CredentialField::TeamId => "TeamId",
        push_client::CredentialField::ServiceAccount => "Secret",
    };
    Problem::invalid(parameter, &Expected::new(invalid.reason.to_string()))
}

/// The changes to a push credential. Fields that are `None` are left unchanged. The type of a credential cannot be
/// changed.
#[derive(Debug, Default)]
pub struct CredentialChange {
    /// New display name.
    pub friendly_name: Option<FriendlyName>,
    /// New secrets, which must be of the same type.
    pub upload: Option<Upload>,
    /// Whether pushes are sent to Apple's sandbox. Ignored if `upload` is set, because uploaded secrets state this
    /// themselves.
    pub sandbox: Option<bool>,
}

impl CredentialChange {
    /// Returns the names of the changed fields, for the audit record.
    fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("secrets", self.upload.is_some()),
            ("sandbox", self.sandbox.is_some()),
        ];
        names.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }
}

/// Returns the change to record in the audit log for an action on a push credential.
fn about(action: AuditAction, credential: &Credential) -> Change {
    let change = Change::new(action, credential.account_sid, credential.sid);
    change.detail("type", credential.credential_type.as_str())
}

impl App {
    /// Creates a push credential, and returns it with its secrets sealed.
    ///
    /// # Errors
    /// Fails with 60306 if the secrets are invalid. Also fails if the database fails.
    pub async fn create_credential(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        new: NewCredential,
    ) -> Result<Credential, Error> {
        let now = self.clock.now();
        let secrets = new.upload.parse(now)?;
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
                audit.record(tx, about(AuditAction::CredentialCreated, &row)).await
            })
            .await?;
        Ok(credential)
    }

    /// Returns the push credential `sid` of an account, with its secrets sealed.
    ///
    /// # Errors
    /// Fails with 20404 if the credential does not exist. Also fails if the database fails.
    pub async fn credential(&self, account_sid: AccountSid, sid: CredentialSid) -> Result<Credential, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.credential(account_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of an account's push credentials.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn credentials(
        &self,
        account_sid: AccountSid,
        page: PageRequest,
    ) -> Result<Page<Credential>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.credentials(account_sid, &page).await?)).await
    }

    /// Returns the push credentials of all accounts, oldest first. For operators.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_credentials(&self) -> Result<Vec<Credential>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_credentials().await?)).await
    }

    /// Changes a push credential, and returns it. Pushes that are still pending are sent with the new secrets.
    ///
    /// # Errors
    /// Fails with 20404 if the credential does not exist, and with 60306 if the new secrets are invalid or of another
    /// type. Also fails if the database fails.
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
        // Look up the credential first, so that a missing credential is reported rather than invalid secrets.
        self.credential(account_sid, sid).await?;
        let uploaded = change.upload.as_ref().map(|upload| upload.parse(now)).transpose()?;
        let (master_keys, entropy) = (Arc::clone(&self.master_keys), Arc::clone(&self.entropy));
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_credential(account_sid, sid).await?;
                let mut credential = found.ok_or_else(Error::not_found)?;
                let secrets = match (&uploaded, change.sandbox) {
                    (Some(uploaded), _) => Some(uploaded.clone()),
                    (None, Some(sandbox)) => Some(open_for(&master_keys, &credential, sandbox)?),
                    (None, None) => None,
                };
                if let Some(secrets) = secrets {
                    replace_secrets(&mut credential, &secrets, &master_keys, entropy.as_ref())?;
                    tx.clear_unreachable(account_sid, None).await?;
                }
                if let Some(name) = &change.friendly_name {
                    credential.friendly_name = Some(name.clone());
                }
                credential.updated_at = now;
                tx.update_credential(&credential).await?;
                let change = about(AuditAction::CredentialUpdated, &credential);
                audit.record(tx, change.detail("changed", &changed)).await?;
                Ok(credential)
            })
            .await
    }

    /// Deletes a push credential.
    ///
    /// # Errors
    /// Fails with 20404 if the credential does not exist. Also fails if the database fails.
    pub async fn delete_credential(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: CredentialSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| match tx.delete_credential(account_sid, sid).await? {
                true => audit.record(tx, Change::new(AuditAction::CredentialDeleted, account_sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await
    }

    /// Decrypts and parses the secrets of a push credential.
    ///
    /// # Errors
    /// Returns an error if the secrets cannot be decrypted or parsed.
    pub fn open_credential(&self, credential: &Credential) -> Result<push_client::Credential, Error> {
        open(&self.master_keys, credential)
    }
}

/// Encrypts the secrets of the push credential `sid` for storage.
fn seal(
    master_keys: &MasterKeySource,
    sid: CredentialSid,
    secrets: &push_client::Credential,
    entropy: &dyn Entropy,
) -> Sealed<Content> {
    master_keys.seal(&Content::new(secrets.to_bytes()), &sid.to_string(), entropy)
}

/// Decrypts and parses the secrets of a push credential.
fn open(master_keys: &MasterKeySource, credential: &Credential) -> Result<push_client::Credential, Error> {
    let content = master_keys.open(&credential.content, &credential.sid.to_string())?;
    push_client::Credential::from_bytes(content.expose()).ok_or_else(|| Code::Internal.into())
}

/// Decrypts a push credential's secrets, and returns them for Apple's sandbox if `sandbox` is set, or else for
/// production. FCM secrets are returned unchanged.
///
/// # Errors
/// Fails with 60306 if the certificate is limited to the other environment. Also fails if the secrets cannot be
/// decrypted or parsed.
fn open_for(
    master_keys: &MasterKeySource,
    credential: &Credential,
    sandbox: bool,
) -> Result<push_client::Credential, Error> {
    let environment = push_client::Environment::from_sandbox(sandbox);
    let moved = open(master_keys, credential)?.in_environment(environment);
    Ok(moved.map_err(|invalid| invalid_parameter(&invalid))?)
}

/// Replaces the secrets of `credential`, and updates the fields that depend on them.
///
/// # Errors
/// Fails with 60306 if the new secrets are of another type.
fn replace_secrets(
    credential: &mut Credential,
    secrets: &push_client::Credential,
    master_keys: &MasterKeySource,
    entropy: &dyn Entropy,
) -> Result<(), Problem> {
    let summary = secrets.summary();
    if summary.kind != credential.credential_type {
        return Err(Problem::invalid("Type", &Expected::new("can't be changed")));
    }
    credential.sandbox = is_sandbox(secrets);
    credential.content = seal(master_keys, credential.sid, secrets, entropy);
    credential.expires_at = summary.not_after;
    Ok(())
}

/// Returns whether pushes with these secrets are sent to Apple's sandbox.
fn is_sandbox(secrets: &push_client::Credential) -> bool {
    secrets.summary().environment == Some(push_client::Environment::Sandbox)
}
