//! Tests of delivery IDs, delivery kinds, and expiry.

use domain::Entropy;
use domain::Timestamp;
use domain::deliveries::{DeliveryId, Ending, Kind, Next, Schedule};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// An entropy source that fills every buffer with the same byte.
struct Same(u8);

impl Entropy for Same {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

#[test]
fn delivery_id_is_a_version_7_uuid_with_74_random_bits() {
    let id = |byte| DeliveryId::generate(NOW, &Same(byte)).to_string();
    assert_eq!(id(0x00), "019b76da-a800-7000-8000-000000000000");
    assert_eq!(id(0xff), "019b76da-a800-7fff-bfff-ffffffffffff");
    assert_eq!(id(0x5a), "019b76da-a800-7a5a-9a5a-5a5a5a5a5a5a");
    let early = DeliveryId::generate(NOW, &Same(0xff));
    assert!(early < DeliveryId::generate(NOW.plus_seconds(1), &Same(0x00)));
}

#[test]
fn delivery_id_is_parsed_only_in_the_hyphenated_form() {
    let id = DeliveryId::generate(NOW, &Same(0x5a));
    let text = id.to_string();
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(text.to_ascii_uppercase().parse(), Ok(id));
    assert_eq!(format!("{id:?}"), text);
    for bad in [text.replace('-', ""), text[1..].to_owned(), format!("{text}0"), text.replace('5', "g")] {
        assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
    }
}

#[test]
fn delivery_kinds_have_the_names_stored_in_the_database() {
    let kinds = [Kind::Webhook, Kind::Push, Kind::Message, Kind::VerificationEvent, Kind::Debugger];
    assert_eq!(kinds.map(Kind::as_str), ["webhook", "push", "message", "verification_event", "debugger"]);
}

#[test]
fn expired_delivery_is_not_retried() {
    let next = |give_up_at| Schedule::default().next(Ending::RetryNow, 1, give_up_at, NOW, 0.0);
    assert_eq!(next(Timestamp::from_micros(NOW.micros() + 1)), Next::Retry(NOW));
    assert_eq!(next(NOW), Next::Failed);
    assert_eq!(next(NOW.plus_seconds(-1)), Next::Failed);
}
