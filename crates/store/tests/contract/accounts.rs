//! Accounts, their API keys, and the ring of enrollment keys.

use domain::{Account, AccountSid, ApiKey, ApiKeySid, Sealed};
use store::{Conflict, EnrollmentKeyRow, Error, Store, Write};

use crate::fixtures::*;
use crate::pages::scattered;
use crate::places::Place;
use crate::together::at_once;

type EnrollmentKey = EnrollmentKeyRow<RingKey>;

contract! {
    an_account_comes_back_as_it_was_added,
    an_unknown_account_is_none,
    an_account_that_exists_is_left_alone,
    accounts_are_listed_oldest_first,
    an_auth_token_is_replaced_in_one_account,
    an_unknown_account_has_no_auth_token_to_replace,
    a_debugger_webhook_is_set_and_taken_away,
    an_unknown_account_has_no_debugger_webhook_to_set,
    an_api_key_comes_back_as_it_was_added,
    an_unknown_api_key_is_none,
    an_api_key_needs_its_account,
    an_api_key_is_added_once,
    api_keys_of_one_account_are_listed_oldest_first,
    an_api_key_is_deleted_once_and_alone,
    enrollment_keys_come_back_as_they_were_added_oldest_first,
    an_enrollment_key_is_added_once,
    the_first_enrollment_key_is_made_once,
}

contract! {
    on disk:
    what_belongs_to_an_account_goes_with_it,
    the_first_enrollment_key_is_made_once_among_servers,
}

async fn an_account_comes_back_as_it_was_added(store: Store) {
    let plain = account();
    let awkward = keep(Account {
        sid: sid(),
        friendly_name: name(AWKWARD),
        auth_token: Sealed::from_bytes(all_bytes()),
        debugger_webhook: None,
        created_at: FIRST,
        updated_at: LAST,
    });
    let bare = changed(account(), |account| account.auth_token = Sealed::from_bytes(Vec::new()));
    for account in [plain, awkward, bare] {
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    }
}

async fn an_unknown_account_is_none(store: Store) {
    add(&store, [account()]).await;
    assert_same!(read!(store, |db| db.account(sid())).unwrap(), None::<Account>);
}

async fn an_account_that_exists_is_left_alone(store: Store) {
    let account = account();
    let namesake = changed(account, |account| {
        account.friendly_name = name("Another");
        account.auth_token = Sealed::from_bytes(b"another".to_vec());
    });
    add(&store, [account]).await;
    assert!(!transact!(store, |tx| tx.insert_account(namesake)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn accounts_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.accounts()).unwrap(), Vec::<Account>::new());
    let mut accounts: Vec<_> = scattered(|sid: AccountSid, time| {
        changed(account(), |account| (account.sid, account.created_at) = (sid, time))
    });
    add(&store, accounts.clone()).await;
    accounts.sort_by_key(|account| (account.created_at, account.sid));
    assert_same!(read!(store, |db| db.accounts()).unwrap(), accounts);
}

async fn an_auth_token_is_replaced_in_one_account(store: Store) {
    let (before, bystander) = (account(), account());
    let after = changed(before, |account| {
        account.auth_token = Sealed::from_bytes(all_bytes());
        account.updated_at = NOW.plus_seconds(1);
    });
    add(&store, [before, bystander]).await;
    let update = transact!(store, |tx| tx.update_auth_token(after.sid, &after.auth_token, after.updated_at));
    assert!(update.unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [after, bystander]);
}

async fn an_unknown_account_has_no_auth_token_to_replace(store: Store) {
    let (account, stranger) = (account(), account());
    add(&store, [account]).await;
    assert!(!transact!(store, |tx| tx.update_auth_token(stranger.sid, &stranger.auth_token, LAST)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn a_debugger_webhook_is_set_and_taken_away(store: Store) {
    let (mut before, bystander) = (account(), account());
    add(&store, [before, bystander]).await;
    for (second, url) in
        [(1, Some(url("https://a.example/x?y=%F0#rc=2"))), (2, Some(url("http://b"))), (3, None)]
    {
        let after = changed(before, |account| {
            account.debugger_webhook = url;
            account.updated_at = NOW.plus_seconds(second);
        });
        let url = after.debugger_webhook.as_ref();
        assert!(transact!(store, |tx| tx.set_debugger_webhook(after.sid, url, after.updated_at)).unwrap());
        assert_same!(read!(store, |db| db.accounts()).unwrap(), [after, bystander]);
        before = after;
    }
}

async fn an_unknown_account_has_no_debugger_webhook_to_set(store: Store) {
    let account = account();
    let url = keep(url("https://a.example/"));
    add(&store, [account]).await;
    assert!(!transact!(store, |tx| tx.set_debugger_webhook(sid(), Some(url), LAST)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn an_api_key_comes_back_as_it_was_added(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = api_key(account);
    let awkward = keep(ApiKey {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: name(AWKWARD),
        secret_hash: all_bytes(),
        created_at: FIRST,
    });
    for key in [plain, awkward] {
        transact!(store, |tx| tx.insert_api_key(key)).unwrap();
        assert_same!(read!(store, |db| db.api_key(key.sid)).unwrap(), Some(key));
    }
}

async fn an_unknown_api_key_is_none(store: Store) {
    assert_same!(read!(store, |db| db.api_key(sid())).unwrap(), None::<ApiKey>);
}

async fn an_api_key_needs_its_account(store: Store) {
    let orphan = api_key(account());
    assert_refused!(transact!(store, |tx| tx.insert_api_key(orphan)), Error::ParentGone);
    assert_same!(read!(store, |db| db.api_key(orphan.sid)).unwrap(), None::<ApiKey>);
}

async fn an_api_key_is_added_once(store: Store) {
    let account = account();
    let key = api_key(account);
    add(&store, [account]).await;
    add(&store, [key]).await;
    let again = transact!(store, |tx| tx.insert_api_key(key));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn api_keys_of_one_account_are_listed_oldest_first(store: Store) {
    let (owner, other) = (account(), account());
    add(&store, [owner, other]).await;
    let mut keys: Vec<_> = scattered(|sid: ApiKeySid, time| {
        changed(api_key(owner), |key| (key.sid, key.created_at) = (sid, time))
    });
    add(&store, keys.clone()).await;
    keys.sort_by_key(|key| (key.created_at, key.sid));
    assert_same!(read!(store, |db| db.api_keys(owner.sid)).unwrap(), keys);
    assert_same!(read!(store, |db| db.api_keys(other.sid)).unwrap(), Vec::<ApiKey>::new());
}

async fn an_api_key_is_deleted_once_and_alone(store: Store) {
    let account = account();
    let (key, bystander) = (api_key(account), api_key(account));
    add(&store, [account]).await;
    add(&store, [key, bystander]).await;
    assert_eq!(transact!(store, |tx| tx.delete_api_key(key.sid)).unwrap(), Some(key.account_sid));
    assert_eq!(transact!(store, |tx| tx.delete_api_key(key.sid)).unwrap(), None);
    assert_same!(read!(store, |db| db.api_keys(account.sid)).unwrap(), [bystander]);
}

async fn what_belongs_to_an_account_goes_with_it(place: Place) {
    let store = place.open().await;
    let (gone, other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let (key, bystander) = (api_key(gone.family.account), api_key(other.family.account));
    add(&store, [key, bystander]).await;

    // The store has no word for it yet. `foreign_keys` is on for this connection too.
    place.sql(&format!("DELETE FROM accounts WHERE sid = '{}'", gone.family.account.sid)).await;
    assert_same!(read!(store, |db| db.api_key(key.sid)).unwrap(), None::<ApiKey>);
    assert_eq!(gone.remains(&store).await, ["delivery"]);
    assert_same!(read!(store, |db| db.api_key(bystander.sid)).unwrap(), Some(bystander));
    assert_eq!(other.remains(&store).await, Clan::ALL);
}

async fn enrollment_keys_come_back_as_they_were_added_oldest_first(store: Store) {
    assert_same!(ring(&store).await, Vec::<EnrollmentKey>::new());
    // Their names tell when they were made; when they were added does not matter.
    let [third, first, second] = ["0190b000", "018fffff", "0190aaaa"].map(enrollment_key);
    let secret = Sealed::from_bytes(all_bytes());
    let second = keep(EnrollmentKey { kid: second.kid.clone(), secret });
    for key in [third, first, second] {
        transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    }
    assert_same!(ring(&store).await, [first, second, third]);
}

async fn an_enrollment_key_is_added_once(store: Store) {
    let key = enrollment_key("0190aaaa");
    transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    let again = transact!(store, |tx| tx.insert_enrollment_key(key, NOW));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    assert_same!(ring(&store).await, [key]);
}

async fn the_first_enrollment_key_is_made_once(store: Store) {
    let made = at_once(8, |number| make_first_key(store.clone(), number)).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(ring(&store).await.len(), 1);
}

async fn the_first_enrollment_key_is_made_once_among_servers(place: Place) {
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(place.open().await);
    }
    let made = at_once(8, |number| make_first_key(stores[number].clone(), number)).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    for store in stores {
        assert_eq!(ring(&store).await.len(), 1);
    }
}

/// What a server does at its start. Returns whether it was the one that made the key.
async fn make_first_key(store: Store, number: usize) -> bool {
    let key = enrollment_key(&format!("key {number}"));
    let make = async move |tx: &mut Write| {
        tx.lock_enrollment_keys().await?;
        let is_first = tx.enrollment_keys::<RingKey>().await?.is_empty();
        if is_first {
            tx.insert_enrollment_key(key, NOW).await?;
        }
        Ok::<_, Error>(is_first)
    };
    store.write(make).await.unwrap()
}

async fn ring(store: &Store) -> Vec<EnrollmentKey> {
    read!(store, |db| db.enrollment_keys()).unwrap()
}
