//! What an Android phone gets.

use serde::Serialize;

use crate::message::{Message, TYPE};

/// Google's limit for the data of a message, keys and values together.
pub(super) const MAX_BYTES: usize = 4096;

/// The request of docs/protocol/push.md, section 1: a data message. With a `notification` in it the app would not be
/// woken while it is in the background.
#[derive(Serialize)]
pub(super) struct Payload<'m> {
    message: Push<'m>,
}

#[derive(Serialize)]
struct Push<'m> {
    token: &'m str,
    data: Data<'m>,
    android: Android,
}

/// All of them texts, as Google demands.
#[derive(Serialize)]
struct Data<'m> {
    #[serde(rename = "type")]
    kind: &'static str,
    challenge_sid: String,
    factor_sid: String,
    message: &'m str,
}

#[derive(Serialize)]
struct Android {
    /// Otherwise a sleeping phone is not woken.
    priority: &'static str,
    ttl: String,
}

impl<'m> Payload<'m> {
    pub(super) fn new(message: &'m Message) -> Self {
        Self {
            message: Push {
                token: message.token.as_str(),
                data: Data {
                    kind: TYPE,
                    challenge_sid: message.challenge_sid.to_string(),
                    factor_sid: message.factor_sid.to_string(),
                    message: &message.text,
                },
                android: Android { priority: "HIGH", ttl: format!("{}s", message.ttl) },
            },
        }
    }

    /// What counts against [`MAX_BYTES`].
    pub(super) fn size(&self) -> usize {
        let data = &self.message.data;
        [
            "type",
            data.kind,
            "challenge_sid",
            &data.challenge_sid,
            "factor_sid",
            &data.factor_sid,
            "message",
            data.message,
        ]
        .map(str::len)
        .iter()
        .sum()
    }

    /// The request as JSON.
    #[expect(clippy::expect_used, reason = "texts have a JSON form")]
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a payload is serialisable")
    }
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
            String::from_utf8(Payload::new(&message).json()).unwrap(),
            concat!(
                r#"{"message":{"token":"0123456789abcdef","data":{"type":"verify_push_challenge","#,
                r#""challenge_sid":"YC03444444444444444444444444444444","#,
                r#""factor_sid":"YF03333333333333333333333333333333","message":"Log in as \"Ö\"?"},"#,
                r#""android":{"priority":"HIGH","ttl":"300s"}}}"#
            )
        );
        let now_or_never = Message { ttl: 0, ..samples::message() };
        assert!(String::from_utf8(Payload::new(&now_or_never).json()).unwrap().contains(r#""ttl":"0s""#));
    }
}
