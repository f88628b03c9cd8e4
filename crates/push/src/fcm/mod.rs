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
use reqwest::Url;

use self::client::{Client, Request};
pub use self::error::ErrorCode;
use crate::codes;
use crate::credential::ServiceAccount;
use crate::message::Message;
use crate::outcome::{Outcome, Verdict};
use crate::pool::Pool;

/// Google's own address.
pub(crate) const ENDPOINT: &str = "https://fcm.googleapis.com";

/// Credentials whose access tokens are kept.
const CLIENTS: usize = 1024;

/// All that is kept for Google.
pub(crate) struct Fcm {
    endpoint: String,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    clients: Pool<Client>,
}

impl Fcm {
    pub(crate) fn new(endpoint: String, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, http, clock, clients: Pool::new(CLIENTS) }
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
        let client = self.clients.get(key, || self.connect(account)).await?;
        Ok(client.send(&request, &*self.clock).await?.into())
    }

    fn connect(&self, account: &ServiceAccount) -> Result<Client, Outcome> {
        if !is_trusted(account.token_uri(), &self.endpoint) {
            let host = account.token_uri().host_str().unwrap_or_default();
            let reason = format!("not sent: token_uri leads to {host}, which is not Google's");
            return Err(Verdict::Refused.outcome(codes::FCM_CREDENTIAL, reason, None));
        }
        Ok(Client::new(self.http.clone(), &self.endpoint, account.clone()))
    }
}

/// Whether this server may be sent to `uri` by a file that a customer uploaded: it could just as well lead
/// to a machine in the operator's own network. Google's hosts are good, and the one where the operator
/// has put a relay or a stand-in.
fn is_trusted(uri: &Url, endpoint: &str) -> bool {
    let is_google = uri.scheme() == "https"
        && uri.port().is_none()
        && uri
            .host_str()
            .is_some_and(|host| host == "accounts.google.com" || host.ends_with(".googleapis.com"));
    let is_ours = Url::parse(endpoint)
        .is_ok_and(|ours| ours.scheme() == uri.scheme() && ours.host_str() == uri.host_str());
    is_google || is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_only_where_google_or_the_operator_is() {
        let is_trusted = |uri, endpoint| is_trusted(&Url::parse(uri).unwrap(), endpoint);
        for uri in ["https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"] {
            assert!(is_trusted(uri, ENDPOINT), "{uri}");
        }
        assert!(is_trusted("https://localhost:8443/token", "https://localhost:9443"));
        for uri in [
            "http://oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com:8443/token",
            "https://googleapis.com.example.net/token",
            "https://evilgoogleapis.com/token",
            "https://169.254.169.254/token",
            "http://localhost/token",
            "https://localhost/token",
        ] {
            assert!(!is_trusted(uri, ENDPOINT), "{uri}");
        }
        assert!(!is_trusted("http://localhost:9443/token", "https://localhost:9443"));
    }
}
