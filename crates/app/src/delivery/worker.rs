//! The loop of the delivery worker: lease due deliveries, start their attempts, and record the results.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::deliveries::{AttemptOutcome, Delivery, DeliveryId, Destination, Next, Schedule, Stranded, Work};
use domain::factors::Platform;
use domain::{Entropy, Timestamp};
use store::{DueDeliveries, LeasedDeliveries, Read, Write};
use telemetry::metrics::METRICS;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tracing::{Instrument as _, debug, error, error_span, info, warn};

use crate::App;
use crate::audit::chain;
use crate::delivery::announcements;
use crate::delivery::attempt::AttemptResult;
use crate::delivery::backlog::Backlog;
use crate::delivery::concurrency::{ConcurrencyLimiter, Slot};
use crate::delivery::leases::Leases;
use crate::delivery::recorder::{self, AttemptRecorder, FinishedAttempt, RecorderQueue};
use crate::delivery::senders::Senders;
use crate::delivery::settings::{DeliverySettings, WorkerError};
use crate::error::Error;
use crate::housekeeping;

/// Maximum number of deliveries that one transaction leases or reschedules.
const LEASE_BATCH: usize = 100;

/// Number of destinations with a backlog for which one transaction leases deliveries.
const DESTINATIONS_PER_LEASE: usize = 8;

/// Number of slots of the process that deliveries of a backlog leave to others.
const RESERVED_SLOTS: usize = 512;

/// Delays between the attempts of a message. They are short, because its code is soon invalid.
const MESSAGE_SCHEDULE: Schedule = Schedule { max_backoff_seconds: 30 };

/// Maximum time between two searches for stranded deliveries. The searches are repeated, because another node whose
/// clock was wrong may have stranded deliveries in the meantime.
const STRANDED_SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// A handle to the running delivery worker, which has its own thread. Housekeeping and audit chaining run on the same
/// thread.
pub struct DeliveryWorker {
    stop: watch::Sender<bool>,
    /// Channel that is closed when the thread ends. `None` after the end has been awaited.
    ended: Option<oneshot::Receiver<()>>,
}

impl DeliveryWorker {
    /// Starts the delivery worker on a new thread.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot create the thread or its event queue.
    pub fn start(app: Arc<App>, settings: DeliverySettings, senders: Senders) -> Result<Self, WorkerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (ends, ended) = oneshot::channel::<()>();
        let run = move || {
            // Dropped when the thread ends, even if it panics.
            let _ends = ends;
            LocalSet::new().block_on(&runtime, WorkerLoop::new(app, settings, senders).run(stopped));
        };
        std::thread::Builder::new().name("deliveries".into()).spawn(run)?;
        Ok(Self { stop, ended: Some(ended) })
    }

    /// Waits until the worker has ended. If it ends before [`stop`](Self::stop) is called, the worker has failed. The
    /// server should then stop too, because it sends no more deliveries.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            let _ = ended.await;
            self.ended = None;
        }
    }

    /// Stops leasing deliveries, and waits at most `timeout` until the running attempts have finished. Deliveries that
    /// are still interrupted stay leased, and are attempted again when their leases expire.
    pub async fn stop(mut self, timeout: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(timeout, self.ended()).await.is_err() {
            warn!(
                "deliveries were interrupted by the shutdown; they will be attempted again when their leases expire"
            );
        }
    }
}

/// The state of the delivery worker's loop, which stays on the worker's thread.
struct WorkerLoop {
    app: Arc<App>,
    settings: DeliverySettings,
    limiter: ConcurrencyLimiter,
    backlog: Backlog,
    attempts: Rc<AttemptContext>,
    /// Queue of the recorder; `None` after the recorder's task has taken it.
    recorder_queue: Option<RecorderQueue>,
    /// Previous reading of the clock, used to detect when the clock is set back.
    latest_now: Timestamp,
    /// When stranded deliveries were last searched for, or `None` before the first search.
    searched_stranded: Option<Instant>,
}

/// The state that all delivery attempts share.
struct AttemptContext {
    app: Arc<App>,
    senders: Senders,
    schedule: Schedule,
    leases: Rc<Leases>,
    /// Whether due deliveries are waiting for a free slot. If so, each attempt wakes the worker when it ends.
    is_short_of_slots: Cell<bool>,
    recorder: AttemptRecorder,
    /// Deliveries that were leased but not attempted, and whose leases must be released.
    unattempted: RefCell<Vec<DeliveryId>>,
}

impl WorkerLoop {
    fn new(app: Arc<App>, settings: DeliverySettings, senders: Senders) -> Self {
        let (recorder, recorder_queue) = AttemptRecorder::new();
        let attempts = AttemptContext {
            app: Arc::clone(&app),
            senders,
            schedule: settings.schedule,
            leases: Rc::new(Leases::new(&app, settings.lease_seconds)),
            is_short_of_slots: Cell::new(false),
            recorder,
            unattempted: RefCell::default(),
        };
        Self {
            app,
            limiter: ConcurrencyLimiter::new(settings.concurrency),
            backlog: Backlog::new(),
            settings,
            attempts: Rc::new(attempts),
            recorder_queue: Some(recorder_queue),
            latest_now: Timestamp::from_micros(i64::MIN),
            searched_stranded: None,
        }
    }

    /// Runs the loop until `stopped` is set or a background task ends unexpectedly, then waits for the running
    /// attempts.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut tasks = self.spawn_tasks();
        let mut housekeeping = self.spawn_housekeeping(&stopped);
        let mut is_failing = false;
        while !*stopped.borrow() {
            let result = self.start_due_attempts().await;
            match &result {
                Err(fault) if !is_failing => error!("delivery worker failed, will retry: {}", fault.report()),
                Ok(_) if is_failing => info!("delivery worker recovered"),
                _ => {}
            }
            is_failing = result.is_err();
            let wait = result.unwrap_or(self.settings.poll_interval);
            tokio::select! {
                _ = stopped.changed() => {}
                () = self.app.worker.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = tasks.join_next() => break,
                _ = housekeeping.join_next() => break,
            }
        }
        if !*stopped.borrow() {
            error!("a background task of the delivery worker exited unexpectedly");
            // Nothing else ends housekeeping in this case, and its tasks would keep this thread alive.
            housekeeping.abort_all();
        }
        self.limiter.close().await;
        while housekeeping.join_next().await.is_some() {}
        // End these tasks here, because connections must be closed on the runtime that opened them.
        tasks.shutdown().await;
        if let Err(fault) = self.release_unattempted().await {
            debug!("could not release unattempted deliveries, their leases will expire: {}", fault.report());
        }
    }

    /// Spawns the background tasks that run until the worker ends.
    fn spawn_tasks(&mut self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn_local(announcements::announce(Arc::clone(&self.app)));
        tasks.spawn_local(announcements::listen(Arc::clone(&self.app)));
        tasks.spawn_local(chain::run(Arc::clone(&self.app)));
        let leases = Rc::clone(&self.attempts.leases);
        tasks.spawn_local(leases.renew_until_aborted(Arc::clone(&self.app)));
        if let Some(queue) = self.recorder_queue.take() {
            let lease_holder = self.attempts.leases.holder().to_owned();
            tasks.spawn_local(recorder::run(Arc::clone(&self.app), lease_holder, queue));
        }
        tasks
    }

    /// Spawns the housekeeping tasks, which end by themselves when `stopped` is set.
    fn spawn_housekeeping(&self, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (app, node) = (|| Arc::clone(&self.app), || self.attempts.leases.holder().to_owned());
        tasks.spawn_local(housekeeping::run_retention(
            app(),
            node(),
            self.settings.retention,
            stopped.clone(),
        ));
        tasks.spawn_local(housekeeping::run_deletions(app(), node(), stopped.clone()));
        tasks
    }

    /// Starts an attempt for each due delivery that gets a slot. Returns how long the loop may wait until it calls this
    /// function again, unless a notification wakes it earlier.
    async fn start_due_attempts(&mut self) -> Result<Duration, Error> {
        self.reschedule_stranded().await?;
        loop {
            for saturated in self.limiter.saturated() {
                self.wait_for_slots(saturated);
            }
            let wait = self.start_new_attempts().await?;
            let has_more = self.start_waiting_attempts().await?;
            if let (Some(wait), false) = (wait, has_more) {
                return Ok(wait);
            }
        }
    }

    /// Starts attempts of due deliveries to destinations that have no backlog, at most [`LEASE_BATCH`]. Returns how long
    /// to wait for the next ones, at most the poll interval, or `None` if more may be due.
    async fn start_new_attempts(&mut self) -> Result<Option<Duration>, Error> {
        let (began, now) = (Instant::now(), self.app.now());
        let (from, except) = (self.backlog.examine_from(now), self.backlog.destinations());
        let until = Timestamp::from_micros(
            now.micros()
                .saturating_add(i64::try_from(self.settings.poll_interval.as_micros()).unwrap_or(i64::MAX)),
        );
        let next = async move |db: &mut Read| Ok(db.next_delivery_due_at(from..=until, &except).await?);
        let next: Result<_, Error> = self.app.store.read(next).await;
        self.backlog.record_search(from, began.elapsed());
        let next = next?;
        self.backlog.record_examined(next.map_or(now, |next| next.min(now)));
        let is_due = next.is_some_and(|next| next <= now);
        self.attempts.is_short_of_slots.set(is_due || !self.backlog.is_empty());
        let (Some(next), true) = (next, is_due) else {
            return Ok(Some(next.map_or(self.settings.poll_interval, |next| now.until(next))));
        };
        let limit = self.limiter.available().min(LEASE_BATCH);
        if limit == 0 {
            return Ok(Some(self.settings.poll_interval));
        }
        let due = DueDeliveries::Except { from: next, destinations: self.backlog.destinations() };
        let LeasedDeliveries { readable, is_limited } = self.lease(due, limit, now).await?;
        if !is_limited {
            self.backlog.record_examined(now);
        }
        // If none could be leased, another server has leased them.
        let is_none = readable.is_empty();
        readable.into_iter().for_each(|delivery| self.start_attempt(delivery));
        self.release_unattempted().await?;
        Ok(is_none.then_some(self.settings.poll_interval))
    }

    /// Starts attempts of due deliveries that waited for slots, if their destinations have free slots again. Leaves some
    /// slots of the process to deliveries to others. Returns whether a destination has more free slots than one
    /// transaction fills.
    async fn start_waiting_attempts(&mut self) -> Result<bool, Error> {
        let mut has_more = false;
        for destinations in self.backlog.destinations().chunks(DESTINATIONS_PER_LEASE) {
            let mut available = self.limiter.available().saturating_sub(RESERVED_SLOTS);
            let mut shares = Vec::new();
            for destination in destinations {
                let free = self.limiter.slots_to_fill(destination, self.max_concurrency(destination));
                let limit = free.min(available).min(LEASE_BATCH);
                if limit > 0 {
                    available -= limit;
                    shares.push((destination.clone(), limit));
                }
            }
            for (destination, limit, leased) in self.lease_waiting(shares).await? {
                if !leased.is_limited {
                    self.backlog.remove(&destination);
                }
                has_more |= leased.is_limited && limit == LEASE_BATCH;
                leased.readable.into_iter().for_each(|delivery| self.start_attempt(delivery));
            }
            self.release_unattempted().await?;
        }
        Ok(has_more)
    }

    /// Makes stranded deliveries due again. Does this at startup, after the clock was set back, and once every
    /// [`STRANDED_SEARCH_INTERVAL`]; other calls do nothing.
    async fn reschedule_stranded(&mut self) -> Result<(), Error> {
        let now = self.app.now();
        let was_set_back = now < self.latest_now;
        self.latest_now = now;
        let searched = self.searched_stranded;
        let is_time = searched.is_none_or(|searched| searched.elapsed() >= STRANDED_SEARCH_INTERVAL);
        if !was_set_back && !is_time {
            return Ok(());
        }
        let lease_holder = self.attempts.leases.holder();
        let stranded = Stranded::at(now, self.settings.lease_seconds, self.settings.schedule);
        let mut count = 0;
        loop {
            let (reader, writer) = (lease_holder.to_owned(), lease_holder.to_owned());
            let is_any = async move |db: &mut Read| {
                Ok::<_, Error>(db.has_stranded_deliveries(&reader, stranded).await?)
            };
            if !self.app.store.read(is_any).await? {
                break;
            }
            let reschedule = async move |tx: &mut Write| {
                Ok::<_, Error>(tx.reschedule_stranded_deliveries(&writer, stranded, LEASE_BATCH, now).await?)
            };
            match self.app.store.write(reschedule).await? {
                // Another node has rescheduled these deliveries.
                0 => break,
                rescheduled => count += rescheduled,
            }
        }
        self.searched_stranded = Some(Instant::now());
        if count > 0 {
            self.backlog.forget();
            warn!(deliveries = count, "stranded deliveries were rescheduled because a clock was set back");
        }
        Ok(())
    }

    /// Leases up to `limit` of the deliveries in `due` that are due at `now`.
    async fn lease(
        &self,
        due: DueDeliveries,
        limit: usize,
        now: Timestamp,
    ) -> Result<LeasedDeliveries, Error> {
        let leases = &self.attempts.leases;
        let (lease_holder, expiry) = (leases.holder().to_owned(), leases.expiry(now));
        let lease = async move |tx: &mut Write| {
            Ok(tx.lease_deliveries(&lease_holder, &due, limit, now, expiry).await?)
        };
        self.app.store.write(lease).await
    }

    /// Leases due deliveries to each of these destinations, at most the given number, and returns them with both.
    async fn lease_waiting(
        &self,
        shares: Vec<(Destination, usize)>,
    ) -> Result<Vec<(Destination, usize, LeasedDeliveries)>, Error> {
        if shares.is_empty() {
            return Ok(Vec::new());
        }
        let (leases, now) = (&self.attempts.leases, self.app.now());
        let (lease_holder, expiry) = (leases.holder().to_owned(), leases.expiry(now));
        let lease = async move |tx: &mut Write| {
            let mut leased = Vec::new();
            for (destination, limit) in &shares {
                let due = DueDeliveries::To(destination.clone());
                let found = tx.lease_deliveries(&lease_holder, &due, *limit, now, expiry).await?;
                leased.push((destination.clone(), *limit, found));
            }
            Ok(leased)
        };
        self.app.store.write(lease).await
    }

    /// Returns how many attempts may run at one time to `destination`.
    const fn max_concurrency(&self, destination: &Destination) -> usize {
        match destination {
            Destination::Push { .. } => self.settings.concurrency_per_service_and_provider,
            Destination::Host(_) => self.settings.concurrency_per_host,
            Destination::Outlet(_) => self.settings.concurrency_per_outlet,
        }
    }

    /// Spawns an attempt of a leased delivery if a slot is free. Otherwise marks its lease to be released.
    fn start_attempt(&mut self, delivery: Delivery) {
        if self.attempts.leases.is_guarded(&delivery) {
            // The delivery was leased again because its lease could not be renewed in time, but its previous attempt is
            // still running.
            return;
        }
        let limit = self.max_concurrency(&delivery.destination);
        match self.limiter.try_slot(&delivery.destination, limit) {
            Some(slot) => {
                // The span adds the delivery's ID to every log line of the attempt, in all crates.
                let span = error_span!(target: "delivery", "delivery", delivery = %delivery.id);
                let attempt = Rc::clone(&self.attempts).run_attempt(delivery, slot);
                drop(tokio::task::spawn_local(attempt.instrument(span)));
            }
            None => {
                self.attempts.unattempted.borrow_mut().push(delivery.id);
                self.wait_for_slots(delivery.destination);
            }
        }
    }

    /// Lets the deliveries to a destination wait until it has free slots again. From now on, each attempt wakes the worker
    /// when it ends.
    fn wait_for_slots(&mut self, destination: Destination) {
        self.backlog.add(destination);
        self.attempts.is_short_of_slots.set(true);
    }

    async fn release_unattempted(&self) -> Result<(), Error> {
        let ids = self.attempts.unattempted.take();
        self.attempts.leases.release(&self.app, ids).await
    }
}

impl AttemptContext {
    /// Waits for a permit, makes the attempt, and records its result. Keeps the lease renewed until the attempt ends.
    async fn run_attempt(self: Rc<Self>, delivery: Delivery, slot: Slot) {
        let guard = self.leases.guard(&delivery);
        match slot.permit().await {
            Some(_permit) => {
                let finished = self.attempt(&delivery).await;
                // Stop renewing the lease before recording the attempt, because the delivery may be leased again as
                // soon as the attempt is recorded.
                drop(guard);
                let report = self.app.capture.as_ref().map(|capture| (capture, finished.to_report()));
                self.recorder.record(finished).await;
                if let Some((capture, report)) = report {
                    capture.attempt_recorded(&report);
                }
            }
            None => self.unattempted.borrow_mut().push(delivery.id),
        }
        drop(slot);
        if self.is_short_of_slots.get() {
            self.app.worker.notify_local();
        }
    }

    /// Makes one attempt, and decides what happens next to the delivery. Also updates the log, the metrics and the
    /// traces.
    async fn attempt(&self, delivery: &Delivery) -> FinishedAttempt {
        let app = &self.app;
        let began_at = app.now();
        let kind = kind_label(delivery);
        let span =
            telemetry::traces::start_attempt(delivery.id, kind.as_str(), delivery.attempts, delivery.trace);
        let result = span.clone().run(self.senders.attempt(app, delivery, began_at)).await;
        let ended_at = app.now();
        let jitter = random_jitter(app.entropy());
        let schedule = match delivery.work {
            Work::Message(_) => MESSAGE_SCHEDULE,
            Work::Webhook { .. } | Work::VerificationEvent { .. } | Work::Push(_) | Work::Debugger { .. } => {
                self.schedule
            }
        };
        let next = schedule.next(result.ending, delivery.attempts, delivery.expires_at, ended_at, jitter);
        log_attempt(delivery, &result, next, recorder::milliseconds(began_at.until(ended_at)));
        let outcome = outcome_label(next.outcome());
        span.end_attempt(outcome.as_str(), result.error_code, result.status);
        count_attempt(delivery, kind, outcome, ended_at);
        FinishedAttempt { delivery: delivery.clone(), result, next, began_at, ended_at }
    }
}

/// Logs the result of an attempt. If the delivery is given up, this is a warning with the reason.
fn log_attempt(delivery: &Delivery, result: &AttemptResult, next: Next, milliseconds: i64) {
    let kind = delivery.work.kind().as_str();
    let (attempt, code, reason) = (delivery.attempts, result.error_code, result.detail.as_deref());
    let destination = &delivery.destination;
    match next {
        Next::Delivered => debug!(kind, milliseconds, "delivery succeeded"),
        Next::Skipped => debug!(kind, reason, "delivery skipped"),
        Next::Retry(retry_at) => {
            info!(kind, %destination, attempt, code, reason, %retry_at, "delivery failed, will retry");
        }
        Next::Failed => warn!(kind, %destination, attempt, code, reason, "delivery failed, given up"),
    }
}

/// Returns the kind of a delivery, as a label for metrics and traces.
fn kind_label(delivery: &Delivery) -> telemetry::metrics::DeliveryKind {
    match (&delivery.work, &delivery.destination) {
        (Work::Webhook { .. }, _) => telemetry::metrics::DeliveryKind::Webhook,
        (Work::VerificationEvent { .. }, _) => telemetry::metrics::DeliveryKind::VerificationEvent,
        (Work::Debugger { .. }, _) => telemetry::metrics::DeliveryKind::Debugger,
        (Work::Push(_), Destination::Push { platform: Platform::Fcm, .. }) => {
            telemetry::metrics::DeliveryKind::PushFcm
        }
        (Work::Push(_), _) => telemetry::metrics::DeliveryKind::PushApns,
        (Work::Message(_), _) => telemetry::metrics::DeliveryKind::Message,
    }
}

/// Converts an attempt's outcome to a label for metrics and traces.
const fn outcome_label(outcome: AttemptOutcome) -> telemetry::metrics::DeliveryOutcome {
    match outcome {
        AttemptOutcome::Delivered => telemetry::metrics::DeliveryOutcome::Delivered,
        AttemptOutcome::Skipped => telemetry::metrics::DeliveryOutcome::Skipped,
        AttemptOutcome::Retry => telemetry::metrics::DeliveryOutcome::Retry,
        AttemptOutcome::Failed => telemetry::metrics::DeliveryOutcome::Failed,
    }
}

/// Counts an attempt in the metrics. If the delivery succeeded, also observes its age at `now`.
fn count_attempt(
    delivery: &Delivery,
    kind: telemetry::metrics::DeliveryKind,
    outcome: telemetry::metrics::DeliveryOutcome,
    now: Timestamp,
) {
    METRICS.delivery_attempts.get_or_create(&telemetry::metrics::AttemptLabels { kind, outcome }).inc();
    if outcome == telemetry::metrics::DeliveryOutcome::Delivered {
        let age = delivery.created_at.until(now).as_secs_f64();
        METRICS.delivery_time.get_or_create(&telemetry::metrics::DeliveryKindLabels { kind }).observe(age);
    }
}

/// Returns a random number in `0.0..=1.0`, which spreads the delays between retries.
fn random_jitter(entropy: &dyn Entropy) -> f64 {
    let mut bytes = [0; 2];
    entropy.fill(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
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
    use crate::factors::NewPushFactor;
    use crate::webhooks::NewWebhook;

    /// A clock that changes only when the test sets it.
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

    /// A worker loop whose attempts are never started, and an entity whose events are enqueued for a webhook.
    struct Fixture {
        worker: WorkerLoop,
        clock: Arc<ManualClock>,
        path: EntityPath,
    }

    impl Fixture {
        async fn new() -> Self {
            let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
            let clock = Arc::new(ManualClock(Mutex::new(Timestamp::from_seconds(1_767_225_600))));
            let shared_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
            let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
            let keys = crate::MasterKeySource::fixed(keys);
            let (entropy, cipher) = (Arc::new(SystemEntropy), Arc::new(jwe::Josekit));
            let config = crate::AppConfig::default();
            let app =
                App::start(store, Arc::clone(&shared_clock), entropy, cipher, keys, config).await.unwrap();
            let origin = Origin::operator("ann");
            let name = |text| FriendlyName::from_parameter(text).unwrap();
            let new = app.create_account(&origin, None, None, name("Owl Bank")).await.unwrap().unwrap();
            let account_sid = new.account.sid;
            let settings = Settings::with_defaults(name("App"));
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
            let senders = Senders::new(&settings, shared_clock).unwrap();
            let identity = Identity::from_parameter("user-0001").unwrap();
            Self {
                worker: WorkerLoop::new(Arc::new(app), settings, senders),
                clock,
                path: EntityPath { account_sid, service_sid, identity },
            }
        }

        /// Creates a factor with a public key made from `key`, which enqueues a delivery to the webhook.
        async fn enqueue_event(&self, key: u8) {
            let new = NewPushFactor {
                friendly_name: FriendlyName::from_parameter("Telephone").unwrap(),
                public_key: PublicKey::from_checked_der(vec![key; 91]),
                app_id: AppId::from_parameter("com.example.owl").unwrap(),
                notification: Notification::None,
                sdk_version: None,
                metadata: None,
            };
            let caller = Caller::Account(self.path.account_sid);
            let origin = Origin::request(&caller, None, None);
            self.worker
                .app
                .create_push_factor(&origin, &caller.try_into().unwrap(), self.path.clone(), new)
                .await
                .unwrap();
        }

        /// Reschedules stranded deliveries, leases the due deliveries, and returns how many were leased.
        async fn lease_due(&mut self) -> usize {
            self.worker.reschedule_stranded().await.unwrap();
            self.lease_due_only().await
        }

        /// Leases the due deliveries, and returns how many were leased.
        async fn lease_due_only(&self) -> usize {
            let now = self.worker.app.now();
            self.worker.lease(DueDeliveries::ALL, LEASE_BATCH, now).await.unwrap().readable.len()
        }
    }

    #[tokio::test]
    async fn clock_set_back_by_an_hour_delays_no_delivery() {
        let mut fixture = Fixture::new().await;
        assert_eq!(fixture.lease_due().await, 0);
        fixture.enqueue_event(1).await;
        fixture.clock.advance(-3600);
        fixture.enqueue_event(2).await;
        assert_eq!(fixture.lease_due_only().await, 1, "only the delivery after the step");
        assert_eq!(fixture.lease_due().await, 1, "the stranded delivery");
    }

    #[tokio::test]
    async fn server_started_after_the_clock_was_set_back_delivers_immediately() {
        let mut fixture = Fixture::new().await;
        fixture.enqueue_event(1).await;
        fixture.clock.advance(-86_400);
        assert_eq!(fixture.lease_due().await, 1);
    }

    #[tokio::test]
    async fn small_clock_step_back_delays_a_delivery_by_at_most_that_step() {
        let mut fixture = Fixture::new().await;
        fixture.enqueue_event(1).await;
        fixture.clock.advance(-20);
        assert_eq!(fixture.lease_due().await, 0);
        fixture.clock.advance(20);
        assert_eq!(fixture.lease_due().await, 1);
    }

    #[tokio::test]
    async fn lease_of_a_dead_worker_expires_even_if_the_clock_is_set_back() {
        let mut fixture = Fixture::new().await;
        fixture.enqueue_event(1).await;
        assert_eq!(fixture.lease_due().await, 1);
        // A worker does not reschedule deliveries that it has leased itself.
        fixture.clock.advance(-3600);
        assert_eq!(fixture.lease_due().await, 0);
        let settings = DeliverySettings::default();
        let senders = Senders::new(&settings, Arc::<ManualClock>::clone(&fixture.clock)).unwrap();
        fixture.worker = WorkerLoop::new(Arc::clone(&fixture.worker.app), settings, senders);
        assert_eq!(fixture.lease_due().await, 1);
    }
}
