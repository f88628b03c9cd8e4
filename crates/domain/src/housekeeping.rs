//! Housekeeping: retention times, and the pace at which expired data is removed.

use std::time::Duration;

/// How long data is kept before housekeeping removes it, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Retention of unverified factors, counted from their creation.
    pub unverified_factors: i64,
    /// Retention of challenges, answered or not, counted from their expiry, and of verifications, from their end.
    pub challenges: i64,
    /// Retention of finished deliveries and of alerts.
    pub deliveries: i64,
    /// Retention of audit records; `None` keeps them indefinitely.
    pub audit_log: Option<i64>,
    /// Retention of access tokens, counted from their expiry. Before a token expires, a phone that lost the response
    /// can repeat its enrollment with the spent token, and receives the same factor. After that, the token has no use.
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
            // One hour allows for differences between the clocks of servers.
            access_tokens: HOUR,
        }
    }
}

/// The pace of housekeeping: the number of rows that it removes in one transaction, a batch. It adapts to the duration
/// of the last batch, so that other writes never wait much longer than for one short batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rows: u32,
}

impl Pace {
    /// Target duration of a batch without its commit. It is far below the acceptable 50 ms, because durations vary: on
    /// a busy machine, one batch in a hundred takes five times as long as most.
    const TARGET_WORK: Duration = Duration::from_millis(8);

    /// Duration of a batch with its commit from which the next one is smaller, whatever took so long.
    const LONG_BATCH: Duration = Duration::from_millis(30);

    /// Maximum number of rows in a batch. Larger batches are not measurably faster.
    const MAX_BATCH_ROWS: u32 = 1000;

    /// Returns the number of rows to remove in the next batch.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Returns the pace after a batch that took `took`, of which `worked` was spent on its rows and the rest on the
    /// commit. The number of rows at most doubles. It decreases as far as necessary, but not below 1.
    ///
    /// The commit does not count, because most of its duration does not depend on the number of rows: on a slow disk,
    /// batches would become smaller and smaller without becoming shorter.
    #[must_use]
    pub fn after(self, worked: Duration, took: Duration) -> Self {
        let fits = |target: Duration, duration: Duration| {
            let rows = u128::from(self.rows) * target.as_micros() / duration.as_micros().max(1);
            u32::try_from(rows).unwrap_or(u32::MAX)
        };
        let rows = fits(Self::TARGET_WORK, worked)
            .min(fits(Self::LONG_BATCH, took))
            .min(self.rows.saturating_mul(2));
        Self { rows: rows.clamp(1, Self::MAX_BATCH_ROWS) }
    }

    /// Returns how long to pause after a batch that took `took`: three times as long, but at least 1 ms and at most 1
    /// second. Other writes can thus use the database for three quarters of the time.
    pub fn pause_after(took: Duration) -> Duration {
        took.saturating_mul(3).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

impl Default for Pace {
    /// Returns the initial pace, a small batch of 16 rows.
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
    fn deletion_batch_size_at_most_doubles_after_a_fast_batch() {
        let initial = Pace::default();
        assert_eq!(initial.after(ms(1), ms(1)).rows(), 32, "at most twice as many");
        assert_eq!(initial.after(Duration::ZERO, Duration::ZERO).rows(), 32);
        let mut pace = initial;
        for _ in 0..100 {
            pace = pace.after(ms(1), ms(1));
        }
        assert_eq!(pace.rows(), 1000);
    }

    #[test]
    fn slow_deletion_batch_makes_the_next_one_proportionally_smaller() {
        let pace = Pace { rows: 1000 };
        assert_eq!(pace.after(ms(8), ms(8)).rows(), 1000);
        assert_eq!(pace.after(ms(16), ms(16)).rows(), 500);
        assert_eq!(pace.after(ms(800), ms(800)).rows(), 10);
        assert_eq!(pace.after(Duration::MAX, Duration::MAX).rows(), 1, "a batch has at least one row");
    }

    #[test]
    fn slow_commit_does_not_make_the_next_deletion_batch_smaller_unless_the_batch_is_long() {
        let pace = Pace { rows: 100 };
        assert_eq!(pace.after(ms(8), ms(28)).rows(), 100);
        assert_eq!(pace.after(ms(4), ms(28)).rows(), 107, "room for 30 ms in all");
        assert_eq!(pace.after(ms(8), ms(60)).rows(), 50);
    }

    /// Each simulated machine is described by the number of rows that it removes per millisecond, and the duration of a
    /// commit in milliseconds.
    #[test]
    fn every_deletion_batch_takes_under_50_ms_on_fast_and_slow_machines() {
        for (rows_per_ms, commit) in [(1, 1), (3, 10), (20, 5), (200, 15), (1, 19), (20, 25)] {
            let worked = |pace: Pace| ms(1) * pace.rows() / rows_per_ms;
            let mut pace = Pace::default();
            for _ in 0..100 {
                let took = worked(pace) + ms(commit);
                assert!(took < ms(50), "{rows_per_ms} {commit} {pace:?}");
                pace = pace.after(worked(pace), took);
            }
        }
    }

    #[test]
    fn pause_after_a_batch_is_three_times_its_duration_within_limits() {
        assert_eq!(Pace::pause_after(ms(20)), ms(60));
        assert_eq!(Pace::pause_after(Duration::ZERO), ms(1));
        assert_eq!(Pace::pause_after(ms(5000)), ms(1000));
    }
}
