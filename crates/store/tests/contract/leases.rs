//! Leader leases, such as the lease of the node that runs housekeeping.

use domain::Timestamp;
use store::Store;

use crate::concurrency::run_concurrently;
use crate::fixtures::*;

contract! {
    lease_cannot_be_acquired_by_another_holder_until_it_expires,
    lease_is_renewed_when_its_holder_acquires_it_again,
    lease_can_be_released_only_by_its_holder,
    leases_with_different_names_are_independent,
    lease_with_an_implausibly_late_expiry_can_be_acquired_by_another_holder,
    lease_is_acquired_by_exactly_one_of_several_concurrent_candidates,
}

/// Duration of a lease in these tests, in seconds.
const LEASE_SECONDS: i64 = 180;

/// Tries to acquire or renew the lease `name` for `holder`, until [`LEASE_SECONDS`] after `now`. Returns whether
/// `holder` now has the lease.
async fn take(store: &Store, name: &'static str, holder: &'static str, now: Timestamp) -> bool {
    transact!(store, |tx| tx.acquire_lease(name, holder, now, now.plus_seconds(LEASE_SECONDS))).unwrap()
}

async fn lease_cannot_be_acquired_by_another_holder_until_it_expires(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW).await);
    assert!(!take(&store, "housekeeping", "two", NOW).await);
    assert!(!take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS - 1)).await);
    assert!(take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS)).await);
    assert!(!take(&store, "housekeeping", "one", NOW.plus_seconds(LEASE_SECONDS)).await);
}

async fn lease_is_renewed_when_its_holder_acquires_it_again(store: Store) {
    for minute in 0..9 {
        assert!(take(&store, "housekeeping", "one", NOW.plus_seconds(60 * minute)).await);
    }
    assert!(!take(&store, "housekeeping", "two", NOW.plus_seconds(60 * 8 + LEASE_SECONDS - 1)).await);
}

async fn lease_can_be_released_only_by_its_holder(store: Store) {
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

async fn lease_with_an_implausibly_late_expiry_can_be_acquired_by_another_holder(store: Store) {
    assert!(take(&store, "housekeeping", "one", NOW.plus_seconds(2 * LEASE_SECONDS)).await);
    assert!(take(&store, "housekeeping", "two", NOW).await);
    // The lease now ends two lease durations after `NOW`. Such a difference between clocks is accepted, so
    // another holder cannot acquire it.
    assert!(take(&store, "housekeeping", "two", NOW.plus_seconds(LEASE_SECONDS)).await);
    assert!(!take(&store, "housekeeping", "one", NOW).await);
}

async fn lease_is_acquired_by_exactly_one_of_several_concurrent_candidates(store: Store) {
    const HOLDERS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let taken = run_concurrently(HOLDERS.len(), |number| {
        let store = store.clone();
        async move { take(&store, "housekeeping", HOLDERS[number], NOW).await }
    });
    assert_eq!(taken.await.into_iter().filter(|taken| *taken).count(), 1);
}
