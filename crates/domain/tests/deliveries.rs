//! The names of deliveries, and what their kinds are called.

use domain::Entropy;
use domain::Timestamp;
use domain::deliveries::{DeliveryId, Kind};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// The same byte again and again.
struct Same(u8);

impl Entropy for Same {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

#[test]
fn an_id_has_the_time_the_version_the_variant_and_74_random_bits() {
    let id = |byte| DeliveryId::generate(NOW, &Same(byte)).to_string();
    assert_eq!(id(0x00), "019b76da-a800-7000-8000-000000000000");
    assert_eq!(id(0xff), "019b76da-a800-7fff-bfff-ffffffffffff");
    assert_eq!(id(0x5a), "019b76da-a800-7a5a-9a5a-5a5a5a5a5a5a");
    let early = DeliveryId::generate(NOW, &Same(0xff));
    assert!(early < DeliveryId::generate(NOW.plus_seconds(1), &Same(0x00)));
}

#[test]
fn an_id_is_read_in_the_form_of_a_uuid_alone() {
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
fn kinds_have_the_words_of_the_database() {
    let words = [Kind::Webhook, Kind::Push, Kind::Debugger].map(Kind::as_str);
    assert_eq!(words, ["webhook", "push", "debugger"]);
}
