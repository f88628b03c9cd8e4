//! Verifications: reading them back, and closing those that expired.

use domain::text::Text;
use domain::verifications::{Attempt, MessageOptions, Payment, Status, Verification, VerificationTarget};
use domain::{Channel, Recipient, Sealed};
use store::Store;

use crate::fixtures::*;

contract! {
    changed_verification_is_read_back_unchanged,
    expired_verifications_are_closed_before_their_messages_are_forgotten,
}

/// Inserts a verification with its parents, and returns it. It expires `seconds` after [`NOW`].
async fn added(store: &Store, seconds: i64) -> &'static Verification {
    let account = account();
    let service = service(account);
    let verification = changed(verification(service), |new| new.expires_at = NOW.plus_seconds(seconds));
    add(store, [account]).await;
    add(store, [service]).await;
    add(store, [verification]).await;
    verification
}

/// Returns the open verification with this SID.
async fn open(store: &Store, verification: &'static Verification) -> Option<Verification> {
    let target = VerificationTarget::Sid(verification.sid);
    read!(store, |db| db.open_verification(verification.service_sid, &target)).unwrap()
}

async fn changed_verification_is_read_back_unchanged(store: Store) {
    let plain = added(&store, 600).await;
    let full = changed(plain, |verification| {
        verification.channel = Channel::Whatsapp;
        verification.stored_status = Status::MaxAttemptsReached;
        verification.code = Some(Sealed::from_bytes(all_bytes()));
        verification.is_custom = true;
        verification.payment = Some(Payment {
            amount: Text::from_stored(TRICKY_TEXT.to_owned()),
            payee: Text::from_stored(TRICKY_TEXT.to_owned()),
        });
        verification.sends = 5;
        verification.wrong_checks = vec![MIN_TIME, NOW, MAX_TIME];
        verification.updated_at = MAX_TIME;
    });
    for verification in [plain, full] {
        transact!(store, |tx| tx.update_verification(verification)).unwrap();
        let found = open(&store, verification).await.unwrap();
        assert_eq!(
            (found.sid, found.account_sid, found.service_sid),
            (plain.sid, plain.account_sid, plain.service_sid)
        );
        assert_eq!(
            (&found.to, found.channel),
            (&Recipient::from_stored("+4366412345678".to_owned()), verification.channel)
        );
        assert_eq!(found.stored_status, verification.stored_status);
        let status = read!(store, |db| db.verification_status(plain.service_sid, plain.sid)).unwrap();
        assert_eq!(status, Some(verification.stored_status));
        assert_eq!(read!(store, |db| db.verification_status(sid(), plain.sid)).unwrap(), None);
        let code =
            |verification: &Verification| verification.code.as_ref().map(|code| code.as_bytes().to_vec());
        assert_eq!((code(&found), found.is_custom), (code(verification), verification.is_custom));
        assert_eq!(found.payment, verification.payment);
        assert_eq!((found.sends, &found.wrong_checks), (verification.sends, &verification.wrong_checks));
        assert_eq!((found.expires_at, found.closed_at), (plain.expires_at, None));
        assert_eq!((found.created_at, found.updated_at), (plain.created_at, verification.updated_at));
    }
}

async fn expired_verifications_are_closed_before_their_messages_are_forgotten(store: Store) {
    let (pending, used_up, valid) =
        (added(&store, 600).await, added(&store, 600).await, added(&store, 602).await);
    let mut attempts = Vec::new();
    for verification in [pending, used_up, valid] {
        let attempt = changed(verification_attempt(verification), |attempt| {
            attempt.message = Some(MessageOptions::default())
        });
        add(&store, [attempt]).await;
        attempts.push(attempt);
    }
    let used_up = changed(used_up, |verification| (0..5).for_each(|_| verification.count_wrong_check(NOW)));
    transact!(store, |tx| tx.update_verification(used_up)).unwrap();
    let payment =
        Payment { amount: Text::from_stored("€9".to_owned()), payee: Text::from_stored("Shop".to_owned()) };
    let paid = changed(pending, |verification| verification.payment = Some(payment));
    transact!(store, |tx| tx.update_verification(paid)).unwrap();
    let end = NOW.plus_seconds(600);
    let has_message = async |attempt: &'static Attempt| {
        let found = read!(store, |db| db.attempt(attempt.account_sid, attempt.sid)).unwrap();
        found.unwrap().message.is_some()
    };

    let none = transact!(store, |tx| tx.close_expired_verifications(end, 10)).unwrap();
    assert!(none.is_empty(), "{none:?}");
    let later = end.plus_seconds(1);
    let mut closed = Vec::new();
    for _ in 0..2 {
        let batch = transact!(store, |tx| tx.close_expired_verifications(later, 1)).unwrap();
        assert_eq!(batch.len(), 1);
        closed.extend(batch);
    }
    for verification in &closed {
        assert!(verification.code.is_none() && verification.payment.is_none());
        assert_eq!(verification.closed_at, Some(end));
        let expected =
            if verification.sid == used_up.sid { Status::MaxAttemptsReached } else { Status::Expired };
        assert_eq!(verification.stored_status, expected);
    }
    assert!(
        has_message(attempts[0]).await && has_message(attempts[1]).await && has_message(attempts[2]).await
    );

    let sids = closed.iter().map(|verification| verification.sid).collect::<Vec<_>>();
    let forgotten = sids.clone();
    transact!(store, |tx| tx.forget_messages(forgotten.iter().copied())).unwrap();
    for attempt in attempts {
        assert_eq!(has_message(attempt).await, !sids.contains(&attempt.verification_sid));
    }
}
