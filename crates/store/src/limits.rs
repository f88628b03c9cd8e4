//! Limits that several parts of the store share.

use std::time::Duration;

/// Maximum time to wait for a database connection or for another process's lock. After that, the API responds with
/// status 503.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of PostgreSQL connections per process: those in the pool, plus one that receives announcements.
pub const MAX_POSTGRES_CONNECTIONS: u32 = POSTGRES_POOL_SIZE + 1;

/// Maximum number of connections in the PostgreSQL pool. More than about two per core would only add waiting.
pub(crate) const POSTGRES_POOL_SIZE: u32 = 8;

/// Maximum number of concurrent write transactions on PostgreSQL. It is smaller than the pool, so that writes that wait
/// for a lock leave some connections for reads.
pub(crate) const MAX_POSTGRES_WRITES: u32 = 5;
