//! Re-sealing every secret in the database after the master key was changed.

use std::sync::Arc;

use crypto::{AuditKey, EnrollmentKey, HashingKey, KeyId, MasterKeys, Sealable};
use domain::Sealed;
use domain::access_tokens::TokenText;
use domain::accounts::AuthToken;
use domain::audit::{AuditAction, Change};
use domain::credentials::Content;
use domain::factors::totp::TotpSecret;
use domain::outlets::OutletContent;
use domain::verifications::OneTimeCode;
use store::{Read, SealedColumn, Write};

use crate::App;
use crate::audit::chain_state::AUDIT_KEY_OWNER;
use crate::audit::{AuditWriter, Origin};
use crate::error::Error;

/// Maximum number of values that one transaction re-seals. It is small, so that other writes do not wait long.
const RESEAL_BATCH: i64 = 100;

/// How many values of one kind are sealed under one master key.
#[derive(Clone, Debug)]
pub struct SealedCount {
    /// Kind of value: the table column that stores it.
    pub kind: SealedColumn,
    /// ID of the master key, or `None` for values that are not sealed.
    pub key: Option<KeyId>,
    /// Number of values of this kind that are sealed under this master key.
    pub count: i64,
}

/// The result of re-sealing all values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Number of values that were sealed under another key and are now sealed under the current master key.
    pub resealed: u64,
    /// Number of values that could not be decrypted, because they were sealed under an unknown master key or altered.
    pub unopened: u64,
}

/// A value as it was sealed before (`old`), and re-sealed under the current master key (`new`).
struct Replacement<T> {
    owner: String,
    old: Sealed<T>,
    new: Sealed<T>,
}

impl App {
    /// Returns the current master keys.
    pub fn master_keys(&self) -> Arc<MasterKeys> {
        self.master_keys.keys()
    }

    /// Reads the master keys again from their files. If the files are unreadable or their keys do not belong to this
    /// database, the previous keys stay in use and the failure is logged.
    pub async fn reload_master_keys(&self) {
        if self.master_keys.reload() {
            return;
        }
        // All secrets may have been re-sealed while this process was not running. Decrypting one of them proves that
        // the new keys belong here, so that they are accepted.
        let read = async |db: &mut Read| Ok::<_, Error>(db.audit_key::<AuditKey>().await?);
        if let Ok(Some(sealed)) = self.store.read(read).await {
            let _ = self.master_keys.open(&sealed, AUDIT_KEY_OWNER);
        }
    }

    /// Counts the stored values by kind and by the master key that sealed them.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn count_sealed_values(&self) -> Result<Vec<SealedCount>, Error> {
        self.store.read(async |db: &mut Read| count_sealed_values(db).await).await
    }

    /// Re-seals all values that are not sealed under the current master key, in small transactions. Returns how many
    /// values were re-sealed, and how many could not be decrypted. A value that another request changes at the same
    /// time keeps that change. After an interruption, the next call continues with the remaining values.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn reseal(&self, origin: &Origin) -> Result<Resealed, Error> {
        let audit = Arc::new(self.audit(origin, self.clock.now()));
        let mut total = Resealed::default();
        for kind in SealedColumn::ALL {
            let of_kind = match kind {
                SealedColumn::AuthTokens => self.reseal_kind::<AuthToken>(kind, &audit).await?,
                SealedColumn::EnrollmentKeys => self.reseal_kind::<EnrollmentKey>(kind, &audit).await?,
                SealedColumn::ServerKeys => self.reseal_kind::<HashingKey>(kind, &audit).await?,
                SealedColumn::AuditKey => self.reseal_kind::<AuditKey>(kind, &audit).await?,
                SealedColumn::PushCredentials => self.reseal_kind::<Content>(kind, &audit).await?,
                SealedColumn::AccessTokens => self.reseal_kind::<TokenText>(kind, &audit).await?,
                SealedColumn::TotpSecrets => self.reseal_kind::<TotpSecret>(kind, &audit).await?,
                SealedColumn::OutletSettings => self.reseal_kind::<OutletContent>(kind, &audit).await?,
                SealedColumn::VerificationCodes => self.reseal_kind::<OneTimeCode>(kind, &audit).await?,
            };
            total.resealed += of_kind.resealed;
            total.unopened += of_kind.unopened;
        }
        Ok(total)
    }

    async fn reseal_kind<T: Sealable + 'static>(
        &self,
        kind: SealedColumn,
        audit: &Arc<AuditWriter>,
    ) -> Result<Resealed, Error> {
        let keys = self.master_keys();
        let (key_id, mut last_owner, mut total) =
            (keys.current().key_id(), String::new(), Resealed::default());
        loop {
            let after = last_owner.clone();
            let read = async move |db: &mut Read| {
                Ok::<_, Error>(
                    db.sealed_under_other_keys::<T>(kind, key_id.as_bytes(), &after, RESEAL_BATCH).await?,
                )
            };
            let rows = self.store.read(read).await?;
            let Some((last, _)) = rows.last() else { return Ok(total) };
            last_owner.clone_from(last);
            let mut replacements = Vec::new();
            for (owner, old) in rows {
                match self.master_keys.open(&old, &owner) {
                    Ok(value) => {
                        let new = keys.seal(&value, &owner, self.entropy.as_ref());
                        replacements.push(Replacement { owner, old, new });
                    }
                    Err(_) => total.unopened += 1,
                }
            }
            total.resealed += self.store_resealed(kind, replacements, Arc::clone(audit)).await?;
        }
    }

    /// Stores re-sealed values, except those that were changed since they were read. Returns how many were stored.
    async fn store_resealed<T: Sealable + 'static>(
        &self,
        kind: SealedColumn,
        replacements: Vec<Replacement<T>>,
        audit: Arc<AuditWriter>,
    ) -> Result<u64, Error> {
        let write = async move |tx: &mut Write| {
            let mut resealed = 0;
            for Replacement { owner, old, new } in &replacements {
                resealed += u64::from(tx.reseal(kind, owner, old, new).await?);
            }
            if resealed > 0 {
                let change = Change::of_server(AuditAction::MasterKeyRotated).detail("count", resealed);
                audit.record(tx, change).await?;
            }
            Ok::<_, Error>(resealed)
        };
        self.store.write(write).await
    }
}

/// Counts the values in a database by kind and by the master key that sealed them.
///
/// # Errors
/// Returns an error if the database fails.
pub async fn count_sealed_values(db: &mut Read) -> Result<Vec<SealedCount>, Error> {
    let mut counts = Vec::new();
    for kind in SealedColumn::ALL {
        for (key, count) in db.count_by_key(kind).await? {
            counts.push(SealedCount { kind, key: KeyId::from_bytes(&key), count });
        }
    }
    Ok(counts)
}
