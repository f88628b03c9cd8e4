//! Challenges.

use std::num::NonZeroU32;

use domain::challenges::{Answer, AnswerDigest, Details, Message, State, Status};
use domain::{Challenge, ChallengeSid, EntitySid, FactorSid, Sid as _, Timestamp};
use store::{Conflict, Error, Filter, Store};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::together::at_once;

contract! {
    a_challenge_comes_back_as_it_was_added,
    a_challenge_is_pending_at_first_whatever_is_given,
    a_challenge_is_only_found_on_its_path,
    a_challenge_needs_its_entity_but_no_factor,
    a_challenge_is_added_once,
    an_answer_is_recorded,
    an_answer_is_given_once,
    the_payload_that_answered_is_recognized,
    an_answer_is_given_once_among_many_at_once,
    an_answer_is_given_before_the_expiry,
    an_unknown_challenge_is_not_answered,
    metadata_are_replaced_whatever_became_of_the_challenge,
    metadata_are_only_replaced_on_the_path,
    challenges_are_listed_in_pages,
    filtered_challenges_are_listed_in_pages,
    a_list_has_the_challenges_of_one_entity,
    a_list_has_the_challenges_to_one_factor,
    a_list_has_the_challenges_that_have_a_status_now,
    extreme_times_are_compared_as_any_other,
    old_challenges_are_deleted_in_batches_oldest_first,
    notifications_go_with_their_challenge,
    a_challenge_is_found_by_how_far_back_it_is,
    pending_challenges_are_found_by_when_they_expire,
}

async fn a_challenge_comes_back_as_it_was_added(store: Store) {
    let Family { path, factor, .. } = family(&store).await;
    let plain = challenge(factor);
    let full = changed(challenge(factor), |challenge| {
        challenge.details = Details {
            message: Message::from_stored(format!("{AWKWARD}\r\n\t\u{1}\u{7f}")),
            fields: vec![field("IP", ""), field(&AWKWARD[..20], AWKWARD), field("IP", "again")],
            date: Some(Timestamp::from_micros(-1)),
        };
        challenge.hidden_details = Some(string_map(&[("txn", AWKWARD), (AWKWARD, "\r\n\t\u{1}")]));
        challenge.metadata = Some(string_map(&[("", "")]));
        challenge.expires_at = Timestamp::from_micros(LAST.micros() - 1);
        (challenge.created_at, challenge.updated_at) = (FIRST, LAST);
    });
    let empty = changed(challenge(factor), |challenge| {
        (challenge.hidden_details, challenge.metadata) = (Some(string_map(&[])), Some(string_map(&[])));
    });
    for challenge in [plain, full, empty] {
        transact!(store, |tx| tx.insert_challenge(challenge)).unwrap();
        assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
    }
}

async fn a_challenge_is_pending_at_first_whatever_is_given(store: Store) {
    let Family { path, factor, .. } = family(&store).await;
    let expected = challenge(factor);
    let answered = changed(expected, |it| it.state = State::Answered { answer: Answer::Denied, at: NOW });
    transact!(store, |tx| tx.insert_challenge(answered)).unwrap();
    assert_same!(read!(store, |db| db.challenge(path, expected.sid)).unwrap(), Some(expected));
}

async fn a_challenge_is_only_found_on_its_path(store: Store) {
    let Clan { family: Family { path, .. }, challenge, .. } = Clan::settle(&store).await;
    let others = wrong_paths(path).map(|path| (path, challenge.sid));
    for (path, challenge_sid) in others.into_iter().chain([(path, sid())]) {
        assert_same!(read!(store, |db| db.challenge(path, challenge_sid)).unwrap(), None::<Challenge>);
    }
}

async fn a_challenge_needs_its_entity_but_no_factor(store: Store) {
    let Family { service, entity: known, .. } = family(&store).await;
    let orphan = challenge(factor(entity(service, "user-0002")));
    assert_refused!(transact!(store, |tx| tx.insert_challenge(orphan)), Error::ParentGone);
    // It outlives its factor; that there is one at first is for `hold_factor` to see to.
    let factorless = challenge(factor(known));
    transact!(store, |tx| tx.insert_challenge(factorless)).unwrap();
}

async fn a_challenge_is_added_once(store: Store) {
    let Clan { challenge, .. } = Clan::settle(&store).await;
    let again = transact!(store, |tx| tx.insert_challenge(challenge));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn an_answer_is_recorded(store: Store) {
    let Family { entity, factor, .. } = family(&store).await;
    let at = NOW.plus_seconds(7);
    let mut expected = Vec::new();
    for answer in [Answer::Approved, Answer::Denied] {
        let (challenge, bystander) = (challenge(factor), challenge(factor));
        add(&store, [challenge, bystander]).await;
        let answered = changed(challenge, |challenge| {
            challenge.state = State::Answered { answer, at };
            challenge.updated_at = at;
        });
        let returned = transact!(store, |tx| tx.answer_challenge(challenge.sid, answer, DIGEST, at)).unwrap();
        assert_same!(returned, Some(answered));
        expected.extend([answered, bystander]);
    }
    let found = read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, NOW)).unwrap();
    assert_same!(found, expected);
}

async fn an_answer_is_given_once(store: Store) {
    let Clan { family: Family { path, .. }, challenge, .. } = Clan::settle(&store).await;
    let answer = async |answer, at| {
        transact!(store, |tx| tx.answer_challenge(challenge.sid, answer, DIGEST, at)).unwrap()
    };
    let first = answer(Answer::Denied, NOW).await;
    assert!(first.is_some());
    for again in [Answer::Approved, Answer::Denied] {
        assert_same!(answer(again, NOW.plus_seconds(1)).await, None::<Challenge>);
    }
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), first);
}

async fn the_payload_that_answered_is_recognized(store: Store) {
    let Family { factor, .. } = family(&store).await;
    let (answered, pending) = (challenge(factor), challenge(factor));
    add(&store, [answered, pending]).await;
    let is_answered_by = async |sid, digest| read!(store, |db| db.is_answered_by(sid, digest)).unwrap();
    let other = AnswerDigest([0xd2; 32]);
    assert!(!is_answered_by(answered.sid, DIGEST).await);
    for (digest, is_taken) in [(DIGEST, true), (other, false)] {
        let taken = transact!(store, |tx| tx.answer_challenge(answered.sid, Answer::Approved, digest, NOW));
        assert_eq!(taken.unwrap().is_some(), is_taken);
    }
    for (sid, digest, is) in
        [(answered.sid, DIGEST, true), (answered.sid, other, false), (pending.sid, DIGEST, false)]
    {
        assert_eq!(is_answered_by(sid, digest).await, is);
    }
}

async fn an_answer_is_given_once_among_many_at_once(store: Store) {
    let Clan { family: Family { path, .. }, challenge, .. } = Clan::settle(&store).await;
    let answers = at_once(100, |number| {
        let store = store.clone();
        let answer = if number % 2 == 0 { Answer::Approved } else { Answer::Denied };
        async move { transact!(store, |tx| tx.answer_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap() }
    });
    let given: Vec<_> = answers.await.into_iter().flatten().collect();
    assert_eq!(given.len(), 1, "{given:?}");
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(&given[0]));
}

async fn an_answer_is_given_before_the_expiry(store: Store) {
    let Clan { challenge, .. } = Clan::settle(&store).await;
    let answer = async |at| {
        transact!(store, |tx| tx.answer_challenge(challenge.sid, Answer::Approved, DIGEST, at)).unwrap()
    };
    let just_before = Timestamp::from_micros(challenge.expires_at.micros() - 1);
    for late in [LAST, challenge.expires_at.plus_seconds(1), challenge.expires_at] {
        assert_same!(answer(late).await, None::<Challenge>);
    }
    assert!(answer(just_before).await.is_some());
}

async fn an_unknown_challenge_is_not_answered(store: Store) {
    let Clan { family: Family { path, .. }, challenge, .. } = Clan::settle(&store).await;
    let answered = transact!(store, |tx| tx.answer_challenge(sid(), Answer::Approved, DIGEST, NOW)).unwrap();
    assert_same!(answered, None::<Challenge>);
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
}

async fn metadata_are_replaced_whatever_became_of_the_challenge(store: Store) {
    let Family { entity, path, factor, .. } = family(&store).await;
    let (pending, answered, bystander) = (challenge(factor), challenge(factor), challenge(factor));
    let expired = changed(challenge(factor), |challenge| challenge.expires_at = FIRST);
    add(&store, [pending, answered, bystander, expired]).await;
    let answered =
        transact!(store, |tx| tx.answer_challenge(answered.sid, Answer::Approved, DIGEST, NOW)).unwrap();
    let mut expected = vec![pending, keep(answered.unwrap()), expired];

    for metadata in [string_map(&[(AWKWARD, AWKWARD)]), string_map(&[])].map(keep) {
        for challenge in &mut expected {
            *challenge =
                changed(challenge, |it| (it.metadata, it.updated_at) = (Some(metadata.clone()), LAST));
            let challenge_sid = challenge.sid;
            let set = transact!(store, |tx| tx.set_challenge_metadata(path, challenge_sid, metadata, LAST));
            assert_same!(set.unwrap(), Some(&*challenge));
        }
    }

    expected.insert(2, bystander);
    let found = read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, NOW)).unwrap();
    assert_same!(found, expected);
}

async fn metadata_are_only_replaced_on_the_path(store: Store) {
    let Clan { family: Family { path, .. }, challenge, .. } = Clan::settle(&store).await;
    let metadata = keep(string_map(&[("new", "metadata")]));
    let others = wrong_paths(path).map(|path| (path, challenge.sid));
    for (path, challenge_sid) in others.into_iter().chain([(path, sid())]) {
        let set = transact!(store, |tx| tx.set_challenge_metadata(path, challenge_sid, metadata, NOW));
        assert_same!(set.unwrap(), None::<Challenge>);
    }
    assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
}

async fn challenges_are_listed_in_pages(store: Store) {
    let Family { entity, factor, .. } = family(&store).await;
    let challenges = scattered(|sid: ChallengeSid, time| {
        changed(challenge(factor), |challenge| (challenge.sid, challenge.created_at) = (sid, time))
    });
    add(&store, challenges.clone()).await;
    let all = Filter::default();
    let page = async |request| read!(store, |db| db.challenges(entity.sid, all, &request, NOW)).unwrap();
    assert_list(&challenges, page).await;
}

async fn filtered_challenges_are_listed_in_pages(store: Store) {
    let Family { entity, factor: one, .. } = family(&store).await;
    let other = factor(entity);
    // Among those that are wanted: ones to another factor, and ones that were answered.
    let scatter = |factor: &'static domain::Factor, salt: u8| {
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
    for challenge in answered {
        transact!(store, |tx| tx.answer_challenge(challenge.sid, Answer::Denied, DIGEST, NOW))
            .unwrap()
            .unwrap();
    }
    let filter = Filter { factor_sid: Some(one.sid), status: Some(Status::Pending) };
    let page = async |request| read!(store, |db| db.challenges(entity.sid, filter, &request, NOW)).unwrap();
    assert_list(&wanted, page).await;
}

/// The SIDs of what is listed.
async fn list(store: &Store, entity_sid: EntitySid, filter: Filter, now: Timestamp) -> Vec<ChallengeSid> {
    let page = read!(store, |db| db.challenges(entity_sid, filter, &ALL, now)).unwrap();
    page.items.iter().map(|challenge| challenge.sid).collect()
}

async fn a_list_has_the_challenges_of_one_entity(store: Store) {
    let (one, other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    for clan in [&one, &other] {
        let listed = list(&store, clan.family.entity.sid, Filter::default(), NOW).await;
        assert_eq!(listed, [clan.challenge.sid]);
    }
    assert_eq!(list(&store, sid(), Filter::default(), NOW).await, []);
}

async fn a_list_has_the_challenges_to_one_factor(store: Store) {
    let Clan { family: Family { entity, .. }, challenge: first, .. } = Clan::settle(&store).await;
    let another = factor(entity);
    let anothers = challenge(another);
    add(&store, [another]).await;
    add(&store, [anothers]).await;
    let to = async |factor_sid: FactorSid| {
        let filter = Filter { factor_sid: Some(factor_sid), status: None };
        list(&store, entity.sid, filter, NOW).await
    };
    assert_eq!(to(first.factor_sid).await, [first.sid]);
    assert_eq!(to(another.sid).await, [anothers.sid]);
    assert_eq!(to(sid()).await, []);
    // A factor of another entity's is not this one's.
    let stranger = Clan::settle(&store).await;
    assert_eq!(to(stranger.family.factor.sid).await, []);
}

async fn a_list_has_the_challenges_that_have_a_status_now(store: Store) {
    let Family { entity, path, factor: one, .. } = family(&store).await;
    let doomed = factor(entity);
    add(&store, [doomed]).await;
    let ending = |factor, seconds| {
        changed(challenge(factor), |challenge| challenge.expires_at = NOW.plus_seconds(seconds))
    };
    let [short, long, approved, denied] = [10, 20, 10, 10].map(|seconds| ending(one, seconds));
    let (voided, forgotten) = (ending(doomed, 10), ending(doomed, -10));
    add(&store, [short, long, approved, denied, voided, forgotten]).await;
    for (challenge, answer) in [(approved, Answer::Approved), (denied, Answer::Denied)] {
        transact!(store, |tx| tx.answer_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap().unwrap();
    }
    transact!(store, |tx| tx.delete_factor(path, doomed.sid, NOW)).unwrap().unwrap();

    let having = async |status, factor_sid, now| {
        list(&store, entity.sid, Filter { factor_sid, status: Some(status) }, now).await
    };
    let all = list(&store, entity.sid, Filter::default(), NOW).await;
    assert_eq!(all, [short, long, approved, denied, voided, forgotten].map(|it| it.sid));
    let at = |seconds| NOW.plus_seconds(seconds);
    // Expired means: not before this instant, and no answer.
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
        assert_eq!(having(status, Some(doomed.sid), at(9)).await, listed, "{status:?}");
    }

    // What was voided, or answered, did not expire.
    let count = async |after, until| read!(store, |db| db.count_expired(after, until)).unwrap();
    assert_eq!(count(FIRST, LAST).await, 3);
    assert_eq!((count(at(-11), at(-10)).await, count(at(-10), at(9)).await), (1, 0));
    assert_eq!((count(at(9), at(10)).await, count(at(10), at(19)).await), (1, 0));
    assert_eq!((count(at(9), at(20)).await, count(at(20), LAST).await), (2, 0));

    // The database says what the domain says, of every challenge at every instant.
    let challenges =
        read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, NOW)).unwrap().items;
    for now in [FIRST, at(-10), at(0), at(9), at(10), at(11), at(20), LAST] {
        for status in [Status::Pending, Status::Expired, Status::Approved, Status::Denied] {
            let expected = challenges.iter().filter(|challenge| challenge.status(now) == status);
            let expected: Vec<_> = expected.map(|challenge| challenge.sid).collect();
            assert_eq!(having(status, None, now).await, expected, "{status:?} at {now:?}");
        }
    }
}

async fn extreme_times_are_compared_as_any_other(store: Store) {
    let Family { entity, factor, .. } = family(&store).await;
    let ending = |time| changed(challenge(factor), |challenge| challenge.expires_at = time);
    let (never, for_ever) = (ending(FIRST), ending(LAST));
    add(&store, [never, for_ever]).await;
    let pending = Filter { factor_sid: None, status: Some(Status::Pending) };
    assert_eq!(list(&store, entity.sid, pending, FIRST).await, [for_ever.sid]);
    assert_eq!(list(&store, entity.sid, pending, LAST).await, []);
    let answer = async |challenge: &Challenge, at| {
        let challenge_sid = challenge.sid;
        transact!(store, |tx| tx.answer_challenge(challenge_sid, Answer::Approved, DIGEST, at)).unwrap()
    };
    assert_same!(answer(never, FIRST).await, None::<Challenge>);
    let answered = answer(for_ever, FIRST).await.unwrap();
    assert_eq!(answered.responded_at(), Some(FIRST));
}

async fn old_challenges_are_deleted_in_batches_oldest_first(store: Store) {
    let Family { entity, path, factor, .. } = family(&store).await;
    let expiring = |second| changed(challenge(factor), |it| it.expires_at = NOW.plus_seconds(second));
    let [c, a, d, e, b] = [-2, -5, -1, 0, -4].map(expiring);
    add(&store, [c, a, d, e, b]).await;
    let before = NOW.plus_seconds(-10);
    assert!(
        transact!(store, |tx| tx.answer_challenge(a.sid, Answer::Approved, DIGEST, before))
            .unwrap()
            .is_some()
    );
    assert!(transact!(store, |tx| tx.delete_factor(path, factor.sid, before)).unwrap().is_some());
    let delete = async || transact!(store, |tx| tx.delete_old_challenges(NOW, 3)).unwrap();
    let left = async || {
        let page = read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, NOW)).unwrap();
        page.items.iter().map(|challenge| challenge.sid).collect::<Vec<_>>()
    };
    assert_eq!(delete().await, 3, "whatever became of them");
    assert_eq!(left().await, [d.sid, e.sid]);
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 0);
    assert_eq!(left().await, [e.sid]);
}

async fn notifications_go_with_their_challenge(store: Store) {
    let Family { factor, .. } = family(&store).await;
    let challenge = challenge(factor);
    add(&store, [challenge]).await;
    let notification = notification(challenge);
    transact!(store, |tx| tx.insert_notification(notification)).unwrap();
    assert_eq!(transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap(), 1);
    assert_eq!(transact!(store, |tx| tx.delete_old_challenges(LAST, 9)).unwrap(), 1);
    assert_eq!(transact!(store, |tx| tx.count_notifications(challenge.sid)).unwrap(), 0);
}

async fn a_challenge_is_found_by_how_far_back_it_is(store: Store) {
    let Family { entity, factor: asked, .. } = family(&store).await;
    let made = |second| changed(challenge(asked), |it| it.created_at = NOW.plus_seconds(second));
    let anothers = challenge(factor(entity));
    // The last one is a clock's that was wrong.
    add(&store, [-9, -60, -30, -30, 61].map(made)).await;
    add(&store, [anothers]).await;
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
        let back = read!(store, |db| db.challenge_back(
            asked.sid,
            NOW.plus_seconds(begin)..NOW.plus_seconds(60),
            most
        ))
        .unwrap();
        assert_eq!(back, expected.map(|second| NOW.plus_seconds(second)), "{most} since {begin}");
    }
}

async fn pending_challenges_are_found_by_when_they_expire(store: Store) {
    let Family { entity, factor: asked, .. } = family(&store).await;
    let expiring = |second| changed(challenge(asked), |it| it.expires_at = NOW.plus_seconds(second));
    let [a, b, c, answered] = [10, 300, 20, 400].map(expiring);
    add(&store, [a, b, c, answered]).await;
    add(&store, [challenge(factor(entity))]).await;
    assert!(
        transact!(store, |tx| tx.answer_challenge(answered.sid, Answer::Denied, DIGEST, NOW))
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
        let until = read!(store, |db| db.pending_until(asked.sid, most, NOW.plus_seconds(now))).unwrap();
        assert_eq!(until, expected.map(|second| NOW.plus_seconds(second)), "{most} at {now}");
    }
}
