//! The feed: which streams of this process have to read their resource again.
//!
//! ```text
//!  use case ── commit ──▶ Feed ──▶ streams of this process that subscribe to the topic
//!                          │
//!                          ▼  at most every 50 ms
//!                        NOTIFY ──▶ feeds of the other processes ──▶ their streams
//! ```
//!
//! A notice only says that something may have changed; the stream reads what. Therefore a lost or superfluous notice
//! changes nothing but the time at which a client learns of a change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::Entropy;
use store::{Changes, ProcessTag, Topic};
use tokio::sync::{Notify, watch};

/// Maximum number of topics that wait for their announcement. If more have changed, all streams of the other processes
/// read again.
const MAX_UNANNOUNCED: usize = 4096;

/// The subscriptions of this process's streams, and the changes that are not announced to other processes yet.
pub(crate) struct Feed {
    /// The tag of this process, by which it recognizes its own announcements.
    pub(crate) tag: ProcessTag,
    /// Whether changes are announced to other processes: only with streams, and on a database that several processes
    /// share.
    is_announcing: bool,
    /// Number of subscriptions. While there are none, a notice costs one load.
    subscriptions: AtomicUsize,
    subscribers: Mutex<HashMap<Topic, Vec<Arc<Signal>>>>,
    unannounced: Mutex<Changes>,
    announcement: Notify,
    /// Number of the newest chained audit record.
    chain_head: watch::Sender<i64>,
}

/// The signal of one stream: that it must read again, or end.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    notify: Notify,
    is_replaced: AtomicBool,
}

impl Signal {
    /// Makes the stream end because newer streams of its factor take its place.
    pub(crate) fn replace(&self) {
        self.is_replaced.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Returns whether the stream has to end because newer streams take its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Acquire)
    }

    /// Waits for the next notice. Returns at once if one has arrived since the last wait. Several notices count as one.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

/// The subscription of a stream to its topics, which ends when this value is dropped.
pub(crate) struct Subscription {
    feed: Arc<Feed>,
    topics: Vec<Topic>,
    signal: Arc<Signal>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribers = lock(&self.feed.subscribers);
        for topic in &self.topics {
            if let Some(signals) = subscribers.get_mut(topic) {
                signals.retain(|signal| !Arc::ptr_eq(signal, &self.signal));
                if signals.is_empty() {
                    subscribers.remove(topic);
                }
            }
        }
        drop(subscribers);
        self.feed.subscriptions.fetch_sub(1, Ordering::Release);
    }
}

impl Feed {
    /// Creates a feed without subscriptions. `is_announcing` says whether changes are announced to other processes.
    pub(crate) fn new(is_announcing: bool, entropy: &dyn Entropy) -> Self {
        let mut tag = [0; 4];
        entropy.fill(&mut tag);
        Self {
            tag: ProcessTag(u32::from_be_bytes(tag)),
            is_announcing,
            subscriptions: AtomicUsize::new(0),
            subscribers: Mutex::default(),
            unannounced: Mutex::default(),
            announcement: Notify::new(),
            chain_head: watch::Sender::new(0),
        }
    }

    /// Sends notices about these topics to `signal` until the returned value is dropped. A change that is committed
    /// after this call is either followed by a notice, or found by a read after this call.
    pub(crate) fn subscribe(self: &Arc<Self>, topics: Vec<Topic>, signal: Arc<Signal>) -> Subscription {
        self.subscriptions.fetch_add(1, Ordering::Release);
        let mut subscribers = lock(&self.subscribers);
        for topic in &topics {
            subscribers.entry(*topic).or_default().push(Arc::clone(&signal));
        }
        drop(subscribers);
        Subscription { feed: Arc::clone(self), topics, signal }
    }

    /// Sends a notice to the streams of all processes that subscribe to one of these topics. Call this after the
    /// commit.
    pub(crate) fn touch(&self, topics: &[Topic]) {
        self.wake(topics);
        if self.is_announcing {
            let mut unannounced = lock(&self.unannounced);
            if let Changes::Of(waiting) = &mut *unannounced {
                waiting.extend(topics);
                if waiting.len() > MAX_UNANNOUNCED {
                    *unannounced = Changes::OfAny;
                }
            }
            drop(unannounced);
            self.request_announcement();
        }
    }

    /// Sends a notice to the streams of all processes. Call this after the commit.
    pub(crate) fn touch_any(&self) {
        self.wake_all();
        if self.is_announcing {
            *lock(&self.unannounced) = Changes::OfAny;
            self.request_announcement();
        }
    }

    /// Sends a notice to the streams of this process that subscribe to one of these topics.
    fn wake<'t>(&self, topics: impl IntoIterator<Item = &'t Topic>) {
        if self.subscriptions.load(Ordering::Acquire) == 0 {
            return;
        }
        let subscribers = lock(&self.subscribers);
        for signal in topics.into_iter().filter_map(|topic| subscribers.get(topic)).flatten() {
            signal.notify.notify_one();
        }
    }

    /// Sends a notice to all streams of this process.
    pub(crate) fn wake_all(&self) {
        for signal in lock(&self.subscribers).values().flatten() {
            signal.notify.notify_one();
        }
    }

    /// Sends a notice to the streams of this process that the changes of another process concern.
    pub(crate) fn receive(&self, changes: &Changes) {
        match changes {
            Changes::Of(topics) => self.wake(topics),
            Changes::OfAny => self.wake_all(),
        }
    }

    /// Requests an announcement to the other processes.
    pub(crate) fn request_announcement(&self) {
        self.announcement.notify_one();
    }

    /// Waits until an announcement to the other processes is requested.
    pub(crate) async fn announcement_requested(&self) {
        self.announcement.notified().await;
    }

    /// Returns the changes since the last call, which are not announced yet.
    pub(crate) fn take_unannounced(&self) -> Changes {
        std::mem::take(&mut *lock(&self.unannounced))
    }

    /// Sends the number of the newest chained audit record to the streams that follow the audit log.
    pub(crate) fn set_chain_head(&self, number: i64) {
        self.chain_head.send_if_modified(|head| std::mem::replace(head, number) != number);
    }

    /// Returns a receiver of the number of the newest chained audit record.
    pub(crate) fn chain_head(&self) -> watch::Receiver<i64> {
        self.chain_head.subscribe()
    }
}

/// Locks a mutex, even if it is poisoned: every change under these locks is complete at once.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::SystemEntropy;
    use domain::{ChallengeSid, Sid as _};

    use super::*;

    fn feed(is_announcing: bool) -> Arc<Feed> {
        Arc::new(Feed::new(is_announcing, &SystemEntropy))
    }

    fn topic(byte: u8) -> Topic {
        Topic::Challenge(ChallengeSid::from_bytes([byte; 16]))
    }

    async fn is_notified(signal: &Signal) -> bool {
        tokio::time::timeout(Duration::from_millis(20), signal.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn notice_reaches_only_subscribers_of_its_topic_until_they_end() {
        let feed = feed(false);
        let (one, other) = (Arc::<Signal>::default(), Arc::<Signal>::default());
        let first = feed.subscribe(vec![topic(1), topic(2)], Arc::clone(&one));
        let second = feed.subscribe(vec![topic(2)], Arc::clone(&other));
        feed.touch(&[topic(1)]);
        assert!(is_notified(&one).await && !is_notified(&other).await);
        feed.touch(&[topic(1), topic(2)]);
        assert!(is_notified(&one).await && is_notified(&other).await);
        assert!(!is_notified(&one).await, "several notices count as one");
        feed.wake_all();
        assert!(is_notified(&one).await && is_notified(&other).await);
        drop(first);
        feed.touch(&[topic(1), topic(2)]);
        assert!(!is_notified(&one).await && is_notified(&other).await);
        drop(second);
        assert!(lock(&feed.subscribers).is_empty());
        assert_eq!(feed.subscriptions.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn notice_before_the_wait_is_not_lost() {
        let feed = feed(false);
        let signal = Arc::<Signal>::default();
        let _subscription = feed.subscribe(vec![topic(1)], Arc::clone(&signal));
        feed.touch(&[topic(1)]);
        assert!(is_notified(&signal).await);
        signal.replace();
        assert!(signal.is_replaced() && is_notified(&signal).await);
    }

    #[test]
    fn changes_are_announced_once_and_too_many_as_changes_of_any_resource() {
        let silent = feed(false);
        silent.touch(&[topic(1)]);
        assert!(silent.take_unannounced().is_empty());
        let feed = feed(true);
        feed.touch(&[topic(1), topic(2)]);
        feed.touch(&[topic(2)]);
        assert_eq!(feed.take_unannounced(), Changes::Of([topic(1), topic(2)].into()));
        assert!(feed.take_unannounced().is_empty());
        for number in 0..=u128::try_from(MAX_UNANNOUNCED).unwrap() {
            feed.touch(&[Topic::Challenge(ChallengeSid::from_bytes(number.to_be_bytes()))]);
        }
        assert_eq!(feed.take_unannounced(), Changes::OfAny);
    }
}
