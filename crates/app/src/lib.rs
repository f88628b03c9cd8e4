//! The use cases, one transaction each: what happens when a backend opens a challenge or a device
//! answers it. The only crate that sees all below it.
//!
//! A use case reads the clock once, asks the domain what may be, writes, and says what came of it. It
//! holds no SQL (that is `store`) and knows no HTTP (that is `api`). One file per resource, the same
//! name in every layer; [`caller`] decides who speaks.

mod access_tokens;
mod accounts;
pub mod alerts;
mod attempt;
pub mod audit;
pub mod caller;
mod chain;
pub mod challenges;
mod checkpoints;
pub mod clock;
pub mod credentials;
mod deliver;
mod deliveries;
mod entities;
mod error;
pub mod factors;
mod housekeeping;
mod keys;
mod leases;
mod master_keys;
mod measure;
mod notifications;
mod outbox;
mod record;
mod services;
mod turns;
pub mod webhooks;

use std::sync::{Arc, RwLock};

use crypto::HashingKey;
use domain::audit::{Act, Change};
use domain::clock_trust::ClockRecord;
use domain::limits::Limits;
use domain::{Clock, Entropy, Timestamp};
use store::Store;
use tokio::sync::{Mutex, Notify};
use webhook_client::Guard;

pub use crate::access_tokens::NewAccessToken;
pub use crate::accounts::{MadeAccount, MadeApiKey};
pub use crate::attempt::Couriers;
pub use crate::audit::Origin;
pub use crate::caller::{Caller, Credentials, Enrollee};
pub use crate::chain::{Break, ChainedLine, Holds};
pub use crate::clock::SystemClock;
pub use crate::deliver::{Courier, CourierError, DeliverySettings};
pub use crate::deliveries::{AttemptRecord, DeliveryFilter, DeliveryStatus};
pub use crate::error::{Error, Fault};
pub use crate::keys::{RingEntry, check_master_keys};
pub use crate::master_keys::{MasterKeySource, ReadMasterKeys, Resealed, SealedUnder, seals};

/// Everything that a use case needs: the database, the time, randomness, and the keys.
pub struct App {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    master_keys: Arc<MasterKeySource>,
    /// Hashes the secrets of API keys.
    hashing: HashingKey,
    /// The keys of access tokens.
    ring: RwLock<keys::Ring>,
    /// The chain of the audit log.
    chain: Arc<chain::Chain>,
    /// Where what is owed goes.
    outbox: outbox::Outbox,
    /// Rings when something is owed.
    wake: outbox::Wake,
    /// Notified when a service or an entity is deleted, whose rows are to be removed.
    deleted: Notify,
    /// Until when challenges that expired are counted.
    counted_until: Mutex<Timestamp>,
    /// What may be created.
    limits: Limits,
    /// Which addresses webhooks may lead to.
    webhook_guard: Guard,
}

impl App {
    /// Takes an open database into service: reads its keys, or makes the first ones.
    ///
    /// # Errors
    /// When the database fails, and when its secrets were sealed under another master key.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        master_keys: MasterKeySource,
    ) -> Result<Self, Error> {
        let (ring, hashing) = keys::open_keys(&store, &master_keys, &entropy, clock.now()).await?;
        let audit_key = chain::open_key(&store, &master_keys, &entropy).await?;
        let chain = Arc::new(chain::Chain::new(audit_key));
        let master_keys = Arc::new(master_keys);
        let outbox = outbox::Outbox::new(Arc::clone(&entropy));
        let (ring, wake) = (RwLock::new(ring), outbox::Wake::default());
        let (counted_until, limits) = (Mutex::new(clock.now()), Limits::default());
        Ok(Self {
            store,
            clock,
            entropy,
            master_keys,
            hashing,
            ring,
            chain,
            outbox,
            wake,
            deleted: Notify::new(),
            counted_until,
            limits,
            webhook_guard: Guard::default(),
        })
    }

    /// Sets the seconds for which webhooks are tried that are owed from now on; a day if nobody does.
    pub const fn set_webhook_patience(&mut self, seconds: i64) {
        self.outbox.set_webhook_patience(seconds);
    }

    /// Sets which addresses webhooks may lead to, for warnings when a webhook is made; public ones if nothing is set.
    pub fn set_webhook_guard(&mut self, guard: Guard) {
        self.webhook_guard = guard;
    }

    /// Limits what is created from now on; nothing is limited if nobody does.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The instant that it is now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets housekeeping act on the clock as it is now, after a jump.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trust_clock(&self, origin: &Origin) -> Result<Timestamp, Error> {
        let now = self.now();
        let audit = self.audit(origin, now);
        let trust = async move |tx: &mut store::Write| {
            tx.set_clock_record(&ClockRecord::trusting(now)).await?;
            audit.note(tx, Change::of_server(Act::ClockTrusted)).await
        };
        self.store.write(trust).await?;
        Ok(now)
    }

    /// Where new request ids get their randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// Whether the database answers and is migrated.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when it does or is not.
    pub async fn ready(&self) -> Result<(), Error> {
        self.store.read(async |db: &mut store::Read| Ok(db.ready().await?)).await
    }

    /// Finishes the writes that were asked for, chains the last lines of the audit log and closes the database.
    pub async fn stop(&self) {
        chain::finish(self).await;
        self.store.clone().close().await;
    }
}
