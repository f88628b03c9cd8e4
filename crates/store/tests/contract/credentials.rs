//! Push credentials.

use domain::credentials::{Credential, CredentialType};
use domain::{CredentialSid, Sealed, Timestamp};
use store::{Conflict, Error, Store};

use crate::fixtures::*;
use crate::pages::{ALL, assert_list, scattered};
use crate::together::at_once;

contract! {
    a_credential_comes_back_as_it_was_added,
    a_credential_is_only_found_by_its_account,
    a_credential_needs_its_account,
    a_credential_is_added_once,
    an_update_changes_what_can_change_and_nothing_else,
    an_update_of_a_credential_that_is_gone_does_nothing,
    credentials_are_listed_in_pages,
    a_list_has_the_credentials_of_one_account,
    credentials_of_all_accounts_are_listed_oldest_first,
    a_credential_is_deleted_once_and_alone,
    a_credential_is_only_deleted_by_its_account,
    a_credential_that_ends_is_warned_of_once_at_each_distance,
    a_credential_that_is_added_late_is_warned_of_once,
    a_credential_that_was_replaced_is_warned_of_anew,
    a_credential_whose_end_stays_is_not_warned_of_anew,
    a_warning_that_is_undone_is_given_again,
    a_credential_is_warned_of_once_among_many_at_once,
}

const DAY: i64 = 86_400;

/// A credential of which no field is empty.
fn full(like: &Credential) -> &'static Credential {
    changed(like, |credential| {
        credential.friendly_name = Some(name(AWKWARD));
        credential.sandbox = true;
        credential.content = Sealed::from_bytes(all_bytes());
        credential.expires_at = Some(LAST);
        credential.updated_at = LAST;
    })
}

async fn a_credential_comes_back_as_it_was_added(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = credential(account);
    let full = changed(full(plain), |credential| {
        credential.sid = sid();
        credential.credential_type = CredentialType::Apn;
        credential.created_at = FIRST;
    });
    let bare = changed(plain, |credential| {
        (credential.sid, credential.content) = (sid(), Sealed::from_bytes(Vec::new()));
    });
    for credential in [plain, full, bare] {
        transact!(store, |tx| tx.insert_credential(credential)).unwrap();
        let found = read!(store, |db| db.credential(account.sid, credential.sid)).unwrap();
        assert_same!(found, Some(credential));
    }
}

async fn a_credential_is_only_found_by_its_account(store: Store) {
    let (owner, other) = (account(), account());
    let credential = credential(owner);
    add(&store, [owner, other]).await;
    add(&store, [credential]).await;
    for (account_sid, sid) in [(other.sid, credential.sid), (owner.sid, sid())] {
        let found = read!(store, |db| db.credential(account_sid, sid)).unwrap();
        assert_same!(found, None::<Credential>);
    }
}

async fn a_credential_needs_its_account(store: Store) {
    let orphan = credential(account());
    assert_refused!(transact!(store, |tx| tx.insert_credential(orphan)), Error::ParentGone);
}

async fn a_credential_is_added_once(store: Store) {
    let Clan { credential, .. } = Clan::settle(&store).await;
    let again = transact!(store, |tx| tx.insert_credential(credential));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn an_update_changes_what_can_change_and_nothing_else(store: Store) {
    let (account, other) = (account(), account());
    let (before, bystander) = (credential(account), credential(account));
    add(&store, [account, other]).await;
    add(&store, [before, bystander]).await;
    let full = full(before);
    // There, and back to nothing.
    for after in [full, changed(before, |credential| credential.updated_at = FIRST)] {
        let update = changed(after, |credential| {
            credential.account_sid = other.sid;
            credential.credential_type = CredentialType::Apn;
            credential.created_at = LAST;
        });
        transact!(store, |tx| tx.update_credential(update)).unwrap();
        assert_same!(read!(store, |db| db.credentials(account.sid, &ALL)).unwrap(), [after, bystander]);
    }
}

async fn an_update_of_a_credential_that_is_gone_does_nothing(store: Store) {
    let Clan { family: Family { account, .. }, credential, .. } = Clan::settle(&store).await;
    let gone = changed(full(credential), |credential| credential.sid = sid());
    transact!(store, |tx| tx.update_credential(gone)).unwrap();
    assert_same!(read!(store, |db| db.credentials(account.sid, &ALL)).unwrap(), [credential]);
}

async fn credentials_are_listed_in_pages(store: Store) {
    let account = account();
    let credentials = scattered(|sid: CredentialSid, time| {
        changed(credential(account), |credential| (credential.sid, credential.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, credentials.clone()).await;
    let page = async |request| read!(store, |db| db.credentials(account.sid, &request)).unwrap();
    assert_list(&credentials, page).await;
}

async fn a_list_has_the_credentials_of_one_account(store: Store) {
    let (one, _other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let found = read!(store, |db| db.credentials(one.family.account.sid, &ALL)).unwrap();
    assert_same!(found, [one.credential]);
    assert_same!(read!(store, |db| db.credentials(sid(), &ALL)).unwrap(), Vec::<Credential>::new());
}

async fn credentials_of_all_accounts_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.all_credentials()).unwrap(), Vec::<Credential>::new());
    let (one, other) = (account(), account());
    let made = |account, second| changed(credential(account), |it| it.created_at = NOW.plus_seconds(second));
    let [third, first, second] = [made(one, 3), made(other, 1), full(made(one, 2))];
    add(&store, [one, other]).await;
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_credentials()).unwrap(), [first, second, third]);
}

async fn a_credential_is_deleted_once_and_alone(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, Clan::settle(&store).await);
    let account = clan.family.account;
    let delete =
        async || transact!(store, |tx| tx.delete_credential(account.sid, clan.credential.sid)).unwrap();
    assert!(delete().await);
    assert!(!delete().await);
    let rest: Vec<_> = Clan::ALL.into_iter().filter(|what| *what != "credential").collect();
    assert_eq!(clan.remains(&store).await, rest);
    assert_eq!(other.remains(&store).await, Clan::ALL);
}

async fn a_credential_is_only_deleted_by_its_account(store: Store) {
    let (clan, other) = (Clan::settle(&store).await, account());
    add(&store, [other]).await;
    for (account_sid, sid) in [(other.sid, clan.credential.sid), (clan.family.account.sid, sid())] {
        assert!(!transact!(store, |tx| tx.delete_credential(account_sid, sid)).unwrap());
    }
    assert_eq!(clan.remains(&store).await, Clan::ALL);
}

/// A credential in the store that ends at this instant.
async fn ending(store: &Store, end: Timestamp) -> &'static Credential {
    let account = account();
    let ending = changed(credential(account), |credential| credential.expires_at = Some(end));
    add(store, [account]).await;
    // Others end long after, or never.
    add(store, [ending, full(credential(account)), credential(account)]).await;
    ending
}

/// Whoever is warned of so many days before the end.
async fn warned(store: &Store, days: i64, now: Timestamp) -> Vec<Credential> {
    transact!(store, |tx| tx.ending_credentials(days, now)).unwrap()
}

/// The same the way a server does it: the nearest first.
async fn warned_of(store: &Store, now: Timestamp) -> usize {
    warned(store, 7, now).await.len() + warned(store, 30, now).await.len()
}

async fn a_credential_that_ends_is_warned_of_once_at_each_distance(store: Store) {
    let end = NOW;
    let ending = ending(&store, end).await;
    let just_before = |days: i64| Timestamp::from_micros(end.plus_seconds(-days * DAY).micros() - 1);
    let none = Vec::<Credential>::new();
    assert_eq!(warned_of(&store, just_before(30)).await, 0);
    for days in [30, 7] {
        let other = if days == 30 { 7 } else { 30 };
        assert_same!(warned(&store, days, just_before(days)).await, none);
        // At the very instant, and never again.
        assert_same!(warned(&store, other, end.plus_seconds(-days * DAY)).await, none);
        assert_same!(warned(&store, days, end.plus_seconds(-days * DAY)).await, [ending]);
        assert_same!(warned(&store, days, end.plus_seconds(-days * DAY)).await, none);
        assert_eq!(warned_of(&store, end.plus_seconds(-days * DAY + 1)).await, 0);
    }
    assert_eq!(warned_of(&store, end.plus_seconds(DAY)).await, 0);
    let found = read!(store, |db| db.credential(ending.account_sid, ending.sid)).unwrap();
    assert_same!(found, Some(ending));
}

async fn a_credential_that_is_added_late_is_warned_of_once(store: Store) {
    // Three days left, and over already.
    for end in [NOW.plus_seconds(3 * DAY), NOW.plus_seconds(-DAY)] {
        ending(&store, end).await;
        assert_eq!(warned_of(&store, NOW).await, 1);
        assert_eq!(warned_of(&store, NOW).await, 0);
    }
}

async fn a_credential_that_was_replaced_is_warned_of_anew(store: Store) {
    let ending = ending(&store, NOW.plus_seconds(7 * DAY)).await;
    assert_eq!(warned_of(&store, NOW).await, 1);
    let replaced = changed(ending, |credential| credential.expires_at = Some(NOW.plus_seconds(365 * DAY)));
    transact!(store, |tx| tx.update_credential(replaced)).unwrap();
    assert_eq!(warned_of(&store, NOW.plus_seconds(334 * DAY)).await, 0);
    assert_same!(warned(&store, 30, NOW.plus_seconds(335 * DAY)).await, [replaced]);
    assert_same!(warned(&store, 7, NOW.plus_seconds(358 * DAY)).await, [replaced]);
}

async fn a_credential_whose_end_stays_is_not_warned_of_anew(store: Store) {
    let ending = ending(&store, NOW.plus_seconds(7 * DAY)).await;
    assert_eq!(warned_of(&store, NOW).await, 1);
    let renamed = changed(full(ending), |credential| credential.expires_at = ending.expires_at);
    transact!(store, |tx| tx.update_credential(renamed)).unwrap();
    assert_eq!(warned_of(&store, NOW).await, 0);

    // It has none for a while.
    let endless = changed(renamed, |credential| credential.expires_at = None);
    for credential in [endless, renamed] {
        transact!(store, |tx| tx.update_credential(credential)).unwrap();
        let expected = usize::from(credential.expires_at.is_some());
        assert_eq!(warned_of(&store, NOW).await, expected);
    }
}

async fn a_warning_that_is_undone_is_given_again(store: Store) {
    ending(&store, NOW).await;
    let undone = store.write(async |tx: &mut store::Write| {
        assert_eq!(tx.ending_credentials(7, NOW).await?.len(), 1);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(undone.await, Error::Panicked);
    assert_eq!(warned_of(&store, NOW).await, 1);
}

async fn a_credential_is_warned_of_once_among_many_at_once(store: Store) {
    for _ in 0..5 {
        ending(&store, NOW).await;
    }
    let warnings = at_once(8, |_| {
        let store = store.clone();
        async move { warned(&store, 7, NOW).await.len() }
    });
    assert_eq!(warnings.await.into_iter().sum::<usize>(), 5);
}
