//! The master keys: encrypting and decrypting stored secrets with keys that may change while the server runs.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crypto::{MasterKeys, Sealable};
use domain::{Entropy, Sealed};
use tracing::{error, info};

use crate::error::Error;

/// A function that reads the master keys again from their files. Its error is a text for the log.
pub type ReadMasterKeys = Box<dyn Fn() -> Result<MasterKeys, String> + Send + Sync>;

/// The master keys in use. They can be reloaded while the server runs, after an operator has changed the key files.
pub struct MasterKeySource {
    loaded: RwLock<LoadedKeys>,
    read: Option<ReadMasterKeys>,
    /// The reload failure that was logged last, or empty after a success. The same failure is not logged every second.
    last_failure: Mutex<String>,
}

/// All master keys that this process has loaded since it started.
struct LoadedKeys {
    current: Arc<MasterKeys>,
    /// Earlier sets of master keys, each with at least one key that was removed since. They can decrypt secrets until
    /// the process ends, so that removing a key file does not make the secrets unreadable that were sealed with that
    /// key.
    former: Vec<Arc<MasterKeys>>,
}

impl LoadedKeys {
    fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, crypto::Error> {
        let opened = self.current.open(sealed, owner);
        let Err(crypto::Error::OtherMasterKey { .. }) = opened else { return opened };
        self.former.iter().find_map(|keys| keys.open(sealed, owner).ok()).map_or(opened, Ok)
    }
}

impl MasterKeySource {
    /// Creates a source of master keys that cannot be reloaded.
    pub fn fixed(keys: MasterKeys) -> Self {
        let loaded = LoadedKeys { current: Arc::new(keys), former: Vec::new() };
        Self { loaded: RwLock::new(loaded), read: None, last_failure: Mutex::default() }
    }

    /// Creates a source with these master keys, which [`reload`](Self::reload) replaces by what `read` returns.
    pub fn reloadable(keys: MasterKeys, read: ReadMasterKeys) -> Self {
        Self { read: Some(read), ..Self::fixed(keys) }
    }

    /// Returns the current master keys.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// Reads the master keys again. Returns `false`, and keeps the previous keys, if reading fails or if the new set
    /// lacks the key that currently seals. Such a set may belong to another installation, and must not seal anything
    /// here.
    pub fn reload(&self) -> bool {
        self.reload_if(|_| false)
    }

    /// Reads the master keys again, like [`reload`](Self::reload), but also accepts a set without the key that
    /// currently seals if `belongs_here` returns `true` for that set.
    fn reload_if(&self, belongs_here: impl Fn(&MasterKeys) -> bool) -> bool {
        let Some(read) = &self.read else { return true };
        let current = self.keys();
        let sealing = current.current().key_id();
        let failure = match read() {
            Ok(keys) if keys.ids() == current.ids() => String::new(),
            Ok(keys) if keys.get(sealing).is_some() || belongs_here(&keys) => {
                info!(master_key = keys.current().id(), "master keys reloaded");
                self.replace(keys);
                String::new()
            }
            Ok(keys) => {
                let new = keys.current().id();
                format!(
                    "the files contain master key {new} instead of {sealing}, which is in use; to change the master \
                     key, also provide the previous one as COUNTERSIGN_MASTER_KEY_OLD"
                )
            }
            Err(failure) => failure,
        };
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != failure && !failure.is_empty() {
            error!("master keys not reloaded, the previous keys stay in use: {failure}");
        }
        *last = failure;
        last.is_empty()
    }

    fn replace(&self, keys: MasterKeys) {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let previous = std::mem::replace(&mut loaded.current, Arc::new(keys));
        if previous.ids().into_iter().any(|id| loaded.current.get(id).is_none()) {
            loaded.former.push(previous);
        }
    }

    fn open_loaded<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, crypto::Error> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).open(sealed, owner)
    }

    /// Decrypts a secret that was sealed for `owner`, the name or SID of what the secret belongs to. If no loaded
    /// master key decrypts the secret, reloads the keys from their source and tries once more.
    ///
    /// # Errors
    /// Returns an error if no master key decrypts the secret.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        match self.open_loaded(sealed, owner) {
            Err(crypto::Error::OtherMasterKey { .. }) => {
                // Keys that can decrypt a secret in this database belong to this installation.
                self.reload_if(|keys| keys.open(sealed, owner).is_ok());
                Ok(self.open_loaded(sealed, owner)?)
            }
            opened => Ok(opened?),
        }
    }

    /// Encrypts `value` for `owner` under the current master key. Decryption requires the same `owner`.
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.keys().seal(value, owner, entropy)
    }
}

#[cfg(test)]
mod tests {
    use crypto::{AuditKey, MasterKey, SystemEntropy};

    use super::*;

    /// Returns master keys of 32 equal bytes each, one for each of `bytes`. The first one seals.
    fn keys(bytes: &[u8]) -> MasterKeys {
        let mut keys = bytes.iter().map(|byte| MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap());
        MasterKeys::new(keys.next().unwrap(), keys.collect())
    }

    /// Returns a secret that is sealed under the first of the keys `bytes`.
    fn sealed(bytes: &[u8]) -> Sealed<AuditKey> {
        keys(bytes).seal(&AuditKey::generate(&SystemEntropy), "owner", &SystemEntropy)
    }

    /// Returns a source with the keys `first`, and a function that replaces the keys which the source reads when it
    /// reloads.
    fn source(first: &[u8]) -> (MasterKeySource, impl Fn(&[u8])) {
        let stored = Arc::new(Mutex::new(first.to_vec()));
        let read = Arc::clone(&stored);
        let read = move || Ok(keys(&read.lock().unwrap()));
        let source = MasterKeySource::reloadable(keys(first), Box::new(read));
        (source, move |bytes: &[u8]| *stored.lock().unwrap() = bytes.to_vec())
    }

    fn opens(source: &MasterKeySource, bytes: &[u8]) -> bool {
        source.open(&sealed(bytes), "owner").is_ok()
    }

    #[test]
    fn new_master_key_is_accepted_together_with_the_sealing_key() {
        let (source, store) = source(&[1]);
        store(&[2, 1]);
        source.reload();
        assert_eq!(source.keys().ids(), keys(&[2, 1]).ids());
        store(&[2]);
        source.reload();
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        // Secrets that the removed key sealed can still be decrypted.
        assert!(opens(&source, &[1]) && opens(&source, &[2]) && !opens(&source, &[3]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
    }

    #[test]
    fn master_key_file_with_a_foreign_key_does_not_replace_the_key_in_use() {
        let (source, store) = source(&[1]);
        store(&[9]);
        for _ in 0..2 {
            source.reload();
            assert_eq!(source.keys().ids(), keys(&[1]).ids());
            assert!(opens(&source, &[1]) && !opens(&source, &[2]));
            assert!(source.last_failure.lock().unwrap().contains("instead of"));
        }
        store(&[1]);
        source.reload();
        assert!(source.last_failure.lock().unwrap().is_empty());
    }

    /// This case occurs if a server was down during the whole rotation of the master key.
    #[test]
    fn new_master_key_is_accepted_if_it_decrypts_a_stored_secret() {
        let (source, store) = source(&[1]);
        store(&[2]);
        assert!(opens(&source, &[2]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        assert!(opens(&source, &[1]));
    }
}
