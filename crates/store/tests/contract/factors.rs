//! Factors: enrollment, updates, reachability and deletion.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use domain::challenges::{Answer, PushChallenge, State};
use domain::factors::{self, Notification, PushFactor, RegistrationToken, Status};
use domain::text::Text;
use domain::{Challenge, Factor, FactorSid, FactorType, Timestamp};
use store::{ChallengeFilter, Conflict, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    factor_is_read_back_unchanged,
    factor_is_not_found_with_a_wrong_path_or_sid,
    factor_is_not_found_by_an_unknown_credential_sid,
    factor_cannot_be_inserted_without_its_entity,
    entity_cannot_have_two_factors_with_the_same_public_key,
    factors_of_different_entities_can_have_the_same_public_key,
    credential_sid_and_factor_sid_cannot_be_reused_by_another_entity,
    factor_update_changes_only_mutable_fields,
    update_of_a_missing_factor_has_no_effect,
    only_the_factor_with_the_reported_sid_and_token_becomes_unreachable,
    factor_is_marked_unreachable_by_exactly_one_of_many_concurrent_writes,
    unreachable_factor_is_reachable_again_with_a_new_token,
    factor_whose_token_was_registered_again_after_the_push_stays_reachable,
    concurrent_report_of_the_old_token_leaves_a_factor_with_a_new_token_reachable,
    unreachable_marks_are_cleared_only_in_the_given_account_or_service,
    concurrent_changes_to_a_locked_factor_are_serialized,
    verified_and_unverified_factors_are_counted_per_entity,
    concurrent_enrollments_do_not_exceed_the_factor_limit,
    factor_list_is_complete_and_ordered_with_every_page_size,
    factor_list_excludes_factors_of_other_entities,
    deleting_a_factor_returns_it_the_first_time_only,
    factor_is_not_deleted_with_a_wrong_path_or_sid,
    public_key_of_a_deleted_factor_can_be_reused,
    deleting_a_factor_voids_its_unanswered_challenges,
    challenges_created_while_their_factor_is_deleted_are_voided,
    challenge_answered_while_its_factor_is_deleted_is_either_answered_or_voided,
    deleting_a_factor_voids_hundreds_of_challenges,
    old_unverified_factors_are_deleted_in_batches_and_returned,
    factor_verified_while_old_factors_are_deleted_is_either_verified_or_deleted,
    factor_creations_are_counted_even_after_the_factors_are_deleted,
}

/// Returns a new factor of the same entity as `like`, with a value in every field.
fn full(like: &Factor<PushFactor>, notification: Notification) -> &'static Factor<PushFactor> {
    changed(like, |factor| {
        factor.sid = sid();
        factor.friendly_name = name(TRICKY_TEXT);
        factor.kind.public_key =
            factors::PublicKey::from_checked_der([public_key().as_der(), &all_bytes()].concat());
        factor.kind.credential_sid = sid();
        factor.status = Status::Unverified;
        factor.kind.app_id = Text::from_stored(TRICKY_TEXT.to_owned());
        factor.kind.sdk_version = Some(Text::from_stored(TRICKY_TEXT.to_owned()));
        factor.kind.notification = notification;
        factor.metadata = Some(string_map(&[("", ""), (TRICKY_TEXT, TRICKY_TEXT), ("lines", "\r\n\t\u{1}")]));
        (factor.created_at, factor.kind.token_registered_at, factor.updated_at) = (MIN_TIME, NOW, MAX_TIME);
    })
}

/// Returns `text` as a registration token (push token), without checking it.
fn token(text: &str) -> RegistrationToken {
    RegistrationToken::from_stored(text.to_owned())
}

async fn factor_is_read_back_unchanged(store: Store) {
    let EnrolledUser { entity, path, factor: like, .. } = enrolled_user(&store).await;
    let plain = factor(entity);
    let apple = full(like, Notification::Apn(token(TRICKY_TEXT)));
    let google = full(like, Notification::Fcm(token(&"🦉".repeat(4096))));
    let no_metadata = changed(factor(entity), |factor| factor.metadata = Some(string_map(&[])));
    for factor in [plain, apple, google, no_metadata] {
        transact!(store, |tx| tx.insert_push_factor(factor)).unwrap();
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(read!(store, |db| db.push_factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(
            read!(store, |db| db.factor_by_credential(factor.kind.credential_sid)).unwrap(),
            Some(factor)
        );
        assert_same!(transact!(store, |tx| tx.lock_push_factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(
            transact!(store, |tx| tx.lock_push_factor_shared(path, factor.sid)).unwrap(),
            Some(factor)
        );
    }
}

async fn factor_is_not_found_with_a_wrong_path_or_sid(store: Store) {
    let EnrolledUser { path, factor, .. } = enrolled_user(&store).await;
    let others = wrong_paths(path).map(|path| (path, factor.sid));
    for (path, factor_sid) in others.into_iter().chain([(path, sid())]) {
        assert_same!(read!(store, |db| db.factor(path, factor_sid)).unwrap(), None::<Factor>);
        assert_same!(
            read!(store, |db| db.push_factor(path, factor_sid)).unwrap(),
            None::<Factor<PushFactor>>
        );
        assert_same!(
            transact!(store, |tx| tx.lock_push_factor(path, factor_sid)).unwrap(),
            None::<Factor<PushFactor>>
        );
        assert_same!(
            transact!(store, |tx| tx.lock_push_factor_shared(path, factor_sid)).unwrap(),
            None::<Factor<PushFactor>>
        );
    }
}

async fn factor_is_not_found_by_an_unknown_credential_sid(store: Store) {
    enrolled_user(&store).await;
    assert_same!(read!(store, |db| db.factor_by_credential(sid())).unwrap(), None::<Factor<PushFactor>>);
}

async fn factor_cannot_be_inserted_without_its_entity(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let orphan = factor(entity(service, "user-0002"));
    assert_refused!(transact!(store, |tx| tx.insert_push_factor(orphan)), Error::ParentGone);
}

async fn entity_cannot_have_two_factors_with_the_same_public_key(store: Store) {
    let EnrolledUser { entity, factor: existing, .. } = enrolled_user(&store).await;
    let again = changed(factor(entity), |factor| factor.kind.public_key = existing.kind.public_key.clone());
    let refused = transact!(store, |tx| tx.insert_push_factor(again));
    assert_refused!(refused, Error::Conflict(Conflict::FactorKey));
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [existing]);
}

async fn factors_of_different_entities_can_have_the_same_public_key(store: Store) {
    let (one, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let same =
        changed(factor(other.entity), |factor| factor.kind.public_key = one.factor.kind.public_key.clone());
    transact!(store, |tx| tx.insert_push_factor(same)).unwrap();
}

async fn credential_sid_and_factor_sid_cannot_be_reused_by_another_entity(store: Store) {
    let (one, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let same_credential =
        changed(factor(other.entity), |factor| factor.kind.credential_sid = one.factor.kind.credential_sid);
    let same_sid = changed(factor(other.entity), |factor| factor.sid = one.factor.sid);
    for factor in [same_credential, same_sid] {
        let refused = transact!(store, |tx| tx.insert_push_factor(factor));
        assert_refused!(refused, Error::Conflict(Conflict::Other));
    }
}

async fn factor_update_changes_only_mutable_fields(store: Store) {
    let EnrolledUser { entity, factor: before, .. } = enrolled_user(&store).await;
    let bystander = factor(entity);
    add(&store, [bystander]).await;
    let mut before = before;
    for notification in [Notification::Apn(token("a")), Notification::Fcm(token("b")), Notification::None] {
        let after = changed(before, |factor| {
            factor.friendly_name = name(TRICKY_TEXT);
            factor.status = Status::Unverified;
            factor.kind.sdk_version = Some(Text::from_stored(TRICKY_TEXT.to_owned()));
            factor.kind.notification = notification;
            factor.kind.unreachable = !factor.kind.unreachable;
            factor.kind.token_registered_at = MIN_TIME;
            factor.updated_at = MAX_TIME;
        });
        let update = changed(after, |factor| {
            factor.identity = identity("other-user");
            factor.kind.public_key = public_key();
            factor.kind.credential_sid = sid();
            factor.kind.app_id = Text::from_stored("com.example.other".to_owned());
            factor.metadata = Some(string_map(&[("new", "metadata")]));
            factor.created_at = MAX_TIME;
        });
        transact!(store, |tx| tx.update_push_factor(update)).unwrap();
        assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [after, bystander]);
        before = after;
    }
}

async fn update_of_a_missing_factor_has_no_effect(store: Store) {
    let EnrolledUser { entity, factor, .. } = enrolled_user(&store).await;
    let missing = changed(factor, |factor| factor.sid = sid());
    transact!(store, |tx| tx.update_push_factor(missing)).unwrap();
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [factor]);
}

/// Inserts an enrolled user and a second factor with `text` as its APNs push token. Returns the user and the second
/// factor.
async fn insert_pushable_factor(store: &Store, text: &str) -> (EnrolledUser, &'static Factor<PushFactor>) {
    let user = enrolled_user(store).await;
    let pushable =
        changed(factor(user.entity), |factor| factor.kind.notification = Notification::Apn(token(text)));
    add(store, [pushable]).await;
    (user, pushable)
}

async fn only_the_factor_with_the_reported_sid_and_token_becomes_unreachable(store: Store) {
    let (user, pushable) = insert_pushable_factor(&store, TRICKY_TEXT).await;
    let same_token = changed(pushable, |it| {
        (it.sid, it.kind.credential_sid, it.kind.public_key) = (sid(), sid(), public_key())
    });
    add(&store, [same_token]).await;
    // An unknown factor, another token and a factor without a token do not match the report.
    for (sid, token) in
        [(sid(), TRICKY_TEXT), (pushable.sid, "another"), (pushable.sid, ""), (user.factor.sid, "")]
    {
        assert!(!transact!(store, |tx| tx.mark_unreachable(sid, token, NOW)).unwrap());
    }
    assert_same!(
        read!(store, |db| db.factors(user.entity.sid, &ALL)).unwrap(),
        [user.factor, pushable, same_token]
    );

    assert!(transact!(store, |tx| tx.mark_unreachable(pushable.sid, TRICKY_TEXT, NOW)).unwrap());
    let unreachable = changed(pushable, |factor| factor.kind.unreachable = true);
    assert_same!(
        read!(store, |db| db.factors(user.entity.sid, &ALL)).unwrap(),
        [user.factor, unreachable, same_token]
    );
}

async fn factor_is_marked_unreachable_by_exactly_one_of_many_concurrent_writes(store: Store) {
    let (_, pushable) = insert_pushable_factor(&store, "token").await;
    let marked = run_concurrently(20, |_| {
        let store = store.clone();
        async move { transact!(store, |tx| tx.mark_unreachable(pushable.sid, "token", NOW)).unwrap() }
    });
    assert_eq!(marked.await.into_iter().filter(|marked| *marked).count(), 1);
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushable.sid, "token", NOW)).unwrap());
}

async fn unreachable_factor_is_reachable_again_with_a_new_token(store: Store) {
    let (EnrolledUser { path, .. }, pushable) = insert_pushable_factor(&store, "old").await;
    assert!(transact!(store, |tx| tx.mark_unreachable(pushable.sid, "old", NOW)).unwrap());
    // An update without a new token leaves the factor unreachable.
    let renamed =
        changed(pushable, |factor| (factor.friendly_name, factor.kind.unreachable) = (name("New"), true));
    let with_new_token = changed(renamed, |factor| {
        (factor.kind.notification, factor.kind.unreachable) = (Notification::Fcm(token("new")), false);
    });
    for factor in [renamed, with_new_token] {
        transact!(store, |tx| tx.update_push_factor(factor)).unwrap();
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
    }

    // A report about the old token that arrives late has no effect.
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushable.sid, "old", NOW)).unwrap());
    assert_same!(read!(store, |db| db.factor(path, pushable.sid)).unwrap(), Some(with_new_token));
    assert!(transact!(store, |tx| tx.mark_unreachable(pushable.sid, "new", NOW)).unwrap());
}

async fn factor_whose_token_was_registered_again_after_the_push_stays_reachable(store: Store) {
    let (_, pushable) = insert_pushable_factor(&store, "token").await;
    let pushed_at = pushable.kind.token_registered_at;
    let registered_again = changed(pushable, |factor| {
        factor.kind.token_registered_at = Timestamp::from_micros(NOW.micros() + 1)
    });
    transact!(store, |tx| tx.update_push_factor(registered_again)).unwrap();
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushable.sid, "token", pushed_at)).unwrap());
    let later = registered_again.kind.token_registered_at;
    assert!(transact!(store, |tx| tx.mark_unreachable(pushable.sid, "token", later)).unwrap());
}

async fn concurrent_report_of_the_old_token_leaves_a_factor_with_a_new_token_reachable(store: Store) {
    for _ in 0..10 {
        let (EnrolledUser { path, .. }, pushable) = insert_pushable_factor(&store, "old").await;
        let update = async move |tx: &mut Write| {
            let mut factor = tx.lock_push_factor(path, pushable.sid).await?.unwrap();
            (factor.kind.notification, factor.kind.unreachable) = (Notification::Apn(token("new")), false);
            tx.update_push_factor(&factor).await
        };
        let both = run_concurrently(2, |number| {
            let store = store.clone();
            async move {
                match number {
                    0 => drop(transact!(store, |tx| tx.mark_unreachable(pushable.sid, "old", NOW)).unwrap()),
                    _ => store.write(update).await.unwrap(),
                }
            }
        });
        both.await;
        let found = read!(store, |db| db.push_factor(path, pushable.sid)).unwrap().unwrap();
        assert!(
            !found.kind.unreachable,
            "a factor with a new token must be reachable, whichever write is first"
        );
    }
}

async fn unreachable_marks_are_cleared_only_in_the_given_account_or_service(store: Store) {
    let (user, mine) = insert_pushable_factor(&store, "token").await;
    let service = service(user.account);
    let entity = entity(service, "user-0001");
    let elsewhere =
        changed(factor(entity), |factor| factor.kind.notification = Notification::Apn(token("token")));
    add(&store, [service]).await;
    add(&store, [entity]).await;
    add(&store, [elsewhere]).await;
    let (_, other) = insert_pushable_factor(&store, "token").await;
    let all = [mine, elsewhere, other];
    for (account_sid, service_sid, cleared) in [
        (user.account.sid, None, [true, true, false]),
        (user.account.sid, Some(user.service.sid), [true, false, false]),
        (user.account.sid, Some(service.sid), [false, true, false]),
        (user.account.sid, Some(other.service_sid), [false, false, false]),
        (sid(), None, [false, false, false]),
    ] {
        for factor in all {
            transact!(store, |tx| tx.mark_unreachable(factor.sid, "token", NOW)).unwrap();
        }
        transact!(store, |tx| tx.clear_unreachable(account_sid, service_sid)).unwrap();
        for (before, cleared) in all.into_iter().zip(cleared) {
            let found = read!(store, |db| db.factor_by_credential(before.kind.credential_sid)).unwrap();
            assert_same!(found, Some(changed(before, |factor| factor.kind.unreachable = !cleared)));
        }
    }
}

async fn concurrent_changes_to_a_locked_factor_are_serialized(store: Store) {
    const CHANGES: usize = 40;
    let EnrolledUser { path, factor, .. } = enrolled_user(&store).await;
    // Each change appends one character to the name that it has read, so a lost update would be visible.
    let change = async move |tx: &mut Write| {
        let mut factor = tx.lock_push_factor(path, factor.sid).await?.unwrap();
        factor.friendly_name = name(&format!("{}+", factor.friendly_name));
        tx.update_push_factor(&factor).await
    };
    let changes = run_concurrently(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.factor(path, factor.sid)).unwrap().unwrap();
    let expected = format!("{}{}", factor.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.friendly_name.as_str(), expected);
}

async fn verified_and_unverified_factors_are_counted_per_entity(store: Store) {
    let (one, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let unverified = changed(factor(one.entity), |factor| factor.status = Status::Unverified);
    add(&store, [unverified, factor(one.entity)]).await;
    let count = async |entity_sid| read!(store, |db| db.count_factors(entity_sid, FactorType::Push)).unwrap();
    assert_eq!(count(one.entity.sid).await, 3);
    assert_eq!(count(other.entity.sid).await, 1);
    assert_eq!(count(sid()).await, 0);
}

async fn concurrent_enrollments_do_not_exceed_the_factor_limit(store: Store) {
    const MOST: i64 = FactorType::Push.max_per_entity();
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    // Concurrently enroll twice as many devices as one entity may have.
    let enrolled = run_concurrently(2 * MOST as usize, |_| {
        let store = store.clone();
        let new = entity(service, "user-0002");
        let enroll = async move |tx: &mut Write| {
            let entity = tx.ensure_entity(new).await?;
            let fits = tx.count_factors(entity.sid, FactorType::Push).await? < MOST;
            if fits {
                tx.insert_push_factor(factor(&entity)).await?;
            }
            Ok::<_, Error>(fits)
        };
        async move { store.write(enroll).await.unwrap() }
    });
    assert_eq!(enrolled.await.into_iter().filter(|enrolled| *enrolled).count(), MOST as usize);

    let path = path_of(entity(service, "user-0002"));
    let entity = read!(store, |db| db.entity(path)).unwrap().unwrap();
    let factors = read!(store, |db| db.count_factors(entity.sid, FactorType::Push)).unwrap();
    assert_eq!(factors, MOST);
}

async fn factor_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let entity = entity(service, "user-0002");
    let factors = scattered(|sid: FactorSid, time| {
        changed(factor(entity), |factor| (factor.sid, factor.created_at) = (sid, time))
    });
    add(&store, [entity]).await;
    add(&store, factors.clone()).await;
    let page = async |request| read!(store, |db| db.factors(entity.sid, &request)).unwrap();
    assert_paged_list(&factors, page).await;
}

async fn factor_list_excludes_factors_of_other_entities(store: Store) {
    let (one, _other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    assert_same!(read!(store, |db| db.factors(one.entity.sid, &ALL)).unwrap(), [one.factor]);
    assert_same!(read!(store, |db| db.factors(sid(), &ALL)).unwrap(), Vec::<Factor>::new());
}

async fn deleting_a_factor_returns_it_the_first_time_only(store: Store) {
    let EnrolledUser { entity, path, factor: like, .. } = enrolled_user(&store).await;
    let factor = full(like, Notification::Fcm(token("abc")));
    add(&store, [factor]).await;
    let delete = async || transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap();
    assert_same!(delete().await, Some(without_kind(factor)));
    assert_same!(delete().await, None::<Factor<FactorType>>);
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [like]);
}

async fn factor_is_not_deleted_with_a_wrong_path_or_sid(store: Store) {
    let tree = AccountTree::create(&store).await;
    let EnrolledUser { path, factor, .. } = tree.user;
    let others = wrong_paths(path).map(|path| (path, factor.sid));
    for (path, factor_sid) in others.into_iter().chain([(path, sid())]) {
        let deleted = transact!(store, |tx| tx.delete_factor(path, factor_sid, NOW)).unwrap();
        assert_same!(deleted, None::<Factor<FactorType>>);
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
    let challenge = read!(store, |db| db.challenge(path, tree.challenge.sid)).unwrap();
    assert_same!(challenge, Some(tree.challenge));
}

async fn public_key_of_a_deleted_factor_can_be_reused(store: Store) {
    let EnrolledUser { entity, path, factor: old, .. } = enrolled_user(&store).await;
    let new = changed(factor(entity), |factor| factor.kind.public_key = old.kind.public_key.clone());
    transact!(store, |tx| tx.delete_factor(path, old.sid, NOW)).unwrap().unwrap();
    transact!(store, |tx| tx.insert_push_factor(new)).unwrap();
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [new]);
}

async fn deleting_a_factor_voids_its_unanswered_challenges(store: Store) {
    let EnrolledUser { entity, path, factor: to_delete, .. } = enrolled_user(&store).await;
    let deleted_at = NOW.plus_seconds(10);
    let another = factor(entity);
    let ending =
        |seconds| changed(challenge(to_delete), |it| it.expires_at = deleted_at.plus_seconds(seconds));
    let [pending, last_second, just_expired, long_expired] = [200, 1, 0, -5].map(ending);
    let (approved, denied) = (challenge(to_delete), challenge(to_delete));
    let of_another_factor = challenge(another);
    add(&store, [another]).await;
    add(&store, [pending, last_second, just_expired, long_expired, approved, denied, of_another_factor])
        .await;
    let answered = [(approved, Answer::Approved), (denied, Answer::Denied)];
    for (challenge, answer) in answered {
        transact!(store, |tx| tx.answer_push_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap().unwrap();
    }

    transact!(store, |tx| tx.delete_factor(path, to_delete.sid, deleted_at)).unwrap().unwrap();

    let voided = |challenge: &'static Challenge<PushChallenge>| {
        changed(challenge, |it| (it.state, it.updated_at) = (State::Voided, deleted_at))
    };
    let void =
        |challenge: &'static Challenge<PushChallenge>| changed(challenge, |it| it.state = State::Voided);
    let answered = answered
        .map(|(challenge, answer)| changed(challenge, |it| it.state = State::Answered { answer, at: NOW }));
    let expected = [
        voided(pending),
        voided(last_second),
        void(just_expired),
        void(long_expired),
        answered[0],
        answered[1],
        of_another_factor,
    ];
    let found =
        read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, deleted_at)).unwrap();
    assert_same!(found, expected);
    for challenge in [pending, last_second] {
        let late =
            transact!(store, |tx| tx.answer_push_challenge(challenge.sid, Answer::Approved, DIGEST, NOW))
                .unwrap();
        assert_same!(late, None::<Challenge<PushChallenge>>);
    }
}

async fn deleting_a_factor_voids_hundreds_of_challenges(store: Store) {
    let EnrolledUser { entity, path, factor: to_delete, .. } = enrolled_user(&store).await;
    let challenges: Vec<_> = (0..500).map(|_| challenge(to_delete)).collect();
    add(&store, challenges.clone()).await;
    transact!(store, |tx| tx.delete_factor(path, to_delete.sid, NOW)).unwrap().unwrap();

    let listed = async |status| {
        let filter = ChallengeFilter { factor_sid: None, status };
        read!(store, |db| db.challenges(entity.sid, filter, &ALL, NOW)).unwrap().items
    };
    assert_eq!(listed(Some(domain::challenges::Status::Pending)).await.len(), 0);
    assert_eq!(listed(Some(domain::challenges::Status::Expired)).await.len(), challenges.len());
    assert!(listed(None).await.iter().all(|challenge| challenge.state == State::Voided));
    for challenge in challenges {
        let late =
            transact!(store, |tx| tx.answer_push_challenge(challenge.sid, Answer::Approved, DIGEST, NOW))
                .unwrap();
        assert_same!(late, None::<Challenge<PushChallenge>>);
    }
}

async fn challenges_created_while_their_factor_is_deleted_are_voided(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    for _ in 0..20 {
        let to_delete = factor(entity);
        add(&store, [to_delete]).await;
        let opened = run_concurrently(9, |number| {
            let store = store.clone();
            let open = async move |tx: &mut Write| {
                let Some(held) = tx.lock_push_factor_shared(path, to_delete.sid).await? else {
                    return Ok(false);
                };
                tx.insert_push_challenge(challenge(&held)).await?;
                Ok::<_, Error>(true)
            };
            let delete = async move |tx: &mut Write| {
                let deleted = tx.delete_factor(path, to_delete.sid, NOW).await?;
                assert!(deleted.is_some());
                Ok::<_, Error>(false)
            };
            // One of the nine tasks deletes the factor.
            let deletes = number == 4;
            async move { if deletes { store.write(delete).await } else { store.write(open).await } }
        });
        let opened = opened.await.into_iter().map(Result::unwrap).filter(|opened| *opened).count();

        let filter = ChallengeFilter { factor_sid: Some(to_delete.sid), status: None };
        let challenges = read!(store, |db| db.challenges(entity.sid, filter, &ALL, NOW)).unwrap().items;
        assert_eq!(challenges.len(), opened);
        assert!(challenges.iter().all(|challenge| challenge.state == State::Voided), "{challenges:?}");
    }
}

async fn challenge_answered_while_its_factor_is_deleted_is_either_answered_or_voided(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    for _ in 0..20 {
        let factor = factor(entity);
        let challenge = challenge(factor);
        add(&store, [factor]).await;
        add(&store, [challenge]).await;
        let answered = run_concurrently(2, |number| {
            let store = store.clone();
            let answer = async move |tx: &mut Write| {
                let answered = tx.answer_push_challenge(challenge.sid, Answer::Approved, DIGEST, NOW).await?;
                Ok::<_, Error>(answered.is_some())
            };
            let delete = async move |tx: &mut Write| {
                tx.delete_factor(path, factor.sid, NOW).await?;
                Ok::<_, Error>(false)
            };
            async move { if number == 0 { store.write(answer).await } else { store.write(delete).await } }
        });
        let answered = answered.await.into_iter().any(|answered| answered.unwrap());

        let found = read!(store, |db| db.challenge(path, challenge.sid)).unwrap().unwrap();
        let expected =
            if answered { State::Answered { answer: Answer::Approved, at: NOW } } else { State::Voided };
        assert_eq!(found.state, expected);
    }
}

async fn old_unverified_factors_are_deleted_in_batches_and_returned(store: Store) {
    let EnrolledUser { entity, factor: verified, .. } = enrolled_user(&store).await;
    let unverified_since = |second| {
        changed(factor(entity), |factor| {
            (factor.status, factor.created_at) = (Status::Unverified, NOW.plus_seconds(second));
        })
    };
    let [c, a, d, e, b] = [-2, -5, -1, 0, -4].map(unverified_since);
    let old = changed(factor(entity), |factor| factor.created_at = MIN_TIME);
    add(&store, [c, a, d, e, b, old]).await;
    let delete = async || {
        let mut deleted = transact!(store, |tx| tx.delete_unverified_factors(NOW, 3)).unwrap();
        deleted.sort_by_key(|factor| factor.created_at);
        deleted
    };
    assert_same!(delete().await, [a, b, c].map(without_kind));
    assert_same!(delete().await, [without_kind(d)]);
    assert_same!(delete().await, Vec::<Factor<FactorType>>::new());
    let mut left = read!(store, |db| db.factors(entity.sid, &ALL)).unwrap().items;
    left.sort_by_key(|factor| factor.created_at);
    assert_eq!(left.iter().map(|it| it.sid).collect::<BTreeSet<_>>(), [old.sid, verified.sid, e.sid].into());
}

async fn factor_verified_while_old_factors_are_deleted_is_either_verified_or_deleted(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    for _ in 0..20 {
        let slow = changed(factor(entity), |factor| factor.status = Status::Unverified);
        add(&store, [slow]).await;
        let results = run_concurrently(2, |number| {
            let store = store.clone();
            let verify = async move |tx: &mut Write| {
                let Some(mut locked) = tx.lock_push_factor(path, slow.sid).await? else { return Ok(false) };
                locked.status = Status::Verified;
                tx.update_push_factor(&locked).await?;
                Ok::<_, Error>(true)
            };
            let delete = async move |tx: &mut Write| {
                Ok::<_, Error>(tx.delete_unverified_factors(MAX_TIME, 9).await?.is_empty())
            };
            async move { if number == 0 { store.write(verify).await } else { store.write(delete).await } }
        });
        let results: Vec<_> = results.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(results[0], results[1], "the factor must be either verified or deleted");
        let left = read!(store, |db| db.factor(path, slow.sid)).unwrap();
        assert_eq!(left.map(|factor| factor.status), results[0].then_some(Status::Verified));
    }
}

async fn factor_creations_are_counted_even_after_the_factors_are_deleted(store: Store) {
    let EnrolledUser { service, entity: mine, path, .. } = enrolled_user(&store).await;
    let other = entity(service, "user-0002");
    add(&store, [other]).await;
    let created_at = |entity, second| changed(factor(entity), |it| it.created_at = NOW.plus_seconds(second));
    for factor in [
        created_at(mine, 30),
        created_at(mine, 10),
        created_at(mine, 61),
        created_at(mine, 20),
        created_at(other, 40),
    ] {
        add(&store, [factor]).await;
        transact!(store, |tx| tx.record_factor_creation(factor)).unwrap();
        transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap();
    }
    let orphan = factor(entity(service, "user-0003"));
    assert_refused!(transact!(store, |tx| tx.record_factor_creation(orphan)), Error::ParentGone);
    let back = async |begin, most| {
        let (begin, most) = (NOW.plus_seconds(begin), NonZeroU32::new(most).unwrap());
        let back =
            read!(store, |db| db.nth_latest_factor_created_at(mine.sid, begin..NOW.plus_seconds(60), most))
                .unwrap();
        back.map(|at| at.seconds() - NOW.seconds())
    };
    assert_eq!((back(0, 1).await, back(0, 3).await, back(0, 4).await), (Some(30), Some(10), None));
    assert_eq!((back(10, 2).await, back(10, 3).await), (Some(20), None));
    let delete =
        async || transact!(store, |tx| tx.delete_old_factor_creations(NOW.plus_seconds(30), 1)).unwrap();
    assert_eq!((delete().await, delete().await, delete().await), (1, 1, 0));
    assert_eq!((back(0, 1).await, back(0, 2).await), (Some(30), None));
    transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap();
    while transact!(store, |tx| tx.remove_deleted(100)).unwrap() > 0 {}
    assert_eq!(back(0, 1).await, None);
}
