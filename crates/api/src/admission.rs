//! How many connections are open at one time: in all, and of one client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::Code;
use telemetry::metrics::{Limit, Limited, METRICS};

use crate::address::{self, TrustedProxies};

/// Connections beyond the bounds that are kept for the moment that it takes to answer them. Further ones are closed
/// without an answer.
pub const REFUSED_CONNECTIONS: usize = 64;

/// Time between two lines in the log about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Connections that may be open at one time.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address: one of IPv4, 64 bits of IPv6. Trusted proxies are exempt.
    pub per_address: Option<NonZeroU32>,
}

/// The open connections, counted over all workers.
#[derive(Debug)]
pub struct Admission {
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

/// A place among the open connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Counts for this network, or for none.
    Open(Option<IpAddr>),
    /// Every request is refused with this code.
    Refused(Code),
}

impl Admitted {
    /// The code with which every request of the connection is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Code> {
        match self.place {
            Place::Open(_) => None,
            Place::Refused(code) => Some(code),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.locked().leave(self.place);
    }
}

impl Admission {
    /// No connection yet, and never more than `limits`.
    pub fn new(limits: ConnectionLimits, trusted: TrustedProxies) -> Self {
        Self { limits, trusted, open: Mutex::default() }
    }

    /// Counts a connection from `peer`. `None` if it is to be closed at once.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let peer = peer.to_canonical();
        let network = (!self.trusted.contain(peer)).then(|| address::network(peer));
        let mut open = self.locked();
        let place = match open.limit(&self.limits, network) {
            None => Place::Open(network),
            Some(limit) => {
                METRICS.requests_limited.get_or_create(&Limited { limit }).inc();
                open.log_refusal(limit, peer);
                match limit {
                    Limit::AddressConnections => Place::Refused(Code::TooManyRequests),
                    _ => Place::Refused(Code::Unavailable),
                }
            }
        };
        if !open.enter(place) {
            return None;
        }
        drop(open);
        Some(Admitted { admission: Arc::clone(self), place })
    }

    /// The lock; nothing panics that holds it, and the counts would still be counts.
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The limit that one more connection would exceed.
    fn limit(&self, limits: &ConnectionLimits, network: Option<IpAddr>) -> Option<Limit> {
        let of_network = network.and_then(|network| self.by_network.get(&network)).copied().unwrap_or(0);
        if limits.per_address.is_some_and(|most| of_network >= most.get()) {
            Some(Limit::AddressConnections)
        } else if self.total >= limits.total {
            Some(Limit::Connections)
        } else {
            None
        }
    }

    /// Counts a connection; `false` if there are too many of its kind.
    fn enter(&mut self, place: Place) -> bool {
        match place {
            Place::Refused(_) if self.refused >= REFUSED_CONNECTIONS => return false,
            Place::Refused(_) => self.refused += 1,
            Place::Open(network) => {
                self.total += 1;
                if let Some(network) = network {
                    *self.by_network.entry(network).or_default() += 1;
                }
            }
        }
        true
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Refused(_) => self.refused -= 1,
            Place::Open(network) => {
                self.total -= 1;
                let Some(network) = network else { return };
                match self.by_network.get_mut(&network) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(self.by_network.remove(&network)),
                }
            }
        }
    }

    /// Logs a refusal, unless another one was logged a moment ago.
    fn log_refusal(&mut self, limit: Limit, peer: IpAddr) {
        if self.logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.logged_at = Some(Instant::now());
        match limit {
            Limit::AddressConnections => tracing::warn!(
                address = %peer,
                "connection refused: too many from this address are open; if it is a proxy, name it in trusted_proxies"
            ),
            _ => tracing::warn!(
                open = self.total,
                "connection refused: as many are open as max_connections and the limit of open files permit"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total: usize, per_address: u32, trusted: &str) -> Arc<Admission> {
        let limits = ConnectionLimits { total, per_address: NonZeroU32::new(per_address) };
        Arc::new(Admission::new(limits, TrustedProxies::new(vec![trusted.parse().unwrap()])))
    }

    fn admit(admission: &Arc<Admission>, peer: &str) -> (Option<Code>, Option<Admitted>) {
        let admitted = admission.admit(peer.parse().unwrap());
        (admitted.as_ref().and_then(Admitted::refusal), admitted)
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = admission(4, 2, "10.0.0.0/8");
        let (_, first) = admit(&admission, "198.51.100.7");
        let (_, _second) = admit(&admission, "::ffff:198.51.100.7");
        let (refused, _third) = admit(&admission, "198.51.100.7");
        assert_eq!(refused, Some(Code::TooManyRequests));
        let (refused, _other) = admit(&admission, "198.51.100.8");
        assert_eq!(refused, None);
        drop(first);
        assert_eq!(admit(&admission, "198.51.100.7").0, None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let admission = admission(9, 1, "10.0.0.0/8");
        let (_, _first) = admit(&admission, "2001:db8::1");
        assert_eq!(admit(&admission, "2001:db8::2").0, Some(Code::TooManyRequests));
        assert_eq!(admit(&admission, "2001:db8:0:1::2").0, None);
    }

    #[test]
    fn trusted_proxies_are_bounded_by_the_total_only() {
        let admission = admission(3, 1, "10.0.0.0/8");
        let open: Vec<_> = (0..3).map(|_| admit(&admission, "10.0.0.1")).collect();
        assert!(open.iter().all(|(refused, _)| refused.is_none()));
        let (refused, _beyond) = admit(&admission, "10.0.0.1");
        assert_eq!(refused, Some(Code::Unavailable));
    }

    #[test]
    fn so_many_refused_connections_are_answered_and_no_more() {
        let admission = admission(1, 0, "10.0.0.0/8");
        let (_, _first) = admit(&admission, "198.51.100.7");
        let mut refused: Vec<_> =
            (0..REFUSED_CONNECTIONS).map(|_| admit(&admission, "198.51.100.7").1).collect();
        assert!(refused.iter().all(Option::is_some));
        assert!(admit(&admission, "198.51.100.7").1.is_none());
        refused.pop();
        assert!(admit(&admission, "198.51.100.7").1.is_some());
    }

    #[test]
    fn closed_connections_leave_nothing_behind() {
        let admission = admission(9, 2, "10.0.0.0/8");
        for number in 0..99 {
            drop(admit(&admission, &format!("198.51.100.{number}")));
        }
        let open = admission.locked();
        assert_eq!((open.total, open.refused, open.by_network.len()), (0, 0, 0));
    }
}
