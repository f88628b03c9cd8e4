//! The crate's entry point: sends one message through an outlet.

use std::time::Duration;

use authorities::Authorities;

use crate::capture;
use crate::error::Error;
use crate::http;
use crate::message::{Message, Outcome};
use crate::settings::OutletSettings;
use crate::smtp::SmtpClient;
use crate::transport::Transport;
use crate::twilio;

/// Configuration of an [`OutletClient`].
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Maximum duration of an attempt to send a message.
    pub timeout: Duration,
    /// Maximum duration of connecting to a server, of which each of its addresses gets an equal share. It is part of
    /// `timeout`.
    pub connect_timeout: Duration,
    /// Certificate authorities in PEM to trust in addition to the system's.
    pub extra_ca: Option<Vec<u8>>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), connect_timeout: Duration::from_secs(10), extra_ca: None }
    }
}

/// A client for outlets of all kinds. It reuses connections.
pub struct OutletClient {
    smtp: SmtpClient,
    http: Transport,
}

impl OutletClient {
    /// Creates a client with the given settings. Does not open a connection yet.
    ///
    /// # Errors
    /// Returns an error if the certificate authorities in `settings` are invalid.
    pub fn new(settings: ClientSettings) -> Result<Self, Error> {
        let authorities = Authorities::with_extra(settings.extra_ca.as_deref())?;
        // A minimal container may have no certificate authorities. Outlets without TLS still work there.
        if authorities.is_empty() {
            tracing::warn!("no certificate authorities found; outlets with TLS will fail");
        }
        Ok(Self {
            http: Transport::new(&authorities, settings.timeout, settings.connect_timeout)?,
            smtp: SmtpClient::new(authorities, settings.timeout, settings.connect_timeout),
        })
    }

    /// Makes one attempt to send `message` through an outlet, and returns the outcome.
    ///
    /// `key` identifies this version of the outlet, for example its SID and modification time. Mails with the same key
    /// share connections.
    pub async fn send(&self, key: &str, settings: &OutletSettings, message: &Message) -> Outcome {
        match settings {
            OutletSettings::Smtp(settings) => self.smtp.send(key, settings, message).await,
            OutletSettings::Twilio(settings) => twilio::send(&self.http, settings, message).await,
            OutletSettings::Http(settings) => http::send(&self.http, settings, message).await,
            OutletSettings::Capture(settings) => capture::send(settings, message).await,
        }
    }
}
