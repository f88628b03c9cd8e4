//! Leases.

use domain::Timestamp;
use store::Store;

use crate::fixtures::*;
use crate::together::at_once;

contract! {
    a_lease_is_its_holders_until_it_ends,
    a_lease_is_renewed_by_its_holder,
    a_lease_can_be_given_back_by_its_holder_alone,
    leases_of_different_names_are_different,
    a_lease_from_a_wrong_clock_holds_nobody_up,
    a_lease_is_taken_once_among_many_at_once,
}

/// Seconds that a lease lasts.
const LENGTH: i64 = 180;

async fn take(store: &Store, name: &'static str, holder: &'static str, now: Timestamp) -> bool {
    transact!(store, |tx| tx.take_lease(name, holder, now, now.plus_seconds(LENGTH))).unwrap()
}

async fn a_lease_is_its_holders_until_it_ends(store: Store) {
    assert!(take(&store, "house", "one", NOW).await);
    assert!(!take(&store, "house", "two", NOW).await);
    assert!(!take(&store, "house", "two", NOW.plus_seconds(LENGTH - 1)).await);
    assert!(take(&store, "house", "two", NOW.plus_seconds(LENGTH)).await);
    assert!(!take(&store, "house", "one", NOW.plus_seconds(LENGTH)).await);
}

async fn a_lease_is_renewed_by_its_holder(store: Store) {
    for minute in 0..9 {
        assert!(take(&store, "house", "one", NOW.plus_seconds(60 * minute)).await);
    }
    assert!(!take(&store, "house", "two", NOW.plus_seconds(60 * 8 + LENGTH - 1)).await);
}

async fn a_lease_can_be_given_back_by_its_holder_alone(store: Store) {
    assert!(take(&store, "house", "one", NOW).await);
    transact!(store, |tx| tx.give_back_lease("house", "two")).unwrap();
    assert!(!take(&store, "house", "two", NOW).await);
    transact!(store, |tx| tx.give_back_lease("house", "one")).unwrap();
    assert!(take(&store, "house", "two", NOW).await);
}

async fn leases_of_different_names_are_different(store: Store) {
    assert!(take(&store, "house", "one", NOW).await);
    assert!(take(&store, "garden", "two", NOW).await);
}

async fn a_lease_from_a_wrong_clock_holds_nobody_up(store: Store) {
    assert!(take(&store, "house", "one", NOW.plus_seconds(2 * LENGTH)).await);
    assert!(take(&store, "house", "two", NOW).await);
    // A clock that is a little fast is not wrong.
    assert!(take(&store, "house", "two", NOW.plus_seconds(LENGTH)).await);
    assert!(!take(&store, "house", "one", NOW).await);
}

async fn a_lease_is_taken_once_among_many_at_once(store: Store) {
    const HOLDERS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let taken = at_once(HOLDERS.len(), |number| {
        let store = store.clone();
        async move { take(&store, "house", HOLDERS[number], NOW).await }
    });
    assert_eq!(taken.await.into_iter().filter(|taken| *taken).count(), 1);
}
