//! Services.

use std::num::NonZeroU32;

use domain::challenges::Answer;
use domain::factors::Status;
use domain::limits::{OwnLimit, ServiceLimits};
use domain::parameter::Bounded;
use domain::services::{Attachment, Passkeys, Push, RelyingParty, Requirement, Settings, Totp, Whatsapp};
use domain::text::Text;
use domain::{Order, PageRequest, Service, ServiceSid, Webhook};
use store::{Conflict, Error, Store, Write};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::places::Place;
use crate::together::at_once;

contract! {
    a_service_comes_back_as_it_was_added,
    a_service_is_only_found_by_its_account,
    a_service_needs_its_account,
    a_service_is_added_once,
    an_update_replaces_settings_and_nothing_else,
    an_update_of_a_service_that_is_gone_does_nothing,
    changes_of_a_locked_service_follow_each_other,
    services_are_listed_in_pages,
    a_list_has_the_services_of_one_account,
    a_page_stays_where_it_is_while_services_come_and_go,
    a_service_goes_with_everything_under_it,
    nothing_of_a_deleted_service_is_found_while_its_rows_go,
    a_large_service_goes_in_batches_of_any_size,
    a_service_is_only_deleted_by_its_account,
    limits_of_a_service_change_where_something_is_said,
}

contract! {
    on disk:
    what_no_service_can_hold_is_reported,
}

/// Settings of which each differs from what a new service has.
fn all_settings() -> Settings {
    fn text<const MIN: usize, const MAX: usize>(text: &str) -> Option<Text<MIN, MAX>> {
        Some(Text::from_stored(text.to_owned()))
    }
    Settings {
        friendly_name: name(AWKWARD),
        code_length: Bounded::new(10).unwrap(),
        lookup_enabled: true,
        psd2_enabled: true,
        skip_sms_to_landlines: true,
        dtmf_input_required: true,
        tts_name: text(AWKWARD),
        do_not_share_warning_enabled: true,
        custom_code_enabled: true,
        default_template_sid: Some(sid()),
        verify_event_subscription_enabled: true,
        push: Push { include_date: true, apn_credential_sid: Some(sid()), fcm_credential_sid: Some(sid()) },
        totp: Totp {
            issuer: text(AWKWARD),
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

async fn a_service_comes_back_as_it_was_added(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = service(account);
    let full = keep(Service {
        sid: sid(),
        account_sid: account.sid,
        settings: all_settings(),
        limits: ServiceLimits::default(),
        created_at: FIRST,
        updated_at: LAST,
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

async fn a_service_is_only_found_by_its_account(store: Store) {
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

async fn a_service_needs_its_account(store: Store) {
    let orphan = service(account());
    assert_refused!(transact!(store, |tx| tx.insert_service(orphan)), Error::ParentGone);
}

async fn a_service_is_added_once(store: Store) {
    let Family { service, .. } = family(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_service(service)), Error::Conflict(Conflict::Other));
}

async fn an_update_replaces_settings_and_nothing_else(store: Store) {
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
        service.created_at = LAST;
    });
    transact!(store, |tx| tx.update_service(update)).unwrap();
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), [after, bystander]);
}

async fn an_update_of_a_service_that_is_gone_does_nothing(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let gone = changed(service, |service| service.sid = sid());
    transact!(store, |tx| tx.update_service(gone)).unwrap();
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), [service]);
}

async fn changes_of_a_locked_service_follow_each_other(store: Store) {
    const CHANGES: usize = 40;
    let Family { account, service, .. } = family(&store).await;
    // Each makes the name one longer than it found it.
    let change = async move |tx: &mut Write| {
        let mut service = tx.lock_service(account.sid, service.sid).await?.unwrap();
        service.settings.friendly_name = name(&format!("{}+", service.settings.friendly_name));
        tx.update_service(&service).await
    };
    let changes = at_once(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.service(account.sid, service.sid)).unwrap().unwrap();
    let expected = format!("{}{}", service.settings.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.settings.friendly_name.as_str(), expected);
}

async fn services_are_listed_in_pages(store: Store) {
    let account = account();
    let services = scattered(|sid: ServiceSid, time| {
        changed(service(account), |service| (service.sid, service.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, services.clone()).await;
    let page = async |request| read!(store, |db| db.services(account.sid, &request)).unwrap();
    assert_list(&services, page).await;
}

async fn a_list_has_the_services_of_one_account(store: Store) {
    let (owner, other) = (account(), account());
    let (service, others) = (service(owner), service(other));
    add(&store, [owner, other]).await;
    add(&store, [service, others]).await;
    assert_same!(read!(store, |db| db.services(owner.sid, &ALL)).unwrap(), [service]);
    assert_same!(read!(store, |db| db.services(sid(), &ALL)).unwrap(), Vec::<Service>::new());
}

async fn a_page_stays_where_it_is_while_services_come_and_go(store: Store) {
    let account = account();
    let made = |second| changed(service(account), |service| service.created_at = NOW.plus_seconds(second));
    let [a, b, c, d, e] = [10, 20, 30, 40, 50].map(made);
    add(&store, [account]).await;
    add(&store, [a, b, c, d, e]).await;

    let page = async |request| read!(store, |db| db.services(account.sid, &request)).unwrap();
    let mut request = PageRequest { size: 2, order: Order::Ascending, cursor: None };
    let first = page(request).await;
    assert_same!(first, [a, b]);

    // One before, one on the page that was seen, one on the next; and the row where the page ended goes.
    let [before, within, after] = [5, 15, 25].map(made);
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

async fn a_service_goes_with_everything_under_it(store: Store) {
    let (gone, bystander) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let Family { account, service, .. } = gone.family;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    assert!(!transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    // What is still owed is skipped when its turn comes.
    let rest = ["account", "credential", "alert", "delivery"];
    let found = async || {
        let mut found = gone.remains(&store).await;
        // No path leads to one: this looks at the rows.
        found.retain(|what| *what != "notification");
        found
    };
    assert_eq!(found().await, rest);
    assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 1);
    remove_all(&store, 100).await;
    assert_eq!(gone.remains(&store).await, rest);
    assert_eq!(bystander.remains(&store).await, Clan::ALL);
}

async fn nothing_of_a_deleted_service_is_found_while_its_rows_go(store: Store) {
    let clan = Clan::settle(&store).await;
    let Family { account, service, path, factor, .. } = clan.family;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    assert_same!(read!(store, |db| db.services(account.sid, &ALL)).unwrap(), Vec::<Service>::new());
    assert!(transact!(store, |tx| tx.lock_service(account.sid, service.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.limit_service(service.sid, None, None)).unwrap().is_none());
    assert!(read!(store, |db| db.factor_by_credential(factor.credential_sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.hold_factor(path, factor.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.lock_factor(path, factor.sid)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().is_none());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    assert_same!(read!(store, |db| db.all_webhooks()).unwrap(), Vec::<Webhook>::new());
    // Retention leaves them alone, since it would note each and tell webhooks of it.
    let unverified = changed(factor, |factor| {
        (factor.sid, factor.credential_sid) = (sid(), sid());
        (factor.public_key, factor.status) = (public_key(), Status::Unverified);
    });
    add(&store, [unverified]).await;
    assert!(transact!(store, |tx| tx.delete_unverified_factors(LAST, 9)).unwrap().is_empty());
    let answered =
        transact!(store, |tx| tx.answer_challenge(clan.challenge.sid, Answer::Approved, DIGEST, NOW))
            .unwrap();
    assert!(answered.is_none());
    assert!(read!(store, |db| db.count_deleted()).unwrap() > 0);
}

async fn a_large_service_goes_in_batches_of_any_size(store: Store) {
    let bystander = Clan::settle(&store).await;
    for limit in [1, 7, 1000] {
        let Family { account, service, .. } = family(&store).await;
        // The service, and the entity and factor of the family.
        let mut rows = 3;
        for number in 0..5 {
            let entity = entity(service, &format!("crowd-{number:04}"));
            let factors = [factor(entity), factor(entity)];
            let challenges = [challenge(factors[0]), challenge(factors[0]), challenge(factors[1])];
            add(&store, [entity]).await;
            add(&store, factors).await;
            add(&store, challenges).await;
            add(&store, [access_token(service, "crowd-0001")]).await;
            transact!(store, |tx| tx.note_factor_creation(factors[0])).unwrap();
            rows += 1 + 2 + 3 + 1 + 1;
        }
        // Deleted one by one too, of which some rows are left when the service is deleted.
        let path = path_of(entity(service, "crowd-0001"));
        transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().unwrap();
        assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
        // The factors of that entity went at once.
        assert_eq!(remove_all(&store, limit).await, rows - 2);
        assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 0);
    }
    assert_eq!(bystander.remains(&store).await, Clan::ALL);
}

async fn a_service_is_only_deleted_by_its_account(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, account());
    let Family { account, service, .. } = clan.family;
    add(&store, [other]).await;
    for (account_sid, service_sid) in [(other.sid, service.sid), (sid(), service.sid), (account.sid, sid())] {
        assert!(!transact!(store, |tx| tx.delete_service(account_sid, service_sid, NOW)).unwrap());
    }
    assert_eq!(clan.remains(&store).await, Clan::ALL);
}

async fn what_no_service_can_hold_is_reported(place: Place) {
    let store = place.open().await;
    let Family { account, service, .. } = family(&store).await;
    place.sql("UPDATE services SET settings = '{}'").await;
    let found = read!(store, |db| db.service(account.sid, service.sid));
    assert_refused!(found, Error::Corrupt(column) if column == "settings");
}

async fn limits_of_a_service_change_where_something_is_said(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let five = OwnLimit::Most(NonZeroU32::new(5).unwrap());
    for (pending, per_minute, expected) in [
        (None, None, (OwnLimit::Default, OwnLimit::Default)),
        (Some(five), None, (five, OwnLimit::Default)),
        (None, Some(OwnLimit::Off), (five, OwnLimit::Off)),
        (Some(OwnLimit::Default), Some(five), (OwnLimit::Default, five)),
    ] {
        let limits = ServiceLimits { pending: expected.0, per_minute: expected.1 };
        let limited = changed(service, |service| service.limits = limits);
        let found = transact!(store, |tx| tx.limit_service(service.sid, pending, per_minute)).unwrap();
        assert_eq!(found.unwrap().limits, limits);
        // Settings are changed without them.
        transact!(store, |tx| tx.update_service(service)).unwrap();
        let found = read!(store, |db| db.service(account.sid, service.sid)).unwrap().unwrap();
        assert_eq!(found.limits, limited.limits);
        assert_same!(Some(found), Some(limited));
    }
    assert!(transact!(store, |tx| tx.limit_service(sid(), None, None)).unwrap().is_none());
}
