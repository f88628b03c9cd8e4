//! Configuration of the webhook client.

use std::time::Duration;

use ipnet::IpNet;

/// Configuration of a [`WebhookClient`](crate::WebhookClient). The defaults are Twilio's
/// (docs/protocol/webhooks.md, section 3).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Non-public networks that may be called; see [`Guard`](crate::Guard).
    pub allow: Vec<IpNet>,
    /// PEM certificate authorities that are trusted in addition to the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Timeout for name resolution and TCP connect. A URL can override it with `ct`.
    pub connect_timeout: Duration,
    /// Timeout for the response and between its parts. A URL can override it with `rt`.
    pub read_timeout: Duration,
    /// Timeout for the whole attempt. A URL can override it with `tt`.
    pub total_timeout: Duration,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            extra_ca: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            total_timeout: Duration::from_secs(15),
            user_agent: "TwilioProxy/1.1".into(),
        }
    }
}
