//! The URLs to which pushes and access token requests are sent.

use crate::credential::ServiceAccount;

/// Base URL of Google's push API.
const PUSH_URL: &str = "https://fcm.googleapis.com";

/// Google's token endpoint (developers.google.com, "Using OAuth 2.0 for Server to Server Applications").
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// The URLs for pushes and access tokens: Google's own, or those of the configured relay.
///
/// The `token_uri` of an uploaded service account is never called, because it could point into the operator's
/// network.
pub(crate) struct Endpoints {
    push_base: String,
    token_url: String,
    is_relay: bool,
}

impl Endpoints {
    /// Returns the endpoints of Google itself.
    pub(crate) fn google() -> Self {
        Self { push_base: PUSH_URL.to_owned(), token_url: TOKEN_URL.to_owned(), is_relay: false }
    }

    /// Returns the endpoints of a relay or test server with the base URL `base`, which issues access tokens
    /// at `/token`.
    pub(crate) fn relay(base: String) -> Self {
        Self { token_url: format!("{base}/token"), push_base: base, is_relay: true }
    }

    /// Returns the URL to which pushes for the Firebase project `project_id` are sent.
    pub(super) fn push_url(&self, project_id: &str) -> String {
        format!("{}/v1/projects/{project_id}/messages:send", self.push_base)
    }

    /// Returns the URL from which access tokens are requested.
    pub(super) fn token_url(&self) -> &str {
        &self.token_url
    }

    /// Returns the `aud` claim for a token request. Without a relay this is Google's token endpoint. A relay
    /// forwards requests to the `token_uri` of the service account, so that URI is the audience.
    pub(super) fn audience<'a>(&'a self, account: &'a ServiceAccount) -> &'a str {
        if self.is_relay { account.token_uri().as_str() } else { &self.token_url }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fcm_relay_is_used_for_both_pushes_and_access_tokens() {
        let google = Endpoints::google();
        assert_eq!((google.push_base.as_str(), google.token_url.as_str()), (PUSH_URL, TOKEN_URL));
        let relay = Endpoints::relay("https://relay.example:8443/fcm".to_owned());
        assert_eq!(relay.push_base, "https://relay.example:8443/fcm");
        assert_eq!(relay.token_url, "https://relay.example:8443/fcm/token");
    }
}
