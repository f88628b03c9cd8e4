//! A pool of idle connections.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Origin;

use crate::connection::Connection;

/// How long an idle connection is kept. Most servers close idle connections after 5 to 75 seconds, and a
/// request on a connection that is being closed must be repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of idle connections to one origin.
const MAX_IDLE_PER_ORIGIN: usize = 8;

/// Minimum time between two removals of expired connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Idle connections by origin. The guard permitted the address of each when it was opened, and a connection
/// cannot change its address.
pub(crate) struct ConnectionPool(Mutex<IdleConnections>);

/// The idle connections, each with the time at which it became idle.
struct IdleConnections {
    by_origin: HashMap<Origin, Vec<(Connection, Instant)>>,
    last_sweep: Instant,
}

impl ConnectionPool {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(IdleConnections { by_origin: HashMap::new(), last_sweep: Instant::now() }))
    }

    /// Takes the most recently used connection to `origin` that is not known to be closed.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.by_origin.get_mut(origin)?;
        connections.retain(is_usable);
        connections.pop().map(|(connection, _)| connection)
    }

    /// Returns a connection to the pool. Closes it if there are too many for `origin`.
    pub(crate) fn put(&self, origin: Origin, connection: Connection) {
        let mut idle = self.lock();
        idle.sweep();
        let connections = idle.by_origin.entry(origin).or_default();
        if connections.len() < MAX_IDLE_PER_ORIGIN {
            connections.push((connection, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleConnections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleConnections {
    /// Removes closed and expired connections, at most once per [`SWEEP_INTERVAL`]. A connection that the
    /// peer closed holds no socket, so a delay does no harm.
    fn sweep(&mut self) {
        if self.last_sweep.elapsed() >= SWEEP_INTERVAL {
            self.last_sweep = Instant::now();
            self.by_origin.retain(|_, connections| {
                connections.retain(is_usable);
                !connections.is_empty()
            });
        }
    }
}

fn is_usable((connection, idle_since): &(Connection, Instant)) -> bool {
    !connection.is_closed() && idle_since.elapsed() < IDLE_TIMEOUT
}
