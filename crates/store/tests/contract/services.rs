//! Services and their settings.

use std::num::NonZeroU32;

use domain::challenges::Answer;
use domain::factors::Status;
use domain::limits::{LimitOverride, ServiceLimits};
use domain::parameter::Bounded;
use domain::services::{Attachment, Passkeys, Push, RelyingParty, Requirement, Settings, Totp, Whatsapp};
use domain::text::Text;
use domain::{Order, PageRequest, Service, ServiceSid, Webhook};
use store::{Conflict, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    service_is_read_back_unchanged,
    service_is_not_found_with_a_wrong_account_or_sid,
    service_cannot_be_inserted_without_its_account,
    service_cannot_be_inserted_twice,
    service_update_changes_only_the_settings_and_the_update_time,
    update_of_a_missing_service_has_no_effect,
    concurrent_changes_to_a_locked_service_are_serialized,
    service_list_is_complete_and_ordered_with_every_page_size,
    service_list_excludes_services_of_other_accounts,
    page_position_is_stable_when_services_are_added_and_deleted,
    deleting_a_service_deletes_all_its_resources_except_deliveries,
    resources_of_a_deleted_service_are_not_found_even_before_their_rows_are_removed,
    rows_of_a_deleted_service_are_removed_in_batches_of_any_size,
    service_is_not_deleted_with_a_wrong_account_or_sid,
    setting_service_limits_changes_only_the_given_limits,
}

contract! {
    on disk:
    reading_a_service_with_unreadable_settings_fails,
}

/// Returns settings of which every value differs from the default.
fn all_settings() -> Settings {
    fn text<const MIN: usize, const MAX: usize>(text: &str) -> Option<Text<MIN, MAX>> {
        Some(Text::from_stored(text.to_owned()))
    }
    Settings {
        friendly_name: name(TRICKY_TEXT),
        code_length: Bounded::new(10).unwrap(),
        lookup_enabled: true,
        psd2_enabled: true,
        skip_sms_to_landlines: true,
        dtmf_input_required: true,
        tts_name: text(TRICKY_TEXT),
        do_not_share_warning_enabled: true,
        custom_code_enabled: true,
        default_template_sid: Some(sid()),
        verify_event_subscription_enabled: true,
        push: Push { include_date: true, apn_credential_sid: Some(sid()), fcm_credential_sid: Some(sid()) },
        totp: Totp {
            issuer: text(TRICKY_TEXT),
            time_step: Bounded::new(60),
            code_length: Bounded::new(8),
            skew: Bounded::new(0),
        },
        whatsapp: Whatsapp { msg_service_sid: Some(sid()), from: text("whatsapp:+491234") },
        passkeys: Passkeys {
            relying_party: RelyingParty {
                id: text("example.com"),
                name: text("🦉"),
                origins: Some(vec![Text::from_stored("https://example.com".to_owned())]),
            },
            authenticator_attachment: Some(Attachment::CrossPlatform),
            discoverable_credentials: Some(Requirement::Preferred),
            user_verification: Some(Requirement::Discouraged),
        },
    }
}

async fn service_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = service(account);
    let full = leak(Service {
        sid: sid(),
        account_sid: account.sid,
        settings: all_settings(),
        limits: ServiceLimits::default(),
        created_at: MIN_TIME,
        updated_at: MAX_TIME,
    });
    for service in [plain, full] {
        transact!(store, |tx| tx.insert_service(service)).unwrap();
        assert_same!(read!(store, |db| db.service(account.sid, service.sid)).unwrap(), Some(service));
        assert_same!(
            transact!(store, |tx| tx.lock_service(account.sid, service.sid)).unwrap(),
            Some(service)
        );
    }
}

async fn service_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (owner, other) = (account(), account());
    let service = service(owner);
    add(&store, [owner, other]).await;
    add(&store, [service]).await;
    for (account_sid, service_sid) in [(other.sid, service.sid), (sid(), service.sid), (owner.sid, sid())] {
        let found = read!(store, |db| db.service(account_sid, service_sid)).unwrap();
        assert_same!(found, None::<Service>);
        let locked = transact!(store, |tx| tx.lock_service(account_sid, service_sid)).unwrap();
        assert_same!(locked, None::<Service>);
    }
}

async fn service_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = service(account());
    assert_refused!(transact!(store, |tx| tx.insert_service(orphan)), Error::ParentGone);
}

async fn service_cannot_be_inserted_twice(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_service(service)), Error::Conflict(Conflict::Other));
}

async fn service_update_changes_only_the_settings_and_the_update_time(store: Store) {
    let (account, other) = (account(), account());
    let (before, bystander) = (service(account), service(account));
    add(&store, [account, other]).await;
    add(&store, [before, bystander]).await;

    let after = changed(before, |service| {
        service.settings = all_settings();
        service.updated_at = NOW.plus_seconds(1);
    });
    let update = changed(after, |service| {
        service.account_sid = other.sid;
        service.created_at = MAX_TIME;
    });
    transact!(store, |tx| tx.update_service(update)).unwrap();
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), [after, bystander]);
}

async fn update_of_a_missing_service_has_no_effect(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let missing = changed(service, |service| service.sid = sid());
    transact!(store, |tx| tx.update_service(missing)).unwrap();
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), [service]);
}

async fn concurrent_changes_to_a_locked_service_are_serialized(store: Store) {
    const CHANGES: usize = 40;
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    // Each change appends one character to the name that it has read, so a lost update would be visible.
    let change = async move |tx: &mut Write| {
        let mut service = tx.lock_service(account.sid, service.sid).await?.unwrap();
        service.settings.friendly_name = name(&format!("{}+", service.settings.friendly_name));
        tx.update_service(&service).await
    };
    let changes = run_concurrently(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.service(account.sid, service.sid)).unwrap().unwrap();
    let expected = format!("{}{}", service.settings.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.settings.friendly_name.as_str(), expected);
}

async fn service_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let account = account();
    let services = scattered(|sid: ServiceSid, time| {
        changed(service(account), |service| (service.sid, service.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, services.clone()).await;
    let page = async |request| read!(store, |db| db.services(account.sid, &request)).unwrap();
    assert_paged_list(&services, page).await;
}

async fn service_list_excludes_services_of_other_accounts(store: Store) {
    let (owner, other) = (account(), account());
    let (service, others) = (service(owner), service(other));
    add(&store, [owner, other]).await;
    add(&store, [service, others]).await;
    assert_same!(read!(store, |db| db.services(owner.sid, &ALL)).unwrap(), [service]);
    assert_same!(read!(store, |db| db.services(sid(), &ALL)).unwrap(), Vec::<Service>::new());
}

async fn page_position_is_stable_when_services_are_added_and_deleted(store: Store) {
    let account = account();
    let created_at =
        |second| changed(service(account), |service| service.created_at = NOW.plus_seconds(second));
    let [a, b, c, d, e] = [10, 20, 30, 40, 50].map(created_at);
    add(&store, [account]).await;
    add(&store, [a, b, c, d, e]).await;

    let page = async |request| read!(store, |db| db.services(account.sid, &request)).unwrap();
    let mut request = PageRequest { size: 2, order: Order::Ascending, cursor: None };
    let first = page(request).await;
    assert_same!(first, [a, b]);

    // Insert one service before the first page, one within it and one within the next page. Delete the last service of
    // the first page.
    let [before, within, after] = [5, 15, 25].map(created_at);
    add(&store, [before, within, after]).await;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, b.sid, NOW)).unwrap());

    request.cursor = first.next;
    let second = page(request).await;
    assert_same!(second, [after, c]);
    request.cursor = second.next;
    assert_same!(page(request).await, [d, e]);
    request.cursor = second.previous;
    let back = page(request).await;
    assert_same!(back, [a, within]);
    request.cursor = back.previous;
    assert_same!(page(request).await, [before]);
}

async fn deleting_a_service_deletes_all_its_resources_except_deliveries(store: Store) {
    let (deleted, bystander) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = deleted.user;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    assert!(!transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    // The pending delivery remains. The delivery worker skips it later.
    let remaining = ["account", "safe number", "credential", "outlet", "alert", "template", "delivery"];
    let found = async || {
        let mut found = deleted.remaining(&store).await;
        // Ignore notifications: they are counted by challenge SID, so they are found until their rows are removed.
        found.retain(|name| *name != "notification");
        found
    };
    assert_eq!(found().await, remaining);
    assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 1);
    remove_all(&store, 100).await;
    assert_eq!(deleted.remaining(&store).await, remaining);
    assert_eq!(bystander.remaining(&store).await, AccountTree::ALL);
}

async fn resources_of_a_deleted_service_are_not_found_even_before_their_rows_are_removed(store: Store) {
    let tree = AccountTree::create(&store).await;
    let EnrolledUser { account, service, path, factor, .. } = tree.user;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), Vec::<Service>::new());
    assert!(transact!(store, |tx| tx.lock_service(account.sid, service.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.set_service_limits(service.sid, None, None)).unwrap().is_none());
    assert!(read!(store, |db| db.factor_by_credential(factor.kind.credential_sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.lock_push_factor_shared(path, factor.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.lock_push_factor(path, factor.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    assert_same!(read!(store, |db| db.all_webhooks()).unwrap(), Vec::<Webhook>::new());
    // Housekeeping must skip the unverified factors of a deleted service. Otherwise it would write an audit record and
    // enqueue webhook deliveries for each.
    let unverified = changed(factor, |factor| {
        (factor.sid, factor.kind.credential_sid) = (sid(), sid());
        (factor.kind.public_key, factor.status) = (public_key(), Status::Unverified);
    });
    add(&store, [unverified]).await;
    assert!(transact!(store, |tx| tx.delete_unverified_factors(MAX_TIME, 9)).unwrap().is_empty());
    let answered =
        transact!(store, |tx| tx.answer_push_challenge(tree.challenge.sid, Answer::Approved, DIGEST, NOW))
            .unwrap();
    assert!(answered.is_none());
    assert!(read!(store, |db| db.count_deleted()).unwrap() > 0);
}

async fn rows_of_a_deleted_service_are_removed_in_batches_of_any_size(store: Store) {
    let bystander = AccountTree::create(&store).await;
    for limit in [1, 7, 1000] {
        let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
        // Starts with the rows of the service, its entity and its factor.
        let mut rows = 3;
        for number in 0..5 {
            let entity = entity(service, &format!("crowd-{number:04}"));
            let factors = [factor(entity), factor(entity)];
            let challenges = [challenge(factors[0]), challenge(factors[0]), challenge(factors[1])];
            add(&store, [entity]).await;
            add(&store, factors).await;
            add(&store, challenges).await;
            add(&store, [access_token(service, "crowd-0001")]).await;
            transact!(store, |tx| tx.record_factor_creation(factors[0])).unwrap();
            rows += 1 + 2 + 3 + 1 + 1;
        }
        // Also delete one entity. Some of its rows still exist when the service is deleted.
        let path = path_of(entity(service, "crowd-0001"));
        transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().unwrap();
        assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
        // The rows of that entity's two factors were deleted immediately.
        assert_eq!(remove_all(&store, limit).await, rows - 2);
        assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 0);
    }
    assert_eq!(bystander.remaining(&store).await, AccountTree::ALL);
}

async fn service_is_not_deleted_with_a_wrong_account_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    let EnrolledUser { account, service, .. } = tree.user;
    add(&store, [other]).await;
    for (account_sid, service_sid) in [(other.sid, service.sid), (sid(), service.sid), (account.sid, sid())] {
        assert!(!transact!(store, |tx| tx.delete_service(account_sid, service_sid, NOW)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn reading_a_service_with_unreadable_settings_fails(database: TestDatabase) {
    let store = database.open().await;
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    database.sql("UPDATE services SET settings = '{}'").await;
    let found = read!(store, |db| db.service(account.sid, service.sid));
    assert_refused!(found, Error::Corrupt(column) if column == "settings");
}

async fn setting_service_limits_changes_only_the_given_limits(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let five = LimitOverride::Most(NonZeroU32::new(5).unwrap());
    for (pending, per_minute, expected) in [
        (None, None, (LimitOverride::Default, LimitOverride::Default)),
        (Some(five), None, (five, LimitOverride::Default)),
        (None, Some(LimitOverride::Off), (five, LimitOverride::Off)),
        (Some(LimitOverride::Default), Some(five), (LimitOverride::Default, five)),
    ] {
        let limits = ServiceLimits { pending: expected.0, per_minute: expected.1 };
        let limited = changed(service, |service| service.limits = limits);
        let found = transact!(store, |tx| tx.set_service_limits(service.sid, pending, per_minute)).unwrap();
        assert_eq!(found.unwrap().limits, limits);
        // An update of the settings does not change the limits.
        transact!(store, |tx| tx.update_service(service)).unwrap();
        let found = read!(store, |db| db.service(account.sid, service.sid)).unwrap().unwrap();
        assert_eq!(found.limits, limited.limits);
        assert_same!(Some(found), Some(limited));
    }
    assert!(transact!(store, |tx| tx.set_service_limits(sid(), None, None)).unwrap().is_none());
}
