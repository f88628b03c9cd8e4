//! Notifications of a challenge.

use domain::notifications::{MAX_PER_CHALLENGE, Ttl};
use store::{Conflict, Error, Store, Write};

use crate::fixtures::*;
use crate::places::Place;
use crate::together::at_once;

contract! {
    notifications_are_counted_by_challenge,
    a_notification_needs_its_challenge,
    a_notification_is_added_once,
    a_challenge_never_has_more_notifications_than_were_counted,
    notifications_stay_with_a_challenge_whose_factor_is_gone,
}

contract! {
    on disk:
    a_notification_is_written_as_it_was_added,
}

async fn notifications_are_counted_by_challenge(store: Store) {
    let Family { factor, .. } = family(&store).await;
    let (one, other) = (challenge(factor), challenge(factor));
    add(&store, [one, other]).await;
    add(&store, [one, one, other].map(notification)).await;
    let count = async |challenge_sid| transact!(store, |tx| tx.count_notifications(challenge_sid)).unwrap();
    assert_eq!(count(one.sid).await, 2);
    assert_eq!(count(other.sid).await, 1);
    assert_eq!(count(sid()).await, 0);
}

async fn a_notification_needs_its_challenge(store: Store) {
    let Family { factor, .. } = family(&store).await;
    let orphan = notification(challenge(factor));
    assert_refused!(transact!(store, |tx| tx.insert_notification(orphan)), Error::ParentGone);
}

async fn a_notification_is_added_once(store: Store) {
    let Clan { challenge, .. } = Clan::settle(&store).await;
    let notification = notification(challenge);
    add(&store, [notification]).await;
    let again = transact!(store, |tx| tx.insert_notification(notification));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn a_challenge_never_has_more_notifications_than_were_counted(store: Store) {
    let Family { path, factor, .. } = family(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let asked = at_once(20, |_| {
        let store = store.clone();
        let ask = async move |tx: &mut Write| {
            tx.lock_factor(path, factor.sid).await?;
            let fits = tx.count_notifications(challenge.sid).await? < MAX_PER_CHALLENGE;
            if fits {
                tx.insert_notification(notification(challenge)).await?;
            }
            Ok::<_, Error>(fits)
        };
        async move { store.write(ask).await.unwrap() }
    });
    assert_eq!(asked.await.into_iter().filter(|fits| *fits).count(), MAX_PER_CHALLENGE as usize);
    let count = transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap();
    assert_eq!(count, MAX_PER_CHALLENGE);
}

async fn notifications_stay_with_a_challenge_whose_factor_is_gone(store: Store) {
    let clan = Clan::settle(&store).await;
    let Family { path, factor, .. } = clan.family;
    transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().unwrap();
    let rest: Vec<_> = Clan::ALL.into_iter().filter(|what| *what != "factor").collect();
    assert_eq!(clan.remains(&store).await, rest);
}

/// Nobody reads one so far.
async fn a_notification_is_written_as_it_was_added(place: Place) {
    let store = place.open().await;
    let Family { factor, .. } = family(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let longest = notification(challenge);
    let shortest = changed(notification(challenge), |notification| {
        (notification.ttl, notification.created_at) = (Ttl::new(0).unwrap(), LAST);
    });
    add(&store, [longest, shortest]).await;
    let line = |notification: &domain::notifications::Notification| {
        let domain::notifications::Notification { sid, challenge_sid, ttl, created_at } = notification;
        format!("{sid}|{challenge_sid}|{}|{}", ttl.get(), created_at.micros())
    };
    let found = place.sql("SELECT sid, challenge_sid, ttl, created_at FROM notifications ORDER BY sid").await;
    assert_eq!(found, format!("{}\n{}", line(longest), line(shortest)));
}
