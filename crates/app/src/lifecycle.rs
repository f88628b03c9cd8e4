//! Starting and stopping the application on an open database.

use std::sync::{Arc, RwLock};

use domain::limits::CreationLimits;
use domain::{Clock, Entropy};
use store::Store;
use tokio::sync::{Mutex, Notify};
use webhook_client::Guard;

use crate::App;
use crate::audit::chain_state::ChainState;
use crate::audit::{chain, chain_state};
use crate::error::Error;
use crate::key_ring;
use crate::master_keys::MasterKeySource;
use crate::outbox::{Outbox, WEBHOOK_MAX_AGE_SECONDS, WorkerNotify};

/// Settings of the use cases.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Limits on creating resources; by default there are none.
    pub limits: CreationLimits,
    /// Seconds for which the delivery of a new webhook event is attempted; by default a day.
    pub webhook_max_age_seconds: i64,
    /// Addresses to which webhooks may be sent; by default public ones. Creating a webhook to another one is warned
    /// about.
    pub webhook_guard: Guard,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            limits: CreationLimits::default(),
            webhook_max_age_seconds: WEBHOOK_MAX_AGE_SECONDS,
            webhook_guard: Guard::default(),
        }
    }
}

impl App {
    /// Starts on an open database: reads its keys, or creates the first ones.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if its secrets were sealed under another master key.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        master_keys: MasterKeySource,
        config: AppConfig,
    ) -> Result<Self, Error> {
        let (ring, hashing) = key_ring::open_keys(&store, &master_keys, &entropy, clock.now()).await?;
        let audit_key = chain_state::open_key(&store, &master_keys, &entropy).await?;
        Ok(Self {
            store,
            outbox: Outbox::new(Arc::clone(&entropy), config.webhook_max_age_seconds),
            counted_until: Mutex::new(clock.now()),
            clock,
            entropy,
            master_keys: Arc::new(master_keys),
            hashing,
            ring: RwLock::new(ring),
            chain: Arc::new(ChainState::new(audit_key)),
            worker: WorkerNotify::default(),
            deleted: Notify::new(),
            limits: config.limits,
            webhook_guard: config.webhook_guard,
        })
    }

    /// Finishes queued writes, appends the remaining audit records to the chain, and closes the database.
    pub async fn stop(&self) {
        chain::finish(self).await;
        self.store.clone().close().await;
    }
}
