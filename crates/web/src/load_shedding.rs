//! Load shedding: limits on the number of concurrent requests and on the memory for large bodies in this process.
//! Requests beyond a limit are refused at once. Queuing them would be pointless: a late response is of no use to its
//! client, and it delays all later requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for large request bodies from backends, in bytes. It holds 512 bodies of the maximum length.
const BACKEND_BODIES_BYTES: usize = 32 * 1024 * 1024;

/// Memory for large request bodies from phones, in bytes. It holds 128 bodies of the maximum length. Phones have a
/// limit of their own because they are numerous and less trusted than backends.
const PHONE_BODIES_BYTES: usize = 8 * 1024 * 1024;

/// The senders that share the memory for large request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMemory {
    /// Backends and operators.
    Backends,
    /// Phones, which are numerous and less trusted.
    Phones,
}

/// Limits the concurrent requests and the memory for large bodies across all worker threads.
#[derive(Debug)]
pub struct LoadShedder {
    requests: AtomicUsize,
    max_requests: usize,
    backend_bodies: Arc<Semaphore>,
    phone_bodies: Arc<Semaphore>,
}

impl Default for LoadShedder {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_REQUESTS)
    }
}

impl LoadShedder {
    /// Maximum number of concurrent requests if the operator sets no limit.
    pub const DEFAULT_MAX_REQUESTS: u16 = 1024;

    /// Creates a load shedder that admits up to `max_requests` concurrent requests.
    pub fn new(max_requests: u16) -> Self {
        Self {
            requests: AtomicUsize::new(0),
            max_requests: usize::from(max_requests),
            backend_bodies: Arc::new(Semaphore::new(BACKEND_BODIES_BYTES)),
            phone_bodies: Arc::new(Semaphore::new(PHONE_BODIES_BYTES)),
        }
    }

    /// Admits one more request until the returned permit is dropped. Returns `None` if the maximum number of requests
    /// is already in progress.
    pub(crate) fn try_admit(self: &Arc<Self>) -> Option<RequestPermit> {
        let one_more = |requests: usize| (requests < self.max_requests).then_some(requests + 1);
        let admitted = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        admitted.is_ok().then(|| RequestPermit(Arc::clone(self)))
    }

    /// Reserves `bytes` bytes of `memory` for a large request body until the returned permit is dropped. Returns `None`
    /// if too little memory is left.
    pub(crate) fn reserve_body(&self, memory: BodyMemory, bytes: usize) -> Option<BodyPermit> {
        let memory = match memory {
            BodyMemory::Backends => &self.backend_bodies,
            BodyMemory::Phones => &self.phone_bodies,
        };
        Arc::clone(memory).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// The permit of one concurrent request. Dropping it allows another request to be admitted.
pub(crate) struct RequestPermit(Arc<LoadShedder>);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The permit to keep a large request body in memory. Dropping it releases the memory.
pub(crate) type BodyPermit = OwnedSemaphorePermit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_concurrency_limit_are_refused() {
        let load_shedder = Arc::new(LoadShedder::new(2));
        let first = load_shedder.try_admit();
        let second = load_shedder.try_admit();
        assert!(first.is_some() && second.is_some() && load_shedder.try_admit().is_none());
        drop(first);
        assert!(load_shedder.try_admit().is_some());
        drop(second);
    }

    #[test]
    fn large_request_bodies_are_refused_if_the_memory_for_them_is_exhausted() {
        let load_shedder = LoadShedder::default();
        let reserve = |bytes| load_shedder.reserve_body(BodyMemory::Backends, bytes);
        let half = reserve(BACKEND_BODIES_BYTES / 2);
        let rest = reserve(BACKEND_BODIES_BYTES / 2);
        assert!(half.is_some() && rest.is_some() && reserve(1).is_none());
        assert!(load_shedder.reserve_body(BodyMemory::Phones, 1).is_some());
        drop(half);
        assert!(reserve(1).is_some());
    }
}
