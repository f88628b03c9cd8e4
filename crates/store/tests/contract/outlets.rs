//! Outlets.

use std::num::NonZeroU32;

use domain::outlets::{MAX_OUTLETS, Outlet, OutletKind, OutletSid};
use domain::{Channel, Sealed};
use store::{Conflict, Error, Store};

use crate::fixtures::*;

contract! {
    outlet_is_read_back_unchanged,
    outlet_is_not_found_with_a_wrong_account_or_sid,
    outlet_cannot_be_inserted_without_its_account,
    outlet_cannot_be_inserted_twice,
    outlet_update_changes_only_mutable_fields,
    outlets_of_an_account_are_listed_oldest_first,
    outlets_are_counted_by_account,
    outlet_can_be_deleted_only_once_without_affecting_other_resources,
    outlet_is_not_deleted_with_a_wrong_account_or_sid,
}

/// Returns a copy of `like` with a value in every field. The mutable fields differ from those of [`outlet`].
fn full(like: &Outlet) -> &'static Outlet {
    changed(like, |outlet| {
        outlet.friendly_name = name(TRICKY_TEXT);
        outlet.channels = vec![Channel::Whatsapp, Channel::Call];
        outlet.content = Sealed::from_bytes(all_bytes());
        outlet.rate = Some(NonZeroU32::MAX);
        outlet.updated_at = MAX_TIME;
    })
}

async fn outlet_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = outlet(account);
    let full = changed(full(plain), |outlet| {
        outlet.sid = OutletSid::Messaging(sid());
        outlet.created_at = MIN_TIME;
    });
    let of_kind =
        |kind| changed(plain, |outlet| (outlet.sid, outlet.kind) = (OutletSid::Messaging(sid()), kind));
    let mailer = changed(of_kind(OutletKind::Smtp), |outlet| {
        (outlet.sid, outlet.channels) = (OutletSid::Mailer(sid()), vec![Channel::Email]);
    });
    let others = [of_kind(OutletKind::Twilio), of_kind(OutletKind::Capture)];
    for outlet in [plain, full, mailer].into_iter().chain(others) {
        transact!(store, |tx| tx.insert_outlet(outlet)).unwrap();
        assert_same!(read!(store, |db| db.outlet(account.sid, outlet.sid)).unwrap(), Some(outlet));
        assert_same!(transact!(store, |tx| tx.lock_outlet(account.sid, outlet.sid)).unwrap(), Some(outlet));
    }
}

async fn outlet_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (owner, other) = (account(), account());
    let outlet = outlet(owner);
    add(&store, [owner, other]).await;
    add(&store, [outlet]).await;
    let of_mailer = OutletSid::from_stored(outlet.sid.to_bytes(), &[Channel::Email]);
    for (account_sid, sid) in
        [(other.sid, outlet.sid), (owner.sid, OutletSid::Messaging(sid())), (owner.sid, of_mailer)]
    {
        assert_same!(read!(store, |db| db.outlet(account_sid, sid)).unwrap(), None::<Outlet>);
        assert_same!(transact!(store, |tx| tx.lock_outlet(account_sid, sid)).unwrap(), None::<Outlet>);
    }
}

async fn outlet_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = outlet(account());
    assert_refused!(transact!(store, |tx| tx.insert_outlet(orphan)), Error::ParentGone);
}

async fn outlet_cannot_be_inserted_twice(store: Store) {
    let AccountTree { outlet, .. } = AccountTree::create(&store).await;
    let again = transact!(store, |tx| tx.insert_outlet(outlet));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn outlet_update_changes_only_mutable_fields(store: Store) {
    let (account, other) = (account(), account());
    let (before, bystander) = (outlet(account), outlet(account));
    add(&store, [account, other]).await;
    add(&store, [before, bystander]).await;
    let full = full(before);
    // First set every field, then reset each to its previous value.
    for after in [full, changed(before, |outlet| outlet.updated_at = MIN_TIME)] {
        let update = changed(after, |outlet| {
            outlet.account_sid = other.sid;
            outlet.kind = OutletKind::Twilio;
            outlet.created_at = MAX_TIME;
        });
        transact!(store, |tx| tx.update_outlet(update)).unwrap();
        assert_same!(read!(store, |db| db.outlets_of_account(account.sid)).unwrap(), [after, bystander]);
    }
}

async fn outlets_of_an_account_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.all_outlets()).unwrap(), Vec::<Outlet>::new());
    let (one, other) = (account(), account());
    let created_at =
        |account, second| changed(outlet(account), |it| it.created_at = NOW.plus_seconds(second));
    let [third, first, second] = [created_at(one, 3), created_at(other, 1), full(created_at(one, 2))];
    add(&store, [one, other]).await;
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_outlets()).unwrap(), [first, second, third]);
    assert_same!(read!(store, |db| db.outlets_of_account(one.sid)).unwrap(), [second, third]);
    assert_same!(read!(store, |db| db.outlets_of_account(sid())).unwrap(), Vec::<Outlet>::new());
}

async fn outlets_are_counted_by_account(store: Store) {
    let (owner, other) = (account(), account());
    add(&store, [owner, other]).await;
    let outlets: Vec<_> = (0..MAX_OUTLETS).map(|_| outlet(owner)).collect();
    add(&store, outlets).await;
    for (account_sid, expected) in [(owner.sid, MAX_OUTLETS), (other.sid, 0)] {
        assert!(transact!(store, |tx| tx.lock_account(account_sid)).unwrap());
        assert_eq!(transact!(store, |tx| tx.count_outlets(account_sid)).unwrap(), expected);
    }
    assert!(!transact!(store, |tx| tx.lock_account(sid())).unwrap());
}

async fn outlet_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account = tree.user.account;
    let delete = async || transact!(store, |tx| tx.delete_outlet(account.sid, tree.outlet.sid)).unwrap();
    assert!(delete().await);
    assert!(!delete().await);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "outlet").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn outlet_is_not_deleted_with_a_wrong_account_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    let wrong_sid = OutletSid::Messaging(sid());
    for (account_sid, sid) in [(other.sid, tree.outlet.sid), (tree.user.account.sid, wrong_sid)] {
        assert!(!transact!(store, |tx| tx.delete_outlet(account_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}
