//! What is kept warm per credential: connections and provider tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// At most `capacity` things by key. Where there is no room for another, the one that was out of use for
/// longest is let go; whoever still holds it can finish.
pub(crate) struct Pool<T> {
    capacity: usize,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    /// Counts what is asked for: the larger number was used later.
    uses: u64,
    entries: HashMap<String, Entry<T>>,
}

struct Entry<T> {
    used: u64,
    cell: Arc<OnceCell<Arc<T>>>,
}

impl<T> Pool<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::new(Kept { uses: 0, entries: HashMap::new() }) }
    }

    /// What is kept under `key`, made now if there is none. Of many who ask at the same time one makes
    /// it and the others wait for that; a failure is not kept.
    pub(crate) async fn get<E>(&self, key: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let cell = self.cell(key);
        cell.get_or_try_init(async || make().map(Arc::new)).await.cloned()
    }

    /// Forgets `unusable`, unless something newer took its place already.
    pub(crate) fn forget(&self, key: &str, unusable: &Arc<T>) {
        let mut kept = self.kept();
        let same = |entry: &Entry<T>| entry.cell.get().is_some_and(|kept| Arc::ptr_eq(kept, unusable));
        if kept.entries.get(key).is_some_and(same) {
            kept.entries.remove(key);
        }
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Arc<T>>> {
        let mut kept = self.kept();
        kept.uses += 1;
        let now = kept.uses;
        if let Some(entry) = kept.entries.get_mut(key) {
            entry.used = now;
            return entry.cell.clone();
        }
        if kept.entries.len() >= self.capacity {
            // A walk through all of them, but only when one is added, which costs a connection anyway.
            let oldest = kept.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| kept.entries.remove(&key));
        }
        let cell = Arc::default();
        kept.entries.insert(key.to_owned(), Entry { used: now, cell: Arc::clone(&cell) });
        cell
    }

    /// Whoever panicked while holding the lock left nothing half done: each change is one call.
    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn get(pool: &Pool<u32>, key: &str, made: &AtomicU32) -> Arc<u32> {
        pool.get(key, || Ok::<_, Infallible>(made.fetch_add(1, Ordering::Relaxed))).await.unwrap()
    }

    #[tokio::test]
    async fn lets_go_of_what_was_out_of_use_for_longest() {
        let (pool, made) = (Pool::new(2), AtomicU32::new(0));
        let first = get(&pool, "a", &made).await;
        get(&pool, "b", &made).await;
        assert!(Arc::ptr_eq(&first, &get(&pool, "a", &made).await));
        get(&pool, "c", &made).await;
        assert_eq!(made.load(Ordering::Relaxed), 3);
        assert!(Arc::ptr_eq(&first, &get(&pool, "a", &made).await), "b was older");
        assert_eq!(*get(&pool, "b", &made).await, 3, "made again");
        assert_eq!(pool.kept().entries.len(), 2);
    }

    #[tokio::test]
    async fn keeps_no_failure() {
        let pool = Pool::new(2);
        assert_eq!(pool.get("a", || Err("no")).await, Err("no"));
        assert_eq!(pool.get("a", || Ok::<_, &str>(7)).await, Ok(Arc::new(7)));
    }

    #[tokio::test]
    async fn forgets_only_what_it_was_told_to() {
        let (pool, made) = (Pool::new(2), AtomicU32::new(0));
        let first = get(&pool, "a", &made).await;
        pool.forget("a", &first);
        let second = get(&pool, "a", &made).await;
        assert_ne!(first, second);
        pool.forget("a", &first);
        pool.forget("b", &first);
        assert_eq!(second, get(&pool, "a", &made).await);
    }
}
