//! The limit of open files (`RLIMIT_NOFILE`), and how many connections it permits.

use api::REFUSED_CONNECTIONS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::Serve;

/// Files kept for everything but clients and deliveries: databases, the log, listeners, workers, certificates.
const OWN_FILES: u64 = 128;

/// Raises the soft limit of open files to the hard one. Returns the limit then, or `None` without one.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("limit of open files not raised to the hard limit: {error}");
            limit.current
        }
    }
}

/// The limit that [`raise_limit`] would reach, or `None` without one.
pub(crate) fn reachable_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// How many connections fit under a limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Connections that are taken at one time: `max_connections`, or fewer.
    pub(crate) connections: usize,
    /// Open files that `max_connections` needs.
    pub(crate) needed: u64,
    /// The limit, if it is lower than that.
    pub(crate) lower_limit: Option<u64>,
}

impl Capacity {
    /// The capacity of a server with these options under `limit`.
    pub(crate) fn of(options: &Serve, limit: Option<u64>) -> Self {
        Self::under(limit, options.max_connections, options.deliveries.delivery_concurrency)
    }

    fn under(limit: Option<u64>, max_connections: u32, deliveries: u16) -> Self {
        let refused = u64::try_from(REFUSED_CONNECTIONS).unwrap_or(u64::MAX);
        let reserve = OWN_FILES + u64::from(deliveries) + refused;
        let needed = u64::from(max_connections) + reserve;
        let lower_limit = limit.filter(|limit| *limit < needed);
        let connections = match lower_limit {
            // At least half goes to clients, since deliveries seldom need all of theirs.
            Some(limit) => (limit - reserve.min(limit / 2)).min(max_connections.into()),
            None => max_connections.into(),
        };
        Self { connections: usize::try_from(connections).unwrap_or(usize::MAX), needed, lower_limit }
    }

    /// What is wrong with the limit, if it is too low.
    pub(crate) fn shortage(&self) -> Option<String> {
        let limit = self.lower_limit?;
        let Self { connections, needed, .. } = self;
        Some(format!(
            "{limit} open files are permitted, which is enough for {connections} connections; max_connections needs {needed}"
        ))
    }
}

/// What to do about a limit that is too low.
pub(crate) const ADVICE: &str =
    "raise the limit (LimitNOFILE of the unit, or `ulimit -n`), or set max_connections lower";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_leaves_a_reserve_and_bounds_connections() {
        for (limit, connections, is_low) in [
            (None, 10_000, false),
            (Some(65_536), 10_000, false),
            (Some(10_704), 10_000, false),
            (Some(10_703), 9_999, true),
            (Some(4_096), 3_392, true),
            (Some(1_024), 512, true),
            (Some(256), 128, true),
        ] {
            let capacity = Capacity::under(limit, 10_000, 512);
            assert_eq!(
                (capacity.connections, capacity.shortage().is_some()),
                (connections, is_low),
                "{limit:?}"
            );
        }
        assert_eq!(Capacity::under(Some(1_024), 64, 512).connections, 64);
    }
}
