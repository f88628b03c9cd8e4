//! Entities: the users of a service.

use std::num::NonZeroU32;

use domain::challenges::Answer;
use domain::{Challenge, Entity, EntitySid, Timestamp};
use store::{Conflict, Error, Store};

use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    entity_is_read_back_unchanged,
    entity_is_not_found_with_a_wrong_path,
    entity_cannot_be_inserted_without_its_service,
    inserting_an_existing_identity_changes_nothing,
    identities_that_differ_in_case_punctuation_or_service_belong_to_different_entities,
    entity_sid_cannot_be_inserted_twice,
    ensuring_a_new_entity_inserts_it,
    ensuring_an_existing_identity_returns_the_existing_entity,
    entity_list_is_complete_and_ordered_with_every_page_size,
    entity_list_excludes_other_services_and_is_empty_for_a_wrong_account,
    deleting_an_entity_deletes_its_factors_and_challenges,
    entity_is_not_deleted_with_a_wrong_path,
    identity_of_a_deleted_entity_can_be_reused,
    resources_of_a_deleted_entity_are_not_found_even_before_their_rows_are_removed,
    creation_time_of_the_nth_latest_entity_in_a_window_is_returned,
}

async fn entity_is_read_back_unchanged(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let plain = entity(service, "user-0002");
    let full = changed(entity(service, &"Zz09_-".repeat(10)), |entity| {
        (entity.created_at, entity.updated_at) = (MIN_TIME, MAX_TIME);
    });
    for entity in [plain, full] {
        assert!(transact!(store, |tx| tx.insert_entity(entity)).unwrap());
        let path = path_of(entity);
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(entity));
    }
}

async fn entity_is_not_found_with_a_wrong_path(store: Store) {
    let EnrolledUser { path, .. } = enrolled_user(&store).await;
    for path in wrong_paths(path) {
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), None::<Entity>);
    }
}

async fn entity_cannot_be_inserted_without_its_service(store: Store) {
    let EnrolledUser { account, .. } = enrolled_user(&store).await;
    let orphan = entity(service(account), "user-0001");
    assert_refused!(transact!(store, |tx| tx.insert_entity(orphan)), Error::ParentGone);
    assert_refused!(transact!(store, |tx| tx.ensure_entity(orphan)), Error::ParentGone);
}

async fn inserting_an_existing_identity_changes_nothing(store: Store) {
    let EnrolledUser { service, entity: existing, path, .. } = enrolled_user(&store).await;
    let again = changed(entity(service, "user-0001"), |entity| {
        (entity.created_at, entity.updated_at) = (MAX_TIME, MAX_TIME);
    });
    assert!(!transact!(store, |tx| tx.insert_entity(again)).unwrap());
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(existing));
}

async fn identities_that_differ_in_case_punctuation_or_service_belong_to_different_entities(store: Store) {
    let EnrolledUser { account, service: one, .. } = enrolled_user(&store).await;
    let another = service(account);
    add(&store, [another]).await;
    let entities = [entity(one, "USER-0001"), entity(one, "user_0001"), entity(another, "user-0001")];
    for entity in entities {
        assert!(transact!(store, |tx| tx.insert_entity(entity)).unwrap());
        let path = path_of(entity);
        assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(entity));
    }
}

async fn entity_sid_cannot_be_inserted_twice(store: Store) {
    let EnrolledUser { entity, .. } = enrolled_user(&store).await;
    let namesake = changed(entity, |entity| entity.identity = identity("user-0002"));
    let again = transact!(store, |tx| tx.insert_entity(namesake));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    let again = transact!(store, |tx| tx.ensure_entity(namesake));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn ensuring_a_new_entity_inserts_it(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let new = entity(service, "user-0002");
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), new);
    let path = path_of(new);
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(new));
}

async fn ensuring_an_existing_identity_returns_the_existing_entity(store: Store) {
    let EnrolledUser { service, entity: existing, .. } = enrolled_user(&store).await;
    let new = changed(entity(service, "user-0001"), |entity| {
        (entity.created_at, entity.updated_at) = (MAX_TIME, MAX_TIME);
    });
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), existing);
    let all = read!(store, |db| db.entities(service.account_sid, service.sid, &ALL)).unwrap();
    assert_same!(all, [existing]);
}

async fn entity_list_is_complete_and_ordered_with_every_page_size(store: Store) {
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
    assert_paged_list(&entities, page).await;
}

async fn entity_list_excludes_other_services_and_is_empty_for_a_wrong_account(store: Store) {
    let (one, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
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

async fn deleting_an_entity_deletes_its_factors_and_challenges(store: Store) {
    let (deleted, bystander) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let path = deleted.user.path;
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_some());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    // The access token remains, because it belongs to the service. It can be older than the entity.
    let of_entity = ["entity", "factor", "challenge", "notification"];
    let remaining: Vec<_> = AccountTree::ALL.into_iter().filter(|name| !of_entity.contains(name)).collect();
    let found = async || {
        let mut found = deleted.remaining(&store).await;
        // Ignore notifications: they are counted by challenge SID, so they are found until their rows are removed.
        found.retain(|name| *name != "notification");
        found
    };
    assert_eq!(found().await, remaining);
    assert_eq!(read!(store, |db| db.count_deleted()).unwrap(), 1);
    // Two rows are removed: the entity and the challenge. The notification is removed with its challenge, and the
    // factor's row was deleted immediately.
    assert_eq!(remove_all(&store, 100).await, 2);
    assert_eq!(deleted.remaining(&store).await, remaining);
    assert_eq!(bystander.remaining(&store).await, AccountTree::ALL);
}

async fn entity_is_not_deleted_with_a_wrong_path(store: Store) {
    let tree = AccountTree::create(&store).await;
    for path in wrong_paths(tree.user.path) {
        assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_none());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn identity_of_a_deleted_entity_can_be_reused(store: Store) {
    let EnrolledUser { service, entity: old, path, .. } = enrolled_user(&store).await;
    let new = entity(service, old.identity.as_str());
    assert!(transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().is_some());
    assert_same!(transact!(store, |tx| tx.ensure_entity(new)).unwrap(), new);
    assert_same!(read!(store, |db| db.factors(new.sid, &ALL)).unwrap(), Vec::<domain::Factor>::new());
}

async fn resources_of_a_deleted_entity_are_not_found_even_before_their_rows_are_removed(store: Store) {
    let tree = AccountTree::create(&store).await;
    let EnrolledUser { account, service, entity: old, path, factor } = tree.user;
    let new = entity(service, old.identity.as_str());
    let deleted = transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap().unwrap();
    assert_eq!((deleted.sid, deleted.factors, deleted.challenges), (old.sid, vec![factor.sid], vec![]));
    let list = async || read!(store, |db| db.entities(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(list().await, Vec::<Entity>::new());
    let window = NOW.plus_seconds(-1)..NOW;
    let back =
        read!(store, |db| db.nth_latest_entity_created_at(service.sid, window.clone(), NonZeroU32::MIN))
            .unwrap();
    assert_eq!(back, None);
    let signer = read!(store, |db| db.factor_by_credential(factor.kind.credential_sid)).unwrap();
    assert!(signer.is_none());

    // A new entity with the same identity does not inherit the resources of the old one.
    assert!(transact!(store, |tx| tx.insert_entity(new)).unwrap());
    assert_same!(list().await, [new]);
    assert_same!(read!(store, |db| db.entity(path)).unwrap(), Some(new));
    assert_same!(read!(store, |db| db.challenge(path, tree.challenge.sid)).unwrap(), None::<Challenge>);
    let metadata = leak(string_map(&[("a", "b")]));
    let written =
        transact!(store, |tx| tx.set_challenge_metadata(path, tree.challenge.sid, metadata, NOW)).unwrap();
    assert_same!(written, None::<Challenge>);
    let answered =
        transact!(store, |tx| tx.answer_push_challenge(tree.challenge.sid, Answer::Approved, DIGEST, NOW))
            .unwrap();
    assert!(answered.is_none());
    remove_all(&store, 1).await;
    assert_same!(list().await, [new]);
}

async fn creation_time_of_the_nth_latest_entity_in_a_window_is_returned(store: Store) {
    let EnrolledUser { account, service: mine, .. } = enrolled_user(&store).await;
    let created_at = |number: i64, milliseconds: i64| {
        changed(entity(mine, &format!("back-{number:04}")), |entity| {
            entity.created_at = Timestamp::from_micros(NOW.micros() + milliseconds * 1000);
        })
    };
    let other = service(account);
    add(&store, [other]).await;
    add(
        &store,
        [
            created_at(1, 100),
            created_at(2, 300),
            created_at(3, 200),
            created_at(4, 60_001),
            entity(other, "back-0001"),
        ],
    )
    .await;
    for (most, expected) in [(1, Some(300)), (2, Some(200)), (3, Some(100)), (4, None)] {
        let most = NonZeroU32::new(most).unwrap();
        let back =
            read!(store, |db| db.nth_latest_entity_created_at(mine.sid, NOW..NOW.plus_seconds(60), most))
                .unwrap();
        assert_eq!(back, expected.map(|it| Timestamp::from_micros(NOW.micros() + it * 1000)), "{most}");
    }
}
