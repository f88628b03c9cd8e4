//! Factors and challenges of the types other than push, and what holds for all types together.

use std::time::Duration;

use domain::challenges::{
    Answer, ChallengeKind, PasskeyTarget, State, Status as ChallengeStatus, TotpChallenge,
};
use domain::factors::passkey::CredentialId;
use domain::factors::totp::{Algorithm, CodeLength, Skew, TimeStep, TotpSecret};
use domain::factors::{PushFactor, Status};
use domain::{Challenge, Factor, FactorType, Sealed, Timestamp};
use store::{ChallengeFilter, Conflict, Error, SealedColumn, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::ALL;

contract! {
    totp_factor_is_read_back_unchanged,
    totp_factor_update_keeps_the_secret,
    time_step_is_accepted_by_exactly_one_of_many_concurrent_writes,
    totp_challenge_is_read_back_unchanged,
    totp_challenge_is_answered_once,
    passkey_is_read_back_unchanged,
    passkey_credential_is_unique_per_relying_party_and_account,
    passkey_challenge_is_read_back_unchanged,
    passkey_challenge_is_approved_once_and_then_knows_its_factor,
    passkey_challenge_without_entity_is_removed_with_its_service,
    factors_of_all_types_are_listed_in_order_and_counted_by_type,
    challenges_of_all_types_are_listed_and_filtered_together,
    factors_of_all_types_are_deleted_with_what_their_type_adds,
    totp_secrets_under_other_master_keys_are_found,
}

contract! { on postgres:
    lock_returns_the_row_as_the_previous_holder_left_it,
}

async fn totp_factor_is_read_back_unchanged(store: Store) {
    let EnrolledUser { service, entity, path, factor: push, .. } = enrolled_user(&store).await;
    let plain = totp_factor(entity);
    let full = changed(plain, |factor| {
        factor.sid = sid();
        factor.friendly_name = name(TRICKY_TEXT);
        factor.status = Status::Unverified;
        factor.metadata = Some(string_map(&[(TRICKY_TEXT, "")]));
        factor.created_at = NOW.plus_seconds(1);
        factor.kind.secret = Sealed::from_bytes(all_bytes());
        factor.kind.algorithm = Algorithm::Sha512;
        factor.kind.time_step = TimeStep::new(60).unwrap();
        factor.kind.code_length = CodeLength::new(3).unwrap();
        factor.kind.skew = Skew::new(0).unwrap();
        factor.kind.last_step = Some(i64::MAX);
        factor.kind.failed_verifications = u32::MAX;
    });
    add(&store, [plain, full]).await;
    for factor in [plain, full] {
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(transact!(store, |tx| tx.lock_totp_factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(
            read!(store, |db| db.push_factor(path, factor.sid)).unwrap(),
            None::<Factor<PushFactor>>
        );
    }
    assert!(transact!(store, |tx| tx.lock_totp_factor(path, push.sid)).unwrap().is_none());
    assert_same!(read!(store, |db| db.totp_factors(service.sid, entity.sid)).unwrap(), [plain, full]);
}

async fn totp_factor_update_keeps_the_secret(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    let (before, bystander) = (totp_factor(entity), totp_factor(entity));
    add(&store, [before, bystander]).await;
    let after = changed(before, |factor| {
        factor.friendly_name = name("New");
        factor.status = Status::Unverified;
        factor.updated_at = MAX_TIME;
        factor.kind.algorithm = Algorithm::Sha256;
        factor.kind.time_step = TimeStep::new(20).unwrap();
        factor.kind.code_length = CodeLength::new(8).unwrap();
        factor.kind.skew = Skew::new(2).unwrap();
        factor.kind.last_step = Some(5);
        factor.kind.failed_verifications = 3;
    });
    let update = changed(after, |factor| factor.kind.secret = Sealed::from_bytes(b"another".to_vec()));
    transact!(store, |tx| tx.update_totp_factor(update)).unwrap();
    assert_same!(read!(store, |db| db.factor(path, before.sid)).unwrap(), Some(after));
    assert_same!(read!(store, |db| db.factor(path, bystander.sid)).unwrap(), Some(bystander));
}

async fn time_step_is_accepted_by_exactly_one_of_many_concurrent_writes(store: Store) {
    const STEP: i64 = 59_000_000;
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    let factor = totp_factor(entity);
    add(&store, [factor]).await;
    let accepted = run_concurrently(100, |_| {
        let store = store.clone();
        let accept = async move |tx: &mut Write| {
            let mut locked = tx.lock_totp_factor(path, factor.sid).await?.unwrap();
            let is_new = locked.kind.last_step < Some(STEP);
            if is_new {
                locked.kind.last_step = Some(STEP);
                tx.update_totp_factor(&locked).await?;
            }
            Ok::<_, Error>(is_new)
        };
        async move { store.write(accept).await.unwrap() }
    });
    assert_eq!(accepted.await.into_iter().filter(|accepted| *accepted).count(), 1);
}

/// On PostgreSQL, a query that blocks on a lock reads the row again only from the tables that it locks.
async fn lock_returns_the_row_as_the_previous_holder_left_it(database: TestDatabase) {
    const HELD_FOR: Duration = Duration::from_millis(500);
    let store = database.open().await;
    let EnrolledUser { entity, path, factor: push, .. } = enrolled_user(&store).await;
    let totp = totp_factor(entity);
    add(&store, [totp]).await;
    let hold = async move |tx: &mut Write| {
        let mut push = tx.lock_push_factor(path, push.sid).await?.unwrap();
        let mut totp = tx.lock_totp_factor(path, totp.sid).await?.unwrap();
        tokio::time::sleep(HELD_FOR).await;
        (push.kind.unreachable, totp.kind.last_step) = (true, Some(5));
        tx.update_push_factor(&push).await?;
        tx.update_totp_factor(&totp).await
    };
    let wait_for_push = async {
        tokio::time::sleep(HELD_FOR / 2).await;
        transact!(store, |tx| tx.lock_push_factor(path, push.sid)).unwrap().unwrap()
    };
    let wait_for_totp = async {
        tokio::time::sleep(HELD_FOR / 2).await;
        transact!(store, |tx| tx.lock_totp_factor(path, totp.sid)).unwrap().unwrap()
    };
    let (held, push, totp) = tokio::join!(store.write(hold), wait_for_push, wait_for_totp);
    held.unwrap();
    assert_eq!((push.kind.unreachable, totp.kind.last_step), (true, Some(5)));
    store.close().await;
}

async fn totp_challenge_is_read_back_unchanged(store: Store) {
    let EnrolledUser { entity, path, factor: push, .. } = enrolled_user(&store).await;
    let factor = totp_factor(entity);
    let (plain, push_challenge) = (totp_challenge(factor), challenge(push));
    let full = changed(plain, |challenge| {
        challenge.sid = sid();
        challenge.state = State::Answered { answer: Answer::Approved, at: NOW };
        challenge.metadata = Some(string_map(&[("", "")]));
        challenge.kind.message = Some(domain::challenges::Message::from_stored(TRICKY_TEXT.to_owned()));
        challenge.kind.fields = vec![field("IP", TRICKY_TEXT)];
        challenge.kind.hidden_details = Some(string_map(&[(TRICKY_TEXT, "")]));
        challenge.kind.attempts = u32::MAX;
    });
    add(&store, [factor]).await;
    add(&store, [plain, full]).await;
    add(&store, [push_challenge]).await;
    for challenge in [plain, full] {
        assert_same!(read!(store, |db| db.totp_challenge(path, challenge.sid)).unwrap(), Some(challenge));
        assert_same!(read!(store, |db| db.challenge(path, challenge.sid)).unwrap(), Some(challenge));
        assert!(read!(store, |db| db.push_challenge(path, challenge.sid)).unwrap().is_none());
    }
    assert!(read!(store, |db| db.totp_challenge(path, push_challenge.sid)).unwrap().is_none());
    for path in wrong_paths(path) {
        assert!(read!(store, |db| db.totp_challenge(path, plain.sid)).unwrap().is_none());
    }
}

async fn totp_challenge_is_answered_once(store: Store) {
    let EnrolledUser { entity, path, factor: push, .. } = enrolled_user(&store).await;
    let factor = totp_factor(entity);
    let (asked, push_challenge) = (totp_challenge(factor), challenge(push));
    add(&store, [factor]).await;
    add(&store, [asked]).await;
    add(&store, [push_challenge]).await;
    let update = async |challenge: &'static Challenge<TotpChallenge>| {
        transact!(store, |tx| tx.update_totp_challenge(challenge)).unwrap()
    };
    let attempted = changed(asked, |challenge| {
        (challenge.kind.attempts, challenge.updated_at) = (1, NOW.plus_seconds(1));
    });
    let approved = changed(attempted, |challenge| {
        challenge.state = State::Answered { answer: Answer::Approved, at: NOW.plus_seconds(2) };
        challenge.updated_at = NOW.plus_seconds(2);
    });
    for challenge in [attempted, approved] {
        assert!(update(challenge).await);
        assert_same!(read!(store, |db| db.totp_challenge(path, asked.sid)).unwrap(), Some(challenge));
    }
    assert!(!update(attempted).await, "the challenge is answered");
    let of_push = changed(asked, |challenge| challenge.sid = push_challenge.sid);
    assert!(!update(of_push).await, "the challenge has another type");
    let again = totp_challenge(factor);
    add(&store, [again]).await;
    assert!(transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().is_some());
    assert!(!update(again).await, "the factor is deleted");
}

async fn passkey_is_read_back_unchanged(store: Store) {
    let EnrolledUser { account, service, entity, path, .. } = enrolled_user(&store).await;
    let registered = passkey_factor(entity, &all_bytes());
    let unverified = changed(registered, |factor| {
        (factor.sid, factor.status, factor.kind.credential) = (sid(), Status::Unverified, None);
        factor.created_at = NOW.plus_seconds(1);
    });
    let another_unverified = changed(unverified, |factor| {
        (factor.sid, factor.created_at) = (sid(), NOW.plus_seconds(2));
    });
    let all = [registered, unverified, another_unverified];
    add(&store, all).await;
    let find = async |account_sid, service_sid, factor_sid| {
        read!(store, |db| db.passkey_factor(account_sid, service_sid, factor_sid)).unwrap()
    };
    for factor in all {
        assert_same!(read!(store, |db| db.factor(path, factor.sid)).unwrap(), Some(factor));
        assert_same!(find(account.sid, service.sid, factor.sid).await, Some(factor));
        assert_same!(transact!(store, |tx| tx.lock_passkey_factor(path, factor.sid)).unwrap(), Some(factor));
    }
    assert!(find(sid(), service.sid, registered.sid).await.is_none());
    assert!(find(account.sid, sid(), registered.sid).await.is_none());
    assert_same!(read!(store, |db| db.passkey_factors(service.sid, entity.sid)).unwrap(), all);

    let verified = changed(unverified, |factor| {
        factor.status = Status::Verified;
        factor.kind.credential = passkey_factor(entity, b"another").kind.credential.clone();
    });
    transact!(store, |tx| tx.update_passkey_factor(verified)).unwrap();
    assert_same!(read!(store, |db| db.factor(path, unverified.sid)).unwrap(), Some(verified));
}

async fn passkey_credential_is_unique_per_relying_party_and_account(store: Store) {
    let (mine, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let first = passkey_factor(mine.entity, b"credential");
    let second = changed(passkey_factor(mine.entity, b"another"), |factor| {
        factor.kind.relying_party.name = domain::text::Text::from_stored("Another name".to_owned());
    });
    let of_another_party = changed(passkey_factor(mine.entity, b"credential"), |factor| {
        factor.kind.relying_party.id = domain::text::Text::from_stored("login.example.com".to_owned());
    });
    let of_another_account = passkey_factor(other.entity, b"credential");
    add(&store, [first, second, of_another_party, of_another_account]).await;
    let copied = changed(second, |factor| factor.kind.credential = first.kind.credential.clone());
    let refused = transact!(store, |tx| tx.update_passkey_factor(copied));
    assert_refused!(refused, Error::Conflict(Conflict::PasskeyCredential));

    let find = async |user: &EnrolledUser, party: &'static Factor<_>, credential: &'static [u8]| {
        let (account_sid, service_sid) = (user.account.sid, user.service.sid);
        let party: &Factor<domain::factors::PasskeyFactor> = party;
        let (party, id) =
            (&party.kind.relying_party.id, leak(CredentialId::new(credential.to_vec()).unwrap()));
        read!(store, |db| db.passkey_by_credential(account_sid, service_sid, party, id)).unwrap()
    };
    assert_same!(find(&mine, first, b"credential").await, Some(first));
    assert_same!(find(&mine, of_another_party, b"credential").await, Some(of_another_party));
    assert_same!(find(&other, first, b"credential").await, Some(of_another_account));
    assert!(find(&mine, first, b"unknown").await.is_none());
    let elsewhere = EnrolledUser { service: other.service, ..mine };
    assert!(find(&elsewhere, first, b"credential").await.is_none());
}

async fn passkey_challenge_is_read_back_unchanged(store: Store) {
    let EnrolledUser { account, service, entity, path, .. } = enrolled_user(&store).await;
    let factor = passkey_factor(entity, b"credential");
    let of_factor = passkey_challenge(factor);
    let targeted =
        |target| changed(of_factor, |challenge| (challenge.sid, challenge.kind.target) = (sid(), target));
    let of_entity =
        targeted(PasskeyTarget::Entity { entity_sid: entity.sid, identity: entity.identity.clone() });
    let of_anyone = targeted(PasskeyTarget::Anyone);
    add(&store, [factor]).await;
    add(&store, [of_factor, of_entity, of_anyone]).await;
    let find = async |account_sid, service_sid, challenge_sid| {
        read!(store, |db| db.passkey_challenge(account_sid, service_sid, challenge_sid)).unwrap()
    };
    for challenge in [of_factor, of_entity, of_anyone] {
        assert_same!(find(account.sid, service.sid, challenge.sid).await, Some(challenge));
        assert!(find(sid(), service.sid, challenge.sid).await.is_none());
        assert!(find(account.sid, sid(), challenge.sid).await.is_none());
    }
    for challenge in [of_factor, of_entity] {
        let found = read!(store, |db| db.challenge(path, challenge.sid)).unwrap();
        assert_same!(found, Some(<Challenge>::from(challenge.clone())));
    }
    assert!(read!(store, |db| db.challenge(path, of_anyone.sid)).unwrap().is_none());
}

async fn passkey_challenge_is_approved_once_and_then_knows_its_factor(store: Store) {
    let EnrolledUser { account, service, entity, path, .. } = enrolled_user(&store).await;
    let factor = passkey_factor(entity, b"credential");
    let of_factor = passkey_challenge(factor);
    let pending = changed(of_factor, |challenge| challenge.kind.target = PasskeyTarget::Anyone);
    let PasskeyTarget::Factor(target) = &of_factor.kind.target else { unreachable!() };
    add(&store, [factor]).await;
    add(&store, [pending]).await;
    let approve =
        async |at| transact!(store, |tx| tx.approve_passkey_challenge(pending.sid, target, at)).unwrap();
    assert!(!approve(pending.expires_at).await, "the challenge has expired");
    let at = Timestamp::from_micros(pending.expires_at.micros() - 1);
    assert!(approve(at).await);
    assert!(!approve(at).await, "the challenge is approved");
    let approved = changed(of_factor, |challenge| {
        challenge.state = State::Answered { answer: Answer::Approved, at };
        challenge.updated_at = at;
    });
    let found = read!(store, |db| db.passkey_challenge(account.sid, service.sid, pending.sid)).unwrap();
    assert_same!(found, Some(approved));
    let listed = read!(store, |db| db.challenge(path, pending.sid)).unwrap();
    assert_same!(listed, Some(<Challenge>::from(approved.clone())));
}

async fn passkey_challenge_without_entity_is_removed_with_its_service(store: Store) {
    let (mine, other) = (enrolled_user(&store).await, enrolled_user(&store).await);
    let of_anyone = |user: &EnrolledUser| {
        let challenge = passkey_challenge(passkey_factor(user.entity, b"credential"));
        changed(challenge, |challenge| challenge.kind.target = PasskeyTarget::Anyone)
    };
    let (doomed, kept) = (of_anyone(&mine), of_anyone(&other));
    add(&store, [doomed, kept]).await;
    transact!(store, |tx| tx.delete_service(mine.account.sid, mine.service.sid, NOW)).unwrap();
    let find = async |user: &EnrolledUser, challenge: &'static Challenge<_>| {
        let (account_sid, service_sid) = (user.account.sid, user.service.sid);
        let challenge: &Challenge<domain::challenges::PasskeyChallenge> = challenge;
        let challenge_sid = challenge.sid;
        read!(store, |db| db.passkey_challenge(account_sid, service_sid, challenge_sid)).unwrap().is_some()
    };
    assert_eq!((find(&mine, doomed).await, find(&other, kept).await), (false, true));
    // The challenge, the factor, the entity and the service.
    assert_eq!(remove_all(&store, 100).await, 4);
    assert!(find(&other, kept).await);
    assert_eq!(
        transact!(store, |tx| tx.delete_old_challenges(MAX_TIME, 9)).unwrap(),
        1,
        "the other one is left"
    );
}

async fn factors_of_all_types_are_listed_in_order_and_counted_by_type(store: Store) {
    let EnrolledUser { entity, factor: push, .. } = enrolled_user(&store).await;
    let at = |second| NOW.plus_seconds(second);
    let totp = changed(totp_factor(entity), |factor| factor.created_at = at(1));
    let passkey = changed(passkey_factor(entity, b"credential"), |factor| factor.created_at = at(2));
    let later = changed(factor(entity), |factor| factor.created_at = at(3));
    add(&store, [later]).await;
    add(&store, [passkey]).await;
    add(&store, [totp]).await;
    let expected: [Factor; 4] =
        [push.clone().into(), totp.clone().into(), passkey.clone().into(), later.clone().into()];
    assert_same!(read!(store, |db| db.factors(entity.sid, &ALL)).unwrap(), expected);
    for (factor_type, expected) in [(FactorType::Push, 2), (FactorType::Totp, 1), (FactorType::Passkeys, 1)] {
        assert_eq!(read!(store, |db| db.count_factors(entity.sid, factor_type)).unwrap(), expected);
    }
}

async fn challenges_of_all_types_are_listed_and_filtered_together(store: Store) {
    let EnrolledUser { entity, path, factor: push, .. } = enrolled_user(&store).await;
    let (totp, passkey) = (totp_factor(entity), passkey_factor(entity, b"credential"));
    let (of_push, of_totp, of_passkey) = (challenge(push), totp_challenge(totp), passkey_challenge(passkey));
    let of_entity = changed(of_passkey, |challenge| {
        challenge.sid = sid();
        challenge.kind.target =
            PasskeyTarget::Entity { entity_sid: entity.sid, identity: entity.identity.clone() };
    });
    add(&store, [totp]).await;
    add(&store, [passkey]).await;
    add(&store, [of_push]).await;
    add(&store, [of_totp]).await;
    add(&store, [of_passkey, of_entity]).await;
    let list = async |factor_sid, status, now| {
        let filter = ChallengeFilter { factor_sid, status };
        let page = read!(store, |db| db.challenges(entity.sid, filter, &ALL, now)).unwrap();
        let mut types: Vec<_> = page.items.iter().map(|it| it.factor_type().as_str()).collect();
        types.sort_unstable();
        types
    };
    let all = ["passkeys", "passkeys", "push", "totp"];
    assert_eq!(list(None, None, NOW).await, all);
    assert_eq!(list(None, Some(ChallengeStatus::Pending), NOW).await, all);
    assert_eq!(list(None, Some(ChallengeStatus::Expired), NOW).await, [""; 0]);
    assert_eq!(list(None, Some(ChallengeStatus::Expired), of_push.expires_at).await, all);
    assert_eq!(list(Some(totp.sid), None, NOW).await, ["totp"]);
    assert_eq!(list(Some(push.sid), None, NOW).await, ["push"], "a device sees only its own challenges");

    for factor_sid in [totp.sid, passkey.sid] {
        transact!(store, |tx| tx.delete_factor(path, factor_sid, NOW)).unwrap().unwrap();
    }
    assert_eq!(list(None, Some(ChallengeStatus::Pending), NOW).await, ["passkeys", "push"]);
    assert_eq!(list(None, Some(ChallengeStatus::Expired), NOW).await, ["passkeys", "totp"]);
    let left = read!(store, |db| db.challenge(path, of_entity.sid)).unwrap().unwrap();
    assert!(matches!(left.kind, ChallengeKind::Passkey(PasskeyTarget::Entity { .. })));
}

async fn factors_of_all_types_are_deleted_with_what_their_type_adds(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    let (push, totp, passkey) = (factor(entity), totp_factor(entity), passkey_factor(entity, b"credential"));
    let unverified = [
        &without_kind(changed(push, |factor| factor.status = Status::Unverified)),
        &without_kind(changed(totp, |factor| factor.status = Status::Unverified)),
        &without_kind(changed(passkey, |factor| factor.status = Status::Unverified)),
    ];
    let insert = async |status| {
        add(&store, [changed(push, |factor| factor.status = status)]).await;
        add(&store, [changed(totp, |factor| factor.status = status)]).await;
        add(&store, [changed(passkey, |factor| factor.status = status)]).await;
    };
    // What a type adds has the key of the factor, so the factors can be inserted again only if nothing is left.
    insert(Status::Unverified).await;
    let mut deleted = transact!(store, |tx| tx.delete_unverified_factors(MAX_TIME, 9)).unwrap();
    deleted.sort_by_key(|factor| unverified.iter().position(|it| it.sid == factor.sid));
    assert_same!(deleted, unverified);
    insert(Status::Verified).await;
    for factor_sid in [push.sid, totp.sid, passkey.sid] {
        assert!(transact!(store, |tx| tx.delete_factor(path, factor_sid, NOW)).unwrap().is_some());
    }
    insert(Status::Verified).await;
    transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap();
    remove_all(&store, 100).await;
    add(&store, [entity]).await;
    insert(Status::Verified).await;
}

async fn totp_secrets_under_other_master_keys_are_found(store: Store) {
    let EnrolledUser { entity, path, .. } = enrolled_user(&store).await;
    let sealed = |key: &[u8]| Sealed::<TotpSecret>::from_bytes([&[1], key, b"secret"].concat());
    let (old, new) = (b"old key.", b"new key.");
    let before = changed(totp_factor(entity), |factor| factor.kind.secret = sealed(old));
    let current = changed(totp_factor(entity), |factor| factor.kind.secret = sealed(new));
    add(&store, [before, current]).await;
    let column = SealedColumn::TotpSecrets;
    let counts = read!(store, |db| db.count_by_key(column)).unwrap();
    assert_eq!(counts, [(new.to_vec(), 1), (old.to_vec(), 1)]);
    let others = read!(store, |db| db.sealed_under_other_keys::<TotpSecret>(column, new, "", 10)).unwrap();
    assert_eq!(others.len(), 1);
    let (owner, found) = leak(others.into_iter().next().unwrap());
    assert_eq!((owner.as_str(), found.as_bytes()), (before.sid.to_string().as_str(), sealed(old).as_bytes()));
    let resealed = leak(sealed(new));
    assert!(transact!(store, |tx| tx.reseal(column, owner, found, resealed)).unwrap());
    let read = transact!(store, |tx| tx.lock_totp_factor(path, before.sid)).unwrap().unwrap();
    assert_eq!(read.kind.secret.as_bytes(), resealed.as_bytes());
}
