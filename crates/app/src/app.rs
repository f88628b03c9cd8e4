//! The state that all use cases share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};

use crypto::{AccessTokenCipher, HashingKey};
use domain::challenges::ChallengedKind;
use domain::limits::CreationLimits;
use domain::verifications::VerificationRules;
use domain::{AccountSid, Challenge, Clock, Entropy, Factor, Timestamp};
use store::{Announcement, DeletedEntity, Read, Store, Topic, Write};
use tokio::sync::{Mutex, Notify};
use webhook_client::Guard;

use crate::audit::chain_state::ChainState;
use crate::capture::Capture;
use crate::configured_outlets::ConfiguredOutlets;
use crate::error::Error;
use crate::feed::Feed;
use crate::key_ring::CachedRing;
use crate::master_keys::MasterKeySource;
use crate::outbox::{Outbox, WorkerNotify};
use crate::round_requests::RoundRequests;
use crate::streams::StreamLimiter;

/// The application: everything that a use case needs, such as the database, the clock, randomness and the keys. The use
/// cases are methods of this type; each resource implements its own in a separate file.
pub struct App {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) master_keys: Arc<MasterKeySource>,
    /// Key for hashing the secrets of API keys.
    pub(crate) hashing: HashingKey,
    /// Encrypts and decrypts access tokens.
    pub(crate) cipher: Arc<dyn AccessTokenCipher>,
    /// Cached enrollment keys, which encrypt access tokens.
    pub(crate) ring: RwLock<CachedRing>,
    /// State of the audit chain in this process.
    pub(crate) chain: Arc<ChainState>,
    /// Time for which the delivery of a webhook is attempted, in seconds.
    pub(crate) webhook_max_age_seconds: i64,
    /// Notifies the delivery workers of newly enqueued deliveries.
    pub(crate) worker: WorkerNotify,
    /// Sends notices of changed resources to streams.
    pub(crate) feed: Arc<Feed>,
    /// Limits the open streams.
    pub(crate) streams: Arc<StreamLimiter>,
    /// Notified when a service or an entity is deleted, so that housekeeping removes its rows.
    pub(crate) deleted: Notify,
    /// Challenges that expired up to this instant are already counted in the metrics.
    pub(crate) counted_until: Mutex<Timestamp>,
    /// Limits on how many entities, factors and challenges may be created.
    pub(crate) limits: CreationLimits,
    /// Rules for verifications.
    pub(crate) verification_rules: VerificationRules,
    /// Decides to which network addresses webhooks may be sent.
    pub(crate) webhook_guard: Guard,
    /// Receives pushes and webhooks of a test server; `None` for every other server.
    pub(crate) capture: Option<Arc<dyn Capture>>,
    /// Outlets for accounts that have none of their own.
    pub(crate) configured_outlets: ConfiguredOutlets,
    /// Public URL of the server, without a trailing slash; `None` if it is derived from each request.
    pub(crate) public_url: Option<String>,
    /// Requests for a round of housekeeping before the next one is due.
    pub(crate) round_requests: RoundRequests,
}

impl App {
    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the source of randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// Lets the delivery worker of this process look for due deliveries, for example after the clock has moved.
    pub fn wake_delivery_worker(&self) {
        self.worker.notify_local();
    }

    /// Returns an outbox for one transaction. The caller wakes the delivery workers after the commit.
    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::new(Arc::clone(&self.entropy), self.webhook_max_age_seconds)
    }

    /// Runs a closure that writes and may enqueue deliveries, in one transaction. After the commit, wakes the delivery
    /// workers of all nodes if the closure has enqueued any.
    ///
    /// # Errors
    /// Returns the closure's error. Also fails if the database fails.
    pub(crate) async fn write_with_outbox<F, T>(&self, work: F) -> Result<T, Error>
    where
        F: AsyncFn(&mut Write, &Outbox) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let outbox = self.outbox();
        let has_enqueued = outbox.enqueued_flag();
        let result = self.store.write(async move |tx: &mut Write| work(tx, &outbox).await).await?;
        if has_enqueued.load(Ordering::Relaxed) {
            self.worker.notify();
            self.feed.request_announcement();
        }
        Ok(result)
    }

    /// Announces to other processes that a delivery is pending. For commands, in which no task makes announcements.
    ///
    /// # Errors
    /// Fails if the database fails.
    pub(crate) async fn announce_deliveries(&self) -> Result<(), Error> {
        let announcement = Announcement { has_deliveries: true, ..Announcement::default() };
        Ok(self.store.announce(announcement, self.feed.tag).await?)
    }

    /// Returns what this process has to announce to the others.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement { has_deliveries: self.worker.take_unannounced(), changes: self.feed.take_unannounced() }
    }

    /// Sends a notice that the factors and challenges of an entity were deleted with it. Call this after the commit.
    pub(crate) fn touch_deleted(&self, account_sid: AccountSid, deleted: &DeletedEntity) {
        // The streams of a factor's challenges receive the notice about the factor.
        let factors = deleted.factors.iter().copied().map(Topic::Factor);
        let challenges = deleted.challenges.iter().copied().map(Topic::Challenge);
        self.feed.touch(&factors.chain(challenges).chain([Topic::Account(account_sid)]).collect::<Vec<_>>());
    }

    /// Sends a notice to all streams, because the factors and challenges of a service were deleted with it. Call this
    /// after the commit.
    pub(crate) fn touch_any(&self) {
        self.feed.touch_any();
    }

    /// Sends a notice that a challenge was created or has changed. Call this after the commit.
    pub(crate) fn touch_challenge<Kind: ChallengedKind>(&self, challenge: &Challenge<Kind>) {
        let account = Topic::Account(challenge.account_sid);
        match challenge.target() {
            Some(target) => {
                let (challenge, factor) = (Topic::Challenge(challenge.sid), Topic::Factor(target.factor_sid));
                self.feed.touch(&[challenge, factor, account]);
            }
            None => self.feed.touch(&[Topic::Challenge(challenge.sid), account]),
        }
    }

    /// Sends a notice that a factor was created, has changed, or was deleted. Call this after the commit.
    pub(crate) fn touch_factor<Kind>(&self, factor: &Factor<Kind>) {
        self.feed.touch(&[Topic::Factor(factor.sid), Topic::Account(factor.account_sid)]);
    }

    /// Checks that the database is reachable, also by new connections, and that its schema is up to date.
    ///
    /// # Errors
    /// Returns [`Fault::Unavailable`](crate::Fault::Unavailable) if the database is unreachable or has an outdated
    /// schema.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.store.read(async |db: &mut Read| Ok::<_, Error>(db.require_current_schema().await?)).await?;
        Ok(self.store.require_connectable()?)
    }
}
