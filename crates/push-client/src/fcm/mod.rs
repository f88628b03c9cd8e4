//! Pushes through Google's FCM: one HTTP/2 request per push (firebase.google.com, "REST resource:
//! projects.messages"), authenticated with an access token that Google issues to a service account.
//!
//! All credentials share one HTTP client and its connections. Each credential has its own access tokens.

mod access_token;
mod client;
mod endpoints;
mod error_code;
mod payload;

use std::sync::Arc;

use domain::Clock;

use self::client::{Client, Request};
pub(crate) use self::endpoints::Endpoints;
pub use self::error_code::ErrorCode;
use crate::cache::LruCache;
use crate::credential::ServiceAccount;
use crate::message::Message;
use crate::outcome::Outcome;

/// Maximum number of credentials whose access tokens are cached. Beyond this, the least recently used client
/// is dropped.
const MAX_CACHED_CLIENTS: usize = 1024;

/// Returns the body of the request for `message`, and the debugger code if the request would not be sent.
pub(crate) fn preview(message: &Message) -> (Vec<u8>, Option<u32>) {
    let refusal = Request::new(message).err();
    (payload::Payload::new(message).to_json(), refusal.and_then(|outcome| outcome.code()))
}

/// Sends pushes to FCM. Caches one client per credential.
pub(crate) struct Fcm {
    endpoints: Endpoints,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    clients: LruCache<Client>,
}

impl Fcm {
    pub(crate) fn new(endpoints: Endpoints, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { endpoints, http, clock, clients: LruCache::new(MAX_CACHED_CLIENTS) }
    }

    /// Makes one attempt to send `message` and returns its outcome. `key` identifies this version of the
    /// credential in the client cache.
    pub(crate) async fn send(&self, key: &str, account: &ServiceAccount, message: &Message) -> Outcome {
        match self.try_send(key, account, message).await {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }

    /// Makes one attempt to send `message`. Returns the outcome as an error if the push could not be sent at
    /// all.
    async fn try_send(
        &self,
        key: &str,
        account: &ServiceAccount,
        message: &Message,
    ) -> Result<Outcome, Outcome> {
        let request = Request::new(message)?;
        let create = || Ok::<_, Outcome>(Client::new(self.http.clone(), &self.endpoints, account.clone()));
        let client = self.clients.get_or_create(key, create).await?;
        Ok(client.send(&request, &*self.clock).await?.into())
    }
}
