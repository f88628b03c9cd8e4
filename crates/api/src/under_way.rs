//! How much is worked on at one time. Whoever comes when it is too much is told at once to come again, since
//! an answer that is too late helps nobody, and keeps those behind it waiting too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use app::Caller;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for large bodies of backends, in bytes: for 512 of the largest at one time.
const LARGE_BODIES_OF_BACKENDS: usize = 32 * 1024 * 1024;

/// The same for phones, which are many and trusted less: for 128 of the largest.
const LARGE_BODIES_OF_PHONES: usize = 8 * 1024 * 1024;

/// The requests that are worked on, and the bodies that have come in, in this process.
#[derive(Debug)]
pub struct UnderWay {
    requests: AtomicUsize,
    limit: usize,
    large_bodies_of_backends: Arc<Semaphore>,
    large_bodies_of_phones: Arc<Semaphore>,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self::at_most(Self::LIMIT)
    }
}

impl UnderWay {
    /// Requests that are worked on at one time, unless the operator says otherwise.
    pub const LIMIT: u16 = 1024;

    /// None yet, and never more than `limit`.
    pub fn at_most(limit: u16) -> Self {
        let limit = usize::from(limit);
        Self {
            requests: AtomicUsize::new(0),
            limit,
            large_bodies_of_backends: Arc::new(Semaphore::new(LARGE_BODIES_OF_BACKENDS)),
            large_bodies_of_phones: Arc::new(Semaphore::new(LARGE_BODIES_OF_PHONES)),
        }
    }

    /// Begins one more, until the turn is dropped; `None` when there are as many as there may be.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Turn> {
        let one_more = |requests: usize| (requests < self.limit).then_some(requests + 1);
        let begun = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun.is_ok().then(|| Turn(Arc::clone(self)))
    }

    /// Reserves memory for a large body of `caller` until the room is dropped; `None` when there is too little left.
    pub(crate) fn room(&self, caller: &Caller, bytes: usize) -> Option<Room> {
        let memory = match caller {
            Caller::Account(_) | Caller::ApiKey { .. } => &self.large_bodies_of_backends,
            Caller::Enrollee(_) | Caller::Device(_) => &self.large_bodies_of_phones,
        };
        Arc::clone(memory).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// Memory that a body has.
pub(crate) type Room = OwnedSemaphorePermit;

/// A request that is worked on.
pub(crate) struct Turn(Arc<UnderWay>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use domain::{AccountSid, Sid as _};

    use super::*;

    #[test]
    fn there_are_never_more_than_the_limit() {
        let under_way = Arc::new(UnderWay::at_most(2));
        let first = under_way.begin();
        let second = under_way.begin();
        assert!(first.is_some() && second.is_some() && under_way.begin().is_none());
        drop(first);
        assert!(under_way.begin().is_some());
        drop(second);
    }

    #[test]
    fn large_bodies_have_so_much_memory_and_no_more() {
        let under_way = UnderWay::default();
        let account = Caller::Account(AccountSid::from_bytes([1; 16]));
        let half = under_way.room(&account, LARGE_BODIES_OF_BACKENDS / 2);
        let rest = under_way.room(&account, LARGE_BODIES_OF_BACKENDS / 2);
        assert!(half.is_some() && rest.is_some() && under_way.room(&account, 1).is_none());
        drop(half);
        assert!(under_way.room(&account, 1).is_some());
    }
}
