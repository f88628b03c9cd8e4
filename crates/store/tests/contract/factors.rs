//! Factors.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use domain::challenges::{Answer, State};
use domain::factors::{self, MAX_PUSH_FACTORS, Notification, RegistrationToken, Status};
use domain::text::Text;
use domain::{Challenge, Factor, FactorSid, Timestamp};
use store::{Conflict, Error, Filter, Store, Write};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::together::at_once;

contract! {
    a_factor_comes_back_as_it_was_added,
    a_factor_is_only_found_on_its_path,
    an_unknown_credential_finds_no_factor,
    a_factor_needs_its_entity,
    a_key_is_added_once_to_an_entity,
    another_entity_may_have_the_same_key,
    a_credential_is_added_once_anywhere,
    an_update_changes_what_can_change_and_nothing_else,
    an_update_of_a_factor_that_is_gone_does_nothing,
    a_factor_is_unreachable_when_its_very_token_leads_nowhere,
    a_factor_is_told_to_be_unreachable_once,
    a_factor_is_reachable_again_with_a_new_token,
    token_that_was_sent_again_meanwhile_stays_alive,
    a_new_token_does_not_inherit_that_the_old_one_led_nowhere,
    factors_of_an_account_or_a_service_are_tried_again,
    changes_of_a_locked_factor_follow_each_other,
    factors_are_counted_by_entity_verified_or_not,
    an_entity_never_has_more_factors_than_were_counted,
    factors_are_listed_in_pages,
    a_list_has_the_factors_of_one_entity,
    a_factor_is_deleted_once_and_handed_back,
    a_factor_is_only_deleted_on_its_path,
    the_key_of_a_deleted_factor_can_be_added_again,
    a_factor_voids_its_pending_challenges_when_it_goes,
    no_challenge_is_pending_after_its_factor_is_deleted,
    a_challenge_is_answered_or_voided_but_never_both,
    every_challenge_of_a_flooded_factor_is_void_when_it_goes,
    old_factors_that_are_not_verified_are_deleted_in_batches_and_handed_back,
    a_factor_is_verified_or_deleted_for_not_being_so,
    a_factor_that_was_made_counts_when_it_is_deleted_too,
}

/// A factor of which no field is empty.
fn full(like: &Factor, notification: Notification) -> &'static Factor {
    changed(like, |factor| {
        factor.sid = sid();
        factor.friendly_name = name(AWKWARD);
        factor.public_key =
            factors::PublicKey::from_checked_der([public_key().as_der(), &all_bytes()].concat());
        factor.credential_sid = sid();
        factor.status = Status::Unverified;
        factor.app_id = Text::from_stored(AWKWARD.to_owned());
        factor.sdk_version = Some(Text::from_stored(AWKWARD.to_owned()));
        factor.notification = notification;
        factor.metadata = Some(string_map(&[("", ""), (AWKWARD, AWKWARD), ("lines", "\r\n\t\u{1}")]));
        (factor.created_at, factor.token_registered_at, factor.updated_at) = (FIRST, NOW, LAST);
    })
}

fn token(text: &str) -> RegistrationToken {
    RegistrationToken::from_stored(text.to_owned())
}

async fn a_factor_comes_back_as_it_was_added(store: Store) {
    let Family { entity, path, factor: like, .. } = family(&store).await;
    let plain = factor(entity);
    let apple = full(like, Notification::Apn(token(AWKWARD)));
    let google = full(like, Notification::Fcm(token(&"🦉".repeat(4096))));
    let no_metadata = changed(factor(entity), |factor| factor.metadata = Some(string_map(&[])));
    for factor in [plain, apple, google, no_metadata] {
        transact!(store, |tx| tx.insert_factor(factor)).unwrap();
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(
            read!(store, |db| db.factor_by_credential(factor.credential_sid)).unwrap(),
            Some(factor)
        );
        assert_same!(transact!(store, |tx| tx.lock_factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(transact!(store, |tx| tx.hold_factor(path, factor.sid)).unwrap(), Some(factor));
    }
}

async fn a_factor_is_only_found_on_its_path(store: Store) {
    let Family { path, factor, .. } = family(&store).await;
    let others = wrong_paths(path).map(|path| (path, factor.sid));
    for (path, factor_sid) in others.into_iter().chain([(path, sid())]) {
        assert_same!(read!(store, |db| db.factor(path, factor_sid)).unwrap(), None::<Factor>);
        assert_same!(transact!(store, |tx| tx.lock_factor(path, factor_sid)).unwrap(), None::<Factor>);
        assert_same!(transact!(store, |tx| tx.hold_factor(path, factor_sid)).unwrap(), None::<Factor>);
    }
}

async fn an_unknown_credential_finds_no_factor(store: Store) {
    family(&store).await;
    assert_same!(read!(store, |db| db.factor_by_credential(sid())).unwrap(), None::<Factor>);
}

async fn a_factor_needs_its_entity(store: Store) {
    let Family { service, .. } = family(&store).await;
    let orphan = factor(entity(service, "user-0002"));
    assert_refused!(transact!(store, |tx| tx.insert_factor(orphan)), Error::ParentGone);
}

async fn a_key_is_added_once_to_an_entity(store: Store) {
    let Family { entity, factor: existing, .. } = family(&store).await;
    let again = changed(factor(entity), |factor| factor.public_key = existing.public_key.clone());
    let refused = transact!(store, |tx| tx.insert_factor(again));
    assert_refused!(refused, Error::Conflict(Conflict::FactorKey));
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [existing]);
}

async fn another_entity_may_have_the_same_key(store: Store) {
    let (one, other) = (family(&store).await, family(&store).await);
    let same = changed(factor(other.entity), |factor| factor.public_key = one.factor.public_key.clone());
    transact!(store, |tx| tx.insert_factor(same)).unwrap();
}

async fn a_credential_is_added_once_anywhere(store: Store) {
    let (one, other) = (family(&store).await, family(&store).await);
    let same_credential =
        changed(factor(other.entity), |factor| factor.credential_sid = one.factor.credential_sid);
    let same_sid = changed(factor(other.entity), |factor| factor.sid = one.factor.sid);
    for factor in [same_credential, same_sid] {
        let refused = transact!(store, |tx| tx.insert_factor(factor));
        assert_refused!(refused, Error::Conflict(Conflict::Other));
    }
}

async fn an_update_changes_what_can_change_and_nothing_else(store: Store) {
    let Family { entity, factor: before, .. } = family(&store).await;
    let bystander = factor(entity);
    add(&store, [bystander]).await;
    let mut before = before;
    for notification in [Notification::Apn(token("a")), Notification::Fcm(token("b")), Notification::None] {
        let after = changed(before, |factor| {
            factor.friendly_name = name(AWKWARD);
            factor.status = Status::Unverified;
            factor.sdk_version = Some(Text::from_stored(AWKWARD.to_owned()));
            factor.notification = notification;
            factor.unreachable = !factor.unreachable;
            factor.token_registered_at = FIRST;
            factor.updated_at = LAST;
        });
        let update = changed(after, |factor| {
            factor.identity = identity("somebody-else");
            factor.public_key = public_key();
            factor.credential_sid = sid();
            factor.app_id = Text::from_stored("com.example.other".to_owned());
            factor.metadata = Some(string_map(&[("new", "metadata")]));
            factor.created_at = LAST;
        });
        transact!(store, |tx| tx.update_factor(update)).unwrap();
        assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [after, bystander]);
        before = after;
    }
}

async fn an_update_of_a_factor_that_is_gone_does_nothing(store: Store) {
    let Family { entity, factor, .. } = family(&store).await;
    let gone = changed(factor, |factor| factor.sid = sid());
    transact!(store, |tx| tx.update_factor(gone)).unwrap();
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [factor]);
}

/// A factor that is pushed to, in the store.
async fn pushed(store: &Store, text: &str) -> (Family, &'static Factor) {
    let family = family(store).await;
    let pushed =
        changed(factor(family.entity), |factor| factor.notification = Notification::Apn(token(text)));
    add(store, [pushed]).await;
    (family, pushed)
}

async fn a_factor_is_unreachable_when_its_very_token_leads_nowhere(store: Store) {
    let (family, pushed) = pushed(&store, AWKWARD).await;
    let same_token =
        changed(pushed, |it| (it.sid, it.credential_sid, it.public_key) = (sid(), sid(), public_key()));
    add(&store, [same_token]).await;
    // Neither another factor, nor another token, nor one that has none.
    for (sid, token) in [(sid(), AWKWARD), (pushed.sid, "another"), (pushed.sid, ""), (family.factor.sid, "")]
    {
        assert!(!transact!(store, |tx| tx.mark_unreachable(sid, token, NOW)).unwrap());
    }
    assert_same!(
        read!(store, |db| db.factors(family.entity.sid, &ALL)).unwrap(),
        [family.factor, pushed, same_token]
    );

    assert!(transact!(store, |tx| tx.mark_unreachable(pushed.sid, AWKWARD, NOW)).unwrap());
    let unreachable = changed(pushed, |factor| factor.unreachable = true);
    assert_same!(
        read!(store, |db| db.factors(family.entity.sid, &ALL)).unwrap(),
        [family.factor, unreachable, same_token]
    );
}

async fn a_factor_is_told_to_be_unreachable_once(store: Store) {
    let (_, pushed) = pushed(&store, "token").await;
    let told = at_once(20, |_| {
        let store = store.clone();
        async move { transact!(store, |tx| tx.mark_unreachable(pushed.sid, "token", NOW)).unwrap() }
    });
    assert_eq!(told.await.into_iter().filter(|told| *told).count(), 1);
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushed.sid, "token", NOW)).unwrap());
}

async fn a_factor_is_reachable_again_with_a_new_token(store: Store) {
    let (Family { path, .. }, pushed) = pushed(&store, "old").await;
    assert!(transact!(store, |tx| tx.mark_unreachable(pushed.sid, "old", NOW)).unwrap());
    // What is not about its address leaves it as it is.
    let renamed = changed(pushed, |factor| (factor.friendly_name, factor.unreachable) = (name("New"), true));
    let readdressed = changed(renamed, |factor| {
        (factor.notification, factor.unreachable) = (Notification::Fcm(token("new")), false);
    });
    for factor in [renamed, readdressed] {
        transact!(store, |tx| tx.update_factor(factor)).unwrap();
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
    }

    // The end of an attempt with the old token comes late.
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushed.sid, "old", NOW)).unwrap());
    assert_same!(read!(store, |db| db.factor(path, pushed.sid)).unwrap(), Some(readdressed));
    assert!(transact!(store, |tx| tx.mark_unreachable(pushed.sid, "new", NOW)).unwrap());
}

async fn token_that_was_sent_again_meanwhile_stays_alive(store: Store) {
    let (_, pushed) = pushed(&store, "token").await;
    let pushed_at = pushed.token_registered_at;
    let sent_again =
        changed(pushed, |factor| factor.token_registered_at = Timestamp::from_micros(NOW.micros() + 1));
    transact!(store, |tx| tx.update_factor(sent_again)).unwrap();
    assert!(!transact!(store, |tx| tx.mark_unreachable(pushed.sid, "token", pushed_at)).unwrap());
    let later = sent_again.token_registered_at;
    assert!(transact!(store, |tx| tx.mark_unreachable(pushed.sid, "token", later)).unwrap());
}

async fn a_new_token_does_not_inherit_that_the_old_one_led_nowhere(store: Store) {
    for _ in 0..10 {
        let (Family { path, .. }, pushed) = pushed(&store, "old").await;
        let update = async move |tx: &mut Write| {
            let mut factor = tx.lock_factor(path, pushed.sid).await?.unwrap();
            (factor.notification, factor.unreachable) = (Notification::Apn(token("new")), false);
            tx.update_factor(&factor).await
        };
        let both = at_once(2, |number| {
            let store = store.clone();
            async move {
                match number {
                    0 => drop(transact!(store, |tx| tx.mark_unreachable(pushed.sid, "old", NOW)).unwrap()),
                    _ => store.write(update).await.unwrap(),
                }
            }
        });
        both.await;
        let found = read!(store, |db| db.factor(path, pushed.sid)).unwrap().unwrap();
        assert!(!found.unreachable, "whichever came first");
    }
}

async fn factors_of_an_account_or_a_service_are_tried_again(store: Store) {
    let (family, mine) = pushed(&store, "token").await;
    let service = service(family.account);
    let entity = entity(service, "user-0001");
    let elsewhere = changed(factor(entity), |factor| factor.notification = Notification::Apn(token("token")));
    add(&store, [service]).await;
    add(&store, [entity]).await;
    add(&store, [elsewhere]).await;
    let (_, other) = pushed(&store, "token").await;
    let all = [mine, elsewhere, other];
    for (account_sid, service_sid, forgotten) in [
        (family.account.sid, None, [true, true, false]),
        (family.account.sid, Some(family.service.sid), [true, false, false]),
        (family.account.sid, Some(service.sid), [false, true, false]),
        (family.account.sid, Some(other.service_sid), [false, false, false]),
        (sid(), None, [false, false, false]),
    ] {
        for factor in all {
            transact!(store, |tx| tx.mark_unreachable(factor.sid, "token", NOW)).unwrap();
        }
        transact!(store, |tx| tx.forget_unreachable(account_sid, service_sid)).unwrap();
        for (before, forgotten) in all.into_iter().zip(forgotten) {
            let found = read!(store, |db| db.factor_by_credential(before.credential_sid)).unwrap();
            assert_same!(found, Some(changed(before, |factor| factor.unreachable = !forgotten)));
        }
    }
}

async fn changes_of_a_locked_factor_follow_each_other(store: Store) {
    const CHANGES: usize = 40;
    let Family { path, factor, .. } = family(&store).await;
    // Each makes the name one longer than it found it.
    let change = async move |tx: &mut Write| {
        let mut factor = tx.lock_factor(path, factor.sid).await?.unwrap();
        factor.friendly_name = name(&format!("{}+", factor.friendly_name));
        tx.update_factor(&factor).await
    };
    let changes = at_once(CHANGES, |_| {
        let store = store.clone();
        async move { store.write(change).await }
    });
    changes.await.into_iter().collect::<Result<(), _>>().unwrap();
    let changed = read!(store, |db| db.factor(path, factor.sid)).unwrap().unwrap();
    let expected = format!("{}{}", factor.friendly_name, "+".repeat(CHANGES));
    assert_eq!(changed.friendly_name.as_str(), expected);
}

async fn factors_are_counted_by_entity_verified_or_not(store: Store) {
    let (one, other) = (family(&store).await, family(&store).await);
    let unverified = changed(factor(one.entity), |factor| factor.status = Status::Unverified);
    add(&store, [unverified, factor(one.entity)]).await;
    let count = async |entity_sid| read!(store, |db| db.count_factors(entity_sid)).unwrap();
    assert_eq!(count(one.entity.sid).await, 3);
    assert_eq!(count(other.entity.sid).await, 1);
    assert_eq!(count(sid()).await, 0);
}

async fn an_entity_never_has_more_factors_than_were_counted(store: Store) {
    let Family { service, .. } = family(&store).await;
    // As many devices of one new user, none of which knows of the others.
    let enrolled = at_once(2 * MAX_PUSH_FACTORS as usize, |_| {
        let store = store.clone();
        let new = entity(service, "user-0002");
        let enroll = async move |tx: &mut Write| {
            let entity = tx.ensure_entity(new).await?;
            let fits = tx.count_factors(entity.sid).await? < MAX_PUSH_FACTORS;
            if fits {
                tx.insert_factor(factor(&entity)).await?;
            }
            Ok::<_, Error>(fits)
        };
        async move { store.write(enroll).await.unwrap() }
    });
    assert_eq!(enrolled.await.into_iter().filter(|enrolled| *enrolled).count(), MAX_PUSH_FACTORS as usize);

    let path = path_of(entity(service, "user-0002"));
    let entity = read!(store, |db| db.entity(path)).unwrap().unwrap();
    let factors = read!(store, |db| db.count_factors(entity.sid)).unwrap();
    assert_eq!(factors, MAX_PUSH_FACTORS);
}

async fn factors_are_listed_in_pages(store: Store) {
    let Family { service, .. } = family(&store).await;
    let entity = entity(service, "user-0002");
    let factors = scattered(|sid: FactorSid, time| {
        changed(factor(entity), |factor| (factor.sid, factor.created_at) = (sid, time))
    });
    add(&store, [entity]).await;
    add(&store, factors.clone()).await;
    let page = async |request| read!(store, |db| db.factors(entity.sid, &request)).unwrap();
    assert_list(&factors, page).await;
}

async fn a_list_has_the_factors_of_one_entity(store: Store) {
    let (one, _other) = (family(&store).await, family(&store).await);
    assert_same!(read!(store, |db| db.factors(one.entity.sid, &ALL)).unwrap(), [one.factor]);
    assert_same!(read!(store, |db| db.factors(sid(), &ALL)).unwrap(), Vec::<Factor>::new());
}

async fn a_factor_is_deleted_once_and_handed_back(store: Store) {
    let Family { entity, path, factor: like, .. } = family(&store).await;
    let factor = full(like, Notification::Fcm(token("abc")));
    add(&store, [factor]).await;
    assert_same!(transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap(), Some(factor));
    assert_same!(transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap(), None::<Factor>);
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [like]);
}

async fn a_factor_is_only_deleted_on_its_path(store: Store) {
    let clan = Clan::settle(&store).await;
    let Family { path, factor, .. } = clan.family;
    let others = wrong_paths(path).map(|path| (path, factor.sid));
    for (path, factor_sid) in others.into_iter().chain([(path, sid())]) {
        let deleted = transact!(store, |tx| tx.delete_factor(path, factor_sid, NOW)).unwrap();
        assert_same!(deleted, None::<Factor>);
    }
    assert_eq!(clan.remains(&store).await, Clan::ALL);
    let challenge = read!(store, |db| db.challenge(path, clan.challenge.sid)).unwrap();
    assert_same!(challenge, Some(clan.challenge));
}

async fn the_key_of_a_deleted_factor_can_be_added_again(store: Store) {
    let Family { entity, path, factor: old, .. } = family(&store).await;
    let new = changed(factor(entity), |factor| factor.public_key = old.public_key.clone());
    transact!(store, |tx| tx.delete_factor(path, old.sid, NOW)).unwrap().unwrap();
    transact!(store, |tx| tx.insert_factor(new)).unwrap();
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), [new]);
}

async fn a_factor_voids_its_pending_challenges_when_it_goes(store: Store) {
    let Family { entity, path, factor: doomed, .. } = family(&store).await;
    let deleted_at = NOW.plus_seconds(10);
    let another = factor(entity);
    let ending = |seconds| changed(challenge(doomed), |it| it.expires_at = deleted_at.plus_seconds(seconds));
    let [pending, last_second, just_expired, long_expired] = [200, 1, 0, -5].map(ending);
    let (approved, denied) = (challenge(doomed), challenge(doomed));
    let anothers = challenge(another);
    add(&store, [another]).await;
    add(&store, [pending, last_second, just_expired, long_expired, approved, denied, anothers]).await;
    let answered = [(approved, Answer::Approved), (denied, Answer::Denied)];
    for (challenge, answer) in answered {
        transact!(store, |tx| tx.answer_challenge(challenge.sid, answer, DIGEST, NOW)).unwrap().unwrap();
    }

    transact!(store, |tx| tx.delete_factor(path, doomed.sid, deleted_at)).unwrap().unwrap();

    let voided = |challenge: &'static Challenge| {
        changed(challenge, |it| (it.state, it.updated_at) = (State::Voided, deleted_at))
    };
    let void = |challenge: &'static Challenge| changed(challenge, |it| it.state = State::Voided);
    let answered = answered
        .map(|(challenge, answer)| changed(challenge, |it| it.state = State::Answered { answer, at: NOW }));
    let expected = [
        voided(pending),
        voided(last_second),
        void(just_expired),
        void(long_expired),
        answered[0],
        answered[1],
        anothers,
    ];
    let found = read!(store, |db| db.challenges(entity.sid, Filter::default(), &ALL, deleted_at)).unwrap();
    assert_same!(found, expected);
    for challenge in [pending, last_second] {
        let late =
            transact!(store, |tx| tx.answer_challenge(challenge.sid, Answer::Approved, DIGEST, NOW)).unwrap();
        assert_same!(late, None::<Challenge>);
    }
}

async fn every_challenge_of_a_flooded_factor_is_void_when_it_goes(store: Store) {
    let Family { entity, path, factor: doomed, .. } = family(&store).await;
    let flood: Vec<_> = (0..500).map(|_| challenge(doomed)).collect();
    add(&store, flood.clone()).await;
    transact!(store, |tx| tx.delete_factor(path, doomed.sid, NOW)).unwrap().unwrap();

    let listed = async |status| {
        let filter = Filter { factor_sid: None, status };
        read!(store, |db| db.challenges(entity.sid, filter, &ALL, NOW)).unwrap().items
    };
    assert_eq!(listed(Some(domain::challenges::Status::Pending)).await.len(), 0);
    assert_eq!(listed(Some(domain::challenges::Status::Expired)).await.len(), flood.len());
    assert!(listed(None).await.iter().all(|challenge| challenge.state == State::Voided));
    for challenge in flood {
        let late =
            transact!(store, |tx| tx.answer_challenge(challenge.sid, Answer::Approved, DIGEST, NOW)).unwrap();
        assert_same!(late, None::<Challenge>);
    }
}

async fn no_challenge_is_pending_after_its_factor_is_deleted(store: Store) {
    let Family { entity, path, .. } = family(&store).await;
    for _ in 0..20 {
        let doomed = factor(entity);
        add(&store, [doomed]).await;
        let opened = at_once(9, |number| {
            let store = store.clone();
            let open = async move |tx: &mut Write| {
                let Some(held) = tx.hold_factor(path, doomed.sid).await? else { return Ok(false) };
                tx.insert_challenge(challenge(&held)).await?;
                Ok::<_, Error>(true)
            };
            let delete = async move |tx: &mut Write| {
                let deleted = tx.delete_factor(path, doomed.sid, NOW).await?;
                assert!(deleted.is_some());
                Ok::<_, Error>(false)
            };
            // Somewhere among the others.
            let deletes = number == 4;
            async move { if deletes { store.write(delete).await } else { store.write(open).await } }
        });
        let opened = opened.await.into_iter().map(Result::unwrap).filter(|opened| *opened).count();

        let filter = Filter { factor_sid: Some(doomed.sid), status: None };
        let challenges = read!(store, |db| db.challenges(entity.sid, filter, &ALL, NOW)).unwrap().items;
        assert_eq!(challenges.len(), opened);
        assert!(challenges.iter().all(|challenge| challenge.state == State::Voided), "{challenges:?}");
    }
}

async fn a_challenge_is_answered_or_voided_but_never_both(store: Store) {
    let Family { entity, path, .. } = family(&store).await;
    for _ in 0..20 {
        let factor = factor(entity);
        let challenge = challenge(factor);
        add(&store, [factor]).await;
        add(&store, [challenge]).await;
        let answered = at_once(2, |number| {
            let store = store.clone();
            let answer = async move |tx: &mut Write| {
                let answered = tx.answer_challenge(challenge.sid, Answer::Approved, DIGEST, NOW).await?;
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

async fn old_factors_that_are_not_verified_are_deleted_in_batches_and_handed_back(store: Store) {
    let Family { entity, factor: verified, .. } = family(&store).await;
    let made = |second| {
        changed(factor(entity), |factor| {
            (factor.status, factor.created_at) = (Status::Unverified, NOW.plus_seconds(second));
        })
    };
    let [c, a, d, e, b] = [-2, -5, -1, 0, -4].map(made);
    let old = changed(factor(entity), |factor| factor.created_at = FIRST);
    add(&store, [c, a, d, e, b, old]).await;
    let delete = async || {
        let mut deleted = transact!(store, |tx| tx.delete_unverified_factors(NOW, 3)).unwrap();
        deleted.sort_by_key(|factor| factor.created_at);
        deleted
    };
    assert_same!(delete().await, [a, b, c]);
    assert_same!(delete().await, [d]);
    assert_same!(delete().await, Vec::<Factor>::new());
    let mut left = read!(store, |db| db.factors(entity.sid, &ALL)).unwrap().items;
    left.sort_by_key(|factor| factor.created_at);
    assert_eq!(left.iter().map(|it| it.sid).collect::<BTreeSet<_>>(), [old.sid, verified.sid, e.sid].into());
}

async fn a_factor_is_verified_or_deleted_for_not_being_so(store: Store) {
    let Family { entity, path, .. } = family(&store).await;
    for _ in 0..20 {
        let slow = changed(factor(entity), |factor| factor.status = Status::Unverified);
        add(&store, [slow]).await;
        let at_once = at_once(2, |number| {
            let store = store.clone();
            let verify = async move |tx: &mut Write| {
                let Some(mut locked) = tx.lock_factor(path, slow.sid).await? else { return Ok(false) };
                locked.status = Status::Verified;
                tx.update_factor(&locked).await?;
                Ok::<_, Error>(true)
            };
            let delete = async move |tx: &mut Write| {
                Ok::<_, Error>(tx.delete_unverified_factors(LAST, 9).await?.is_empty())
            };
            async move { if number == 0 { store.write(verify).await } else { store.write(delete).await } }
        });
        let happened: Vec<_> = at_once.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(happened[0], happened[1], "verified, and not deleted");
        let left = read!(store, |db| db.factor(path, slow.sid)).unwrap();
        assert_eq!(left.map(|factor| factor.status), happened[0].then_some(Status::Verified));
    }
}

async fn a_factor_that_was_made_counts_when_it_is_deleted_too(store: Store) {
    let Family { service, entity: mine, path, .. } = family(&store).await;
    let other = entity(service, "user-0002");
    add(&store, [other]).await;
    let made = |entity, second| changed(factor(entity), |it| it.created_at = NOW.plus_seconds(second));
    for factor in [made(mine, 30), made(mine, 10), made(mine, 61), made(mine, 20), made(other, 40)] {
        add(&store, [factor]).await;
        transact!(store, |tx| tx.note_factor_creation(factor)).unwrap();
        transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap();
    }
    let orphan = factor(entity(service, "user-0003"));
    assert_refused!(transact!(store, |tx| tx.note_factor_creation(orphan)), Error::ParentGone);
    let back = async |begin, most| {
        let (begin, most) = (NOW.plus_seconds(begin), NonZeroU32::new(most).unwrap());
        let back =
            read!(store, |db| db.factor_creation_back(mine.sid, begin..NOW.plus_seconds(60), most)).unwrap();
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
