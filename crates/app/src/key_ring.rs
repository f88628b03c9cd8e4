//! Reading the stored keys: the enrollment keys, which encrypt access tokens, and the hashing key for API key secrets.

use std::sync::Arc;

use crypto::{AccessTokenCipher, EnrollmentKey, HashingKey, KeyId, KeyRing, MasterKeys};
use domain::{Code, Entropy, Timestamp};
use store::{EnrollmentKeyRow, Read, Store, Write};

use crate::error::Error;
use crate::master_keys::MasterKeySource;

/// Name under which the database stores the hashing key for API key secrets.
const HASHING_KEY_NAME: &str = "api key secrets";

/// The ring of enrollment keys as last read from the database, and the time of that read. Other nodes may add keys, so
/// the ring is read again when a token contains an unknown key ID.
pub(crate) struct CachedRing {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) read_at: Timestamp,
}

/// Reads and decrypts the key ring and the hashing key. In a new database, creates both.
pub(crate) async fn open_keys(
    store: &Store,
    master_keys: &MasterKeySource,
    entropy: &Arc<dyn Entropy>,
    cipher: &Arc<dyn AccessTokenCipher>,
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
                    // A database that was created before hashing keys were stored contains hashes made with a key
                    // derived from its first master key, so this key is stored as the hashing key.
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
    Ok((unseal(&rows, master_keys, cipher, now)?, master_keys.open(&hashing, HASHING_KEY_NAME)?))
}

/// Generates an enrollment key, and seals it under the current master key.
pub(crate) fn generate_key(
    keys: &MasterKeys,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> EnrollmentKeyRow<EnrollmentKey> {
    let key = EnrollmentKey::generate(now, entropy);
    EnrollmentKeyRow { kid: key.kid().to_owned(), secret: keys.seal(&key, key.kid(), entropy) }
}

/// Decrypts the enrollment keys in `rows`, and returns the ring as read at `now`. It encrypts with `cipher`.
pub(crate) fn unseal(
    rows: &[EnrollmentKeyRow<EnrollmentKey>],
    master_keys: &MasterKeySource,
    cipher: &Arc<dyn AccessTokenCipher>,
    now: Timestamp,
) -> Result<CachedRing, Error> {
    let keys =
        rows.iter().map(|row| master_keys.open(&row.secret, &row.kid)).collect::<Result<Vec<_>, _>>()?;
    let keys = KeyRing::new(keys, Arc::clone(cipher)).ok_or(Code::Internal)?;
    Ok(CachedRing { keys: Arc::new(keys), read_at: now })
}

/// Checks that the master keys `keys` can decrypt the enrollment keys in a database. The database may have an outdated
/// schema.
///
/// # Errors
/// Returns an error if the database fails, or if its secrets were sealed under another master key.
pub async fn check_master_keys(db: &mut Read, keys: &MasterKeys) -> Result<(), Error> {
    for row in db.enrollment_keys::<EnrollmentKey>().await? {
        keys.open(&row.secret, &row.kid)?;
    }
    Ok(())
}
