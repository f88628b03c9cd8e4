//! The safe list: phone numbers of an account.

use domain::{Parameter as _, PhoneNumber, SafeNumber};
use store::{Conflict, Error, Store};

use crate::fixtures::*;

contract! {
    safe_number_is_read_back_unchanged,
    safe_number_is_not_found_with_a_wrong_account_or_number,
    safe_number_cannot_be_inserted_without_its_account,
    phone_number_is_unique_on_the_safe_list_of_an_account,
    safe_number_can_be_deleted_only_once_without_affecting_other_resources,
}

fn number(text: &str) -> &'static PhoneNumber {
    leak(PhoneNumber::from_parameter(text).unwrap())
}

async fn safe_number_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    for (text, time) in [("+14155552671", NOW), ("+123456789012345", MIN_TIME)] {
        let safe = changed(safe_number(account, text), |number| number.created_at = time);
        assert!(!read!(store, |db| db.is_safe_number(account.sid, &safe.phone_number)).unwrap());
        transact!(store, |tx| tx.insert_safe_number(safe)).unwrap();
        let found = read!(store, |db| db.safe_number(account.sid, &safe.phone_number)).unwrap();
        assert_same!(found, Some(safe));
        assert!(read!(store, |db| db.is_safe_number(account.sid, &safe.phone_number)).unwrap());
    }
}

async fn safe_number_is_not_found_with_a_wrong_account_or_number(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    let (account, own) = (tree.user.account, &tree.safe_number.phone_number);
    for (account_sid, number) in [(other.sid, own), (account.sid, number("+4366412345679"))] {
        let found = read!(store, |db| db.safe_number(account_sid, number)).unwrap();
        assert_same!(found, None::<SafeNumber>);
        assert_eq!(transact!(store, |tx| tx.delete_safe_number(account_sid, number)).unwrap(), None);
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn safe_number_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = safe_number(account(), "+14155552671");
    assert_refused!(transact!(store, |tx| tx.insert_safe_number(orphan)), Error::ParentGone);
}

async fn phone_number_is_unique_on_the_safe_list_of_an_account(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    let again = safe_number(tree.user.account, tree.safe_number.phone_number.as_str());
    let refused = transact!(store, |tx| tx.insert_safe_number(again));
    assert_refused!(refused, Error::Conflict(Conflict::SafeNumber));
    add(&store, [safe_number(other, tree.safe_number.phone_number.as_str())]).await;
}

async fn safe_number_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let (account, number) = (tree.user.account, &tree.safe_number.phone_number);
    let delete = async || transact!(store, |tx| tx.delete_safe_number(account.sid, number)).unwrap();
    assert_eq!(delete().await, Some(tree.safe_number.sid));
    assert_eq!(delete().await, None);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "safe number").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}
