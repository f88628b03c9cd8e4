//! Runs every statement of the store, so that the connections in use prepare them, and so that their query plans can
//! be checked.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::alerts::Level;
use domain::audit::{AuditRecord, ChainPosition, Mac};
use domain::challenges::{Answer, PasskeyChallenge, Status, TotpChallenge};
use domain::clock_trust::ClockRecord;
use domain::deliveries::{DeliveryId, Next, Stranded};
use domain::factors::{PasskeyFactor, TotpFactor};
use domain::paging::{Cursor, Position};
use domain::rate_limits::{RateLimitKey, ValueDigest};
use domain::verifications::{
    Attempt, Conversion, DeliveryProgress, DestinationPrefix, Verification, VerificationTarget,
};
use domain::{
    ApiKey, Challenge, Channel, Country, Entity, Factor, FactorType, Order, PageRequest, Parameter as _,
    Sealed,
};
use store::{
    AlertFilter, AttemptFilter, AuditChain, AuditFilter, ChallengeFilter, DeliveryFilter, DueDeliveries,
    EnrollmentKeyRow, Error, Read, SealedColumn, Store, UnchainedPosition, Write,
};

use crate::audit::record;
use crate::fixtures::*;

/// The rows on which the statements are run.
#[derive(Clone, Copy)]
struct Rows {
    tree: AccountTree,
    api_key: &'static ApiKey,
    enrollment_key: &'static EnrollmentKeyRow<Plaintext>,
    audit_record: &'static AuditRecord,
    other_kinds: OtherKinds,
    verification: &'static Verification,
    attempt: &'static Attempt,
}

/// Factors and challenges of the types other than push.
#[derive(Clone, Copy)]
struct OtherKinds {
    totp: &'static Factor<TotpFactor>,
    totp_challenge: &'static Challenge<TotpChallenge>,
    passkey: &'static Factor<PasskeyFactor>,
    passkey_challenge: &'static Challenge<PasskeyChallenge>,
}

impl OtherKinds {
    fn of(entity: &Entity) -> Self {
        let (totp, passkey) = (totp_factor(entity), passkey_factor(entity, b"credential"));
        let (totp_challenge, passkey_challenge) = (totp_challenge(totp), passkey_challenge(passkey));
        Self { totp, totp_challenge, passkey, passkey_challenge }
    }
}

/// Returns requests for the pages of a list that need different statements: the first page in both orders, and the
/// pages after and before a row.
fn pages() -> [PageRequest; 6] {
    let position = Position { created_at: NOW, sid: [7; 16] };
    let pages = [None, Some(Cursor::After(position)), Some(Cursor::Before(position))];
    let orders = [Order::Ascending, Order::Descending];
    let mut requests = orders.map(|order| pages.map(|cursor| PageRequest { size: 50, order, cursor }));
    requests.as_flattened_mut().try_into().unwrap()
}

/// Inserts an account with its resources, and runs every statement of the store on them.
///
/// # Panics
/// Panics if a statement fails or has an unexpected result.
pub(crate) async fn run_every_statement(store: &Store) {
    let tree = AccountTree::create(store).await;
    let account = tree.user.account;
    let verification = verification(tree.user.service);
    let rows = Rows {
        tree,
        api_key: api_key(account),
        enrollment_key: enrollment_key(&account.sid.to_string()),
        audit_record: record(account),
        other_kinds: OtherKinds::of(tree.user.entity),
        verification,
        attempt: verification_attempt(verification),
    };
    store.write(async move |tx: &mut Write| insert_and_update(tx, rows).await).await.unwrap();
    store.write(async move |tx: &mut Write| insert_and_update_other_kinds(tx, rows).await).await.unwrap();
    store.write(async move |tx: &mut Write| insert_and_update_messages(tx, rows).await).await.unwrap();
    assert_eq!(tree.remaining(store).await, AccountTree::ALL);
    store.read(async move |db: &mut Read| query(db, rows).await).await.unwrap();
    store.read(async move |db: &mut Read| list(db, rows).await).await.unwrap();
    store.read(async move |db: &mut Read| list_messages(db, rows).await).await.unwrap();
    store.write(async move |tx: &mut Write| chain(tx, rows).await).await.unwrap();
    store.write(async move |tx: &mut Write| delete(tx, rows).await).await.unwrap();
}

/// Runs statements that insert or change rows.
async fn insert_and_update(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let Rows { tree, api_key, enrollment_key, .. } = rows;
    let AccountTree { webhook, credential, outlet, delivery, .. } = tree;
    let EnrolledUser { account, service, entity, path, factor } = tree.user;
    let (challenge_sid, token_sid) = (tree.challenge.sid, tree.token.grant.sid);
    let metadata = string_map(&[]);
    tx.insert_api_key(api_key).await?;
    tx.rename_api_key(account.sid, api_key.sid, &api_key.friendly_name).await?;
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
    tx.lock_push_factor(path, factor.sid).await?;
    tx.lock_push_factor_shared(path, factor.sid).await?;
    tx.update_factor(factor).await?;
    tx.update_push_factor(factor).await?;
    tx.set_challenge_metadata(path, challenge_sid, &metadata, NOW).await?;
    tx.answer_push_challenge(challenge_sid, Answer::Approved, DIGEST, NOW).await?;
    tx.spend_access_token(token_sid, factor.sid).await?;
    tx.set_debugger_webhook(account.sid, Some(&webhook.url), NOW).await?;
    tx.set_verification_events_url(account.sid, Some(&webhook.url), NOW).await?;
    tx.lock_webhook(account.sid, service.sid, webhook.sid).await?;
    tx.update_webhook(webhook).await?;
    assert_eq!(tx.redirect_deliveries(webhook, DeliveryId::MIN, 1, NOW).await?, None);
    change_code_settings(tx, tree).await?;
    tx.lock_credential(account.sid, credential.sid).await?;
    tx.update_credential(credential).await?;
    tx.claim_expiring_credentials(7, NOW).await?;
    assert!(tx.lock_account(account.sid).await?);
    assert_eq!(tx.count_outlets(account.sid).await?, 1);
    assert!(tx.lock_outlet(account.sid, outlet.sid).await?.is_some());
    tx.update_outlet(outlet).await?;
    tx.mark_unreachable(factor.sid, "token", NOW).await?;
    for service_sid in [None, Some(service.sid)] {
        tx.clear_unreachable(account.sid, service_sid).await?;
    }
    tx.count_webhooks(service.sid).await?;
    let stranded = Stranded { scheduled_after: MAX_TIME, due_after: MAX_TIME };
    tx.reschedule_stranded_deliveries("lease", stranded, 1, NOW).await?;
    let clock = ClockRecord { trusted_at: NOW, ran_for: Duration::ZERO, doubted: None };
    tx.set_clock_record(&clock).await?;
    for due in [DueDeliveries::ALL, DueDeliveries::To(delivery.destination.clone())] {
        let leased = tx.lease_deliveries("lease", &due, 1, NOW, MAX_TIME).await?;
        let ids: Vec<_> = leased.readable.iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, [delivery.id]);
        tx.renew_leases("lease", &ids, MAX_TIME).await?;
        tx.release_deliveries("lease", &ids, NOW).await?;
    }
    for leased in tx.lease_deliveries("lease", &DueDeliveries::ALL, 1, NOW, MAX_TIME).await?.readable {
        let attempt = attempt(&leased, "delivered");
        assert!(tx.record_attempt("lease", &leased, attempt, Next::Delivered, NOW).await?);
    }
    Ok(())
}

/// Runs the statements that change what governs one-time codes.
async fn change_code_settings(tx: &mut Write, tree: AccountTree) -> Result<(), Error> {
    let AccountTree { rate_limit, bucket, messaging_configuration, .. } = tree;
    let EnrolledUser { account, service, .. } = tree.user;
    tx.count_rate_limits(service.sid).await?;
    tx.lock_rate_limit(account.sid, service.sid, rate_limit.sid).await?;
    tx.update_rate_limit(rate_limit).await?;
    tx.count_buckets(rate_limit.sid).await?;
    tx.lock_bucket(account.sid, rate_limit.sid, bucket.sid).await?;
    tx.update_bucket(bucket).await?;
    assert_eq!(tx.lock_buckets_of(service.sid, &rate_limit.unique_name).await?.len(), 1);
    tx.insert_bucket_hit(bucket, ValueDigest([1; 32]), sid(), NOW).await?;
    let country = messaging_configuration.country;
    tx.lock_messaging_configuration(account.sid, service.sid, country).await?;
    tx.update_messaging_configuration(messaging_configuration).await
}

/// Inserts a factor and a challenge of each type other than push, and runs the statements that change them.
async fn insert_and_update_other_kinds(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let EnrolledUser { path, .. } = rows.tree.user;
    let OtherKinds { totp, totp_challenge, passkey, passkey_challenge } = rows.other_kinds;
    tx.insert_totp_factor(totp).await?;
    assert!(tx.lock_totp_factor(path, totp.sid).await?.is_some());
    tx.update_totp_factor(totp).await?;
    tx.record_totp_code(totp).await?;
    tx.insert_totp_challenge(totp_challenge).await?;
    assert!(tx.update_totp_challenge(totp_challenge).await?);
    tx.insert_passkey_factor(passkey).await?;
    assert!(tx.lock_passkey_factor(path, passkey.sid).await?.is_some());
    tx.update_passkey_factor(passkey).await?;
    tx.insert_passkey_challenge(passkey_challenge).await?;
    let target = passkey_challenge.target().unwrap();
    assert!(tx.approve_passkey_challenge(passkey_challenge.sid, target, NOW).await?);
    Ok(())
}

/// Returns both ways to name a verification.
fn targets(verification: &Verification) -> [VerificationTarget; 2] {
    [VerificationTarget::Sid(verification.sid), VerificationTarget::Recipient(verification.to.clone())]
}

/// Runs the statements that insert or change what messages with one-time codes are made of.
async fn insert_and_update_messages(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let Rows { tree, verification, attempt, .. } = rows;
    let (account_sid, template) = (tree.user.account.sid, tree.template);
    assert!(tx.lock_account(account_sid).await?);
    tx.count_templates(account_sid).await?;
    assert!(tx.lock_template(account_sid, template.sid).await?.is_some());
    tx.update_template(template).await?;
    tx.set_translation(template.sid, &template.translations[0]).await?;
    tx.insert_verification(verification).await?;
    tx.insert_attempt(attempt).await?;
    assert!(tx.lock_attempt(attempt.service_sid, attempt.sid).await?.is_some());
    tx.set_attempt_progress(attempt.sid, DeliveryProgress::Sent, None, NOW).await?;
    tx.convert_latest_attempt(verification.sid, NOW).await?;
    for target in targets(verification) {
        let open = tx.lock_open_verification(verification.service_sid, &target).await?;
        tx.update_verification(&open.unwrap()).await?;
    }
    tx.nth_latest_attempt_created_at(verification.service_sid, NOW..NOW, NonZeroU32::MIN).await?;
    let number = attempt.to.phone_number().unwrap();
    tx.prefix_traffic(verification.service_sid, number, NOW..NOW, NonZeroU32::MIN).await?;
    Ok(())
}

/// Runs the lists of attempts and templates, and the summary of attempts, with each filter.
async fn list_messages(db: &mut Read, rows: Rows) -> Result<(), Error> {
    let Rows { attempt, verification, .. } = rows;
    for target in targets(verification) {
        assert!(db.open_verification(verification.service_sid, &target).await?.is_some());
    }
    db.verification_status(verification.service_sid, verification.sid).await?;
    db.attempts_of_verification(verification.sid).await?;
    let any = AttemptFilter::default;
    let (from, to) = (Some(NOW), Some(MAX_TIME));
    let filters = [
        any(),
        AttemptFilter { from, to, ..any() },
        AttemptFilter { recipient: Some(attempt.to.clone()), from, ..any() },
        AttemptFilter { prefix: DestinationPrefix::from_parameter("+43").ok(), from, ..any() },
        AttemptFilter { country: attempt.country, from, ..any() },
        AttemptFilter { channel: Some(Channel::Sms), from, ..any() },
        AttemptFilter { service_sid: Some(attempt.service_sid), from, ..any() },
        AttemptFilter { verification_sid: Some(attempt.verification_sid), from, ..any() },
        AttemptFilter { conversion: Some(Conversion::Converted), from, ..any() },
        AttemptFilter {
            recipient: Some(attempt.to.clone()),
            country: attempt.country,
            channel: Some(Channel::Sms),
            service_sid: Some(attempt.service_sid),
            conversion: Some(Conversion::Converted),
            from,
            ..any()
        },
    ];
    for filter in &filters {
        for page in &pages() {
            db.attempts(attempt.account_sid, filter, page).await?;
        }
        db.attempt_summary(attempt.account_sid, filter).await?;
    }
    for page in &pages() {
        for name in [None, Some("Login")] {
            db.templates(attempt.account_sid, name, page).await?;
        }
    }
    assert!(db.attempt(attempt.account_sid, attempt.sid).await?.is_some());
    assert!(db.attempt_of_service(attempt.service_sid, attempt.sid).await?.is_some());
    db.all_templates().await?;
    Ok(())
}

/// Runs the statements that only read factors and challenges of one type other than push.
async fn query_other_kinds(db: &mut Read, rows: Rows) -> Result<(), Error> {
    let EnrolledUser { account, service, entity, path, .. } = rows.tree.user;
    let OtherKinds { totp_challenge, passkey, passkey_challenge, .. } = rows.other_kinds;
    assert_eq!(db.totp_factors(service.sid, entity.sid).await?.len(), 1);
    assert!(db.totp_challenge(path, totp_challenge.sid).await?.is_some());
    assert!(db.passkey_factor(account.sid, service.sid, passkey.sid).await?.is_some());
    assert_eq!(db.passkey_factors(service.sid, entity.sid).await?.len(), 1);
    let credential = passkey.kind.credential.as_ref().unwrap();
    let relying_party = &passkey.kind.relying_party.id;
    let found = db.passkey_by_credential(account.sid, service.sid, relying_party, &credential.id).await?;
    assert!(found.is_some());
    assert!(db.passkey_challenge(account.sid, service.sid, passkey_challenge.sid).await?.is_some());
    Ok(())
}

/// Runs statements that only read, except lists. [`AccountTree::remaining`] runs further ones.
async fn query(db: &mut Read, rows: Rows) -> Result<(), Error> {
    let Rows { tree, api_key, enrollment_key, audit_record, .. } = rows;
    let EnrolledUser { account, service, entity, path, factor } = tree.user;
    db.require_current_schema().await?;
    db.database_info().await?;
    db.file_damage().await?;
    db.accounts().await?;
    db.api_key(api_key.sid).await?;
    db.api_key_of_account(account.sid, api_key.sid).await?;
    db.all_api_keys(account.sid).await?;
    db.enrollment_keys::<Plaintext>().await?;
    db.server_key::<Plaintext>(&enrollment_key.kid).await?;
    for kind in SealedColumn::ALL {
        db.count_by_key(kind).await?;
        db.sealed_under_other_keys::<Plaintext>(kind, b"12345678", "", 10).await?;
    }
    db.factor_by_credential(factor.kind.credential_sid).await?;
    db.count_factors(entity.sid, FactorType::Push).await?;
    db.push_factor(path, factor.sid).await?;
    db.push_challenge(path, tree.challenge.sid).await?;
    query_other_kinds(db, rows).await?;
    db.count_expired(MIN_TIME, NOW).await?;
    db.is_answered_by(tree.challenge.sid, DIGEST).await?;
    db.enabled_webhooks(service.sid).await?;
    db.all_webhooks().await?;
    let key = RateLimitKey::Name(tree.rate_limit.unique_name.clone());
    assert!(db.rate_limit(account.sid, service.sid, &key).await?.is_some());
    let (bucket, value) = (tree.bucket, ValueDigest([1; 32]));
    db.nth_latest_bucket_hit_at(bucket, value, NOW..NOW, NonZeroU32::MIN).await?;
    assert_eq!(db.messaging_services_for(service.sid, Country::from_parameter("AT").ok()).await?.len(), 1);
    assert!(db.is_safe_number(account.sid, &tree.safe_number.phone_number).await?);
    db.all_credentials().await?;
    assert_eq!(db.outlets_of_account(account.sid).await?.len(), 1);
    db.all_outlets().await?;
    db.messaging_configurations_without_outlet().await?;
    db.clock_record().await?;
    db.event(account.sid, audit_record.sid).await?;
    db.newest_audit_record_at().await?;
    db.pending_deliveries().await?;
    db.has_stranded_deliveries("lease", Stranded { scheduled_after: NOW, due_after: NOW }).await?;
    db.next_delivery_due_at(NOW..=MAX_TIME, &[]).await?;
    db.nth_latest_entity_created_at(service.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.nth_latest_factor_created_at(entity.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.nth_latest_challenge_created_at(entity.sid, factor.sid, NOW..NOW, NonZeroU32::MIN).await?;
    db.next_pending_slot_at(entity.sid, factor.sid, NonZeroU32::MIN, NOW).await?;
    assert!(db.challenge_summary(account.sid, service.sid, tree.challenge.sid).await?.is_some());
    assert!(db.has_factor(service.sid, entity.sid, factor.sid).await?);
    db.pending_summaries(entity.sid, factor.sid, NOW, 10).await?;
    assert!(db.entity_identity(service.sid, entity.sid).await?.is_some());
    Ok(())
}

/// Runs every list with each of its filters, in both orders, from the beginning and from a row.
async fn list(db: &mut Read, rows: Rows) -> Result<(), Error> {
    let EnrolledUser { account, service, entity, factor, .. } = rows.tree.user;
    let statuses = [Status::Pending, Status::Expired, Status::Approved, Status::Denied];
    let text = || Some("text".to_owned());
    let any = AuditFilter::default;
    let audit_filters = [
        any(),
        AuditFilter { actor: text(), ..any() },
        AuditFilter { event_type: text(), ..any() },
        AuditFilter { event_type: Some("challenge.created".to_owned()), ..any() },
        AuditFilter { resource_sid: text(), ..any() },
        AuditFilter { address: text(), ..any() },
        AuditFilter { from: Some(NOW), to: Some(MAX_TIME), ..any() },
        AuditFilter { resource_sid: text(), actor: text(), from: Some(NOW), ..any() },
        AuditFilter { actor: text(), event_type: text(), address: text(), to: Some(NOW), ..any() },
    ];
    for page in &pages() {
        db.services(account.sid, page).await?;
        db.api_keys(account.sid, page).await?;
        db.entities(account.sid, service.sid, page).await?;
        db.factors(entity.sid, page).await?;
        for factor_sid in [None, Some(factor.sid)] {
            for status in statuses.map(Some).into_iter().chain([None]) {
                db.challenges(entity.sid, ChallengeFilter { factor_sid, status }, page, NOW).await?;
            }
        }
        db.webhooks(account.sid, service.sid, page).await?;
        db.rate_limits(account.sid, service.sid, page).await?;
        db.buckets(account.sid, rows.tree.rate_limit.sid, page).await?;
        db.messaging_configurations(account.sid, service.sid, page).await?;
        db.credentials(account.sid, page).await?;
        for level in [None, Some(Level::Error)] {
            for (from, to) in [(None, None), (Some(NOW), Some(MAX_TIME))] {
                db.alerts(account.sid, AlertFilter { level, from, to }, page).await?;
            }
        }
        for filter in &audit_filters {
            db.events(account.sid, filter, page).await?;
        }
    }
    for filter in &audit_filters {
        db.newest_audit_records(filter, 10).await?;
    }
    for subject in [None, text()] {
        for kind in [None, Some("webhook".to_owned())] {
            for state in [None, Some("owed"), Some("delivered"), Some("skipped"), Some("failed")] {
                let (subject, kind, state) = (subject.clone(), kind.clone(), state.map(str::to_owned));
                db.deliveries(&DeliveryFilter { subject, kind, state }, 10).await?;
            }
        }
    }
    Ok(())
}

/// Runs the statements of the audit log.
async fn chain(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let record = rows.audit_record;
    let start = AuditChain { removed: ChainPosition::START, head: ChainPosition::START, seal: Mac([1; 32]) };
    tx.insert_audit_chain(&start, &Sealed::<()>::from_bytes(all_bytes())).await?;
    tx.audit_key::<()>().await?;
    tx.audit_chain().await?;
    tx.insert_audit_record(record, &Mac([5; 32])).await?;
    tx.set_unchained_macs(&[(record.sid, Mac([6; 32]))]).await?;
    assert_eq!(tx.unchained_records(&UnchainedPosition::START, 10).await?.len(), 1);
    let account_sid = rows.tree.user.account.sid;
    assert_eq!(tx.audit_tail(account_sid, 10).await?.unchained.len(), 1);
    let chain = tx.try_lock_audit_chain().await?.unwrap();
    let position = ChainPosition { number: chain.head.number + 1, mac: Mac([7; 32]) };
    tx.append_to_audit_chain(&[(record.sid, position)]).await?;
    tx.update_audit_chain(&position, &position, &Mac([8; 32])).await?;
    assert_eq!(tx.chained_records(0, position.number, 10).await?.len(), 1);
    assert_eq!(tx.chained_records_of_account(account_sid, 0, position.number).await?.len(), 1);
    tx.check_audit_log().await?;
    assert_eq!(tx.delete_removed_records(chain.head.number).await?, 1);
    Ok(())
}

/// Runs statements that delete rows, and some that need a finished delivery.
async fn delete(tx: &mut Write, rows: Rows) -> Result<(), Error> {
    let AccountTree { webhook, credential, outlet, alert, delivery, .. } = rows.tree;
    let EnrolledUser { account, service, path, factor, .. } = rows.tree.user;
    assert!(tx.requeue_delivery(delivery.id, NOW, MAX_TIME).await?.is_some());
    let delivered = attempt(delivery, "delivered").clone();
    tx.record_delivered("unused", &[(delivery.id, delivered, NOW)]).await?;
    tx.delete_webhook(account.sid, service.sid, webhook.sid).await?;
    let AccountTree { rate_limit, bucket, messaging_configuration, safe_number, .. } = rows.tree;
    tx.delete_bucket(account.sid, rate_limit.sid, bucket.sid).await?;
    tx.delete_rate_limit(account.sid, service.sid, rate_limit.sid).await?;
    tx.delete_expired_bucket_hits(MAX_TIME, 1).await?;
    let country = messaging_configuration.country;
    tx.delete_messaging_configuration(account.sid, service.sid, country).await?;
    tx.delete_safe_number(account.sid, &safe_number.phone_number).await?;
    tx.delete_credential(account.sid, credential.sid).await?;
    tx.delete_outlet(account.sid, outlet.sid).await?;
    let template = rows.tree.template;
    assert!(tx.delete_translation(template.sid, template.translations[0].locale).await?);
    assert!(tx.delete_template(account.sid, template.sid).await?);
    tx.delete_old_alerts(alert.created_at.plus_seconds(1), 1).await?;
    for leased in tx.lease_deliveries("lease", &DueDeliveries::ALL, 1, NOW, MAX_TIME).await?.readable {
        let attempt = attempt(&leased, "failed");
        tx.record_attempt("lease", &leased, attempt, Next::Failed, NOW).await?;
    }
    tx.delete_old_deliveries(MAX_TIME, 1).await?;
    tx.acquire_lease("lease", "holder", NOW, MAX_TIME).await?;
    tx.release_lease("lease", "holder").await?;
    tx.delete_unverified_factors(MIN_TIME, 1).await?;
    tx.record_factor_creation(factor).await?;
    tx.delete_old_factor_creations(MIN_TIME, 1).await?;
    tx.set_service_limits(service.sid, None, None).await?;
    tx.delete_old_challenges(MIN_TIME, 1).await?;
    let closed = tx.close_expired_verifications(MAX_TIME, 1).await?;
    tx.forget_messages(closed.iter().map(|verification| verification.sid)).await?;
    tx.delete_old_verifications(MIN_TIME, 1).await?;
    tx.delete_old_access_tokens(MIN_TIME, 1).await?;
    tx.delete_factor(path, factor.sid, NOW).await?;
    tx.delete_entity(path, NOW).await?;
    tx.delete_service(account.sid, service.sid, NOW).await?;
    while tx.remove_deleted(100).await? > 0 {}
    tx.count_deleted().await?;
    tx.delete_api_key(rows.api_key.sid).await?;
    tx.erase(account.sid, false, false).await?;
    Ok(())
}

/// Returns the source files in a folder and in the folders within it.
pub(crate) fn source_files(folder: &Path) -> Vec<PathBuf> {
    let paths = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { source_files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_method_of_the_store_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: std::path::PathBuf| std::fs::read_to_string(file).unwrap();
    let runs = ["every_statement.rs", "fixtures.rs"]
        .map(|file| read(root.join("tests/contract").join(file)))
        .concat();
    let is_run =
        |name: &&str| runs.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name);
    for file in source_files(&root.join("src")) {
        let source = read(file);
        let Some(start) = source.find("\nimpl Read {").or_else(|| source.find("\nimpl Write {")) else {
            continue;
        };
        let functions = source[start..].split("    pub async fn ").skip(1);
        let methods =
            functions.filter(|text| text.split(')').next().is_some_and(|it| it.contains("&mut self")));
        let names = methods.map(|text| text.split(['(', '<']).next().unwrap());
        let missing: Vec<_> = names.filter(|name| !is_run(name)).collect();
        assert_eq!(missing, [""; 0], "run these methods in every_statement.rs");
    }
}
