//! Pushes through Apple's APNs: one HTTP/2 request per push (developer.apple.com, "Sending notification
//! requests to APNs").
//!
//! Every credential has its own connections. Certificates require this, because the certificate is part of
//! the TLS handshake. With provider tokens, APNs binds a connection to the team of the first token and
//! rejects tokens of other teams ("Establishing a token-based connection to APNs").

mod client;
mod payload;
mod provider_token;
mod reason;

use std::sync::Arc;

use domain::Clock;

use self::client::{Client, Request, SendResult};
pub use self::reason::Reason;
use crate::cache::LruCache;
use crate::credential::{ApnsCertificate, ApnsToken, Environment};
use crate::debugger_codes;
use crate::error::Error;
use crate::message::Message;
use crate::outcome::{FailureKind, Outcome};
use crate::transport::Transport;

/// Maximum number of credentials whose connections are kept open. Beyond this, the least recently used client
/// is dropped.
const MAX_CACHED_CLIENTS: usize = 256;

/// Sends pushes to APNs. Caches one HTTP client per credential.
pub(crate) struct Apns {
    endpoint: Option<String>,
    transport: Arc<Transport>,
    clock: Arc<dyn Clock>,
    clients: LruCache<Client>,
}

/// Returns the headers and the body of the request for `message`, and the debugger code if it would not be sent.
pub(crate) fn preview(message: &Message) -> (Vec<(&'static str, String)>, Vec<u8>, Option<u32>) {
    let refusal = Request::new(message).err().and_then(|outcome| outcome.code());
    (client::headers(message), payload::to_json(message), refusal)
}

/// An APNs credential of either type.
pub(crate) enum ApnsCredential<'c> {
    Certificate(&'c ApnsCertificate),
    Token(&'c ApnsToken),
}

impl ApnsCredential<'_> {
    fn environment(&self) -> Environment {
        match self {
            Self::Certificate(certificate) => certificate.environment(),
            Self::Token(token) => token.environment(),
        }
    }
}

impl Apns {
    pub(crate) fn new(endpoint: Option<String>, transport: Arc<Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, transport, clock, clients: LruCache::new(MAX_CACHED_CLIENTS) }
    }

    /// Makes one attempt to send `message` and returns its outcome. `key` identifies this version of the
    /// credential in the client cache.
    pub(crate) async fn send(&self, key: &str, credential: ApnsCredential<'_>, message: &Message) -> Outcome {
        match self.try_send(key, credential, message).await {
            Ok(result) => result.into(),
            Err(outcome) => outcome,
        }
    }

    /// Makes one attempt to send `message`. Returns the outcome as an error if the push could not be sent at
    /// all.
    async fn try_send(
        &self,
        key: &str,
        credential: ApnsCredential<'_>,
        message: &Message,
    ) -> Result<SendResult, Outcome> {
        let request = Request::new(message)?;
        if let ApnsCredential::Certificate(certificate) = credential
            && certificate.not_after() <= self.clock.now()
        {
            let reason = format!("the certificate expired on {}", certificate.not_after());
            return Err(FailureKind::Refused.outcome(
                debugger_codes::INVALID_CREDENTIAL_CONTENT,
                reason,
                None,
            ));
        }
        let client = self.clients.get_or_create(key, || self.create_client(&credential)).await;
        let client = client
            .map_err(|error| FailureKind::Retry.outcome(debugger_codes::INTERNAL, error.to_string(), None))?;
        let result = client.send(&request, &*self.clock).await;
        if let SendResult::Rejected(rejection) = &result
            && rejection.reason == Reason::UnrelatedKeyIdInToken
        {
            // Apple: "To use this token, open a new connection". Without the cached client, the next push
            // opens one.
            self.clients.remove(key, &client);
        }
        Ok(result)
    }

    fn create_client(&self, credential: &ApnsCredential<'_>) -> Result<Client, Error> {
        let host = match credential.environment() {
            Environment::Production => "https://api.push.apple.com",
            Environment::Sandbox => "https://api.sandbox.push.apple.com",
        };
        let base = self.endpoint.as_deref().unwrap_or(host).to_owned();
        let (identity, key) = match credential {
            ApnsCredential::Certificate(certificate) => (Some(certificate.identity()), None),
            ApnsCredential::Token(token) => (None, Some((*token).clone())),
        };
        Ok(Client::new(self.transport.client(identity)?, base, key))
    }
}
