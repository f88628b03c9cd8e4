//! The limit of open files (`RLIMIT_NOFILE`), and how many connections fit under it.

use api::MAX_REFUSED_CONNECTIONS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::ServeOptions;

/// Files reserved for everything except clients and deliveries: databases, the log, listeners, workers, certificates.
const RESERVED_FILES: u64 = 128;

/// Raises the soft limit of open files to the hard limit. Returns the resulting limit, or `None` if there is none.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("could not raise the soft limit of open files to the hard limit: {error}");
            limit.current
        }
    }
}

/// Returns the limit that [`raise_limit`] would reach, or `None` if there is none.
pub(crate) fn reachable_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// The number of connections that fit under a limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionCapacity {
    /// Connections that may be open at a time: `max_connections`, or fewer.
    pub(crate) connections: usize,
    /// Open files that are needed for `max_connections`.
    pub(crate) needed: u64,
    /// The limit of open files, if it is lower than `needed`.
    pub(crate) lower_limit: Option<u64>,
}

impl ConnectionCapacity {
    /// Computes the capacity of a server with these options under `limit`.
    pub(crate) fn new(options: &ServeOptions, limit: Option<u64>) -> Self {
        Self::compute(limit, options.max_connections, options.deliveries.delivery_concurrency)
    }

    fn compute(limit: Option<u64>, max_connections: u32, deliveries: u16) -> Self {
        let refused = u64::try_from(MAX_REFUSED_CONNECTIONS).unwrap_or(u64::MAX);
        let reserve = RESERVED_FILES + u64::from(deliveries) + refused;
        let needed = u64::from(max_connections) + reserve;
        let lower_limit = limit.filter(|limit| *limit < needed);
        let connections = match lower_limit {
            // Leave at least half to clients, because deliveries rarely use all of their reserve.
            Some(limit) => (limit - reserve.min(limit / 2)).min(max_connections.into()),
            None => max_connections.into(),
        };
        Self { connections: usize::try_from(connections).unwrap_or(usize::MAX), needed, lower_limit }
    }

    /// Describes a limit that is too low for `max_connections`; `None` if it is high enough.
    pub(crate) fn shortage(&self) -> Option<String> {
        let limit = self.lower_limit?;
        let Self { connections, needed, .. } = self;
        Some(format!(
            "the limit of {limit} open files is enough for {connections} connections only; max_connections needs {needed}"
        ))
    }
}

/// How an operator can resolve a limit that is too low.
pub(crate) const ADVICE: &str =
    "raise the limit (LimitNOFILE of the systemd unit, or `ulimit -n`), or lower max_connections";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_file_limit_reduces_connections() {
        for (limit, connections, is_low) in [
            (None, 10_000, false),
            (Some(65_536), 10_000, false),
            (Some(10_704), 10_000, false),
            (Some(10_703), 9_999, true),
            (Some(4_096), 3_392, true),
            (Some(1_024), 512, true),
            (Some(256), 128, true),
        ] {
            let capacity = ConnectionCapacity::compute(limit, 10_000, 512);
            assert_eq!(
                (capacity.connections, capacity.shortage().is_some()),
                (connections, is_low),
                "{limit:?}"
            );
        }
        assert_eq!(ConnectionCapacity::compute(Some(1_024), 64, 512).connections, 64);
    }
}
