//! What an iPhone gets.

use serde::Serialize;

use crate::message::{Message, TYPE};

/// Apple's limit for alerts.
pub(super) const MAX_BYTES: usize = 4096;

/// The payload of docs/protocol/push.md, section 1. It asks for no sound, no badge and no content extension.
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

/// The payload as JSON.
#[expect(clippy::expect_used, reason = "texts have a JSON form")]
pub(super) fn json(message: &Message) -> Vec<u8> {
    let payload = Payload {
        aps: Aps { alert: &message.text, category: TYPE },
        message: &message.text,
        challenge_sid: message.challenge_sid,
        factor_sid: message.factor_sid,
        kind: TYPE,
    };
    serde_json::to_vec(&payload).expect("a payload is serialisable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// Byte for byte, so that a change is seen.
    #[test]
    fn is_what_the_app_expects() {
        let message = Message { text: "Log in as \"Ö\"?".to_owned(), ..samples::message() };
        assert_eq!(
            String::from_utf8(json(&message)).unwrap(),
            concat!(
                r#"{"aps":{"alert":"Log in as \"Ö\"?","category":"verify_push_challenge"},"#,
                r#""message":"Log in as \"Ö\"?","challenge_sid":"YC03444444444444444444444444444444","#,
                r#""factor_sid":"YF03333333333333333333333333333333","type":"verify_push_challenge"}"#
            )
        );
    }
}
