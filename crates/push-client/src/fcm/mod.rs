//! Google: one HTTP/2 request per push (firebase.google.com, "REST resource: projects.messages"), signed
//! in with access tokens that a service account is given.
//!
//! All credentials share one client and its connections; each has its own access tokens.

mod access_token;
mod client;
mod error;
mod payload;

use std::sync::Arc;

use domain::Clock;

use self::client::{Client, Request};
pub use self::error::ErrorCode;
use crate::credential::ServiceAccount;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::pool::Pool;

/// Google's address for pushes.
const ENDPOINT: &str = "https://fcm.googleapis.com";

/// Google's address for access tokens (developers.google.com, "Using OAuth 2.0 for Server to Server
/// Applications").
const TOKEN_ENDPOINT: &str = "https://oauth2.googleapis.com/token";

/// Credentials whose access tokens are kept.
const CLIENTS: usize = 1024;

/// Where pushes and requests for access tokens go: to Google, or to the relay that the operator names. A file
/// that a customer uploads has no say in it, since it could lead into the operator's own network.
pub(crate) struct Destination {
    push_base: String,
    token_address: String,
    /// Whether it is a relay.
    is_relay: bool,
}

impl Destination {
    /// Google's own addresses.
    pub(crate) fn google() -> Self {
        Self { push_base: ENDPOINT.to_owned(), token_address: TOKEN_ENDPOINT.to_owned(), is_relay: false }
    }

    /// A relay or a stand-in, which gives out access tokens at `/token`.
    pub(crate) fn relay(endpoint: String) -> Self {
        Self { token_address: format!("{endpoint}/token"), push_base: endpoint, is_relay: true }
    }

    /// The `aud` of a request for an access token. What is behind a relay is what the file was made for.
    fn audience<'a>(&'a self, account: &'a ServiceAccount) -> &'a str {
        if self.is_relay { account.token_uri().as_str() } else { &self.token_address }
    }
}

/// All that is kept for Google.
pub(crate) struct Fcm {
    destination: Destination,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    clients: Pool<Client>,
}

impl Fcm {
    pub(crate) fn new(destination: Destination, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { destination, http, clock, clients: Pool::new(CLIENTS) }
    }

    pub(crate) async fn send(&self, key: &str, account: &ServiceAccount, message: &Message) -> Outcome {
        match self.try_send(key, account, message).await {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }

    /// The outcome of the answer, or of a push that is not sent at all.
    async fn try_send(
        &self,
        key: &str,
        account: &ServiceAccount,
        message: &Message,
    ) -> Result<Outcome, Outcome> {
        let request = Request::new(message)?;
        let connect = || Ok::<_, Outcome>(Client::new(self.http.clone(), &self.destination, account.clone()));
        let client = self.clients.get(key, connect).await?;
        Ok(client.send(&request, &*self.clock).await?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_and_access_tokens_have_one_origin() {
        let google = Destination::google();
        assert_eq!((google.push_base.as_str(), google.token_address.as_str()), (ENDPOINT, TOKEN_ENDPOINT));
        let relay = Destination::relay("https://relay.example:8443/fcm".to_owned());
        assert_eq!(relay.push_base, "https://relay.example:8443/fcm");
        assert_eq!(relay.token_address, "https://relay.example:8443/fcm/token");
    }
}
