//! The master keys: opening and sealing, with keys that may change while the server runs; sealing all anew.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crypto::{AuditKey, EnrollmentKey, HashingKey, KeyId, MasterKeys, Sealable};
use domain::access_tokens::TokenText;
use domain::accounts::AuthToken;
use domain::audit::{Act, Change};
use domain::credentials::Content;
use domain::{Entropy, Sealed};
use store::{Kind, Read, Write};
use tracing::{error, info};

use crate::audit::{Audit, Origin};
use crate::error::Error;
use crate::{App, chain};

/// Values that are sealed anew in one transaction: few, so that nobody waits long for the writer.
const BATCH: i64 = 100;

/// How the master keys are read again; the error is in words for the log.
pub type ReadMasterKeys = Box<dyn Fn() -> Result<MasterKeys, String> + Send + Sync>;

/// The master keys of this moment. The operator changes them in the files from which they come.
pub struct MasterKeySource {
    held: RwLock<Held>,
    read: Option<ReadMasterKeys>,
    /// What was last complained of, so that it is not every second.
    complaint: Mutex<String>,
}

/// What was read so far.
struct Held {
    /// The keys of this moment.
    keys: Arc<MasterKeys>,
    /// Those of before, as far as they had a key that was taken away since. They go on opening for as long as the
    /// process lives: what one of them sealed is not lost because its file was.
    former: Vec<Arc<MasterKeys>>,
}

impl Held {
    fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, crypto::Error> {
        let now = self.keys.open(sealed, owner);
        let Err(crypto::Error::OtherMasterKey { .. }) = now else { return now };
        self.former.iter().find_map(|keys| keys.open(sealed, owner).ok()).map_or(now, Ok)
    }
}

impl MasterKeySource {
    /// Keys that don't change.
    pub fn fixed(keys: MasterKeys) -> Self {
        let held = Held { keys: Arc::new(keys), former: Vec::new() };
        Self { held: RwLock::new(held), read: None, complaint: Mutex::default() }
    }

    /// Keys that can be read again.
    pub fn changing(keys: MasterKeys, read: ReadMasterKeys) -> Self {
        Self { read: Some(read), ..Self::fixed(keys) }
    }

    /// The keys of this moment.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner).keys)
    }

    /// Reads the keys again; `false` if those of before stay. That is so if they can't be read, and if the one that
    /// seals is not among them: for all that is known they are those of another installation then, which must not
    /// seal anything here.
    pub fn read_again(&self) -> bool {
        self.read_again_if(|_| false)
    }

    /// Reads the keys again; `is_ours` says of some that lack the one that seals whether they are taken up all the
    /// same.
    fn read_again_if(&self, is_ours: impl Fn(&MasterKeys) -> bool) -> bool {
        let Some(read) = &self.read else { return true };
        let present = self.keys();
        let sealing = present.current().key_id();
        let complaint = match read() {
            Ok(keys) if keys.ids() == present.ids() => String::new(),
            Ok(keys) if keys.get(sealing).is_some() || is_ours(&keys) => {
                info!(master_key = keys.current().id(), "the master keys were read again");
                self.take_up(keys);
                String::new()
            }
            Ok(keys) => {
                let new = keys.current().id();
                format!(
                    "{new} is there instead of {sealing}, which sealed until now; to change it, keep the one of \
                     before beside it as COUNTERSIGN_MASTER_KEY_OLD"
                )
            }
            Err(complaint) => complaint,
        };
        let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != complaint && !complaint.is_empty() {
            error!("the master keys stay as they were: {complaint}");
        }
        *last = complaint;
        last.is_empty()
    }

    fn take_up(&self, keys: MasterKeys) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut held.keys, Arc::new(keys));
        if before.ids().into_iter().any(|id| held.keys.get(id).is_none()) {
            held.former.push(before);
        }
    }

    fn open_held<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, crypto::Error> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).open(sealed, owner)
    }

    /// Decrypts what was sealed for `owner`; with new keys, if it takes one that was not there before.
    ///
    /// # Errors
    /// When none of the keys opens it.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        match self.open_held(sealed, owner) {
            Err(crypto::Error::OtherMasterKey { .. }) => {
                // Keys that open what is in the database are those of this installation.
                self.read_again_if(|keys| keys.open(sealed, owner).is_ok());
                Ok(self.open_held(sealed, owner)?)
            }
            opened => Ok(opened?),
        }
    }

    /// Encrypts for `owner`.
    pub fn seal<T: Sealable>(&self, value: &T, owner: &str, entropy: &dyn Entropy) -> Sealed<T> {
        self.keys().seal(value, owner, entropy)
    }
}

/// What is sealed under a master key.
#[derive(Clone, Debug)]
pub struct SealedUnder {
    /// What it is.
    pub kind: Kind,
    /// The master key; `None` of values that are none.
    pub key: Option<KeyId>,
    /// How many.
    pub count: i64,
}

/// What came of sealing anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are sealed under the master key now and were not before.
    pub resealed: u64,
    /// Values that could not be opened: another master key sealed them, or they were altered.
    pub unopened: u64,
}

impl App {
    /// The master keys of this moment.
    pub fn master_keys(&self) -> Arc<MasterKeys> {
        self.master_keys.keys()
    }

    /// Reads the master keys again where they may have changed.
    pub async fn read_master_keys_again(&self) {
        if self.master_keys.read_again() {
            return;
        }
        // They are not refused if they open what has been sealed anew, such as while this process did not run.
        let sealed = async |db: &mut Read| Ok::<_, Error>(db.audit_chain::<AuditKey>().await?);
        if let Ok(Some(chain)) = self.store.read(sealed).await {
            let _ = self.master_keys.open(&chain.key, chain::OWNER);
        }
    }

    /// How much is sealed under which master key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seals(&self) -> Result<Vec<SealedUnder>, Error> {
        self.store.read(async |db: &mut Read| seals(db).await).await
    }

    /// Seals everything under the master key that is not, in small transactions. What somebody changes at
    /// the same time stays as they leave it. Ended before it is done, it goes on where it was when it is
    /// called again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reseal(&self, origin: &Origin) -> Result<Resealed, Error> {
        let audit = Arc::new(self.audit(origin, self.clock.now()));
        let mut done = Resealed::default();
        for kind in Kind::ALL {
            let of_kind = match kind {
                Kind::AuthTokens => self.reseal_kind::<AuthToken>(kind, &audit).await?,
                Kind::EnrollmentKeys => self.reseal_kind::<EnrollmentKey>(kind, &audit).await?,
                Kind::ServerKeys => self.reseal_kind::<HashingKey>(kind, &audit).await?,
                Kind::AuditKey => self.reseal_kind::<AuditKey>(kind, &audit).await?,
                Kind::PushCredentials => self.reseal_kind::<Content>(kind, &audit).await?,
                Kind::AccessTokens => self.reseal_kind::<TokenText>(kind, &audit).await?,
            };
            done.resealed += of_kind.resealed;
            done.unopened += of_kind.unopened;
        }
        Ok(done)
    }

    async fn reseal_kind<T: Sealable + 'static>(
        &self,
        kind: Kind,
        audit: &Arc<Audit>,
    ) -> Result<Resealed, Error> {
        let keys = self.master_keys();
        let (key_id, mut after, mut done) = (keys.current().key_id(), String::new(), Resealed::default());
        loop {
            let behind = after.clone();
            let read = async move |db: &mut Read| {
                Ok::<_, Error>(db.sealed_otherwise::<T>(kind, key_id.as_bytes(), &behind, BATCH).await?)
            };
            let rows = self.store.read(read).await?;
            let Some((last, _)) = rows.last() else { return Ok(done) };
            after.clone_from(last);
            let mut changes = Vec::new();
            for (owner, old) in rows {
                match self.master_keys.open(&old, &owner) {
                    Ok(value) => {
                        let new = keys.seal(&value, &owner, self.entropy.as_ref());
                        changes.push((owner, old, new));
                    }
                    Err(_) => done.unopened += 1,
                }
            }
            let audit = Arc::clone(audit);
            let write = async move |tx: &mut Write| {
                let mut resealed = 0;
                for (owner, old, new) in &changes {
                    resealed += u64::from(tx.reseal(kind, owner, old, new).await?);
                }
                if resealed > 0 {
                    let change = Change::of_server(Act::MasterKeyRotated).with("count", resealed);
                    audit.note(tx, change).await?;
                }
                Ok::<_, Error>(resealed)
            };
            done.resealed += self.store.write(write).await?;
        }
    }
}

/// How much is sealed under which master key in this database.
///
/// # Errors
/// When the database fails.
pub async fn seals(db: &mut Read) -> Result<Vec<SealedUnder>, Error> {
    let mut seals = Vec::new();
    for kind in Kind::ALL {
        for (key, count) in db.seals(kind).await? {
            seals.push(SealedUnder { kind, key: KeyId::from_bytes(&key), count });
        }
    }
    Ok(seals)
}

#[cfg(test)]
mod tests {
    use crypto::{MasterKey, SystemEntropy};

    use super::*;

    /// Keys by the bytes that they are made of, the one that seals first.
    fn keys(bytes: &[u8]) -> MasterKeys {
        let mut keys =
            bytes.iter().map(|byte| MasterKey::from_base64(&format!("{byte:02x}").repeat(32)).unwrap());
        MasterKeys::new(keys.next().unwrap(), keys.collect())
    }

    /// Something that the first of these keys has sealed.
    fn sealed(bytes: &[u8]) -> Sealed<AuditKey> {
        keys(bytes).seal(&AuditKey::generate(&SystemEntropy), "owner", &SystemEntropy)
    }

    /// A source with the first of these keys, and what puts others in their place.
    fn source(first: &[u8]) -> (MasterKeySource, impl Fn(&[u8])) {
        let there = Arc::new(Mutex::new(first.to_vec()));
        let read = Arc::clone(&there);
        let read = move || Ok(keys(&read.lock().unwrap()));
        let source = MasterKeySource::changing(keys(first), Box::new(read));
        (source, move |bytes: &[u8]| *there.lock().unwrap() = bytes.to_vec())
    }

    fn opens(source: &MasterKeySource, bytes: &[u8]) -> bool {
        source.open(&sealed(bytes), "owner").is_ok()
    }

    #[test]
    fn the_key_that_seals_is_followed_by_one_that_comes_with_it() {
        let (source, put) = source(&[1]);
        put(&[2, 1]);
        source.read_again();
        assert_eq!(source.keys().ids(), keys(&[2, 1]).ids());
        put(&[2]);
        source.read_again();
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        // What the one of before sealed is opened all the same.
        assert!(opens(&source, &[1]) && opens(&source, &[2]) && !opens(&source, &[3]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
    }

    #[test]
    fn a_key_of_somewhere_else_seals_nothing() {
        let (source, put) = source(&[1]);
        put(&[9]);
        for _ in 0..2 {
            source.read_again();
            assert_eq!(source.keys().ids(), keys(&[1]).ids());
            assert!(opens(&source, &[1]) && !opens(&source, &[2]));
            assert!(source.complaint.lock().unwrap().contains("is there instead of"));
        }
        put(&[1]);
        source.read_again();
        assert!(source.complaint.lock().unwrap().is_empty());
    }

    /// As when a server was stopped for the whole time of the change.
    #[test]
    fn a_key_that_opens_what_is_in_the_database_is_ours() {
        let (source, put) = source(&[1]);
        put(&[2]);
        assert!(opens(&source, &[2]));
        assert_eq!(source.keys().ids(), keys(&[2]).ids());
        assert!(opens(&source, &[1]));
    }
}
