//! The chain of the audit log: what makes it, shortens it, and checks it.
//!
//! A line is written in the transaction of its change and is not part of the chain yet: lines that had to follow
//! one another would make changes wait for one another. Until then a MAC of its own keeps it from being forged or
//! altered. A moment later one server at a time gives the lines that wait their numbers and chained MACs. So a line
//! of the last second can still be deleted without a trace; no chained line can.
//!
//! Each process remembers the newest end of the chain that it has seen, and refuses a chain that does not go on from
//! there: an attacker may have put an older end back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crypto::AuditKey;
use crypto::audit::same;
use domain::audit::{Act, Change, Line, Mark};
use domain::{Entropy, EventSid, Timestamp};
pub use store::ChainedLine;
use store::{AuditChain, Read, Store, WaitingLine, WaitingPlace, Write};
use telemetry::metrics::METRICS;
use tracing::{error, info};

use crate::App;
use crate::audit::{Audit, Origin};
use crate::checkpoints::CheckpointLog;
use crate::error::{Error, Fault};
use crate::master_keys::MasterKeySource;

/// Pause between two looks at the chain and at the lines that wait.
const EVERY: Duration = Duration::from_secs(1);

/// How long a server that stops takes to chain the last lines.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks between two checkpoints.
const LOOKS_PER_CHECKPOINT: u32 = 60;

/// Looks after which a line without a valid MAC is reported. A server of an older version, which runs during an
/// upgrade, has chained its own by then.
const LOOKS_BEFORE_REPORT: u32 = 10;

/// Lines that are chained in one transaction: few, so that other writes do not wait long.
const BATCH: i64 = 200;

/// Lines that are read at once to be checked.
const STRIDE: i64 = 1000;

/// What the key is sealed for.
pub(crate) const OWNER: &str = "audit";

/// The chain as this process knows it.
pub(crate) struct Chain {
    /// The key of all MACs.
    pub(crate) key: AuditKey,
    /// The newest ends that were seen.
    seen: Mutex<Ends>,
    /// Where checkpoints go; nowhere from a command.
    pub(crate) checkpoints: OnceLock<CheckpointLog>,
}

/// The two ends of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    removed: Mark,
    head: Mark,
}

impl Chain {
    /// A chain of which nothing has been seen.
    pub(crate) fn new(key: AuditKey) -> Self {
        let seen = Ends { removed: Mark::START, head: Mark::START };
        Self { key, seen: Mutex::new(seen), checkpoints: OnceLock::new() }
    }

    fn seen(&self) -> Ends {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest end that was seen.
    pub(crate) fn head(&self) -> Mark {
        self.seen().head
    }

    /// Remembers that the chain has reached a mark. It never forgets a later one.
    pub(crate) fn remember_head(&self, head: Mark) {
        self.remember(Ends { removed: Mark::START, head });
    }

    fn remember(&self, ends: Ends) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.removed.number > seen.removed.number {
            seen.removed = ends.removed;
        }
        if ends.head.number > seen.head.number {
            seen.head = ends.head;
        }
        METRICS.audit_chain_head.set(seen.head.number);
    }

    fn is_sealed(&self, chain: &AuditChain<AuditKey>) -> bool {
        same(&self.key.ends(&chain.removed, &chain.head), &chain.seal)
    }

    /// The line that waits, if it is as a server with this key wrote it.
    fn authentic<'l>(&self, waiting: &'l WaitingLine) -> Option<&'l Line> {
        let (line, mac) = (waiting.line.as_ref()?, waiting.mac.as_ref()?);
        same(&self.key.waiting(line), mac).then_some(line)
    }

    /// Checks that the ends of the chain in the database carry their seal, and that it goes on from the ends that were
    /// seen.
    async fn check(&self, db: &mut Read, chain: &AuditChain<AuditKey>) -> Result<(), Error> {
        if !self.is_sealed(chain) {
            return Err(Fault::BrokenChain.into());
        }
        let seen = self.seen();
        if chain.removed.number >= seen.removed.number && is_part_of(db, chain, &seen.head).await? {
            return Ok(());
        }
        Err(Fault::RewoundChain { seen: seen.head, end: chain.head.number }.into())
    }
}

/// Whether a mark is part of a chain. One whose line was removed after its time counts as such.
async fn is_part_of(db: &mut Read, chain: &AuditChain<AuditKey>, mark: &Mark) -> Result<bool, Error> {
    if let Some(end) = [&chain.head, &chain.removed].into_iter().find(|end| end.number == mark.number) {
        return Ok(same(&end.mac, &mark.mac));
    }
    if mark.number < chain.removed.number || mark.number > chain.head.number {
        return Ok(mark.number < chain.head.number);
    }
    let found = db.chained_lines(mark.number - 1, mark.number, 2).await?;
    if found.is_empty() {
        // Housekeeping may have removed it in this moment.
        let chain = db.audit_chain::<AuditKey>().await?;
        return Ok(chain.is_some_and(|chain| chain.removed.number >= mark.number));
    }
    let is_same = |line: &ChainedLine| line.contents.as_ref().is_some_and(|(mac, _)| same(mac, &mark.mac));
    Ok(found.iter().all(is_same))
}

/// The key of the chain; makes it, and the chain, when there is none yet.
pub(crate) async fn open_key(
    store: &Store,
    master_keys: &MasterKeySource,
    entropy: &Arc<dyn Entropy>,
) -> Result<AuditKey, Error> {
    let found = async |db: &mut Read| Ok::<_, Error>(db.audit_chain::<AuditKey>().await?);
    let chain = match store.read(found).await? {
        Some(chain) => chain,
        None => {
            let key = AuditKey::generate(entropy.as_ref());
            let new = AuditChain {
                seal: key.ends(&Mark::START, &Mark::START),
                key: master_keys.seal(&key, OWNER, entropy.as_ref()),
                removed: Mark::START,
                head: Mark::START,
            };
            // However many servers start at once, one of them makes it.
            let make = async move |tx: &mut Write| {
                tx.insert_audit_chain(&new).await?;
                tx.audit_chain::<AuditKey>().await?.ok_or(Fault::BrokenChain.into())
            };
            store.write::<_, _, Error>(make).await?
        }
    };
    master_keys.open(&chain.key, OWNER)
}

/// Chains the lines that wait, until the task is aborted.
pub(crate) async fn keep(app: Arc<App>) {
    let mut reported = Reported::default();
    for look in 1_u32.. {
        tokio::time::sleep(EVERY).await;
        let result = chain(&app).await;
        if let Err(Error::Fault(Fault::BrokenChain | Fault::RewoundChain { .. })) = &result {
            METRICS.audit_chain_refusals.inc();
        }
        reported.report(&result);
        if look % LOOKS_PER_CHECKPOINT == 0 {
            app.publish_checkpoint(false);
        }
    }
}

/// Chains the lines that wait when a server or a command ends; what it leaves, another process will chain.
pub(crate) async fn finish(app: &App) {
    if let Ok(Err(fault)) = tokio::time::timeout(SHUTDOWN_TIMEOUT, chain(app)).await {
        error!("the audit log is not chained to its end: {}", fault.chain());
    }
    app.publish_checkpoint(true);
}

/// What was reported last, so that it is not repeated every second.
#[derive(Default)]
struct Reported {
    failure: String,
    /// The first line without a valid MAC, and in how many looks it was found.
    unauthenticated: (String, u32),
}

impl Reported {
    fn report(&mut self, result: &Result<Unauthenticated, Error>) {
        let failure = result.as_ref().err().map(Error::chain).unwrap_or_default();
        if failure != self.failure && !failure.is_empty() {
            error!("the audit log is not chained for now: {failure}");
        } else if failure != self.failure {
            info!("the audit log is chained again");
        }
        self.failure = failure;
        let Ok(found) = result else { return };
        METRICS.audit_lines_unauthenticated.set(found.count);
        match &found.first {
            Some(first) if *first == self.unauthenticated.0 => self.unauthenticated.1 += 1,
            first => self.unauthenticated = (first.clone().unwrap_or_default(), 1),
        }
        if found.count > 0 && self.unauthenticated.1 == LOOKS_BEFORE_REPORT {
            error!(
                lines = found.count,
                first = ?self.unauthenticated.0,
                "lines of the audit log stay unchained: they carry no valid MAC, so they were written or altered past \
                 the server, or by a server of an older version that was killed; see `countersign audit accept`"
            );
        }
    }
}

/// Lines that wait and were not written by a server with the key of the chain, or were altered since.
#[derive(Default)]
struct Unauthenticated {
    count: i64,
    first: Option<String>,
}

/// Chains the lines that wait, a transaction for each batch. Lines without a valid MAC stay as they are.
async fn chain(app: &App) -> Result<Unauthenticated, Error> {
    observe(app).await?;
    let (mut after, mut unauthenticated) = (WaitingPlace::START, Unauthenticated::default());
    loop {
        let from = after.clone();
        let waiting = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.waiting_lines(&from, BATCH).await?))
            .await?;
        let Some(last) = waiting.last() else { return Ok(unauthenticated) };
        let mut false_ones = waiting.iter().filter(|line| app.chain.authentic(line).is_none()).peekable();
        if let (None, Some(first)) = (&unauthenticated.first, false_ones.peek()) {
            unauthenticated.first = Some(first.place.sid.clone());
        }
        let count = false_ones.count();
        unauthenticated.count += i64::try_from(count).unwrap_or(i64::MAX);
        if count < waiting.len() && !chain_batch(app, after).await? {
            // Another server chains.
            return Ok(unauthenticated);
        }
        after = last.place.clone();
    }
}

/// Chains the first lines after a position; returns `false` if another server holds the chain.
async fn chain_batch(app: &App, after: WaitingPlace) -> Result<bool, Error> {
    let known = Arc::clone(&app.chain);
    let chained = app.store.write(async move |tx: &mut Write| {
        let Some(chain) = hold(tx, &known).await? else { return Ok(None) };
        let mut head = chain.head;
        let mut marks = Vec::new();
        for line in tx.waiting_lines(&after, BATCH).await?.iter().filter_map(|line| known.authentic(line)) {
            head = known.key.next(&head, line);
            marks.push((line.sid, head));
        }
        tx.chain_lines(&marks).await?;
        tx.move_audit_ends(&chain.removed, &head, &known.key.ends(&chain.removed, &head)).await?;
        Ok::<_, Error>(Some(Ends { removed: chain.removed, head }))
    });
    let chained = chained.await?;
    // Only now: the transaction is committed.
    if let Some(ends) = chained {
        app.chain.remember(ends);
    }
    Ok(chained.is_some())
}

/// Remembers the ends of the chain as they are in the database, if it goes on from those that were seen.
pub(crate) async fn observe(app: &App) -> Result<(), Error> {
    let known = Arc::clone(&app.chain);
    let look = async move |db: &mut Read| {
        let chain = db.audit_chain::<AuditKey>().await?.ok_or(Fault::BrokenChain)?;
        known.check(db, &chain).await?;
        Ok::<_, Error>(Ends { removed: chain.removed, head: chain.head })
    };
    app.chain.remember(app.store.read(look).await?);
    Ok(())
}

/// The chain, locked until the transaction ends; `None` while another server has it.
async fn hold(tx: &mut Write, known: &Chain) -> Result<Option<AuditChain<AuditKey>>, Error> {
    let Some(chain) = tx.hold_audit_chain::<AuditKey>().await? else {
        return if tx.audit_chain::<AuditKey>().await?.is_some() {
            Ok(None)
        } else {
            Err(Fault::BrokenChain.into())
        };
    };
    // A server that went on from false ends would give them a true seal.
    known.check(tx, &chain).await?;
    Ok(Some(chain))
}

/// Removes at most `limit` of the oldest lines of the chain, as far as they were written before an instant; returns
/// how many. The chain remembers where they ended, and the log that they went. A line that does not follow the one
/// before stays, with all behind it: once it were gone, nothing would show that it was altered.
pub(crate) async fn remove_old(
    tx: &mut Write,
    known: &Chain,
    audit: &Audit,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let Some(chain) = hold(tx, known).await? else { return Ok(0) };
    let key = &known.key;
    let lines = tx.chained_lines(chain.removed.number, chain.head.number, limit).await?;
    let mut removed = chain.removed;
    for found in &lines {
        let (mac, line) = found.contents.as_ref().ok_or(Fault::BrokenChain)?;
        let next = key.next(&removed, line);
        if found.number != next.number || !same(mac, &next.mac) {
            return Err(Fault::BrokenChain.into());
        }
        if line.created_at >= before {
            break;
        }
        removed = next;
    }
    if removed == chain.removed {
        return Ok(0);
    }
    tx.move_audit_ends(&removed, &chain.head, &key.ends(&removed, &chain.head)).await?;
    let count = tx.delete_removed_lines(chain.removed.number).await?;
    let change = Change::of_server(Act::EventsRemoved).with("count", count);
    audit.note(tx, change.with("up_to", removed.number)).await?;
    Ok(count)
}

/// A chain that holds.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// Lines that were checked.
    pub checked: i64,
    /// Where the chain begins: the last line that went after its time.
    pub removed: Mark,
    /// Where it ends: what to note down.
    pub head: Mark,
    /// Lines that are not chained yet.
    pub waiting: i64,
}

/// The first fault of a log that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// What is remembered of the chain's two ends was altered.
    #[error("what is remembered of the two ends of the chain was changed")]
    Ends,
    /// A line does not say what it said.
    #[error("line {0} was changed")]
    Changed(i64),
    /// Lines are gone.
    #[error("lines are missing from {0} to {1}")]
    Missing(i64, i64),
    /// A line stands in another place.
    #[error("out of order: line {0} now stands as line {1}")]
    OutOfOrder(i64, i64),
    /// A line has a number that was never given, or that went after its time.
    #[error("line {0} was added outside of the chain")]
    Added(i64),
    /// More than one line has this number.
    #[error("line {0} is there more than once")]
    Repeated(i64),
    /// More than one line has this SID.
    #[error("line {0:?} is there more than once")]
    RepeatedSid(String),
    /// A line has a number without a MAC, or a MAC without a number.
    #[error("line {0:?} has only one of a number and a MAC")]
    HalfChained(String),
    /// Lines that wait were not written by a server, or were altered since.
    #[error(
        "{0} of the lines that are not chained yet carry no valid MAC: they were written or altered past the server, \
         or by a server of an older version that was killed; see `countersign audit list` and `audit accept`"
    )]
    Unauthenticated(i64),
    /// The chain ends before the mark that was noted.
    #[error("the chain was cut off: it ends with line {end}, and line {noted} was noted")]
    CutOff {
        /// Number of the mark.
        noted: i64,
        /// Number of the last line.
        end: i64,
    },
    /// There is another line where the mark was noted.
    #[error("line {0} is not the one that was noted")]
    AnotherHistory(i64),
    /// The line of the newest mark went after its time.
    #[error("line {0}, which was noted, went after its time: note a newer one")]
    Outlived(i64),
}

/// The marks that were noted outside of the database.
struct Noted(BTreeMap<i64, Mark>);

impl Noted {
    /// Marks of one chain.
    fn new(marks: &[Mark]) -> Result<Self, Break> {
        let mut noted = Self(BTreeMap::new());
        for mark in marks {
            noted.agrees(mark)?;
            noted.0.insert(mark.number, *mark);
        }
        Ok(noted)
    }

    /// Checks that no other line was noted where a mark is.
    fn agrees(&self, mark: &Mark) -> Result<(), Break> {
        match self.0.get(&mark.number) {
            Some(noted) if !same(&noted.mac, &mark.mac) => Err(Break::AnotherHistory(mark.number)),
            _ => Ok(()),
        }
    }

    /// The number of the newest one.
    fn last(&self) -> Option<i64> {
        self.0.last_key_value().map(|(number, _)| *number)
    }
}

impl App {
    /// Walks the whole chain, and checks that the marks that were noted are part of it. Marks of lines that went
    /// after their time can't be checked; the newest has to be there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_audit(&self, noted: &[Mark]) -> Result<Result<Holds, Break>, Error> {
        let noted = match Noted::new(noted) {
            Ok(noted) => noted,
            Err(broken) => return Ok(Err(broken)),
        };
        let Some(chain) = self.chain_to_verify().await? else { return Ok(Err(Break::Ends)) };
        let (mut removed, head) = (chain.removed, chain.head);
        if let Some(last) = noted.last().filter(|last| *last < removed.number) {
            return Ok(Err(Break::Outlived(last)));
        }
        if let Err(broken) = noted.agrees(&removed) {
            return Ok(Err(broken));
        }
        let (mut mark, mut checked) = (removed, 0);
        while mark.number < head.number {
            let lines = self.chained_lines(mark, head).await?;
            let next = lines.first().map_or(head.number + 1, |line| line.number);
            if next != mark.number + 1 {
                // Housekeeping may have taken them away meanwhile.
                let Some(chain) = self.chain_to_verify().await? else { return Ok(Err(Break::Ends)) };
                if chain.removed.number <= mark.number {
                    return Ok(Err(Break::Missing(mark.number + 1, next - 1)));
                }
                (removed, mark) = (chain.removed, chain.removed);
                continue;
            }
            for (place, line) in lines.iter().enumerate() {
                if line.number != mark.number + 1 {
                    break;
                }
                if let Err(broken) = self.follows(&mark, line, &lines[place..]) {
                    return Ok(Err(broken));
                }
                mark =
                    line.contents.as_ref().map_or(mark, |(mac, _)| Mark { number: line.number, mac: *mac });
                checked += 1;
                if let Err(broken) = noted.agrees(&mark) {
                    return Ok(Err(broken));
                }
            }
        }
        if !same(&mark.mac, &head.mac) && mark.number == head.number {
            return Ok(Err(Break::Ends));
        }
        if let Some(noted) = noted.last().filter(|last| *last > head.number) {
            return Ok(Err(Break::CutOff { noted, end: head.number }));
        }
        match self.verify_beside_chain().await? {
            Ok(waiting) => Ok(Ok(Holds { checked, removed, head, waiting })),
            Err(broken) => Ok(Err(broken)),
        }
    }

    /// Checks that nothing is in the log that is neither chained nor waits; returns how many lines wait.
    async fn verify_beside_chain(&self) -> Result<Result<i64, Break>, Error> {
        let tail = self.store.read(async |db: &mut Read| Ok::<_, Error>(db.audit_tail().await?)).await?;
        let Some(tail) = tail.filter(|tail| tail.ends == 1) else { return Ok(Err(Break::Ends)) };
        let broken = (tail.half_chained.map(Break::HalfChained))
            .or(tail.repeated_number.map(Break::Repeated))
            .or(tail.added.map(Break::Added))
            .or(tail.repeated_sid.map(Break::RepeatedSid));
        if let Some(broken) = broken {
            return Ok(Err(broken));
        }
        Ok(match self.unauthenticated_lines().await? {
            0 => Ok(tail.waiting),
            lines => Err(Break::Unauthenticated(lines)),
        })
    }

    /// The number of lines that wait without a valid MAC.
    async fn unauthenticated_lines(&self) -> Result<i64, Error> {
        let (mut after, mut count) = (WaitingPlace::START, 0);
        loop {
            let from = after.clone();
            let read = async move |db: &mut Read| Ok::<_, Error>(db.waiting_lines(&from, STRIDE).await?);
            let waiting = self.store.read(read).await?;
            let Some(last) = waiting.last() else { return Ok(count) };
            count +=
                waiting.iter().filter(|line| self.chain.authentic(line).is_none()).map(|_| 1).sum::<i64>();
            after = last.place.clone();
        }
    }

    /// Accepts the lines that wait without a valid MAC, as far as they can be read, and chains them. A line of its own
    /// names each that was accepted. Returns how many there were.
    ///
    /// # Errors
    /// When the chain is broken, and when the database fails.
    pub async fn accept_audit_lines(&self, origin: &Origin) -> Result<usize, Error> {
        let (mut after, mut count) = (WaitingPlace::START, 0);
        loop {
            let (from, known) = (after.clone(), Arc::clone(&self.chain));
            let audit = self.audit(origin, self.now());
            let accept = async move |tx: &mut Write| {
                let waiting = tx.waiting_lines(&from, BATCH).await?;
                let unknown = waiting.iter().filter(|line| known.authentic(line).is_none());
                let mut accepted: Vec<EventSid> = Vec::new();
                for line in unknown.filter_map(|waiting| waiting.line.as_ref()) {
                    tx.set_waiting_mac(line.sid, &known.key.waiting(line)).await?;
                    accepted.push(line.sid);
                }
                if !accepted.is_empty() {
                    audit.note(tx, Change::of_server(Act::EventsAccepted).with("lines", &accepted)).await?;
                }
                Ok::<_, Error>((waiting.last().map(|line| line.place.clone()), accepted.len()))
            };
            let (last, accepted) = self.store.write(accept).await?;
            count += accepted;
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        chain(self).await?;
        Ok(count)
    }

    /// Whether a line follows a mark; `batch` is that line and what was read behind it.
    fn follows(&self, before: &Mark, found: &ChainedLine, batch: &[ChainedLine]) -> Result<(), Break> {
        let fits = |candidate: &ChainedLine| {
            let contents = candidate.contents.as_ref();
            contents.is_some_and(|(mac, line)| same(mac, &self.chain.key.next(before, line).mac))
        };
        if fits(found) {
            return Ok(());
        }
        match batch.iter().find(|candidate| fits(candidate)) {
            Some(moved) => Err(Break::OutOfOrder(found.number, moved.number)),
            None => Err(Break::Changed(found.number)),
        }
    }

    /// The chain, if what is remembered of its ends is what was remembered.
    async fn chain_to_verify(&self) -> Result<Option<AuditChain<AuditKey>>, Error> {
        let chain =
            self.store.read(async |db: &mut Read| Ok::<_, Error>(db.audit_chain::<AuditKey>().await?));
        Ok(chain.await?.filter(|chain| self.chain.is_sealed(chain)))
    }

    /// Lines of the chain behind a mark, up to another.
    async fn chained_lines(&self, after: Mark, up_to: Mark) -> Result<Vec<ChainedLine>, Error> {
        let (after, up_to) = (after.number, up_to.number);
        self.store.read(async move |db: &mut Read| Ok(db.chained_lines(after, up_to, STRIDE).await?)).await
    }

    /// At most a thousand lines of the chain behind a number, in its order; none behind the last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_after(&self, number: i64) -> Result<Vec<ChainedLine>, Error> {
        self.store
            .read(async move |db: &mut Read| Ok(db.chained_lines(number, i64::MAX, STRIDE).await?))
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use crypto::{MasterKey, MasterKeys, SystemEntropy};
    use domain::{Clock, FriendlyName, Parameter as _};
    use store::{Location, OldSchema};

    use super::*;
    use crate::audit::Origin;

    const DAY: i64 = 86_400;

    /// A clock whose hands are moved, in seconds.
    #[derive(Clone, Default)]
    struct Hands(Arc<AtomicI64>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
        }
    }

    async fn app(clock: &Hands) -> App {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
        let entropy = Arc::new(SystemEntropy);
        let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
        let keys = MasterKeySource::fixed(keys);
        App::start(store, Arc::new(clock.clone()), entropy, keys).await.unwrap()
    }

    /// Makes so many accounts, and chains their lines.
    async fn make(app: &App, accounts: usize) {
        for _ in 0..accounts {
            let name = FriendlyName::from_parameter("Account").unwrap();
            app.create_account(&Origin::operator("ann"), None, None, name).await.unwrap().unwrap();
        }
        chain(app).await.unwrap();
    }

    /// Removes what was written before an instant.
    async fn remove(app: &App, before: Timestamp) -> usize {
        let (known, audit) = (Arc::clone(&app.chain), app.audit(&Origin::housekeeping(), app.now()));
        let write = async move |tx: &mut Write| remove_old(tx, &known, &audit, before, 200).await;
        app.store.write(write).await.unwrap()
    }

    async fn verified(app: &App, noted: Option<Mark>) -> Result<Holds, Break> {
        app.verify_audit(noted.as_slice()).await.unwrap()
    }

    #[tokio::test]
    async fn old_lines_go_and_the_rest_holds() {
        let clock = Hands::default();
        let app = app(&clock).await;
        let mut marks = Vec::new();
        for _ in 0..3 {
            make(&app, 1).await;
            marks.push(verified(&app, None).await.unwrap().head);
        }
        clock.0.fetch_add(400 * DAY, Ordering::Relaxed);
        make(&app, 2).await;
        let before = app.now().plus_seconds(-365 * DAY);
        assert_eq!(remove(&app, before).await, 3);
        assert_eq!(remove(&app, before).await, 0);
        let holds = verified(&app, Some(marks[2])).await.unwrap();
        assert_eq!((holds.checked, holds.removed, holds.waiting), (2, marks[2], 1));
        assert_eq!(verified(&app, Some(marks[1])).await.unwrap_err(), Break::Outlived(2));

        // That they went is told by the line behind them.
        chain(&app).await.unwrap();
        let lines = app.audit_after(0).await.unwrap();
        let (_, last) = lines.last().unwrap().contents.clone().unwrap();
        assert_eq!(
            (last.event_type.as_str(), last.data.as_str()),
            ("events.removed", r#"{"count":3,"up_to":3}"#)
        );
        assert_eq!(verified(&app, None).await.unwrap().checked, 3);

        // All of them may go.
        assert_eq!(remove(&app, app.now().plus_seconds(1)).await, 3);
        assert_eq!(verified(&app, None).await.unwrap().checked, 0);
        make(&app, 1).await;
        assert_eq!(verified(&app, None).await.unwrap().head.number, 8);
    }

    async fn ends(app: &App) -> AuditChain<AuditKey> {
        let read = async |db: &mut Read| Ok::<_, Error>(db.audit_chain::<AuditKey>().await?);
        app.store.read(read).await.unwrap().unwrap()
    }

    /// Puts ends of the chain into the database, as an attacker does who kept them.
    async fn put(app: &App, ends: AuditChain<AuditKey>) {
        let (removed, head, seal) = (ends.removed, ends.head, ends.seal);
        let write =
            async move |tx: &mut Write| Ok::<_, Error>(tx.move_audit_ends(&removed, &head, &seal).await?);
        app.store.write(write).await.unwrap();
    }

    fn is_rewound<T>(result: Result<T, Error>, line: i64) -> bool {
        matches!(result, Err(Error::Fault(Fault::RewoundChain { seen, .. })) if seen.number == line)
    }

    #[tokio::test]
    async fn older_end_that_is_put_back_is_refused_until_the_newer_one_is_back() {
        let clock = Hands::default();
        let app = app(&clock).await;
        make(&app, 3).await;
        let kept = ends(&app).await;
        make(&app, 2).await;
        let newest = ends(&app).await;
        put(&app, kept).await;
        for _ in 0..2 {
            assert!(is_rewound(chain(&app).await, 5));
        }
        // Housekeeping does not go on from it either.
        clock.0.fetch_add(DAY, Ordering::Relaxed);
        let (known, audit) = (Arc::clone(&app.chain), app.audit(&Origin::housekeeping(), app.now()));
        let before = app.now();
        let write = async move |tx: &mut Write| remove_old(tx, &known, &audit, before, 200).await;
        assert!(is_rewound(app.store.write(write).await, 5));
        put(&app, newest).await;
        assert!(chain(&app).await.is_ok());
    }

    /// Another server on the same database, with a memory of its own.
    async fn another(app: &App, clock: &Hands) -> App {
        let key = app.master_keys.keys().current().to_base64();
        let keys = MasterKeys::new(MasterKey::from_base64(key.expose()).unwrap(), Vec::new());
        let keys = MasterKeySource::fixed(keys);
        App::start(app.store.clone(), Arc::new(clock.clone()), Arc::new(SystemEntropy), keys).await.unwrap()
    }

    #[tokio::test]
    async fn end_that_another_server_moved_back_is_refused() {
        let clock = Hands::default();
        let app = app(&clock).await;
        make(&app, 3).await;
        let kept = ends(&app).await;
        make(&app, 1).await;
        let other = another(&app, &clock).await;
        // It has chained nothing itself, and remembers what it saw.
        observe(&other).await.unwrap();
        assert_eq!(other.chain.head().number, 4);
        put(&app, kept).await;
        assert!(is_rewound(observe(&other).await, 4));
        // A server that starts then knows no better, and neither of the others follows it.
        let fresh = another(&app, &clock).await;
        observe(&fresh).await.unwrap();
        for rewound in [&app, &other] {
            assert!(is_rewound(chain(rewound).await, 4));
        }
    }

    #[tokio::test]
    async fn line_without_a_valid_mac_stays_unchained_until_it_is_accepted() {
        let clock = Hands::default();
        let app = app(&clock).await;
        make(&app, 1).await;
        let (_, mut forged) = app.audit_after(0).await.unwrap()[0].contents.clone().unwrap();
        forged.sid = EventSid::generate(app.now(), &SystemEntropy);
        let sid = forged.sid;
        let forge = async move |tx: &mut Write| {
            Ok::<_, Error>(tx.insert_audit_line(&forged, &domain::audit::Mac([0; 32])).await?)
        };
        app.store.write(forge).await.unwrap();
        make(&app, 1).await;
        let found = chain(&app).await.unwrap();
        assert_eq!((found.count, found.first), (1, Some(sid.to_string())));
        assert_eq!(verified(&app, None).await.unwrap_err(), Break::Unauthenticated(1));
        assert_eq!(app.chain.head().number, 2);

        assert_eq!(app.accept_audit_lines(&Origin::operator("ann")).await.unwrap(), 1);
        assert_eq!(verified(&app, None).await.unwrap().head.number, 4);
        let lines = app.audit_after(2).await.unwrap();
        let said: Vec<_> = lines.into_iter().map(|line| line.contents.unwrap().1).collect();
        assert!(said.iter().any(|line| line.sid == sid));
        let accepted = said.iter().find(|line| line.event_type == "events.accepted").unwrap();
        assert_eq!(accepted.data()["lines"][0], sid.to_string());
    }

    /// More than are chained, removed or read at once.
    #[tokio::test]
    async fn a_long_chain_is_made_and_walked_in_pieces() {
        let clock = Hands::default();
        let app = app(&clock).await;
        make(&app, 1100).await;
        let holds = verified(&app, None).await.unwrap();
        assert_eq!((holds.checked, holds.head.number, holds.waiting), (1100, 1100, 0));
        clock.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(remove(&app, app.now()).await, 200);
        assert_eq!(verified(&app, None).await.unwrap().checked, 900);
    }
}
