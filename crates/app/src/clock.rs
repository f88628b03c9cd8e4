//! The system clock of the machine.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use domain::{Clock, Timestamp};

/// First reading of the monotonic clock in this process; later readings are relative to it.
static MONOTONIC_START: OnceLock<Instant> = OnceLock::new();

/// The system clock. This is the only code that reads the time of day; all other code receives it as an argument or
/// through [`Clock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "all other code receives the time from here")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        MONOTONIC_START.get_or_init(Instant::now).elapsed()
    }
}
