//! Due deliveries that wait because their destinations have no free slot.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::deliveries::Destination;

/// How long after its due time a delivery may be committed to be found at once, in seconds. A write waits at most 4.5
/// seconds in the queue of the database. A delivery that takes longer is found by the next complete examination.
const COMMIT_SECONDS: i64 = 5;

/// The shortest and the longest time between two complete examinations.
const EXAMINATION_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Within these bounds, the interval is this many times as long as the last complete examination took.
const EXAMINATION_SHARE: u32 = 100;

/// Destinations whose due deliveries cannot be attempted yet, because they have no free slot.
///
/// A destination that is down or slow can have a hundred thousand due deliveries. To find the others, the worker does not read
/// these again each time: it looks for deliveries that became due since the last time, and for the next ones to a
/// destination that has free slots again. Once in a while it examines all due deliveries, because another server may
/// have stored some late, or with a clock that is behind.
pub(crate) struct Backlog {
    /// Destinations to which more deliveries are due than they have slots.
    destinations: HashSet<Destination>,
    /// Deliveries that were due before this instant are leased, or their destinations are among `destinations`, except
    /// those that were stored later.
    examined: Timestamp,
    /// When the last complete examination ended, and how long it took.
    last_complete: Option<(Instant, Duration)>,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self { destinations: HashSet::new(), examined: Timestamp::MIN, last_complete: None }
    }

    /// Returns whether no delivery waits for a slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Returns the destinations with waiting deliveries.
    pub(crate) fn destinations(&self) -> Vec<Destination> {
        self.destinations.iter().cloned().collect()
    }

    /// Adds a destination for which a delivery did not get a slot.
    pub(crate) fn add(&mut self, destination: Destination) {
        self.destinations.insert(destination);
    }

    /// Removes a destination whose due deliveries have all been leased.
    pub(crate) fn remove(&mut self, destination: &Destination) {
        self.destinations.remove(destination);
    }

    /// Lets the next search examine all due deliveries.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Returns the instant from which on deliveries must have become due to be examined at `now`.
    pub(crate) fn examine_from(&mut self, now: Timestamp) -> Timestamp {
        if now < self.examined {
            // The clock was set back.
            self.forget();
        }
        let is_recent =
            self.last_complete.is_some_and(|(ended, took)| ended.elapsed() < interval_after(took));
        // Without a backlog, a complete examination reads no more than the due deliveries.
        if self.is_empty() || !is_recent {
            return Timestamp::MIN;
        }
        self.examined.plus_seconds(-COMMIT_SECONDS)
    }

    /// Records that the search for deliveries that became due at the instant `from` or later took `took`, whether or not
    /// it succeeded.
    pub(crate) fn record_search(&mut self, from: Timestamp, took: Duration) {
        if from == Timestamp::MIN {
            self.last_complete = Some((Instant::now(), took));
        }
    }

    /// Records that the deliveries that were due before the instant `until` are leased, or wait for one of the
    /// [`destinations`](Self::destinations).
    pub(crate) fn record_examined(&mut self, until: Timestamp) {
        self.examined = until;
    }
}

/// Returns the time between two complete examinations if the first took `took`.
fn interval_after(took: Duration) -> Duration {
    let (shortest, longest) = EXAMINATION_INTERVAL;
    took.saturating_mul(EXAMINATION_SHARE).clamp(shortest, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn host(name: &str) -> Destination {
        Destination::Host(name.to_owned())
    }

    /// Returns a backlog that has just examined all deliveries that are due before 60.
    fn examined() -> Backlog {
        let mut backlog = Backlog::new();
        backlog.add(host("down"));
        assert_eq!(backlog.examine_from(at(60)), Timestamp::MIN, "others may be due too");
        backlog.record_search(Timestamp::MIN, Duration::from_secs(10));
        backlog.record_examined(at(60));
        backlog
    }

    #[test]
    fn all_due_deliveries_are_examined_while_none_waits() {
        let mut backlog = Backlog::new();
        backlog.record_search(Timestamp::MIN, Duration::ZERO);
        backlog.record_examined(at(60));
        assert_eq!(backlog.examine_from(at(61)), Timestamp::MIN);
    }

    #[test]
    fn deliveries_that_wait_are_not_examined_again_with_those_that_became_due_since() {
        let mut backlog = examined();
        assert_eq!(backlog.examine_from(at(61)), at(55));
        backlog.record_search(at(55), Duration::ZERO);
        backlog.record_examined(at(70));
        assert_eq!(backlog.examine_from(at(71)), at(65));
    }

    #[test]
    fn complete_examinations_take_a_hundredth_of_the_time_and_occur_between_once_a_second_and_once_a_minute()
    {
        let seconds = |took| interval_after(Duration::from_millis(took)).as_secs();
        assert_eq!([0, 10, 70, 599, 600, 9_000].map(seconds), [1, 1, 7, 59, 60, 60]);
    }

    #[test]
    fn all_due_deliveries_are_examined_once_the_last_destination_has_slots_again_or_the_clock_was_set_back() {
        let mut backlog = examined();
        backlog.remove(&host("down"));
        assert_eq!((backlog.examine_from(at(61)), backlog.is_empty()), (Timestamp::MIN, true));
        let mut backlog = examined();
        assert_eq!((backlog.examine_from(at(59)), backlog.destinations()), (Timestamp::MIN, Vec::new()));
    }
}
