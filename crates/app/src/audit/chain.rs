//! Appending unchained records to the audit chain, and removing chained records after their retention.

use std::sync::Arc;
use std::time::Duration;

use crypto::audit::macs_equal;
use domain::Timestamp;
use domain::audit::{AuditAction, Change};
use store::{AuditChain, Read, UnchainedPosition, Write};
use telemetry::metrics::METRICS;
use tracing::{error, info};

use crate::App;
use crate::audit::AuditWriter;
use crate::audit::chain_state::{ChainEnds, ChainState};
use crate::error::{Error, Fault};

/// Pause between two runs of the chaining task.
const CHAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Time limit for chaining the remaining records at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of runs of the chaining task between two checkpoints.
const RUNS_PER_CHECKPOINT: u32 = 60;

/// Number of runs of the chaining task after which a record without a valid MAC is reported. The delay covers rolling
/// upgrades: servers of an older version write records without a MAC and chain them shortly afterwards.
const RUNS_BEFORE_REPORT: u32 = 10;

/// Maximum number of records that one transaction chains. It is small, so that other writes do not wait long.
pub(crate) const CHAIN_BATCH: i64 = 200;

/// Background task: appends unchained records to the chain once a second, until the task is aborted. Also publishes a
/// checkpoint every minute if the chain has moved.
pub(crate) async fn run(app: Arc<App>) {
    let mut reporter = Reporter::default();
    for run in 1_u32.. {
        tokio::time::sleep(CHAIN_INTERVAL).await;
        let result = append_unchained(&app).await;
        app.feed.set_chain_head(app.chain.head().number);
        if let Err(Error::Fault(Fault::BrokenChain | Fault::RolledBackChain { .. })) = &result {
            METRICS.audit_chain_refusals.inc();
        }
        reporter.report(&result);
        if run % RUNS_PER_CHECKPOINT == 0 {
            app.publish_checkpoint(false);
        }
    }
}

/// Chains the remaining records and publishes a final checkpoint when a server or a command ends. Records that are left
/// after the time limit are chained by another process.
pub(crate) async fn finish(app: &App) {
    if let Ok(Err(fault)) = tokio::time::timeout(SHUTDOWN_TIMEOUT, append_unchained(app)).await {
        error!("audit chaining failed at shutdown, records stay unchained: {}", fault.report());
    }
    app.publish_checkpoint(true);
}

/// A reporter that logs the results of the chaining task's runs without repeating the same failure every second.
#[derive(Default)]
struct Reporter {
    failure: String,
    /// SID of the first record without a valid MAC, and the number of consecutive runs that found it.
    unauthenticated: (String, u32),
}

impl Reporter {
    fn report(&mut self, result: &Result<Unauthenticated, Error>) {
        let failure = result.as_ref().err().map(Error::report).unwrap_or_default();
        if failure != self.failure && !failure.is_empty() {
            error!("audit chaining failed, will retry: {failure}");
        } else if failure != self.failure {
            info!("audit chaining resumed");
        }
        self.failure = failure;
        let Ok(found) = result else { return };
        METRICS.audit_lines_unauthenticated.set(found.count);
        match &found.first {
            Some(first) if *first == self.unauthenticated.0 => self.unauthenticated.1 += 1,
            first => self.unauthenticated = (first.clone().unwrap_or_default(), 1),
        }
        if found.count > 0 && self.unauthenticated.1 == RUNS_BEFORE_REPORT {
            error!(
                records = found.count,
                first = ?self.unauthenticated.0,
                "audit records stay unchained because they carry no valid MAC: they were written or altered outside of \
                 the server, or by a server of an older version that was killed; see `countersign audit accept`"
            );
        }
    }
}

/// The number of unchained records without a valid MAC, and the SID of the first. Such records were not written by a
/// server with the audit key, or were altered since.
#[derive(Default)]
pub(crate) struct Unauthenticated {
    pub(crate) count: i64,
    pub(crate) first: Option<String>,
}

/// Appends all unchained records to the chain, one transaction per batch. Records without a valid MAC stay unchained;
/// the result describes them.
///
/// # Errors
/// Returns an error if the stored chain is broken or rolled back, or if the database fails.
pub(crate) async fn append_unchained(app: &App) -> Result<Unauthenticated, Error> {
    observe(app).await?;
    let (mut after, mut unauthenticated) = (UnchainedPosition::START, Unauthenticated::default());
    loop {
        let from = after.clone();
        let unchained = app
            .store
            .read(async move |db: &mut Read| Ok::<_, Error>(db.unchained_records(&from, CHAIN_BATCH).await?))
            .await?;
        let Some(last) = unchained.last() else { return Ok(unauthenticated) };
        let mut invalid =
            unchained.iter().filter(|record| app.chain.authenticate(record).is_none()).peekable();
        if let (None, Some(first)) = (&unauthenticated.first, invalid.peek()) {
            unauthenticated.first = Some(first.position.sid());
        }
        let count = invalid.count();
        unauthenticated.count += i64::try_from(count).unwrap_or(i64::MAX);
        if count < unchained.len() && !append_batch(app, after).await? {
            // Another node is chaining records at the moment.
            return Ok(unauthenticated);
        }
        after = last.position.clone();
    }
}

/// Chains the first batch of unchained records after the position `after`. Returns `false` if another node has locked
/// the chain.
async fn append_batch(app: &App, after: UnchainedPosition) -> Result<bool, Error> {
    let state = Arc::clone(&app.chain);
    let chained = app.store.write(async move |tx: &mut Write| {
        let Some(chain) = lock_chain(tx, &state).await? else { return Ok(None) };
        let mut head = chain.head;
        let mut positions = Vec::new();
        for record in tx
            .unchained_records(&after, CHAIN_BATCH)
            .await?
            .iter()
            .filter_map(|record| state.authenticate(record))
        {
            head = state.key.next_position(&head, record);
            positions.push((record.sid, head));
        }
        tx.append_to_audit_chain(&positions).await?;
        tx.update_audit_chain(&chain.removed, &head, &state.key.ends_mac(&chain.removed, &head)).await?;
        Ok::<_, Error>(Some(ChainEnds { removed: chain.removed, head }))
    });
    let chained = chained.await?;
    // Remember the new ends only after the commit, because a transaction that is rolled back does not move the chain.
    if let Some(ends) = chained {
        app.chain.remember(ends);
    }
    Ok(chained.is_some())
}

/// Reads the stored ends of the chain (its start and its head), checks that the chain continues from the ends that this
/// process has seen, and remembers the new ends.
///
/// # Errors
/// Returns an error if the stored chain is broken or rolled back, or if the database fails.
pub(crate) async fn observe(app: &App) -> Result<(), Error> {
    let state = Arc::clone(&app.chain);
    let read = async move |db: &mut Read| {
        let chain = db.audit_chain().await?.ok_or(Fault::BrokenChain)?;
        state.check(db, &chain).await?;
        Ok::<_, Error>(ChainEnds { removed: chain.removed, head: chain.head })
    };
    app.chain.remember(app.store.read(read).await?);
    Ok(())
}

/// Locks the chain until the transaction ends, checks it, and returns it. Returns `None` if another node has locked it.
/// Fails if the chain is missing, broken or rolled back.
async fn lock_chain(tx: &mut Write, state: &ChainState) -> Result<Option<AuditChain>, Error> {
    let Some(chain) = tx.try_lock_audit_chain().await? else {
        return if tx.audit_chain().await?.is_some() { Ok(None) } else { Err(Fault::BrokenChain.into()) };
    };
    // Check the ends first: continuing from ends that were tampered with would give them a valid MAC.
    state.check(tx, &chain).await?;
    Ok(Some(chain))
}

/// Removes the oldest chained records that were written before `before`, at most `limit`, and returns how many were
/// removed. The chain keeps the position of the last removed record, and an audit record documents the removal.
///
/// # Errors
/// Returns [`Fault::BrokenChain`], and removes nothing, if one of these records does not match its MAC: removing it
/// would hide that it was altered. Also fails if the chain was rolled back or the database fails.
pub(crate) async fn remove_old_records(
    tx: &mut Write,
    state: &ChainState,
    audit: &AuditWriter,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let Some(chain) = lock_chain(tx, state).await? else { return Ok(0) };
    let key = &state.key;
    let mut removed = chain.removed;
    for found in tx.chained_records(chain.removed.number, chain.head.number, limit).await? {
        let (mac, record) = found.contents.as_ref().ok_or(Fault::BrokenChain)?;
        let next = key.next_position(&removed, record);
        if found.number != next.number || !macs_equal(mac, &next.mac) {
            return Err(Fault::BrokenChain.into());
        }
        if record.created_at >= before {
            break;
        }
        removed = next;
    }
    if removed == chain.removed {
        return Ok(0);
    }
    tx.update_audit_chain(&removed, &chain.head, &key.ends_mac(&removed, &chain.head)).await?;
    let count = tx.delete_removed_records(chain.removed.number).await?;
    let change = Change::of_server(AuditAction::EventsRemoved).detail("count", count);
    audit.record(tx, change.detail("up_to", removed.number)).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use crypto::{MasterKey, MasterKeys, SystemEntropy};
    use domain::audit::ChainPosition;
    use domain::{Clock, EventSid, FriendlyName, Parameter as _};
    use store::{Location, OldSchema, Store};

    use super::*;
    use crate::audit::{ChainBreak, Origin, VerifiedChain};
    use crate::{AppConfig, MasterKeySource};

    const DAY_SECONDS: i64 = 86_400;

    /// A clock that changes only when the test sets it, in seconds.
    #[derive(Clone, Default)]
    struct ManualClock(Arc<AtomicI64>);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
        }
    }

    async fn app(clock: &ManualClock) -> App {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
        let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
        start(store, clock, keys).await
    }

    /// Starts a server on an open database.
    async fn start(store: Store, clock: &ManualClock, keys: MasterKeys) -> App {
        let (entropy, cipher) = (Arc::new(SystemEntropy), Arc::new(jwe::Josekit));
        let keys = MasterKeySource::fixed(keys);
        App::start(store, Arc::new(clock.clone()), entropy, cipher, keys, AppConfig::default()).await.unwrap()
    }

    /// Creates this many accounts, and chains their audit records.
    async fn create_accounts(app: &App, accounts: usize) {
        for _ in 0..accounts {
            let name = FriendlyName::from_parameter("Account").unwrap();
            app.create_account(&Origin::operator("ann"), None, None, name).await.unwrap().unwrap();
        }
        append_unchained(app).await.unwrap();
    }

    /// Removes the chained records that were written before an instant, and returns how many were removed.
    async fn remove(app: &App, before: Timestamp) -> usize {
        let (state, audit) = (Arc::clone(&app.chain), app.audit(&Origin::housekeeping(), app.now()));
        let write = async move |tx: &mut Write| remove_old_records(tx, &state, &audit, before, 200).await;
        app.store.write(write).await.unwrap()
    }

    async fn verify(app: &App, checkpoint: Option<ChainPosition>) -> Result<VerifiedChain, ChainBreak> {
        app.verify_audit(checkpoint.as_slice(), |_| {}).await.unwrap().into_result()
    }

    #[tokio::test]
    async fn audit_chain_is_intact_after_old_records_are_removed() {
        let clock = ManualClock::default();
        let app = app(&clock).await;
        let mut positions = Vec::new();
        for _ in 0..3 {
            create_accounts(&app, 1).await;
            positions.push(verify(&app, None).await.unwrap().head);
        }
        clock.0.fetch_add(400 * DAY_SECONDS, Ordering::Relaxed);
        create_accounts(&app, 2).await;
        let before = app.now().plus_seconds(-365 * DAY_SECONDS);
        assert_eq!(remove(&app, before).await, 3);
        assert_eq!(remove(&app, before).await, 0);
        let verified = verify(&app, Some(positions[2])).await.unwrap();
        assert_eq!((verified.checked, verified.removed, verified.unchained), (2, positions[2], 1));
        assert_eq!(verify(&app, Some(positions[1])).await.unwrap_err(), ChainBreak::CheckpointRemoved(2));

        // A later audit record documents the removal.
        append_unchained(&app).await.unwrap();
        let records = app.chained_records_after(0).await.unwrap();
        let (_, last) = records.last().unwrap().contents.clone().unwrap();
        assert_eq!(
            (last.event_type.as_str(), last.data.as_str()),
            ("events.removed", r#"{"count":3,"up_to":3}"#)
        );
        assert_eq!(verify(&app, None).await.unwrap().checked, 3);

        // Retention may remove all records of the chain.
        assert_eq!(remove(&app, app.now().plus_seconds(1)).await, 3);
        assert_eq!(verify(&app, None).await.unwrap().checked, 0);
        create_accounts(&app, 1).await;
        assert_eq!(verify(&app, None).await.unwrap().head.number, 8);
    }

    async fn ends(app: &App) -> AuditChain {
        let read = async |db: &mut Read| Ok::<_, Error>(db.audit_chain().await?);
        app.store.read(read).await.unwrap().unwrap()
    }

    /// Replaces the stored ends of the chain with a copy made earlier, as an attacker could.
    async fn restore_ends(app: &App, ends: AuditChain) {
        let (removed, head, seal) = (ends.removed, ends.head, ends.seal);
        let write =
            async move |tx: &mut Write| Ok::<_, Error>(tx.update_audit_chain(&removed, &head, &seal).await?);
        app.store.write(write).await.unwrap();
    }

    fn is_rolled_back<T>(result: Result<T, Error>, number: i64) -> bool {
        matches!(result, Err(Error::Fault(Fault::RolledBackChain { seen, .. })) if seen.number == number)
    }

    #[tokio::test]
    async fn restored_older_audit_chain_end_is_rejected_until_the_newer_end_is_restored() {
        let clock = ManualClock::default();
        let app = app(&clock).await;
        create_accounts(&app, 3).await;
        let copied = ends(&app).await;
        create_accounts(&app, 2).await;
        let newest = ends(&app).await;
        restore_ends(&app, copied).await;
        for _ in 0..2 {
            assert!(is_rolled_back(append_unchained(&app).await, 5));
        }
        // Housekeeping also refuses the older ends.
        clock.0.fetch_add(DAY_SECONDS, Ordering::Relaxed);
        let (state, audit) = (Arc::clone(&app.chain), app.audit(&Origin::housekeeping(), app.now()));
        let before = app.now();
        let write = async move |tx: &mut Write| remove_old_records(tx, &state, &audit, before, 200).await;
        assert!(is_rolled_back(app.store.write(write).await, 5));
        restore_ends(&app, newest).await;
        assert!(append_unchained(&app).await.is_ok());
    }

    /// Starts another server on the same database as `app`.
    async fn start_another(app: &App, clock: &ManualClock) -> App {
        let key = app.master_keys.keys().current().to_base64();
        let keys = MasterKeys::new(MasterKey::parse(key.expose()).unwrap(), Vec::new());
        start(app.store.clone(), clock, keys).await
    }

    #[tokio::test]
    async fn older_audit_chain_end_is_rejected_by_every_server_that_has_seen_a_newer_one() {
        let clock = ManualClock::default();
        let app = app(&clock).await;
        create_accounts(&app, 3).await;
        let copied = ends(&app).await;
        create_accounts(&app, 1).await;
        let other = start_another(&app, &clock).await;
        // The other server has chained no records itself, but remembers the ends that it has seen.
        observe(&other).await.unwrap();
        assert_eq!(other.chain.head().number, 4);
        restore_ends(&app, copied).await;
        assert!(is_rolled_back(observe(&other).await, 4));
        // A server that starts now accepts the older ends; the two servers that have seen newer ends do not.
        let fresh = start_another(&app, &clock).await;
        observe(&fresh).await.unwrap();
        for server in [&app, &other] {
            assert!(is_rolled_back(append_unchained(server).await, 4));
        }
    }

    #[tokio::test]
    async fn audit_record_without_a_valid_mac_stays_unchained_until_an_operator_accepts_it() {
        let clock = ManualClock::default();
        let app = app(&clock).await;
        create_accounts(&app, 1).await;
        let (_, mut forged) = app.chained_records_after(0).await.unwrap()[0].contents.clone().unwrap();
        forged.sid = EventSid::generate(app.now(), &SystemEntropy);
        let sid = forged.sid;
        let forge = async move |tx: &mut Write| {
            Ok::<_, Error>(tx.insert_audit_record(&forged, &domain::audit::Mac([0; 32])).await?)
        };
        app.store.write(forge).await.unwrap();
        create_accounts(&app, 1).await;
        let found = append_unchained(&app).await.unwrap();
        assert_eq!((found.count, found.first), (1, Some(sid.to_string())));
        assert_eq!(verify(&app, None).await.unwrap_err(), ChainBreak::Unauthenticated(1));
        assert_eq!(app.chain.head().number, 2);

        assert_eq!(app.accept_audit_records(&Origin::operator("ann")).await.unwrap(), 1);
        assert_eq!(verify(&app, None).await.unwrap().head.number, 4);
        let records = app.chained_records_after(2).await.unwrap();
        let chained: Vec<_> = records.into_iter().map(|record| record.contents.unwrap().1).collect();
        assert!(chained.iter().any(|record| record.sid == sid));
        let accepted = chained.iter().find(|record| record.event_type == "events.accepted").unwrap();
        assert_eq!(accepted.data()["lines"][0], sid.to_string());
    }

    /// The chain is longer than the maximum batch of chaining, removal and verification.
    #[tokio::test]
    async fn long_audit_chain_is_processed_in_batches() {
        let clock = ManualClock::default();
        let app = app(&clock).await;
        create_accounts(&app, 1100).await;
        let verified = verify(&app, None).await.unwrap();
        assert_eq!((verified.checked, verified.head.number, verified.unchained), (1100, 1100, 0));
        clock.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(remove(&app, app.now()).await, 200);
        assert_eq!(verify(&app, None).await.unwrap().checked, 900);
    }
}
