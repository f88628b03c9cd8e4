//! The courier: makes the deliveries that are owed.
//!
//! It leases what is due, makes the attempts with no transaction open, and records what came of each
//! together with what comes next. While an attempt is under way or waits for its turn, its lease is
//! renewed. A process that dies leaves leases that run out, after which the deliveries are due again, here
//! or on another node: at least once, never less. The lease only saves work from being done twice.
//!
//! It is woken by the commit of this process, by other nodes' announcements, when the next delivery is due,
//! and by a slow poll in case all of these were missed.
//! Limits keep a place that hangs from delaying others (`turns.rs`); what was leased for it beyond them is
//! handed back at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::deliveries::{Delivery, DeliveryId, Next, Schedule, Stranded, Work};
use domain::factors::Platform;
use domain::housekeeping::Retention;
use domain::{Entropy, Timestamp};
use store::{Read, Write};
use telemetry::metrics::METRICS;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tracing::{Instrument as _, debug, error, error_span, info, warn};

use crate::App;
use crate::attempt::{Attempted, Couriers};
use crate::error::Error;
use crate::leases::Leases;
use crate::record::{Ended, Recorder, Waiting};
use crate::turns::{Ticket, Turns};
use crate::{chain, housekeeping, outbox, record};

/// Shortest time between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(50);

/// Time after which a lost connection to the other nodes is made again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Deliveries that are leased in one transaction.
const BATCH: usize = 100;

/// Longest time between two searches for stranded deliveries: another node's clock may have been wrong.
const STRANDED_EVERY: Duration = Duration::from_secs(60);

/// Everything an operator may set about deliveries.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Seconds after which a delivery whose server has died is due again; at least 1.
    pub lease: i64,
    /// How long to wait between attempts.
    pub schedule: Schedule,
    /// Attempts at one time, in all.
    pub concurrency: usize,
    /// Webhook attempts at one time to one host.
    pub concurrency_per_host: usize,
    /// Push attempts at one time for one service and provider.
    pub concurrency_per_credential: usize,
    /// Longest time without looking.
    pub poll: Duration,
    /// How long what is done with is kept.
    pub retention: Retention,
    /// How webhooks are sent.
    pub webhooks: webhook_client::Settings,
    /// How pushes are sent.
    pub push: push_client::Settings,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            lease: 30,
            schedule: Schedule::default(),
            concurrency: 512,
            concurrency_per_host: 16,
            concurrency_per_credential: 256,
            poll: Duration::from_secs(1),
            retention: Retention::default(),
            webhooks: webhook_client::Settings::default(),
            push: push_client::Settings::default(),
        }
    }
}

/// Runs on a thread of its own until it is stopped.
pub struct Courier {
    stop: watch::Sender<bool>,
    /// Until it was heard.
    ended: Option<oneshot::Receiver<()>>,
}

impl Courier {
    /// Starts to deliver.
    ///
    /// # Errors
    /// When the system has no thread to spare.
    pub fn start(
        app: Arc<App>,
        settings: DeliverySettings,
        couriers: Couriers,
    ) -> Result<Self, CourierError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (ends, ended) = oneshot::channel::<()>();
        let run = move || {
            // Dropped at the end, whatever the end is.
            let _ends = ends;
            LocalSet::new().block_on(&runtime, Round::new(app, settings, couriers).run(stopped));
        };
        std::thread::Builder::new().name("courier".into()).spawn(run)?;
        Ok(Self { stop, ended: Some(ended) })
    }

    /// Waits for its end. Where nobody asked for it, a server that does not deliver should not go on.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            let _ = ended.await;
            self.ended = None;
        }
    }

    /// Takes no more deliveries, and waits for the attempts that are under way, but not for longer than
    /// `patience`. Those that are cut off are owed until their lease runs out, and made again then.
    pub async fn stop(mut self, patience: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            warn!("deliveries are cut off in the middle; they will be made again");
        }
    }
}

/// Why the courier could not start.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The settings of webhooks.
    #[error("webhooks")]
    Webhooks(#[from] webhook_client::Error),
    /// The settings of pushes.
    #[error("push")]
    Push(#[from] push_client::Error),
    /// The system has no thread to spare.
    #[error("the system")]
    System(#[from] std::io::Error),
}

/// The state of the courier's thread.
struct Round {
    app: Arc<App>,
    settings: DeliverySettings,
    turns: Turns,
    attempts: Rc<Attempts>,
    /// Attempts that wait to be recorded, until the task that records them takes this.
    ended: Option<Waiting>,
    /// The latest instant that the clock has shown, and when stranded deliveries were last looked for.
    latest: Timestamp,
    searched: Option<Instant>,
}

/// What all attempts have in common.
struct Attempts {
    app: Arc<App>,
    couriers: Couriers,
    schedule: Schedule,
    leases: Rc<Leases>,
    /// Whether something is due that finds no room: the end of an attempt may make some.
    held_back: Cell<bool>,
    recorder: Recorder,
    /// What nobody will attempt here any more.
    unattempted: RefCell<Vec<DeliveryId>>,
}

impl Round {
    fn new(app: Arc<App>, settings: DeliverySettings, couriers: Couriers) -> Self {
        let (recorder, ended) = Recorder::new();
        let attempts = Attempts {
            app: Arc::clone(&app),
            couriers,
            schedule: settings.schedule,
            leases: Rc::new(Leases::new(&app, settings.lease)),
            held_back: Cell::new(false),
            recorder,
            unattempted: RefCell::default(),
        };
        Self {
            app,
            turns: Turns::new(settings.concurrency),
            settings,
            attempts: Rc::new(attempts),
            ended: Some(ended),
            latest: Timestamp::from_micros(i64::MIN),
            searched: None,
        }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut tasks = self.tasks();
        let mut house = JoinSet::new();
        house.spawn_local(housekeeping::keep(
            Arc::clone(&self.app),
            self.attempts.leases.name().to_owned(),
            self.settings.retention,
            stopped.clone(),
        ));
        house.spawn_local(housekeeping::remove_deleted(
            Arc::clone(&self.app),
            self.attempts.leases.name().to_owned(),
            stopped.clone(),
        ));
        let mut failing = false;
        while !*stopped.borrow() {
            let result = self.deliver_what_is_due().await;
            match &result {
                Err(fault) if !failing => error!("nothing is delivered for now: {}", fault.chain()),
                Ok(_) if failing => info!("deliveries go on"),
                _ => {}
            }
            failing = result.is_err();
            let wait = result.unwrap_or(self.settings.poll);
            tokio::select! {
                _ = stopped.changed() => {}
                () = self.app.wake.rung() => {}
                () = tokio::time::sleep(wait) => {}
                _ = tasks.join_next() => break,
                _ = house.join_next() => break,
            }
        }
        if !*stopped.borrow() {
            error!("a task of the deliveries has ended, which none should");
            // It was not told to stop, and nothing may keep this thread from ending.
            house.abort_all();
        }
        self.turns.close().await;
        while house.join_next().await.is_some() {}
        // Connections end on the runtime that they began on.
        tasks.shutdown().await;
        if let Err(fault) = self.hand_back().await {
            debug!("unattempted deliveries stay leased: {}", fault.chain());
        }
    }

    /// What goes on beside the deliveries, for as long as they do.
    fn tasks(&mut self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn_local(announce(Arc::clone(&self.app)));
        tasks.spawn_local(listen(Arc::clone(&self.app)));
        tasks.spawn_local(chain::keep(Arc::clone(&self.app)));
        tasks.spawn_local(Leases::keep(Rc::clone(&self.attempts.leases), Arc::clone(&self.app)));
        if let Some(ended) = self.ended.take() {
            let lease = self.attempts.leases.name().to_owned();
            tasks.spawn_local(record::keep(Arc::clone(&self.app), lease, ended));
        }
        tasks
    }

    /// Begins an attempt of everything that is due and finds room; returns how long there will be nothing
    /// else to begin, unless it rings.
    async fn deliver_what_is_due(&mut self) -> Result<Duration, Error> {
        self.reschedule_stranded().await?;
        loop {
            let next =
                self.app.store.read(async |db: &mut Read| Ok::<_, Error>(db.next_due().await?)).await?;
            let wait = next.map(|next| next.micros().saturating_sub(self.app.now().micros()));
            self.attempts.held_back.set(wait.is_some_and(|wait| wait <= 0));
            match wait {
                None => return Ok(self.settings.poll),
                Some(wait @ 1..) => {
                    return Ok(Duration::from_micros(wait.unsigned_abs()).min(self.settings.poll));
                }
                Some(_) => {}
            }
            let taken = self.take().await?;
            if taken.is_empty() {
                return Ok(self.settings.poll);
            }
            for delivery in taken {
                self.begin(delivery);
            }
            self.hand_back().await?;
        }
    }

    /// Makes stranded deliveries due: at the start, when the clock was set back, and once in a while.
    async fn reschedule_stranded(&mut self) -> Result<(), Error> {
        let now = self.app.now();
        let was_set_back = now < self.latest;
        self.latest = now;
        let is_time = self.searched.is_none_or(|searched| searched.elapsed() >= STRANDED_EVERY);
        if !was_set_back && !is_time {
            return Ok(());
        }
        let lease = self.attempts.leases.name();
        let stranded = Stranded::at(now, self.settings.lease, self.settings.schedule);
        let mut count = 0;
        loop {
            let (reader, writer) = (lease.to_owned(), lease.to_owned());
            let is_any = async move |db: &mut Read| {
                Ok::<_, Error>(db.has_stranded_deliveries(&reader, stranded).await?)
            };
            if !self.app.store.read(is_any).await? {
                break;
            }
            let reschedule = async move |tx: &mut Write| {
                Ok::<_, Error>(tx.reschedule_stranded_deliveries(&writer, stranded, BATCH, now).await?)
            };
            match self.app.store.write(reschedule).await? {
                // Another node has them.
                0 => break,
                rescheduled => count += rescheduled,
            }
        }
        self.searched = Some(Instant::now());
        if count > 0 {
            warn!(deliveries = count, "the clock was set back; deliveries that waited for it are due now");
        }
        Ok(())
    }

    /// Leases what is due and finds room.
    async fn take(&mut self) -> Result<Vec<Delivery>, Error> {
        let limit = self.turns.tickets().min(BATCH);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let full = self.turns.full();
        let now = self.app.now();
        let (lease, until) = (self.attempts.leases.name().to_owned(), self.attempts.leases.end(now));
        let take =
            async move |tx: &mut Write| Ok(tx.lease_deliveries(&lease, &full, limit, now, until).await?);
        self.app.store.write(take).await
    }

    /// Makes an attempt in its turn, if it can get one.
    fn begin(&mut self, delivery: Delivery) {
        if self.attempts.leases.holds(&delivery) {
            // Its lease ran out while it could not be renewed; the attempt still goes on.
            return;
        }
        let limit = match delivery.work {
            Work::Push(_) => self.settings.concurrency_per_credential,
            Work::Webhook { .. } | Work::Debugger { .. } => self.settings.concurrency_per_host,
        };
        match self.turns.ticket(&delivery.destination, limit) {
            Some(ticket) => {
                // Whatever is logged on the way, in whichever crate, has the id.
                let span = error_span!(target: "delivery", "delivery", delivery = %delivery.id);
                let make = Rc::clone(&self.attempts).make(delivery, ticket);
                drop(tokio::task::spawn_local(make.instrument(span)));
            }
            None => self.attempts.unattempted.borrow_mut().push(delivery.id),
        }
    }

    async fn hand_back(&self) -> Result<(), Error> {
        let ids = self.attempts.unattempted.take();
        self.attempts.leases.hand_back(&self.app, ids).await
    }
}

impl Attempts {
    /// Waits for its turn, makes the attempt, and records it.
    async fn make(self: Rc<Self>, delivery: Delivery, ticket: Ticket) {
        let held = self.leases.hold(&delivery);
        match ticket.turn().await {
            Some(_turn) => {
                let ended = self.attempt(&delivery).await;
                // Once it is recorded it may be due again at once.
                drop(held);
                self.recorder.record(ended).await;
            }
            None => self.unattempted.borrow_mut().push(delivery.id),
        }
        drop(ticket);
        if self.held_back.get() {
            self.app.wake.ring_here();
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Ended {
        let app = &self.app;
        let began_at = app.now();
        let label = kind_of(delivery);
        let span = telemetry::traces::attempt(delivery.id, label.as_str(), delivery.attempts, delivery.trace);
        let attempted = span.clone().within(self.couriers.attempt(app, delivery, began_at)).await;
        let now = app.now();
        let (attempts, chance) = (delivery.attempts, chance(app.entropy()));
        let next = self.schedule.next(&attempted.ending, attempts, delivery.give_up_at, now, chance);
        log(delivery, &attempted, next, record::milliseconds(began_at.until(now)));
        let outcome = outcome(&next);
        span.attempted(outcome.as_str(), attempted.error_code, attempted.status);
        count(delivery, label, outcome, now);
        Ended { delivery: delivery.clone(), attempted, next, began_at, ended_at: now }
    }
}

/// Logs what became of an attempt. That nothing more is attempted is a warning, with the reason in words.
fn log(delivery: &Delivery, attempted: &Attempted, next: Next, milliseconds: i64) {
    let kind = delivery.work.kind().as_str();
    let (attempt, code) = (delivery.attempts, attempted.error_code);
    let (destination, reason) = (delivery.destination.as_str(), attempted.detail.as_deref());
    match next {
        Next::Delivered => debug!(kind, milliseconds, "delivered"),
        Next::Skipped => debug!(kind, reason, "delivery skipped"),
        Next::At(at) => {
            info!(kind, destination, attempt, code, reason, again_at = %at, "delivery failed, will retry");
        }
        Next::Failed => warn!(kind, destination, attempt, code, reason, "delivery failed, given up"),
    }
}

/// What kind it is, in the metrics and in traces.
fn kind_of(delivery: &Delivery) -> telemetry::metrics::Kind {
    match delivery.work {
        Work::Webhook { .. } => telemetry::metrics::Kind::Webhook,
        Work::Debugger { .. } => telemetry::metrics::Kind::Debugger,
        Work::Push(_) => match outbox::platform(delivery) {
            Platform::Fcm => telemetry::metrics::Kind::PushFcm,
            Platform::Apn | Platform::None => telemetry::metrics::Kind::PushApns,
        },
    }
}

/// What becomes of the delivery, likewise.
fn outcome(next: &Next) -> telemetry::metrics::Outcome {
    match next {
        Next::Delivered => telemetry::metrics::Outcome::Delivered,
        Next::Skipped => telemetry::metrics::Outcome::Skipped,
        Next::At(_) => telemetry::metrics::Outcome::Again,
        Next::Failed => telemetry::metrics::Outcome::Failed,
    }
}

fn count(
    delivery: &Delivery,
    kind: telemetry::metrics::Kind,
    outcome: telemetry::metrics::Outcome,
    now: Timestamp,
) {
    METRICS.delivery_attempts.get_or_create(&telemetry::metrics::Attempted { kind, outcome }).inc();
    if outcome == telemetry::metrics::Outcome::Delivered {
        let took = delivery.created_at.until(now).as_secs_f64();
        METRICS.delivery_time.get_or_create(&telemetry::metrics::Delivered { kind }).observe(took);
    }
}

/// Tells other nodes what was committed here, but not more often than they need to know.
async fn announce(app: Arc<App>) {
    loop {
        app.wake.to_be_told().await;
        if let Err(error) = app.store.announce().await {
            debug!("other nodes can't be told: {error}");
        }
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

/// Hears what was committed elsewhere. While the connection is lost, the poll does.
async fn listen(app: Arc<App>) {
    loop {
        match app.store.announcements().await {
            Ok(None) => std::future::pending().await,
            Ok(Some(mut announcements)) => {
                while announcements.next().await.is_ok() {
                    app.wake.ring_here();
                }
            }
            Err(error) => debug!("other nodes can't be heard: {error}"),
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

/// Returns random jitter in `0.0..=1.0` for the backoff of retries.
fn chance(entropy: &dyn Entropy) -> f64 {
    let mut byte = [0; 2];
    entropy.fill(&mut byte);
    f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use crypto::{MasterKey, MasterKeys, SystemEntropy};
    use domain::factors::{AppId, Notification, PublicKey};
    use domain::services::Settings;
    use domain::webhooks::Subscription;
    use domain::{Clock, EntityPath, FriendlyName, Identity, Parameter as _};
    use store::{Location, OldSchema, Store};

    use super::*;
    use crate::audit::Origin;
    use crate::caller::Caller;
    use crate::factors::NewFactor;
    use crate::webhooks::NewWebhook;

    /// A clock that the test moves.
    struct ManualClock(Mutex<Timestamp>);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    impl ManualClock {
        fn advance(&self, seconds: i64) {
            let mut now = self.0.lock().unwrap();
            *now = now.plus_seconds(seconds);
        }
    }

    /// A worker that attempts nothing, and an entity whose factors are told to a webhook.
    struct Stage {
        round: Round,
        clock: Arc<ManualClock>,
        path: EntityPath,
    }

    impl Stage {
        async fn new() -> Self {
            let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
            let clock = Arc::new(ManualClock(Mutex::new(Timestamp::from_seconds(1_767_225_600))));
            let shown: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
            let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
            let keys = crate::MasterKeySource::fixed(keys);
            let app = App::start(store, Arc::clone(&shown), Arc::new(SystemEntropy), keys).await.unwrap();
            let origin = Origin::operator("ann");
            let name = |text| FriendlyName::from_parameter(text).unwrap();
            let made = app.create_account(&origin, None, None, name("Owl Bank")).await.unwrap().unwrap();
            let account_sid = made.account.sid;
            let settings = Settings::named(name("App"));
            let service_sid = app.create_service(&origin, account_sid, settings).await.unwrap().sid;
            let webhook = NewWebhook {
                friendly_name: name("All"),
                event_types: vec![Subscription::All],
                url: domain::CallbackUrl::from_parameter("https://receiver.example.com/").unwrap(),
                status: Default::default(),
                version: Default::default(),
            };
            app.create_webhook(&origin, account_sid, service_sid, webhook).await.unwrap();
            let settings = DeliverySettings::default();
            let couriers = Couriers::new(&settings, shown).unwrap();
            let identity = Identity::from_parameter("user-0001").unwrap();
            Self {
                round: Round::new(Arc::new(app), settings, couriers),
                clock,
                path: EntityPath { account_sid, service_sid, identity },
            }
        }

        /// Makes a factor, of which the webhook is to be told.
        async fn event(&self, key: u8) {
            let new = NewFactor {
                friendly_name: FriendlyName::from_parameter("Telephone").unwrap(),
                public_key: PublicKey::from_checked_der(vec![key; 91]),
                app_id: AppId::from_parameter("com.example.owl").unwrap(),
                notification: Notification::None,
                sdk_version: None,
                metadata: None,
            };
            let caller = Caller::Account(self.path.account_sid);
            let origin = Origin::request(&caller, None, None);
            self.round.app.create_factor(&origin, &caller, self.path.clone(), new).await.unwrap();
        }

        /// How many deliveries this worker leases when it looks now.
        async fn leased(&mut self) -> usize {
            self.round.reschedule_stranded().await.unwrap();
            self.round.take().await.unwrap().len()
        }
    }

    #[tokio::test]
    async fn clock_that_is_set_back_an_hour_delays_no_delivery() {
        let mut stage = Stage::new().await;
        assert_eq!(stage.leased().await, 0);
        stage.event(1).await;
        stage.clock.advance(-3600);
        stage.event(2).await;
        assert_eq!(stage.round.take().await.unwrap().len(), 1, "only the new one");
        assert_eq!(stage.leased().await, 1, "the other is noticed to be stranded");
    }

    #[tokio::test]
    async fn server_that_starts_after_the_clock_was_set_back_delivers_at_once() {
        let mut stage = Stage::new().await;
        stage.event(1).await;
        stage.clock.advance(-86_400);
        assert_eq!(stage.leased().await, 1);
    }

    #[tokio::test]
    async fn small_step_back_delays_no_delivery_by_more_than_the_step() {
        let mut stage = Stage::new().await;
        stage.event(1).await;
        stage.clock.advance(-20);
        assert_eq!(stage.leased().await, 0);
        stage.clock.advance(20);
        assert_eq!(stage.leased().await, 1);
    }

    #[tokio::test]
    async fn lease_of_a_dead_worker_does_not_outlive_a_clock_that_was_set_back() {
        let mut stage = Stage::new().await;
        stage.event(1).await;
        assert_eq!(stage.leased().await, 1);
        // Its own lease it keeps.
        stage.clock.advance(-3600);
        assert_eq!(stage.leased().await, 0);
        let settings = DeliverySettings::default();
        let couriers = Couriers::new(&settings, Arc::<ManualClock>::clone(&stage.clock)).unwrap();
        stage.round = Round::new(Arc::clone(&stage.round.app), settings, couriers);
        assert_eq!(stage.leased().await, 1);
    }
}
