//! The state that all requests share: the use cases, the operator's settings, and the shutdown state.

use std::sync::Arc;

use app::App;

use crate::client_ip::TrustedProxies;
use crate::draining::Draining;
use crate::load_shedding::LoadShedder;
use crate::public_url::PublicUrl;
use crate::rate_limit::RateLimiter;

/// The operator's settings for incoming requests.
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
}

/// The application state that all requests share.
pub(crate) struct ApiState {
    pub(crate) app: Arc<App>,
    pub(crate) settings: Settings,
    pub(crate) draining: Arc<Draining>,
}
