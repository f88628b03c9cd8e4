//! Apple: one HTTP/2 request per push (developer.apple.com, "Sending notification requests to APNs").
//!
//! Every credential has connections of its own. With a certificate there is no other way; with tokens
//! Apple ties a connection to the team whose token it saw first, and refuses others on it ("Establishing
//! a token-based connection to APNs").

mod client;
mod payload;
mod provider_token;
mod reason;

use std::sync::Arc;

use domain::Clock;

use self::client::{Answer, Client, Request};
pub use self::reason::Reason;
use crate::credential::{ApnsCertificate, ApnsToken, Environment};
use crate::message::Message;
use crate::outcome::{Outcome, Verdict};
use crate::pool::Pool;
use crate::transport::Transport;
use crate::{Error, codes};

/// Credentials whose connections are kept open.
const CLIENTS: usize = 256;

/// All that is kept for Apple.
pub(crate) struct Apns {
    endpoint: Option<String>,
    transport: Arc<Transport>,
    clock: Arc<dyn Clock>,
    clients: Pool<Client>,
}

/// With what a push is sent.
pub(crate) enum Access<'c> {
    Certificate(&'c ApnsCertificate),
    Token(&'c ApnsToken),
}

impl Access<'_> {
    fn environment(&self) -> Environment {
        match self {
            Self::Certificate(certificate) => certificate.environment(),
            Self::Token(token) => token.environment(),
        }
    }
}

impl Apns {
    pub(crate) fn new(endpoint: Option<String>, transport: Arc<Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, transport, clock, clients: Pool::new(CLIENTS) }
    }

    pub(crate) async fn send(&self, key: &str, access: Access<'_>, message: &Message) -> Outcome {
        match self.try_send(key, access, message).await {
            Ok(answer) => answer.into(),
            Err(outcome) => outcome,
        }
    }

    /// The answer, or the outcome of a push that is not sent at all.
    async fn try_send(&self, key: &str, access: Access<'_>, message: &Message) -> Result<Answer, Outcome> {
        let request = Request::new(message)?;
        if let Access::Certificate(certificate) = access
            && certificate.not_after() <= self.clock.now()
        {
            let reason = format!("the certificate expired on {}", certificate.not_after());
            return Err(Verdict::Refused.outcome(codes::INVALID_CREDENTIAL_CONTENT, reason, None));
        }
        let client = self.clients.get(key, || self.connect(&access)).await;
        let client =
            client.map_err(|error| Verdict::Retry.outcome(codes::INTERNAL, error.to_string(), None))?;
        let answer = client.send(&request, &*self.clock).await;
        if let Answer::Rejected(rejection) = &answer
            && rejection.reason == Reason::UnrelatedKeyIdInToken
        {
            // "To use this token, open a new connection": the next push does.
            self.clients.forget(key, &client);
        }
        Ok(answer)
    }

    fn connect(&self, access: &Access<'_>) -> Result<Client, Error> {
        let host = match access.environment() {
            Environment::Production => "https://api.push.apple.com",
            Environment::Sandbox => "https://api.sandbox.push.apple.com",
        };
        let base = self.endpoint.as_deref().unwrap_or(host).to_owned();
        let (identity, key) = match access {
            Access::Certificate(certificate) => (Some(certificate.identity()), None),
            Access::Token(token) => (None, Some((*token).clone())),
        };
        Ok(Client::new(self.transport.client(identity)?, base, key))
    }
}
