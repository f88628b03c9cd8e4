//! Runs most statements of the store, so that the connections in use prepare them.

use std::num::NonZeroU32;

use domain::challenges::Answer;
use domain::deliveries::Next;
use domain::{ApiKey, Sealed};
use store::{
    AlertFilter, AuditFilter, ChallengeFilter, DeliveryFilter, EnrollmentKeyRow, Error, Read, SealedColumn,
    Store, Write,
};

use crate::fixtures::*;
use crate::paging::ALL;

/// The rows on which the statements are run.
#[derive(Clone, Copy)]
struct Rows {
    tree: AccountTree,
    api_key: &'static ApiKey,
    enrollment_key: &'static EnrollmentKeyRow<Plaintext>,
}

/// Inserts an account with its resources, and runs most statements of the store on them.
///
/// # Panics
/// Panics if a statement fails or has an unexpected result.
pub(crate) async fn run_every_statement(store: &Store) {
    let tree = AccountTree::create(store).await;
    let account = tree.user.account;
    let rows =
        Rows { tree, api_key: api_key(account), enrollment_key: enrollment_key(&account.sid.to_string()) };
    store.write(async move |tx: &mut Write| insert_and_update(tx, rows).await).await.unwrap();
    assert_eq!(tree.remaining(store).await, AccountTree::ALL);
    store.read(async move |db: &mut Read| query(db, rows).await).await.unwrap();
    store.write(async move |tx: &mut Write| delete(tx, rows).await).await.unwrap();
}

/// Runs statements that insert or change rows.
async fn insert_and_update(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let Rows { tree, api_key, enrollment_key } = rows;
    let AccountTree { webhook, credential, delivery, .. } = tree;
    let EnrolledUser { account, service, entity, path, factor } = tree.user;
    let (challenge_sid, token_sid) = (tree.challenge.sid, tree.token.grant.sid);
    let metadata = string_map(&[]);
    tx.insert_api_key(api_key).await?;
    tx.update_auth_token(account.sid, &account.auth_token, NOW).await?;
    tx.lock_enrollment_keys().await?;
    tx.insert_enrollment_key(enrollment_key, NOW).await?;
    let secret = Sealed::<Plaintext>::from_bytes(b"sealed server key".to_vec());
    tx.insert_server_key(&enrollment_key.kid, &secret, NOW).await?;
    tx.reseal(SealedColumn::ServerKeys, &enrollment_key.kid, &secret, &secret).await?;
    tx.delete_replaced_enrollment_keys(MIN_TIME).await?;
    tx.lock_service(account.sid, service.sid).await?;
    tx.update_service(service).await?;
    tx.ensure_entity(entity).await?;
    tx.lock_factor(path, factor.sid).await?;
    tx.lock_factor_shared(path, factor.sid).await?;
    tx.update_factor(factor).await?;
    tx.set_challenge_metadata(path, challenge_sid, &metadata, NOW).await?;
    tx.answer_challenge(challenge_sid, Answer::Approved, DIGEST, NOW).await?;
    tx.spend_access_token(token_sid, factor.sid).await?;
    tx.set_debugger_webhook(account.sid, Some(&webhook.url), NOW).await?;
    tx.lock_webhook(account.sid, service.sid, webhook.sid).await?;
    tx.update_webhook(webhook).await?;
    tx.update_credential(credential).await?;
    tx.claim_expiring_credentials(7, NOW).await?;
    tx.mark_unreachable(factor.sid, "token", NOW).await?;
    for service_sid in [None, Some(service.sid)] {
        tx.clear_unreachable(account.sid, service_sid).await?;
    }
    tx.count_webhooks(service.sid).await?;
    for full in [&[][..], &[domain::deliveries::Destination::Host("elsewhere:443".to_owned())]] {
        let leased = tx.lease_deliveries("lease", full, 1, NOW, MAX_TIME).await?;
        let ids: Vec<_> = leased.iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, [delivery.id]);
        tx.renew_leases("lease", &ids, MAX_TIME).await?;
        tx.release_deliveries("lease", &ids, NOW).await?;
    }
    for leased in tx.lease_deliveries("lease", &[], 1, NOW, MAX_TIME).await? {
        let attempt = attempt(&leased, "delivered");
        assert!(tx.record_attempt("lease", &leased, attempt, Next::Delivered, NOW).await?);
    }
    Ok(())
}

/// Runs statements that only read. [`AccountTree::remaining`] runs further ones.
async fn query(db: &mut Read, rows: Rows) -> Result<(), Error> {
    let Rows { tree, api_key, enrollment_key } = rows;
    let EnrolledUser { account, service, entity, factor, .. } = tree.user;
    db.accounts().await?;
    db.api_key(api_key.sid).await?;
    db.api_keys(account.sid).await?;
    db.enrollment_keys::<Plaintext>().await?;
    db.server_key::<Plaintext>(&enrollment_key.kid).await?;
    for kind in SealedColumn::ALL {
        db.count_by_key(kind).await?;
        db.sealed_under_other_keys::<Plaintext>(kind, b"12345678", "", 10).await?;
    }
    db.services(account.sid, &ALL).await?;
    db.entities(account.sid, service.sid, &ALL).await?;
    db.factor_by_credential(factor.credential_sid).await?;
    db.factors(entity.sid, &ALL).await?;
    db.count_factors(entity.sid).await?;
    db.challenges(entity.sid, ChallengeFilter::default(), &ALL, NOW).await?;
    db.webhooks(account.sid, service.sid, &ALL).await?;
    db.enabled_webhooks(service.sid).await?;
    db.all_webhooks().await?;
    db.credentials(account.sid, &ALL).await?;
    db.all_credentials().await?;
    db.alerts(account.sid, AlertFilter::default(), &ALL).await?;
    db.deliveries(&DeliveryFilter::default(), 10).await?;
    db.newest_audit_records(&AuditFilter::default(), 10).await?;
    db.audit_chain().await?;
    db.next_delivery_due_at().await?;
    db.nth_latest_entity_created_at(service.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.nth_latest_factor_created_at(entity.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.nth_latest_challenge_created_at(factor.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.next_pending_slot_at(factor.sid, NonZeroU32::MIN, NOW).await?;
    Ok(())
}

/// Runs statements that delete rows, and some that need a finished delivery.
async fn delete(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let AccountTree { webhook, credential, alert, delivery, .. } = rows.tree;
    let EnrolledUser { account, service, path, factor, .. } = rows.tree.user;
    assert!(tx.requeue_delivery(delivery.id, NOW, MAX_TIME).await?.is_some());
    let delivered = attempt(delivery, "delivered").clone();
    tx.record_delivered("unused", &[(delivery.id, delivered, NOW)]).await?;
    tx.delete_webhook(account.sid, service.sid, webhook.sid).await?;
    tx.delete_credential(account.sid, credential.sid).await?;
    tx.delete_old_alerts(alert.created_at.plus_seconds(1), 1).await?;
    for leased in tx.lease_deliveries("lease", &[], 1, NOW, MAX_TIME).await? {
        let attempt = attempt(&leased, "failed");
        tx.record_attempt("lease", &leased, attempt, Next::Failed, NOW).await?;
    }
    tx.delete_old_deliveries(MAX_TIME, 1).await?;
    tx.acquire_lease("lease", "holder", NOW, MAX_TIME).await?;
    tx.delete_unverified_factors(MIN_TIME, 1).await?;
    tx.record_factor_creation(factor).await?;
    tx.delete_old_factor_creations(MIN_TIME, 1).await?;
    tx.set_service_limits(service.sid, None, None).await?;
    tx.delete_old_challenges(MIN_TIME, 1).await?;
    tx.delete_old_access_tokens(MIN_TIME, 1).await?;
    tx.delete_factor(path, factor.sid, NOW).await?;
    tx.delete_entity(path, NOW).await?;
    tx.delete_service(account.sid, service.sid, NOW).await?;
    while tx.remove_deleted(100).await? > 0 {}
    tx.count_deleted().await?;
    tx.delete_api_key(rows.api_key.sid).await?;
    Ok(())
}
