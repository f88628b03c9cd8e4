//! Decides whether the system clock is trustworthy enough for housekeeping to remove expired data.
//!
//! A clock that is ahead for a minute must not cause a loss of data. Housekeeping therefore compares each reading with
//! an expected time: the last trusted reading, which the database stores, plus the time that a monotonic clock has
//! counted since then.

use std::time::Duration;

use crate::Timestamp;

/// Maximum deviation of the system clock from the monotonic clock between two readings of one process. It is also the
/// maximum deviation between the clocks of two servers.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Maximum time without any running server after which a reading is still trusted immediately. It is short because the
/// usual fault of a clock is a wrong time zone, an offset of whole hours.
const MAX_TRUSTED_PAUSE: Duration = Duration::from_secs(3600);

/// Total time for which a clock must run steadily after a jump before it is trusted again.
const SETTLING_TIME: Duration = Duration::from_secs(6 * 3600);

/// Maximum time without any running server after which [`SETTLING_TIME`] still continues instead of starting anew. It
/// allows a server that runs for some hours a day or a week to regain trust in its clock.
const MAX_SETTLING_PAUSE: Duration = Duration::from_secs(8 * 24 * 3600);

/// The stored state of the clock check: the last trusted reading, and what was measured since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRecord {
    /// Last trusted reading of the system clock.
    pub trusted_at: Timestamp,
    /// Minimum time for which servers have run since the trusted reading, as counted by monotonic clocks.
    pub ran_for: Duration,
    /// State of the clock if its later readings are not trusted; `None` if the clock is trusted.
    pub doubted: Option<DoubtedClock>,
}

/// The state of a clock that jumped and is therefore not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtedClock {
    /// Last reading of the clock, which is not trusted.
    pub seen_at: Timestamp,
    /// Time for which the clock has run steadily since it jumped.
    pub steady_for: Duration,
}

impl ClockRecord {
    /// Creates the record of a clock that is trusted at the reading `now`.
    pub const fn trusting(now: Timestamp) -> Self {
        Self { trusted_at: now, ran_for: Duration::ZERO, doubted: None }
    }

    /// Returns the record that replaces this one after the reading `now`. `ran` is the time since this record was
    /// written, on the monotonic clock of the process that wrote it. It is `None` if another process wrote the record.
    #[must_use]
    pub fn after(&self, now: Timestamp, ran: Option<Duration>) -> Self {
        let ran_for = self.ran_for.saturating_add(ran.unwrap_or_default());
        let pause = if ran.is_some() { CLOCK_TOLERANCE } else { MAX_TRUSTED_PAUSE };
        if is_within(now, later(self.trusted_at, ran_for), pause) {
            return Self::trusting(now);
        }
        let steady_for = self.doubted.map_or(Duration::ZERO, |doubted| doubted.steady_until(now, ran));
        if steady_for >= SETTLING_TIME {
            return Self::trusting(now);
        }
        Self { ran_for, doubted: Some(DoubtedClock { seen_at: now, steady_for }), ..*self }
    }

    /// Returns the earliest time that a correct clock would have shown at the last reading.
    pub fn expected_at(&self) -> Timestamp {
        later(self.trusted_at, self.ran_for)
    }
}

impl DoubtedClock {
    /// Returns how long the clock has run steadily until the reading `now`; zero if it jumped again.
    fn steady_until(&self, now: Timestamp, ran: Option<Duration>) -> Duration {
        let (ran, pause) = ran.map_or((Duration::ZERO, MAX_SETTLING_PAUSE), |ran| (ran, CLOCK_TOLERANCE));
        match is_within(now, later(self.seen_at, ran), pause) {
            true => self.steady_for.saturating_add(ran),
            false => Duration::ZERO,
        }
    }
}

/// Returns whether the reading `now` is at most `pause` later than `expected`, or at most [`CLOCK_TOLERANCE`] earlier.
fn is_within(now: Timestamp, expected: Timestamp, pause: Duration) -> bool {
    now <= later(expected, pause) && expected <= later(now, CLOCK_TOLERANCE)
}

fn later(instant: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(instant.micros().saturating_add(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn at(seconds: i64) -> Timestamp {
        START.plus_seconds(seconds)
    }

    fn ran(seconds: i64) -> Option<Duration> {
        Some(Duration::from_secs(seconds.unsigned_abs()))
    }

    fn is_trusted(record: &ClockRecord) -> bool {
        record.doubted.is_none()
    }

    /// Returns the record after the clock has run steadily for `minutes`, starting at the reading `from`.
    fn run(mut record: ClockRecord, from: i64, minutes: i64) -> ClockRecord {
        for minute in 1..=minutes {
            record = record.after(at(from + minute * MINUTE), ran(MINUTE));
        }
        record
    }

    #[test]
    fn steady_clock_is_trusted() {
        let record = run(ClockRecord::trusting(START), 0, 1000);
        assert_eq!(record, ClockRecord::trusting(at(1000 * MINUTE)));
    }

    #[test]
    fn jump_of_more_than_five_minutes_is_doubted() {
        let record = ClockRecord::trusting(START);
        for (jump, trusted) in [(300, true), (301, false), (-300, true), (-301, false), (400 * DAY, false)] {
            assert_eq!(is_trusted(&record.after(at(MINUTE + jump), ran(MINUTE))), trusted, "{jump}");
        }
    }

    #[test]
    fn clock_is_trusted_after_a_restart_within_an_hour() {
        let record = ClockRecord::trusting(START);
        for (passed, trusted) in
            [(HOUR, true), (HOUR + 1, false), (-300, true), (-301, false), (400 * DAY, false)]
        {
            assert_eq!(is_trusted(&record.after(at(passed), None)), trusted, "{passed}");
        }
    }

    #[test]
    fn corrected_clock_is_trusted_immediately() {
        let ahead = ClockRecord::trusting(START).after(at(400 * DAY), ran(MINUTE));
        let ahead = run(ahead, 400 * DAY, 120);
        assert!(!is_trusted(&ahead));
        assert_eq!(ahead.expected_at(), at(121 * MINUTE));
        let right = at(122 * MINUTE);
        assert_eq!(ahead.after(right, ran(MINUTE)), ClockRecord::trusting(right));
        // A new process reads from the record for how long the previous process ran.
        assert_eq!(ahead.after(right, None), ClockRecord::trusting(right));
    }

    #[test]
    fn jumped_clock_is_trusted_after_six_steady_hours() {
        for jump in [400 * DAY, -400 * DAY] {
            let jumped = ClockRecord::trusting(START).after(at(jump), ran(MINUTE));
            let almost = run(jumped, jump, 359);
            assert!(!is_trusted(&almost));
            assert!(is_trusted(&run(almost, jump + 359 * MINUTE, 1)));
            // A second jump restarts the settling time.
            let again = almost.after(at(jump + 2 * HOUR + 360 * MINUTE), ran(MINUTE));
            assert_eq!(again.doubted.map(|doubted| doubted.steady_for), Some(Duration::ZERO));
        }
    }

    #[test]
    fn hours_without_a_clock_jump_add_up_across_processes() {
        let mut record = ClockRecord::trusting(START).after(at(30 * DAY), None);
        for day in [30, 31] {
            record = run(record.after(at(day * DAY), None), day * DAY, 150);
            assert!(!is_trusted(&record));
        }
        let week = 39 * DAY;
        assert!(is_trusted(&run(record.after(at(week), None), week, 60)));
        // A longer pause or a clock that was set back restarts the settling time.
        for start in [40 * DAY + 3 * HOUR, 31 * DAY] {
            let record = run(record.after(at(start), None), start, 60);
            assert_eq!(record.doubted.map(|doubted| doubted.steady_for), ran(HOUR), "{start}");
        }
    }

    #[test]
    fn extreme_clock_readings_do_not_overflow() {
        let ends = [i64::MIN, -1, 0, i64::MAX].map(Timestamp::from_micros);
        for one in ends {
            for other in ends {
                for ran in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                    let record = ClockRecord::trusting(one).after(other, ran);
                    let _ = record.after(one, ran).expected_at();
                }
            }
        }
    }
}
