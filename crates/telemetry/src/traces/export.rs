//! Exports spans to a collector: OTLP over HTTP, in batches, from a separate thread.
//!
//! The queue holds at most 2,048 spans. Spans are dropped if the queue is full or the collector does not accept them.
//! No request waits for an export.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use reqwest::Certificate;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tracing::{info, warn};
use url::Url;

use crate::metrics::{ExportLabels, ExportResult, METRICS};
use crate::traces::TRACER;

/// Maximum duration of a request to the collector.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum duration of the last export when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of bytes after which the exporter stops reading the collector's response. Because responses arrive in chunks,
/// the last chunk read may exceed this number.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The settings for exporting spans.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector that receives the spans.
    pub endpoint: Endpoint,
    /// Additional headers to send with each request to the collector.
    pub headers: Headers,
    /// Certificate authorities trusted in addition to those of the operating system. Only used with `https`.
    pub extra_ca: CertificateAuthorities,
    /// The ratio of traces to record, from 0 to 1, among those that start at this server.
    pub sample_ratio: SampleRatio,
}

/// The base URL of a collector. Spans are sent to the path `v1/traces` below it.
#[derive(Clone, Debug)]
pub struct Endpoint(Url);

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut url: Url = text.parse().map_err(|_| Error::Endpoint)?;
        let is_base_url = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_base_url {
            return Err(Error::Endpoint);
        }
        url.path_segments_mut().map_err(|()| Error::Endpoint)?.pop_if_empty().extend(["v1", "traces"]);
        Ok(Self(url))
    }
}

/// HTTP headers that the collector requires, usually with an authentication token.
#[derive(Clone, Debug, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Parses headers from a list of `name=value` pairs separated by commas.
    ///
    /// # Errors
    /// Returns [`Error::Headers`] if the list is invalid. The error does not contain `text`, which may include secrets.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for header in text.split(',') {
            let (name, value) = header.split_once('=').ok_or(Error::Headers)?;
            let name: HeaderName = name.trim().parse().map_err(|_| Error::Headers)?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| Error::Headers)?;
            // The values of sensitive headers are omitted from debug output.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }
}

/// A set of trusted certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct CertificateAuthorities(Vec<Certificate>);

impl CertificateAuthorities {
    /// Parses a bundle of PEM certificates.
    ///
    /// # Errors
    /// Returns [`Error::CertificateAuthorities`] if `pem` is invalid or contains no certificate.
    pub fn parse(pem: &[u8]) -> Result<Self, Error> {
        match Certificate::from_pem_bundle(pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(Self(certificates)),
            _ => Err(Error::CertificateAuthorities),
        }
    }
}

/// The ratio of traces to record among those that start at this server, from 0 to 1. A trace that a caller started is
/// recorded if the caller records it.
#[derive(Clone, Copy, Debug)]
pub struct SampleRatio(f64);

impl SampleRatio {
    /// The ratio that records every trace.
    pub const ALL: Self = Self(1.0);
}

impl fmt::Display for SampleRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SampleRatio {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ratio = text.parse().map_err(|_| Error::SampleRatio)?;
        if (0.0..=1.0).contains(&ratio) { Ok(Self(ratio)) } else { Err(Error::SampleRatio) }
    }
}

/// An error in the export settings, or in setting up the export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The collector's URL is invalid.
    #[error(
        "must be a collector's URL without user, password, query or fragment, such as http://127.0.0.1:4318"
    )]
    Endpoint,
    /// The list of headers is invalid.
    #[error("must be headers in the form name=value, separated by commas")]
    Headers,
    /// The certificate authorities are invalid.
    #[error("must be one or more certificates in PEM format")]
    CertificateAuthorities,
    /// The sample ratio is invalid.
    #[error("must be a number from 0 to 1")]
    SampleRatio,
    /// The HTTP client for the collector could not be created.
    #[error("could not create the HTTP client for the collector")]
    Client(#[from] reqwest::Error),
    /// The OpenTelemetry SDK's span exporter could not be created.
    #[error("could not create the exporter for trace spans")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The running export of spans to a collector.
pub struct Exporter {
    provider: SdkTracerProvider,
    failing: Arc<AtomicBool>,
}

impl Exporter {
    /// Starts the export of spans. `version` is the server version reported to the collector. This function must be
    /// called at most once per process, within a Tokio runtime. That runtime performs the requests and must outlive the
    /// exporter.
    ///
    /// # Errors
    /// Returns an error if a certificate authority is unusable, or if none is available for a collector with TLS.
    pub fn start(settings: Settings, version: &'static str) -> Result<Self, Error> {
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(REQUEST_TIMEOUT);
        let client = match settings.endpoint.0.scheme() {
            "https" => client.tls_certs_merge(settings.extra_ca.0),
            // Without TLS, no certificate authority is needed, and a minimal system may have none.
            _ => client.tls_certs_only([]),
        };
        let failing = Arc::new(AtomicBool::new(false));
        let collector = Collector {
            client: client.build()?,
            headers: settings.headers.0,
            runtime: Handle::current(),
            failing: Arc::clone(&failing),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.0)
            .with_timeout(REQUEST_TIMEOUT)
            .build()?;
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", version));
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("countersign"),
        };
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio.0)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .with_sampler(sampler)
            .build();
        let _ = TRACER.set(provider.tracer("countersign"));
        Ok(Self { provider, failing })
    }

    /// Exports the remaining spans, waiting at most five seconds, and stops recording. Logs a warning if spans are
    /// lost.
    pub async fn stop(self) {
        let shutdown = move || self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
        let is_done = matches!(tokio::task::spawn_blocking(shutdown).await, Ok(Ok(())));
        if !is_done || self.failing.load(Ordering::Relaxed) {
            warn!("span export at shutdown failed; the last spans are lost");
        }
    }
}

/// The HTTP client through which the OpenTelemetry SDK sends spans to the collector.
struct Collector {
    client: reqwest::Client,
    headers: HeaderMap,
    runtime: Handle,
    /// Whether the last export failed.
    failing: Arc<AtomicBool>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        // Headers from the settings replace those that the SDK reads from environment variables, because the latter
        // may be meant for another program.
        let request =
            self.client.post(parts.uri.to_string()).headers(parts.headers).headers(self.headers.clone());
        let request = request.body(body);
        // The SDK's export thread has no Tokio runtime, so the request runs on the runtime stored in `self`.
        let sent = self.runtime.spawn(async move {
            let mut response = request.send().await?;
            let mut received = Vec::new();
            while received.len() < MAX_RESPONSE_BYTES
                && let Some(chunk) = response.chunk().await?
            {
                received.extend_from_slice(&chunk);
            }
            let mut result = Response::new(Bytes::from(received));
            *result.status_mut() = response.status();
            *result.headers_mut() = std::mem::take(response.headers_mut());
            Ok::<_, reqwest::Error>(result)
        });
        let result = sent.await?.map_err(reqwest::Error::without_url);
        self.record(&result);
        Ok(result?)
    }
}

impl Collector {
    /// Counts an export, and logs a message when exports start to fail and when they succeed again.
    fn record(&self, result: &reqwest::Result<Response<Bytes>>) {
        let failure = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(domain::error_report(error)),
        };
        let outcome = if failure.is_none() { ExportResult::Accepted } else { ExportResult::Rejected };
        METRICS.trace_exports.get_or_create(&ExportLabels { outcome }).inc();
        match (self.failing.swap(failure.is_some(), Ordering::Relaxed), failure) {
            (false, Some(failure)) => warn!("span export failed, spans are dropped: {failure}"),
            (true, None) => info!("span export succeeded again"),
            _ => {}
        }
    }
}
