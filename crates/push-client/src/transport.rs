//! HTTP/2 to the providers: how clients are built, and how one request becomes a reply or a failure.
//!
//! Apple wants few connections that stay open, and takes many short ones for an attack. Hence HTTP/2
//! without asking first (`http2_prior_knowledge`): otherwise a cold burst opens a connection for each of
//! its messages, since nobody knows yet that the first one could have carried them all. Pings while idle
//! keep firewalls from forgetting the connection, and find out when it is dead.
//!
//! The TLS configuration is made here and not by reqwest, which would read the system's certificate
//! authorities again, some hundred files, for every client: that is, for every credential. It takes the
//! configuration only if both mean the same version of rustls; otherwise there is no client at all.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDateTime;
use domain::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Proxy, Settings};

/// How long a connection may be silent before it is pinged, and how long an answer may take.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Answers are some hundred bytes. What is longer is not from a provider, and is not read to its end.
const LONGEST_BODY: usize = 16 * 1024;

/// Longest wait, in seconds, that is read out of an answer. How much of it is granted is the caller's decision.
const LONGEST_WAIT: u64 = 24 * 60 * 60;

/// Longest piece of a provider's words that is passed on.
const LONGEST_EXCERPT: usize = 200;

/// What all clients have in common.
pub(crate) struct Transport {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    proxy: Option<reqwest::Proxy>,
    timeout: Duration,
}

/// What a client shows in the TLS handshake: certificates, its own first, and the key of that.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Transport {
    /// Trusts the system's certificate authorities and those of the settings.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        // What can't be read or used of the system's is left out, as browsers do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = &settings.extra_ca {
            let extra = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let extra = extra.ok().filter(|extra| !extra.is_empty()).ok_or(Error::ExtraCa)?;
            extra.into_iter().try_for_each(|root| roots.add(root)).map_err(|_| Error::ExtraCa)?;
        }
        // As in a bare container, where everything else can go on.
        if roots.is_empty() {
            tracing::warn!("there are no certificate authorities, so that nothing can be pushed over TLS");
        }
        Ok(Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            roots: Arc::new(roots),
            proxy: settings.proxy.as_ref().map(Proxy::for_client).transpose()?,
            timeout: settings.timeout,
        })
    }

    /// A client of its own connections, which show `identity` to the server.
    pub(crate) fn client(&self, identity: Option<Identity>) -> Result<Client, Error> {
        let tls = self.tls(identity).map_err(|error| Error::Tls(Box::new(error)))?;
        // No proxy of the environment; the settings name one.
        let builder = Client::builder().no_proxy();
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        builder
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .http2_prior_knowledge()
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PONG_WITHIN)
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

/// The address of a provider, or of a stand-in or relay in its place: `https://host:port/prefix`, without
/// a slash at its end.
pub(crate) fn endpoint(text: &str) -> Result<String, Error> {
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

/// What a server answered, whatever it was.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// What `Retry-After` asks for: seconds, or a date (RFC 9110 section 10.2.3).
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let seconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More than fit are very many.
            text.parse().unwrap_or(u64::MAX)
        } else {
            let date = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
            u64::try_from(date.and_utc().timestamp().saturating_sub(now.seconds())).unwrap_or_default()
        };
        Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
    }

    /// The body as JSON; `null` if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there was no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// In words.
    pub(crate) reason: String,
    /// Whether the other side broke off because of the certificate that this side showed.
    pub(crate) certificate_refused: bool,
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self { reason: "no answer in time".to_owned(), certificate_refused: false };
        }
        // The address may hold a device's token.
        let reason = domain::causes(&error.without_url());
        Self { certificate_refused: certificate_refused(&reason), reason: excerpt(&reason) }
    }
}

/// Whether the other side sent one of TLS's alerts about a certificate (RFC 8446 section 6.2). Between
/// here and there lie three libraries, and only rustls's words come through all of them.
fn certificate_refused(reason: &str) -> bool {
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

/// Sends a request and reads the answer.
pub(crate) async fn exchange(request: RequestBuilder) -> Result<Reply, Failure> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while body.len() < LONGEST_BODY
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

/// Words from outside in a form that fits into a log and a debugger event.
pub(crate) fn excerpt(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn an_endpoint_is_where_a_server_is() {
        assert_eq!(endpoint("https://api.push.apple.com").unwrap(), "https://api.push.apple.com");
        assert_eq!(endpoint("https://127.0.0.1:8443/").unwrap(), "https://127.0.0.1:8443");
        assert_eq!(endpoint("http://relay/apns/").unwrap(), "http://relay/apns");
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
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let reply = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            Reply { status: 503, headers, body: Vec::new() }.retry_after(NOW).map(|after| after.as_secs())
        };
        assert_eq!(reply("0"), Some(0));
        assert_eq!(reply("120"), Some(120));
        assert_eq!(reply("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(reply("Thu, 01 Jan 2026 00:00:10 GMT"), Some(10));
        assert_eq!(reply("99999999999999999999"), Some(LONGEST_WAIT));
        assert_eq!(reply("Wed, 31 Dec 2025 23:59:59 GMT"), Some(0));
        assert_eq!(reply("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LONGEST_WAIT));
        for useless in ["", "-1", "+1", "soon", "1.5", "Thu, 01 Jan 2026 00:00:10 CET"] {
            assert_eq!(reply(useless), None, "{useless}");
        }
    }

    #[test]
    fn knows_when_the_certificate_was_the_matter() {
        for alert in ["CertificateExpired", "CertificateRevoked", "UnknownCA"] {
            assert!(certificate_refused(&format!("error: received fatal alert: {alert}")), "{alert}");
        }
        for other in ["received fatal alert: InternalError", "invalid peer certificate: Expired", ""] {
            assert!(!certificate_refused(other), "{other}");
        }
    }

    #[test]
    fn an_excerpt_is_short_and_plain() {
        assert_eq!(excerpt("a\r\nb\u{1b}[31m"), "a  b [31m");
        assert_eq!(excerpt(&"ü".repeat(1000)).chars().count(), LONGEST_EXCERPT);
    }

    #[test]
    fn a_wait_is_capped_at_a_day() {
        for (asked, waited) in [("86399", 86_399), ("86400", 86_400), ("86401", 86_400)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(asked))]);
            let reply = Reply { status: 503, headers, body: Vec::new() };
            assert_eq!(reply.retry_after(NOW), Some(Duration::from_secs(waited)), "{asked}");
        }
        let late =
            HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"))]);
        let reply = Reply { status: 503, headers: late, body: Vec::new() };
        assert_eq!(reply.retry_after(NOW), Some(Duration::ZERO));
        assert_eq!(excerpt(&"x".repeat(201)), "x".repeat(200));
    }
}
