//! The lease of the node that runs housekeeping.

use domain::Timestamp;
use store::Store;

use crate::concurrency::run_concurrently;
use crate::fixtures::*;

contract! {
    lease_belongs_to_its_holder_until_it_expires,
    lease_is_renewed_by_its_holder,
    lease_is_released_only_by_its_holder,
    leases_with_different_names_are_independent,
    lease_from_a_clock_in_the_future_is_taken_over,
    lease_is_taken_by_one_of_several_concurrent_holders,
}

/// Duration of a lease.
const LEASE_SECONDS: i64 = 180;

async fn take(store: &Store, name: &'static str, holder: &'static str, now: Timestamp) -> bool {
    transact!(store, |tx| tx.acquire_lease(name, holder, now, now.plus_seconds(LEASE_SECONDS))).unwrap()
}

async fn lease_belongs_to_its_holder_until_it_expires(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW).await);
    assert!(!take(&store, "housekeeping", "two", NOW).await);
    assert!(!take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS - 1)).await);
    assert!(take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS)).await);
    assert!(!take(&store, "housekeeping", "one", NOW.plus_seconds(LEASE_SECONDS)).await);
}

async fn lease_is_renewed_by_its_holder(store: Store) {
    for minute in 0..9 {
        assert!(take(&store, "housekeeping", "one", NOW.plus_seconds(60 * minute)).await);
    }
    assert!(!take(&store, "housekeeping", "two", NOW.plus_seconds(60 * 8 + LEASE_SECONDS - 1)).await);
}

async fn lease_is_released_only_by_its_holder(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW).await);
    transact!(store, |tx| tx.release_lease("housekeeping", "two")).unwrap();
    assert!(!take(&store, "housekeeping", "two", NOW).await);
    transact!(store, |tx| tx.release_lease("housekeeping", "one")).unwrap();
    assert!(take(&store, "housekeeping", "two", NOW).await);
}

async fn leases_with_different_names_are_independent(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW).await);
    assert!(take(&store, "other", "two", NOW).await);
}

async fn lease_from_a_clock_in_the_future_is_taken_over(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW.plus_seconds(2 * LEASE_SECONDS)).await);
    assert!(take(&store, "housekeeping", "two", NOW).await);
    // An expiry that is only slightly too late is accepted.
    assert!(take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS)).await);
    assert!(!take(&store, "housekeeping", "one", NOW).await);
}

async fn lease_is_taken_by_one_of_several_concurrent_holders(store: Store) {
    const HOLDERS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let taken = run_concurrently(HOLDERS.len(), |number| {
        let store = store.clone();
        async move { take(&store, "housekeeping", HOLDERS[number], NOW).await }
    });
    assert_eq!(taken.await.into_iter().filter(|taken| *taken).count(), 1);
}
