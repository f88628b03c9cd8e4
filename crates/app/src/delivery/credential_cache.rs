//! Plaintext push credentials in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use domain::CredentialSid;
use domain::credentials::Credential;

use crate::App;
use crate::error::Error;

/// Credentials to keep: more than a server uses at the same time.
const MAX_CACHED_CREDENTIALS: usize = 256;

/// The SID of a credential and its modification time in microseconds, so that a changed credential is read anew.
type Version = (CredentialSid, i64);

/// A cache of plaintext push credentials, because opening and parsing one takes longer than sending a push with it.
#[derive(Default)]
pub(crate) struct CredentialCache(RefCell<HashMap<Version, Arc<push_client::Credential>>>);

impl CredentialCache {
    /// Returns the plaintext credential, and opens it if it is not in the cache.
    ///
    /// # Errors
    /// Returns an error if the credential cannot be opened or parsed.
    pub(crate) fn open(
        &self,
        app: &App,
        credential: &Credential,
    ) -> Result<Arc<push_client::Credential>, Error> {
        let version = (credential.sid, credential.updated_at.micros());
        if let Some(cached) = self.0.borrow().get(&version) {
            return Ok(Arc::clone(cached));
        }
        let opened = Arc::new(app.open_credential(credential)?);
        let mut cache = self.0.borrow_mut();
        if cache.len() >= MAX_CACHED_CREDENTIALS {
            cache.clear();
        }
        cache.insert(version, Arc::clone(&opened));
        Ok(opened)
    }
}

/// Returns the key under which the push client keeps its connections for this version of a credential.
pub(crate) fn connection_key(credential: &Credential) -> String {
    format!("{} {}", credential.sid, credential.updated_at.micros())
}
