//! One credential's way to Google: a request, an answer.

use domain::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use super::Destination;
use super::access_token::AccessTokens;
use super::error::{ErrorCode, Rejection};
use super::payload::{self, Payload};
use crate::codes;
use crate::credential::ServiceAccount;
use crate::message::Message;
use crate::outcome::{Outcome, Verdict};
use crate::transport::{Failure, excerpt, exchange};

/// A push, ready to be sent and sent again.
pub(super) struct Request {
    payload: Vec<u8>,
}

impl Request {
    /// What goes to Google, or the outcome where Google need not be asked.
    pub(super) fn new(message: &Message) -> Result<Self, Outcome> {
        let payload = Payload::new(message);
        if payload.size() > payload::MAX_BYTES {
            let reason = "not sent: the data is larger than 4096 bytes";
            return Err(Verdict::Refused.outcome(codes::FCM_TOO_LARGE, reason, None));
        }
        Ok(Self { payload: payload.json() })
    }
}

/// What came of a request.
pub(super) enum Answer {
    /// Google took it, under this name.
    Accepted(Option<String>),
    /// Google did not.
    Rejected(Rejection),
    /// Nobody answered.
    Failed(Failure),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Accepted(provider_id) => Self::Delivered { provider_id },
            Answer::Rejected(rejection) => rejection.into(),
            Answer::Failed(failure) => Verdict::Retry.outcome(codes::FCM_UNREACHABLE, failure.reason, None),
        }
    }
}

/// The connections of all credentials, and the access tokens of this one.
pub(super) struct Client {
    http: reqwest::Client,
    address: String,
    tokens: AccessTokens,
}

impl Client {
    pub(super) fn new(http: reqwest::Client, destination: &Destination, account: ServiceAccount) -> Self {
        let address = format!("{}/v1/projects/{}/messages:send", destination.push_base, account.project_id());
        Self { http: http.clone(), address, tokens: AccessTokens::new(http, destination, account) }
    }

    /// Sends the push; a second time if all that Google found wrong was the access token. The error is
    /// the outcome where there is none.
    pub(super) async fn send(&self, request: &Request, clock: &dyn Clock) -> Result<Answer, Outcome> {
        let token = self.tokens.current(clock).await?;
        let answer = self.attempt(request, &token, clock).await;
        if let Answer::Rejected(rejection) = &answer
            && rejection.code == ErrorCode::Unauthenticated
        {
            let newer = self.tokens.instead_of(&token, clock).await?;
            if newer != token {
                return Ok(self.attempt(request, &newer, clock).await);
            }
        }
        Ok(answer)
    }

    async fn attempt(&self, request: &Request, token: &HeaderValue, clock: &dyn Clock) -> Answer {
        let builder = self
            .http
            .post(&self.address)
            .header("authorization", token)
            .header(CONTENT_TYPE, "application/json")
            .body(request.payload.clone());
        match exchange(builder).await {
            Ok(reply) if reply.status == 200 => {
                Answer::Accepted(reply.json().get("name").and_then(Value::as_str).map(excerpt))
            }
            Ok(reply) => Answer::Rejected(Rejection::read(&reply, clock.now())),
            Err(failure) => Answer::Failed(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_data_has_at_most_4096_bytes() {
        let with = |length| Message { text: "x".repeat(length), ..samples::message() };
        let longest = payload::MAX_BYTES - Payload::new(&with(0)).size();
        assert!(Request::new(&with(longest)).is_ok());
        let refused = Request::new(&with(longest + 1)).err();
        assert!(matches!(refused, Some(Outcome::Refused { code: 52106, .. })), "{refused:?}");
    }
}
