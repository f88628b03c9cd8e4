//! The machine's clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use domain::{Clock, Timestamp};

/// When this process read the monotonic clock first.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// The only place that asks the machine for the time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where everybody else gets it from")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        BEGAN.get_or_init(Instant::now).elapsed()
    }
}
