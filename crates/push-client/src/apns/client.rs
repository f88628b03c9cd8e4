//! One credential's way to Apple: a request, an answer.

use domain::{Clock, Timestamp};
use reqwest::header::HeaderValue;

use super::payload;
use super::provider_token::{NoToken, ProviderTokens};
use super::reason::{Reason, Rejection};
use crate::codes;
use crate::credential::ApnsToken;
use crate::message::Message;
use crate::outcome::{Outcome, Verdict};
use crate::transport::{Failure, excerpt, exchange};

/// A push, ready to be sent and sent again.
pub(super) struct Request {
    token: String,
    token_registered_at: Timestamp,
    topic: HeaderValue,
    expiration: i64,
    id: Option<HeaderValue>,
    payload: Vec<u8>,
}

impl Request {
    /// What goes to Apple, or the outcome where Apple need not be asked.
    pub(super) fn new(message: &Message) -> Result<Self, Outcome> {
        let refuse = |reason: Reason, words: &str| {
            let (verdict, code) = reason.verdict(400);
            verdict.outcome(code, words, None)
        };
        // The token becomes a part of the path. Apple's are hexadecimal, of a length that may change.
        let token = message.token.as_str();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(refuse(Reason::BadDeviceToken, "not sent: no device token of Apple's"));
        }
        let topic = Some(message.app_id.as_str()).filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()));
        let topic = topic.and_then(|id| HeaderValue::from_str(id).ok());
        let topic = topic.ok_or_else(|| refuse(Reason::BadTopic, "not sent: the app id is no bundle id"))?;
        let payload = payload::json(message);
        if payload.len() > payload::MAX_BYTES {
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

/// `apns-id` has the form of a UUID in small letters; Apple refuses a push with any other.
fn apns_id(text: &str) -> Option<HeaderValue> {
    let text = text.to_ascii_lowercase();
    let groups = text.split('-').map(str::len);
    let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (digits && groups.eq([8, 4, 4, 4, 12])).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

/// What came of a request.
pub(super) enum Answer {
    /// Apple took it, under this name.
    Accepted(Option<String>),
    /// Apple did not.
    Rejected(Rejection),
    /// Nobody answered.
    Failed(Failure),
    /// It could not be sent, since there is no provider token for it.
    Unsigned,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Accepted(provider_id) => Self::Delivered { provider_id },
            Answer::Rejected(rejection) => rejection.into(),
            Answer::Failed(failure) if failure.certificate_refused => {
                Verdict::Refused.outcome(codes::APNS_CREDENTIAL, failure.reason, None)
            }
            Answer::Failed(failure) => Verdict::Retry.outcome(codes::APNS_UNREACHABLE, failure.reason, None),
            Answer::Unsigned => Verdict::Retry.outcome(codes::INTERNAL, "the key does not sign", None),
        }
    }
}

/// Connections of one credential, and its provider tokens if it signs in with them.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    tokens: Option<ProviderTokens>,
}

impl Client {
    pub(super) fn new(http: reqwest::Client, base: String, key: Option<ApnsToken>) -> Self {
        Self { http, base, tokens: key.map(ProviderTokens::new) }
    }

    /// Sends the push; a second time if all that Apple found wrong was the age of the provider token.
    pub(super) async fn send(&self, request: &Request, clock: &dyn Clock) -> Answer {
        let Some(tokens) = &self.tokens else { return self.attempt(request, None, clock).await };
        let Ok(token) = tokens.current(clock.now()) else { return Answer::Unsigned };
        let mut answer = self.attempt(request, Some(&token), clock).await;
        if let Answer::Rejected(rejection) = &mut answer
            && rejection.reason == Reason::ExpiredProviderToken
        {
            match tokens.instead_of(&token, clock.now()) {
                Ok(newer) => return self.attempt(request, Some(&newer), clock).await,
                Err(NoToken::TooEarly(wait)) => rejection.after = Some(wait),
                Err(NoToken::Unsigned) => return Answer::Unsigned,
            }
        }
        answer
    }

    async fn attempt(&self, request: &Request, token: Option<&HeaderValue>, clock: &dyn Clock) -> Answer {
        let mut builder = self
            .http
            .post(format!("{}/3/device/{}", self.base, request.token))
            .header("apns-topic", &request.topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", "10")
            .header("apns-expiration", request.expiration)
            .body(request.payload.clone());
        if let Some(id) = &request.id {
            builder = builder.header("apns-id", id);
        }
        if let Some(token) = token {
            builder = builder.header("authorization", token);
        }
        match exchange(builder).await {
            Ok(reply) if reply.status == 200 => {
                let id = reply.headers.get("apns-id").and_then(|id| id.to_str().ok());
                Answer::Accepted(id.map(excerpt))
            }
            Ok(reply) => Answer::Rejected(Rejection::read(&reply, request.token_registered_at, clock.now())),
            Err(failure) => Answer::Failed(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::factors::{AppId, RegistrationToken};

    use super::*;
    use crate::samples;

    fn refused(change: impl FnOnce(&mut Message)) -> Outcome {
        let mut message = samples::message();
        change(&mut message);
        match Request::new(&message) {
            Err(outcome) => outcome,
            Ok(request) => panic!("{} would be sent", request.token),
        }
    }

    #[test]
    fn only_letters_and_digits_become_part_of_a_path() {
        for token in ["", "a/b", "../../4/x", "a?b", "a#b", "a%2e", "a b", "ä", "a\r\nb", "d:e", "-", "."] {
            let outcome = refused(|message| message.token = RegistrationToken::from_stored(token.to_owned()));
            assert!(matches!(outcome, Outcome::Gone { code: 52134, .. }), "{token}: {outcome:?}");
        }
    }

    #[test]
    fn a_topic_is_plain_text() {
        let outcome = refused(|message| message.app_id = AppId::from_stored("com.exämple".to_owned()));
        assert!(matches!(outcome, Outcome::Refused { code: 52143, .. }), "{outcome:?}");
    }

    #[test]
    fn a_payload_has_at_most_4096_bytes() {
        let empty = payload::json(&Message { text: String::new(), ..samples::message() }).len();
        // The text stands in it twice.
        let longest = (payload::MAX_BYTES - empty) / 2;
        let request = Request::new(&Message { text: "x".repeat(longest), ..samples::message() });
        assert!(request.is_ok_and(|request| request.payload.len() > payload::MAX_BYTES - 2));
        let outcome = refused(|message| message.text = "x".repeat(longest + 1));
        assert!(matches!(outcome, Outcome::Refused { code: 52138, .. }), "{outcome:?}");
    }

    #[test]
    fn an_id_is_a_uuid_or_left_to_apple() {
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
