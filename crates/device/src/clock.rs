//! How a phone with a wrong clock finds the right time (docs/protocol/device.md, section 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::NaiveDateTime;
use domain::{Clock, Timestamp};

/// A clock, and what has been learnt about how far it is off.
pub(crate) struct RepairedClock {
    local: Arc<dyn Clock>,
    offset: AtomicI64,
}

impl RepairedClock {
    pub(crate) fn new(local: Arc<dyn Clock>) -> Self {
        Self { local, offset: AtomicI64::new(0) }
    }

    /// Server time, as far as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        self.local.now().plus_seconds(self.offset())
    }

    /// Seconds by which the server is ahead of the local clock.
    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Takes the time from a `Date` header; whether it could be read.
    pub(crate) fn repair(&self, date: &str) -> bool {
        let offset =
            http_date(date).map(|server| server.seconds().saturating_sub(self.local.now().seconds()));
        if let Some(offset) = offset {
            self.offset.store(offset, Ordering::Relaxed);
        }
        offset.is_some()
    }
}

/// `Tue, 14 Nov 2023 09:27:21 GMT`, the only form that HTTP lets a server write.
fn http_date(text: &str) -> Option<Timestamp> {
    let date = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some(Timestamp::from_seconds(date.and_utc().timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped(Timestamp);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    fn clock(seconds: i64) -> RepairedClock {
        RepairedClock::new(Arc::new(Stopped(Timestamp::from_seconds(seconds))))
    }

    #[test]
    fn keeps_the_difference_between_server_and_local_time() {
        for local in [1_699_954_041, 1_699_950_000, 1_799_954_041, 0] {
            let clock = clock(local);
            assert_eq!(clock.now().seconds(), local);
            assert!(clock.repair("Tue, 14 Nov 2023 09:27:21 GMT"));
            assert_eq!(clock.now().seconds(), 1_699_954_041);
            assert_eq!(clock.offset(), 1_699_954_041 - local);
        }
    }

    #[test]
    fn a_second_repair_starts_from_the_local_clock_again() {
        let clock = clock(1_699_954_000);
        assert!(clock.repair("Tue, 14 Nov 2023 09:27:21 GMT"));
        assert!(clock.repair("Tue, 14 Nov 2023 09:27:22 GMT"));
        assert_eq!(clock.offset(), 42);
    }

    #[test]
    fn what_is_no_date_changes_nothing() {
        for bad in
            ["", "now", "2023-11-14T09:27:21Z", "Tue, 14 Nov 2023 09:27:21", "Mon, 14 Nov 2023 09:27:21 GMT"]
        {
            let clock = clock(7);
            assert!(!clock.repair(bad), "{bad}");
            assert_eq!(clock.now().seconds(), 7);
        }
    }
}
