//! The state that all use cases share.

use std::sync::{Arc, RwLock};

use crypto::{AccessTokenCipher, HashingKey};
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
    /// Outbox, through which use cases enqueue deliveries.
    pub(crate) outbox: Outbox,
    /// Notifies the delivery workers of newly enqueued deliveries.
    pub(crate) worker: WorkerNotify,
    /// Notified when a service or an entity is deleted, so that housekeeping removes its rows.
    pub(crate) deleted: Notify,
    /// Challenges that expired up to this instant are already counted in the metrics.
    pub(crate) counted_until: Mutex<Timestamp>,
    /// Limits on how many entities, factors and challenges may be created.
    pub(crate) limits: CreationLimits,
    /// Decides to which network addresses webhooks may be sent.
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

    /// Checks that the database is reachable and its schema is up to date.
    ///
    /// # Errors
    /// Returns [`Fault::Unavailable`](crate::Fault::Unavailable) if the database is unreachable or has an outdated
    /// schema.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.store.read(async |db: &mut Read| Ok(db.require_current_schema().await?)).await
    }
}
