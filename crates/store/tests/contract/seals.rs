//! What is sealed under which key, and what is sealed anew.

use domain::{Account, Sealed};
use store::{EnrollmentKeyRow, Kind, Store};

use crate::fixtures::*;
use crate::places::Place;

contract! {
    what_is_sealed_is_counted_by_key,
    what_is_sealed_otherwise_is_found_piece_by_piece,
    what_changed_meanwhile_stays,
    a_key_of_the_server_comes_back,
    a_replaced_enrollment_key_goes_after_its_time,
}

contract! { on disk:
    what_an_old_schema_lacks_has_nothing_sealed,
}

const OLD: &[u8] = b"old key.";
const NEW: &[u8] = b"new key.";

/// A value as it looks that is sealed under this key.
fn sealed<T>(key: &[u8], rest: &str) -> Sealed<T> {
    Sealed::from_bytes([&[1], key, rest.as_bytes()].concat())
}

fn account_under(key: &[u8]) -> &'static Account {
    changed(account(), |account| account.auth_token = sealed(key, "token"))
}

async fn what_is_sealed_is_counted_by_key(store: Store) {
    for kind in Kind::ALL {
        assert_eq!(read!(store, |db| db.seals(kind)).unwrap(), []);
    }
    add(&store, [account_under(OLD), account_under(NEW), account_under(OLD)]).await;
    let key = keep(EnrollmentKeyRow::<RingKey> { kid: "0190aaaa".to_owned(), secret: sealed(NEW, "") });
    transact!(store, |tx| tx.insert_enrollment_key(key, NOW)).unwrap();
    let seals = read!(store, |db| db.seals(Kind::AuthTokens)).unwrap();
    assert_eq!(seals, [(NEW.to_vec(), 1), (OLD.to_vec(), 2)]);
    let seals = read!(store, |db| db.seals(Kind::EnrollmentKeys)).unwrap();
    assert_eq!(seals, [(NEW.to_vec(), 1)]);
    assert_eq!(read!(store, |db| db.seals(Kind::PushCredentials)).unwrap(), []);
}

async fn what_an_old_schema_lacks_has_nothing_sealed(place: Place) {
    let store = place.open().await;
    add(&store, [account_under(OLD)]).await;
    place.sql("DROP TABLE server_keys").await;
    let seals = async |kind| read!(store, |db| db.seals(kind)).unwrap();
    assert_eq!(seals(Kind::ServerKeys).await, []);
    assert_eq!(seals(Kind::AuthTokens).await, [(OLD.to_vec(), 1)]);
}

async fn what_is_sealed_otherwise_is_found_piece_by_piece(store: Store) {
    let accounts: Vec<_> = (0..5).map(|number| account_under(if number == 2 { NEW } else { OLD })).collect();
    add(&store, accounts.clone()).await;
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let behind = keep(after.clone());
        let rows =
            read!(store, |db| db.sealed_otherwise::<RingKey>(Kind::AuthTokens, NEW, behind, 2)).unwrap();
        assert!(rows.len() <= 2);
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        found.extend(rows.into_iter().map(|(owner, value)| (owner, value.as_bytes().to_vec())));
    }
    let others = accounts.iter().filter(|account| account.auth_token.as_bytes()[1..9] == *OLD);
    let expected = others.map(|account| (account.sid.to_string(), account.auth_token.as_bytes().to_vec()));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

async fn what_changed_meanwhile_stays(store: Store) {
    let (one, other) = (account_under(OLD), account_under(OLD));
    add(&store, [one, other]).await;
    let reseal = async |account: &'static Account, old: Sealed<RingKey>| {
        let (owner, new) = (account.sid.to_string(), sealed::<RingKey>(NEW, "anew"));
        let write = async move |tx: &mut store::Write| tx.reseal(Kind::AuthTokens, &owner, &old, &new).await;
        store.write(write).await.unwrap()
    };
    let old = || sealed(OLD, "token");
    // Somebody rotates the token of one in between.
    let rotated = keep(sealed(OLD, "rotated"));
    assert!(transact!(store, |tx| tx.update_auth_token(one.sid, rotated, NOW)).unwrap());
    assert!(!reseal(one, old()).await);
    assert!(reseal(other, old()).await);
    assert!(!reseal(other, old()).await);
    let token = async |account: &'static Account| {
        let account = read!(store, |db| db.account(account.sid)).unwrap().unwrap();
        account.auth_token.as_bytes().to_vec()
    };
    assert_eq!(token(one).await, rotated.as_bytes());
    assert_eq!(token(other).await, sealed::<RingKey>(NEW, "anew").as_bytes());
}

async fn a_key_of_the_server_comes_back(store: Store) {
    assert!(read!(store, |db| db.server_key::<RingKey>("hashing")).unwrap().is_none());
    let key = keep(sealed::<RingKey>(NEW, "hashing"));
    transact!(store, |tx| tx.insert_server_key("hashing", key, NOW)).unwrap();
    assert!(transact!(store, |tx| tx.insert_server_key("hashing", key, NOW)).is_err());
    let found = read!(store, |db| db.server_key::<RingKey>("hashing")).unwrap().unwrap();
    assert_eq!(found.as_bytes(), key.as_bytes());
}

async fn a_replaced_enrollment_key_goes_after_its_time(store: Store) {
    let delete = async |before| {
        transact!(store, |tx| tx.delete_replaced_enrollment_keys(before)).unwrap();
        let left = read!(store, |db| db.enrollment_keys::<RingKey>()).unwrap();
        left.into_iter().map(|key| key.kid).collect::<Vec<_>>()
    };
    for (kid, made) in [("1", 0), ("2", 100), ("3", 200)] {
        let (key, made) = (enrollment_key(kid), NOW.plus_seconds(made));
        transact!(store, |tx| tx.insert_enrollment_key(key, made)).unwrap();
    }
    assert_eq!(delete(NOW.plus_seconds(100)).await, ["1", "2", "3"]);
    assert_eq!(delete(NOW.plus_seconds(101)).await, ["2", "3"]);
    assert_eq!(delete(NOW.plus_seconds(200)).await, ["2", "3"]);
    // The last one stays, however old it is.
    assert_eq!(delete(LAST).await, ["3"]);
}
