//! Access tokens.

use domain::access_tokens::Ttl;
use domain::{AccessToken, FactorSid, FactorType, Sealed};
use store::{Conflict, Error, Store};

use crate::fixtures::*;
use crate::together::at_once;

contract! {
    an_access_token_comes_back_as_it_was_added,
    an_access_token_is_only_found_by_its_service_and_account,
    an_access_token_needs_its_service_but_no_entity,
    an_access_token_is_added_once_and_unspent,
    an_access_token_is_spent_once_and_alone,
    an_access_token_is_spent_once_among_many_at_once,
    an_unknown_access_token_is_not_spent,
    a_spent_access_token_remembers_a_factor_that_is_gone,
    expired_access_tokens_are_deleted_in_batches_oldest_first,
}

async fn an_access_token_comes_back_as_it_was_added(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let plain = access_token(service, "user-0001");
    let full = changed(plain, |token| {
        token.grant.sid = sid();
        token.grant.factor_type = FactorType::Totp;
        token.grant.expires_at = LAST;
        token.factor_friendly_name = Some(name(AWKWARD));
        token.ttl = Ttl::new(300).unwrap();
        token.token = Sealed::from_bytes(all_bytes());
        token.created_at = FIRST;
    });
    for token in [plain, full] {
        transact!(store, |tx| tx.insert_access_token(token)).unwrap();
        let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
        assert_same!(found, Some(token));
    }
}

async fn an_access_token_is_only_found_by_its_service_and_account(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, family(&store).await);
    let Family { account, service, .. } = clan.family;
    let token_sid = clan.token.grant.sid;
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

async fn an_access_token_needs_its_service_but_no_entity(store: Store) {
    let Family { account, service: known, .. } = family(&store).await;
    let orphan = access_token(service(account), "user-0001");
    assert_refused!(transact!(store, |tx| tx.insert_access_token(orphan)), Error::ParentGone);
    let for_somebody_new = access_token(known, "user-0002");
    transact!(store, |tx| tx.insert_access_token(for_somebody_new)).unwrap();
}

async fn an_access_token_is_added_once_and_unspent(store: Store) {
    let Family { account, service, .. } = family(&store).await;
    let unspent = access_token(service, "user-0001");
    let spent = changed(unspent, |token| token.spent_on = Some(sid()));
    transact!(store, |tx| tx.insert_access_token(spent)).unwrap();
    let again = transact!(store, |tx| tx.insert_access_token(spent));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    let found = read!(store, |db| db.access_token(account.sid, service.sid, unspent.grant.sid)).unwrap();
    assert_same!(found, Some(unspent));
}

async fn an_access_token_is_spent_once_and_alone(store: Store) {
    let Clan { family: Family { account, service, factor, .. }, token, .. } = Clan::settle(&store).await;
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

async fn an_access_token_is_spent_once_among_many_at_once(store: Store) {
    let Clan { family: Family { account, service, .. }, token, .. } = Clan::settle(&store).await;
    let factors: Vec<FactorSid> = (0..50).map(|_| sid()).collect();
    let spent = at_once(factors.len(), |number| {
        let (store, on) = (store.clone(), factors[number]);
        async move { transact!(store, |tx| tx.spend_access_token(token.grant.sid, on)).unwrap() }
    });
    let spent_on: Vec<_> =
        spent.await.into_iter().zip(factors).filter_map(|(spent, on)| spent.then_some(on)).collect();
    assert_eq!(spent_on.len(), 1);
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_eq!(found.unwrap().spent_on, Some(spent_on[0]));
}

async fn an_unknown_access_token_is_not_spent(store: Store) {
    let Clan { family: Family { account, service, factor, .. }, token, .. } = Clan::settle(&store).await;
    assert!(!transact!(store, |tx| tx.spend_access_token(sid(), factor.sid)).unwrap());
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_same!(found, Some(token));
}

async fn a_spent_access_token_remembers_a_factor_that_is_gone(store: Store) {
    let Clan { family, token, .. } = Clan::settle(&store).await;
    let Family { account, service, path, factor, .. } = family;
    assert!(transact!(store, |tx| tx.spend_access_token(token.grant.sid, factor.sid)).unwrap());
    transact!(store, |tx| tx.delete_factor(path, factor.sid, NOW)).unwrap().unwrap();
    let found = read!(store, |db| db.access_token(account.sid, service.sid, token.grant.sid)).unwrap();
    assert_eq!(found.unwrap().spent_on, Some(factor.sid));
}

async fn expired_access_tokens_are_deleted_in_batches_oldest_first(store: Store) {
    let Family { account, service, factor, .. } = family(&store).await;
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
