//! The courier: makes the deliveries that are owed.
//!
//! It leases what is due, makes the attempts with no transaction open, and records what came of each
//! together with what comes next. A process that dies in an attempt leaves a lease that runs out, after
//! which the delivery is due again, here or on another node: at least once, never less. The lease only
//! saves work from being done twice.
//!
//! It is woken by the commit of this process, by other nodes' announcements, when the next delivery is due,
//! and by a slow poll in case all of these were missed.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use domain::deliveries::{Delivery, Next, Schedule, Work};
use domain::{Entropy, Timestamp};
use store::{AttemptRecord, Read, Write};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tracing::{debug, error, info};

use crate::App;
use crate::attempt::{Attempted, Couriers};
use crate::error::Error;
use crate::{housekeeping, outbox};

/// Shortest time between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(50);

/// Time after which a lost connection to the other nodes is made again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Everything an operator may set about deliveries.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Seconds after which a delivery that nobody finished is due again. Longer than any attempt takes.
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
    /// Seconds for which finished deliveries and alerts are kept.
    pub retention: i64,
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
            retention: 30 * 86_400,
            webhooks: ::webhooks::Settings::default(),
            push: push::Settings::default(),
        }
    }
}

/// Runs on a thread of its own until it is dropped or stopped.
pub struct Courier {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Courier {
    /// Starts to deliver.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn start(app: Arc<App>, settings: DeliverySettings) -> Result<Self, CourierError> {
        let couriers = Couriers::new(&app, &settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let run =
            move || LocalSet::new().block_on(&runtime, Round::new(app, settings).run(couriers, stopped));
        let thread = std::thread::Builder::new().name("courier".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Takes no more deliveries, and waits for the attempts that are under way.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
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
    /// Names this process among those who lease.
    lease: String,
    all: Arc<Semaphore>,
    places: HashMap<String, Arc<Semaphore>>,
}

impl Round {
    fn new(app: Arc<App>, settings: DeliverySettings) -> Self {
        let mut name = [0; 8];
        app.entropy.fill(&mut name);
        let lease = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let all = Arc::new(Semaphore::new(settings.concurrency));
        Self { app, settings, lease, all, places: HashMap::new() }
    }

    async fn run(mut self, couriers: Couriers, mut stopped: watch::Receiver<bool>) {
        let couriers = Rc::new(couriers);
        tokio::task::spawn_local(announce(Arc::clone(&self.app)));
        tokio::task::spawn_local(listen(Arc::clone(&self.app)));
        tokio::task::spawn_local(housekeeping::keep(Arc::clone(&self.app), self.settings.retention));
        loop {
            let taken = match self.take().await {
                Ok(deliveries) => deliveries,
                Err(fault) => {
                    error!("deliveries can't be read: {fault}");
                    Vec::new()
                }
            };
            let found = !taken.is_empty();
            for delivery in taken {
                self.begin(delivery, &couriers);
            }
            if found && self.all.available_permits() > 0 && !*stopped.borrow() {
                continue;
            }
            let wait = self.until_next().await;
            tokio::select! {
                _ = stopped.changed() => break,
                () = self.app.wake.rung() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // All permits at once means that no attempt is under way.
        let _ = self.all.acquire_many(u32::try_from(self.settings.concurrency).unwrap_or(u32::MAX)).await;
    }

    /// Leases what is due and can be attempted now.
    async fn take(&mut self) -> Result<Vec<Delivery>, Error> {
        let free = self.all.available_permits().min(64);
        if free == 0 {
            return Ok(Vec::new());
        }
        self.places.retain(|_, permits| Arc::strong_count(permits) > 1);
        let full = self.places.iter().filter(|(_, permits)| permits.available_permits() == 0);
        let full: Vec<String> = full.map(|(place, _)| place.clone()).collect();
        let lease = self.lease.clone();
        let now = self.app.now();
        let until = now.plus_seconds(self.settings.lease);
        self.app
            .store
            .write(async move |tx: &mut Write| {
                Ok(tx.lease_deliveries(&lease, &full, free, now, until).await?)
            })
            .await
    }

    /// How long nothing is due.
    async fn until_next(&self) -> Duration {
        let next = self.app.store.read(async |db: &mut Read| Ok::<_, Error>(db.next_due().await?)).await;
        let Ok(Some(next)) = next else { return self.settings.poll };
        let micros = next.micros().saturating_sub(self.app.now().micros());
        // What is overdue is held up by a limit, whose end rings.
        let wait =
            if micros <= 0 { self.settings.poll } else { Duration::from_micros(micros.unsigned_abs()) };
        wait.min(self.settings.poll)
    }

    /// Begins an attempt. More may be leased for a place than it takes at one time: they wait here.
    fn begin(&mut self, delivery: Delivery, couriers: &Rc<Couriers>) {
        let limit = match delivery.work {
            Work::Push { .. } => self.settings.concurrency_per_credential,
            Work::Webhook { .. } | Work::Debugger { .. } => self.settings.concurrency_per_host,
        };
        let place = self.places.entry(delivery.destination.clone());
        let place = Arc::clone(place.or_insert_with(|| Arc::new(Semaphore::new(limit))));
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            // Its lease runs out by itself.
            return;
        };
        let couriers = Rc::clone(couriers);
        let (app, lease, schedule) = (Arc::clone(&self.app), self.lease.clone(), self.settings.schedule);
        let patience = Duration::from_secs(self.settings.lease.unsigned_abs() / 2);
        tokio::task::spawn_local(async move {
            if let Ok(Ok(_turn)) = tokio::time::timeout(patience, place.acquire()).await {
                attempt(&app, &couriers, &delivery, &lease, schedule).await;
            }
            drop(permit);
            app.wake.ring_here();
        });
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
            Ok(None) => return,
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

/// Makes an attempt and records it.
async fn attempt(app: &App, couriers: &Couriers, delivery: &Delivery, lease: &str, schedule: Schedule) {
    let began_at = app.now();
    let attempted = couriers.attempt(app, delivery, began_at).await;
    let now = app.now();
    let next =
        schedule.next(&attempted.ending, delivery.attempts, delivery.give_up_at, now, chance(app.entropy()));
    let milliseconds = now.micros().saturating_sub(began_at.micros()) / 1000;
    let kind = delivery.work.kind().as_str();
    match next {
        Next::Delivered => debug!(delivery = %delivery.id, kind, milliseconds, "delivered"),
        Next::Skipped => debug!(delivery = %delivery.id, kind, "skipped"),
        Next::At(at) => {
            info!(delivery = %delivery.id, kind, code = attempted.error_code, again_at = %at, "not delivered")
        }
        Next::Failed => info!(delivery = %delivery.id, kind, code = attempted.error_code, "given up"),
    }
    if let Err(fault) = record(app, delivery, lease, attempted, next, began_at, now).await {
        // The lease runs out, and the delivery is made again: at least once.
        error!(delivery = %delivery.id, "an attempt can't be recorded: {fault}");
    }
}

async fn record(
    app: &App,
    delivery: &Delivery,
    lease: &str,
    attempted: Attempted,
    next: Next,
    began_at: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let ending = match next {
        Next::Delivered => "delivered",
        Next::Skipped => "skipped",
        Next::At(_) => "again",
        Next::Failed => "failed",
    };
    let record = AttemptRecord {
        number: delivery.attempts,
        began_at,
        milliseconds: now.micros().saturating_sub(began_at.micros()) / 1000,
        ending: ending.to_owned(),
        error_code: attempted.error_code,
        status: attempted.status,
        detail: attempted.detail.clone().map(|detail| detail.chars().take(1024).collect()),
    };
    let (delivery, lease, entropy) = (delivery.clone(), lease.to_owned(), Arc::clone(&app.entropy));
    let raised = app
        .store
        .write(async move |tx: &mut Write| {
            if !tx.record_attempt(&lease, &delivery, &record, next, now).await? {
                return Ok(false);
            }
            // A dead token is an event the first time it is heard of, and never again.
            let is_news = match &attempted.dead_token {
                Some((factor_sid, token)) => tx.mark_unreachable(*factor_sid, token).await?,
                None => true,
            };
            match &attempted.alert {
                Some(alert) if next == Next::Failed && is_news => {
                    outbox::raise(tx, alert, now, entropy.as_ref()).await?;
                    Ok(true)
                }
                _ => Ok::<_, Error>(false),
            }
        })
        .await?;
    if raised {
        app.wake.ring_here();
    }
    Ok(())
}

/// Spreads those who wait.
fn chance(entropy: &dyn Entropy) -> f64 {
    let mut byte = [0; 2];
    entropy.fill(&mut byte);
    f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX)
}
