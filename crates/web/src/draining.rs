//! The server's shutdown state, which determines whether requests are accepted.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of an orderly shutdown, which is first announced and then begun.
#[derive(Debug, Default)]
pub struct Draining {
    announced: AtomicBool,
    begun: AtomicBool,
}

impl Draining {
    /// Announces the shutdown. From now on `/readyz` returns 503, so that load balancers stop sending requests. All
    /// other requests are still served.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    /// Begins the shutdown. From now on every request except `/healthz` is refused.
    pub fn begin(&self) {
        self.announce();
        self.begun.store(true, Ordering::Release);
    }

    /// Returns whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns whether the shutdown has been announced.
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Returns whether a request for `path` must be refused because of the shutdown.
    pub(crate) fn refuses(&self, path: &str) -> bool {
        match path {
            "/healthz" => false,
            "/readyz" => self.is_announced(),
            _ => self.has_begun(),
        }
    }
}
