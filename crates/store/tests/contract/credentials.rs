//! Push credentials.

use domain::credentials::{Credential, CredentialType};
use domain::{CredentialSid, Sealed, Timestamp};
use store::{Conflict, Error, Store};

use crate::concurrency::run_concurrently;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    credential_is_read_back_unchanged,
    credential_is_not_found_with_a_wrong_account_or_sid,
    credential_cannot_be_inserted_without_its_account,
    credential_cannot_be_inserted_twice,
    credential_update_changes_only_mutable_fields,
    update_of_a_missing_credential_has_no_effect,
    credential_list_is_complete_and_ordered_with_every_page_size,
    credential_list_excludes_credentials_of_other_accounts,
    credentials_of_all_accounts_are_listed_oldest_first,
    credential_can_be_deleted_only_once_without_affecting_other_resources,
    credential_is_not_deleted_with_a_wrong_account_or_sid,
    expiring_credential_is_reported_once_per_warning_threshold,
    credential_inserted_past_both_warning_thresholds_is_reported_only_once,
    credential_with_a_new_expiry_is_reported_again,
    credential_with_an_unchanged_expiry_is_not_reported_again,
    expiring_credential_is_reported_again_after_a_rollback,
    each_expiring_credential_is_reported_by_exactly_one_of_several_concurrent_writes,
}

/// Length of a day, in seconds.
const DAY: i64 = 86_400;

/// Returns a copy of `like` with a value in every field. The mutable fields differ from those of [`credential`].
fn full(like: &Credential) -> &'static Credential {
    changed(like, |credential| {
        credential.friendly_name = Some(name(TRICKY_TEXT));
        credential.sandbox = true;
        credential.content = Sealed::from_bytes(all_bytes());
        credential.expires_at = Some(MAX_TIME);
        credential.updated_at = MAX_TIME;
    })
}

async fn credential_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = credential(account);
    let full = changed(full(plain), |credential| {
        credential.sid = sid();
        credential.credential_type = CredentialType::Apn;
        credential.created_at = MIN_TIME;
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

async fn credential_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (owner, other) = (account(), account());
    let credential = credential(owner);
    add(&store, [owner, other]).await;
    add(&store, [credential]).await;
    for (account_sid, sid) in [(other.sid, credential.sid), (owner.sid, sid())] {
        let found = read!(store, |db| db.credential(account_sid, sid)).unwrap();
        assert_same!(found, None::<Credential>);
    }
}

async fn credential_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = credential(account());
    assert_refused!(transact!(store, |tx| tx.insert_credential(orphan)), Error::ParentGone);
}

async fn credential_cannot_be_inserted_twice(store: Store) {
    let AccountTree { credential, .. } = AccountTree::create(&store).await;
    let again = transact!(store, |tx| tx.insert_credential(credential));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn credential_update_changes_only_mutable_fields(store: Store) {
    let (account, other) = (account(), account());
    let (before, bystander) = (credential(account), credential(account));
    add(&store, [account, other]).await;
    add(&store, [before, bystander]).await;
    let full = full(before);
    // First set every field, then reset each to its previous value.
    for after in [full, changed(before, |credential| credential.updated_at = MIN_TIME)] {
        let update = changed(after, |credential| {
            credential.account_sid = other.sid;
            credential.credential_type = CredentialType::Apn;
            credential.created_at = MAX_TIME;
        });
        transact!(store, |tx| tx.update_credential(update)).unwrap();
        assert_same!(read!(store, |db| db.credentials(account.sid, &ALL)).unwrap(), [after, bystander]);
    }
}

async fn update_of_a_missing_credential_has_no_effect(store: Store) {
    let AccountTree { user: EnrolledUser { account, .. }, credential, .. } =
        AccountTree::create(&store).await;
    let missing = changed(full(credential), |credential| credential.sid = sid());
    transact!(store, |tx| tx.update_credential(missing)).unwrap();
    assert_same!(read!(store, |db| db.credentials(account.sid, &ALL)).unwrap(), [credential]);
}

async fn credential_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let account = account();
    let credentials = scattered(|sid: CredentialSid, time| {
        changed(credential(account), |credential| (credential.sid, credential.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, credentials.clone()).await;
    let page = async |request| read!(store, |db| db.credentials(account.sid, &request)).unwrap();
    assert_paged_list(&credentials, page).await;
}

async fn credential_list_excludes_credentials_of_other_accounts(store: Store) {
    let (one, _other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let found = read!(store, |db| db.credentials(one.user.account.sid, &ALL)).unwrap();
    assert_same!(found, [one.credential]);
    assert_same!(read!(store, |db| db.credentials(sid(), &ALL)).unwrap(), Vec::<Credential>::new());
}

async fn credentials_of_all_accounts_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.all_credentials()).unwrap(), Vec::<Credential>::new());
    let (one, other) = (account(), account());
    let created_at =
        |account, second| changed(credential(account), |it| it.created_at = NOW.plus_seconds(second));
    let [third, first, second] = [created_at(one, 3), created_at(other, 1), full(created_at(one, 2))];
    add(&store, [one, other]).await;
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_credentials()).unwrap(), [first, second, third]);
}

async fn credential_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account = tree.user.account;
    let delete =
        async || transact!(store, |tx| tx.delete_credential(account.sid, tree.credential.sid)).unwrap();
    assert!(delete().await);
    assert!(!delete().await);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "credential").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn credential_is_not_deleted_with_a_wrong_account_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    for (account_sid, sid) in [(other.sid, tree.credential.sid), (tree.user.account.sid, sid())] {
        assert!(!transact!(store, |tx| tx.delete_credential(account_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

/// Inserts a credential that expires at `end`, another that expires much later, and a third that never expires.
/// Returns the first.
async fn insert_expiring_credential(store: &Store, end: Timestamp) -> &'static Credential {
    let account = account();
    let expiring = changed(credential(account), |credential| credential.expires_at = Some(end));
    add(store, [account]).await;
    add(store, [expiring, full(credential(account)), credential(account)]).await;
    expiring
}

/// Claims and returns the credentials for which the warning `days` days before expiry is due at `now`.
async fn credentials_to_warn_about(store: &Store, days: i64, now: Timestamp) -> Vec<Credential> {
    transact!(store, |tx| tx.claim_expiring_credentials(days, now)).unwrap()
}

/// Claims the due warnings at both thresholds and returns their number. Starts with the threshold nearest to the
/// expiry, as the server does.
async fn count_warnings(store: &Store, now: Timestamp) -> usize {
    credentials_to_warn_about(store, 7, now).await.len()
        + credentials_to_warn_about(store, 30, now).await.len()
}

async fn expiring_credential_is_reported_once_per_warning_threshold(store: Store) {
    let end = NOW;
    let expiring = insert_expiring_credential(&store, end).await;
    let just_before = |days: i64| Timestamp::from_micros(end.plus_seconds(-days * DAY).micros() - 1);
    let none = Vec::<Credential>::new();
    assert_eq!(count_warnings(&store, just_before(30)).await, 0);
    for days in [30, 7] {
        let other = if days == 30 { 7 } else { 30 };
        assert_same!(credentials_to_warn_about(&store, days, just_before(days)).await, none);
        // The warning is due from exactly this time on, and it is returned only once.
        assert_same!(credentials_to_warn_about(&store, other, end.plus_seconds(-days * DAY)).await, none);
        assert_same!(
            credentials_to_warn_about(&store, days, end.plus_seconds(-days * DAY)).await,
            [expiring]
        );
        assert_same!(credentials_to_warn_about(&store, days, end.plus_seconds(-days * DAY)).await, none);
        assert_eq!(count_warnings(&store, end.plus_seconds(-days * DAY + 1)).await, 0);
    }
    assert_eq!(count_warnings(&store, end.plus_seconds(DAY)).await, 0);
    let found = read!(store, |db| db.credential(expiring.account_sid, expiring.sid)).unwrap();
    assert_same!(found, Some(expiring));
}

async fn credential_inserted_past_both_warning_thresholds_is_reported_only_once(store: Store) {
    // The first credential expires in three days. The second has already expired.
    for end in [NOW.plus_seconds(3 * DAY), NOW.plus_seconds(-DAY)] {
        insert_expiring_credential(&store, end).await;
        assert_eq!(count_warnings(&store, NOW).await, 1);
        assert_eq!(count_warnings(&store, NOW).await, 0);
    }
}

async fn credential_with_a_new_expiry_is_reported_again(store: Store) {
    let expiring = insert_expiring_credential(&store, NOW.plus_seconds(7 * DAY)).await;
    assert_eq!(count_warnings(&store, NOW).await, 1);
    let replaced = changed(expiring, |credential| credential.expires_at = Some(NOW.plus_seconds(365 * DAY)));
    transact!(store, |tx| tx.update_credential(replaced)).unwrap();
    assert_eq!(count_warnings(&store, NOW.plus_seconds(334 * DAY)).await, 0);
    assert_same!(credentials_to_warn_about(&store, 30, NOW.plus_seconds(335 * DAY)).await, [replaced]);
    assert_same!(credentials_to_warn_about(&store, 7, NOW.plus_seconds(358 * DAY)).await, [replaced]);
}

async fn credential_with_an_unchanged_expiry_is_not_reported_again(store: Store) {
    let expiring = insert_expiring_credential(&store, NOW.plus_seconds(7 * DAY)).await;
    assert_eq!(count_warnings(&store, NOW).await, 1);
    let renamed = changed(full(expiring), |credential| credential.expires_at = expiring.expires_at);
    transact!(store, |tx| tx.update_credential(renamed)).unwrap();
    assert_eq!(count_warnings(&store, NOW).await, 0);

    // Removing the expiry and setting it again makes the warning due again.
    let without_expiry = changed(renamed, |credential| credential.expires_at = None);
    for credential in [without_expiry, renamed] {
        transact!(store, |tx| tx.update_credential(credential)).unwrap();
        let expected = usize::from(credential.expires_at.is_some());
        assert_eq!(count_warnings(&store, NOW).await, expected);
    }
}

async fn expiring_credential_is_reported_again_after_a_rollback(store: Store) {
    insert_expiring_credential(&store, NOW).await;
    let rolled_back = store.write(async |tx: &mut store::Write| {
        assert_eq!(tx.claim_expiring_credentials(7, NOW).await?.len(), 1);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(rolled_back.await, Error::Panicked);
    assert_eq!(count_warnings(&store, NOW).await, 1);
}

async fn each_expiring_credential_is_reported_by_exactly_one_of_several_concurrent_writes(store: Store) {
    for _ in 0..5 {
        insert_expiring_credential(&store, NOW).await;
    }
    let warnings = run_concurrently(8, |_| {
        let store = store.clone();
        async move { credentials_to_warn_about(&store, 7, NOW).await.len() }
    });
    assert_eq!(warnings.await.into_iter().sum::<usize>(), 5);
}
