//! Webhooks.

use domain::deliveries::Next;
use domain::webhooks::{EventType, Status, Subscription, Version};
use domain::{Webhook, WebhookSid};
use store::{Conflict, DeliveryFilter, Error, Store, Write};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::places::Place;
use crate::together::at_once;

contract! {
    a_webhook_comes_back_as_it_was_added,
    a_webhook_is_only_found_by_its_service_and_account,
    a_webhook_needs_its_service,
    a_webhook_is_added_once,
    an_update_changes_what_can_change_and_nothing_else,
    an_update_of_a_webhook_that_is_gone_does_nothing,
    changes_of_a_locked_webhook_follow_each_other,
    what_a_webhook_is_owed_goes_to_its_new_address,
    webhooks_are_listed_in_pages,
    a_list_has_the_webhooks_of_one_service,
    an_event_finds_the_enabled_webhooks_of_its_service,
    webhooks_of_all_accounts_are_listed_oldest_first,
    webhooks_are_counted_by_service,
    a_service_never_has_more_webhooks_than_were_counted,
    a_webhook_is_deleted_once_and_alone,
    a_webhook_is_only_deleted_by_its_service_and_account,
}

contract! {
    on disk:
    what_no_webhook_can_hold_is_reported,
}

/// A webhook that shares nothing with an ordinary one.
fn full(like: &Webhook) -> &'static Webhook {
    changed(like, |webhook| {
        webhook.friendly_name = name(AWKWARD);
        webhook.event_types = EventType::ALL.map(Subscription::Only).to_vec();
        webhook.url = url("http://[::1]:8080/a%20b?c=ä&d='\"#ct=200&rc=0&rp=4xx,rt");
        webhook.status = Status::Disabled;
        webhook.version = Version::V1;
        webhook.updated_at = LAST;
    })
}

async fn a_webhook_comes_back_as_it_was_added(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let plain = webhook(service);
    let full = changed(full(plain), |webhook| (webhook.sid, webhook.created_at) = (sid(), FIRST));
    let deaf = changed(plain, |webhook| (webhook.sid, webhook.event_types) = (sid(), Vec::new()));
    for webhook in [plain, full, deaf] {
        transact!(store, |tx| tx.insert_webhook(webhook)).unwrap();
        let found = read!(store, |db| db.webhook(account.sid, service.sid, webhook.sid)).unwrap();
        assert_same!(found, Some(webhook));
        let locked = transact!(store, |tx| tx.lock_webhook(account.sid, service.sid, webhook.sid)).unwrap();
        assert_same!(locked, Some(webhook));
    }
}

async fn a_webhook_is_only_found_by_its_service_and_account(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, family(&store).await);
    let Family { account, service, .. } = clan.family;
    for (account_sid, service_sid, sid) in [
        (other.account.sid, service.sid, clan.webhook.sid),
        (account.sid, other.service.sid, clan.webhook.sid),
        (other.account.sid, other.service.sid, clan.webhook.sid),
        (account.sid, service.sid, sid()),
    ] {
        let found = read!(store, |db| db.webhook(account_sid, service_sid, sid)).unwrap();
        assert_same!(found, None::<Webhook>);
        let locked = transact!(store, |tx| tx.lock_webhook(account_sid, service_sid, sid)).unwrap();
        assert_same!(locked, None::<Webhook>);
    }
}

async fn a_webhook_needs_its_service(store: Store) {
    let Family { account, .. } = family(&store).await;
    let orphan = webhook(service(account));
    assert_refused!(transact!(store, |tx| tx.insert_webhook(orphan)), Error::ParentGone);
}

async fn a_webhook_is_added_once(store: Store) {
    let Clan { webhook, .. } = Clan::settle(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_webhook(webhook)), Error::Conflict(Conflict::Other));
}

async fn an_update_changes_what_can_change_and_nothing_else(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let (before, bystander) = (webhook(service), webhook(service));
    add(&store, [before, bystander]).await;
    let after = full(before);
    let update = changed(after, |webhook| {
        webhook.account_sid = sid();
        webhook.service_sid = sid();
        webhook.created_at = LAST;
    });
    transact!(store, |tx| tx.update_webhook(update)).unwrap();
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [after, bystander]);
}

async fn an_update_of_a_webhook_that_is_gone_does_nothing(store: Store) {
    let clan = Clan::settle(&store).await;
    let Family { account, service, .. } = clan.family;
    let gone = changed(full(clan.webhook), |webhook| webhook.sid = sid());
    transact!(store, |tx| tx.update_webhook(gone)).unwrap();
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [clan.webhook]);
}

async fn changes_of_a_locked_webhook_follow_each_other(store: Store) {
    const CHANGES: usize = 40;
    let Clan { family: Family { account, service, .. }, webhook, .. } = Clan::settle(&store).await;
    // Each makes the name one longer than it found it.
    let change = async move |tx: &mut Write| {
        let mut webhook = tx.lock_webhook(account.sid, service.sid, webhook.sid).await?.unwrap();
        webhook.friendly_name = name(&format!("{}+", webhook.friendly_name));
        tx.update_webhook(&webhook).await
    };
    let changes = at_once(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.webhook(account.sid, service.sid, webhook.sid)).unwrap().unwrap();
    let expected = format!("{}{}", webhook.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.friendly_name.as_str(), expected);
}

async fn what_a_webhook_is_owed_goes_to_its_new_address(store: Store) {
    let Family { service, .. } = family(&store).await;
    let (moving, staying) = (webhook(service), webhook(service));
    let [finished, owed] = [moving, moving].map(delivery);
    let elsewhere = delivery(staying);
    add(&store, [moving, staying]).await;
    add(&store, [finished]).await;
    let finish = async move |tx: &mut Write| {
        let leased = tx.lease_deliveries("worker", &[], 1, NOW, LAST).await?;
        tx.record_attempt("worker", &leased[0], attempt(&leased[0], "failed"), Next::Failed, NOW).await
    };
    assert!(store.write(finish).await.unwrap());
    add(&store, [owed, elsewhere]).await;

    let moved = changed(moving, |webhook| webhook.url = url("http://new.example/hooks"));
    transact!(store, |tx| tx.update_webhook(moved)).unwrap();
    let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 10)).unwrap();
    let destinations = found.iter().map(|it| (it.delivery.id, it.delivery.destination.as_str()));
    assert_eq!(
        destinations.collect::<Vec<_>>(),
        [
            (elsewhere.id, "bank.example.com:443"),
            (owed.id, "new.example:80"),
            (finished.id, "bank.example.com:443"),
        ]
    );
}

async fn webhooks_are_listed_in_pages(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let webhooks = scattered(|sid: WebhookSid, time| {
        changed(webhook(service), |webhook| (webhook.sid, webhook.created_at) = (sid, time))
    });
    add(&store, webhooks.clone()).await;
    let page = async |request| read!(store, |db| db.webhooks(account.sid, service.sid, &request)).unwrap();
    assert_list(&webhooks, page).await;
}

async fn a_list_has_the_webhooks_of_one_service(store: Store) {
    let (one, other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let Family { account, service, .. } = one.family;
    let found = read!(store, |db| db.webhooks(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [one.webhook]);
    for (account_sid, service_sid) in [(other.family.account.sid, service.sid), (account.sid, sid())] {
        let found = read!(store, |db| db.webhooks(account_sid, service_sid, &ALL)).unwrap();
        assert_same!(found, Vec::<Webhook>::new());
    }
}

async fn an_event_finds_the_enabled_webhooks_of_its_service(store: Store) {
    let (one, other) = (family(&store).await, Clan::settle(&store).await);
    let service = one.service;
    let (second, first) = (webhook(service), changed(webhook(service), |it| it.created_at = FIRST));
    let disabled = changed(webhook(service), |webhook| webhook.status = Status::Disabled);
    add(&store, [second, first, disabled]).await;
    let find = async |service_sid| read!(store, |db| db.enabled_webhooks(service_sid)).unwrap();
    assert_same!(find(service.sid).await, [first, second]);
    assert_same!(find(other.family.service.sid).await, [other.webhook]);
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
    let (one, other) = (family(&store).await, family(&store).await);
    let made = |family: Family, second| {
        changed(webhook(family.service), |it| it.created_at = NOW.plus_seconds(second))
    };
    let [third, first, second] = [made(one, 3), made(other, 1), full(made(one, 2))];
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_webhooks()).unwrap(), [first, second, third]);
}

async fn webhooks_are_counted_by_service(store: Store) {
    let (one, other) = (Clan::settle(&store).await, family(&store).await);
    let disabled = changed(webhook(one.family.service), |webhook| webhook.status = Status::Disabled);
    add(&store, [disabled]).await;
    let count = async |service_sid| transact!(store, |tx| tx.count_webhooks(service_sid)).unwrap();
    assert_eq!(count(one.family.service.sid).await, 2);
    assert_eq!(count(other.service.sid).await, 0);
    assert_eq!(count(sid()).await, 0);
}

async fn a_service_never_has_more_webhooks_than_were_counted(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let added = at_once(20, |_| {
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

async fn a_webhook_is_deleted_once_and_alone(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let Family { account, service, .. } = clan.family;
    let delete = async || {
        transact!(store, |tx| tx.delete_webhook(account.sid, service.sid, clan.webhook.sid)).unwrap()
    };
    assert!(delete().await);
    assert!(!delete().await);
    let rest: Vec<_> = Clan::ALL.into_iter().filter(|what| *what != "webhook").collect();
    assert_eq!(clan.remains(&store).await, rest);
    assert_eq!(other.remains(&store).await, Clan::ALL);
}

async fn a_webhook_is_only_deleted_by_its_service_and_account(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, family(&store).await);
    let Family { account, service, .. } = clan.family;
    for (account_sid, service_sid, sid) in [
        (other.account.sid, service.sid, clan.webhook.sid),
        (account.sid, other.service.sid, clan.webhook.sid),
        (account.sid, service.sid, sid()),
    ] {
        assert!(!transact!(store, |tx| tx.delete_webhook(account_sid, service_sid, sid)).unwrap());
    }
    assert_eq!(clan.remains(&store).await, Clan::ALL);
}

async fn what_no_webhook_can_hold_is_reported(place: Place) {
    let store = place.open().await;
    Clan::settle(&store).await;
    for (column, value) in [("event_types", r#"["*", "factor.eaten"]"#), ("url", "ftp://a.example")] {
        place.sql(&format!("UPDATE webhooks SET {column} = '{value}'")).await;
        let found = read!(store, |db| db.all_webhooks());
        assert_refused!(found, Error::Corrupt(which) if which == column);
        place.sql(r#"UPDATE webhooks SET event_types = '["*"]'"#).await;
    }
}
