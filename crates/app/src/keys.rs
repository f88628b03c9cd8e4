//! The ring of keys that encrypt access tokens.

use std::sync::{Arc, PoisonError};

use crypto::{EnrollmentKey, KeyRing, MasterKey};
use domain::access_tokens::Grant;
use domain::{Code, Entropy, Timestamp};
use store::{EnrollmentKeyRow, Read, Store, Write};

use crate::App;
use crate::error::Error;

/// Seconds for which a ring that lacks a key is believed. Anybody can name a key that isn't there, and
/// must not make the server read its keys with every request.
const REREAD_AFTER: i64 = 2;

/// The ring, and when it was read. Other nodes may add to it, so it is read again when a token names a
/// key that is not in it.
pub(crate) struct Ring {
    keys: Arc<KeyRing>,
    read_at: Timestamp,
}

/// Reads the ring, making its first key when there is none yet.
pub(crate) async fn open_ring(
    store: &Store,
    master_key: &Arc<MasterKey>,
    entropy: &Arc<dyn Entropy>,
    now: Timestamp,
) -> Result<Ring, Error> {
    let (sealing, random) = (Arc::clone(master_key), Arc::clone(entropy));
    let rows = store
        .write(async move |tx: &mut Write| {
            tx.lock_enrollment_keys().await?;
            let mut rows = tx.enrollment_keys().await?;
            if rows.is_empty() {
                let key = EnrollmentKey::generate(now, random.as_ref());
                let secret = sealing.seal(&key, key.kid(), random.as_ref());
                let row = EnrollmentKeyRow { kid: key.kid().to_owned(), secret };
                tx.insert_enrollment_key(&row, now).await?;
                rows.push(row);
            }
            Ok::<_, Error>(rows)
        })
        .await?;
    unseal(&rows, master_key, now)
}

/// Whether this master key opens the secrets of a database, whose schema may be old.
///
/// # Errors
/// When the database fails, and when its secrets were sealed under another master key.
pub async fn check_master_key(db: &mut Read, master_key: &MasterKey) -> Result<(), Error> {
    for row in db.enrollment_keys::<EnrollmentKey>().await? {
        master_key.open(&row.secret, &row.kid)?;
    }
    Ok(())
}

fn unseal(
    rows: &[EnrollmentKeyRow<EnrollmentKey>],
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<Ring, Error> {
    let keys =
        rows.iter().map(|row| master_key.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
    let keys = KeyRing::new(keys).ok_or(Code::Internal)?;
    Ok(Ring { keys: Arc::new(keys), read_at: now })
}

impl App {
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner).keys)
    }

    /// What an access token permits, if it is one of ours and still good.
    pub(crate) async fn open_access_token(&self, text: &str, now: Timestamp) -> Result<Option<Grant>, Error> {
        let (keys, read_at) = {
            let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&ring.keys), ring.read_at)
        };
        if keys.knows(text) || now < read_at.plus_seconds(REREAD_AFTER) {
            return Ok(keys.open(text, now));
        }
        let rows = self.store.read(async |db: &mut Read| Ok::<_, Error>(db.enrollment_keys().await?)).await?;
        let ring = unseal(&rows, &self.master_key, now)?;
        let grant = ring.keys.open(text, now);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(grant)
    }
}
