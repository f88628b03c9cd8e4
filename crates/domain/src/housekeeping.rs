//! Housekeeping: how long what is done with is kept, and how gently it is removed.

use std::time::Duration;

/// How long things are kept, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A factor that has not shown that it holds its key, from its creation.
    pub unverified_factors: i64,
    /// A challenge, from its expiry, answered or not.
    pub challenges: i64,
    /// Finished deliveries, and alerts.
    pub deliveries: i64,
    /// A line of the audit log; for ever when `None`.
    pub audit_log: Option<i64>,
    /// An access token, from its expiry. Until then a spent one gives a phone that lost the answer its factor
    /// again; after it, it is of no use to anybody.
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
            // For clocks that differ.
            access_tokens: HOUR,
        }
    }
}

/// How many rows are removed in one transaction. It follows what the last one took: other writes wait no
/// longer than for one batch, whatever a row costs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rows: u32,
}

impl Pace {
    /// What a batch should take. Far less than the 50 ms that it may, since one row is not like another and a disk
    /// not always as fast: on a busy machine one batch in a hundred takes five times as long as most.
    const GOAL: Duration = Duration::from_millis(8);

    /// Largest batch: beyond it nothing is gained.
    const MAX: u32 = 1000;

    /// Rows of the next batch.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// The pace after a batch that took so long: at most twice as fast, as much slower as it takes.
    #[must_use]
    pub fn after(self, took: Duration) -> Self {
        let fits = u128::from(self.rows) * Self::GOAL.as_micros() / took.as_micros().max(1);
        let rows = u32::try_from(fits).unwrap_or(u32::MAX).min(self.rows.saturating_mul(2));
        Self { rows: rows.clamp(1, Self::MAX) }
    }

    /// How long to rest after a batch that took so long: three times as long, so that the writer is left to
    /// others for most of the time, but not longer than a second.
    pub fn rest(took: Duration) -> Duration {
        took.saturating_mul(3).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

impl Default for Pace {
    /// A careful beginning.
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
    fn a_batch_becomes_larger_while_it_is_quick() {
        let begin = Pace::default();
        assert_eq!(begin.after(ms(1)).rows(), 32, "twice as many and not twenty times");
        assert_eq!(begin.after(Duration::ZERO).rows(), 32);
        let mut pace = begin;
        for _ in 0..100 {
            pace = pace.after(ms(1));
        }
        assert_eq!(pace.rows(), 1000);
    }

    #[test]
    fn a_batch_becomes_smaller_at_once_when_it_is_slow() {
        let pace = Pace { rows: 1000 };
        assert_eq!(pace.after(ms(8)).rows(), 1000);
        assert_eq!(pace.after(ms(16)).rows(), 500);
        assert_eq!(pace.after(ms(800)).rows(), 10);
        assert_eq!(pace.after(Duration::MAX).rows(), 1, "something goes in any case");
    }

    /// The rows that a machine can remove in a millisecond, and what a transaction costs it on top.
    #[test]
    fn no_batch_takes_long_whatever_the_machine() {
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
    fn others_get_most_of_the_time() {
        assert_eq!(Pace::rest(ms(20)), ms(60));
        assert_eq!(Pace::rest(Duration::ZERO), ms(1));
        assert_eq!(Pace::rest(ms(5000)), ms(1000));
    }
}
