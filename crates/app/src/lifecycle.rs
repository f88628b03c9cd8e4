//! Starting the application on an open database, and stopping it.

use std::sync::{Arc, RwLock};

use crypto::AccessTokenCipher;
use domain::limits::CreationLimits;
use domain::verifications::VerificationRules;
use domain::{Clock, Entropy};
use store::Store;
use tokio::sync::{Mutex, Notify};
use webhook_client::Guard;

use crate::App;
use crate::audit::chain_state::ChainState;
use crate::audit::{chain, chain_state};
use crate::capture::Capture;
use crate::configured_outlets::ConfiguredOutlets;
use crate::error::Error;
use crate::feed::Feed;
use crate::key_ring;
use crate::master_keys::MasterKeySource;
use crate::outbox::{WEBHOOK_MAX_AGE_SECONDS, WorkerNotify};
use crate::round_requests::RoundRequests;
use crate::streams::{StreamLimiter, StreamLimits};

/// Settings of the use cases, which an operator can change.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Limits on how many entities, factors and challenges may be created. By default there are no limits.
    pub limits: CreationLimits,
    /// Rules for verifications. By default they are valid for ten minutes, and nothing is limited.
    pub verifications: VerificationRules,
    /// How long the delivery of a webhook event is attempted, in seconds. The default is one day.
    pub webhook_max_age_seconds: i64,
    /// Decides to which network addresses webhooks may be sent. The default permits only public addresses. Creating a
    /// webhook with a URL at any other address logs a warning.
    pub webhook_guard: Guard,
    /// Limits on open streams. By default a thousand, and no limit for an account.
    pub streams: StreamLimits,
    /// Receives pushes and webhooks of a test server. The default is `None`: they are sent.
    pub capture: Option<Arc<dyn Capture>>,
    /// Outlets for accounts that have none of their own. By default there are none.
    pub configured_outlets: ConfiguredOutlets,
    /// Public URL of the server, without a trailing slash, to which outlets report what became of a message. The
    /// default is `None`: they are not asked for reports.
    pub public_url: Option<String>,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            limits: CreationLimits::default(),
            verifications: VerificationRules::default(),
            webhook_max_age_seconds: WEBHOOK_MAX_AGE_SECONDS,
            webhook_guard: Guard::default(),
            streams: StreamLimits::default(),
            capture: None,
            configured_outlets: ConfiguredOutlets::default(),
            public_url: None,
        }
    }
}

impl App {
    /// Starts the application on an open database. Reads the stored keys, or creates them in a new database. `cipher`
    /// encrypts access tokens.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if its keys were sealed under another master key.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        cipher: Arc<dyn AccessTokenCipher>,
        master_keys: MasterKeySource,
        config: AppConfig,
    ) -> Result<Self, Error> {
        let (ring, hashing) =
            key_ring::open_keys(&store, &master_keys, &entropy, &cipher, clock.now()).await?;
        let audit_key = chain_state::open_key(&store, &master_keys, &entropy).await?;
        let feed = Feed::new(config.streams.are_on() && store.can_announce(), entropy.as_ref());
        Ok(Self {
            store,
            webhook_max_age_seconds: config.webhook_max_age_seconds,
            counted_until: Mutex::new(clock.now()),
            clock,
            entropy,
            master_keys: Arc::new(master_keys),
            hashing,
            cipher,
            ring: RwLock::new(ring),
            chain: Arc::new(ChainState::new(audit_key)),
            worker: WorkerNotify::default(),
            feed: Arc::new(feed),
            streams: Arc::new(StreamLimiter::new(config.streams)),
            deleted: Notify::new(),
            limits: config.limits,
            verification_rules: config.verifications,
            webhook_guard: config.webhook_guard,
            capture: config.capture,
            configured_outlets: config.configured_outlets,
            public_url: config.public_url,
            round_requests: RoundRequests::new(),
        })
    }

    /// Stops the application: appends the remaining audit records to the chain, finishes queued writes, and closes the
    /// database.
    pub async fn stop(&self) {
        chain::finish(self).await;
        self.store.clone().close().await;
    }
}
