//! What streams read: summaries of challenges, the end of the audit log, and announcements of changes.

use std::collections::HashSet;
use std::time::Duration;

use domain::audit::{ChainPosition, Mac};
use domain::challenges::{Answer, ChallengeSummary, State};
use domain::{ChallengeSid, Sealed, Sid as _};
use store::{Announcement, AuditChain, Changes, Error, ProcessTag, Store, Topic, Write};
use tokio::time::timeout;

use crate::audit::record;
use crate::databases::TestDatabase;
use crate::fixtures::*;

contract! {
    summary_of_a_challenge_follows_its_state,
    summary_is_missing_for_other_accounts_and_deleted_parents,
    pending_summaries_are_those_of_the_factor_newest_first,
    audit_tail_has_every_record_that_the_chain_lacks,
}

contract! {
    on postgres:
    changes_are_announced_to_other_processes_only,
}

async fn summary_of_a_challenge_follows_its_state(store: Store) {
    let EnrolledUser { account, service, entity, path, factor } = enrolled_user(&store).await;
    let asked = challenge(factor);
    add(&store, [asked]).await;
    let summary = async || {
        let sid = asked.sid;
        read!(store, |db| db.challenge_summary(account.sid, service.sid, sid)).unwrap().unwrap()
    };
    let pending = ChallengeSummary {
        sid: asked.sid,
        service_sid: service.sid,
        identity: Some(entity.identity.clone()),
        factor_sid: Some(factor.sid),
        state: State::Pending,
        expires_at: asked.expires_at,
        updated_at: asked.updated_at,
    };
    assert_eq!(summary().await, pending);
    let later = NOW.plus_seconds(1);
    transact!(store, |tx| tx.answer_push_challenge(asked.sid, Answer::Denied, DIGEST, later)).unwrap();
    let state = State::Answered { answer: Answer::Denied, at: later };
    assert_eq!(summary().await, ChallengeSummary { state, updated_at: later, ..pending.clone() });

    let voided = challenge(factor);
    add(&store, [voided]).await;
    transact!(store, |tx| tx.delete_factor(path, factor.sid, later)).unwrap();
    let found = read!(store, |db| db.challenge_summary(account.sid, service.sid, voided.sid)).unwrap();
    assert_eq!(found.unwrap().state, State::Voided);
}

async fn summary_is_missing_for_other_accounts_and_deleted_parents(store: Store) {
    let EnrolledUser { account, service, path, factor, .. } = enrolled_user(&store).await;
    let other = enrolled_user(&store).await;
    let asked = challenge(factor);
    add(&store, [asked]).await;
    let is_found = async |account_sid, service_sid, sid: ChallengeSid| {
        read!(store, |db| db.challenge_summary(account_sid, service_sid, sid)).unwrap().is_some()
    };
    assert!(is_found(account.sid, service.sid, asked.sid).await);
    assert!(!is_found(other.account.sid, service.sid, asked.sid).await);
    assert!(!is_found(account.sid, other.service.sid, asked.sid).await);
    assert!(!is_found(account.sid, service.sid, ChallengeSid::from_bytes([9; 16])).await);
    transact!(store, |tx| tx.delete_entity(path, NOW)).unwrap();
    assert!(!is_found(account.sid, service.sid, asked.sid).await);
}

async fn pending_summaries_are_those_of_the_factor_newest_first(store: Store) {
    let EnrolledUser { entity, path, factor, .. } = enrolled_user(&store).await;
    let at = |seconds| changed(challenge(factor), |one| one.created_at = NOW.plus_seconds(seconds));
    let (old, new, answered) = (at(-2), at(-1), at(0));
    let expired = changed(challenge(factor), |one| one.expires_at = NOW);
    add(&store, [old, new, answered, expired]).await;
    transact!(store, |tx| tx.answer_push_challenge(answered.sid, Answer::Approved, DIGEST, NOW)).unwrap();
    let pending = async |limit| {
        let found = read!(store, |db| db.pending_summaries(entity.sid, factor.sid, NOW, limit)).unwrap();
        found.into_iter().map(|summary| summary.sid).collect::<Vec<_>>()
    };
    assert_eq!(pending(10).await, [new.sid, old.sid]);
    assert_eq!(pending(1).await, [new.sid]);
    let others = read!(store, |db| db.pending_summaries(entity.sid, sid(), NOW, 10)).unwrap();
    assert!(others.is_empty());
    transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap();
    assert!(pending(10).await.is_empty());
}

async fn audit_tail_has_every_record_that_the_chain_lacks(store: Store) {
    let (one, other) = (account(), account());
    let [first, second, foreign] = [record(one), record(one), record(other)];
    let start = AuditChain { removed: ChainPosition::START, head: ChainPosition::START, seal: Mac([1; 32]) };
    let insert = async move |tx: &mut Write| {
        tx.insert_audit_chain(&start, &Sealed::<()>::from_bytes(all_bytes())).await?;
        for record in [first, second, foreign] {
            tx.insert_audit_record(record, &Mac([5; 32])).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(insert).await.unwrap();
    let tail = async |limit| {
        let tail = read!(store, |db| db.audit_tail(one.sid, limit)).unwrap();
        let mut sids: Vec<_> = tail.unchained.iter().map(|one| one.record.as_ref().unwrap().sid).collect();
        sids.sort_unstable();
        (tail.removed, tail.head, sids)
    };
    let chained = async |after, up_to| {
        let found = read!(store, |db| db.chained_records_of_account(one.sid, after, up_to)).unwrap();
        found.into_iter().map(|one| (one.number, one.contents.unwrap().1.sid)).collect::<Vec<_>>()
    };
    let mut both = vec![first.sid, second.sid];
    both.sort_unstable();
    assert_eq!(tail(10).await, (0, 0, both));
    assert_eq!(tail(1).await.2.len(), 1);
    assert!(chained(0, 10).await.is_empty());
    let chain = async move |tx: &mut Write| {
        let at = |number| ChainPosition { number, mac: Mac([number.unsigned_abs() as u8; 32]) };
        tx.append_to_audit_chain(&[(foreign.sid, at(1)), (first.sid, at(2))]).await?;
        tx.update_audit_chain(&ChainPosition::START, &at(2), &Mac([8; 32])).await
    };
    store.write(chain).await.unwrap();
    assert_eq!(tail(10).await, (0, 2, vec![second.sid]));
    assert_eq!(chained(0, 2).await, [(2, first.sid)]);
    assert!(chained(2, 10).await.is_empty() && chained(0, 1).await.is_empty());
    let empty = read!(store, |db| db.audit_tail(sid(), 10)).unwrap();
    assert_eq!((empty.head, empty.unchained.len()), (2, 0));
}

async fn changes_are_announced_to_other_processes_only(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    let (own, others) = (ProcessTag(1), ProcessTag(2));
    let mut listener = other.announcements(others).await.unwrap().unwrap();
    let topics: HashSet<_> = (0..300).map(|_| Topic::Challenge(sid())).collect();
    let change = |topics| Announcement { has_deliveries: false, changes: Changes::Of(topics) };
    one.announce(change(HashSet::from([Topic::Account(sid())])), others).await.unwrap();
    one.announce(change(topics.clone()), own).await.unwrap();
    let mut received = Changes::default();
    while !matches!(&received, Changes::Of(found) if found.len() >= topics.len()) {
        let next = timeout(Duration::from_secs(20), listener.next()).await.expect("timed out").unwrap();
        assert!(!next.has_deliveries);
        received.add(next.changes);
    }
    assert_eq!(received, Changes::Of(topics));
    one.announce(Announcement { has_deliveries: false, changes: Changes::OfAny }, own).await.unwrap();
    // A notification without changes of other processes can come first.
    let mut received = Changes::default();
    while received != Changes::OfAny {
        let next = timeout(Duration::from_secs(20), listener.next()).await.expect("timed out").unwrap();
        received.add(next.changes);
    }
}
