//! A cache that keeps decrypted push credentials in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use domain::CredentialSid;
use domain::credentials::Credential;

use crate::App;
use crate::error::Error;

/// Maximum number of cached credentials: more than a server uses at a time. A full cache is emptied before the next
/// insertion.
const MAX_CACHED_CREDENTIALS: usize = 256;

/// A version of a push credential: its SID, and its modification time in microseconds. A changed credential is a new
/// version, so it is decrypted again.
type Version = (CredentialSid, i64);

/// A cache of decrypted and parsed push credentials. It is needed because decrypting and parsing a credential takes
/// longer than sending a push with it.
#[derive(Default)]
pub(crate) struct CredentialCache(RefCell<HashMap<Version, Arc<push_client::Credential>>>);

impl CredentialCache {
    /// Returns the decrypted push credential from the cache, decrypting it first if this version is not cached.
    ///
    /// # Errors
    /// Returns an error if the credential cannot be decrypted or parsed.
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

/// Returns the key under which the push client keeps the connections that use this version of a push credential.
pub(crate) fn connection_key(credential: &Credential) -> String {
    format!("{} {}", credential.sid, credential.updated_at.micros())
}
