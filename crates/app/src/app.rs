//! The state that all use cases share.

use std::sync::{Arc, RwLock};

use crypto::HashingKey;
use domain::limits::CreationLimits;
use domain::{Clock, Entropy, Timestamp};
use store::{Read, Store};
use tokio::sync::{Mutex, Notify};
use webhook_client::Guard;

use crate::audit::chain_state::ChainState;
use crate::error::Error;
use crate::key_ring::CachedRing;
use crate::master_keys::MasterKeySource;
use crate::outbox::{Outbox, WorkerNotify};

/// Everything that a use case needs: the database, the clock, randomness and the keys. Each resource adds its use
/// cases in a file of its own.
pub struct App {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) master_keys: Arc<MasterKeySource>,
    /// Hashes the secrets of API keys.
    pub(crate) hashing: HashingKey,
    /// Keys that encrypt access tokens.
    pub(crate) ring: RwLock<CachedRing>,
    /// State of the audit chain in this process.
    pub(crate) chain: Arc<ChainState>,
    /// Enqueues deliveries.
    pub(crate) outbox: Outbox,
    /// Wakes the delivery worker.
    pub(crate) worker: WorkerNotify,
    /// Notified when a service or an entity is deleted, so that its rows are removed.
    pub(crate) deleted: Notify,
    /// Instant up to which expired challenges are counted in the metrics.
    pub(crate) counted_until: Mutex<Timestamp>,
    /// Limits on creating resources.
    pub(crate) limits: CreationLimits,
    /// Addresses to which webhooks may be sent.
    pub(crate) webhook_guard: Guard,
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

    /// Checks that the database is reachable and migrated.
    ///
    /// # Errors
    /// [`Fault::Unavailable`](crate::Fault::Unavailable) if it is not.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.store.read(async |db: &mut Read| Ok(db.require_current_schema().await?)).await
    }
}
