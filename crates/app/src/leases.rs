//! The leases that this process holds: renewed while somebody is at them, handed back when nobody will be.

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

/// Leases that one statement renews.
const BATCH: usize = 100;

/// All leases of this process.
pub(crate) struct Leases {
    /// Names this process among those who lease.
    name: String,
    /// Seconds for which one lasts.
    seconds: i64,
    until: RefCell<HashMap<DeliveryId, Timestamp>>,
}

/// A lease that is renewed until this is dropped.
pub(crate) struct Held {
    leases: Rc<Leases>,
    id: DeliveryId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.until.borrow_mut().remove(&self.id);
    }
}

impl Leases {
    /// None yet, each for so many seconds.
    pub(crate) fn new(app: &App, seconds: i64) -> Self {
        let mut name = [0; 8];
        app.entropy.fill(&mut name);
        let name = name.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, seconds, until: RefCell::default() }
    }

    /// The name of those who lease here.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// When a lease ends that begins now.
    pub(crate) fn end(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.seconds)
    }

    /// Renews the lease of a delivery from now on.
    pub(crate) fn hold(self: &Rc<Self>, delivery: &Delivery) -> Held {
        self.until.borrow_mut().insert(delivery.id, delivery.due_at);
        Held { leases: Rc::clone(self), id: delivery.id }
    }

    /// Whether a delivery's lease is being renewed.
    pub(crate) fn holds(&self, delivery: &Delivery) -> bool {
        self.until.borrow().contains_key(&delivery.id)
    }

    /// Hands back deliveries that were not attempted: they are due, for anybody.
    pub(crate) async fn hand_back(&self, app: &App, ids: Vec<DeliveryId>) -> Result<(), Error> {
        let now = app.now();
        for ids in ids.chunks(BATCH) {
            let (name, ids) = (self.name.clone(), ids.to_vec());
            let write =
                async move |tx: &mut Write| Ok::<_, Error>(tx.release_deliveries(&name, &ids, now).await?);
            app.store.write(write).await?;
        }
        Ok(())
    }

    /// Renews what is held, for ever. When it can't, somebody else may make the attempt too.
    pub(crate) async fn keep(self: Rc<Self>, app: Arc<App>) {
        let third = self.seconds.saturating_mul(1_000_000) / 3;
        loop {
            tokio::time::sleep(Duration::from_micros(third.unsigned_abs())).await;
            if let Err(fault) = self.renew(&app, third).await {
                debug!("leases can't be renewed: {}", fault.chain());
            }
        }
    }

    /// Renews the leases of which less than two thirds are left, and those that end too late because the clock was
    /// set back; a third is given in microseconds.
    async fn renew(&self, app: &App, third: i64) -> Result<(), Error> {
        let now = app.now();
        let until = self.end(now);
        let soon = Timestamp::from_micros(until.micros().saturating_sub(third));
        let ending: Vec<DeliveryId> = {
            let held = self.until.borrow();
            held.iter().filter(|(_, end)| **end <= soon || **end > until).map(|(id, _)| *id).collect()
        };
        for ids in ending.chunks(BATCH) {
            let (name, renewed) = (self.name.clone(), ids.to_vec());
            let write =
                async move |tx: &mut Write| Ok::<_, Error>(tx.renew_leases(&name, &renewed, until).await?);
            app.store.write(write).await?;
            let mut held = self.until.borrow_mut();
            for id in ids {
                held.entry(*id).and_modify(|end| *end = until);
            }
        }
        Ok(())
    }
}
