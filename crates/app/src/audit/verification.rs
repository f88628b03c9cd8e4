//! Verification of the whole audit chain, and acceptance of unchained records that have no valid MAC.

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

/// Maximum number of records that one query reads for verification or export.
const VERIFY_PAGE_SIZE: i64 = 1000;

/// The result of verifying the audit log.
#[derive(Clone, Debug)]
pub enum Verification {
    /// The audit log is intact.
    Intact(VerifiedChain),
    /// The audit log was altered; this is the first fault that was found.
    Broken(ChainBreak),
}

impl Verification {
    /// Converts the verification to a `Result` whose error is the fault of a broken chain.
    ///
    /// # Errors
    /// Returns the first fault if the chain is broken.
    pub fn into_result(self) -> Result<VerifiedChain, ChainBreak> {
        match self {
            Self::Intact(verified) => Ok(verified),
            Self::Broken(fault) => Err(fault),
        }
    }
}

/// The summary of an intact chain's verification.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedChain {
    /// Number of chained records that were verified.
    pub checked: i64,
    /// Position of the last record that retention removed. The chain starts after this position.
    pub removed: ChainPosition,
    /// The chain head: the position of the newest record. Operators can keep it outside of the database as a
    /// checkpoint.
    pub head: ChainPosition,
    /// Number of records that have a valid MAC but are not chained yet.
    pub unchained: i64,
}

/// A fault in the audit log, which shows that it was altered or does not match a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// The stored ends of the chain have no valid MAC, or do not match the records.
    #[error("the stored ends of the chain were altered")]
    Ends,
    /// The record with this number does not match its MAC.
    #[error("record {0} was altered")]
    Altered(i64),
    /// The records with the numbers from the first to the second value are missing.
    #[error("records are missing: {0} to {1}")]
    Missing(i64, i64),
    /// A record was moved within the chain: the first value is its original number, the second its present number.
    #[error("out of order: record {0} now has number {1}")]
    OutOfOrder(i64, i64),
    /// The record with this number lies outside of the two ends of the chain.
    #[error("record {0} was added outside of the chain")]
    OutsideChain(i64),
    /// Several records have the same number.
    #[error("record {0} exists more than once")]
    DuplicateNumber(i64),
    /// Several records have the same SID.
    #[error("record {0:?} exists more than once")]
    DuplicateSid(String),
    /// The record with this SID has a chain number without a chain MAC, or a chain MAC without a chain number.
    #[error("record {0:?} has a number but no MAC, or a MAC but no number")]
    HalfChained(String),
    /// This many unchained records have no valid MAC: they were not written by a server, or were altered since.
    #[error(
        "{0} unchained records carry no valid MAC: they were written or altered outside of the server, or by a server \
         of an older version that was killed; see `countersign audit list` and `audit accept`"
    )]
    Unauthenticated(i64),
    /// The chain was cut off: it ends before a checkpoint.
    #[error("the chain was cut off: it ends with record {end}, before the checkpoint at record {checkpoint}")]
    Truncated {
        /// Record number of the checkpoint.
        checkpoint: i64,
        /// Number of the last record in the chain.
        end: i64,
    },
    /// The record with this number is not the one to which the checkpoint with this number refers.
    #[error("record {0} does not match the checkpoint")]
    CheckpointMismatch(i64),
    /// Retention removed the record with this number, to which the newest checkpoint refers, so the checkpoint cannot
    /// be verified.
    #[error(
        "record {0}, to which the checkpoint refers, was removed by audit retention; save a newer checkpoint"
    )]
    CheckpointRemoved(i64),
}

/// The reason a verification ended early.
enum Interrupted {
    /// The verification found a fault.
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

/// Checkpoints: positions of the chain that were saved outside of the database, by record number.
struct Checkpoints(BTreeMap<i64, ChainPosition>);

impl Checkpoints {
    /// Collects the checkpoints of a chain. Fails if two of them have the same number but different MACs.
    fn new(positions: &[ChainPosition]) -> Result<Self, ChainBreak> {
        let mut checkpoints = Self(BTreeMap::new());
        for position in positions {
            checkpoints.check(position)?;
            checkpoints.0.insert(position.number, *position);
        }
        Ok(checkpoints)
    }

    /// Checks that no checkpoint has the same number as `position` but a different MAC.
    fn check(&self, position: &ChainPosition) -> Result<(), ChainBreak> {
        match self.0.get(&position.number) {
            Some(checkpoint) if !macs_equal(&checkpoint.mac, &position.mac) => {
                Err(ChainBreak::CheckpointMismatch(position.number))
            }
            _ => Ok(()),
        }
    }

    /// Returns the record number of the newest checkpoint, or `None` if there are no checkpoints.
    fn newest(&self) -> Option<i64> {
        self.0.last_key_value().map(|(number, _)| *number)
    }
}

/// How far the verification of the chain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationProgress {
    /// Number of chained records verified so far.
    pub checked: i64,
    /// Number of chained records in total.
    pub total: i64,
}

/// A walk along the chain during verification: the start, the position reached, and the number of records verified.
struct Walk {
    removed: ChainPosition,
    position: ChainPosition,
    checked: i64,
}

impl Walk {
    /// Creates a walk that is at the start of `chain`.
    const fn start(chain: &AuditChain) -> Self {
        Self { removed: chain.removed, position: chain.removed, checked: 0 }
    }
}

impl App {
    /// Verifies the whole audit log, and that the chain contains the `checkpoints`. Checkpoints before the start of the
    /// chain cannot be verified and are ignored, unless the newest checkpoint is one of them, which counts as a fault.
    /// Returns the first fault that is found, if any. Calls `report` again and again until all records are verified.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn verify_audit(
        &self,
        checkpoints: &[ChainPosition],
        report: impl Fn(VerificationProgress),
    ) -> Result<Verification, Error> {
        match self.verify_chain(checkpoints, report).await {
            Ok(verified) => Ok(Verification::Intact(verified)),
            Err(Interrupted::Broken(fault)) => Ok(Verification::Broken(fault)),
            Err(Interrupted::Failed(error)) => Err(error),
        }
    }

    async fn verify_chain(
        &self,
        checkpoints: &[ChainPosition],
        report: impl Fn(VerificationProgress),
    ) -> Result<VerifiedChain, Interrupted> {
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
            let total = walk.checked + (head.number - walk.position.number).max(0);
            report(VerificationProgress { checked: walk.checked, total });
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

    /// Verifies the records that follow the walk's position, up to the first gap in their numbers, and advances the
    /// walk.
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

    /// Moves the walk past records that housekeeping removed during the verification. `next` is the number of the first
    /// record after the gap. Fails with [`ChainBreak::Missing`] if housekeeping did not remove them.
    async fn skip_removed(&self, walk: &mut Walk, next: i64) -> Result<(), Interrupted> {
        let chain = self.read_chain().await?;
        if chain.removed.number <= walk.position.number {
            return Err(ChainBreak::Missing(walk.position.number + 1, next - 1).into());
        }
        (walk.removed, walk.position) = (chain.removed, chain.removed);
        Ok(())
    }

    /// Verifies the records that have no position in the chain: each must be about to be chained, with a valid MAC of
    /// its own. Returns their number.
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

    /// Returns the number of unchained records that have no valid MAC.
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

    /// Accepts the readable unchained records that have no valid MAC, and chains them. Returns how many were accepted.
    /// An audit record lists the accepted records.
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
                let readable = invalid.filter_map(|unchained| unchained.record.as_ref());
                let macs: Vec<_> =
                    readable.map(|record| (record.sid, state.key.unchained_mac(record))).collect();
                let accepted: Vec<EventSid> = macs.iter().map(|(sid, _)| *sid).collect();
                if !accepted.is_empty() {
                    tx.set_unchained_macs(&macs).await?;
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

    /// Verifies that the first of `records` follows the position `previous` in the chain. The other records serve to
    /// distinguish a moved record from an altered one.
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

    /// Reads the stored ends of the chain: its start and its head. Fails with [`ChainBreak::Ends`] if they are missing
    /// or their MAC is not valid.
    async fn read_chain(&self) -> Result<AuditChain, Interrupted> {
        let read = async |db: &mut Read| Ok::<_, Error>(db.audit_chain().await?);
        let chain = self.store.read(read).await?;
        Ok(chain.filter(|chain| self.chain.has_valid_ends(chain)).ok_or(ChainBreak::Ends)?)
    }

    /// Reads up to [`VERIFY_PAGE_SIZE`] chained records after the position `after`, up to and including `up_to`, in
    /// chain order.
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

    /// Returns up to 1000 chained records that follow the record `number`, in chain order. The result is empty at the
    /// end of the chain.
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
