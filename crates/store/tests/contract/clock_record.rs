//! The record of the clock that housekeeping keeps.

use std::time::Duration;

use domain::clock_trust::{ClockRecord, DoubtedClock};
use store::Store;

use crate::fixtures::*;

contract! {
    clock_record_is_replaced,
}

async fn clock_record_is_replaced(store: Store) {
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
