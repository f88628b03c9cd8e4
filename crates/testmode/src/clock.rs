//! The clock of a server in test mode, which tests can move forward.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Clock, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::duration::Span;
use crate::error::Error;

/// Error code of a change that the clock refuses.
const CONFLICT_CODE: u32 = 20409;

/// A clock that is ahead of another clock, and that can stand still. It never goes back.
pub(crate) struct TravelingClock {
    base: Arc<dyn Clock>,
    position: Mutex<Position>,
    /// Incremented at each change of the position.
    moved: watch::Sender<u64>,
}

/// A change of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The clock moves forward by this time.
    Advance(Span),
    /// The clock moves forward to this instant.
    To(Timestamp),
    /// The clock stands still.
    Freeze,
    /// The clock runs again, as if it had never stood still.
    Resume,
}

/// Where the clock is in relation to its base.
#[derive(Clone, Copy, Default)]
struct Position {
    /// Microseconds by which the clock is ahead of its base while it runs.
    offset_micros: i64,
    /// The instant, in microseconds, at which the clock stands still; `None` while it runs.
    frozen_at_micros: Option<i64>,
}

impl Position {
    fn now(self, base: Timestamp) -> Timestamp {
        let running = base.micros().saturating_add(self.offset_micros);
        Timestamp::from_micros(self.frozen_at_micros.unwrap_or(running))
    }
}

impl Clock for TravelingClock {
    fn now(&self) -> Timestamp {
        self.position().now(self.base.now())
    }
}

impl TravelingClock {
    /// Creates a clock that shows the time of `base`.
    pub(crate) fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, position: Mutex::default(), moved: watch::Sender::new(0) }
    }

    fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the description of the clock in responses.
    pub(crate) fn describe(&self) -> Value {
        let position = self.position();
        json!({
            "now": self.now().to_precise_text(),
            "frozen": position.frozen_at_micros.is_some(),
            "offset_seconds": micros_to_seconds(position.offset_micros),
        })
    }

    /// Moves the clock.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] if the clock would go back.
    pub(crate) fn travel(&self, step: Step) -> Result<(), Error> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let now = position.now(self.base.now());
        let forward_by = |position: &mut Position, micros: i64| {
            position.offset_micros = position.offset_micros.saturating_add(micros);
            position.frozen_at_micros = position.frozen_at_micros.map(|frozen| frozen.saturating_add(micros));
        };
        match step {
            Step::Advance(Span(duration)) => {
                forward_by(&mut position, i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
            }
            Step::To(instant) if instant < now => {
                let message = format!(
                    "the clock only goes forward: it shows {}, which is later than {}",
                    now.to_precise_text(),
                    instant.to_precise_text()
                );
                return Err(Error::Conflict { code: CONFLICT_CODE, message });
            }
            Step::To(instant) => forward_by(&mut position, instant.micros().saturating_sub(now.micros())),
            Step::Freeze => position.frozen_at_micros = Some(now.micros()),
            Step::Resume => position.frozen_at_micros = None,
        }
        drop(position);
        self.announce_move();
        Ok(())
    }

    /// Sets the clock to the time of its base. This is the only step back, after all data was deleted.
    pub(crate) fn reset(&self) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Position::default();
        self.announce_move();
    }

    fn announce_move(&self) {
        self.moved.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Waits until the clock shows `instant` or a later time. A clock that stands still keeps the caller waiting until
    /// it is moved.
    pub(crate) async fn wait_until(&self, instant: Timestamp) {
        let mut moved = self.moved.subscribe();
        loop {
            let now = self.now();
            if now >= instant {
                return;
            }
            let is_frozen = self.position().frozen_at_micros.is_some();
            // Waking up a little late is better than a second wait for the rest of a millisecond.
            let remaining = now.until(instant).saturating_add(Duration::from_millis(1));
            let runs = async {
                match is_frozen {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(remaining).await,
                }
            };
            tokio::select! {
                () = runs => {}
                // The sender is a member of this type, so the channel cannot be closed.
                _ = moved.changed() => {}
            }
        }
    }
}

/// Returns microseconds as seconds.
fn micros_to_seconds(micros: i64) -> f64 {
    // Offsets of tests are far below 2^53 microseconds, which are 285 years.
    Duration::from_micros(micros.unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// A clock that changes only when the test sets it, in seconds.
    #[derive(Default)]
    struct ManualClock(AtomicI64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
        }
    }

    fn clocks() -> (Arc<ManualClock>, TravelingClock) {
        let base = Arc::new(ManualClock(AtomicI64::new(1000)));
        let clock = TravelingClock::new(Arc::<ManualClock>::clone(&base));
        (base, clock)
    }

    fn seconds(clock: &TravelingClock) -> i64 {
        clock.now().seconds()
    }

    #[test]
    fn clock_runs_ahead_of_its_base_after_an_advance() {
        let (base, clock) = clocks();
        clock.travel(Step::Advance(Span(Duration::from_secs(300)))).unwrap();
        assert_eq!(seconds(&clock), 1300);
        base.0.store(1010, Ordering::Relaxed);
        assert_eq!(seconds(&clock), 1310);
        clock.travel(Step::To(Timestamp::from_seconds(5000))).unwrap();
        assert_eq!((seconds(&clock), &clock.describe()["offset_seconds"]), (5000, &json!(3990.0)));
    }

    #[test]
    fn clock_does_not_go_back() {
        let (base, clock) = clocks();
        assert!(clock.travel(Step::To(Timestamp::from_seconds(999))).is_err());
        clock.travel(Step::Freeze).unwrap();
        base.0.store(1100, Ordering::Relaxed);
        assert_eq!(seconds(&clock), 1000, "frozen");
        clock.travel(Step::Advance(Span(Duration::from_secs(10)))).unwrap();
        assert_eq!(seconds(&clock), 1010);
        clock.travel(Step::Resume).unwrap();
        assert_eq!(seconds(&clock), 1110, "as if it had never stood still");
        clock.reset();
        assert_eq!(seconds(&clock), 1100);
    }

    #[tokio::test]
    async fn waiting_ends_when_a_clock_that_stands_still_is_moved() {
        let (_, clock) = clocks();
        clock.travel(Step::Freeze).unwrap();
        let moving = async {
            tokio::task::yield_now().await;
            clock.travel(Step::Advance(Span(Duration::from_secs(60)))).unwrap();
        };
        tokio::join!(clock.wait_until(Timestamp::from_seconds(1060)), moving);
    }
}
