//! Webhooks: the subscriptions of URLs to events.

use domain::deliveries::{DeliveryId, Next};
use domain::webhooks::{EventType, Status, Subscription, Version};
use domain::{Webhook, WebhookSid};
use store::{Conflict, DeliveryFilter, DeliveryStatus, DueDeliveries, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    webhook_is_read_back_unchanged,
    webhook_is_not_found_with_a_wrong_account_service_or_sid,
    webhook_cannot_be_inserted_without_its_service,
    webhook_cannot_be_inserted_twice,
    webhook_update_changes_only_mutable_fields,
    update_of_a_missing_webhook_has_no_effect,
    concurrent_changes_to_a_locked_webhook_are_serialized,
    only_pending_deliveries_of_a_webhook_are_redirected_and_those_due_become_due_now,
    webhook_list_is_complete_and_ordered_with_every_page_size,
    webhook_list_excludes_webhooks_of_other_services,
    enabled_webhooks_of_a_service_are_listed_oldest_first,
    webhooks_of_all_accounts_are_listed_oldest_first,
    webhooks_are_counted_per_service,
    concurrent_inserts_do_not_exceed_the_webhook_limit,
    webhook_can_be_deleted_only_once_without_affecting_other_resources,
    webhook_is_not_deleted_with_a_wrong_account_service_or_sid,
}

contract! {
    on disk:
    reading_a_webhook_with_an_unreadable_column_fails,
}

/// Returns a copy of `like` whose mutable fields all differ from those of [`webhook`].
fn full(like: &Webhook) -> &'static Webhook {
    changed(like, |webhook| {
        webhook.friendly_name = name(TRICKY_TEXT);
        webhook.event_types = EventType::ALL.map(Subscription::Only).to_vec();
        webhook.url = url("http://[::1]:8080/a%20b?c=ä&d='\"#ct=200&rc=0&rp=4xx,rt");
        webhook.status = Status::Disabled;
        webhook.version = Version::V1;
        webhook.updated_at = MAX_TIME;
    })
}

async fn webhook_is_read_back_unchanged(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let plain = webhook(service);
    let full = changed(full(plain), |webhook| (webhook.sid, webhook.created_at) = (sid(), MIN_TIME));
    let without_events = changed(plain, |webhook| (webhook.sid, webhook.event_types) = (sid(), Vec::new()));
    for webhook in [plain, full, without_events] {
        transact!(store, |tx| tx.insert_webhook(webhook)).unwrap();
        let found = read!(store, |db| db.webhook(account.sid, service.sid, webhook.sid)).unwrap();
        assert_same!(found, Some(webhook));
        let locked = transact!(store, |tx| tx.lock_webhook(account.sid, service.sid, webhook.sid)).unwrap();
        assert_same!(locked, Some(webhook));
    }
}

async fn webhook_is_not_found_with_a_wrong_account_service_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    for (account_sid, service_sid, sid) in [
        (other.account.sid, service.sid, tree.webhook.sid),
        (account.sid, other.service.sid, tree.webhook.sid),
        (other.account.sid, other.service.sid, tree.webhook.sid),
        (account.sid, service.sid, sid()),
    ] {
        let found = read!(store, |db| db.webhook(account_sid, service_sid, sid)).unwrap();
        assert_same!(found, None::<Webhook>);
        let locked = transact!(store, |tx| tx.lock_webhook(account_sid, service_sid, sid)).unwrap();
        assert_same!(locked, None::<Webhook>);
    }
}

async fn webhook_cannot_be_inserted_without_its_service(store: Store) {
    let EnrolledUser { account, .. } = enrolled_user(&store).await;
    let orphan = webhook(service(account));
    assert_refused!(transact!(store, |tx| tx.insert_webhook(orphan)), Error::ParentGone);
}

async fn webhook_cannot_be_inserted_twice(store: Store) {
    let AccountTree { webhook, .. } = AccountTree::create(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_webhook(webhook)), Error::Conflict(Conflict::Other));
}

async fn webhook_update_changes_only_mutable_fields(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let (before, bystander) = (webhook(service), webhook(service));
    add(&store, [before, bystander]).await;
    let after = full(before);
    let update = changed(after, |webhook| {
        webhook.account_sid = sid();
        webhook.service_sid = sid();
        webhook.created_at = MAX_TIME;
    });
    transact!(store, |tx| tx.update_webhook(update)).unwrap();
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [after, bystander]);
}

async fn update_of_a_missing_webhook_has_no_effect(store: Store) {
    let tree = AccountTree::create(&store).await;
    let EnrolledUser { account, service, .. } = tree.user;
    let missing = changed(full(tree.webhook), |webhook| webhook.sid = sid());
    transact!(store, |tx| tx.update_webhook(missing)).unwrap();
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [tree.webhook]);
}

async fn concurrent_changes_to_a_locked_webhook_are_serialized(store: Store) {
    const CHANGES: usize = 40;
    let AccountTree { user: EnrolledUser { account, service, .. }, webhook, .. } =
        AccountTree::create(&store).await;
    // Each change appends one character to the name that it has read, so a lost update would be visible.
    let change = async move |tx: &mut Write| {
        let mut webhook = tx.lock_webhook(account.sid, service.sid, webhook.sid).await?.unwrap();
        webhook.friendly_name = name(&format!("{}+", webhook.friendly_name));
        tx.update_webhook(&webhook).await
    };
    let changes = run_concurrently(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.webhook(account.sid, service.sid, webhook.sid)).unwrap().unwrap();
    let expected = format!("{}{}", webhook.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.friendly_name.as_str(), expected);
}

async fn only_pending_deliveries_of_a_webhook_are_redirected_and_those_due_become_due_now(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let (moving, staying) = (webhook(service), webhook(service));
    let [finished, due, later] = [moving, moving, moving].map(delivery);
    let later = changed(later, |delivery| delivery.next_attempt_at = MAX_TIME);
    let elsewhere = delivery(staying);
    add(&store, [moving, staying]).await;
    add(&store, [finished]).await;
    let finish = async move |tx: &mut Write| {
        let leased = tx.lease_deliveries("worker", &DueDeliveries::ALL, 1, NOW, MAX_TIME).await?.readable;
        tx.record_attempt("worker", &leased[0], attempt(&leased[0], "failed"), Next::Failed, NOW).await
    };
    assert!(store.write(finish).await.unwrap());
    add(&store, [due, later, elsewhere]).await;

    let moved = changed(moving, |webhook| webhook.url = url("http://new.example/hooks"));
    let now = NOW.plus_seconds(7);
    let redirect = async |after| transact!(store, |tx| tx.redirect_deliveries(moved, after, 1, now)).unwrap();
    assert_eq!(redirect(DeliveryId::MIN).await, Some(due.id));
    assert_eq!(redirect(due.id).await, Some(later.id));
    assert_eq!(redirect(later.id).await, None);
    let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 10)).unwrap();
    let redirected = found.iter().map(|DeliveryStatus { delivery, .. }| {
        (delivery.id, delivery.destination.to_string(), delivery.next_attempt_at)
    });
    let (old, new) = ("bank.example.com:443".to_owned(), "new.example:80".to_owned());
    assert_eq!(
        redirected.collect::<Vec<_>>(),
        [
            (elsewhere.id, old.clone(), elsewhere.next_attempt_at),
            (later.id, new.clone(), MAX_TIME),
            (due.id, new, now),
            (finished.id, old, MAX_TIME),
        ]
    );
}

async fn webhook_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let webhooks = scattered(|sid: WebhookSid, time| {
        changed(webhook(service), |webhook| (webhook.sid, webhook.created_at) = (sid, time))
    });
    add(&store, webhooks.clone()).await;
    let page = async |request| read!(store, |db| db.webhooks(account.sid, service.sid, &request)).unwrap();
    assert_paged_list(&webhooks, page).await;
}

async fn webhook_list_excludes_webhooks_of_other_services(store: Store) {
    let (one, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = one.user;
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [one.webhook]);
    for (account_sid, service_sid) in [(other.user.account.sid, service.sid), (account.sid, sid())] {
        let found = read!(store, |db| db.webhooks(account_sid, service_sid, &ALL)).unwrap();
        assert_same!(found, Vec::<Webhook>::new());
    }
}

async fn enabled_webhooks_of_a_service_are_listed_oldest_first(store: Store) {
    let (one, other) = (enrolled_user(&store).await, AccountTree::create(&store).await);
    let service = one.service;
    let (second, first) = (webhook(service), changed(webhook(service), |it| it.created_at = MIN_TIME));
    let disabled = changed(webhook(service), |webhook| webhook.status = Status::Disabled);
    add(&store, [second, first, disabled]).await;
    let find = async |service_sid| read!(store, |db| db.enabled_webhooks(service_sid)).unwrap();
    assert_same!(find(service.sid).await, [first, second]);
    assert_same!(find(other.user.service.sid).await, [other.webhook]);
    assert_same!(find(sid()).await, Vec::<Webhook>::new());

    let enabled = changed(disabled, |webhook| webhook.status = Status::Enabled);
    let disabled = changed(first, |webhook| webhook.status = Status::Disabled);
    for webhook in [enabled, disabled] {
        transact!(store, |tx| tx.update_webhook(webhook)).unwrap();
    }
    assert_same!(find(service.sid).await, [second, enabled]);
}

async fn webhooks_of_all_accounts_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.all_webhooks()).unwrap(), Vec::<Webhook>::new());
    let (one, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let created_at = |user: EnrolledUser, second| {
        changed(webhook(user.service), |it| it.created_at = NOW.plus_seconds(second))
    };
    let [third, first, second] = [created_at(one, 3), created_at(other, 1), full(created_at(one, 2))];
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_webhooks()).unwrap(), [first, second, third]);
}

async fn webhooks_are_counted_per_service(store: Store) {
    let (one, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let disabled = changed(webhook(one.user.service), |webhook| webhook.status = Status::Disabled);
    add(&store, [disabled]).await;
    let count = async |service_sid| transact!(store, |tx| tx.count_webhooks(service_sid)).unwrap();
    assert_eq!(count(one.user.service.sid).await, 2);
    assert_eq!(count(other.service.sid).await, 0);
    assert_eq!(count(sid()).await, 0);
}

async fn concurrent_inserts_do_not_exceed_the_webhook_limit(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let added = run_concurrently(20, |_| {
        let store = store.clone();
        let add = async move |tx: &mut Write| {
            tx.lock_service(account.sid, service.sid).await?;
            let fits = tx.count_webhooks(service.sid).await? < 5;
            if fits {
                tx.insert_webhook(webhook(service)).await?;
            }
            Ok::<_, Error>(fits)
        };
        async move { store.write(add).await.unwrap() }
    });
    assert_eq!(added.await.into_iter().filter(|added| *added).count(), 5);
    assert_eq!(transact!(store, |tx| tx.count_webhooks(service.sid)).unwrap(), 5);
}

async fn webhook_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let delete = async || {
        transact!(store, |tx| tx.delete_webhook(account.sid, service.sid, tree.webhook.sid)).unwrap()
    };
    assert!(delete().await);
    assert!(!delete().await);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "webhook").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn webhook_is_not_deleted_with_a_wrong_account_service_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    for (account_sid, service_sid, sid) in [
        (other.account.sid, service.sid, tree.webhook.sid),
        (account.sid, other.service.sid, tree.webhook.sid),
        (account.sid, service.sid, sid()),
    ] {
        assert!(!transact!(store, |tx| tx.delete_webhook(account_sid, service_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn reading_a_webhook_with_an_unreadable_column_fails(database: TestDatabase) {
    let store = database.open().await;
    AccountTree::create(&store).await;
    for (column, value) in [("event_types", r#"["*", "factor.unknown"]"#), ("url", "ftp://a.example")] {
        database.sql(&format!("UPDATE webhooks SET {column} = '{value}'")).await;
        let found = read!(store, |db| db.all_webhooks());
        assert_refused!(found, Error::Corrupt(which) if which == column);
        database.sql(r#"UPDATE webhooks SET event_types = '["*"]'"#).await;
    }
}
