//! Limits on the number of concurrent delivery attempts: in total, and for each destination.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use domain::deliveries::Destination;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Maximum number of deliveries that this process leases at a time, including those whose attempts wait for a permit.
const MAX_LEASED_DELIVERIES: usize = 4096;

/// A limiter of concurrent attempts. A *slot* is needed to hold a leased delivery, and a *permit* to run its attempt.
///
/// Each destination has twice as many slots as permits. This is enough to keep all permits in use, and few enough that
/// an unresponsive destination does not take all slots of the process.
pub(crate) struct ConcurrencyLimiter {
    permits: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    destinations: HashMap<Destination, Rc<DestinationLimit>>,
}

/// The slots and permits of a single destination.
struct DestinationLimit {
    max_slots: usize,
    slots: Arc<Semaphore>,
    permits: Semaphore,
}

/// The right to hold one leased delivery. Dropping the slot frees it.
pub(crate) struct Slot {
    destination: Rc<DestinationLimit>,
    permits: Arc<Semaphore>,
    _of_destination: OwnedSemaphorePermit,
    _of_process: OwnedSemaphorePermit,
}

/// The right to run one attempt. Dropping the permit frees it.
pub(crate) struct Permit<'s> {
    _of_destination: SemaphorePermit<'s>,
    _of_process: SemaphorePermit<'s>,
}

impl ConcurrencyLimiter {
    /// Creates a limiter that permits at most `limit` concurrent attempts in total.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            slots: Arc::new(Semaphore::new(MAX_LEASED_DELIVERIES)),
            destinations: HashMap::new(),
        }
    }

    /// Returns how many slots of the process are free.
    pub(crate) fn available(&self) -> usize {
        self.slots.available_permits()
    }

    /// Returns the destinations that have no free slot. Forgets the destinations that have no slot in use.
    pub(crate) fn saturated(&mut self) -> Vec<Destination> {
        self.destinations.retain(|_, limit| !limit.is_unused());
        let saturated = self.destinations.iter().filter(|(_, limit)| limit.is_saturated());
        saturated.map(|(destination, _)| destination.clone()).collect()
    }

    /// Returns how many slots of a destination to fill with waiting deliveries. Returns 0 until a quarter of them is free,
    /// so that few transactions lease many deliveries. All permits stay in use, because there are half as many.
    pub(crate) fn slots_to_fill(&self, destination: &Destination, limit: usize) -> usize {
        let Some(found) = self.destinations.get(destination) else { return 2 * limit };
        let free = found.slots.available_permits();
        if 4 * free < found.max_slots { 0 } else { free }
    }

    /// Takes a slot for a destination that permits at most `limit` concurrent attempts. Returns `None` if the
    /// destination or the process has no free slot.
    pub(crate) fn try_slot(&mut self, destination: &Destination, limit: usize) -> Option<Slot> {
        let new = || Rc::new(DestinationLimit::new(limit));
        let destination = self.destinations.entry(destination.clone()).or_insert_with(new);
        let of_destination = Arc::clone(&destination.slots).try_acquire_owned().ok()?;
        let of_process = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot {
            destination: Rc::clone(destination),
            permits: Arc::clone(&self.permits),
            _of_destination: of_destination,
            _of_process: of_process,
        })
    }

    /// Stops granting permits, and waits until all slots have been freed.
    pub(crate) async fn close(&self) {
        self.permits.close();
        for destination in self.destinations.values() {
            destination.permits.close();
        }
        // The result can be ignored: acquiring fails only if the semaphore is closed, and this one is never closed.
        let _ = self.slots.acquire_many(MAX_LEASED_DELIVERIES as u32).await;
    }
}

impl DestinationLimit {
    fn new(limit: usize) -> Self {
        let max_slots = 2 * limit;
        let (slots, permits) = (Arc::new(Semaphore::new(max_slots)), Semaphore::new(limit));
        Self { max_slots, slots, permits }
    }

    fn is_unused(&self) -> bool {
        self.slots.available_permits() == self.max_slots
    }

    fn is_saturated(&self) -> bool {
        self.slots.available_permits() == 0
    }
}

impl Slot {
    /// Waits until an attempt may run, and returns its permit. Returns `None` if the limiter was closed.
    pub(crate) async fn permit(&self) -> Option<Permit<'_>> {
        // Acquire the destination's permit first, so that waiting for an unresponsive destination does not hold a
        // permit of the process.
        let of_destination = self.destination.permits.acquire().await.ok()?;
        let of_process = self.permits.acquire().await.ok()?;
        Some(Permit { _of_destination: of_destination, _of_process: of_process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Destination {
        Destination::Host(name.to_owned())
    }

    #[tokio::test]
    async fn unresponsive_destination_uses_up_its_own_slots_but_not_those_of_others() {
        let mut limiter = ConcurrencyLimiter::new(8);
        let slots: Vec<_> = (0..10).filter_map(|_| limiter.try_slot(&host("hung"), 2)).collect();
        assert_eq!(slots.len(), 4, "two whose attempts run and two whose attempts wait");
        assert_eq!(limiter.saturated(), [host("hung")]);
        assert_eq!(
            (limiter.slots_to_fill(&host("hung"), 2), limiter.slots_to_fill(&host("other"), 2)),
            (0, 4)
        );
        let running = (slots[0].permit().await.unwrap(), slots[1].permit().await.unwrap());
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), slots[2].permit()).await;
        assert!(waiting.is_err());
        let other = limiter.try_slot(&host("other"), 2).unwrap();
        assert!(other.permit().await.is_some());
        drop(running);
        assert!(slots[2].permit().await.is_some());
    }

    #[tokio::test]
    async fn unused_destination_is_forgotten() {
        let mut limiter = ConcurrencyLimiter::new(8);
        let slot = limiter.try_slot(&host("host"), 1).unwrap();
        assert_eq!((limiter.saturated().len(), limiter.destinations.len()), (0, 1));
        drop(slot);
        assert_eq!((limiter.saturated().len(), limiter.destinations.len()), (0, 0));
        assert_eq!(limiter.available(), MAX_LEASED_DELIVERIES);
    }

    #[tokio::test]
    async fn closing_the_limiter_refuses_waiting_attempts_and_waits_for_running_ones() {
        let mut limiter = ConcurrencyLimiter::new(8);
        let (first, second) =
            (limiter.try_slot(&host("host"), 1).unwrap(), limiter.try_slot(&host("host"), 1).unwrap());
        let permit = first.permit().await.unwrap();
        let mut closing = std::pin::pin!(limiter.close());
        assert!(is_pending(closing.as_mut()).await);
        assert!(second.permit().await.is_none());
        drop(second);
        assert!(is_pending(closing.as_mut()).await);
        drop(permit);
        drop(first);
        closing.await;
    }

    async fn is_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(10), future).await.is_err()
    }
}
