//! The state of the audit chain in this process: the audit key, and the newest ends of the chain that the process has
//! seen.

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

/// Name of the owner for which the audit key is sealed.
pub(crate) const AUDIT_KEY_OWNER: &str = "audit";

/// The audit key, and what this process has seen of the audit chain.
pub(crate) struct ChainState {
    /// The audit key, with which all MACs of the audit log are computed.
    pub(crate) key: AuditKey,
    /// The newest ends of the chain that this process has seen.
    seen: Mutex<ChainEnds>,
    /// Where checkpoints are published. Set only in a server, not in other commands.
    pub(crate) checkpoints: OnceLock<CheckpointLog>,
}

/// The two ends of an audit chain: its start and its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnds {
    /// The last record that retention removed. The chain starts after this position.
    pub(crate) removed: ChainPosition,
    /// The chain head: the position of the newest record.
    pub(crate) head: ChainPosition,
}

/// Where a server publishes checkpoints besides its log, and what it published last.
pub(crate) struct CheckpointLog {
    /// Path of the checkpoint file, or `None` if checkpoints are only logged.
    pub(crate) file: Option<PathBuf>,
    /// The position that was published last, or `None` if none was.
    pub(crate) published: Mutex<Option<ChainPosition>>,
}

impl ChainState {
    /// Creates the state of a process that has not read the chain yet.
    pub(crate) fn new(key: AuditKey) -> Self {
        let seen = ChainEnds { removed: ChainPosition::START, head: ChainPosition::START };
        Self { key, seen: Mutex::new(seen), checkpoints: OnceLock::new() }
    }

    fn seen(&self) -> ChainEnds {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest chain head that this process has seen.
    pub(crate) fn head(&self) -> ChainPosition {
        self.seen().head
    }

    /// Remembers that the chain has reached `head`, unless the process has already seen a later head.
    pub(crate) fn remember_head(&self, head: ChainPosition) {
        self.remember(ChainEnds { removed: ChainPosition::START, head });
    }

    /// Remembers each of these ends, unless the process has already seen a later one.
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

    /// Returns whether the stored ends of the chain have a valid MAC.
    pub(crate) fn has_valid_ends(&self, chain: &AuditChain) -> bool {
        macs_equal(&self.key.ends_mac(&chain.removed, &chain.head), &chain.seal)
    }

    /// Returns an unchained record if it is readable and its MAC is valid, or `None` otherwise.
    pub(crate) fn authenticate<'r>(&self, unchained: &'r UnchainedRecord) -> Option<&'r AuditRecord> {
        let (record, mac) = (unchained.record.as_ref()?, unchained.mac.as_ref()?);
        macs_equal(&self.key.unchained_mac(record), mac).then_some(record)
    }

    /// Checks that the stored ends of the chain have a valid MAC, and that the chain continues from the ends that this
    /// process has seen.
    ///
    /// # Errors
    /// Returns [`Fault::BrokenChain`] if the MAC is invalid, and [`Fault::RolledBackChain`] if the chain does not
    /// continue from those ends. Also fails if the database fails.
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

/// Returns whether a chain contains this position. A position before the start of the chain counts as contained: it
/// cannot be checked, because retention has removed its record.
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

/// Reads and decrypts the audit key. In a new database, creates the key and an empty chain.
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
            // If several servers start at once, only one of them inserts its key and chain. All of them read the key
            // that was stored.
            let create = async move |tx: &mut Write| {
                tx.insert_audit_chain(&new, &sealed).await?;
                tx.audit_key().await?.ok_or(Fault::BrokenChain.into())
            };
            store.write::<_, _, Error>(create).await?
        }
    };
    master_keys.open(&sealed, AUDIT_KEY_OWNER)
}
