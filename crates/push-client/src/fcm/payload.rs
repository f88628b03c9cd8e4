//! The JSON payload of a push for FCM.

use serde::Serialize;

use crate::message::{Message, PUSH_TYPE};

/// Maximum total size of a message's data, keys and values together, in bytes.
pub(super) const MAX_DATA_BYTES: usize = 4096;

/// The request body defined in docs/protocol/push.md, section 1: a data message. It has no `notification`
/// field: for a message with one, Android would not wake an app in the background.
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

/// The data of the push. FCM accepts only strings as values.
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
    /// Delivery priority. Only `HIGH` wakes a sleeping phone.
    priority: &'static str,
    ttl: String,
}

impl<'m> Payload<'m> {
    pub(super) fn new(message: &'m Message) -> Self {
        Self {
            message: Push {
                token: message.token.as_str(),
                data: Data {
                    kind: PUSH_TYPE,
                    challenge_sid: message.challenge_sid.to_string(),
                    factor_sid: message.factor_sid.to_string(),
                    message: &message.text,
                },
                android: Android { priority: "HIGH", ttl: format!("{}s", message.ttl) },
            },
        }
    }

    /// Returns the total size of the data's keys and values in bytes, which is limited to [`MAX_DATA_BYTES`].
    pub(super) fn data_bytes(&self) -> usize {
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

    /// Returns the JSON request body.
    #[expect(clippy::expect_used, reason = "strings always serialize")]
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a payload is serializable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    /// Compares bytes, so that any change to the wire format fails the test.
    #[test]
    fn fcm_payload_has_the_documented_format() {
        let message = Message { text: "Log in as \"Ö\"?".to_owned(), ..test_data::message() };
        assert_eq!(
            String::from_utf8(Payload::new(&message).to_json()).unwrap(),
            concat!(
                r#"{"message":{"token":"0123456789abcdef","data":{"type":"verify_push_challenge","#,
                r#""challenge_sid":"YC03444444444444444444444444444444","#,
                r#""factor_sid":"YF03333333333333333333333333333333","message":"Log in as \"Ö\"?"},"#,
                r#""android":{"priority":"HIGH","ttl":"300s"}}}"#
            )
        );
        let now_or_never = Message { ttl: 0, ..test_data::message() };
        assert!(String::from_utf8(Payload::new(&now_or_never).to_json()).unwrap().contains(r#""ttl":"0s""#));
    }
}
