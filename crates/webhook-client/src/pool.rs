//! Connections that have done their work and may do some more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Origin;

use crate::connection::Connection;

/// How long a connection may wait for more work. Short, because most servers hang up after 5 to 75
/// seconds, and a connection that ends under a request costs a second attempt.
const IDLE: Duration = Duration::from_secs(30);

/// How many connections to one origin may wait.
const PER_ORIGIN: usize = 8;

/// The connections that wait, by where they lead. The guard permitted each of them when it was made, and
/// it leads there still.
pub(crate) struct Pool(Mutex<Waiting>);

struct Waiting {
    connections: HashMap<Origin, Vec<(Connection, Instant)>>,
    swept: Instant,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiting { connections: HashMap::new(), swept: Instant::now() }))
    }

    /// A connection to this origin that, as far as one can see, still stands: the youngest.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut waiting = self.lock();
        let connections = waiting.connections.get_mut(origin)?;
        connections.retain(still_good);
        connections.pop().map(|(connection, _)| connection)
    }

    /// Keeps a connection that is ready for another request.
    pub(crate) fn put(&self, origin: Origin, connection: Connection) {
        let mut waiting = self.lock();
        waiting.sweep();
        let connections = waiting.connections.entry(origin).or_default();
        if connections.len() < PER_ORIGIN {
            connections.push((connection, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Forgets what nobody came back for. One that the other side has closed holds no socket any more,
    /// so there is no hurry.
    fn sweep(&mut self) {
        if self.swept.elapsed() >= Duration::from_secs(1) {
            self.swept = Instant::now();
            self.connections.retain(|_, connections| {
                connections.retain(still_good);
                !connections.is_empty()
            });
        }
    }
}

fn still_good((connection, since): &(Connection, Instant)) -> bool {
    !connection.is_closed() && since.elapsed() < IDLE
}
