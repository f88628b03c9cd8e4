//! The key ring: the enrollment keys that encrypt access tokens, their caching and their rotation.

use std::sync::{Arc, PoisonError};

use crypto::{EnrollmentKey, KeyRing};
use domain::Timestamp;
use domain::access_tokens::Grant;
use domain::audit::{AuditAction, Change};
use store::{EnrollmentKeyRow, Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::key_ring;

/// How long a key stays in the ring after its successor was created, in seconds. This is longer than any access token
/// is valid, and longer than any node takes to notice the successor.
pub(crate) const KEY_OVERLAP_SECONDS: i64 = 3600;

/// Minimum time between two reads of the key ring from the database, in seconds. Without this limit, any client could
/// cause a database read with every request by sending tokens with unknown key IDs.
const RING_REREAD_SECONDS: i64 = 2;

/// The public properties of an enrollment key, which operators may see.
#[derive(Clone, Debug)]
pub struct EnrollmentKeyInfo {
    /// ID of the key, which access tokens contain.
    pub kid: String,
    /// When the key was created.
    pub created_at: Timestamp,
}

impl App {
    /// Returns the key ring for creating an access token at `now`. If the cached ring is too old, it is read again,
    /// because another node may have added a key.
    pub(crate) async fn ring(&self, now: Timestamp) -> Result<Arc<KeyRing>, Error> {
        let (keys, read_at) = self.cached_ring();
        if now < read_at.plus_seconds(RING_REREAD_SECONDS) { Ok(keys) } else { self.read_ring(now).await }
    }

    fn cached_ring(&self) -> (Arc<KeyRing>, Timestamp) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&ring.keys), ring.read_at)
    }

    async fn read_ring(&self, now: Timestamp) -> Result<Arc<KeyRing>, Error> {
        let rows = self.store.read(async |db: &mut Read| Ok::<_, Error>(db.enrollment_keys().await?)).await?;
        let ring = key_ring::unseal(&rows, &self.master_keys, &self.cipher, now)?;
        let keys = Arc::clone(&ring.keys);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(keys)
    }

    /// Decrypts the access token `text`, and returns what it permits. Returns `None` if this installation did not issue
    /// the token, or if it has expired.
    pub(crate) async fn open_access_token(&self, text: &str, now: Timestamp) -> Result<Option<Grant>, Error> {
        let (keys, read_at) = self.cached_ring();
        if keys.knows(text) || now < read_at.plus_seconds(RING_REREAD_SECONDS) {
            return Ok(keys.open(text, now));
        }
        Ok(self.read_ring(now).await?.open(text, now))
    }

    /// Returns the properties of the keys in the ring, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if a key cannot be decrypted.
    pub async fn enrollment_keys(&self) -> Result<Vec<EnrollmentKeyInfo>, Error> {
        let rows = self
            .store
            .read(async |db: &mut Read| Ok::<_, Error>(db.enrollment_keys::<EnrollmentKey>().await?))
            .await?;
        let info = |row: EnrollmentKeyRow<EnrollmentKey>| {
            let key: EnrollmentKey = self.master_keys.open(&row.secret, &row.kid)?;
            Ok(EnrollmentKeyInfo { created_at: key.created_at(), kid: row.kid })
        };
        rows.into_iter().map(info).collect()
    }

    /// Adds a new enrollment key to the ring, and returns its properties. All nodes use the key for new access tokens
    /// within seconds; tokens that were encrypted with older keys stay valid.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn rotate_enrollment_keys(&self, origin: &Origin) -> Result<EnrollmentKeyInfo, Error> {
        let now = self.clock.now();
        let row = key_ring::generate_key(&self.master_keys(), self.entropy.as_ref(), now);
        let (kid, audit) = (row.kid.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.lock_enrollment_keys().await?;
                tx.insert_enrollment_key(&row, now).await?;
                audit.record(tx, Change::of_server(AuditAction::EnrollmentKeyRotated)).await
            })
            .await?;
        Ok(EnrollmentKeyInfo { kid, created_at: now })
    }
}
