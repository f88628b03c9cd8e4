//! Alerts: records of failed deliveries and of failures to be expected.

use domain::AlertSid;
use domain::alerts::{Alert, FailedCall, FailedResponse, Level};
use serde_json::json;
use store::{AlertFilter, Conflict, Error, Store};

use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    alert_is_read_back_unchanged,
    alert_is_not_found_with_a_wrong_account_or_sid,
    alert_of_a_missing_account_is_discarded_without_an_error,
    alert_cannot_be_inserted_twice,
    alert_list_is_complete_and_ordered_with_every_page_size,
    filtered_alert_list_is_complete_and_ordered_with_every_page_size,
    alert_list_excludes_alerts_of_other_accounts,
    alerts_are_filtered_by_level_and_time,
    old_alerts_are_deleted_in_batches_oldest_first,
}

async fn alert_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = alert(account);
    let unanswered = changed(plain, |alert| {
        alert.sid = sid();
        alert.service_sid = Some(sid());
        alert.resource_sid = TRICKY_TEXT.to_owned();
        alert.error_code = u32::MAX;
        alert.level = Level::Error;
        alert.text = TRICKY_TEXT.to_owned();
        alert.more_info =
            json!({ "": null, TRICKY_TEXT: [TRICKY_TEXT, 1.5, { "deep": true }], "lines": "\r\n\u{0}" });
        alert.call = Some(FailedCall {
            url: TRICKY_TEXT.to_owned(),
            variables: vec![(TRICKY_TEXT.to_owned(), String::new())],
            response: None,
        });
        alert.created_at = MIN_TIME;
    });
    let answered = changed(unanswered, |alert| {
        alert.sid = sid();
        alert.call.as_mut().unwrap().response = Some(FailedResponse {
            status: u16::MAX,
            headers: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), TRICKY_TEXT.to_owned())],
            // The body comes from the receiver of the webhook, so it can contain any characters.
            body: "\u{0}\u{1b}🦉".repeat(1000),
        });
        alert.created_at = MAX_TIME;
    });
    for alert in [plain, unanswered, answered] {
        transact!(store, |tx| tx.insert_alert(alert)).unwrap();
        assert_same!(read!(store, |db| db.alert(account.sid, alert.sid)).unwrap(), Some(alert));
    }
}

async fn alert_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    for (account_sid, sid) in [(other.sid, tree.alert.sid), (tree.user.account.sid, sid())] {
        assert_same!(read!(store, |db| db.alert(account_sid, sid)).unwrap(), None::<Alert>);
    }
}

async fn alert_of_a_missing_account_is_discarded_without_an_error(store: Store) {
    let missing = account();
    let orphan = alert(missing);
    transact!(store, |tx| tx.insert_alert(orphan)).unwrap();
    assert_same!(read!(store, |db| db.alert(missing.sid, orphan.sid)).unwrap(), None::<Alert>);
}

async fn alert_cannot_be_inserted_twice(store: Store) {
    let AccountTree { alert, .. } = AccountTree::create(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_alert(alert)), Error::Conflict(Conflict::Other));
}

async fn alert_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let account = account();
    let alerts = scattered(|sid: AlertSid, time| {
        changed(alert(account), |alert| (alert.sid, alert.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, alerts.clone()).await;
    let page =
        async |request| read!(store, |db| db.alerts(account.sid, AlertFilter::default(), &request)).unwrap();
    assert_paged_list(&alerts, page).await;
}

async fn filtered_alert_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let account = account();
    let alerts = scattered(|sid: AlertSid, time| {
        changed(alert(account), |alert| (alert.sid, alert.created_at) = (sid, time))
    });
    let errors = scattered(|_: AlertSid, time| {
        changed(alert(account), |alert| (alert.level, alert.created_at) = (Level::Error, time))
    });
    add(&store, [account]).await;
    add(&store, alerts.clone()).await;
    add(&store, errors).await;
    let filter = AlertFilter { level: Some(Level::Warning), from: Some(NOW), to: Some(MAX_TIME) };
    let page = async |request| read!(store, |db| db.alerts(account.sid, filter, &request)).unwrap();
    let expected: Vec<_> =
        alerts.into_iter().filter(|alert| (NOW..MAX_TIME).contains(&alert.created_at)).collect();
    assert_paged_list(&expected, page).await;
}

async fn alert_list_excludes_alerts_of_other_accounts(store: Store) {
    let (one, _other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let list =
        async |account_sid| read!(store, |db| db.alerts(account_sid, AlertFilter::default(), &ALL)).unwrap();
    assert_same!(list(one.user.account.sid).await, [one.alert]);
    assert_same!(list(sid()).await, Vec::<Alert>::new());
}

async fn alerts_are_filtered_by_level_and_time(store: Store) {
    let account = account();
    let created_at = |second, level| {
        changed(alert(account), |alert| {
            (alert.created_at, alert.level) = (NOW.plus_seconds(second), level);
        })
    };
    let (a, b, c) = (created_at(1, Level::Error), created_at(2, Level::Warning), created_at(3, Level::Error));
    add(&store, [account]).await;
    add(&store, [a, b, c]).await;
    let at = |second| Some(NOW.plus_seconds(second));
    for (level, from, to, expected) in [
        (None, None, None, vec![a, b, c]),
        (Some(Level::Error), None, None, vec![a, c]),
        (Some(Level::Warning), None, None, vec![b]),
        (None, at(2), None, vec![b, c]),
        (None, None, at(2), vec![a]),
        (None, at(2), at(3), vec![b]),
        (Some(Level::Error), at(2), at(4), vec![c]),
        (None, at(3), at(2), vec![]),
    ] {
        let filter = AlertFilter { level, from, to };
        let found = read!(store, |db| db.alerts(account.sid, filter, &ALL)).unwrap();
        assert_same!(found, expected);
    }
}

async fn old_alerts_are_deleted_in_batches_oldest_first(store: Store) {
    let (one, other) = (account(), account());
    let created_at = |account, second| changed(alert(account), |it| it.created_at = NOW.plus_seconds(second));
    let [c, a, d, e] = [-2, -5, -1, 0].map(|second| created_at(one, second));
    let b = created_at(other, -4);
    add(&store, [one, other]).await;
    add(&store, [c, a, d, e, b]).await;
    let delete = async || transact!(store, |tx| tx.delete_old_alerts(NOW, 3)).unwrap();
    let left = async || read!(store, |db| db.alerts(one.sid, AlertFilter::default(), &ALL)).unwrap();
    assert_eq!(delete().await, 3);
    assert_same!(left().await, [d, e]);
    assert_same!(read!(store, |db| db.alert(other.sid, b.sid)).unwrap(), None::<Alert>);
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 0);
    assert_same!(left().await, [e]);
}
