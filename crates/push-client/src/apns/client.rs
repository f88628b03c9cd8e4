//! Sends push requests to APNs with one credential and interprets the responses.

use domain::{Clock, Timestamp};
use reqwest::header::HeaderValue;

use super::payload;
use super::provider_token::{ProviderTokens, TokenError};
use super::reason::{Reason, Rejection};
use crate::credential::ApnsToken;
use crate::debugger_codes;
use crate::message::Message;
use crate::outcome::{FailureKind, Outcome};
use crate::transport::{self, TransportError, excerpt};

/// The `apns-push-type` of every push.
const PUSH_TYPE: &str = "alert";

/// The `apns-priority` of every push: deliver it immediately.
const PRIORITY: &str = "10";

/// Returns the headers of the request for `message`, except for the provider token.
pub(super) fn headers(message: &Message) -> Vec<(&'static str, String)> {
    let expiration = message.expires_at.map_or(0, Timestamp::seconds);
    let mut headers = vec![
        ("apns-topic", message.app_id.as_str().to_owned()),
        ("apns-push-type", PUSH_TYPE.to_owned()),
        ("apns-priority", PRIORITY.to_owned()),
        ("apns-expiration", expiration.to_string()),
    ];
    headers.extend(apns_id(&message.id).and_then(|id| Some(("apns-id", id.to_str().ok()?.to_owned()))));
    headers
}

/// A validated APNs push request. It can be sent more than once.
pub(super) struct Request {
    token: String,
    token_registered_at: Timestamp,
    topic: HeaderValue,
    expiration: i64,
    id: Option<HeaderValue>,
    payload: Vec<u8>,
}

impl Request {
    /// Validates `message` and builds the APNs request for it.
    ///
    /// # Errors
    /// Returns the outcome to report if APNs would reject `message` anyway: the device token, the app id, or
    /// the size of the payload is invalid.
    pub(super) fn new(message: &Message) -> Result<Self, Outcome> {
        let refuse = |reason: Reason, text: &str| {
            let (kind, code) = reason.classify(400);
            kind.outcome(code, text, None)
        };
        // The token becomes part of the URL path. Apple's tokens are hexadecimal; their length may change.
        let token = message.token.as_str();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(refuse(
                Reason::BadDeviceToken,
                "not sent: the device token is not a valid APNs token",
            ));
        }
        let topic = Some(message.app_id.as_str()).filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()));
        let topic = topic.and_then(|id| HeaderValue::from_str(id).ok());
        let topic =
            topic.ok_or_else(|| refuse(Reason::BadTopic, "not sent: the app id is not a valid bundle id"))?;
        let payload = payload::to_json(message);
        if payload.len() > payload::MAX_PAYLOAD_BYTES {
            return Err(refuse(Reason::PayloadTooLarge, "not sent: the payload is larger than 4096 bytes"));
        }
        Ok(Self {
            token: token.to_owned(),
            token_registered_at: message.token_registered_at,
            topic,
            expiration: message.expires_at.map_or(0, Timestamp::seconds),
            id: apns_id(&message.id),
            payload,
        })
    }
}

/// Returns the value of the `apns-id` header: `text` in lower case, or `None` if `text` is not a UUID. APNs
/// rejects other values.
fn apns_id(text: &str) -> Option<HeaderValue> {
    let text = text.to_ascii_lowercase();
    let groups = text.split('-').map(str::len);
    let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (digits && groups.eq([8, 4, 4, 4, 12])).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

/// The result of sending an APNs request.
pub(super) enum SendResult {
    /// APNs accepted the push and returned this `apns-id`, if any.
    Accepted(Option<String>),
    /// APNs rejected the push.
    Rejected(Rejection),
    /// No response was received.
    Failed(TransportError),
    /// No provider token could be signed, so nothing was sent.
    SigningFailed,
}

impl From<SendResult> for Outcome {
    fn from(result: SendResult) -> Self {
        match result {
            SendResult::Accepted(provider_id) => Self::Delivered { provider_id },
            SendResult::Rejected(rejection) => rejection.into(),
            SendResult::Failed(error) if error.is_certificate_refused => {
                FailureKind::Refused.outcome(debugger_codes::APNS_CREDENTIAL, error.reason, None)
            }
            SendResult::Failed(error) => {
                FailureKind::Retry.outcome(debugger_codes::APNS_UNREACHABLE, error.reason, None)
            }
            SendResult::SigningFailed => FailureKind::Retry.outcome(
                debugger_codes::INTERNAL,
                "could not sign the provider token",
                None,
            ),
        }
    }
}

/// The HTTP client of one credential, which owns its connections, and its provider tokens if it uses them.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    tokens: Option<ProviderTokens>,
}

impl Client {
    pub(super) fn new(http: reqwest::Client, base: String, key: Option<ApnsToken>) -> Self {
        Self { http, base, tokens: key.map(ProviderTokens::new) }
    }

    /// Sends the push. If APNs reports that the provider token has expired, replaces the token and sends the
    /// push once more.
    pub(super) async fn send(&self, request: &Request, clock: &dyn Clock) -> SendResult {
        let Some(tokens) = &self.tokens else { return self.attempt(request, None, clock).await };
        let Ok(token) = tokens.current(clock.now()) else { return SendResult::SigningFailed };
        let mut result = self.attempt(request, Some(&token), clock).await;
        if let SendResult::Rejected(rejection) = &mut result
            && rejection.reason == Reason::ExpiredProviderToken
        {
            match tokens.replace(&token, clock.now()) {
                Ok(newer) => return self.attempt(request, Some(&newer), clock).await,
                Err(TokenError::TooEarly(wait)) => rejection.after = Some(wait),
                Err(TokenError::SigningFailed) => return SendResult::SigningFailed,
            }
        }
        result
    }

    async fn attempt(&self, request: &Request, token: Option<&HeaderValue>, clock: &dyn Clock) -> SendResult {
        let mut builder = self
            .http
            .post(format!("{}/3/device/{}", self.base, request.token))
            .header("apns-topic", &request.topic)
            .header("apns-push-type", PUSH_TYPE)
            .header("apns-priority", PRIORITY)
            .header("apns-expiration", request.expiration)
            .body(request.payload.clone());
        if let Some(id) = &request.id {
            builder = builder.header("apns-id", id);
        }
        if let Some(token) = token {
            builder = builder.header("authorization", token);
        }
        match transport::send(builder).await {
            Ok(response) if response.status == 200 => {
                let id = response.headers.get("apns-id").and_then(|id| id.to_str().ok());
                SendResult::Accepted(id.map(excerpt))
            }
            Ok(response) => {
                let registered_at = request.token_registered_at;
                SendResult::Rejected(Rejection::from_response(&response, registered_at, clock.now()))
            }
            Err(error) => SendResult::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::factors::{AppId, RegistrationToken};

    use super::*;
    use crate::test_data;

    fn refused(change: impl FnOnce(&mut Message)) -> Outcome {
        let mut message = test_data::message();
        change(&mut message);
        match Request::new(&message) {
            Err(outcome) => outcome,
            Ok(request) => panic!("the push to {} would be sent", request.token),
        }
    }

    #[test]
    fn device_token_with_characters_other_than_letters_and_digits_is_not_sent() {
        for token in ["", "a/b", "../../4/x", "a?b", "a#b", "a%2e", "a b", "ä", "a\r\nb", "d:e", "-", "."] {
            let outcome = refused(|message| message.token = RegistrationToken::from_stored(token.to_owned()));
            assert!(matches!(outcome, Outcome::DeadToken { code: 52134, .. }), "{token}: {outcome:?}");
        }
    }

    #[test]
    fn app_id_with_non_ascii_characters_is_refused() {
        let outcome = refused(|message| message.app_id = AppId::from_stored("com.exämple".to_owned()));
        assert!(matches!(outcome, Outcome::Refused { code: 52143, .. }), "{outcome:?}");
    }

    #[test]
    fn apns_payload_over_4096_bytes_is_refused() {
        let empty = payload::to_json(&Message { text: String::new(), ..test_data::message() }).len();
        // The payload contains the message text twice.
        let longest = (payload::MAX_PAYLOAD_BYTES - empty) / 2;
        let request = Request::new(&Message { text: "x".repeat(longest), ..test_data::message() });
        assert!(request.is_ok_and(|request| request.payload.len() > payload::MAX_PAYLOAD_BYTES - 2));
        let outcome = refused(|message| message.text = "x".repeat(longest + 1));
        assert!(matches!(outcome, Outcome::Refused { code: 52138, .. }), "{outcome:?}");
    }

    #[test]
    fn apns_id_is_set_only_for_a_uuid() {
        let id = "019b76da-a800-7fff-bfff-ffffffffffff";
        assert_eq!(apns_id(id).unwrap(), id);
        assert_eq!(apns_id(&id.to_ascii_uppercase()).unwrap(), id);
        for other in [
            "",
            "x",
            "019b76daa8007fffbfffffffffffffff",
            &id[1..],
            &id.replace('f', "g"),
            &id.replace('f', "é"),
        ] {
            assert!(apns_id(other).is_none(), "{other}");
        }
    }
}
