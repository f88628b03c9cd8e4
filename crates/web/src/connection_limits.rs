//! Limits on the number of open connections, in total and per client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::Code;
use telemetry::metrics::{Limit, LimitLabels, METRICS};

use crate::client_ip::{self, TrustedProxies};

/// Maximum number of connections beyond the limits that stay open long enough to receive an error response. Any further
/// connections are closed without a response.
pub const MAX_REFUSED_CONNECTIONS: usize = 64;

/// Minimum time between two log records about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The maximum numbers of open connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of open connections in total.
    pub total: usize,
    /// Maximum number of open connections from one IPv4 address or one IPv6 /64 network. Trusted proxies are exempt.
    /// `None` means no limit.
    pub per_address: Option<NonZeroU32>,
}

/// Counts the open connections across all worker threads, and refuses connections beyond the limits.
#[derive(Debug)]
pub struct ConnectionLimiter {
    limits: ConnectionLimits,
    trusted: TrustedProxies,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    refused: usize,
    by_network: HashMap<IpAddr, u32>,
    logged_at: Option<Instant>,
}

/// The permit of one connection. Dropping the permit stops counting the connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    kind: PermitKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitKind {
    /// The connection is served. It counts toward the limit of this network, or only toward the total if `None`.
    Open(Option<IpAddr>),
    /// Every request on the connection is refused with this error code.
    Refused(Code),
}

impl ConnectionPermit {
    /// Returns the error code with which to refuse every request on this connection, or `None` if requests are served.
    pub(crate) fn refusal(&self) -> Option<Code> {
        match self.kind {
            PermitKind::Open(_) => None,
            PermitKind::Refused(code) => Some(code),
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.lock().leave(self.kind);
    }
}

impl ConnectionLimiter {
    /// Creates a limiter without any open connections. The `trusted` proxies are exempt from the limit per address.
    pub fn new(limits: ConnectionLimits, trusted: TrustedProxies) -> Self {
        Self { limits, trusted, open: Mutex::default() }
    }

    /// Counts a connection from `peer` until the returned permit is dropped. If a limit is exceeded, requests on the
    /// connection are refused ([`ConnectionPermit::refusal`]). Returns `None` if the connection must be closed at once
    /// without a response.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let peer = peer.to_canonical();
        let network = (!self.trusted.contains(peer)).then(|| client_ip::network(peer));
        let mut open = self.lock();
        let kind = match open.limit(&self.limits, network) {
            None => PermitKind::Open(network),
            Some(limit) => {
                METRICS.requests_limited.get_or_create(&LimitLabels { limit }).inc();
                open.log_refusal(limit, peer);
                match limit {
                    Limit::AddressConnections => PermitKind::Refused(Code::TooManyRequests),
                    _ => PermitKind::Refused(Code::Unavailable),
                }
            }
        };
        if !open.enter(kind) {
            return None;
        }
        drop(open);
        Some(ConnectionPermit { limiter: Arc::clone(self), kind })
    }

    /// Locks the counts, even if the mutex is poisoned. No code panics while it holds the lock, and even after a panic
    /// the counts would stay valid.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Returns the limit that one more connection from `network` would exceed, or `None` if the connection is within
    /// the limits.
    fn limit(&self, limits: &ConnectionLimits, network: Option<IpAddr>) -> Option<Limit> {
        let from_network = network.and_then(|network| self.by_network.get(&network)).copied().unwrap_or(0);
        if limits.per_address.is_some_and(|most| from_network >= most.get()) {
            Some(Limit::AddressConnections)
        } else if self.total >= limits.total {
            Some(Limit::Connections)
        } else {
            None
        }
    }

    /// Counts a new connection and returns `true`. Returns `false` without counting it if [`MAX_REFUSED_CONNECTIONS`]
    /// refused connections are already open.
    fn enter(&mut self, kind: PermitKind) -> bool {
        match kind {
            PermitKind::Refused(_) if self.refused >= MAX_REFUSED_CONNECTIONS => return false,
            PermitKind::Refused(_) => self.refused += 1,
            PermitKind::Open(network) => {
                self.total += 1;
                if let Some(network) = network {
                    *self.by_network.entry(network).or_default() += 1;
                }
            }
        }
        true
    }

    /// Removes a closed connection from the counts.
    fn leave(&mut self, kind: PermitKind) {
        match kind {
            PermitKind::Refused(_) => self.refused -= 1,
            PermitKind::Open(network) => {
                self.total -= 1;
                let Some(network) = network else { return };
                match self.by_network.get_mut(&network) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(self.by_network.remove(&network)),
                }
            }
        }
    }

    /// Logs a refused connection, at most once per [`LOG_INTERVAL`].
    fn log_refusal(&mut self, limit: Limit, peer: IpAddr) {
        if self.logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.logged_at = Some(Instant::now());
        match limit {
            Limit::AddressConnections => tracing::warn!(
                address = %peer,
                "connection refused: too many from this address are open; if it is a proxy, add it to trusted_proxies"
            ),
            _ => tracing::warn!(
                open = self.total,
                "connection refused: too many connections are open; raise max_connections or the open-file limit"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(total: usize, per_address: u32, trusted: &str) -> Arc<ConnectionLimiter> {
        let limits = ConnectionLimits { total, per_address: NonZeroU32::new(per_address) };
        Arc::new(ConnectionLimiter::new(limits, TrustedProxies::new(vec![trusted.parse().unwrap()])))
    }

    /// Opens a connection. Returns the error code with which its requests are refused, if any, and its permit.
    fn admit(limiter: &Arc<ConnectionLimiter>, peer: &str) -> (Option<Code>, Option<ConnectionPermit>) {
        let permit = limiter.admit(peer.parse().unwrap());
        (permit.as_ref().and_then(ConnectionPermit::refusal), permit)
    }

    #[test]
    fn connections_beyond_the_limit_per_address_are_refused() {
        let limiter = limiter(4, 2, "10.0.0.0/8");
        let (_, first) = admit(&limiter, "198.51.100.7");
        let (_, _second) = admit(&limiter, "::ffff:198.51.100.7");
        let (refused, _third) = admit(&limiter, "198.51.100.7");
        assert_eq!(refused, Some(Code::TooManyRequests));
        let (refused, _other) = admit(&limiter, "198.51.100.8");
        assert_eq!(refused, None);
        drop(first);
        assert_eq!(admit(&limiter, "198.51.100.7").0, None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_connection_limit() {
        let limiter = limiter(9, 1, "10.0.0.0/8");
        let (_, _first) = admit(&limiter, "2001:db8::1");
        assert_eq!(admit(&limiter, "2001:db8::2").0, Some(Code::TooManyRequests));
        assert_eq!(admit(&limiter, "2001:db8:0:1::2").0, None);
    }

    #[test]
    fn trusted_proxies_are_subject_only_to_the_total_connection_limit() {
        let limiter = limiter(3, 1, "10.0.0.0/8");
        let open: Vec<_> = (0..3).map(|_| admit(&limiter, "10.0.0.1")).collect();
        assert!(open.iter().all(|(refused, _)| refused.is_none()));
        let (refused, _beyond) = admit(&limiter, "10.0.0.1");
        assert_eq!(refused, Some(Code::Unavailable));
    }

    #[test]
    fn connection_is_closed_at_once_if_too_many_refused_ones_are_open() {
        let limiter = limiter(1, 0, "10.0.0.0/8");
        let (_, _first) = admit(&limiter, "198.51.100.7");
        let mut refused: Vec<_> =
            (0..MAX_REFUSED_CONNECTIONS).map(|_| admit(&limiter, "198.51.100.7").1).collect();
        assert!(refused.iter().all(Option::is_some));
        assert!(admit(&limiter, "198.51.100.7").1.is_none());
        refused.pop();
        assert!(admit(&limiter, "198.51.100.7").1.is_some());
    }

    #[test]
    fn closed_connections_are_not_counted() {
        let limiter = limiter(9, 2, "10.0.0.0/8");
        for number in 0..99 {
            drop(admit(&limiter, &format!("198.51.100.{number}")));
        }
        let open = limiter.lock();
        assert_eq!((open.total, open.refused, open.by_network.len()), (0, 0, 0));
    }
}
