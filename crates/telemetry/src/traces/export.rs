//! The way to a collector: OTLP over HTTP, in batches, on a thread of its own.
//!
//! What the collector does not take is dropped: at most 2,048 spans wait, and nobody waits for them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::metrics::{Exported, METRICS, Taken};
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

use crate::traces::TRACER;

/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last batch may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// How much of the collector's answer is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Where spans are sent, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// What it is told besides.
    pub headers: Headers,
    /// Who vouches for it besides those whom the system trusts.
    pub extra_ca: Authorities,
    /// How many traces.
    pub share: Share,
}

/// The address of a collector; below it, `v1/traces` takes spans.
#[derive(Clone, Debug)]
pub struct Endpoint(Url);

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut url: Url = text.parse().map_err(|_| Error::Endpoint)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
            return Err(Error::Endpoint);
        }
        url.path_segments_mut().map_err(|()| Error::Endpoint)?.pop_if_empty().extend(["v1", "traces"]);
        Ok(Self(url))
    }
}

/// Headers that the collector asks for, most likely with a token.
#[derive(Clone, Debug, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Reads `name=value`, separated by commas.
    ///
    /// # Errors
    /// [`Error::Headers`], which does not repeat them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for header in text.split(',') {
            let (name, value) = header.split_once('=').ok_or(Error::Headers)?;
            let name: HeaderName = name.trim().parse().map_err(|_| Error::Headers)?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| Error::Headers)?;
            // It does not print then.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }
}

/// Certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Certificate>);

impl Authorities {
    /// Reads PEM.
    ///
    /// # Errors
    /// [`Error::Authorities`], also when there are none.
    pub fn parse(pem: &[u8]) -> Result<Self, Error> {
        match Certificate::from_pem_bundle(pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(Self(certificates)),
            _ => Err(Error::Authorities),
        }
    }
}

/// The share of the traces that begin here which is sent. Of one that began elsewhere everything is sent or nothing,
/// as was decided there.
#[derive(Clone, Copy, Debug)]
pub struct Share(f64);

impl Share {
    /// Every trace.
    pub const ALL: Self = Self(1.0);
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let share = text.parse().map_err(|_| Error::Share)?;
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(Error::Share) }
    }
}

/// What is wrong with the settings, or else.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address.
    #[error(
        "must be the address of a collector, such as http://127.0.0.1:4318, without user, password or question mark"
    )]
    Endpoint,
    /// The headers.
    #[error("must be headers such as name=value, separated by commas")]
    Headers,
    /// The certificate authorities.
    #[error("must be certificates in PEM")]
    Authorities,
    /// The share.
    #[error("must be a number from 0 to 1")]
    Share,
    /// The client.
    #[error("no client for the collector")]
    Client(#[from] reqwest::Error),
    /// The library.
    #[error("no exporter for the collector")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Takes spans and sends them.
pub struct Exporter {
    provider: SdkTracerProvider,
    failing: Arc<AtomicBool>,
}

impl Exporter {
    /// Begins to; once in a process. It has to be called in a runtime that lasts, on which it sends.
    ///
    /// # Errors
    /// When a certificate authority can't be used, or there is none for a collector that speaks TLS.
    pub fn start(settings: Settings, version: &'static str) -> Result<Self, Error> {
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(PATIENCE);
        let client = match settings.endpoint.0.scheme() {
            "https" => client.tls_certs_merge(settings.extra_ca.0),
            // Nobody needs to be trusted, and a small machine may trust nobody.
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
            .with_timeout(PATIENCE)
            .build()?;
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", version));
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("countersign"),
        };
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.share.0)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .with_sampler(sampler)
            .build();
        let _ = TRACER.set(provider.tracer("countersign"));
        Ok(Self { provider, failing })
    }

    /// Sends what there is, but not for long, and takes no more.
    pub async fn stop(self) {
        let shutdown = move || self.provider.shutdown_with_timeout(FAREWELL);
        let is_done = matches!(tokio::task::spawn_blocking(shutdown).await, Ok(Ok(())));
        if !is_done || self.failing.load(Ordering::Relaxed) {
            warn!("the last spans were not taken by the collector");
        }
    }
}

/// The collector, as the library speaks to it.
struct Collector {
    client: reqwest::Client,
    headers: HeaderMap,
    runtime: Handle,
    /// Whether the last request failed.
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
        // Ours after those of the library, which it may have from a variable that was meant for somebody else.
        let request =
            self.client.post(parts.uri.to_string()).headers(parts.headers).headers(self.headers.clone());
        let request = request.body(body);
        // The thread that asks has no runtime.
        let sent = self.runtime.spawn(async move {
            let mut response = request.send().await?;
            let mut answer = Vec::new();
            while answer.len() < MAX_ANSWER
                && let Some(chunk) = response.chunk().await?
            {
                answer.extend_from_slice(&chunk);
            }
            let mut taken = Response::new(Bytes::from(answer));
            *taken.status_mut() = response.status();
            *taken.headers_mut() = std::mem::take(response.headers_mut());
            Ok::<_, reqwest::Error>(taken)
        });
        let taken = sent.await?.map_err(reqwest::Error::without_url);
        self.note(&taken);
        Ok(taken?)
    }
}

impl Collector {
    /// Counts what came of a request, and says when that changes.
    fn note(&self, taken: &reqwest::Result<Response<Bytes>>) {
        let why = match taken {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(domain::causes(error)),
        };
        let outcome = if why.is_none() { Taken::Taken } else { Taken::Refused };
        METRICS.trace_exports.get_or_create(&Exported { outcome }).inc();
        match (self.failing.swap(why.is_some(), Ordering::Relaxed), why) {
            (false, Some(why)) => warn!("the collector takes no spans: {why}"),
            (true, None) => info!("the collector takes spans again"),
            _ => {}
        }
    }
}
