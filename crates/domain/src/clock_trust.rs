//! Whether the clock can be trusted with removing what is old.
//!
//! A clock that ran ahead for a minute must not cost data. So housekeeping compares each reading of the clock with the
//! last one that it trusted, which the database keeps, and with the time that a monotonic clock has counted since.

use std::time::Duration;

use crate::Timestamp;

/// How far the clock may stray from the monotonic clock between two readings of one process, and how far clocks of
/// different servers may be apart.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Longest time without any server after which the clock is trusted at once. It is short, because the usual fault of
/// a clock is a wrong time zone, a whole number of hours.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long a clock that jumped has to run evenly, in all, before it is trusted.
pub const SETTLING: Duration = Duration::from_secs(6 * 3600);

/// Longest time without any server that does not end the even run of a clock that jumped: a server that runs for some
/// hours a day or a week comes to trust its clock too.
const LONGEST_REST: Duration = Duration::from_secs(8 * 24 * 3600);

/// What is known of the clock: the last reading that was trusted, and what has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRecord {
    /// The last reading that was trusted.
    pub trusted_at: Timestamp,
    /// How long servers have run since, at least.
    pub ran_for: Duration,
    /// The readings since then that are not trusted.
    pub doubted: Option<DoubtedClock>,
}

/// A clock that jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtedClock {
    /// Its last reading.
    pub seen_at: Timestamp,
    /// How long it has run evenly.
    pub steady_for: Duration,
}

impl ClockRecord {
    /// The record of a clock that is trusted at this reading.
    pub const fn trusting(now: Timestamp) -> Self {
        Self { trusted_at: now, ran_for: Duration::ZERO, doubted: None }
    }

    /// The record after a reading. `ran` is the time since this record on the monotonic clock of the process that
    /// made it; `None` for another process.
    #[must_use]
    pub fn after(&self, now: Timestamp, ran: Option<Duration>) -> Self {
        let ran_for = self.ran_for.saturating_add(ran.unwrap_or_default());
        let pause = if ran.is_some() { TOLERANCE } else { LONGEST_PAUSE };
        if is_within(now, later(self.trusted_at, ran_for), pause) {
            return Self::trusting(now);
        }
        let steady_for = self.doubted.map_or(Duration::ZERO, |doubted| doubted.steady_until(now, ran));
        if steady_for >= SETTLING {
            return Self::trusting(now);
        }
        Self { ran_for, doubted: Some(DoubtedClock { seen_at: now, steady_for }), ..*self }
    }

    /// What the clock should have shown at the last reading, at least.
    pub fn expected_at(&self) -> Timestamp {
        later(self.trusted_at, self.ran_for)
    }
}

impl DoubtedClock {
    /// How long it has run evenly when it shows `now`; nothing if it jumped again.
    fn steady_until(&self, now: Timestamp, ran: Option<Duration>) -> Duration {
        let (ran, pause) = ran.map_or((Duration::ZERO, LONGEST_REST), |ran| (ran, TOLERANCE));
        match is_within(now, later(self.seen_at, ran), pause) {
            true => self.steady_for.saturating_add(ran),
            false => Duration::ZERO,
        }
    }
}

/// Whether a reading is the one expected, or later by a pause at most; clocks of different servers differ a little.
fn is_within(now: Timestamp, expected: Timestamp, pause: Duration) -> bool {
    now <= later(expected, pause) && expected <= later(now, TOLERANCE)
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

    /// The record after a clock has run evenly for so many minutes, from this reading on.
    fn run(mut record: ClockRecord, from: i64, minutes: i64) -> ClockRecord {
        for minute in 1..=minutes {
            record = record.after(at(from + minute * MINUTE), ran(MINUTE));
        }
        record
    }

    #[test]
    fn clock_that_runs_evenly_is_trusted() {
        let record = run(ClockRecord::trusting(START), 0, 1000);
        assert_eq!(record, ClockRecord::trusting(at(1000 * MINUTE)));
    }

    #[test]
    fn jump_within_a_process_is_doubted_beyond_five_minutes() {
        let record = ClockRecord::trusting(START);
        for (jump, trusted) in [(300, true), (301, false), (-300, true), (-301, false), (400 * DAY, false)] {
            assert_eq!(is_trusted(&record.after(at(MINUTE + jump), ran(MINUTE))), trusted, "{jump}");
        }
    }

    #[test]
    fn process_that_starts_is_trusted_up_to_an_hour_after_the_last_reading() {
        let record = ClockRecord::trusting(START);
        for (passed, trusted) in
            [(HOUR, true), (HOUR + 1, false), (-300, true), (-301, false), (400 * DAY, false)]
        {
            assert_eq!(is_trusted(&record.after(at(passed), None)), trusted, "{passed}");
        }
    }

    #[test]
    fn clock_that_comes_back_is_trusted_at_once() {
        let ahead = ClockRecord::trusting(START).after(at(400 * DAY), ran(MINUTE));
        let ahead = run(ahead, 400 * DAY, 120);
        assert!(!is_trusted(&ahead));
        assert_eq!(ahead.expected_at(), at(121 * MINUTE));
        let right = at(122 * MINUTE);
        assert_eq!(ahead.after(right, ran(MINUTE)), ClockRecord::trusting(right));
        // A process that starts then knows how long the former one ran.
        assert_eq!(ahead.after(right, None), ClockRecord::trusting(right));
    }

    #[test]
    fn clock_that_jumped_is_trusted_after_six_even_hours() {
        for jump in [400 * DAY, -400 * DAY] {
            let jumped = ClockRecord::trusting(START).after(at(jump), ran(MINUTE));
            let almost = run(jumped, jump, 359);
            assert!(!is_trusted(&almost));
            assert!(is_trusted(&run(almost, jump + 359 * MINUTE, 1)));
            // A second jump begins anew.
            let again = almost.after(at(jump + 2 * HOUR + 360 * MINUTE), ran(MINUTE));
            assert_eq!(again.doubted.map(|doubted| doubted.steady_for), Some(Duration::ZERO));
        }
    }

    #[test]
    fn even_hours_of_several_processes_add_up() {
        let mut record = ClockRecord::trusting(START).after(at(30 * DAY), None);
        for day in [30, 31] {
            record = run(record.after(at(day * DAY), None), day * DAY, 150);
            assert!(!is_trusted(&record));
        }
        let week = 39 * DAY;
        assert!(is_trusted(&run(record.after(at(week), None), week, 60)));
        // But not over a longer rest, or when the clock went back.
        for start in [40 * DAY + 3 * HOUR, 31 * DAY] {
            let record = run(record.after(at(start), None), start, 60);
            assert_eq!(record.doubted.map(|doubted| doubted.steady_for), ran(HOUR), "{start}");
        }
    }

    #[test]
    fn extreme_readings_do_not_overflow() {
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
