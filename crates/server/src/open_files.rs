//! The limit on open files (`RLIMIT_NOFILE`), and the number of connections that it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use web::MAX_REFUSED_CONNECTIONS;

use crate::options::ServeOptions;

/// Number of open files reserved for everything except clients and deliveries: databases, the log, listeners, workers,
/// certificates.
const RESERVED_FILES: u64 = 128;

/// Raises the soft limit on open files to the hard limit. If that fails, logs a warning. Returns the limit that then
/// applies, or `None` if the number of open files is unlimited.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("could not raise the soft limit on open files to the hard limit: {error}");
            limit.current
        }
    }
}

/// Returns the limit on open files that [`raise_limit`] can reach, or `None` if the number of open files is unlimited.
pub(crate) fn reachable_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// The number of connections that a server can hold under a given limit on open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionCapacity {
    /// Maximum number of concurrent connections: `max_connections`, or fewer if the limit on open files is too low.
    pub(crate) connections: usize,
    /// Limit on open files that `max_connections` requires.
    pub(crate) needed: u64,
    /// The actual limit on open files, if it is lower than `needed`; otherwise `None`.
    pub(crate) lower_limit: Option<u64>,
}

impl ConnectionCapacity {
    /// Computes how many connections a server with these options can hold. `limit` is the limit on open files; `None`
    /// means unlimited.
    pub(crate) fn new(options: &ServeOptions, limit: Option<u64>) -> Self {
        Self::compute(limit, options.max_connections, options.deliveries.delivery_concurrency)
    }

    fn compute(limit: Option<u64>, max_connections: u32, deliveries: u16) -> Self {
        let refused = u64::try_from(MAX_REFUSED_CONNECTIONS).unwrap_or(u64::MAX);
        let reserve = RESERVED_FILES + u64::from(deliveries) + refused;
        let needed = u64::from(max_connections) + reserve;
        let lower_limit = limit.filter(|limit| *limit < needed);
        let connections = match lower_limit {
            // Leave at least half of the limit to clients, because deliveries rarely use their whole reserve.
            Some(limit) => (limit - reserve.min(limit / 2)).min(max_connections.into()),
            None => max_connections.into(),
        };
        Self { connections: usize::try_from(connections).unwrap_or(usize::MAX), needed, lower_limit }
    }

    /// Returns a message about a limit on open files that is too low for `max_connections`, or `None` if the limit is
    /// high enough.
    pub(crate) fn shortage(&self) -> Option<String> {
        let limit = self.lower_limit?;
        let Self { connections, needed, .. } = self;
        Some(format!(
            "the limit of {limit} open files allows only {connections} connections; max_connections requires a limit of {needed}"
        ))
    }
}

/// Advice to operators on how to resolve a limit on open files that is too low.
pub(crate) const ADVICE: &str =
    "raise the limit (LimitNOFILE in the systemd unit, or `ulimit -n`), or lower max_connections";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_open_file_limit_reduces_the_number_of_client_connections() {
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
