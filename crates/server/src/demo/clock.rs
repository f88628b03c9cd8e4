//! The time of the story, which stands still while its reader pauses: else a token would expire meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

use app::SystemClock;
use domain::{Clock, Timestamp};

/// The system's time without the pauses.
#[derive(Debug, Default)]
pub(super) struct StoryClock(Mutex<Pauses>);

#[derive(Debug, Default)]
struct Pauses {
    /// When the present one began.
    since: Option<Timestamp>,
    /// Sum of those that have ended, in microseconds.
    ended: i64,
}

impl StoryClock {
    /// Stands still from now on.
    pub(super) fn pause(&self) {
        self.pauses().since.get_or_insert(SystemClock.now());
    }

    /// Goes on from where it was.
    pub(super) fn go_on(&self) {
        let mut pauses = self.pauses();
        if let Some(since) = pauses.since.take() {
            pauses.ended += SystemClock.now().micros() - since.micros();
        }
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for StoryClock {
    fn now(&self) -> Timestamp {
        let pauses = self.pauses();
        let now = pauses.since.unwrap_or_else(|| SystemClock.now());
        Timestamp::from_micros(now.micros() - pauses.ended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pause_takes_no_time() {
        let clock = StoryClock::default();
        clock.pause();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(clock.now(), before);
        clock.go_on();
        assert!(clock.now().micros() <= SystemClock.now().micros() - 20_000);
        assert!(clock.now() >= before);
    }
}
