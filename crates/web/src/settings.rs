//! What the faces of a server share: the operator's settings, the limiters, and the shutdown state.

use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use domain::{RequestSid, Timestamp};
use futures_util::future::LocalBoxFuture;

use crate::client_ip::TrustedProxies;
use crate::draining::Draining;
use crate::load_shedding::LoadShedder;
use crate::public_url::PublicUrl;
use crate::rate_limit::RateLimiter;

/// The operator's settings for incoming requests, and the state that all faces and worker threads share. Clones share
/// the same state.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The base URL at which clients reach the server. Every URL in a response starts with it.
    pub public_url: PublicUrl,
    /// The proxies whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: TrustedProxies,
    /// Limits the number of concurrent requests across all worker threads.
    pub load_shedder: Arc<LoadShedder>,
    /// Limits the request rate across all worker threads.
    pub rate_limiter: Arc<RateLimiter>,
    /// The shutdown state, which determines whether new requests are accepted.
    pub draining: Arc<Draining>,
}

/// Creates the IDs of requests.
pub(crate) type RequestIds = Arc<dyn Fn() -> RequestSid + Send + Sync>;

/// Returns the current time for the `Date` header.
pub(crate) type Date = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Responds instead of a handler, so that a test server can simulate failures.
pub trait Interceptor: Send + Sync + 'static {
    /// Returns the response to a request that must not reach its handler, or `None` for every other request.
    fn intercept<'i>(&'i self, http: &'i HttpRequest) -> LocalBoxFuture<'i, Option<HttpResponse>>;
}

/// The state with which the middleware handles the requests of every face.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) request_ids: RequestIds,
    /// Headers that every response has, whichever face it comes from.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The clock of the `Date` header; `None` for the machine's clock.
    pub(crate) date: Option<Date>,
    /// Responds instead of handlers on a test server; `None` on every other server.
    pub(crate) interceptor: Option<Arc<dyn Interceptor>>,
}
