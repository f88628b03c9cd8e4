//! Configuration of the push client.

use std::time::Duration;

use crate::proxy::Proxy;

/// Configuration of a [`PushClient`](crate::PushClient).
#[derive(Clone, Debug)]
pub struct Settings {
    /// URL of a relay or test server to use instead of Apple's production and sandbox hosts.
    pub apns_endpoint: Option<String>,
    /// URL of a relay or test server to use instead of Google's push and token hosts. It also issues access
    /// tokens.
    pub fcm_endpoint: Option<String>,
    /// Certificate authorities in PEM to trust in addition to the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// HTTP proxy through which the providers are reached, if any.
    pub proxy: Option<Proxy>,
    /// Maximum duration of one HTTP request, including the time to connect.
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
