//! A cache for the clients of push credentials. Each client owns connections or tokens that are worth
//! keeping.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// A cache of at most `capacity` values. Adding a value to a full cache evicts the least recently used one.
/// Callers that still hold the evicted value can continue to use it.
pub(crate) struct LruCache<T> {
    capacity: usize,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    /// Number of lookups so far. An entry with a larger `last_used` was used more recently.
    uses: u64,
    by_key: HashMap<String, Entry<T>>,
}

struct Entry<T> {
    last_used: u64,
    cell: Arc<OnceCell<Arc<T>>>,
}

impl<T> LruCache<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::new(Entries { uses: 0, by_key: HashMap::new() }) }
    }

    /// Returns the cached value for `key`. If there is none, creates it with `create` and caches it.
    ///
    /// Concurrent calls for the same key create the value only once. If `create` fails, the error is returned
    /// and not cached.
    pub(crate) async fn get_or_create<E>(
        &self,
        key: &str,
        create: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let cell = self.cell(key);
        cell.get_or_try_init(async || create().map(Arc::new)).await.cloned()
    }

    /// Removes the value `unusable` for `key` from the cache, unless another value has already replaced it.
    pub(crate) fn remove(&self, key: &str, unusable: &Arc<T>) {
        let mut entries = self.lock();
        let is_same = |entry: &Entry<T>| entry.cell.get().is_some_and(|value| Arc::ptr_eq(value, unusable));
        if entries.by_key.get(key).is_some_and(is_same) {
            entries.by_key.remove(key);
        }
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Arc<T>>> {
        let mut entries = self.lock();
        entries.uses += 1;
        let now = entries.uses;
        if let Some(entry) = entries.by_key.get_mut(key) {
            entry.last_used = now;
            return entry.cell.clone();
        }
        if entries.by_key.len() >= self.capacity {
            // A linear search is acceptable: it runs only when a value is added, which costs a connection
            // anyway.
            let oldest = entries.by_key.iter().min_by_key(|(_, entry)| entry.last_used);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| entries.by_key.remove(&key));
        }
        let cell = Arc::default();
        entries.by_key.insert(key.to_owned(), Entry { last_used: now, cell: Arc::clone(&cell) });
        cell
    }

    /// Locks the entries. A poisoned lock is safe to use: every modification is a single call, so the
    /// entries are consistent even after a panic.
    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Returns the value for `key`. A new value is the number of values created before it.
    async fn get(cache: &LruCache<u32>, key: &str, created: &AtomicU32) -> Arc<u32> {
        let create = || Ok::<_, Infallible>(created.fetch_add(1, Ordering::Relaxed));
        cache.get_or_create(key, create).await.unwrap()
    }

    #[tokio::test]
    async fn least_recently_used_value_is_evicted() {
        let (cache, created) = (LruCache::new(2), AtomicU32::new(0));
        let first = get(&cache, "a", &created).await;
        get(&cache, "b", &created).await;
        assert!(Arc::ptr_eq(&first, &get(&cache, "a", &created).await));
        get(&cache, "c", &created).await;
        assert_eq!(created.load(Ordering::Relaxed), 3);
        assert!(Arc::ptr_eq(&first, &get(&cache, "a", &created).await), "b was used less recently");
        assert_eq!(*get(&cache, "b", &created).await, 3, "b was created again");
        assert_eq!(cache.lock().by_key.len(), 2);
    }

    #[tokio::test]
    async fn failure_to_create_a_value_is_not_cached() {
        let cache = LruCache::new(2);
        assert_eq!(cache.get_or_create("a", || Err("no")).await, Err("no"));
        assert_eq!(cache.get_or_create("a", || Ok::<_, &str>(7)).await, Ok(Arc::new(7)));
    }

    #[tokio::test]
    async fn removing_an_unusable_value_keeps_the_value_that_replaced_it() {
        let (cache, created) = (LruCache::new(2), AtomicU32::new(0));
        let first = get(&cache, "a", &created).await;
        cache.remove("a", &first);
        let second = get(&cache, "a", &created).await;
        assert_ne!(first, second);
        cache.remove("a", &first);
        cache.remove("b", &first);
        assert_eq!(second, get(&cache, "a", &created).await);
    }
}
