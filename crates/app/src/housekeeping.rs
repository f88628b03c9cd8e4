//! Housekeeping: what is done with goes after its retention, and whoever has a certificate that ends soon
//! is told.
//!
//! One node keeps house, the one with the lease; should it die, another does once that has run out. It
//! removes little at a time and rests in between, so that nobody waits long for the writer
//! ([`Pace`]).

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::alerts::{Alert, Level};
use domain::audit::{Act, Change};
use domain::clock_trust::ClockRecord;
use domain::housekeeping::{Pace, Retention};
use domain::webhooks::EventType;
use domain::{AlertSid, Timestamp};
use serde_json::json;
use store::{Read, Write};
use telemetry::metrics::{METRICS, Remains, Removed, Round};
use tokio::sync::watch;
use tracing::{debug, error, info};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::keys::OVERLAP;
use crate::{chain, factors};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// What one node does for all, by the name of its lease.
#[derive(Clone, Copy)]
enum Duty {
    /// Rounds of retention.
    Rounds,
    /// The removal of what was deleted.
    Removal,
}

impl Duty {
    const fn lease(self) -> &'static str {
        match self {
            Self::Rounds => "housekeeping",
            Self::Removal => "removal",
        }
    }

    /// Seconds for which a node that has died keeps the others from taking over.
    const fn lease_seconds(self) -> i64 {
        match self {
            Self::Rounds => LEASE,
            // It is renewed several times a second.
            Self::Removal => 30,
        }
    }
}

/// Seconds for which a node that says nothing any more keeps the others from taking over.
const LEASE: i64 = 180;

/// Seconds after which a node looks again whether another node that removes what was deleted has ended.
const WHILE_ANOTHER_REMOVES: Duration = Duration::from_secs(5);

/// Time between two log lines about a long removal.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Seconds after which it does not count any more that a factor was made: a day, and an hour for clocks that differ.
const FACTOR_CREATIONS: i64 = 25 * 3600;

/// Days before expiry at which to warn of a certificate. Ascending, so that a certificate that is uploaded late
/// triggers only the nearest warning.
const WARN_AT: [i64; 2] = [7, 30];

/// Runs housekeeping until shutdown, then releases the lease. `name` identifies this node as its holder.
pub(crate) async fn keep(
    app: Arc<App>,
    name: String,
    retention: Retention,
    mut stopped: watch::Receiver<bool>,
) {
    let house = House { app, name, duty: Duty::Rounds, stopped: stopped.clone(), clock: Cell::default() };
    loop {
        let began = Instant::now();
        let outcome = match house.round(retention).await {
            Ok(()) => {
                METRICS.housekeeping_last_success_timestamp.set(house.app.now().seconds());
                METRICS.housekeeping_duration.observe(began.elapsed().as_secs_f64());
                telemetry::metrics::Housekeeping::Done
            }
            Err(Interrupted::Elsewhere) => {
                debug!("another node keeps house");
                telemetry::metrics::Housekeeping::Elsewhere
            }
            Err(Interrupted::Stopped) => break,
            Err(Interrupted::ClockDoubted) => telemetry::metrics::Housekeeping::ClockDoubted,
            Err(Interrupted::Failed(fault)) => {
                error!("housekeeping failed: {}", fault.chain());
                telemetry::metrics::Housekeeping::Failed
            }
        };
        METRICS.housekeeping_rounds.get_or_create(&Round { outcome }).inc();
        if tokio::time::timeout(EVERY, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            break;
        }
    }
    house.hand_over().await;
}

/// Removes the rows of what was deleted, as soon as it is, until it is stopped. A node that begins looks whether another
/// one has left some. `name` tells this node from others.
pub(crate) async fn remove_deleted(app: Arc<App>, name: String, mut stopped: watch::Receiver<bool>) {
    let house = House { app, name, duty: Duty::Removal, stopped: stopped.clone(), clock: Cell::default() };
    loop {
        let wait = match house.remove_deleted().await {
            // A deleted row goes whatever the time is, so no removal asks for the clock.
            Ok(()) | Err(Interrupted::ClockDoubted) => EVERY,
            Err(Interrupted::Elsewhere) => WHILE_ANOTHER_REMOVES,
            Err(Interrupted::Stopped) => break,
            Err(Interrupted::Failed(fault)) => {
                error!("removal of deleted services and entities failed, will retry: {}", fault.chain());
                EVERY
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = house.app.deleted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    house.hand_over().await;
}

/// Why a round ended before its end.
#[derive(Debug)]
enum Interrupted {
    /// Another node has the lease.
    Elsewhere,
    /// This node stops.
    Stopped,
    /// The clock jumped, so that nothing can be known to be old.
    ClockDoubted,
    /// The database failed, or the chain of the audit log was changed.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct House {
    app: Arc<App>,
    /// Who has the lease.
    name: String,
    duty: Duty,
    /// Whether it stops. It is looked between transactions alone: one that were left alone would take the lease
    /// once more after it was given back.
    stopped: watch::Receiver<bool>,
    /// What is known of the clock as this node wrote it last, and when that was on the monotonic clock.
    clock: Cell<Option<(ClockRecord, Duration)>>,
}

impl House {
    async fn round(&self, retention: Retention) -> Result<(), Interrupted> {
        let now = self.trusted_now().await?;
        let ended = |seconds: i64| now.plus_seconds(-seconds);
        let warned = self.warn_of_ending_credentials().await;
        if let Err(Interrupted::Elsewhere | Interrupted::Stopped) = warned {
            return warned;
        }
        let before = ended(retention.challenges);
        let challenges =
            async move |tx: &mut Write, limit| Ok(tx.delete_old_challenges(before, limit).await?);
        let before = ended(retention.access_tokens);
        let tokens =
            async move |tx: &mut Write, limit| Ok(tx.delete_old_access_tokens(before, limit).await?);
        let before = ended(FACTOR_CREATIONS);
        let notes =
            async move |tx: &mut Write, limit| Ok(tx.delete_old_factor_creations(before, limit).await?);
        let before = ended(retention.deliveries);
        let deliveries =
            async move |tx: &mut Write, limit| Ok(tx.delete_old_deliveries(before, limit).await?);
        let alerts = async move |tx: &mut Write, limit| Ok(tx.delete_old_alerts(before, limit).await?);
        let before = ended(OVERLAP);
        let keys = async move |tx: &mut Write, _| Ok(tx.delete_replaced_enrollment_keys(before).await?);
        // Whatever keeps one kind from going does not keep the others.
        let outcomes = [
            warned.map(|()| 0),
            self.remove_unverified_factors(ended(retention.unverified_factors)).await,
            self.remove(Remains::Challenges, challenges).await,
            self.remove(Remains::AccessTokens, tokens).await,
            self.remove(Remains::FactorCreations, notes).await,
            self.remove(Remains::Deliveries, deliveries).await,
            self.remove(Remains::Alerts, alerts).await,
            self.remove(Remains::EnrollmentKeys, keys).await,
            match retention.audit_log {
                Some(seconds) => self.remove_audit_lines(ended(seconds)).await,
                None => Ok(0),
            },
        ];
        let mut interrupted = outcomes.into_iter().filter_map(Result::err);
        let first = interrupted.next();
        for other in interrupted {
            if let Interrupted::Failed(fault) = other {
                error!("housekeeping failed: {}", fault.chain());
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// The time, if the clock can be trusted with removing what is old. All that a round removes is old by this
    /// reading: a jump of the clock meanwhile changes nothing.
    async fn trusted_now(&self) -> Result<Timestamp, Interrupted> {
        let (now, monotonic) = (self.app.now(), self.app.clock.monotonic());
        let written = self.clock.get();
        let read = async move |tx: &mut Write| {
            let known = match tx.clock_record().await? {
                Some(known) => known,
                // The newest line of the audit log shows a time up to which servers have run.
                None => ClockRecord::trusting(tx.newest_audit_line_at().await?.unwrap_or(now)),
            };
            let own = written.filter(|(record, _)| *record == known);
            // In whole microseconds, as the record is kept.
            let ran =
                own.map(|(_, at)| Duration::from_micros(monotonic.saturating_sub(at).as_micros() as u64));
            let record = known.after(now, ran);
            tx.set_clock_record(&record).await?;
            Ok(record)
        };
        let record = self.leased(read).await?;
        let before = self.clock.replace(Some((record, monotonic)));
        METRICS.clock_doubted.set(i64::from(record.doubted.is_some()));
        let was_doubted = before.is_some_and(|(record, _)| record.doubted.is_some());
        match (record.doubted.is_some(), was_doubted) {
            (true, false) => error!(
                clock = %now,
                expected = %record.expected_at(),
                "housekeeping removes nothing: the clock jumped, or no server ran for more than an hour; it goes on \
                 when the clock is right again, after six even hours, or after `countersign clock trust`"
            ),
            (false, true) => info!(clock = %now, "housekeeping trusts the clock again"),
            _ => {}
        }
        if record.doubted.is_some() { Err(Interrupted::ClockDoubted) } else { Ok(now) }
    }

    async fn remove_unverified_factors(&self, before: Timestamp) -> Result<usize, Interrupted> {
        let (now, outbox) = (self.app.now(), self.app.outbox.clone());
        let audit = Arc::new(self.app.audit(&Origin::housekeeping(), now));
        let delete = async move |tx: &mut Write, limit| {
            let deleted = tx.delete_unverified_factors(before, limit).await?;
            for factor in &deleted {
                audit.note(tx, factors::about(Act::FactorDeleted, factor)).await?;
                outbox.owe_webhooks(tx, EventType::FactorDeleted, factor, None, now).await?;
            }
            Ok(deleted.len())
        };
        let removed = self.remove(Remains::Factors, delete).await?;
        if removed > 0 {
            self.app.wake.ring();
        }
        Ok(removed)
    }

    async fn remove_audit_lines(&self, before: Timestamp) -> Result<usize, Interrupted> {
        let known = Arc::clone(&self.app.chain);
        let audit = Arc::new(self.app.audit(&Origin::housekeeping(), self.app.now()));
        let remove =
            async move |tx: &mut Write, limit| chain::remove_old(tx, &known, &audit, before, limit).await;
        self.remove(Remains::AuditLines, remove).await
    }

    /// Removes until there is nothing left, a transaction for each batch; returns how many rows. `delete`
    /// removes at most as many as it is told.
    async fn remove<F>(&self, kind: Remains, delete: F) -> Result<usize, Interrupted>
    where
        F: AsyncFn(&mut Write, i64) -> Result<usize, Error> + Clone + Send + 'static,
    {
        let (mut pace, mut removed) = (Pace::default(), 0);
        let mut longest = Duration::ZERO;
        loop {
            let (rows, took) = self.batch(pace.rows(), act(kind), delete.clone()).await?;
            removed += rows;
            let counted = METRICS.housekeeping_removed.get_or_create(&Removed { kind });
            counted.inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
            drop(counted);
            longest = longest.max(took);
            debug!(kind = kind.as_str(), rows, took = took.as_micros(), "batch");
            if rows < pace.rows() as usize {
                break;
            }
            pace = pace.after(took);
            tokio::time::sleep(Pace::rest(took)).await;
        }
        if removed > 0 {
            let longest_batch = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
            info!(kind = kind.as_str(), removed, longest_batch, "housekeeping");
        }
        Ok(removed)
    }

    /// Removes the rows of deleted services and entities, until there are none; then the lease is handed back.
    async fn remove_deleted(&self) -> Result<(), Interrupted> {
        let count = async || {
            let left = async |db: &mut Read| Ok::<_, Error>(db.count_deleted().await?);
            self.app.store.read(left).await
        };
        if count().await? == 0 {
            return Ok(());
        }
        let remove = async move |tx: &mut Write, limit| Ok(tx.remove_deleted(limit).await?);
        let counted = METRICS.housekeeping_removed.get_or_create_owned(&Removed { kind: Remains::Deleted });
        let (began, mut told) = (Instant::now(), Instant::now());
        let (mut pace, mut removed, mut longest) = (Pace::default(), 0, Duration::ZERO);
        loop {
            let (rows, took) = self.batch(pace.rows(), None, remove).await?;
            if rows == 0 {
                break;
            }
            removed += rows;
            counted.inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
            longest = longest.max(took);
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                info!(removed, left = count().await?, "removing deleted services and entities");
            }
            pace = pace.after(took);
            tokio::time::sleep(Pace::rest(took)).await;
        }
        self.give_back_lease().await?;
        let longest_batch = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let seconds = began.elapsed().as_secs();
        info!(removed, longest_batch, seconds, "removed deleted services and entities");
        Ok(())
    }

    /// One transaction; returns how many rows went, and for how long it had the writer, the commit included.
    async fn batch<F>(
        &self,
        limit: u32,
        act: Option<Act>,
        delete: F,
    ) -> Result<(usize, Duration), Interrupted>
    where
        F: AsyncFn(&mut Write, i64) -> Result<usize, Error> + Send + 'static,
    {
        let audit = self.app.audit(&Origin::housekeeping(), self.app.now());
        let write = async move |tx: &mut Write| {
            // Start timing inside the transaction: time spent in the writer's queue does not block other writes.
            let began = Instant::now();
            let rows = delete(tx, i64::from(limit)).await?;
            if let Some(act) = act.filter(|_| rows > 0) {
                audit.note(tx, Change::of_server(act).with("count", rows)).await?;
            }
            Ok::<_, Error>((rows, began))
        };
        let (rows, began) = self.leased(write).await?;
        Ok((rows, began.elapsed()))
    }

    /// Makes a transaction that renews the lease.
    async fn leased<T, F>(&self, work: F) -> Result<T, Interrupted>
    where
        T: Send + 'static,
        F: AsyncFn(&mut Write) -> Result<T, Error> + Send + 'static,
    {
        if *self.stopped.borrow() {
            return Err(Interrupted::Stopped);
        }
        let (now, name, duty) = (self.app.now(), self.name.clone(), self.duty);
        let write = async move |tx: &mut Write| {
            let until = now.plus_seconds(duty.lease_seconds());
            Ok::<_, Error>(match tx.take_lease(duty.lease(), &name, now, until).await? {
                true => Some(work(tx).await?),
                false => None,
            })
        };
        self.app.store.write(write).await?.ok_or(Interrupted::Elsewhere)
    }

    async fn give_back_lease(&self) -> Result<(), Error> {
        let (name, lease) = (self.name.clone(), self.duty.lease());
        self.app.store.write(async move |tx: &mut Write| Ok(tx.give_back_lease(lease, &name).await?)).await
    }

    /// Lets another node keep house at once.
    async fn hand_over(self) {
        if let Err(fault) = self.give_back_lease().await {
            debug!("housekeeping stays with a node that has stopped, for a while: {}", fault.chain());
        }
    }

    async fn warn_of_ending_credentials(&self) -> Result<(), Interrupted> {
        let (now, outbox, entropy) = (self.app.now(), self.app.outbox.clone(), Arc::clone(&self.app.entropy));
        let warn = async move |tx: &mut Write| {
            let mut warned = false;
            for days in WARN_AT {
                for credential in tx.ending_credentials(days, now).await? {
                    let end = credential.expires_at.unwrap_or(now);
                    let text = format!("the certificate of push credential {} ends at {end}", credential.sid);
                    let alert = Alert {
                        sid: AlertSid::generate(now, entropy.as_ref()),
                        account_sid: credential.account_sid,
                        service_sid: None,
                        resource_sid: credential.sid.to_string(),
                        error_code: 52131,
                        level: Level::Warning,
                        more_info: json!({ "description": text, "fromReference": credential.sid }),
                        text,
                        call: None,
                        created_at: now,
                    };
                    outbox.raise(tx, &alert, now).await?;
                    warned = true;
                }
            }
            Ok(warned)
        };
        if self.leased(warn).await? {
            self.app.wake.ring();
        }
        Ok(())
    }
}

/// What a batch is in the audit log; `None` of what is noted one by one, or in a way of its own.
const fn act(kind: Remains) -> Option<Act> {
    match kind {
        Remains::Factors | Remains::FactorCreations | Remains::AuditLines | Remains::Deleted => None,
        Remains::Challenges => Some(Act::ChallengesRemoved),
        Remains::AccessTokens => Some(Act::AccessTokensRemoved),
        Remains::Deliveries => Some(Act::DeliveriesRemoved),
        Remains::Alerts => Some(Act::AlertsRemoved),
        Remains::EnrollmentKeys => Some(Act::EnrollmentKeysRemoved),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use crypto::{MasterKey, MasterKeys, SystemEntropy};
    use domain::access_tokens::Ttl;
    use domain::deliveries::Work;
    use domain::factors::{AppId, Notification, PublicKey};
    use domain::services::Settings;
    use domain::webhooks::Subscription;
    use domain::{
        AccessTokenSid, Clock, Code, EntityPath, FactorSid, FactorType, FriendlyName, Identity, Order,
        PageRequest, Parameter as _,
    };
    use store::{DeliveryFilter, Location, OldSchema, Store};

    use super::*;
    use crate::NewAccessToken;
    use crate::audit::AuditFilter;
    use crate::caller::Caller;
    use crate::factors::NewFactor;
    use crate::webhooks::NewWebhook;

    /// A clock that only the test moves, and the monotonic clock.
    struct Held(Mutex<(Timestamp, Duration)>);

    impl Clock for Held {
        fn now(&self) -> Timestamp {
            self.0.lock().unwrap().0
        }

        fn monotonic(&self) -> Duration {
            self.0.lock().unwrap().1
        }
    }

    impl Held {
        fn pass(&self, seconds: i64) {
            self.jump(seconds);
            self.0.lock().unwrap().1 += Duration::from_secs(seconds.unsigned_abs());
        }

        /// Sets the clock to another time.
        fn jump(&self, seconds: i64) {
            let mut held = self.0.lock().unwrap();
            held.0 = held.0.plus_seconds(seconds);
        }
    }

    /// A house with an entity in it.
    struct Stage {
        house: House,
        clock: Arc<Held>,
        caller: Caller,
        path: EntityPath,
    }

    impl Stage {
        async fn set() -> Self {
            let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
            let clock = Arc::new(Held(Mutex::new((Timestamp::from_seconds(1_767_225_600), Duration::ZERO))));
            let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
            let keys = crate::MasterKeySource::fixed(keys);
            let held: Arc<dyn Clock> = Arc::<Held>::clone(&clock);
            let app = App::start(store, held, Arc::new(SystemEntropy), keys).await.unwrap();
            let origin = Origin::operator("ann");
            let name = |text| FriendlyName::from_parameter(text).unwrap();
            let account =
                app.create_account(&origin, None, None, name("Owl Bank")).await.unwrap().unwrap().account;
            let service =
                app.create_service(&origin, account.sid, Settings::named(name("App"))).await.unwrap();
            let webhook = NewWebhook {
                friendly_name: name("All"),
                event_types: vec![Subscription::from_parameter("*").unwrap()],
                url: domain::CallbackUrl::from_parameter("https://receiver.example.com/").unwrap(),
                status: Default::default(),
                version: Default::default(),
            };
            app.create_webhook(&origin, account.sid, service.sid, webhook).await.unwrap();
            let identity = Identity::from_parameter("user-0001").unwrap();
            Self {
                house: House {
                    app: Arc::new(app),
                    name: "one".to_owned(),
                    duty: Duty::Rounds,
                    stopped: watch::channel(false).1,
                    clock: Cell::default(),
                },
                clock,
                caller: Caller::Account(account.sid),
                path: EntityPath { account_sid: account.sid, service_sid: service.sid, identity },
            }
        }

        fn origin(&self) -> Origin {
            Origin::request(&self.caller, None, None)
        }

        /// What housekeeping has noted, oldest first.
        async fn noted(&self) -> Vec<(String, Option<String>)> {
            let filter = AuditFilter::default();
            let lines = self.house.app.audit_lines(filter, 99).await.unwrap().into_iter().rev();
            let noted = lines.map(|found| found.line).filter(|line| line.actor_type == "housekeeping");
            noted.map(|line| (line.event_type, line.resource_sid)).collect()
        }

        async fn factor(&self, key: u8) -> FactorSid {
            let new = NewFactor {
                friendly_name: FriendlyName::from_parameter("Telephone").unwrap(),
                public_key: PublicKey::from_checked_der(vec![key; 91]),
                app_id: AppId::from_parameter("com.example.owl").unwrap(),
                notification: Notification::None,
                sdk_version: None,
                metadata: None,
            };
            self.house
                .app
                .create_factor(&self.origin(), &self.caller, self.path.clone(), new)
                .await
                .unwrap()
                .sid
        }

        async fn factors(&self) -> Vec<FactorSid> {
            let page = PageRequest { size: 50, order: Order::Ascending, cursor: None };
            let page = self.house.app.factors(self.path.clone(), page).await.unwrap();
            page.items.iter().map(|factor| factor.sid).collect()
        }

        async fn token(&self) -> AccessTokenSid {
            let new = NewAccessToken {
                identity: self.path.identity.clone(),
                factor_type: FactorType::Push,
                factor_friendly_name: None,
                ttl: Ttl::new(60).unwrap(),
            };
            let (account_sid, service_sid) = (self.path.account_sid, self.path.service_sid);
            let origin = self.origin();
            let made = self.house.app.create_access_token(&origin, account_sid, service_sid, new);
            made.await.unwrap().0.grant.sid
        }

        /// Whether the database still has it, good or not.
        async fn has(&self, token: AccessTokenSid) -> bool {
            let (account_sid, service_sid) = (self.path.account_sid, self.path.service_sid);
            let read = async move |db: &mut Read| {
                Ok::<_, Error>(db.access_token(account_sid, service_sid, token).await?)
            };
            self.house.app.store.read(read).await.unwrap().is_some()
        }

        /// Of which factors the webhook will hear that they were deleted.
        async fn owed(&self) -> Vec<String> {
            let read =
                async |db: &mut Read| Ok::<_, Error>(db.deliveries(&DeliveryFilter::default(), 99).await?);
            let deliveries = self.house.app.store.read(read).await.unwrap();
            let told = deliveries.into_iter().filter_map(|status| match status.delivery.work {
                Work::Webhook { parameters, .. } => Some(BTreeMap::from_iter(parameters)),
                _ => None,
            });
            let deleted = told.filter(|parameters| parameters["type"] == "factor.deleted");
            deleted.map(|parameters| parameters["factor_sid"].clone()).collect()
        }
    }

    #[tokio::test]
    async fn what_was_never_verified_vanishes_and_webhooks_hear_of_it() {
        let stage = Stage::set().await;
        let retention = Retention { unverified_factors: 2 * 3600, ..Retention::default() };
        let old = stage.factor(1).await;
        stage.house.round(retention).await.unwrap();
        stage.clock.pass(3600);
        let young = stage.factor(2).await;
        stage.clock.pass(3600);
        stage.house.round(retention).await.unwrap();
        assert_eq!(stage.factors().await, [old, young], "exactly two hours are not more");
        stage.clock.pass(1);
        stage.house.round(retention).await.unwrap();
        assert_eq!(stage.factors().await, [young]);
        assert_eq!(stage.owed().await, [old.to_string()]);
        assert_eq!(stage.noted().await, [("factor.deleted".to_owned(), Some(old.to_string()))]);
    }

    #[tokio::test]
    async fn an_access_token_goes_an_hour_after_its_end() {
        let stage = Stage::set().await;
        let token = stage.token().await;
        stage.house.round(Retention::default()).await.unwrap();
        for (seconds, is_left) in [(60 + 3600, true), (1, false)] {
            stage.clock.pass(seconds);
            stage.house.round(Retention::default()).await.unwrap();
            assert_eq!(stage.has(token).await, is_left);
        }
        assert_eq!(stage.noted().await, [("access-tokens.removed".to_owned(), None)]);
        let gone = stage.house.app.access_token(stage.path.account_sid, stage.path.service_sid, token);
        assert!(matches!(gone.await, Err(Error::Problem(problem)) if problem.code() == Code::NotFound));
    }

    #[tokio::test]
    async fn one_node_keeps_house_and_another_when_it_has_died() {
        let stage = Stage::set().await;
        let other = House {
            app: Arc::clone(&stage.house.app),
            name: "two".to_owned(),
            duty: Duty::Rounds,
            stopped: watch::channel(false).1,
            clock: Cell::default(),
        };
        let retention = Retention { unverified_factors: 1, ..Retention::default() };
        stage.house.round(retention).await.unwrap();
        stage.factor(1).await;
        stage.clock.pass(LEASE - 1);
        assert!(matches!(other.round(retention).await, Err(Interrupted::Elsewhere)));
        assert_eq!(stage.factors().await.len(), 1);
        stage.clock.pass(1);
        other.round(retention).await.unwrap();
        assert_eq!(stage.factors().await.len(), 0);
        assert!(matches!(stage.house.round(retention).await, Err(Interrupted::Elsewhere)));
    }

    const DAY: i64 = 24 * 3600;

    impl Stage {
        /// Another process on the same database.
        fn restart(&mut self) {
            let (app, name) = (Arc::clone(&self.house.app), self.house.name.clone());
            self.house = House {
                app,
                name,
                duty: Duty::Rounds,
                stopped: watch::channel(false).1,
                clock: Cell::default(),
            };
        }

        /// Whether a round removes anything at all when everything of the past is to be removed.
        async fn round(&self) -> Result<(), Interrupted> {
            let retention = Retention {
                unverified_factors: DAY,
                challenges: DAY,
                deliveries: DAY,
                audit_log: Some(DAY),
                access_tokens: DAY,
            };
            self.house.round(retention).await
        }

        /// How many rows there are of all that retention removes.
        async fn rows(&self) -> (usize, usize) {
            let lines = self.house.app.audit_lines(AuditFilter::default(), 99).await.unwrap();
            let old = lines.iter().filter(|found| found.line.actor_type != "housekeeping").count();
            (self.factors().await.len(), old)
        }
    }

    #[tokio::test]
    async fn clock_that_runs_ahead_for_a_while_removes_nothing() {
        for jump in [400 * DAY, 2 * DAY, -400 * DAY] {
            for restarts in [false, true] {
                let mut stage = Stage::set().await;
                stage.factor(1).await;
                let token = stage.token().await;
                chain::finish(&stage.house.app).await;
                stage.round().await.unwrap();
                let rows = stage.rows().await;
                stage.clock.jump(jump);
                for _ in 0..3 {
                    if restarts {
                        stage.restart();
                    }
                    let doubted = stage.round().await;
                    assert!(
                        matches!(doubted, Err(Interrupted::ClockDoubted)),
                        "{jump} {restarts} {doubted:?}"
                    );
                    stage.clock.pass(100);
                }
                assert_eq!(stage.rows().await, rows, "{jump} {restarts}");
                assert!(stage.has(token).await);
                assert!(stage.noted().await.is_empty());
                // Right again, it is trusted at once.
                stage.clock.jump(-jump);
                stage.round().await.unwrap();
                assert_eq!(stage.rows().await, rows);
            }
        }
    }

    #[tokio::test]
    async fn clock_that_jumped_is_trusted_after_six_hours_or_on_command() {
        for on_command in [false, true] {
            let stage = Stage::set().await;
            stage.factor(1).await;
            stage.round().await.unwrap();
            stage.clock.jump(400 * DAY);
            for _ in 0..=359 {
                assert!(matches!(stage.round().await, Err(Interrupted::ClockDoubted)));
                stage.clock.pass(60);
                if on_command {
                    stage.house.app.trust_clock(&Origin::operator("ann")).await.unwrap();
                    break;
                }
            }
            assert_eq!(stage.rows().await.0, 1);
            stage.round().await.unwrap();
            assert_eq!(stage.rows().await.0, 0, "{on_command}");
        }
    }

    /// A database of an older version has no record of the clock.
    #[tokio::test]
    async fn first_reading_is_compared_with_the_newest_line_of_the_audit_log() {
        let stage = Stage::set().await;
        stage.factor(1).await;
        stage.clock.pass(2 * DAY);
        assert!(matches!(stage.round().await, Err(Interrupted::ClockDoubted)));
        assert_eq!(stage.rows().await.0, 1);
    }
}
