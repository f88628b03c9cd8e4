//! The JSON payload of a push for APNs.

use serde::Serialize;

use crate::message::{Message, PUSH_TYPE};

/// Maximum size of an APNs payload, in bytes.
pub(super) const MAX_PAYLOAD_BYTES: usize = 4096;

/// The payload defined in docs/protocol/push.md, section 1. It requests no sound, no badge, and no content
/// extension.
#[derive(Serialize)]
struct Payload<'m> {
    aps: Aps<'m>,
    message: &'m str,
    challenge_sid: domain::ChallengeSid,
    factor_sid: domain::FactorSid,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Aps<'m> {
    alert: &'m str,
    category: &'static str,
}

/// Returns the JSON payload for `message`.
#[expect(clippy::expect_used, reason = "strings always serialize")]
pub(super) fn to_json(message: &Message) -> Vec<u8> {
    let payload = Payload {
        aps: Aps { alert: &message.text, category: PUSH_TYPE },
        message: &message.text,
        challenge_sid: message.challenge_sid,
        factor_sid: message.factor_sid,
        kind: PUSH_TYPE,
    };
    serde_json::to_vec(&payload).expect("a payload is serializable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    /// Compares bytes, so that any change to the wire format fails the test.
    #[test]
    fn apns_payload_has_the_documented_format() {
        let message = Message { text: "Log in as \"Ö\"?".to_owned(), ..test_data::message() };
        assert_eq!(
            String::from_utf8(to_json(&message)).unwrap(),
            concat!(
                r#"{"aps":{"alert":"Log in as \"Ö\"?","category":"verify_push_challenge"},"#,
                r#""message":"Log in as \"Ö\"?","challenge_sid":"YC03444444444444444444444444444444","#,
                r#""factor_sid":"YF03333333333333333333333333333333","type":"verify_push_challenge"}"#
            )
        );
    }
}
