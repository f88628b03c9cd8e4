//! The delivery leases of this process. A lease is renewed while its attempt runs or waits for a permit, and released
//! if no attempt is made.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::{Delivery, DeliveryId};
use store::Write;
use tracing::debug;

use crate::App;
use crate::error::Error;

/// Maximum number of leases that one database statement renews or releases.
const LEASE_BATCH: usize = 100;

/// The delivery leases that this process holds.
pub(crate) struct Leases {
    /// Random name that identifies this process as the holder of its leases.
    holder: String,
    /// Duration of a lease, in seconds.
    seconds: i64,
    /// When each guarded lease expires, by the ID of its delivery.
    expires_at: RefCell<HashMap<DeliveryId, Timestamp>>,
}

/// A guard that keeps one lease renewed until the guard is dropped.
pub(crate) struct LeaseGuard {
    leases: Rc<Leases>,
    id: DeliveryId,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leases.expires_at.borrow_mut().remove(&self.id);
    }
}

impl Leases {
    /// Creates an empty set of leases whose holder is this process under a random name. Each lease lasts for `seconds`
    /// unless it is renewed.
    pub(crate) fn new(app: &App, seconds: i64) -> Self {
        let mut random = [0; 8];
        app.entropy.fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        Self { holder, seconds, expires_at: RefCell::default() }
    }

    /// Returns the name that identifies this process as the holder of its leases.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Returns the expiration time of a lease that starts or is renewed at `now`.
    pub(crate) fn expiry(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.seconds)
    }

    /// Returns a guard that keeps the lease of `delivery` renewed until it is dropped.
    pub(crate) fn guard(self: &Rc<Self>, delivery: &Delivery) -> LeaseGuard {
        self.expires_at.borrow_mut().insert(delivery.id, delivery.next_attempt_at);
        LeaseGuard { leases: Rc::clone(self), id: delivery.id }
    }

    /// Returns whether a guard keeps the lease of `delivery` renewed, which means that its attempt runs or waits.
    pub(crate) fn is_guarded(&self, delivery: &Delivery) -> bool {
        self.expires_at.borrow().contains_key(&delivery.id)
    }

    /// Releases the leases of deliveries that were not attempted. These deliveries are due again immediately, on any
    /// node.
    pub(crate) async fn release(&self, app: &App, ids: Vec<DeliveryId>) -> Result<(), Error> {
        let now = app.now();
        for ids in ids.chunks(LEASE_BATCH) {
            let (holder, ids) = (self.holder.clone(), ids.to_vec());
            let write =
                async move |tx: &mut Write| Ok::<_, Error>(tx.release_deliveries(&holder, &ids, now).await?);
            app.store.write(write).await?;
        }
        Ok(())
    }

    /// Background task: renews the guarded leases until the task is aborted. If a renewal fails, another node may make
    /// the same attempt.
    pub(crate) async fn renew_until_aborted(self: Rc<Self>, app: Arc<App>) {
        let third = self.seconds.saturating_mul(1_000_000) / 3;
        loop {
            tokio::time::sleep(Duration::from_micros(third.unsigned_abs())).await;
            if let Err(fault) = self.renew(&app, third).await {
                debug!("could not renew delivery leases: {}", fault.report());
            }
        }
    }

    /// Renews the guarded leases that have at most two thirds of their time left, and those that expire too late
    /// because the clock was set back. `third` is a third of a lease's duration, in microseconds.
    async fn renew(&self, app: &App, third: i64) -> Result<(), Error> {
        let expiry = self.expiry(app.now());
        let soon = Timestamp::from_micros(expiry.micros().saturating_sub(third));
        let expiring: Vec<DeliveryId> = {
            let guarded = self.expires_at.borrow();
            guarded.iter().filter(|(_, end)| **end <= soon || **end > expiry).map(|(id, _)| *id).collect()
        };
        for ids in expiring.chunks(LEASE_BATCH) {
            let (holder, renewed) = (self.holder.clone(), ids.to_vec());
            let write =
                async move |tx: &mut Write| Ok::<_, Error>(tx.renew_leases(&holder, &renewed, expiry).await?);
            app.store.write(write).await?;
            let mut guarded = self.expires_at.borrow_mut();
            for id in ids {
                guarded.entry(*id).and_modify(|end| *end = expiry);
            }
        }
        Ok(())
    }
}
