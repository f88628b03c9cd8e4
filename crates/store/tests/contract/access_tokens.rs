//! Access tokens, with which phones enroll factors.

use domain::access_tokens::Ttl;
use domain::{AccessToken, FactorSid, FactorType, Sealed};
use store::{Conflict, Error, Store};

use crate::concurrency::run_concurrently;
use crate::fixtures::*;

contract! {
    access_token_is_read_back_unchanged,
    access_token_is_not_found_with_a_wrong_account_service_or_sid,
    access_token_can_be_inserted_without_its_entity_but_not_without_its_service,
    new_access_token_is_unspent_and_cannot_be_inserted_twice,
    access_token_can_be_spent_only_once_without_affecting_other_tokens,
    access_token_is_spent_by_exactly_one_of_many_concurrent_writes,
    unknown_access_token_cannot_be_spent,
    spent_access_token_keeps_the_factor_sid_after_the_factor_is_deleted,
    expired_access_tokens_are_deleted_in_batches_oldest_first,
}

async fn access_token_is_read_back_unchanged(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let plain = access_token(service, "user-0001");
    let full = changed(plain, |token| {
        token.grant.sid = sid();
        token.grant.factor_type = FactorType::Totp;
        token.grant.expires_at = MAX_TIME;
        token.factor_friendly_name = Some(name(TRICKY_TEXT));
        token.ttl = Ttl::new(300).unwrap();
        token.token = Sealed::from_bytes(all_bytes());
        token.created_at = MIN_TIME;
    });
    for token in [plain, full] {
        transact!(store, |tx| tx.insert_access_token(token)).unwrap();
        let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
        assert_same!(found, Some(token));
    }
}

async fn access_token_is_not_found_with_a_wrong_account_service_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let token_sid = tree.token.grant.sid;
    for (account_sid, service_sid, token_sid) in [
        (other.account.sid, service.sid, token_sid),
        (account.sid, other.service.sid, token_sid),
        (other.account.sid, other.service.sid, token_sid),
        (account.sid, service.sid, sid()),
    ] {
        let found = read!(store, |db| db.access_token(account_sid, service_sid, token_sid)).unwrap();
        assert_same!(found, None::<AccessToken>);
    }
}

async fn access_token_can_be_inserted_without_its_entity_but_not_without_its_service(store: Store) {
    let EnrolledUser { account, service: known, .. } = enrolled_user(&store).await;
    let orphan = access_token(service(account), "user-0001");
    assert_refused!(transact!(store, |tx| tx.insert_access_token(orphan)), Error::ParentGone);
    let for_new_identity = access_token(known, "user-0002");
    transact!(store, |tx| tx.insert_access_token(for_new_identity)).unwrap();
}

async fn new_access_token_is_unspent_and_cannot_be_inserted_twice(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let unspent = access_token(service, "user-0001");
    let spent = changed(unspent, |token| token.spent_on = Some(sid()));
    transact!(store, |tx| tx.insert_access_token(spent)).unwrap();
    let again = transact!(store, |tx| tx.insert_access_token(spent));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    let found = read!(store, |db| db.access_token(account.sid, service.sid, unspent.grant.sid)).unwrap();
    assert_same!(found, Some(unspent));
}

async fn access_token_can_be_spent_only_once_without_affecting_other_tokens(store: Store) {
    let AccountTree { user: EnrolledUser { account, service, factor, .. }, token, .. } =
        AccountTree::create(&store).await;
    let bystander = access_token(service, "user-0001");
    add(&store, [bystander]).await;
    let spend =
        async |on: FactorSid| transact!(store, |tx| tx.spend_access_token(token.grant.sid, on)).unwrap();
    assert!(spend(factor.sid).await);
    assert!(!spend(factor.sid).await);
    assert!(!spend(sid()).await);

    let spent = changed(token, |token| token.spent_on = Some(factor.sid));
    for token in [spent, bystander] {
        let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
        assert_same!(found, Some(token));
    }
}

async fn access_token_is_spent_by_exactly_one_of_many_concurrent_writes(store: Store) {
    let AccountTree { user: EnrolledUser { account, service, .. }, token, .. } =
        AccountTree::create(&store).await;
    let factors: Vec<FactorSid> = (0..50).map(|_| sid()).collect();
    let spent = run_concurrently(factors.len(), |number| {
        let (store, on) = (store.clone(), factors[number]);
        async move { transact!(store, |tx| tx.spend_access_token(token.grant.sid, on)).unwrap() }
    });
    let spent_on: Vec<_> =
        spent.await.into_iter().zip(factors).filter_map(|(spent, on)| spent.then_some(on)).collect();
    assert_eq!(spent_on.len(), 1);
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_eq!(found.unwrap().spent_on, Some(spent_on[0]));
}

async fn unknown_access_token_cannot_be_spent(store: Store) {
    let AccountTree { user: EnrolledUser { account, service, factor, .. }, token, .. } =
        AccountTree::create(&store).await;
    assert!(!transact!(store, |tx| tx.spend_access_token(sid(), factor.sid)).unwrap());
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_same!(found, Some(token));
}

async fn spent_access_token_keeps_the_factor_sid_after_the_factor_is_deleted(store: Store) {
    let AccountTree { user, token, .. } = AccountTree::create(&store).await;
    let EnrolledUser { account, service, path, factor, .. } = user;
    assert!(transact!(store, |tx| tx.spend_access_token(token.grant.sid, factor.sid)).unwrap());
    transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().unwrap();
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_eq!(found.unwrap().spent_on, Some(factor.sid));
}

async fn expired_access_tokens_are_deleted_in_batches_oldest_first(store: Store) {
    let EnrolledUser { account, service, factor, .. } = enrolled_user(&store).await;
    let expiring = |second| {
        changed(access_token(service, "user-0001"), |token| {
            token.grant.expires_at = NOW.plus_seconds(second);
        })
    };
    let [c, a, d, e, b] = [-2, -5, -1, 0, -4].map(expiring);
    add(&store, [c, a, d, e, b]).await;
    for spent in [a, e] {
        assert!(transact!(store, |tx| tx.spend_access_token(spent.grant.sid, factor.sid)).unwrap());
    }
    let delete = async || transact!(store, |tx| tx.delete_old_access_tokens(NOW, 3)).unwrap();
    let is_left = async |token: &'static AccessToken| {
        let sid = token.grant.sid;
        read!(store, |db| db.access_token(account.sid, service.sid, sid)).unwrap().is_some()
    };
    for (deleted, left) in [(3, [false, false, false, true, true]), (1, [false, false, false, false, true])] {
        assert_eq!(delete().await, deleted);
        for (token, expected) in [a, b, c, d, e].into_iter().zip(left) {
            assert_eq!(is_left(token).await, expected, "{}", token.grant.expires_at);
        }
    }
    assert_eq!(delete().await, 0);
}
