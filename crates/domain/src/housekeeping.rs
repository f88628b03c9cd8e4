//! Housekeeping: retention times, and the pace at which expired data is removed.

use std::time::Duration;

/// Retention times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Unverified factors, from their creation.
    pub unverified_factors: i64,
    /// Challenges, answered or not, from their expiry.
    pub challenges: i64,
    /// Finished deliveries, and alerts.
    pub deliveries: i64,
    /// Audit records; kept indefinitely if `None`.
    pub audit_log: Option<i64>,
    /// Access tokens, from their expiry. Before it, a phone that lost the response can repeat its enrollment with the
    /// spent token and receives the same factor. After it, the token has no use.
    pub access_tokens: i64,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        Self {
            unverified_factors: DAY,
            challenges: 30 * DAY,
            deliveries: 30 * DAY,
            audit_log: Some(365 * DAY),
            // An hour allows for clocks that differ between servers.
            access_tokens: HOUR,
        }
    }
}

/// The number of rows that housekeeping removes in one transaction. It adapts to the duration of the last batch, so
/// that other writes never wait much longer than for one short batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rows: u32,
}

impl Pace {
    /// Desired duration of a batch. It is far below the acceptable 50 ms, because durations vary: on a busy machine,
    /// one batch in a hundred takes five times as long as most.
    const TARGET_BATCH_DURATION: Duration = Duration::from_millis(8);

    /// Largest batch. Larger ones are not measurably faster.
    const MAX_BATCH_ROWS: u32 = 1000;

    /// Returns the number of rows of the next batch.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Returns the pace after a batch that took `took`. It at most doubles, and drops as far as necessary.
    #[must_use]
    pub fn after(self, took: Duration) -> Self {
        let target = Self::TARGET_BATCH_DURATION.as_micros();
        let fits = u128::from(self.rows) * target / took.as_micros().max(1);
        let rows = u32::try_from(fits).unwrap_or(u32::MAX).min(self.rows.saturating_mul(2));
        Self { rows: rows.clamp(1, Self::MAX_BATCH_ROWS) }
    }

    /// Returns how long to pause after a batch that took `took`: three times as long, but at most a second. Other
    /// writes thus have the database for three quarters of the time.
    pub fn pause_after(took: Duration) -> Duration {
        took.saturating_mul(3).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

impl Default for Pace {
    /// Starts with a small batch.
    fn default() -> Self {
        Self { rows: 16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn fast_batches_grow_by_at_most_a_factor_of_two() {
        let initial = Pace::default();
        assert_eq!(initial.after(ms(1)).rows(), 32, "at most twice as many");
        assert_eq!(initial.after(Duration::ZERO).rows(), 32);
        let mut pace = initial;
        for _ in 0..100 {
            pace = pace.after(ms(1));
        }
        assert_eq!(pace.rows(), 1000);
    }

    #[test]
    fn slow_batch_shrinks_the_next_one_in_proportion() {
        let pace = Pace { rows: 1000 };
        assert_eq!(pace.after(ms(8)).rows(), 1000);
        assert_eq!(pace.after(ms(16)).rows(), 500);
        assert_eq!(pace.after(ms(800)).rows(), 10);
        assert_eq!(pace.after(Duration::MAX).rows(), 1, "a batch has at least one row");
    }

    /// Each machine is described by the rows that it removes in a millisecond and the milliseconds of a commit.
    #[test]
    fn no_batch_takes_50_ms_on_machines_of_any_speed() {
        for (rows_per_ms, commit) in [(1, 1), (3, 10), (20, 5), (200, 15), (1, 19)] {
            let took = |pace: Pace| ms(commit) + ms(1) * pace.rows() / rows_per_ms;
            let mut pace = Pace::default();
            for _ in 0..100 {
                assert!(took(pace) < ms(50), "{rows_per_ms} {commit} {pace:?}");
                pace = pace.after(took(pace));
            }
        }
    }

    #[test]
    fn pause_is_three_times_the_batch_within_its_limits() {
        assert_eq!(Pace::pause_after(ms(20)), ms(60));
        assert_eq!(Pace::pause_after(Duration::ZERO), ms(1));
        assert_eq!(Pace::pause_after(ms(5000)), ms(1000));
    }
}
