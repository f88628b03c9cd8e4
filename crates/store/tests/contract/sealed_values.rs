//! Sealed values: counting them by master key, and re-sealing them under a new master key.

use domain::{Account, Sealed};
use store::{EnrollmentKeyRow, SealedColumn, Store};

use crate::databases::TestDatabase;
use crate::fixtures::*;

contract! {
    sealed_values_are_counted_by_key,
    values_sealed_under_other_keys_are_read_in_batches,
    resealing_skips_values_that_changed_meanwhile,
    server_key_is_read_back_unchanged_and_cannot_be_inserted_twice,
    replaced_enrollment_key_is_deleted_after_its_retention,
}

contract! { on disk:
    table_missing_from_an_old_schema_counts_as_empty,
}

/// The id of the previous master key, 8 bytes that stand in the header of sealed values.
const OLD: &[u8] = b"old key.";
/// The id of the new master key, in the same form.
const NEW: &[u8] = b"new key.";

/// Returns a value whose header says that it is sealed under `key`. `rest` follows the header.
fn sealed<T>(key: &[u8], rest: &str) -> Sealed<T> {
    Sealed::from_bytes([&[1], key, rest.as_bytes()].concat())
}

/// Returns an account whose auth token is sealed under `key`.
fn account_under(key: &[u8]) -> &'static Account {
    changed(account(), |account| account.auth_token = sealed(key, "token"))
}

async fn sealed_values_are_counted_by_key(store: Store) {
    for kind in SealedColumn::ALL {
        assert_eq!(read!(store, |db| db.count_by_key(kind)).unwrap(), []);
    }
    add(&store, [account_under(OLD), account_under(NEW), account_under(OLD)]).await;
    let key = leak(EnrollmentKeyRow::<Plaintext> { kid: "0190aaaa".to_owned(), secret: sealed(NEW, "") });
    transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    let seals = read!(store, |db| db.count_by_key(SealedColumn::AuthTokens)).unwrap();
    assert_eq!(seals, [(NEW.to_vec(), 1), (OLD.to_vec(), 2)]);
    let seals = read!(store, |db| db.count_by_key(SealedColumn::EnrollmentKeys)).unwrap();
    assert_eq!(seals, [(NEW.to_vec(), 1)]);
    assert_eq!(read!(store, |db| db.count_by_key(SealedColumn::PushCredentials)).unwrap(), []);
}

async fn table_missing_from_an_old_schema_counts_as_empty(database: TestDatabase) {
    let store = database.open().await;
    add(&store, [account_under(OLD)]).await;
    database.sql("DROP TABLE server_keys").await;
    let seals = async |kind| read!(store, |db| db.count_by_key(kind)).unwrap();
    assert_eq!(seals(SealedColumn::ServerKeys).await, []);
    assert_eq!(seals(SealedColumn::AuthTokens).await, [(OLD.to_vec(), 1)]);
}

async fn values_sealed_under_other_keys_are_read_in_batches(store: Store) {
    let accounts: Vec<_> = (0..5).map(|number| account_under(if number == 2 { NEW } else { OLD })).collect();
    add(&store, accounts.clone()).await;
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let start = leak(after.clone());
        let rows = read!(store, |db| db.sealed_under_other_keys::<Plaintext>(
            SealedColumn::AuthTokens,
            NEW,
            start,
            2
        ))
        .unwrap();
        assert!(rows.len() <= 2);
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        found.extend(rows.into_iter().map(|(owner, value)| (owner, value.as_bytes().to_vec())));
    }
    let others = accounts.iter().filter(|account| account.auth_token.as_bytes()[1..9] == *OLD);
    let expected = others.map(|account| (account.sid.to_string(), account.auth_token.as_bytes().to_vec()));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

async fn resealing_skips_values_that_changed_meanwhile(store: Store) {
    let (one, other) = (account_under(OLD), account_under(OLD));
    add(&store, [one, other]).await;
    let reseal = async |account: &'static Account, old: Sealed<Plaintext>| {
        let (owner, new) = (account.sid.to_string(), sealed::<Plaintext>(NEW, "resealed"));
        let write =
            async move |tx: &mut store::Write| tx.reseal(SealedColumn::AuthTokens, &owner, &old, &new).await;
        store.write(write).await.unwrap()
    };
    let old = || sealed(OLD, "token");
    // The auth token of `one` is rotated before the old value can be re-sealed.
    let rotated = leak(sealed(OLD, "rotated"));
    assert!(transact!(store, |tx| tx.update_auth_token(one.sid, rotated, NOW)).unwrap());
    assert!(!reseal(one, old()).await);
    assert!(reseal(other, old()).await);
    assert!(!reseal(other, old()).await);
    let token = async |account: &'static Account| {
        let account = read!(store, |db| db.account(account.sid)).unwrap().unwrap();
        account.auth_token.as_bytes().to_vec()
    };
    assert_eq!(token(one).await, rotated.as_bytes());
    assert_eq!(token(other).await, sealed::<Plaintext>(NEW, "resealed").as_bytes());
}

async fn server_key_is_read_back_unchanged_and_cannot_be_inserted_twice(store: Store) {
    assert!(read!(store, |db| db.server_key::<Plaintext>("hashing")).unwrap().is_none());
    let key = leak(sealed::<Plaintext>(NEW, "hashing"));
    transact!(store, |tx| tx.insert_server_key("hashing", key, NOW)).unwrap();
    assert!(transact!(store, |tx| tx.insert_server_key("hashing", key, NOW)).is_err());
    let found = read!(store, |db| db.server_key::<Plaintext>("hashing")).unwrap().unwrap();
    assert_eq!(found.as_bytes(), key.as_bytes());
}

async fn replaced_enrollment_key_is_deleted_after_its_retention(store: Store) {
    let delete = async |before| {
        transact!(store, |tx| tx.delete_replaced_enrollment_keys(before)).unwrap();
        let left = read!(store, |db| db.enrollment_keys::<Plaintext>()).unwrap();
        left.into_iter().map(|key| key.kid).collect::<Vec<_>>()
    };
    for (kid, created) in [("1", 0), ("2", 100), ("3", 200)] {
        let (key, created_at) = (enrollment_key(kid), NOW.plus_seconds(created));
        transact!(store, |tx| tx.insert_enrollment_key(key, created_at)).unwrap();
    }
    assert_eq!(delete(NOW.plus_seconds(100)).await, ["1", "2", "3"]);
    assert_eq!(delete(NOW.plus_seconds(101)).await, ["2", "3"]);
    assert_eq!(delete(NOW.plus_seconds(200)).await, ["2", "3"]);
    // The newest key is kept regardless of its age.
    assert_eq!(delete(MAX_TIME).await, ["3"]);
}
