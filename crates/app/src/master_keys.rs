//! The master keys: sealing and opening secrets with keys that may change while the server runs.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crypto::{MasterKeys, Sealable};
use domain::{Entropy, Sealed};
use tracing::{error, info};

use crate::error::Error;

/// Reads the master keys from their files again. The error is a text for the log.
pub type ReadMasterKeys = Box<dyn Fn() -> Result<MasterKeys, String> + Send + Sync>;

/// The current master keys. An operator changes them in the files from which they are read.
pub struct MasterKeySource {
    loaded: RwLock<LoadedKeys>,
    read: Option<ReadMasterKeys>,
    /// The failure that was logged last, so that it is not repeated every second.
    last_failure: Mutex<String>,
}

/// The keys that this process has read.
struct LoadedKeys {
    current: Arc<MasterKeys>,
    /// Earlier sets with a key that was removed since. They open secrets as long as the process runs: removing a key
    /// file must not lose what the key sealed.
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
    /// Creates a source of keys that never change.
    pub fn fixed(keys: MasterKeys) -> Self {
        let loaded = LoadedKeys { current: Arc::new(keys), former: Vec::new() };
        Self { loaded: RwLock::new(loaded), read: None, last_failure: Mutex::default() }
    }

    /// Creates a source whose keys can be read again with `read`.
    pub fn reloadable(keys: MasterKeys, read: ReadMasterKeys) -> Self {
        Self { read: Some(read), ..Self::fixed(keys) }
    }

    /// Returns the current keys.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// Reads the keys again; returns `false` if the previous ones stay in use. They stay if reading fails, and if the
    /// new set lacks the key that seals: it may belong to another installation, and must not seal anything here.
    pub fn reload(&self) -> bool {
        self.reload_if(|_| false)
    }

    /// Reads the keys again. A set without the key that seals is accepted if `belongs_here` returns `true` for it.
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
                    "{new} is there instead of {sealing}, which has sealed until now; to change the master key, keep \
                     the previous one beside it as COUNTERSIGN_MASTER_KEY_OLD"
                )
            }
            Err(failure) => failure,
        };
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != failure && !failure.is_empty() {
            error!("master keys not reloaded, the previous ones stay in use: {failure}");
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

    /// Decrypts a secret that was sealed for `owner`. Reads the keys again if none of them opens it.
    ///
    /// # Errors
    /// Returns an error if no key opens it.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        match self.open_loaded(sealed, owner) {
            Err(crypto::Error::OtherMasterKey { .. }) => {
                // Keys that open a secret of this database belong to this installation.
                self.reload_if(|keys| keys.open(sealed, owner).is_ok());
                Ok(self.open_loaded(sealed, owner)?)
            }
            opened => Ok(opened?),
        }
    }

    /// Encrypts `value` for `owner` under the current key.
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.keys().seal(value, owner, entropy)
    }
}

#[cfg(test)]
mod tests {
    use crypto::{AuditKey, MasterKey, SystemEntropy};

    use super::*;

    /// Creates a key of 32 equal bytes for each of `bytes`; the first one seals.
    fn keys(bytes: &[u8]) -> MasterKeys {
        let mut keys = bytes.iter().map(|byte| MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap());
        MasterKeys::new(keys.next().unwrap(), keys.collect())
    }

    /// Returns a secret that the first of these keys sealed.
    fn sealed(bytes: &[u8]) -> Sealed<AuditKey> {
        keys(bytes).seal(&AuditKey::generate(&SystemEntropy), "owner", &SystemEntropy)
    }

    /// Returns a source with the keys `first`, and a function that changes what the source reads.
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
    fn successor_beside_the_sealing_key_is_accepted() {
        let (source, store) = source(&[1]);
        store(&[2, 1]);
        source.reload();
        assert_eq!(source.keys().ids(), keys(&[2, 1]).ids());
        store(&[2]);
        source.reload();
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        // Secrets of the removed key still open.
        assert!(opens(&source, &[1]) && opens(&source, &[2]) && !opens(&source, &[3]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
    }

    #[test]
    fn foreign_key_is_never_used_for_sealing() {
        let (source, store) = source(&[1]);
        store(&[9]);
        for _ in 0..2 {
            source.reload();
            assert_eq!(source.keys().ids(), keys(&[1]).ids());
            assert!(opens(&source, &[1]) && !opens(&source, &[2]));
            assert!(source.last_failure.lock().unwrap().contains("is there instead of"));
        }
        store(&[1]);
        source.reload();
        assert!(source.last_failure.lock().unwrap().is_empty());
    }

    /// This happens if a server was stopped during the whole change of keys.
    #[test]
    fn key_that_opens_a_stored_secret_is_accepted() {
        let (source, store) = source(&[1]);
        store(&[2]);
        assert!(opens(&source, &[2]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        assert!(opens(&source, &[1]));
    }
}
