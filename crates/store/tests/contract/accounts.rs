//! Accounts, their API keys, and the enrollment keys.

use domain::{Account, AccountSid, ApiKey, ApiKeySid, Sealed, Sid as _};
use store::{Conflict, EnrollmentKeyRow, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{assert_paged_list, scattered};

type EnrollmentKey = EnrollmentKeyRow<Plaintext>;

contract! {
    account_is_read_back_unchanged,
    unknown_account_is_not_found,
    inserting_an_existing_account_changes_nothing,
    accounts_are_listed_oldest_first,
    replacing_an_auth_token_changes_only_its_account,
    replacing_the_auth_token_of_an_unknown_account_changes_nothing,
    debugger_webhook_can_be_set_replaced_and_removed,
    setting_the_debugger_webhook_of_an_unknown_account_changes_nothing,
    url_for_verification_events_can_be_set_replaced_and_removed,
    api_key_is_read_back_unchanged,
    unknown_api_key_is_not_found,
    api_key_cannot_be_inserted_without_its_account,
    api_key_cannot_be_inserted_twice,
    api_keys_of_an_account_are_listed_oldest_first,
    api_key_list_is_complete_and_ordered_with_every_page_size,
    api_key_is_found_and_renamed_only_in_its_account,
    api_key_can_be_deleted_only_once_without_affecting_other_keys,
    enrollment_keys_are_listed_unchanged_and_oldest_first,
    enrollment_key_cannot_be_inserted_twice,
    first_enrollment_key_is_created_by_exactly_one_of_several_concurrent_writes,
}

contract! {
    on disk:
    deleting_an_account_deletes_all_its_resources_except_deliveries,
    first_enrollment_key_is_created_by_exactly_one_of_several_concurrent_servers,
}

async fn account_is_read_back_unchanged(store: Store) {
    let plain = account();
    let awkward = leak(Account {
        sid: sid(),
        friendly_name: name(TRICKY_TEXT),
        auth_token: Sealed::from_bytes(all_bytes()),
        debugger_webhook: None,
        verification_events_url: None,
        created_at: MIN_TIME,
        updated_at: MAX_TIME,
    });
    let bare = changed(account(), |account| account.auth_token = Sealed::from_bytes(Vec::new()));
    for account in [plain, awkward, bare] {
        assert!(transact!(store, |tx| tx.insert_account(account)).unwrap());
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
    }
}

async fn unknown_account_is_not_found(store: Store) {
    add(&store, [account()]).await;
    assert_same!(read!(store, |db| db.account(sid())).unwrap(), None::<Account>);
}

async fn inserting_an_existing_account_changes_nothing(store: Store) {
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

async fn replacing_an_auth_token_changes_only_its_account(store: Store) {
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

async fn replacing_the_auth_token_of_an_unknown_account_changes_nothing(store: Store) {
    let (account, unknown) = (account(), account());
    add(&store, [account]).await;
    assert!(
        !transact!(store, |tx| tx.update_auth_token(unknown.sid, &unknown.auth_token, MAX_TIME)).unwrap()
    );
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn debugger_webhook_can_be_set_replaced_and_removed(store: Store) {
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

async fn setting_the_debugger_webhook_of_an_unknown_account_changes_nothing(store: Store) {
    let account = account();
    let url = leak(url("https://a.example/"));
    add(&store, [account]).await;
    assert!(!transact!(store, |tx| tx.set_debugger_webhook(sid(), Some(url), MAX_TIME)).unwrap());
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account]);
}

async fn url_for_verification_events_can_be_set_replaced_and_removed(store: Store) {
    let (mut before, bystander) = (account(), account());
    add(&store, [before, bystander]).await;
    for (second, url) in
        [(1, Some(url("https://a.example/x?y=%F0#rc=2"))), (2, Some(url("http://b"))), (3, None)]
    {
        let after = changed(before, |account| {
            account.verification_events_url = url;
            account.updated_at = NOW.plus_seconds(second);
        });
        let (url, now) = (after.verification_events_url.as_ref(), after.updated_at);
        assert!(transact!(store, |tx| tx.set_verification_events_url(after.sid, url, now)).unwrap());
        assert_same!(read!(store, |db| db.accounts()).unwrap(), [after, bystander]);
        before = after;
    }
    assert!(!transact!(store, |tx| tx.set_verification_events_url(sid(), None, MAX_TIME)).unwrap());
}

async fn api_key_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = api_key(account);
    let awkward = leak(ApiKey {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: name(TRICKY_TEXT),
        secret_hash: all_bytes(),
        created_at: MIN_TIME,
    });
    for key in [plain, awkward] {
        transact!(store, |tx| tx.insert_api_key(key)).unwrap();
        assert_same!(read!(store, |db| db.api_key(key.sid)).unwrap(), Some(key));
    }
}

async fn unknown_api_key_is_not_found(store: Store) {
    assert_same!(read!(store, |db| db.api_key(sid())).unwrap(), None::<ApiKey>);
}

async fn api_key_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = api_key(account());
    assert_refused!(transact!(store, |tx| tx.insert_api_key(orphan)), Error::ParentGone);
    assert_same!(read!(store, |db| db.api_key(orphan.sid)).unwrap(), None::<ApiKey>);
}

async fn api_key_cannot_be_inserted_twice(store: Store) {
    let account = account();
    let key = api_key(account);
    add(&store, [account]).await;
    add(&store, [key]).await;
    let again = transact!(store, |tx| tx.insert_api_key(key));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn api_keys_of_an_account_are_listed_oldest_first(store: Store) {
    let (owner, other) = (account(), account());
    add(&store, [owner, other]).await;
    let mut keys: Vec<_> = scattered(|sid: ApiKeySid, time| {
        changed(api_key(owner), |key| (key.sid, key.created_at) = (sid, time))
    });
    add(&store, keys.clone()).await;
    keys.sort_by_key(|key| (key.created_at, key.sid));
    assert_same!(read!(store, |db| db.all_api_keys(owner.sid)).unwrap(), keys);
    assert_same!(read!(store, |db| db.all_api_keys(other.sid)).unwrap(), Vec::<ApiKey>::new());
}

async fn api_key_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let (owner, other) = (account(), account());
    add(&store, [owner, other]).await;
    let keys = scattered(|sid: ApiKeySid, time| {
        changed(api_key(owner), |key| (key.sid, key.created_at) = (sid, time))
    });
    add(&store, keys.clone()).await;
    add(&store, [api_key(other)]).await;
    let page = async |request| read!(store, |db| db.api_keys(owner.sid, &request)).unwrap();
    assert_paged_list(&keys, page).await;
}

async fn api_key_is_found_and_renamed_only_in_its_account(store: Store) {
    let (owner, other) = (account(), account());
    let (key, bystander) = (api_key(owner), api_key(owner));
    add(&store, [owner, other]).await;
    add(&store, [key, bystander]).await;
    let new = leak(name(TRICKY_TEXT));
    let renamed = changed(key, |key| key.friendly_name = new.clone());
    for (account, sid) in [(other.sid, key.sid), (owner.sid, sid())] {
        let found = read!(store, |db| db.api_key_of_account(account, sid)).unwrap();
        assert_same!(found, None::<ApiKey>);
        let changed = transact!(store, |tx| tx.rename_api_key(account, sid, new)).unwrap();
        assert_same!(changed, None::<ApiKey>);
    }
    assert_same!(read!(store, |db| db.api_key(key.sid)).unwrap(), Some(key));
    assert_same!(transact!(store, |tx| tx.rename_api_key(owner.sid, key.sid, new)).unwrap(), Some(renamed));
    assert_same!(read!(store, |db| db.api_key_of_account(owner.sid, key.sid)).unwrap(), Some(renamed));
    assert_same!(read!(store, |db| db.api_key(bystander.sid)).unwrap(), Some(bystander));
}

async fn api_key_can_be_deleted_only_once_without_affecting_other_keys(store: Store) {
    let account = account();
    let (key, bystander) = (api_key(account), api_key(account));
    add(&store, [account]).await;
    add(&store, [key, bystander]).await;
    assert_eq!(transact!(store, |tx| tx.delete_api_key(key.sid)).unwrap(), Some(key.account_sid));
    assert_eq!(transact!(store, |tx| tx.delete_api_key(key.sid)).unwrap(), None);
    assert_same!(read!(store, |db| db.all_api_keys(account.sid)).unwrap(), [bystander]);
}

async fn deleting_an_account_deletes_all_its_resources_except_deliveries(database: TestDatabase) {
    let store = database.open().await;
    let (deleted, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let (key, bystander) = (api_key(deleted.user.account), api_key(other.user.account));
    add(&store, [key, bystander]).await;

    // The store has no method that deletes an account yet. This connection enforces foreign keys, too.
    let deleted_sid = database.literal(deleted.user.account.sid.to_bytes());
    database.sql(&format!("DELETE FROM accounts WHERE sid = {deleted_sid}")).await;
    assert_same!(read!(store, |db| db.api_key(key.sid)).unwrap(), None::<ApiKey>);
    assert_eq!(deleted.remaining(&store).await, ["delivery"]);
    assert_same!(read!(store, |db| db.api_key(bystander.sid)).unwrap(), Some(bystander));
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn enrollment_keys_are_listed_unchanged_and_oldest_first(store: Store) {
    assert_same!(enrollment_keys(&store).await, Vec::<EnrollmentKey>::new());
    // Key ids sort by creation time, so the keys are listed oldest first regardless of the order of insertion.
    let [third, first, second] = ["0190b000", "018fffff", "0190aaaa"].map(enrollment_key);
    let secret = Sealed::from_bytes(all_bytes());
    let second = leak(EnrollmentKey { kid: second.kid.clone(), secret });
    for key in [third, first, second] {
        transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    }
    assert_same!(enrollment_keys(&store).await, [first, second, third]);
}

async fn enrollment_key_cannot_be_inserted_twice(store: Store) {
    let key = enrollment_key("0190aaaa");
    transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    let again = transact!(store, |tx| tx.insert_enrollment_key(key, NOW));
    assert_refused!(again, Error::Conflict(Conflict::Other));
    assert_same!(enrollment_keys(&store).await, [key]);
}

async fn first_enrollment_key_is_created_by_exactly_one_of_several_concurrent_writes(store: Store) {
    let created = run_concurrently(8, |number| create_first_key(store.clone(), number)).await;
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    assert_eq!(enrollment_keys(&store).await.len(), 1);
}

async fn first_enrollment_key_is_created_by_exactly_one_of_several_concurrent_servers(
    database: TestDatabase,
) {
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(database.open().await);
    }
    let created = run_concurrently(8, |number| create_first_key(stores[number].clone(), number)).await;
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    for store in stores {
        assert_eq!(enrollment_keys(&store).await.len(), 1);
    }
}

/// Creates an enrollment key if the store has none, as a server does at startup. Returns whether it created one.
async fn create_first_key(store: Store, number: usize) -> bool {
    let key = enrollment_key(&format!("key {number}"));
    let make = async move |tx: &mut Write| {
        tx.lock_enrollment_keys().await?;
        let is_first = tx.enrollment_keys::<Plaintext>().await?.is_empty();
        if is_first {
            tx.insert_enrollment_key(key, NOW).await?;
        }
        Ok::<_, Error>(is_first)
    };
    store.write(make).await.unwrap()
}

/// Returns all enrollment keys in the store, oldest first.
async fn enrollment_keys(store: &Store) -> Vec<EnrollmentKey> {
    read!(store, |db| db.enrollment_keys()).unwrap()
}
