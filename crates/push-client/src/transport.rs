//! HTTP/2 to the providers: building clients, sending a request, and reading the response.
//!
//! Apple asks for a few long-lived connections and treats many short ones as an attack. Clients therefore
//! start HTTP/2 without negotiation (`http2_prior_knowledge`). With negotiation, a burst at startup would
//! open one connection per message: the client learns only from the first response that one connection can
//! carry them all. Pings keep firewalls from dropping idle connections, and detect dead ones.
//!
//! The TLS configuration is built here rather than by reqwest. For every client, and thus for every
//! credential, reqwest would load the system's certificate authorities, about a hundred files. reqwest
//! accepts the configuration only if it uses the same version of rustls; otherwise, building the client
//! fails.

use std::sync::Arc;
use std::time::Duration;

use authorities::Authorities;
use chrono::NaiveDateTime;
use domain::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;
use crate::proxy::Proxy;
use crate::settings::Settings;

/// Interval between pings on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum time to wait for the response to a ping before the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of bytes read from a response body. Providers send a few hundred bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Maximum delay accepted from a `Retry-After` header, in seconds: 24 hours. The caller decides how much of
/// it to honor.
const MAX_RETRY_AFTER_SECONDS: u64 = 24 * 60 * 60;

/// Maximum length of an excerpt from a provider's text, in characters.
const MAX_EXCERPT_CHARS: usize = 200;

/// The network configuration that the HTTP clients of all credentials share.
pub(crate) struct Transport {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    proxy: Option<reqwest::Proxy>,
    timeout: Duration,
}

/// A TLS client identity: the certificate chain, with the leaf first, and the private key of the leaf.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Transport {
    /// Loads the system's certificate authorities and the additional ones in `settings`.
    ///
    /// # Errors
    /// Returns an error if the additional certificate authorities or the proxy are invalid.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let authorities = Authorities::with_extra(settings.extra_ca.as_deref())?;
        // A minimal container may have no certificate authorities. The server still works there except for
        // pushes, so this is not an error.
        if authorities.is_empty() {
            tracing::warn!("no certificate authorities found; pushes over TLS will fail");
        }
        Ok(Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            roots: authorities.store(),
            proxy: settings.proxy.as_ref().map(Proxy::to_reqwest).transpose()?,
            timeout: settings.timeout,
        })
    }

    /// Creates an HTTP client with its own connections. If `identity` is given, the client authenticates with
    /// that certificate.
    ///
    /// # Errors
    /// Returns [`Error::Tls`] if the TLS library rejects the configuration.
    pub(crate) fn client(&self, identity: Option<Identity>) -> Result<Client, Error> {
        let tls = self.tls(identity).map_err(|error| Error::Tls(Box::new(error)))?;
        // Ignore proxy variables in the environment; only the configured proxy applies.
        let builder = Client::builder().no_proxy();
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        builder
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .http2_keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .pool_idle_timeout(None)
            .tcp_nodelay(true)
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .redirect(Policy::none())
            .referer(false)
            .build()
            .map_err(|error| Error::Tls(Box::new(error)))
    }

    fn tls(&self, identity: Option<Identity>) -> Result<ClientConfig, rustls::Error> {
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone());
        let mut config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Parses the base URL of a provider, relay, or test server. Returns it without a trailing slash, such as
/// `https://host:port/prefix`.
///
/// # Errors
/// Returns [`Error::Endpoint`] if `text` is not an HTTP or HTTPS URL, or if it has credentials, a query, or a
/// fragment.
pub(crate) fn parse_endpoint(text: &str) -> Result<String, Error> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.map(|url| url.as_str().trim_end_matches('/').to_owned())
        .ok_or_else(|| Error::Endpoint(text.to_owned()))
}

/// A provider's response, with any status.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the delay in the `Retry-After` header, given in seconds or as a date (RFC 9110 section
    /// 10.2.3). The delay is at most 24 hours. Returns `None` if the header is missing or malformed.
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let seconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Only an overflow can fail here; the maximum is limited below.
            text.parse().unwrap_or(u64::MAX)
        } else {
            let date = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
            u64::try_from(date.and_utc().timestamp().saturating_sub(now.seconds())).unwrap_or_default()
        };
        Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER_SECONDS)))
    }

    /// Parses the response body as JSON. Returns `null` if it is not valid JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why no response to a request was received.
#[derive(Debug)]
pub(crate) struct TransportError {
    /// Description of the failure on one line of at most 200 characters.
    pub(crate) reason: String,
    /// Whether the provider rejected the client certificate.
    pub(crate) is_certificate_refused: bool,
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self {
                reason: "timed out waiting for a response".to_owned(),
                is_certificate_refused: false,
            };
        }
        // Omit the URL, which may contain a device token.
        let reason = domain::error_report(&error.without_url());
        Self { is_certificate_refused: is_certificate_refused(&reason), reason: excerpt(&reason) }
    }
}

/// Returns whether `reason` reports that the server sent a TLS alert about the client certificate (RFC 8446
/// section 6.2). Three libraries on the way discard the typed error, so this function matches the text that
/// rustls generates.
fn is_certificate_refused(reason: &str) -> bool {
    reason.split_once("received fatal alert: ").is_some_and(|(_, alert)| {
        [
            "BadCertificate",
            "UnsupportedCertificate",
            "CertificateRevoked",
            "CertificateExpired",
            "CertificateUnknown",
            "CertificateRequired",
            "UnknownCA",
            "AccessDenied",
        ]
        .iter()
        .any(|name| alert.starts_with(name))
    })
}

/// Sends a request and reads the response, of whose body at most about 16 KiB are read.
///
/// # Errors
/// Returns an error if the response is not complete within the timeout.
pub(crate) async fn send(request: RequestBuilder) -> Result<Response, TransportError> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while body.len() < MAX_BODY_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

/// Returns at most 200 characters of external text, with control characters replaced by spaces, so that it
/// fits on one line of a log or debugger event.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn endpoint_must_be_an_http_url_without_credentials_query_or_fragment() {
        assert_eq!(parse_endpoint("https://api.push.apple.com").unwrap(), "https://api.push.apple.com");
        assert_eq!(parse_endpoint("https://127.0.0.1:8443/").unwrap(), "https://127.0.0.1:8443");
        assert_eq!(parse_endpoint("http://relay/apns/").unwrap(), "http://relay/apns");
        for bad in [
            "",
            "api.push.apple.com",
            "ftp://host",
            "https://",
            "data:x",
            "https://u:p@host",
            "https://host/?a",
            "https://host/#a",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_accepts_seconds_and_http_dates() {
        let retry_after = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            Response { status: 503, headers, body: Vec::new() }.retry_after(NOW).map(|after| after.as_secs())
        };
        assert_eq!(retry_after("0"), Some(0));
        assert_eq!(retry_after("120"), Some(120));
        assert_eq!(retry_after("18446744073709551615"), Some(MAX_RETRY_AFTER_SECONDS));
        assert_eq!(retry_after("Thu, 01 Jan 2026 00:00:10 GMT"), Some(10));
        assert_eq!(retry_after("99999999999999999999"), Some(MAX_RETRY_AFTER_SECONDS));
        assert_eq!(retry_after("Wed, 31 Dec 2025 23:59:59 GMT"), Some(0));
        assert_eq!(retry_after("Fri, 31 Dec 9999 23:59:59 GMT"), Some(MAX_RETRY_AFTER_SECONDS));
        for useless in ["", "-1", "+1", "soon", "1.5", "Thu, 01 Jan 2026 00:00:10 CET"] {
            assert_eq!(retry_after(useless), None, "{useless}");
        }
    }

    #[test]
    fn tls_alerts_about_the_client_certificate_are_recognized() {
        for alert in ["CertificateExpired", "CertificateRevoked", "UnknownCA"] {
            assert!(is_certificate_refused(&format!("error: received fatal alert: {alert}")), "{alert}");
        }
        for other in ["received fatal alert: InternalError", "invalid peer certificate: Expired", ""] {
            assert!(!is_certificate_refused(other), "{other}");
        }
    }

    #[test]
    fn response_excerpt_is_truncated_and_has_no_control_characters() {
        assert_eq!(excerpt("a\r\nb\u{1b}[31m"), "a  b [31m");
        assert_eq!(excerpt(&"ü".repeat(1000)).chars().count(), MAX_EXCERPT_CHARS);
    }

    #[test]
    fn retry_after_is_capped_at_one_day() {
        for (asked, waited) in [("86399", 86_399), ("86400", 86_400), ("86401", 86_400)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(asked))]);
            let response = Response { status: 503, headers, body: Vec::new() };
            assert_eq!(response.retry_after(NOW), Some(Duration::from_secs(waited)), "{asked}");
        }
        let late =
            HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"))]);
        let response = Response { status: 503, headers: late, body: Vec::new() };
        assert_eq!(response.retry_after(NOW), Some(Duration::ZERO));
        assert_eq!(excerpt(&"x".repeat(201)), "x".repeat(200));
    }
}
