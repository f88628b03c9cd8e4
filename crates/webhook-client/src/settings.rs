//! Configuration of the webhook client.

use std::time::Duration;

use ipnet::IpNet;

/// Configuration of a [`WebhookClient`](crate::WebhookClient). The default timeouts and user agent are
/// Twilio's (docs/protocol/webhooks.md, section 3).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Non-public networks that webhooks may be sent to; see [`Guard`](crate::Guard).
    pub allow: Vec<IpNet>,
    /// Certificate authorities in PEM to trust in addition to the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Maximum duration of name resolution and TCP connect together. A webhook URL can override it with `ct`.
    pub connect_timeout: Duration,
    /// Maximum time to wait for the response, and for each further part of it. A webhook URL can override it
    /// with `rt`.
    pub read_timeout: Duration,
    /// Maximum duration of the whole attempt. A webhook URL can override it with `tt`.
    pub total_timeout: Duration,
    /// Value of the `User-Agent` request header.
    pub user_agent: String,
    /// Names and values of further headers of each request.
    pub extra_headers: Vec<(&'static str, &'static str)>,
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
            extra_headers: Vec::new(),
        }
    }
}
