//! How much is worked on at one time. Whoever comes when it is too much is told at once to come again, since
//! an answer that is too late helps nobody, and keeps those behind it waiting too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests that are worked on at one time, unless the operator says otherwise.
const LIMIT: usize = 1024;

/// The requests that are worked on, in this process.
#[derive(Debug)]
pub struct UnderWay {
    requests: AtomicUsize,
    limit: usize,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self::at_most(LIMIT)
    }
}

impl UnderWay {
    /// None yet, and never more than `limit`.
    pub const fn at_most(limit: usize) -> Self {
        Self { requests: AtomicUsize::new(0), limit }
    }

    /// Begins one more, until the turn is dropped; `None` when there are as many as there may be.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Turn> {
        let one_more = |requests: usize| (requests < self.limit).then_some(requests + 1);
        let begun = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun.is_ok().then(|| Turn(Arc::clone(self)))
    }
}

/// A request that is worked on.
pub(crate) struct Turn(Arc<UnderWay>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
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
}
