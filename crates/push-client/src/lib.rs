//! APNs and FCM: a message in, an outcome out.
//!
//! | Question | File |
//! | --- | --- |
//! | What is sent? | [`Message`], then `payload.rs` of each provider |
//! | With what right? | [`credential`] |
//! | How is it sent? | `client.rs` of each provider; `transport.rs` has what they share, `proxy.rs` a proxy on the way |
//! | What does the answer mean? | [`apns::Reason`] and [`fcm::ErrorCode`], one table each; [`Outcome`] |
//! | What is kept between two pushes? | `pool.rs`, `apns/provider_token.rs`, `fcm/access_token.rs` |
//!
//! Nothing here decides when to send, or how often: the same message may be sent again, and may then
//! arrive twice. Nothing is written down, nothing panics on what a provider says, and neither a secret
//! nor a device's token prints.

pub mod apns;
mod codes;
pub mod credential;
pub mod fcm;
mod jwt;
mod message;
mod outcome;
mod pool;
mod proxy;
#[cfg(test)]
mod samples;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;

pub use credential::{Credential, Environment, Fault, Field, Invalid, Summary};
pub use message::Message;
pub use outcome::{Outcome, Verdict};
pub use proxy::Proxy;

use crate::apns::{Access, Apns};
use crate::fcm::{Destination, Fcm};
use crate::transport::{Transport, endpoint};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Apple is, if not at its own two addresses: a relay or a stand-in.
    pub apns_endpoint: Option<String>,
    /// Where Google is, if not at its own two addresses: a relay or a stand-in, which gives out access tokens, too.
    pub fcm_endpoint: Option<String>,
    /// Certificate authorities in PEM that are trusted along with the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// The proxy through which providers are reached.
    pub proxy: Option<Proxy>,
    /// How long one request may take, waiting for a connection included.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            apns_endpoint: None,
            fcm_endpoint: None,
            extra_ca: None,
            proxy: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why there is no [`Pusher`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint is no address.
    #[error("{0} is not the address of a server: write it as https://host or https://host:port")]
    Endpoint(String),
    /// What is given for a proxy is none; it may hold a password, so it is not repeated.
    #[error("expected the address of an HTTP proxy, such as http://proxy.example:3128")]
    Proxy,
    /// The certificate authorities can't be read.
    #[error("the additional certificate authorities are not certificates in PEM")]
    ExtraCa,
    /// TLS does not work.
    #[error("the TLS client can't be made: {0}")]
    Tls(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends pushes, and keeps what makes the next one quick: connections and provider tokens.
pub struct Pusher {
    apns: Apns,
    fcm: Fcm,
}

impl Pusher {
    /// A pusher without any connection yet.
    ///
    /// # Errors
    /// [`Error`] when the settings are of no use.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let transport = Arc::new(Transport::new(&settings)?);
        let apns_endpoint = settings.apns_endpoint.as_deref().map(endpoint).transpose()?;
        let fcm_relay = settings.fcm_endpoint.as_deref().map(endpoint).transpose()?;
        let fcm_destination = fcm_relay.map_or_else(Destination::google, Destination::relay);
        let http = transport.client(None)?;
        Ok(Self {
            apns: Apns::new(apns_endpoint, transport, clock.clone()),
            fcm: Fcm::new(fcm_destination, http, clock),
        })
    }

    /// Sends one push, once.
    ///
    /// `credential_key` names this content of this credential, such as its SID and the time of its last
    /// change: under the same name the connection and the tokens of the last push are used again.
    pub async fn send(&self, credential_key: &str, credential: &Credential, message: &Message) -> Outcome {
        match credential {
            Credential::ApnsCertificate(certificate) => {
                self.apns.send(credential_key, Access::Certificate(certificate), message).await
            }
            Credential::ApnsToken(token) => {
                self.apns.send(credential_key, Access::Token(token), message).await
            }
            Credential::Fcm(account) => self.fcm.send(credential_key, account, message).await,
        }
    }
}
