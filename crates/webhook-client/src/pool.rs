//! A pool of idle connections to receivers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Origin;

use crate::connection::Connection;

/// How long an idle connection is kept. Most servers close idle connections after 5 to 75 seconds, and if
/// one is closed while a request is being sent, the request must be repeated. 30 seconds is therefore a
/// compromise: a longer time causes more repetitions, a shorter one more new connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of idle connections kept per origin.
const MAX_IDLE_PER_ORIGIN: usize = 8;

/// Minimum time between two sweeps that remove closed and expired connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Idle connections by origin. The guard permitted each connection's address when it was opened, and a
/// connection cannot change its address.
pub(crate) struct ConnectionPool(Mutex<IdleConnections>);

/// The idle connections by origin, each with the time at which it became idle.
struct IdleConnections {
    by_origin: HashMap<Origin, Vec<(Connection, Instant)>>,
    last_sweep: Instant,
}

impl ConnectionPool {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(IdleConnections { by_origin: HashMap::new(), last_sweep: Instant::now() }))
    }

    /// Removes and returns the most recently used idle connection to `origin`, or `None` if there is none.
    /// Skips connections that are closed or have been idle for too long.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.by_origin.get_mut(origin)?;
        connections.retain(is_usable);
        connections.pop().map(|(connection, _)| connection)
    }

    /// Adds an idle connection to the pool. Closes the connection if the pool already has 8 for `origin`.
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
    /// Removes closed and expired connections, at most once per [`SWEEP_INTERVAL`]. A delay does no harm: a
    /// connection that the receiver closed no longer holds a socket.
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
