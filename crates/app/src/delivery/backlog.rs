//! Due deliveries that wait because their destinations have no free slot.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use domain::Timestamp;
use domain::deliveries::Destination;

/// How much earlier than the last reading of the clock a delivery can be due that is committed only now, in seconds.
/// Those that take longer are found by the next complete examination.
const COMMIT_SECONDS: i64 = 1;

/// A complete examination may take this share of the time: one part in so many.
const EXAMINATION_SHARE: u32 = 100;

/// The minimum and the maximum time between two complete examinations.
const EXAMINATION_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The due deliveries that cannot be attempted yet.
///
/// A destination that is down or slow can have a hundred thousand of them. To find the others, the worker does not read
/// these again each time: it looks for deliveries that became due since the last time, and for the next ones to a
/// destination that has free slots again. Now and then, it examines all due deliveries, because another server may have
/// stored some with a clock that is behind, or released some.
pub(crate) struct Backlog {
    /// Destinations to which more deliveries are due than they have slots.
    destinations: HashSet<Destination>,
    /// All deliveries that were due at this instant have been leased, or their destinations are among `destinations`.
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

    /// Returns the instant from which on deliveries must have become due to be examined now.
    pub(crate) fn examine_from(&self) -> Timestamp {
        let is_recent =
            self.last_complete.is_some_and(|(ended, took)| ended.elapsed() < interval_after(took));
        // Without a backlog, a complete examination reads no more than the due deliveries.
        if self.is_empty() || !is_recent {
            return Timestamp::MIN;
        }
        self.examined.plus_seconds(-COMMIT_SECONDS)
    }

    /// Records that all deliveries that became due from the instant `from` until `now` were leased, apart from those to
    /// [`destinations`](Self::destinations). `took` is how long that took.
    pub(crate) fn record_examination(&mut self, from: Timestamp, now: Timestamp, took: Duration) {
        self.examined = now;
        if from == Timestamp::MIN {
            self.last_complete = Some((Instant::now(), took));
        }
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

    fn host(name: &str) -> Destination {
        Destination::Host(name.to_owned())
    }

    #[test]
    fn all_due_deliveries_are_examined_while_none_waits() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.examine_from(), Timestamp::MIN);
        backlog.record_examination(Timestamp::MIN, Timestamp::from_seconds(60), Duration::ZERO);
        assert_eq!(backlog.examine_from(), Timestamp::MIN);
    }

    #[test]
    fn deliveries_that_wait_are_not_examined_again_with_those_that_became_due_since() {
        let mut backlog = Backlog::new();
        backlog.add(host("down"));
        assert_eq!(backlog.examine_from(), Timestamp::MIN, "others may be due too");
        backlog.record_examination(Timestamp::MIN, Timestamp::from_seconds(60), Duration::from_secs(10));
        assert_eq!(backlog.examine_from(), Timestamp::from_seconds(59));
        // A partial examination does not delay the next complete one.
        backlog.record_examination(Timestamp::from_seconds(59), Timestamp::from_seconds(70), Duration::ZERO);
        assert_eq!(backlog.examine_from(), Timestamp::from_seconds(69));
    }

    #[test]
    fn complete_examinations_take_a_hundredth_of_the_time_and_occur_at_least_once_a_minute() {
        let seconds = |took| interval_after(Duration::from_millis(took)).as_secs();
        assert_eq!([0, 10, 70, 599, 600, 9_000].map(seconds), [1, 1, 7, 59, 60, 60]);
    }

    #[test]
    fn all_due_deliveries_are_examined_after_the_last_destination_has_slots_again_or_the_clock_was_set_back()
    {
        let mut backlog = Backlog::new();
        let fill = |backlog: &mut Backlog| {
            backlog.add(host("down"));
            backlog.record_examination(Timestamp::MIN, Timestamp::from_seconds(60), Duration::from_secs(1));
            assert_ne!(backlog.examine_from(), Timestamp::MIN);
        };
        fill(&mut backlog);
        backlog.remove(&host("down"));
        assert_eq!((backlog.examine_from(), backlog.is_empty()), (Timestamp::MIN, true));
        fill(&mut backlog);
        backlog.forget();
        assert_eq!((backlog.examine_from(), backlog.destinations()), (Timestamp::MIN, Vec::new()));
    }
}
