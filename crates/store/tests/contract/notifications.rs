//! Notifications: additional pushes about a challenge, which a backend requests.

use domain::Sid as _;
use domain::notifications::{MAX_PER_CHALLENGE, Ttl};
use store::{Conflict, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::{TestDatabase, hex_digits};
use crate::fixtures::*;

contract! {
    notifications_are_counted_per_challenge,
    notification_cannot_be_inserted_without_its_challenge,
    notification_cannot_be_inserted_twice,
    concurrent_notifications_do_not_exceed_the_limit_per_challenge,
    deleting_a_factor_keeps_its_challenges_and_their_notifications,
}

contract! {
    on disk:
    notification_is_stored_unchanged,
}

async fn notifications_are_counted_per_challenge(store: Store) {
    let EnrolledUser { factor, .. } = enrolled_user(&store).await;
    let (one, other) = (challenge(factor), challenge(factor));
    add(&store, [one, other]).await;
    add(&store, [one, one, other].map(notification)).await;
    let count = async |challenge_sid| transact!(store, |tx| tx.count_notifications(challenge_sid)).unwrap();
    assert_eq!(count(one.sid).await, 2);
    assert_eq!(count(other.sid).await, 1);
    assert_eq!(count(sid()).await, 0);
}

async fn notification_cannot_be_inserted_without_its_challenge(store: Store) {
    let EnrolledUser { factor, .. } = enrolled_user(&store).await;
    let orphan = notification(challenge(factor));
    assert_refused!(transact!(store, |tx| tx.insert_notification(orphan)), Error::ParentGone);
}

async fn notification_cannot_be_inserted_twice(store: Store) {
    let AccountTree { challenge, .. } = AccountTree::create(&store).await;
    let notification = notification(challenge);
    add(&store, [notification]).await;
    let again = transact!(store, |tx| tx.insert_notification(notification));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn concurrent_notifications_do_not_exceed_the_limit_per_challenge(store: Store) {
    let EnrolledUser { path, factor, .. } = enrolled_user(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let inserted = run_concurrently(20, |_| {
        let store = store.clone();
        let insert = async move |tx: &mut Write| {
            tx.lock_push_factor(path, factor.sid).await?;
            let fits = tx.count_notifications(challenge.sid).await? < MAX_PER_CHALLENGE;
            if fits {
                tx.insert_notification(notification(challenge)).await?;
            }
            Ok::<_, Error>(fits)
        };
        async move { store.write(insert).await.unwrap() }
    });
    assert_eq!(inserted.await.into_iter().filter(|fits| *fits).count(), MAX_PER_CHALLENGE as usize);
    let count = transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap();
    assert_eq!(count, MAX_PER_CHALLENGE);
}

async fn deleting_a_factor_keeps_its_challenges_and_their_notifications(store: Store) {
    let tree = AccountTree::create(&store).await;
    let EnrolledUser { path, factor, .. } = tree.user;
    transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().unwrap();
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "factor").collect();
    assert_eq!(tree.remaining(&store).await, expected);
}

/// Reads the row with SQL, because the store has no method that reads a notification.
async fn notification_is_stored_unchanged(database: TestDatabase) {
    let store = database.open().await;
    let EnrolledUser { factor, .. } = enrolled_user(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let longest = notification(challenge);
    let shortest = changed(notification(challenge), |notification| {
        (notification.ttl, notification.created_at) = (Ttl::new(0).unwrap(), MAX_TIME);
    });
    add(&store, [longest, shortest]).await;
    let line = |notification: &domain::notifications::Notification| {
        let domain::notifications::Notification { sid, challenge_sid, ttl, created_at } = notification;
        let (sid, challenge_sid) = (hex_digits(sid.to_bytes()), hex_digits(challenge_sid.to_bytes()));
        format!("{sid}|{challenge_sid}|{}|{}", ttl.get(), created_at.micros())
    };
    let sql = "SELECT sid, challenge_sid, ttl, created_at FROM notifications ORDER BY sid";
    // PostgreSQL writes these columns as UUIDs, with hyphens.
    let found = database.sql(sql).await.replace('-', "");
    assert_eq!(found, format!("{}\n{}", line(longest), line(shortest)));
}
