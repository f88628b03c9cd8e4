//! Limits that several parts of the store share.

use std::time::Duration;

/// Maximum time to wait for a connection or for another process's lock. The API answers 503 afterwards.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of PostgreSQL connections per process: the pool and one that receives announcements.
pub const MAX_POSTGRES_CONNECTIONS: u32 = POSTGRES_POOL_SIZE + 1;

/// Connections in the PostgreSQL pool. More than about two per core only add waiting.
pub(crate) const POSTGRES_POOL_SIZE: u32 = 8;

/// Transactions that run at the same time on PostgreSQL. Fewer than the pool has connections, so that writes that
/// wait for a lock leave some for reads.
pub(crate) const MAX_POSTGRES_WRITES: u32 = 5;
