//! Queries for the clock record, which housekeeping uses to decide whether to trust the system clock.

use std::time::Duration;

use domain::clock_trust::{ClockRecord, DoubtedClock};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

fn parse_clock_record(row: &Row) -> Result<ClockRecord, Error> {
    let duration =
        |column: &str| Ok::<_, Error>(Duration::from_micros(row.int(column)?.max(0).unsigned_abs()));
    let steady_for = duration("steady_for")?;
    let doubted = row.optional_timestamp("doubted_at")?.map(|seen_at| DoubtedClock { seen_at, steady_for });
    Ok(ClockRecord { trusted_at: row.timestamp("trusted_at")?, ran_for: duration("ran_for")?, doubted })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Read {
    /// Returns the clock record, or `None` if no reading of the clock has been recorded yet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn clock_record(&mut self) -> Result<Option<ClockRecord>, Error> {
        let sql = "SELECT trusted_at, ran_for, doubted_at, steady_for FROM clock_record";
        self.fetch_optional(sql, bind![], parse_clock_record).await
    }
}

impl Write {
    /// Creates or replaces the clock record. Durations are stored in whole microseconds.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_clock_record(&mut self, record: &ClockRecord) -> Result<(), Error> {
        let sql = "INSERT INTO clock_record (name, trusted_at, ran_for, doubted_at, steady_for) \
                   VALUES ('clock', $1, $2, $3, $4) ON CONFLICT (name) DO UPDATE SET \
                   trusted_at = excluded.trusted_at, ran_for = excluded.ran_for, \
                   doubted_at = excluded.doubted_at, steady_for = excluded.steady_for";
        let doubted = record.doubted;
        let values = bind![
            record.trusted_at,
            micros(record.ran_for),
            doubted.map(|doubted| doubted.seen_at),
            doubted.map_or(0, |doubted| micros(doubted.steady_for))
        ];
        self.execute(sql, values).await
    }
}
