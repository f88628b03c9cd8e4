//! The ring of keys that encrypt access tokens.

use std::sync::{Arc, PoisonError};

use crypto::{EnrollmentKey, KeyRing, MasterKey};
use domain::access_tokens::Grant;
use domain::{Entropy, Timestamp};
use store::{EnrollmentKeyRow, Store, Write};

use crate::App;
use crate::error::Error;

/// Reads the ring, making its first key when there is none yet.
pub(crate) async fn open_ring(
    store: &Store,
    master_key: &Arc<MasterKey>,
    entropy: &Arc<dyn Entropy>,
    now: Timestamp,
) -> Result<KeyRing, Error> {
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
    let keys = rows.iter().map(|row| master_key.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
    KeyRing::new(keys).ok_or_else(Error::unauthenticated)
}

impl App {
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an access token permits, if it is one of ours and still good.
    pub(crate) async fn open_access_token(&self, text: &str, now: Timestamp) -> Result<Option<Grant>, Error> {
        let ring = self.ring();
        if ring.knows(text) {
            return Ok(ring.open(text, now));
        }
        let master_key = Arc::clone(&self.master_key);
        let rows = self.store.read(async |db: &mut store::Read| Ok::<_, Error>(db.enrollment_keys().await?)).await?;
        let keys = rows.iter().map(|row| master_key.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
        let Some(ring) = KeyRing::new(keys) else { return Ok(None) };
        let grant = ring.open(text, now);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(grant)
    }
}
