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

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// Values that are sealed anew in one transaction: few, so that nobody waits long for the writer.
const BATCH: i64 = 100;

/// How the master keys are read again; the error is in words for the log.
pub type ReadMasterKeys = Box<dyn Fn() -> Result<MasterKeys, String> + Send + Sync>;

/// The master keys of this moment. The operator changes them in the files from which they come.
pub struct MasterKeySource {
    keys: RwLock<Arc<MasterKeys>>,
    read: Option<ReadMasterKeys>,
    /// What was last complained of, so that it is not every second.
    complaint: Mutex<String>,
}

impl MasterKeySource {
    /// Keys that don't change.
    pub fn fixed(keys: MasterKeys) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), read: None, complaint: Mutex::default() }
    }

    /// Keys that can be read again.
    pub fn changing(keys: MasterKeys, read: ReadMasterKeys) -> Self {
        Self { read: Some(read), ..Self::fixed(keys) }
    }

    /// The keys of this moment.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys again. Those of before stay if that fails.
    pub fn read_again(&self) {
        let Some(read) = &self.read else { return };
        match read() {
            Ok(keys) if keys.ids() == self.keys().ids() => {}
            Ok(keys) => {
                info!(master_key = keys.current().id(), "the master keys were read again");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(complaint) => {
                let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != complaint {
                    error!("the master keys stay as they were: {complaint}");
                    *last = complaint;
                }
            }
        }
    }

    /// Decrypts what was sealed for `owner`; with new keys, if it takes one that was not there before.
    ///
    /// # Errors
    /// When none of the keys opens it.
    pub fn open<T: Sealable>(&self, sealed: &Sealed<T>, owner: &str) -> Result<T, Error> {
        match self.keys().open(sealed, owner) {
            Err(crypto::Error::OtherMasterKey { .. }) => {
                self.read_again();
                Ok(self.keys().open(sealed, owner)?)
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
    pub fn read_master_keys_again(&self) {
        self.master_keys.read_again();
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
        let mut done = Resealed::default();
        for kind in Kind::ALL {
            let of_kind = match kind {
                Kind::AuthTokens => self.reseal_kind::<AuthToken>(kind).await?,
                Kind::EnrollmentKeys => self.reseal_kind::<EnrollmentKey>(kind).await?,
                Kind::ServerKeys => self.reseal_kind::<HashingKey>(kind).await?,
                Kind::AuditKey => self.reseal_kind::<AuditKey>(kind).await?,
                Kind::PushCredentials => self.reseal_kind::<Content>(kind).await?,
                Kind::AccessTokens => self.reseal_kind::<TokenText>(kind).await?,
            };
            done.resealed += of_kind.resealed;
            done.unopened += of_kind.unopened;
        }
        if done.resealed > 0 {
            let audit = self.audit(origin, self.clock.now());
            let change = move || Change::of_server(Act::MasterKeyRotated).with("count", done.resealed);
            self.store.write(async move |tx: &mut Write| audit.note(tx, change()).await).await?;
        }
        Ok(done)
    }

    async fn reseal_kind<T: Sealable + 'static>(&self, kind: Kind) -> Result<Resealed, Error> {
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
            let write = async move |tx: &mut Write| {
                let mut resealed = 0;
                for (owner, old, new) in &changes {
                    resealed += u64::from(tx.reseal(kind, owner, old, new).await?);
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
