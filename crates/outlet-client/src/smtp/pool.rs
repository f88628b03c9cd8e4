//! Connections to mail servers that are kept between two mails. There is a pool for each version of an outlet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};

/// Maximum number of pools. The least recently used one makes room for another.
const MAX_POOLS: usize = 64;

/// Maximum number of idle connections in a pool.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// How long an idle connection is used again. Servers close them after a few minutes.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// The idle connections of one version of an outlet, with what new ones need.
pub(super) struct Pool {
    tls: TlsParameters,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Pool {
    /// Creates an empty pool.
    pub(super) fn new(tls: TlsParameters) -> Self {
        Self { tls, idle: Mutex::default() }
    }

    /// Returns the TLS configuration of new connections. It is kept, because it has a hundred certificate authorities.
    pub(super) const fn tls(&self) -> &TlsParameters {
        &self.tls
    }

    /// Takes the most recently used connection out of the pool.
    pub(super) fn take(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = lock(&self.idle);
        idle.retain(|found| found.since.elapsed() < MAX_IDLE_TIME);
        idle.pop().map(|found| found.connection)
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        lock(&self.idle).clear();
    }

    /// Puts a connection into the pool, unless it is full.
    pub(super) fn put(&self, connection: AsyncSmtpConnection) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}

/// The pools of the outlets in use.
#[derive(Default)]
pub(super) struct PoolCache(Mutex<Pools>);

#[derive(Default)]
struct Pools {
    /// Number of look-ups so far. A larger `last_used` is more recent.
    uses: u64,
    by_key: HashMap<String, Entry>,
}

struct Entry {
    last_used: u64,
    pool: Arc<Pool>,
}

impl PoolCache {
    /// Returns the pool for `key`. If there is none, creates it with `create`.
    ///
    /// # Errors
    /// Returns the error of `create`.
    pub(super) fn get_or_create<E>(
        &self,
        key: &str,
        create: impl FnOnce() -> Result<Pool, E>,
    ) -> Result<Arc<Pool>, E> {
        let mut pools = lock(&self.0);
        pools.uses += 1;
        let last_used = pools.uses;
        if let Some(entry) = pools.by_key.get_mut(key) {
            entry.last_used = last_used;
            return Ok(entry.pool.clone());
        }
        let pool = Arc::new(create()?);
        if pools.by_key.len() >= MAX_POOLS {
            let oldest = pools.by_key.iter().min_by_key(|(_, entry)| entry.last_used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                pools.by_key.remove(&key);
            }
        }
        pools.by_key.insert(key.to_owned(), Entry { last_used, pool: pool.clone() });
        Ok(pool)
    }
}

/// Locks a value. A poisoned lock is safe to use, because every modification is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn create() -> Result<Pool, Infallible> {
        Ok(Pool::new(TlsParameters::new("localhost".to_owned()).unwrap()))
    }

    #[test]
    fn least_recently_used_pool_is_evicted() {
        let pools = PoolCache::default();
        let get = |key: &str| pools.get_or_create(key, create).unwrap();
        let (first, second) = (get("first"), get("second"));
        for number in 2..MAX_POOLS {
            get(&number.to_string());
        }
        assert!(Arc::ptr_eq(&first, &get("first")));
        get("another");
        assert!(Arc::ptr_eq(&first, &get("first")));
        assert!(!Arc::ptr_eq(&second, &get("second")));
        assert_eq!(lock(&pools.0).by_key.len(), MAX_POOLS);
    }
}
