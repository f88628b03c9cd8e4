//! The keys that encrypt access tokens and hash API key secrets, as the database stores them.

use std::sync::Arc;

use crypto::{EnrollmentKey, HashingKey, KeyId, KeyRing, MasterKeys};
use domain::{Code, Entropy, Timestamp};
use store::{EnrollmentKeyRow, Read, Store, Write};

use crate::error::Error;
use crate::master_keys::MasterKeySource;

/// Name of the hashing key among the server keys in the database.
const HASHING_KEY_NAME: &str = "api key secrets";

/// The ring of enrollment keys, and when it was read. Other nodes may add keys, so the ring is read again when a token
/// names a key that is not in it.
pub(crate) struct CachedRing {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) read_at: Timestamp,
}

/// Reads the ring and the hashing key, and creates them in a new database.
pub(crate) async fn open_keys(
    store: &Store,
    master_keys: &MasterKeySource,
    entropy: &Arc<dyn Entropy>,
    now: Timestamp,
) -> Result<(CachedRing, HashingKey), Error> {
    let (keys, random) = (master_keys.keys(), Arc::clone(entropy));
    let (rows, hashing) = store
        .write(async move |tx: &mut Write| {
            tx.lock_enrollment_keys().await?;
            let mut rows = tx.enrollment_keys().await?;
            if rows.is_empty() {
                rows.push(generate_key(&keys, random.as_ref(), now));
                tx.insert_enrollment_key(&rows[0], now).await?;
            }
            let hashing = match tx.server_key::<HashingKey>(HASHING_KEY_NAME).await? {
                Some(hashing) => hashing,
                None => {
                    // A database from before this key has hashes under its first master key.
                    let first = KeyId::of(&rows[0].secret).and_then(|id| keys.get(id));
                    let key = first.unwrap_or(keys.current()).hashing_key();
                    let hashing = keys.seal(&key, HASHING_KEY_NAME, random.as_ref());
                    tx.insert_server_key(HASHING_KEY_NAME, &hashing, now).await?;
                    hashing
                }
            };
            Ok::<_, Error>((rows, hashing))
        })
        .await?;
    Ok((unseal(&rows, master_keys, now)?, master_keys.open(&hashing, HASHING_KEY_NAME)?))
}

/// Generates an enrollment key, sealed under the current master key.
pub(crate) fn generate_key(
    keys: &MasterKeys,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> EnrollmentKeyRow<EnrollmentKey> {
    let key = EnrollmentKey::generate(now, entropy);
    EnrollmentKeyRow { kid: key.kid().to_owned(), secret: keys.seal(&key, key.kid(), entropy) }
}

/// Opens the sealed enrollment keys of the database.
pub(crate) fn unseal(
    rows: &[EnrollmentKeyRow<EnrollmentKey>],
    master_keys: &MasterKeySource,
    now: Timestamp,
) -> Result<CachedRing, Error> {
    let keys =
        rows.iter().map(|row| master_keys.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
    let keys = KeyRing::new(keys).ok_or(Code::Internal)?;
    Ok(CachedRing { keys: Arc::new(keys), read_at: now })
}

/// Checks that these master keys open the secrets of a database. The database may have an old schema.
///
/// # Errors
/// Returns an error if the database fails, or if its secrets were sealed under another master key.
pub async fn check_master_keys(db: &mut Read, keys: &MasterKeys) -> Result<(), Error> {
    for row in db.enrollment_keys::<EnrollmentKey>().await? {
        keys.open(&row.secret, &row.kid)?;
    }
    Ok(())
}
