//! The clock record: what housekeeping has observed about the system clock.

use std::time::Duration;

use domain::clock_trust::{ClockRecord, DoubtedClock};
use store::Store;

use crate::fixtures::*;

contract! {
    setting_the_clock_record_replaces_the_previous_one,
}

async fn setting_the_clock_record_replaces_the_previous_one(store: Store) {
    assert_eq!(read!(store, |db| db.clock_record()).unwrap(), None);
    let trusted = ClockRecord::trusting(NOW);
    let doubted = DoubtedClock { seen_at: MAX_TIME, steady_for: Duration::from_micros(7) };
    for record in [
        trusted,
        ClockRecord { ran_for: Duration::from_micros(1_000_001), doubted: Some(doubted), ..trusted },
        ClockRecord { trusted_at: MIN_TIME, ..trusted },
    ] {
        transact!(store, |tx| tx.set_clock_record(&record)).unwrap();
        assert_eq!(read!(store, |db| db.clock_record()).unwrap(), Some(record));
    }
}
