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
use std::time::Duration;

use domain::deliveries::{Delivery, DeliveryId, Next, Schedule, Work};
use domain::factors::Platform;
use domain::housekeeping::Retention;
use domain::{Entropy, Timestamp};
use metrics::METRICS;
use store::{Read, Write};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tracing::{Instrument as _, debug, error, error_span, info, warn};

use crate::App;
use crate::attempt::Couriers;
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
    pub webhooks: ::webhooks::Settings,
    /// How pushes are sent.
    pub push: push::Settings,
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
            webhooks: ::webhooks::Settings::default(),
            push: push::Settings::default(),
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
    Webhooks(#[from] ::webhooks::Error),
    /// The settings of pushes.
    #[error("push")]
    Push(#[from] push::Error),
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
    /// Those who wait to be recorded, until somebody does that.
    ended: Option<Waiting>,
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
        let span = traces::attempt(delivery.id, label.as_str(), delivery.attempts, delivery.trace);
        let attempted = span.clone().within(self.couriers.attempt(app, delivery, began_at)).await;
        let now = app.now();
        let (attempts, chance) = (delivery.attempts, chance(app.entropy()));
        let next = self.schedule.next(&attempted.ending, attempts, delivery.give_up_at, now, chance);
        let milliseconds = now.micros().saturating_sub(began_at.micros()) / 1000;
        let (kind, code) = (delivery.work.kind().as_str(), attempted.error_code);
        match next {
            Next::Delivered => debug!(kind, milliseconds, "delivered"),
            Next::Skipped => debug!(kind, "skipped"),
            Next::At(at) => info!(kind, code, again_at = %at, "not delivered"),
            Next::Failed => info!(kind, code, "given up"),
        }
        let outcome = outcome(&next);
        span.attempted(outcome.as_str(), code, attempted.status);
        count(delivery, label, outcome, now);
        Ended { delivery: delivery.clone(), attempted, next, began_at, ended_at: now }
    }
}

/// What kind it is, in the metrics and in traces.
fn kind_of(delivery: &Delivery) -> metrics::Kind {
    match delivery.work {
        Work::Webhook { .. } => metrics::Kind::Webhook,
        Work::Debugger { .. } => metrics::Kind::Debugger,
        Work::Push(_) => match outbox::platform(delivery) {
            Platform::Fcm => metrics::Kind::PushFcm,
            Platform::Apn | Platform::None => metrics::Kind::PushApns,
        },
    }
}

/// What becomes of the delivery, likewise.
fn outcome(next: &Next) -> metrics::Outcome {
    match next {
        Next::Delivered => metrics::Outcome::Delivered,
        Next::Skipped => metrics::Outcome::Skipped,
        Next::At(_) => metrics::Outcome::Again,
        Next::Failed => metrics::Outcome::Failed,
    }
}

fn count(delivery: &Delivery, kind: metrics::Kind, outcome: metrics::Outcome, now: Timestamp) {
    METRICS.delivery_attempts.get_or_create(&metrics::Attempted { kind, outcome }).inc();
    if outcome == metrics::Outcome::Delivered {
        let took = delivery.created_at.until(now).as_secs_f64();
        METRICS.delivery_time.get_or_create(&metrics::Delivered { kind }).observe(took);
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

/// Spreads those who wait.
fn chance(entropy: &dyn Entropy) -> f64 {
    let mut byte = [0; 2];
    entropy.fill(&mut byte);
    f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX)
}
