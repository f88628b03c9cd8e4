//! The state of the audit chain in this process: its key, and the newest ends that were seen.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crypto::AuditKey;
use crypto::audit::macs_equal;
use domain::Entropy;
use domain::audit::{AuditRecord, ChainPosition};
use store::{AuditChain, ChainedRecord, Read, Store, UnchainedRecord, Write};
use telemetry::metrics::METRICS;

use crate::error::{Error, Fault};
use crate::master_keys::MasterKeySource;

/// Owner name under which the audit key is sealed.
pub(crate) const AUDIT_KEY_OWNER: &str = "audit";

/// The audit key, and the state of the chain as this process has read it.
pub(crate) struct ChainState {
    /// Key of all MACs.
    pub(crate) key: AuditKey,
    /// The newest ends that were seen.
    seen: Mutex<ChainEnds>,
    /// Where checkpoints are published; unset in commands other than the server.
    pub(crate) checkpoints: OnceLock<CheckpointLog>,
}

/// The two ends of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnds {
    /// The last record that retention removed; the chain starts after it.
    pub(crate) removed: ChainPosition,
    /// The newest record.
    pub(crate) head: ChainPosition,
}

/// Where a server publishes checkpoints.
pub(crate) struct CheckpointLog {
    /// The checkpoint file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The position that was published last.
    pub(crate) published: Mutex<Option<ChainPosition>>,
}

impl ChainState {
    /// Creates the state of a process that has seen nothing of the chain.
    pub(crate) fn new(key: AuditKey) -> Self {
        let seen = ChainEnds { removed: ChainPosition::START, head: ChainPosition::START };
        Self { key, seen: Mutex::new(seen), checkpoints: OnceLock::new() }
    }

    fn seen(&self) -> ChainEnds {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest head that was seen.
    pub(crate) fn head(&self) -> ChainPosition {
        self.seen().head
    }

    /// Remembers that the chain has reached `head`, unless a later head is known.
    pub(crate) fn remember_head(&self, head: ChainPosition) {
        self.remember(ChainEnds { removed: ChainPosition::START, head });
    }

    /// Remembers these ends, unless later ones are known.
    pub(crate) fn remember(&self, ends: ChainEnds) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.removed.number > seen.removed.number {
            seen.removed = ends.removed;
        }
        if ends.head.number > seen.head.number {
            seen.head = ends.head;
        }
        METRICS.audit_chain_head.set(seen.head.number);
    }

    /// Returns whether the stored ends carry a valid MAC.
    pub(crate) fn has_valid_ends(&self, chain: &AuditChain) -> bool {
        macs_equal(&self.key.ends_mac(&chain.removed, &chain.head), &chain.seal)
    }

    /// Returns an unchained record if its MAC is valid.
    pub(crate) fn authenticate<'r>(&self, unchained: &'r UnchainedRecord) -> Option<&'r AuditRecord> {
        let (record, mac) = (unchained.record.as_ref()?, unchained.mac.as_ref()?);
        macs_equal(&self.key.unchained_mac(record), mac).then_some(record)
    }

    /// Checks that the stored ends carry a valid MAC, and that the chain continues from the ends that were seen.
    ///
    /// # Errors
    /// [`Fault::BrokenChain`] or [`Fault::RolledBackChain`] if not; an error if the database fails.
    pub(crate) async fn check(&self, db: &mut Read, chain: &AuditChain) -> Result<(), Error> {
        if !self.has_valid_ends(chain) {
            return Err(Fault::BrokenChain.into());
        }
        let seen = self.seen();
        if chain.removed.number >= seen.removed.number && contains(db, chain, &seen.head).await? {
            return Ok(());
        }
        Err(Fault::RolledBackChain { seen: seen.head, end: chain.head.number }.into())
    }
}

/// Returns whether a position is part of a chain. A position before the chain's start counts as part of it.
async fn contains(db: &mut Read, chain: &AuditChain, position: &ChainPosition) -> Result<bool, Error> {
    if let Some(end) = [&chain.head, &chain.removed].into_iter().find(|end| end.number == position.number) {
        return Ok(macs_equal(&end.mac, &position.mac));
    }
    if position.number < chain.removed.number || position.number > chain.head.number {
        return Ok(position.number < chain.head.number);
    }
    let found = db.chained_records(position.number - 1, position.number, 2).await?;
    if found.is_empty() {
        // Housekeeping may have removed the record since `chain` was read.
        let chain = db.audit_chain().await?;
        return Ok(chain.is_some_and(|chain| chain.removed.number >= position.number));
    }
    let is_same = |record: &ChainedRecord| {
        record.contents.as_ref().is_some_and(|(mac, _)| macs_equal(mac, &position.mac))
    };
    Ok(found.iter().all(is_same))
}

/// Opens the key of the chain. Creates the key and an empty chain in a new database.
pub(crate) async fn open_key(
    store: &Store,
    master_keys: &MasterKeySource,
    entropy: &Arc<dyn Entropy>,
) -> Result<AuditKey, Error> {
    let read = async |db: &mut Read| Ok::<_, Error>(db.audit_key().await?);
    let sealed = match store.read(read).await? {
        Some(sealed) => sealed,
        None => {
            let key = AuditKey::generate(entropy.as_ref());
            let sealed = master_keys.seal(&key, AUDIT_KEY_OWNER, entropy.as_ref());
            let new = AuditChain {
                seal: key.ends_mac(&ChainPosition::START, &ChainPosition::START),
                removed: ChainPosition::START,
                head: ChainPosition::START,
            };
            // If several servers start at once, only one of them inserts its chain; read the one that was stored.
            let create = async move |tx: &mut Write| {
                tx.insert_audit_chain(&new, &sealed).await?;
                tx.audit_key().await?.ok_or(Fault::BrokenChain.into())
            };
            store.write::<_, _, Error>(create).await?
        }
    };
    master_keys.open(&sealed, AUDIT_KEY_OWNER)
}
