//! The keys in the database: the ring that encrypts access tokens, and the one that hashes secrets of API keys.

use std::sync::{Arc, PoisonError};

use crypto::{EnrollmentKey, HashingKey, KeyId, KeyRing, MasterKeys};
use domain::access_tokens::Grant;
use domain::audit::{Act, Change};
use domain::{Code, Entropy, Timestamp};
use store::{EnrollmentKeyRow, Read, Store, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::master_keys::MasterKeySource;

/// The name of the key that hashes secrets of API keys, among the server's own.
const HASHING: &str = "api key secrets";

/// Seconds for which a key of the ring stays after its successor was made: longer than any token lives, and
/// than any server takes to notice the successor.
pub(crate) const OVERLAP: i64 = 3600;

/// Seconds for which a ring that lacks a key is believed. Anybody can name a key that isn't there, and
/// must not make the server read its keys with every request.
const REREAD_AFTER: i64 = 2;

/// The ring, and when it was read. Other nodes may add to it, so it is read again when a token names a
/// key that is not in it.
pub(crate) struct Ring {
    keys: Arc<KeyRing>,
    read_at: Timestamp,
}

/// A key of the ring, as operators see it.
#[derive(Clone, Debug)]
pub struct RingEntry {
    /// Its name.
    pub kid: String,
    /// When it was made.
    pub made_at: Timestamp,
}

/// Reads the ring and the hashing key, making them when there are none yet.
pub(crate) async fn open_keys(
    store: &Store,
    master_keys: &MasterKeySource,
    entropy: &Arc<dyn Entropy>,
    now: Timestamp,
) -> Result<(Ring, HashingKey), Error> {
    let (keys, random) = (master_keys.keys(), Arc::clone(entropy));
    let (rows, hashing) = store
        .write(async move |tx: &mut Write| {
            tx.lock_enrollment_keys().await?;
            let mut rows = tx.enrollment_keys().await?;
            if rows.is_empty() {
                rows.push(new_key(&keys, random.as_ref(), now));
                tx.insert_enrollment_key(&rows[0], now).await?;
            }
            let hashing = match tx.server_key::<HashingKey>(HASHING).await? {
                Some(hashing) => hashing,
                None => {
                    // A database that is older than this key has hashes under the master key that it began with.
                    let first = KeyId::of(&rows[0].secret).and_then(|id| keys.get(id));
                    let key = first.unwrap_or(keys.current()).hashing_key();
                    let hashing = keys.seal(&key, HASHING, random.as_ref());
                    tx.insert_server_key(HASHING, &hashing, now).await?;
                    hashing
                }
            };
            Ok::<_, Error>((rows, hashing))
        })
        .await?;
    Ok((unseal(&rows, master_keys, now)?, master_keys.open(&hashing, HASHING)?))
}

fn new_key(keys: &MasterKeys, entropy: &dyn Entropy, now: Timestamp) -> EnrollmentKeyRow<EnrollmentKey> {
    let key = EnrollmentKey::generate(now, entropy);
    EnrollmentKeyRow { kid: key.kid().to_owned(), secret: keys.seal(&key, key.kid(), entropy) }
}

/// Whether these master keys open the secrets of a database, whose schema may be old.
///
/// # Errors
/// When the database fails, and when its secrets were sealed under another master key.
pub async fn check_master_keys(db: &mut Read, keys: &MasterKeys) -> Result<(), Error> {
    for row in db.enrollment_keys::<EnrollmentKey>().await? {
        keys.open(&row.secret, &row.kid)?;
    }
    Ok(())
}

fn unseal(
    rows: &[EnrollmentKeyRow<EnrollmentKey>],
    master_keys: &MasterKeySource,
    now: Timestamp,
) -> Result<Ring, Error> {
    let keys =
        rows.iter().map(|row| master_keys.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
    let keys = KeyRing::new(keys).ok_or(Code::Internal)?;
    Ok(Ring { keys: Arc::new(keys), read_at: now })
}

impl App {
    /// The ring to make a token with at `now`: read again if it may lack a key.
    pub(crate) async fn ring(&self, now: Timestamp) -> Result<Arc<KeyRing>, Error> {
        let (keys, read_at) = self.last_ring();
        if now < read_at.plus_seconds(REREAD_AFTER) { Ok(keys) } else { self.read_ring(now).await }
    }

    fn last_ring(&self) -> (Arc<KeyRing>, Timestamp) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&ring.keys), ring.read_at)
    }

    async fn read_ring(&self, now: Timestamp) -> Result<Arc<KeyRing>, Error> {
        let rows = self.store.read(async |db: &mut Read| Ok::<_, Error>(db.enrollment_keys().await?)).await?;
        let ring = unseal(&rows, &self.master_keys, now)?;
        let keys = Arc::clone(&ring.keys);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(keys)
    }

    /// What an access token permits, if it is one of ours and still good.
    pub(crate) async fn open_access_token(&self, text: &str, now: Timestamp) -> Result<Option<Grant>, Error> {
        let (keys, read_at) = self.last_ring();
        if keys.knows(text) || now < read_at.plus_seconds(REREAD_AFTER) {
            return Ok(keys.open(text, now));
        }
        Ok(self.read_ring(now).await?.open(text, now))
    }

    /// The names of the keys in the ring, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enrollment_keys(&self) -> Result<Vec<RingEntry>, Error> {
        let rows = self
            .store
            .read(async |db: &mut Read| Ok::<_, Error>(db.enrollment_keys::<EnrollmentKey>().await?))
            .await?;
        let entry = |row: EnrollmentKeyRow<EnrollmentKey>| {
            let key: EnrollmentKey = self.master_keys.open(&row.secret, &row.kid)?;
            Ok(RingEntry { made_at: key.made_at(), kid: row.kid })
        };
        rows.into_iter().map(entry).collect()
    }

    /// Adds a key to the ring, which makes the tokens a moment later. Those of the older keys stay good.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rotate_enrollment_keys(&self, origin: &Origin) -> Result<RingEntry, Error> {
        let now = self.clock.now();
        let row = new_key(&self.master_keys(), self.entropy.as_ref(), now);
        let (kid, audit) = (row.kid.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.lock_enrollment_keys().await?;
                tx.insert_enrollment_key(&row, now).await?;
                audit.note(tx, Change::of_server(Act::EnrollmentKeyRotated)).await
            })
            .await?;
        Ok(RingEntry { kid, made_at: now })
    }
}
