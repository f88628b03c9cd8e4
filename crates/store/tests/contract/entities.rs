//! Entities.

use std::num::NonZeroU32;

use domain::challenges::Answer;
use domain::{Challenge, Entity, EntitySid, Timestamp};
use store::{Conflict, Error, Store};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};

contract! {
    an_entity_comes_back_as_it_was_added,
    an_entity_is_only_found_on_its_path,
    an_entity_needs_its_service,
    an_identity_that_exists_is_left_alone,
    an_identity_is_compared_exactly_and_within_its_service,
    an_entity_sid_is_added_once,
    an_entity_is_ensured_by_adding_it,
    an_entity_is_ensured_by_finding_it,
    entities_are_listed_in_pages,
    a_list_has_the_entities_of_one_service_and_its_account,
    an_entity_goes_with_its_factors_and_challenges,
    an_entity_is_only_deleted_on_its_path,
    a_deleted_identity_can_come_again,
    nothing_of_a_deleted_entity_is_found_by_its_path_while_its_rows_go,
    an_entity_is_found_by_how_far_back_it_is,
}

async fn an_entity_comes_back_as_it_was_added(store: Store) {
    let Family { service, .. } = family(&store).await;
    let plain = entity(service, "user-0002");
    let full = changed(entity(service, &"Zz09_-".repeat(10)), |entity| {
        (entity.created_at, entity.updated_at) = (FIRST, LAST);
    });
    for entity in [plain, full] {
        assert!(transact!(store, |tx| tx.insert_entity(entity)).unwrap());
        let path = path_of(entity);
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(entity));
    }
}

async fn an_entity_is_only_found_on_its_path(store: Store) {
    let Family { path, .. } = family(&store).await;
    for path in wrong_paths(path) {
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), None::<Entity>);
    }
}

async fn an_entity_needs_its_service(store: Store) {
    let Family { account, .. } = family(&store).await;
    let orphan = entity(service(account), "user-0001");
    assert_refused!(transact!(store, |tx| tx.insert_entity(orphan)), Error::ParentGone);
    assert_refused!(transact!(store, |tx| tx.ensure_entity(orphan)), Error::ParentGone);
}

async fn an_identity_that_exists_is_left_alone(store: Store) {
    let Family { service, entity: existing, path, .. } = family(&store).await;
    let again = changed(entity(service, "user-0001"), |entity| {
        (entity.created_at, entity.updated_at) = (LAST, LAST);
    });
    assert!(!transact!(store, |tx| tx.insert_entity(again)).unwrap());
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(existing));
}

async fn an_identity_is_compared_exactly_and_within_its_service(store: Store) {
    let Family { account, service: one, .. } = family(&store).await;
    let another = service(account);
    add(&store, [another]).await;
    let entities = [entity(one, "USER-0001"), entity(one, "user_0001"), entity(another, "user-0001")];
    for entity in entities {
        assert!(transact!(store, |tx| tx.insert_entity(entity)).unwrap());
        let path = path_of(entity);
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(entity));
    }
}

async fn an_entity_sid_is_added_once(store: Store) {
    let Family { entity, .. } = family(&store).await;
    let namesake = changed(entity, |entity| entity.identity = identity("user-0002"));
    let again = transact!(store, |tx| tx.insert_entity(namesake));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    let again = transact!(store, |tx| tx.ensure_entity(namesake));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn an_entity_is_ensured_by_adding_it(store: Store) {
    let Family { service, .. } = family(&store).await;
    let new = entity(service, "user-0002");
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), new);
    let path = path_of(new);
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(new));
}

async fn an_entity_is_ensured_by_finding_it(store: Store) {
    let Family { service, entity: existing, .. } = family(&store).await;
    let new = changed(entity(service, "user-0001"), |entity| {
        (entity.created_at, entity.updated_at) = (LAST, LAST);
    });
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), existing);
    let all = read!(store, |db| db.entities(service.account_sid, service.sid, &ALL)).unwrap();
    assert_same!(all, [existing]);
}

async fn entities_are_listed_in_pages(store: Store) {
    let account = account();
    let service = service(account);
    let entities = scattered(|sid: EntitySid, time| {
        changed(entity(service, &format!("user-{sid}")), |entity| {
            (entity.sid, entity.created_at) = (sid, time);
        })
    });
    add(&store, [account]).await;
    add(&store, [service]).await;
    add(&store, entities.clone()).await;
    let page = async |request| read!(store, |db| db.entities(account.sid, service.sid, &request)).unwrap();
    assert_list(&entities, page).await;
}

async fn a_list_has_the_entities_of_one_service_and_its_account(store: Store) {
    let (one, other) = (family(&store).await, family(&store).await);
    let sibling = service(one.account);
    add(&store, [sibling]).await;
    add(&store, [entity(sibling, "user-0001")]).await;
    let list = async |account: &domain::Account, service: &domain::Service| {
        let (account_sid, service_sid) = (account.sid, service.sid);
        read!(store, |db| db.entities(account_sid, service_sid, &ALL)).unwrap()
    };
    assert_same!(list(one.account, one.service).await, [one.entity]);
    assert_same!(list(other.account, one.service).await, Vec::<Entity>::new());
    assert_same!(list(one.account, other.service).await, Vec::<Entity>::new());
}

async fn an_entity_goes_with_its_factors_and_challenges(store: Store) {
    let (gone, bystander) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let path = gone.family.path;
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_some());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    // The token is the service's: it was made when there may have been no entity yet.
    let rest = ["account", "credential", "alert", "service", "webhook", "access token", "delivery"];
    let found = async || {
        let mut found = gone.remains(&store).await;
        // No path leads to one: this looks at the rows.
        found.retain(|what| *what != "notification");
        found
    };
    assert_eq!(found().await, rest);
    assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 1);
    // Entity, challenge and notification, which goes with the challenge; the factor went at once.
    assert_eq!(remove_all(&store, 100).await, 2);
    assert_eq!(gone.remains(&store).await, rest);
    assert_eq!(bystander.remains(&store).await, Clan::ALL);
}

async fn an_entity_is_only_deleted_on_its_path(store: Store) {
    let clan = Clan::settle(&store).await;
    for path in wrong_paths(clan.family.path) {
        assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    }
    assert_eq!(clan.remains(&store).await, Clan::ALL);
}

async fn a_deleted_identity_can_come_again(store: Store) {
    let Family { service, entity: old, path, .. } = family(&store).await;
    let new = entity(service, old.identity.as_str());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_some());
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), new);
    assert_same!(read!(store, |db| db.factors(new.sid, &ALL)).unwrap(), Vec::<domain::Factor>::new());
}

async fn nothing_of_a_deleted_entity_is_found_by_its_path_while_its_rows_go(store: Store) {
    let clan = Clan::settle(&store).await;
    let Family { account, service, entity: old, path, factor } = clan.family;
    let new = entity(service, old.identity.as_str());
    transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().unwrap();
    let list = async || read!(store, |db| db.entities(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(list().await, Vec::<Entity>::new());
    let window = NOW.plus_seconds(-1)..NOW;
    let back = read!(store, |db| db.entity_back(service.sid, window.clone(), NonZeroU32::MIN)).unwrap();
    assert_eq!(back, None);
    let signer = read!(store, |db| db.factor_by_credential(factor.credential_sid)).unwrap();
    assert!(signer.is_none());

    // The same identity again: what belonged to the old entity does not belong to the new one.
    assert!(transact!(store, |tx| tx.insert_entity(new)).unwrap());
    assert_same!(list().await, [new]);
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(new));
    assert_same!(read!(store, |db| db.challenge(path, clan.challenge.sid)).unwrap(), None::<Challenge>);
    let metadata = keep(string_map(&[("a", "b")]));
    let written =
        transact!(store, |tx| tx.set_challenge_metadata(path, clan.challenge.sid, metadata, NOW)).unwrap();
    assert_same!(written, None::<Challenge>);
    let answered =
        transact!(store, |tx| tx.answer_challenge(clan.challenge.sid, Answer::Approved, DIGEST, NOW))
            .unwrap();
    assert_same!(answered, None::<Challenge>);
    remove_all(&store, 1).await;
    assert_same!(list().await, [new]);
}

async fn an_entity_is_found_by_how_far_back_it_is(store: Store) {
    let Family { account, service: mine, .. } = family(&store).await;
    let made = |number: i64, milliseconds: i64| {
        changed(entity(mine, &format!("back-{number:04}")), |entity| {
            entity.created_at = Timestamp::from_micros(NOW.micros() + milliseconds * 1000);
        })
    };
    let other = service(account);
    add(&store, [other]).await;
    add(&store, [made(1, 100), made(2, 300), made(3, 200), made(4, 60_001), entity(other, "back-0001")])
        .await;
    for (most, expected) in [(1, Some(300)), (2, Some(200)), (3, Some(100)), (4, None)] {
        let most = NonZeroU32::new(most).unwrap();
        let back = read!(store, |db| db.entity_back(mine.sid, NOW..NOW.plus_seconds(60), most)).unwrap();
        assert_eq!(back, expected.map(|it| Timestamp::from_micros(NOW.micros() + it * 1000)), "{most}");
    }
}
