//! The clock of the demo. It stands still while the demo waits for Enter, so that no token expires in the
//! meantime.

use std::sync::{Mutex, MutexGuard, PoisonError};

use app::SystemClock;
use domain::{Clock, Timestamp};

/// The system clock minus the time spent in pauses.
#[derive(Debug, Default)]
pub(crate) struct PausableClock(Mutex<Pauses>);

#[derive(Debug, Default)]
struct Pauses {
    /// Start of the current pause, or `None` if the clock is running.
    started_at: Option<Timestamp>,
    /// Total duration of the finished pauses, in microseconds.
    finished_micros: i64,
}

impl PausableClock {
    /// Stops the clock. Has no effect if the clock is already paused.
    pub(crate) fn pause(&self) {
        self.pauses().started_at.get_or_insert(SystemClock.now());
    }

    /// Lets the clock continue from the time at which it was paused. Has no effect if the clock is running.
    pub(crate) fn resume(&self) {
        let mut pauses = self.pauses();
        if let Some(started_at) = pauses.started_at.take() {
            pauses.finished_micros += SystemClock.now().micros() - started_at.micros();
        }
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for PausableClock {
    fn now(&self) -> Timestamp {
        let pauses = self.pauses();
        let now = pauses.started_at.unwrap_or_else(|| SystemClock.now());
        Timestamp::from_micros(now.micros() - pauses.finished_micros)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn paused_clock_stands_still_and_continues_without_a_gap() {
        let clock = PausableClock::default();
        clock.pause();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(clock.now(), before);
        clock.resume();
        assert!(clock.now().micros() <= SystemClock.now().micros() - 20_000);
        assert!(clock.now() >= before);
    }
}
