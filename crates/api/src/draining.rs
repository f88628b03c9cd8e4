//! Whether the server accepts requests, or is about to stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of an orderly shutdown: first announced, then begun.
#[derive(Debug, Default)]
pub struct Draining {
    announced: AtomicBool,
    begun: AtomicBool,
}

impl Draining {
    /// Announces the shutdown: `/readyz` returns 503 from now on, so that load balancers stop sending requests. All
    /// other requests are still served.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    /// Begins the shutdown: every request but `/healthz` is refused from now on.
    pub fn begin(&self) {
        self.announce();
        self.begun.store(true, Ordering::Release);
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the shutdown is announced.
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Whether a request for `path` is refused.
    pub(crate) fn refuses(&self, path: &str) -> bool {
        match path {
            "/healthz" => false,
            "/readyz" => self.is_announced(),
            _ => self.has_begun(),
        }
    }
}
