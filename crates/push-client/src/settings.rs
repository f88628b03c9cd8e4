//! Configuration of the push client.

use std::time::Duration;

use crate::proxy::Proxy;

/// Configuration of a [`PushClient`](crate::PushClient).
#[derive(Clone, Debug)]
pub struct Settings {
    /// URL of a relay or test server that replaces Apple's two hosts.
    pub apns_endpoint: Option<String>,
    /// URL of a relay or test server that replaces Google's two hosts. It also issues access tokens.
    pub fcm_endpoint: Option<String>,
    /// PEM certificate authorities that are trusted in addition to the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// HTTP proxy for connections to the providers.
    pub proxy: Option<Proxy>,
    /// Timeout of one request, including the time to connect.
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
