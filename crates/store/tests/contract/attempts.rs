//! Attempts to deliver the codes of verifications.

use std::num::NonZeroU32;

use domain::verifications::{
    Attempt, AttemptSummary, Conversion, DeliveryProgress, DestinationPrefix, MessageOptions, PrefixTraffic,
    Tags,
};
use domain::{AttemptSid, Channel, Country, Parameter as _, PhoneNumber, Recipient};
use serde_json::json;
use store::{AttemptFilter, Conflict, Error, Store};

use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    attempt_is_read_back_unchanged,
    attempt_is_not_found_with_a_wrong_account_or_sid,
    attempt_cannot_be_inserted_without_its_verification,
    attempt_cannot_be_inserted_twice,
    attempt_list_is_complete_and_ordered_with_every_page_size,
    filtered_attempt_list_is_complete_and_ordered_with_every_page_size,
    attempts_are_filtered_and_counted,
    attempts_of_a_deleted_service_are_not_found_even_before_their_rows_are_removed,
    summary_without_attempts_is_zero,
    only_the_latest_attempt_of_a_verification_is_converted,
    progress_and_error_code_of_an_attempt_are_recorded,
    traffic_to_a_prefix_is_that_of_the_newest_attempts,
}

/// Inserts a verification with its parents. Returns an attempt of it, which is not inserted.
async fn new_attempt(store: &Store) -> &'static Attempt {
    let account = account();
    let service = service(account);
    let verification = verification(service);
    add(store, [account]).await;
    add(store, [service]).await;
    add(store, [verification]).await;
    verification_attempt(verification)
}

async fn attempt_is_read_back_unchanged(store: Store) {
    let plain = new_attempt(&store).await;
    let options = json!({
        "friendly_name": TRICKY_TEXT,
        "template_sid": "HJ00000000000000000000000000000000",
        "substitutions": { TRICKY_TEXT: TRICKY_TEXT },
        "app_hash": "He42w354ol9",
        "send_digits": "ww1",
        "mail": { "from": "a@example.com", "from_name": "A" },
    });
    let options: MessageOptions = serde_json::from_value(options).unwrap();
    let full = changed(plain, |attempt| {
        attempt.sid = sid();
        attempt.to = Recipient::from_stored("+43Ann@EXAMPLE.com".to_owned());
        attempt.channel = Channel::Email;
        attempt.country = None;
        attempt.code_length = 10;
        attempt.locale = None;
        attempt.is_converted = true;
        attempt.progress = Some(DeliveryProgress::Undelivered);
        attempt.error_code = Some(u32::MAX);
        attempt.message = Some(options);
        attempt.tags = Tags::from_parameter(r#"{"ort":"Köln"}"#).ok();
        (attempt.expires_at, attempt.created_at, attempt.updated_at) = (MAX_TIME, MIN_TIME, MAX_TIME);
    });
    for attempt in [plain, full] {
        transact!(store, |tx| tx.insert_attempt(attempt)).unwrap();
        let found = read!(store, |db| db.attempt(attempt.account_sid, attempt.sid)).unwrap();
        assert_same!(found, Some(attempt));
        let locked = transact!(store, |tx| tx.lock_attempt(attempt.service_sid, attempt.sid)).unwrap();
        assert_same!(locked, Some(attempt));
    }
}

async fn attempt_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (attempt, other) = (new_attempt(&store).await, new_attempt(&store).await);
    add(&store, [attempt, other]).await;
    for (account_sid, sid) in [(other.account_sid, attempt.sid), (attempt.account_sid, sid())] {
        assert_same!(read!(store, |db| db.attempt(account_sid, sid)).unwrap(), None::<Attempt>);
    }
    for (service_sid, sid) in [(other.service_sid, attempt.sid), (attempt.service_sid, sid())] {
        assert_same!(transact!(store, |tx| tx.lock_attempt(service_sid, sid)).unwrap(), None::<Attempt>);
    }
}

async fn attempt_cannot_be_inserted_without_its_verification(store: Store) {
    let orphan = changed(new_attempt(&store).await, |attempt| attempt.verification_sid = sid());
    assert_refused!(transact!(store, |tx| tx.insert_attempt(orphan)), Error::ParentGone);
}

async fn attempt_cannot_be_inserted_twice(store: Store) {
    let attempt = new_attempt(&store).await;
    add(&store, [attempt]).await;
    let again = transact!(store, |tx| tx.insert_attempt(attempt));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn attempt_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let attempt = new_attempt(&store).await;
    let attempts = scattered(|sid: AttemptSid, time| {
        changed(attempt, |attempt| (attempt.sid, attempt.created_at) = (sid, time))
    });
    add(&store, attempts.clone()).await;
    let filter = leak(AttemptFilter::default());
    let page = async |request| read!(store, |db| db.attempts(attempt.account_sid, filter, &request)).unwrap();
    assert_paged_list(&attempts, page).await;
}

async fn filtered_attempt_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let attempt = new_attempt(&store).await;
    let attempts = scattered(|sid: AttemptSid, time| {
        changed(attempt, |attempt| (attempt.sid, attempt.created_at) = (sid, time))
    });
    let others = scattered(|_: AttemptSid, time| {
        changed(attempt, |attempt| {
            (attempt.sid, attempt.channel, attempt.created_at) = (sid(), Channel::Call, time);
        })
    });
    add(&store, attempts.clone()).await;
    add(&store, others).await;
    let filter = leak(AttemptFilter {
        channel: Some(Channel::Sms),
        from: Some(NOW),
        to: Some(MAX_TIME),
        ..AttemptFilter::default()
    });
    let page = async |request| read!(store, |db| db.attempts(attempt.account_sid, filter, &request)).unwrap();
    let expected: Vec<_> =
        attempts.into_iter().filter(|attempt| (NOW..MAX_TIME).contains(&attempt.created_at)).collect();
    assert_paged_list(&expected, page).await;
}

async fn attempts_are_filtered_and_counted(store: Store) {
    let a = new_attempt(&store).await;
    let elsewhere = new_attempt(&store).await;
    let german = Country::from_parameter("DE").unwrap();
    let b = changed(a, |attempt| {
        (attempt.sid, attempt.created_at) = (sid(), NOW.plus_seconds(1));
        (attempt.to, attempt.country) = (Recipient::from_stored("+4915112345678".to_owned()), Some(german));
        (attempt.channel, attempt.is_converted) = (Channel::Call, true);
    });
    let second_service = {
        let account = leak(domain::Account { sid: a.account_sid, ..account().clone() });
        service(account)
    };
    let second_verification = verification(second_service);
    add(&store, [second_service]).await;
    add(&store, [second_verification]).await;
    let c = changed(verification_attempt(second_verification), |attempt| {
        (attempt.created_at, attempt.channel) = (NOW.plus_seconds(2), Channel::Email);
        (attempt.to, attempt.country) = (Recipient::from_stored("+43Ann@EXAMPLE.com".to_owned()), None);
    });
    add(&store, [a, b, c, elsewhere]).await;
    let at = |second| Some(NOW.plus_seconds(second));
    let any = AttemptFilter::default;
    let to = |text: &str| Some(Recipient::from_parameter(text).unwrap());
    let prefix = |text| Some(DestinationPrefix::from_parameter(text).unwrap());
    for (filter, expected) in [
        (any(), vec![a, b, c]),
        (AttemptFilter { from: at(1), ..any() }, vec![b, c]),
        (AttemptFilter { to: at(1), ..any() }, vec![a]),
        (AttemptFilter { from: at(1), to: at(2), ..any() }, vec![b]),
        (AttemptFilter { recipient: to("+4366412345678"), ..any() }, vec![a]),
        (AttemptFilter { recipient: to("+43Ann@example.COM"), ..any() }, vec![c]),
        (AttemptFilter { recipient: to("+43ann@example.com"), ..any() }, vec![]),
        (AttemptFilter { prefix: prefix("+4"), ..any() }, vec![a, b]),
        (AttemptFilter { prefix: prefix("+4366"), ..any() }, vec![a]),
        (AttemptFilter { prefix: prefix("+43664123456789"), ..any() }, vec![]),
        (AttemptFilter { country: Some(german), ..any() }, vec![b]),
        (AttemptFilter { channel: Some(Channel::Email), ..any() }, vec![c]),
        (AttemptFilter { service_sid: Some(a.service_sid), ..any() }, vec![a, b]),
        (AttemptFilter { service_sid: Some(elsewhere.service_sid), ..any() }, vec![]),
        (AttemptFilter { verification_sid: Some(c.verification_sid), ..any() }, vec![c]),
        (AttemptFilter { conversion: Some(Conversion::Converted), ..any() }, vec![b]),
        (AttemptFilter { conversion: Some(Conversion::Unconverted), ..any() }, vec![a, c]),
    ] {
        let filter = leak(filter);
        let found = read!(store, |db| db.attempts(a.account_sid, filter, &ALL)).unwrap();
        assert_same!(found, expected);
        let summary = read!(store, |db| db.attempt_summary(a.account_sid, filter)).unwrap();
        let count = |attempts: &[&Attempt]| u64::try_from(attempts.len()).unwrap();
        let converted: Vec<_> = expected.iter().copied().filter(|attempt| attempt.is_converted).collect();
        assert_eq!(summary, AttemptSummary { total: count(&expected), converted: count(&converted) });
    }
}

async fn attempts_of_a_deleted_service_are_not_found_even_before_their_rows_are_removed(store: Store) {
    let attempt = new_attempt(&store).await;
    add(&store, [attempt]).await;
    let (account_sid, filter) = (attempt.account_sid, leak(AttemptFilter::default()));
    let found = async || {
        let listed = read!(store, |db| db.attempts(account_sid, filter, &ALL)).unwrap().items.len();
        let summary = read!(store, |db| db.attempt_summary(account_sid, filter)).unwrap();
        let fetched = read!(store, |db| db.attempt(account_sid, attempt.sid)).unwrap();
        (listed, summary.total, fetched.is_some())
    };
    assert_eq!(found().await, (1, 1, true));
    assert!(transact!(store, |tx| tx.delete_service(account_sid, attempt.service_sid, NOW)).unwrap());
    assert_eq!(found().await, (0, 0, false));
}

async fn summary_without_attempts_is_zero(store: Store) {
    let filter = leak(AttemptFilter::default());
    let summary = read!(store, |db| db.attempt_summary(sid(), filter)).unwrap();
    assert_eq!(summary, AttemptSummary::default());
}

async fn only_the_latest_attempt_of_a_verification_is_converted(store: Store) {
    let first = new_attempt(&store).await;
    let later = |seconds| {
        changed(first, |attempt| (attempt.sid, attempt.created_at) = (sid(), NOW.plus_seconds(seconds)))
    };
    let (third, second) = (later(2), later(1));
    let other = changed(new_attempt(&store).await, |attempt| attempt.created_at = MAX_TIME);
    add(&store, [first, third, second, other]).await;
    transact!(store, |tx| tx.convert_latest_attempt(first.verification_sid, MAX_TIME)).unwrap();
    let converted = changed(third, |attempt| (attempt.is_converted, attempt.updated_at) = (true, MAX_TIME));
    let filter = leak(AttemptFilter::default());
    let list = async |account| read!(store, |db| db.attempts(account, filter, &ALL)).unwrap();
    assert_same!(list(first.account_sid).await, [first, second, converted]);
    assert_same!(list(other.account_sid).await, [other]);
    transact!(store, |tx| tx.convert_latest_attempt(sid(), MAX_TIME)).unwrap();
}

async fn progress_and_error_code_of_an_attempt_are_recorded(store: Store) {
    let before = new_attempt(&store).await;
    add(&store, [before]).await;
    for (progress, error_code) in
        [(DeliveryProgress::Failed, Some(30_008)), (DeliveryProgress::Delivered, None)]
    {
        let record = async || {
            transact!(store, |tx| tx.set_attempt_progress(before.sid, progress, error_code, MAX_TIME))
                .unwrap()
        };
        assert!(record().await);
        assert!(!record().await);
        let after = changed(before, |attempt| {
            (attempt.progress, attempt.error_code) = (Some(progress), error_code);
            attempt.updated_at = MAX_TIME;
        });
        let found = read!(store, |db| db.attempt(before.account_sid, before.sid)).unwrap();
        assert_same!(found, Some(after));
    }
    // A late report does not lead back.
    for earlier in DeliveryProgress::Delivered.earlier() {
        assert!(!transact!(store, |tx| tx.set_attempt_progress(before.sid, earlier, None, NOW)).unwrap());
    }
}

async fn traffic_to_a_prefix_is_that_of_the_newest_attempts(store: Store) {
    let (attempt, other) = (new_attempt(&store).await, new_attempt(&store).await);
    let number = |last: &str| Recipient::from_stored(format!("+43664123{last}"));
    let at = |seconds| NOW.plus_seconds(seconds);
    let to = |to: Recipient, seconds, is_converted| {
        changed(attempt, |attempt| {
            (attempt.sid, attempt.to, attempt.is_converted) = (sid(), to, is_converted);
            attempt.created_at = at(seconds);
        })
    };
    let elsewhere = changed(other, |other| (other.to, other.created_at) = (number("0001"), at(3)));
    add(
        &store,
        [
            to(number("0001"), 0, true),
            to(number("0002"), 1, true),
            to(number("0003"), 2, false),
            to(number("0004"), 3, false),
            to(number("0005"), 4, true),
            to(Recipient::from_stored("+436641240001".to_owned()), 3, true),
            to(Recipient::from_stored("+43ann@example.com".to_owned()), 3, true),
            elsewhere,
        ],
    )
    .await;
    let traffic = async |from, to, most| {
        let most = NonZeroU32::new(most).unwrap();
        let number = PhoneNumber::from_stored("+436641239999".to_owned());
        let service_sid = attempt.service_sid;
        transact!(store, |tx| tx.prefix_traffic(service_sid, &number, at(from)..at(to), most)).unwrap()
    };
    let expected = |total, converted, oldest: Option<i64>| PrefixTraffic {
        summary: AttemptSummary { total, converted },
        oldest: oldest.map(at),
    };
    // The start of the span is exclusive, its end inclusive.
    assert_eq!(traffic(0, 3, 10).await, expected(3, 1, Some(1)));
    assert_eq!(traffic(-1, 4, 10).await, expected(5, 3, Some(0)));
    assert_eq!(traffic(-1, 4, 2).await, expected(2, 1, Some(3)));
    assert_eq!(traffic(4, 9, 10).await, expected(0, 0, None));
}
