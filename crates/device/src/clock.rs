//! Corrects a wrong clock of the phone using the server's time (docs/protocol/device.md, section 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::NaiveDateTime;
use domain::{Clock, Timestamp};

/// The phone's local clock with a correction, to estimate the server's time.
pub(crate) struct AdjustedClock {
    local: Arc<dyn Clock>,
    /// Number of seconds to add to the local time.
    offset: AtomicI64,
}

impl AdjustedClock {
    pub(crate) fn new(local: Arc<dyn Clock>) -> Self {
        Self { local, offset: AtomicI64::new(0) }
    }

    /// Returns the estimated current time of the server.
    pub(crate) fn now(&self) -> Timestamp {
        self.local.now().plus_seconds(self.offset())
    }

    /// Returns the number of seconds by which the server is estimated to be ahead of the local clock.
    /// Negative if the server is behind.
    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Sets the correction from the value of a `Date` header. Returns whether the value could be parsed; if
    /// not, the correction is unchanged.
    pub(crate) fn adjust_to(&self, date: &str) -> bool {
        let offset =
            parse_http_date(date).map(|server| server.seconds().saturating_sub(self.local.now().seconds()));
        if let Some(offset) = offset {
            self.offset.store(offset, Ordering::Relaxed);
        }
        offset.is_some()
    }
}

/// Parses a date such as `Tue, 14 Nov 2023 09:27:21 GMT`, the only format that a server may send (RFC 9110,
/// section 5.6.7). Returns `None` for any other text.
fn parse_http_date(text: &str) -> Option<Timestamp> {
    let date = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some(Timestamp::from_seconds(date.and_utc().timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FixedClock(Timestamp);

    impl Clock for FixedClock {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    fn clock(seconds: i64) -> AdjustedClock {
        AdjustedClock::new(Arc::new(FixedClock(Timestamp::from_seconds(seconds))))
    }

    #[test]
    fn clock_follows_the_date_header_of_the_server() {
        for local in [1_699_954_041, 1_699_950_000, 1_799_954_041, 0] {
            let clock = clock(local);
            assert_eq!(clock.now().seconds(), local);
            assert!(clock.adjust_to("Tue, 14 Nov 2023 09:27:21 GMT"));
            assert_eq!(clock.now().seconds(), 1_699_954_041);
            assert_eq!(clock.offset(), 1_699_954_041 - local);
        }
    }

    #[test]
    fn second_clock_correction_replaces_the_first() {
        let clock = clock(1_699_954_000);
        assert!(clock.adjust_to("Tue, 14 Nov 2023 09:27:21 GMT"));
        assert!(clock.adjust_to("Tue, 14 Nov 2023 09:27:22 GMT"));
        assert_eq!(clock.offset(), 42);
    }

    #[test]
    fn invalid_date_header_does_not_change_the_clock() {
        for bad in
            ["", "now", "2023-11-14T09:27:21Z", "Tue, 14 Nov 2023 09:27:21", "Mon, 14 Nov 2023 09:27:21 GMT"]
        {
            let clock = clock(7);
            assert!(!clock.adjust_to(bad), "{bad}");
            assert_eq!(clock.now().seconds(), 7);
        }
    }
}
