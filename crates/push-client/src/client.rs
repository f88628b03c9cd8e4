//! The crate's entry point: sends one push to the provider of the given credential.

use std::sync::Arc;

use domain::Clock;

use crate::apns::{Apns, ApnsCredential};
use crate::credential::Credential;
use crate::error::Error;
use crate::fcm::{Endpoints, Fcm};
use crate::message::Message;
use crate::outcome::Outcome;
use crate::settings::Settings;
use crate::transport::{Transport, parse_endpoint};

/// A client for both push providers. It reuses connections and tokens across pushes.
pub struct PushClient {
    apns: Apns,
    fcm: Fcm,
}

impl PushClient {
    /// Creates a client with the given settings. Does not open a connection yet.
    ///
    /// # Errors
    /// Returns an error if an endpoint, the proxy, or the certificate authorities in `settings` are invalid.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let transport = Arc::new(Transport::new(&settings)?);
        let apns_endpoint = settings.apns_endpoint.as_deref().map(parse_endpoint).transpose()?;
        let fcm_relay = settings.fcm_endpoint.as_deref().map(parse_endpoint).transpose()?;
        let fcm_endpoints = fcm_relay.map_or_else(Endpoints::google, Endpoints::relay);
        let http = transport.client(None)?;
        Ok(Self {
            apns: Apns::new(apns_endpoint, transport, clock.clone()),
            fcm: Fcm::new(fcm_endpoints, http, clock),
        })
    }

    /// Makes one attempt to send `message` through the provider of `credential`, and returns the outcome.
    ///
    /// `credential_key` identifies this version of the credential, for example its SID and modification time.
    /// Pushes with the same key share a connection and tokens.
    pub async fn send(&self, credential_key: &str, credential: &Credential, message: &Message) -> Outcome {
        match credential {
            Credential::ApnsCertificate(certificate) => {
                self.apns.send(credential_key, ApnsCredential::Certificate(certificate), message).await
            }
            Credential::ApnsToken(token) => {
                self.apns.send(credential_key, ApnsCredential::Token(token), message).await
            }
            Credential::Fcm(account) => self.fcm.send(credential_key, account, message).await,
        }
    }
}
