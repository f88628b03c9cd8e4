//! Challenges and their answers.

use std::num::NonZeroU32;

use domain::challenges::{
    Answer, AnswerDigest, Details, MAX_LIFETIME_SECONDS, Message, PushChallenge, State, Status,
};
use domain::factors::PushFactor;
use domain::{Challenge, ChallengeSid, EntitySid, FactorSid, Sid as _, Timestamp};
use store::{ChallengeFilter, Conflict, Error, Store};

use crate::concurrency::run_concurrently;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    challenge_is_read_back_unchanged,
    inserted_challenge_is_pending_regardless_of_the_given_state,
    challenge_is_not_found_with_a_wrong_path_or_sid,
    challenge_can_be_inserted_without_its_factor_but_not_without_its_entity,
    challenge_cannot_be_inserted_twice,
    answer_changes_only_the_answered_challenge,
    answered_challenge_cannot_be_answered_again,
    only_the_payload_that_answered_a_challenge_is_recognized,
    exactly_one_of_a_hundred_concurrent_answers_is_accepted,
    expired_challenge_cannot_be_answered,
    unknown_challenge_cannot_be_answered,
    metadata_of_pending_answered_and_expired_challenges_can_be_replaced,
    challenge_metadata_is_not_replaced_with_a_wrong_path_or_sid,
    challenge_list_is_complete_and_ordered_with_every_page_size,
    filtered_challenge_list_is_complete_and_ordered_with_every_page_size,
    challenge_list_excludes_challenges_of_other_entities,
    challenges_are_filtered_by_factor,
    challenges_are_filtered_by_their_current_status,
    challenges_with_the_minimum_and_maximum_expiry_times_expire_correctly,
    old_challenges_are_deleted_in_batches_oldest_first,
    notifications_are_deleted_with_their_challenge,
    creation_time_of_the_nth_latest_challenge_in_a_window_is_returned,
    next_pending_slot_is_the_nth_latest_expiry_of_the_pending_challenges,
}

async fn challenge_is_read_back_unchanged(store: Store) {
    let EnrolledUser { path, factor, .. } = enrolled_user(&store).await;
    let plain = challenge(factor);
    let full = changed(challenge(factor), |challenge| {
        challenge.kind.details = Details {
            message: Message::from_stored(format!("{TRICKY_TEXT}\r\n\t\u{1}\u{7f}")),
            fields: vec![field("IP", ""), field(&TRICKY_TEXT[..20], TRICKY_TEXT), field("IP", "again")],
            date: Some(Timestamp::from_micros(-1)),
        };
        challenge.kind.hidden_details =
            Some(string_map(&[("txn", TRICKY_TEXT), (TRICKY_TEXT, "\r\n\t\u{1}")]));
        challenge.metadata = Some(string_map(&[("", "")]));
        challenge.expires_at = Timestamp::from_micros(MAX_TIME.micros() - 1);
        (challenge.created_at, challenge.updated_at) = (MIN_TIME, MAX_TIME);
    });
    let empty = changed(challenge(factor), |challenge| {
        (challenge.kind.hidden_details, challenge.metadata) = (Some(string_map(&[])), Some(string_map(&[])));
    });
    for challenge in [plain, full, empty] {
        transact!(store, |tx| tx.insert_push_challenge(challenge)).unwrap();
        assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
        assert_same!(read!(store, |db| db.push_challenge(path, challenge.sid)).unwrap(), Some(challenge));
    }
}

async fn inserted_challenge_is_pending_regardless_of_the_given_state(store: Store) {
    let EnrolledUser { path, factor, .. } = enrolled_user(&store).await;
    let expected = challenge(factor);
    let answered = changed(expected, |it| it.state = State::Answered { answer: Answer::Denied, at: NOW });
    transact!(store, |tx| tx.insert_push_challenge(answered)).unwrap();
    assert_same!(read!(store, |db| db.challenge(path, expected.sid)).unwrap(), Some(expected));
}

async fn challenge_is_not_found_with_a_wrong_path_or_sid(store: Store) {
    let AccountTree { user: EnrolledUser { path, .. }, challenge, .. } = AccountTree::create(&store).await;
    let others = wrong_paths(path).map(|path| (path, challenge.sid));
    for (path, challenge_sid) in others.into_iter().chain([(path, sid())]) {
        assert_same!(read!(store, |db| db.challenge(path, challenge_sid)).unwrap(), None::<Challenge>);
        let found = read!(store, |db| db.push_challenge(path, challenge_sid)).unwrap();
        assert_same!(found, None::<Challenge<PushChallenge>>);
    }
}

async fn challenge_can_be_inserted_without_its_factor_but_not_without_its_entity(store: Store) {
    let EnrolledUser { service, entity: known, .. } = enrolled_user(&store).await;
    let orphan = challenge(factor(entity(service, "user-0002")));
    assert_refused!(transact!(store, |tx| tx.insert_push_challenge(orphan)), Error::ParentGone);
    // A challenge outlives its factor, so the database does not require the factor. When a challenge is created,
    // `lock_push_factor_shared` ensures that the factor exists.
    let factorless = challenge(factor(known));
    transact!(store, |tx| tx.insert_push_challenge(factorless)).unwrap();
}

async fn challenge_cannot_be_inserted_twice(store: Store) {
    let AccountTree { challenge, .. } = AccountTree::create(&store).await;
    let again = transact!(store, |tx| tx.insert_push_challenge(challenge));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn answer_changes_only_the_answered_challenge(store: Store) {
    let EnrolledUser { entity, factor, .. } = enrolled_user(&store).await;
    let at = NOW.plus_seconds(7);
    let mut expected = Vec::new();
    for answer in [Answer::Approved, Answer::Denied] {
        let (challenge, bystander) = (challenge(factor), challenge(factor));
        add(&store, [challenge, bystander]).await;
        let answered = changed(challenge, |challenge| {
            challenge.state = State::Answered { answer, at };
            challenge.updated_at = at;
        });
        let returned =
            transact!(store, |tx| tx.answer_push_challenge(challenge.sid, answer, DIGEST, at)).unwrap();
        assert_same!(returned, Some(answered));
        expected.extend([answered, bystander]);
    }
    let found = read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW)).unwrap();
    assert_same!(found, expected);
}

async fn answered_challenge_cannot_be_answered_again(store: Store) {
    let AccountTree { user: EnrolledUser { path, .. }, challenge, .. } = AccountTree::create(&store).await;
    let answer = async |answer, at| {
        transact!(store, |tx| tx.answer_push_challenge(challenge.sid, answer, DIGEST, at)).unwrap()
    };
    let first = answer(Answer::Denied, NOW).await;
    assert!(first.is_some());
    for again in [Answer::Approved, Answer::Denied] {
        assert_same!(answer(again, NOW.plus_seconds(1)).await, None::<Challenge<PushChallenge>>);
    }
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), first);
}

async fn only_the_payload_that_answered_a_challenge_is_recognized(store: Store) {
    let EnrolledUser { factor, .. } = enrolled_user(&store).await;
    let (answered, pending) = (challenge(factor), challenge(factor));
    add(&store, [answered, pending]).await;
    let is_answered_by = async |sid, digest| read!(store, |db| db.is_answered_by(sid, digest)).unwrap();
    let other = AnswerDigest([0xd2; 32]);
    assert!(!is_answered_by(answered.sid, DIGEST).await);
    for (digest, is_taken) in [(DIGEST, true), (other, false)] {
        let taken =
            transact!(store, |tx| tx.answer_push_challenge(answered.sid, Answer::Approved, digest, NOW));
        assert_eq!(taken.unwrap().is_some(), is_taken);
    }
    for (sid, digest, expected) in
        [(answered.sid, DIGEST, true), (answered.sid, other, false), (pending.sid, DIGEST, false)]
    {
        assert_eq!(is_answered_by(sid, digest).await, expected);
    }
}

async fn exactly_one_of_a_hundred_concurrent_answers_is_accepted(store: Store) {
    let AccountTree { user: EnrolledUser { path, .. }, challenge, .. } = AccountTree::create(&store).await;
    let answers = run_concurrently(100, |number| {
        let store = store.clone();
        let answer = if number % 2 == 0 { Answer::Approved } else { Answer::Denied };
        async move { transact!(store, |tx| tx.answer_push_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap() }
    });
    let accepted: Vec<_> = answers.await.into_iter().flatten().collect();
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(&accepted[0]));
}

async fn expired_challenge_cannot_be_answered(store: Store) {
    let AccountTree { challenge, .. } = AccountTree::create(&store).await;
    let answer = async |at| {
        transact!(store, |tx| tx.answer_push_challenge(challenge.sid, Answer::Approved, DIGEST, at)).unwrap()
    };
    let just_before = Timestamp::from_micros(challenge.expires_at.micros() - 1);
    for late in [MAX_TIME, challenge.expires_at.plus_seconds(1), challenge.expires_at] {
        assert_same!(answer(late).await, None::<Challenge<PushChallenge>>);
    }
    assert!(answer(just_before).await.is_some());
}

async fn unknown_challenge_cannot_be_answered(store: Store) {
    let AccountTree { user: EnrolledUser { path, .. }, challenge, .. } = AccountTree::create(&store).await;
    let answered =
        transact!(store, |tx| tx.answer_push_challenge(sid(), Answer::Approved, DIGEST, NOW)).unwrap();
    assert_same!(answered, None::<Challenge<PushChallenge>>);
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
}

async fn metadata_of_pending_answered_and_expired_challenges_can_be_replaced(store: Store) {
    let EnrolledUser { entity, path, factor, .. } = enrolled_user(&store).await;
    let (pending, answered, bystander) = (challenge(factor), challenge(factor), challenge(factor));
    let expired = changed(challenge(factor), |challenge| challenge.expires_at = MIN_TIME);
    add(&store, [pending, answered, bystander, expired]).await;
    let answered =
        transact!(store, |tx| tx.answer_push_challenge(answered.sid, Answer::Approved, DIGEST, NOW)).unwrap();
    let mut expected = vec![pending, leak(answered.unwrap()), expired];

    for metadata in [string_map(&[(TRICKY_TEXT, TRICKY_TEXT)]), string_map(&[])].map(leak) {
        for challenge in &mut expected {
            *challenge =
                changed(challenge, |it| (it.metadata, it.updated_at) = (Some(metadata.clone()), MAX_TIME));
            let challenge_sid = challenge.sid;
            let set =
                transact!(store, |tx| tx.set_challenge_metadata(path, challenge_sid, metadata, MAX_TIME));
            assert_same!(set.unwrap(), Some(&*challenge));
        }
    }

    expected.insert(2, bystander);
    let found = read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW)).unwrap();
    assert_same!(found, expected);
}

async fn challenge_metadata_is_not_replaced_with_a_wrong_path_or_sid(store: Store) {
    let AccountTree { user: EnrolledUser { path, .. }, challenge, .. } = AccountTree::create(&store).await;
    let metadata = leak(string_map(&[("new", "metadata")]));
    let others = wrong_paths(path).map(|path| (path, challenge.sid));
    for (path, challenge_sid) in others.into_iter().chain([(path, sid())]) {
        let set = transact!(store, |tx| tx.set_challenge_metadata(path, challenge_sid, metadata, NOW));
        assert_same!(set.unwrap(), None::<Challenge>);
    }
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
}

async fn challenge_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let EnrolledUser { entity, factor, .. } = enrolled_user(&store).await;
    let challenges = scattered(|sid: ChallengeSid, time| {
        changed(challenge(factor), |challenge| (challenge.sid, challenge.created_at) = (sid, time))
    });
    add(&store, challenges.clone()).await;
    let all = ChallengeFilter::default();
    let page = async |request| read!(store, |db| db.challenges(entity.sid, all, &request, NOW)).unwrap();
    assert_paged_list(&challenges, page).await;
}

async fn filtered_challenge_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let EnrolledUser { entity, factor: one, .. } = enrolled_user(&store).await;
    let other = factor(entity);
    // Also insert challenges of another factor and answered challenges, which the filter must exclude.
    let scatter = |factor: &'static domain::Factor<PushFactor>, salt: u8| {
        scattered(move |sid: ChallengeSid, time| {
            let mut bytes = sid.to_bytes();
            bytes[15] = salt;
            changed(challenge(factor), |challenge| {
                (challenge.sid, challenge.created_at) = (ChallengeSid::from_bytes(bytes), time);
            })
        })
    };
    let (wanted, answered, others) = (scatter(one, 0), scatter(one, 1), scatter(other, 2));
    add(&store, [other]).await;
    add(&store, [wanted.clone(), answered.clone(), others].concat()).await;
    for challenge in &answered {
        let sid = challenge.sid;
        transact!(store, |tx| tx.answer_push_challenge(sid, Answer::Denied, DIGEST, NOW)).unwrap().unwrap();
    }
    // No challenge outlives the maximum lifetime, so older ones are not looked for.
    let oldest = NOW.plus_seconds(-MAX_LIFETIME_SECONDS);
    let pending: Vec<_> = wanted.into_iter().filter(|challenge| challenge.created_at >= oldest).collect();
    for (status, expected) in [(Status::Pending, pending), (Status::Denied, answered)] {
        let filter = ChallengeFilter { factor_sid: Some(one.sid), status: Some(status) };
        let page =
            async |request| read!(store, |db| db.challenges(entity.sid, filter, &request, NOW)).unwrap();
        assert_paged_list(&expected, page).await;
    }
}

/// Returns the SIDs of the entity's challenges that match `filter` at the time `now`, oldest first.
async fn list(
    store: &Store,
    entity_sid: EntitySid,
    filter: ChallengeFilter,
    now: Timestamp,
) -> Vec<ChallengeSid> {
    let page = read!(store, |db| db.challenges(entity_sid, filter, &ALL, now)).unwrap();
    page.items.iter().map(|challenge| challenge.sid).collect()
}

async fn challenge_list_excludes_challenges_of_other_entities(store: Store) {
    let (one, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    for tree in [&one, &other] {
        let listed = list(&store, tree.user.entity.sid, ChallengeFilter::default(), NOW).await;
        assert_eq!(listed, [tree.challenge.sid]);
    }
    assert_eq!(list(&store, sid(), ChallengeFilter::default(), NOW).await, []);
}

async fn challenges_are_filtered_by_factor(store: Store) {
    let AccountTree { user: EnrolledUser { entity, .. }, challenge: first, .. } =
        AccountTree::create(&store).await;
    let another = factor(entity);
    let second = challenge(another);
    add(&store, [another]).await;
    add(&store, [second]).await;
    let to = async |factor_sid: FactorSid| {
        let filter = ChallengeFilter { factor_sid: Some(factor_sid), status: None };
        list(&store, entity.sid, filter, NOW).await
    };
    assert_eq!(to(first.kind.target.factor_sid).await, [first.sid]);
    assert_eq!(to(another.sid).await, [second.sid]);
    assert_eq!(to(sid()).await, []);
    // Filtering by a factor of another entity returns no challenges.
    let other = AccountTree::create(&store).await;
    assert_eq!(to(other.user.factor.sid).await, []);
}

async fn challenges_are_filtered_by_their_current_status(store: Store) {
    let EnrolledUser { entity, path, factor: one, .. } = enrolled_user(&store).await;
    let to_delete = factor(entity);
    add(&store, [to_delete]).await;
    let ending = |factor, seconds| {
        changed(challenge(factor), |challenge| challenge.expires_at = NOW.plus_seconds(seconds))
    };
    let [short, long, approved, denied] = [10, 20, 10, 10].map(|seconds| ending(one, seconds));
    let (voided, forgotten) = (ending(to_delete, 10), ending(to_delete, -10));
    add(&store, [short, long, approved, denied, voided, forgotten]).await;
    for (challenge, answer) in [(approved, Answer::Approved), (denied, Answer::Denied)] {
        transact!(store, |tx| tx.answer_push_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap().unwrap();
    }
    transact!(store, |tx| tx.delete_factor(path, to_delete.sid, NOW)).unwrap().unwrap();

    let having = async |status, factor_sid, now| {
        list(&store, entity.sid, ChallengeFilter { factor_sid, status: Some(status) }, now).await
    };
    let all = list(&store, entity.sid, ChallengeFilter::default(), NOW).await;
    assert_eq!(all, [short, long, approved, denied, voided, forgotten].map(|it| it.sid));
    let at = |seconds| NOW.plus_seconds(seconds);
    // An unanswered challenge expires exactly at its expiry time.
    assert_eq!(having(Status::Pending, None, at(9)).await, [short.sid, long.sid]);
    assert_eq!(having(Status::Expired, None, at(9)).await, [voided.sid, forgotten.sid]);
    assert_eq!(having(Status::Pending, None, at(10)).await, [long.sid]);
    assert_eq!(having(Status::Expired, None, at(10)).await, [short.sid, voided.sid, forgotten.sid]);
    assert_eq!(having(Status::Pending, None, at(20)).await, []);
    assert_eq!(having(Status::Approved, None, at(20)).await, [approved.sid]);
    assert_eq!(having(Status::Denied, None, at(20)).await, [denied.sid]);
    for (status, listed) in [
        (Status::Pending, vec![]),
        (Status::Expired, vec![voided.sid, forgotten.sid]),
        (Status::Approved, vec![]),
        (Status::Denied, vec![]),
    ] {
        assert_eq!(having(status, Some(to_delete.sid), at(9)).await, listed, "{status:?}");
    }

    // Voided and answered challenges are not counted as expired.
    let count = async |after, until| read!(store, |db| db.count_expired(after, until)).unwrap();
    assert_eq!(count(MIN_TIME, MAX_TIME).await, 3);
    assert_eq!((count(at(-11), at(-10)).await, count(at(-10), at(9)).await), (1, 0));
    assert_eq!((count(at(9), at(10)).await, count(at(10), at(19)).await), (1, 0));
    assert_eq!((count(at(9), at(20)).await, count(at(20), MAX_TIME).await), (2, 0));

    // The database and the domain type compute the same status for every challenge at every time.
    let challenges =
        read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW)).unwrap().items;
    for now in [MIN_TIME, at(-10), at(0), at(9), at(10), at(11), at(20), MAX_TIME] {
        for status in [Status::Pending, Status::Expired, Status::Approved, Status::Denied] {
            let expected = challenges.iter().filter(|challenge| challenge.status(now) == status);
            let expected: Vec<_> = expected.map(|challenge| challenge.sid).collect();
            assert_eq!(having(status, None, now).await, expected, "{status:?} at {now:?}");
        }
    }
}

async fn challenges_with_the_minimum_and_maximum_expiry_times_expire_correctly(store: Store) {
    let EnrolledUser { entity, factor, .. } = enrolled_user(&store).await;
    let ending = |time| changed(challenge(factor), |challenge| challenge.expires_at = time);
    let (already_expired, never_expires) = (ending(MIN_TIME), ending(MAX_TIME));
    add(&store, [already_expired, never_expires]).await;
    let pending = ChallengeFilter { factor_sid: None, status: Some(Status::Pending) };
    assert_eq!(list(&store, entity.sid, pending, MIN_TIME).await, [never_expires.sid]);
    assert_eq!(list(&store, entity.sid, pending, MAX_TIME).await, []);
    let answer = async |challenge: &Challenge<PushChallenge>, at| {
        let challenge_sid = challenge.sid;
        transact!(store, |tx| tx.answer_push_challenge(challenge_sid, Answer::Approved, DIGEST, at)).unwrap()
    };
    assert_same!(answer(already_expired, MIN_TIME).await, None::<Challenge<PushChallenge>>);
    let answered = answer(never_expires, MIN_TIME).await.unwrap();
    assert_eq!(answered.responded_at(), Some(MIN_TIME));
}

async fn old_challenges_are_deleted_in_batches_oldest_first(store: Store) {
    let EnrolledUser { entity, path, factor, .. } = enrolled_user(&store).await;
    let expiring = |second| changed(challenge(factor), |it| it.expires_at = NOW.plus_seconds(second));
    let [c, a, d, e, b] = [-2, -5, -1, 0, -4].map(expiring);
    add(&store, [c, a, d, e, b]).await;
    let before = NOW.plus_seconds(-10);
    assert!(
        transact!(store, |tx| tx.answer_push_challenge(a.sid, Answer::Approved, DIGEST, before))
            .unwrap()
            .is_some()
    );
    assert!(transact!(store, |tx| tx.delete_factor(path, factor.sid, before)).unwrap().is_some());
    let delete = async || transact!(store, |tx| tx.delete_old_challenges(NOW, 3)).unwrap();
    let left = async || {
        let page =
            read!(store, |db| db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW)).unwrap();
        page.items.iter().map(|challenge| challenge.sid).collect::<Vec<_>>()
    };
    assert_eq!(delete().await, 3, "answered and unanswered challenges must be deleted");
    assert_eq!(left().await, [d.sid, e.sid]);
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 0);
    assert_eq!(left().await, [e.sid]);
}

async fn notifications_are_deleted_with_their_challenge(store: Store) {
    let EnrolledUser { factor, .. } = enrolled_user(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let notification = notification(challenge);
    transact!(store, |tx| tx.insert_notification(notification)).unwrap();
    assert_eq!(transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap(), 1);
    assert_eq!(transact!(store, |tx| tx.delete_old_challenges(MAX_TIME, 9)).unwrap(), 1);
    assert_eq!(transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap(), 0);
}

async fn creation_time_of_the_nth_latest_challenge_in_a_window_is_returned(store: Store) {
    let EnrolledUser { entity, factor: asked, .. } = enrolled_user(&store).await;
    let created_at = |second| changed(challenge(asked), |it| it.created_at = NOW.plus_seconds(second));
    let of_another_factor = challenge(factor(entity));
    // The last challenge was created after the window, as if by a clock that is ahead.
    add(&store, [-9, -60, -30, -30, 61].map(created_at)).await;
    add(&store, [of_another_factor]).await;
    for (begin, most, expected) in [
        (-60, 1, Some(-9)),
        (-60, 2, Some(-30)),
        (-60, 3, Some(-30)),
        (-60, 4, None),
        (-61, 4, Some(-60)),
        (-30, 2, None),
        (-9, 1, None),
    ] {
        let most = NonZeroU32::new(most).unwrap();
        let back = read!(store, |db| db.nth_latest_challenge_created_at(
            entity.sid,
            asked.sid,
            NOW.plus_seconds(begin)..NOW.plus_seconds(60),
            most
        ))
        .unwrap();
        assert_eq!(back, expected.map(|second| NOW.plus_seconds(second)), "{most} since {begin}");
    }
}

async fn next_pending_slot_is_the_nth_latest_expiry_of_the_pending_challenges(store: Store) {
    let EnrolledUser { entity, factor: asked, .. } = enrolled_user(&store).await;
    let expiring = |second| changed(challenge(asked), |it| it.expires_at = NOW.plus_seconds(second));
    let [a, b, c, answered] = [10, 300, 20, 400].map(expiring);
    add(&store, [a, b, c, answered]).await;
    add(&store, [challenge(factor(entity))]).await;
    assert!(
        transact!(store, |tx| tx.answer_push_challenge(answered.sid, Answer::Denied, DIGEST, NOW))
            .unwrap()
            .is_some()
    );
    for (now, most, expected) in [
        (0, 1, Some(300)),
        (0, 2, Some(20)),
        (0, 3, Some(10)),
        (0, 4, None),
        (10, 3, None),
        (9, 3, Some(10)),
        (299, 1, Some(300)),
        (300, 1, None),
    ] {
        let most = NonZeroU32::new(most).unwrap();
        let now = NOW.plus_seconds(now);
        let until = read!(store, |db| db.next_pending_slot_at(entity.sid, asked.sid, most, now)).unwrap();
        assert_eq!(until, expected.map(|second| NOW.plus_seconds(second)), "{most} at {now}");
    }
}
