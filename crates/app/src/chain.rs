//! The chain of the audit log: what makes it, shortens it, and checks it.
//!
//! A line is written in the transaction of its change and is not part of the chain yet: lines that had to follow
//! one another would make changes wait for one another. A moment later this gives those that wait their numbers
//! and MACs, one server at a time. So what was written in the last second can still be taken away without a
//! trace; nothing that was chained can.

use std::sync::Arc;
use std::time::Duration;

use crypto::AuditKey;
use crypto::audit::same;
use domain::audit::{Act, Change, Mark};
use domain::{Entropy, Timestamp};
pub use store::ChainedLine;
use store::{AuditChain, Read, Store, Write};
use tracing::{error, info};

use crate::App;
use crate::audit::Audit;
use crate::error::{Error, Fault};
use crate::master_keys::MasterKeySource;

/// How often it is looked for lines that wait.
const EVERY: Duration = Duration::from_secs(1);

/// How long a server that stops takes for the last ones.
const FAREWELL: Duration = Duration::from_secs(2);

/// Lines that are chained in one transaction: few, so that nobody waits long for the writer.
const BATCH: i64 = 200;

/// Lines that are read at once to be checked.
const STRIDE: i64 = 1000;

/// What the key is sealed for.
pub(crate) const OWNER: &str = "audit";

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

/// Chains what waits, for ever.
pub(crate) async fn keep(app: Arc<App>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let result = chain(&app).await;
        match &result {
            Err(fault) if !failing => error!("the audit log is not chained for now: {}", fault.chain()),
            Ok(()) if failing => info!("the audit log is chained again"),
            _ => {}
        }
        failing = result.is_err();
    }
}

/// Chains what waits when a server or a command ends; what it leaves, another will chain.
pub(crate) async fn finish(app: &App) {
    if let Ok(Err(fault)) = tokio::time::timeout(FAREWELL, chain(app)).await {
        error!("the audit log is not chained to its end: {}", fault.chain());
    }
}

/// Chains what waits, a transaction for each batch.
async fn chain(app: &App) -> Result<(), Error> {
    loop {
        let waiting = async |db: &mut Read| Ok::<_, Error>(db.waiting_lines(1).await?);
        if app.store.read(waiting).await?.is_empty() {
            return Ok(());
        }
        let key = Arc::clone(&app.audit_key);
        let chained = app
            .store
            .write(async move |tx: &mut Write| {
                let Some(chain) = hold(tx, &key).await? else { return Ok(0) };
                let mut head = chain.head;
                let mut marks = Vec::new();
                for line in tx.waiting_lines(BATCH).await? {
                    head = key.next(&head, &line);
                    marks.push((line.sid, head));
                }
                tx.chain_lines(&marks).await?;
                tx.move_audit_ends(&chain.removed, &head, &key.ends(&chain.removed, &head)).await?;
                Ok::<_, Error>(marks.len())
            })
            .await?;
        // Another server is at it.
        if chained == 0 {
            return Ok(());
        }
    }
}

/// The chain, held until the transaction ends, unless somebody else holds it.
async fn hold(tx: &mut Write, key: &AuditKey) -> Result<Option<AuditChain<AuditKey>>, Error> {
    let Some(chain) = tx.hold_audit_chain::<AuditKey>().await? else {
        return if tx.audit_chain::<AuditKey>().await?.is_some() {
            Ok(None)
        } else {
            Err(Fault::BrokenChain.into())
        };
    };
    // Who went on here would give false ends a true seal.
    match same(&key.ends(&chain.removed, &chain.head), &chain.seal) {
        true => Ok(Some(chain)),
        false => Err(Fault::BrokenChain.into()),
    }
}

/// Removes at most `limit` of the oldest lines of the chain, as far as they were written before an instant; returns
/// how many. The chain remembers where they ended, and the log that they went. A line that does not follow the one
/// before stays, with all behind it: once it were gone, nothing would show that it was altered.
pub(crate) async fn remove_old(
    tx: &mut Write,
    key: &AuditKey,
    audit: &Audit,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let Some(chain) = hold(tx, key).await? else { return Ok(0) };
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

/// Where a chain breaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// What is remembered of its two ends was altered.
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
    /// The line of the mark went after its time.
    #[error("line {0}, which was noted, went after its time: note a newer one")]
    Outlived(i64),
}

impl App {
    /// Walks the whole chain; with a mark, also tells whether that is still part of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_audit(&self, noted: Option<Mark>) -> Result<Result<Holds, Break>, Error> {
        let Some(chain) = self.chain_to_verify().await? else { return Ok(Err(Break::Ends)) };
        let (mut removed, head) = (chain.removed, chain.head);
        if let Some(noted) = noted.filter(|noted| noted.number < removed.number) {
            return Ok(Err(Break::Outlived(noted.number)));
        }
        let is_another = |mark: &Mark| {
            noted.is_some_and(|noted| noted.number == mark.number && !same(&noted.mac, &mark.mac))
        };
        if is_another(&removed) {
            return Ok(Err(Break::AnotherHistory(removed.number)));
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
                if is_another(&mark) {
                    return Ok(Err(Break::AnotherHistory(mark.number)));
                }
            }
        }
        if !same(&mark.mac, &head.mac) && mark.number == head.number {
            return Ok(Err(Break::Ends));
        }
        if let Some(noted) = noted.filter(|noted| noted.number > head.number) {
            return Ok(Err(Break::CutOff { noted: noted.number, end: head.number }));
        }
        let tail = self.store.read(async |db: &mut Read| Ok::<_, Error>(db.audit_tail().await?)).await?;
        let Some(tail) = tail else { return Ok(Err(Break::Ends)) };
        if let Some(added) = tail.added {
            return Ok(Err(Break::Added(added)));
        }
        Ok(Ok(Holds { checked, removed, head, waiting: tail.waiting }))
    }

    /// Whether a line follows a mark; `batch` is that line and what was read behind it.
    fn follows(&self, before: &Mark, found: &ChainedLine, batch: &[ChainedLine]) -> Result<(), Break> {
        let fits = |candidate: &ChainedLine| {
            let contents = candidate.contents.as_ref();
            contents.is_some_and(|(mac, line)| same(mac, &self.audit_key.next(before, line).mac))
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
        let is_sound =
            |chain: &AuditChain<_>| same(&self.audit_key.ends(&chain.removed, &chain.head), &chain.seal);
        Ok(chain.await?.filter(is_sound))
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
        let (key, audit) = (Arc::clone(&app.audit_key), app.audit(&Origin::housekeeping(), app.now()));
        let write = async move |tx: &mut Write| remove_old(tx, &key, &audit, before, 200).await;
        app.store.write(write).await.unwrap()
    }

    async fn verified(app: &App, noted: Option<Mark>) -> Result<Holds, Break> {
        app.verify_audit(noted).await.unwrap()
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
