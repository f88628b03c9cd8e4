//! Verification of the whole audit chain, and acceptance of records without a valid MAC.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::audit::macs_equal;
use domain::EventSid;
use domain::audit::{AuditAction, ChainPosition, Change};
use store::{AuditChain, ChainedRecord, Read, UnchainedPosition, Write};

use crate::App;
use crate::audit::Origin;
use crate::audit::chain::{self, CHAIN_BATCH};
use crate::error::Error;

/// Records that one query reads for verification or export.
const VERIFY_PAGE_SIZE: i64 = 1000;

/// The result of a verification.
#[derive(Clone, Debug)]
pub enum Verification {
    /// The chain is intact.
    Intact(VerifiedChain),
    /// The chain is broken; this is the first fault.
    Broken(ChainBreak),
}

impl Verification {
    /// Converts to a `Result`, with a broken chain as the error.
    ///
    /// # Errors
    /// Returns the first fault of a broken chain.
    pub fn into_result(self) -> Result<VerifiedChain, ChainBreak> {
        match self {
            Self::Intact(verified) => Ok(verified),
            Self::Broken(fault) => Err(fault),
        }
    }
}

/// What was verified of an intact chain.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedChain {
    /// Number of verified records.
    pub checked: i64,
    /// The start of the chain: the last record that retention removed.
    pub removed: ChainPosition,
    /// The newest record, as a checkpoint to keep outside of the database.
    pub head: ChainPosition,
    /// Number of records that are not chained yet.
    pub unchained: i64,
}

/// A fault of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// The stored ends of the chain carry no valid MAC.
    #[error("the stored ends of the chain were altered")]
    Ends,
    /// A record does not match its MAC.
    #[error("record {0} was altered")]
    Altered(i64),
    /// Records are missing.
    #[error("records are missing: {0} to {1}")]
    Missing(i64, i64),
    /// A record was moved within the chain.
    #[error("out of order: record {0} now has number {1}")]
    OutOfOrder(i64, i64),
    /// A record has a number outside of the chain.
    #[error("record {0} was added outside of the chain")]
    OutsideChain(i64),
    /// Several records have this number.
    #[error("record {0} exists more than once")]
    DuplicateNumber(i64),
    /// Several records have this SID.
    #[error("record {0:?} exists more than once")]
    DuplicateSid(String),
    /// A record has a number without a MAC, or a MAC without a number.
    #[error("record {0:?} has only one of a number and a MAC")]
    HalfChained(String),
    /// Unchained records were not written by a server, or were altered since.
    #[error(
        "{0} unchained records carry no valid MAC: they were written or altered outside of the server, or by a server \
         of an older version that was killed; see `countersign audit list` and `audit accept`"
    )]
    Unauthenticated(i64),
    /// The chain ends before a checkpoint.
    #[error("the chain was cut off: it ends with record {end}, before the checkpoint at record {checkpoint}")]
    Truncated {
        /// Record number of the checkpoint.
        checkpoint: i64,
        /// Number of the last record.
        end: i64,
    },
    /// Another record is at the position of a checkpoint.
    #[error("record {0} is not the one of the checkpoint")]
    CheckpointMismatch(i64),
    /// Retention removed the record of the newest checkpoint.
    #[error("record {0} of the checkpoint was removed by audit retention; save a newer checkpoint")]
    CheckpointRemoved(i64),
}

/// Why a verification ended early.
enum Interrupted {
    /// It found a fault.
    Broken(ChainBreak),
    /// The database failed.
    Failed(Error),
}

impl From<ChainBreak> for Interrupted {
    fn from(fault: ChainBreak) -> Self {
        Self::Broken(fault)
    }
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Positions of the chain that were saved outside of the database, by number.
struct Checkpoints(BTreeMap<i64, ChainPosition>);

impl Checkpoints {
    /// Collects checkpoints of one chain; fails if two of them contradict each other.
    fn new(positions: &[ChainPosition]) -> Result<Self, ChainBreak> {
        let mut checkpoints = Self(BTreeMap::new());
        for position in positions {
            checkpoints.check(position)?;
            checkpoints.0.insert(position.number, *position);
        }
        Ok(checkpoints)
    }

    /// Checks that no checkpoint contradicts a position.
    fn check(&self, position: &ChainPosition) -> Result<(), ChainBreak> {
        match self.0.get(&position.number) {
            Some(checkpoint) if !macs_equal(&checkpoint.mac, &position.mac) => {
                Err(ChainBreak::CheckpointMismatch(position.number))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of the newest checkpoint.
    fn newest(&self) -> Option<i64> {
        self.0.last_key_value().map(|(number, _)| *number)
    }
}

/// A walk along the chain from its start.
struct Walk {
    removed: ChainPosition,
    position: ChainPosition,
    checked: i64,
}

impl Walk {
    /// Starts at the beginning of a chain.
    const fn start(chain: &AuditChain) -> Self {
        Self { removed: chain.removed, position: chain.removed, checked: 0 }
    }
}

impl App {
    /// Verifies the whole chain, and that it contains the `checkpoints`. Checkpoints before the start of the chain
    /// cannot be verified; the newest checkpoint must not be one of them.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn verify_audit(&self, checkpoints: &[ChainPosition]) -> Result<Verification, Error> {
        match self.verify_chain(checkpoints).await {
            Ok(verified) => Ok(Verification::Intact(verified)),
            Err(Interrupted::Broken(fault)) => Ok(Verification::Broken(fault)),
            Err(Interrupted::Failed(error)) => Err(error),
        }
    }

    async fn verify_chain(&self, checkpoints: &[ChainPosition]) -> Result<VerifiedChain, Interrupted> {
        let checkpoints = Checkpoints::new(checkpoints)?;
        let chain = self.read_chain().await?;
        let head = chain.head;
        if let Some(newest) = checkpoints.newest().filter(|newest| *newest < chain.removed.number) {
            return Err(ChainBreak::CheckpointRemoved(newest).into());
        }
        checkpoints.check(&chain.removed)?;
        let mut walk = Walk::start(&chain);
        while walk.position.number < head.number {
            let records = self.read_chained(walk.position, head).await?;
            let next = records.first().map_or(head.number + 1, |record| record.number);
            if next == walk.position.number + 1 {
                self.verify_page(&records, &mut walk, &checkpoints)?;
            } else {
                self.skip_removed(&mut walk, next).await?;
            }
        }
        if !macs_equal(&walk.position.mac, &head.mac) && walk.position.number == head.number {
            return Err(ChainBreak::Ends.into());
        }
        if let Some(checkpoint) = checkpoints.newest().filter(|newest| *newest > head.number) {
            return Err(ChainBreak::Truncated { checkpoint, end: head.number }.into());
        }
        let unchained = self.verify_unchained().await?;
        Ok(VerifiedChain { checked: walk.checked, removed: walk.removed, head, unchained })
    }

    /// Verifies records that follow the position of the walk, up to the first gap between their numbers.
    fn verify_page(
        &self,
        records: &[ChainedRecord],
        walk: &mut Walk,
        checkpoints: &Checkpoints,
    ) -> Result<(), ChainBreak> {
        for (index, record) in records.iter().enumerate() {
            if record.number != walk.position.number + 1 {
                break;
            }
            self.verify_successor(&walk.position, &records[index..])?;
            if let Some((mac, _)) = &record.contents {
                walk.position = ChainPosition { number: record.number, mac: *mac };
            }
            walk.checked += 1;
            checkpoints.check(&walk.position)?;
        }
        Ok(())
    }

    /// Continues behind records that housekeeping removed during the walk. `next` is the number of the first record
    /// after the gap.
    async fn skip_removed(&self, walk: &mut Walk, next: i64) -> Result<(), Interrupted> {
        let chain = self.read_chain().await?;
        if chain.removed.number <= walk.position.number {
            return Err(ChainBreak::Missing(walk.position.number + 1, next - 1).into());
        }
        (walk.removed, walk.position) = (chain.removed, chain.removed);
        Ok(())
    }

    /// Verifies that the log has only chained and valid unchained records; returns the number of the latter.
    async fn verify_unchained(&self) -> Result<i64, Interrupted> {
        let check =
            self.store.read(async |db: &mut Read| Ok::<_, Error>(db.check_audit_log().await?)).await?;
        let check = check.filter(|check| check.end_rows == 1).ok_or(ChainBreak::Ends)?;
        let fault = (check.half_chained.map(ChainBreak::HalfChained))
            .or(check.repeated_number.map(ChainBreak::DuplicateNumber))
            .or(check.outside_ends.map(ChainBreak::OutsideChain))
            .or(check.repeated_sid.map(ChainBreak::DuplicateSid));
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        match self.count_unauthenticated().await? {
            0 => Ok(check.unchained),
            records => Err(ChainBreak::Unauthenticated(records).into()),
        }
    }

    /// Counts the unchained records without a valid MAC.
    async fn count_unauthenticated(&self) -> Result<i64, Error> {
        let (mut after, mut count) = (UnchainedPosition::START, 0);
        loop {
            let from = after.clone();
            let read = async move |db: &mut Read| {
                Ok::<_, Error>(db.unchained_records(&from, VERIFY_PAGE_SIZE).await?)
            };
            let unchained = self.store.read(read).await?;
            let Some(last) = unchained.last() else { return Ok(count) };
            let invalid = unchained.iter().filter(|record| self.chain.authenticate(record).is_none());
            count += invalid.map(|_| 1).sum::<i64>();
            after = last.position.clone();
        }
    }

    /// Accepts the readable unchained records without a valid MAC, and chains them. An audit record lists the accepted
    /// ones. Returns how many there were.
    ///
    /// # Errors
    /// Returns an error if the chain is broken, or if the database fails.
    pub async fn accept_audit_records(&self, origin: &Origin) -> Result<usize, Error> {
        let (mut after, mut count) = (UnchainedPosition::START, 0);
        loop {
            let (from, state) = (after.clone(), Arc::clone(&self.chain));
            let audit = self.audit(origin, self.now());
            let accept = async move |tx: &mut Write| {
                let unchained = tx.unchained_records(&from, CHAIN_BATCH).await?;
                let invalid = unchained.iter().filter(|record| state.authenticate(record).is_none());
                let mut accepted: Vec<EventSid> = Vec::new();
                for record in invalid.filter_map(|unchained| unchained.record.as_ref()) {
                    tx.set_unchained_mac(record.sid, &state.key.unchained_mac(record)).await?;
                    accepted.push(record.sid);
                }
                if !accepted.is_empty() {
                    let change = Change::of_server(AuditAction::EventsAccepted).detail("lines", &accepted);
                    audit.record(tx, change).await?;
                }
                Ok::<_, Error>((unchained.last().map(|record| record.position.clone()), accepted.len()))
            };
            let (last, accepted) = self.store.write(accept).await?;
            count += accepted;
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        chain::append_unchained(self).await?;
        Ok(count)
    }

    /// Verifies that the first of `records` follows `previous`; the others serve to distinguish a moved record from
    /// an altered one.
    fn verify_successor(
        &self,
        previous: &ChainPosition,
        records: &[ChainedRecord],
    ) -> Result<(), ChainBreak> {
        let Some(first) = records.first() else { return Ok(()) };
        let follows = |candidate: &ChainedRecord| {
            let contents = candidate.contents.as_ref();
            contents.is_some_and(|(mac, record)| {
                macs_equal(mac, &self.chain.key.next_position(previous, record).mac)
            })
        };
        if follows(first) {
            return Ok(());
        }
        match records.iter().find(|candidate| follows(candidate)) {
            Some(moved) => Err(ChainBreak::OutOfOrder(first.number, moved.number)),
            None => Err(ChainBreak::Altered(first.number)),
        }
    }

    /// Reads the ends of the chain, and verifies their MAC.
    async fn read_chain(&self) -> Result<AuditChain, Interrupted> {
        let read = async |db: &mut Read| Ok::<_, Error>(db.audit_chain().await?);
        let chain = self.store.read(read).await?;
        Ok(chain.filter(|chain| self.chain.has_valid_ends(chain)).ok_or(ChainBreak::Ends)?)
    }

    /// Reads a page of the records after one position, up to another.
    async fn read_chained(
        &self,
        after: ChainPosition,
        up_to: ChainPosition,
    ) -> Result<Vec<ChainedRecord>, Error> {
        let (after, up_to) = (after.number, up_to.number);
        self.store
            .read(async move |db: &mut Read| Ok(db.chained_records(after, up_to, VERIFY_PAGE_SIZE).await?))
            .await
    }

    /// Returns at most a thousand chained records after a record number, in order. The result is empty at the end of
    /// the chain.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn chained_records_after(&self, number: i64) -> Result<Vec<ChainedRecord>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                Ok(db.chained_records(number, i64::MAX, VERIFY_PAGE_SIZE).await?)
            })
            .await
    }
}
