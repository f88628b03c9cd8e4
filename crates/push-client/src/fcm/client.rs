//! Sends push requests to FCM with one credential and interprets the responses.

use domain::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use super::access_token::AccessTokens;
use super::endpoints::Endpoints;
use super::error_code::{ErrorCode, Rejection};
use super::payload::{self, Payload};
use crate::credential::ServiceAccount;
use crate::debugger_codes;
use crate::message::Message;
use crate::outcome::{FailureKind, Outcome};
use crate::transport::{self, TransportError, excerpt};

/// A validated FCM push request. It can be sent more than once.
pub(super) struct Request {
    payload: Vec<u8>,
}

impl Request {
    /// Validates `message` and builds the FCM request for it.
    ///
    /// # Errors
    /// Returns the outcome to report if the data is larger than 4096 bytes, which FCM would reject anyway.
    pub(super) fn new(message: &Message) -> Result<Self, Outcome> {
        let payload = Payload::new(message);
        if payload.data_bytes() > payload::MAX_DATA_BYTES {
            let reason = "not sent: the data is larger than 4096 bytes";
            return Err(FailureKind::Refused.outcome(debugger_codes::FCM_TOO_LARGE, reason, None));
        }
        Ok(Self { payload: payload.to_json() })
    }
}

/// The result of sending an FCM request.
pub(super) enum SendResult {
    /// FCM accepted the push and returned this message name, if any.
    Accepted(Option<String>),
    /// FCM rejected the push.
    Rejected(Rejection),
    /// No response was received.
    Failed(TransportError),
}

impl From<SendResult> for Outcome {
    fn from(result: SendResult) -> Self {
        match result {
            SendResult::Accepted(provider_id) => Self::Delivered { provider_id },
            SendResult::Rejected(rejection) => rejection.into(),
            SendResult::Failed(error) => {
                FailureKind::Retry.outcome(debugger_codes::FCM_UNREACHABLE, error.reason, None)
            }
        }
    }
}

/// The HTTP client, which all credentials share, and the access tokens of one credential.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    tokens: AccessTokens,
}

impl Client {
    pub(super) fn new(http: reqwest::Client, endpoints: &Endpoints, account: ServiceAccount) -> Self {
        let url = endpoints.push_url(account.project_id());
        Self { http: http.clone(), url, tokens: AccessTokens::new(http, endpoints, account) }
    }

    /// Sends the push. If FCM rejects the access token, requests a new token and sends the push once more.
    ///
    /// # Errors
    /// Returns the outcome of the push if no access token is available.
    pub(super) async fn send(&self, request: &Request, clock: &dyn Clock) -> Result<SendResult, Outcome> {
        let token = self.tokens.current(clock).await?;
        let result = self.attempt(request, &token, clock).await;
        if let SendResult::Rejected(rejection) = &result
            && rejection.code == ErrorCode::Unauthenticated
        {
            let newer = self.tokens.replace(&token, clock).await?;
            if newer != token {
                return Ok(self.attempt(request, &newer, clock).await);
            }
        }
        Ok(result)
    }

    async fn attempt(&self, request: &Request, token: &HeaderValue, clock: &dyn Clock) -> SendResult {
        let builder = self
            .http
            .post(&self.url)
            .header("authorization", token)
            .header(CONTENT_TYPE, "application/json")
            .body(request.payload.clone());
        match transport::send(builder).await {
            Ok(response) if response.status == 200 => {
                SendResult::Accepted(response.json().get("name").and_then(Value::as_str).map(excerpt))
            }
            Ok(response) => SendResult::Rejected(Rejection::from_response(&response, clock.now())),
            Err(error) => SendResult::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn fcm_data_over_4096_bytes_is_refused() {
        let message_of = |length| Message { text: "x".repeat(length), ..test_data::message() };
        let longest = payload::MAX_DATA_BYTES - Payload::new(&message_of(0)).data_bytes();
        assert!(Request::new(&message_of(longest)).is_ok());
        let refused = Request::new(&message_of(longest + 1)).err();
        assert!(matches!(refused, Some(Outcome::Refused { code: 52106, .. })), "{refused:?}");
    }
}
