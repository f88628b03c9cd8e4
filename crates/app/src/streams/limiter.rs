//! Limits on open streams: of the process, of an account, and of a factor. Streams are not requests in progress, so
//! they count neither for load shedding nor for the concurrent requests of an account.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{AccountSid, Code, FactorSid, Problem, Timestamp};
use telemetry::metrics::{METRICS, StreamKind, StreamKindLabels, StreamLimit, StreamLimitLabels};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::feed::Signal;

/// Maximum number of streams and long polls of a factor. A phone that lost its connection opens another stream before
/// the server notices, so the oldest one ends instead of the newest stream being refused. A poll is refused: its client
/// would repeat one that ended early at once, and so end another.
const MAX_FACTOR_STREAMS: usize = 4;

/// Maximum number of streams that read at one time, so that requests find connections to the database.
const MAX_READS: usize = 4;

/// Time after which a refused client should try again, in seconds.
const RETRY_AFTER_SECONDS: i64 = 5;

/// The limits on streams that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Maximum number of streams of the process; 0 turns streams off.
    pub total: u32,
    /// Maximum number of streams of an account's backends, and of its devices; `None` means no limit.
    pub per_account: Option<NonZeroU32>,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { total: Self::DEFAULT_TOTAL, per_account: None }
    }
}

impl StreamLimits {
    /// Maximum number of streams of the process if the operator sets no limit.
    pub const DEFAULT_TOTAL: u32 = 1000;

    /// Returns whether the process has streams.
    pub(crate) const fn are_on(&self) -> bool {
        self.total > 0
    }
}

/// Counts and limits the open streams of the process.
pub(crate) struct StreamLimiter {
    limits: StreamLimits,
    open: Mutex<Open>,
    reads: Semaphore,
    is_draining: AtomicBool,
}

/// The open streams.
#[derive(Default)]
struct Open {
    total: u32,
    accounts: HashMap<Side, u32>,
    /// The streams of each factor, oldest first.
    factors: HashMap<FactorSid, VecDeque<Arc<Signal>>>,
}

/// The backends or the devices of an account. They are counted separately, so that phones cannot use up the streams of
/// the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Side {
    pub(super) account_sid: AccountSid,
    pub(super) is_device: bool,
}

/// The permit of one stream, which counts until it is dropped.
pub(super) struct StreamPermit {
    limiter: Arc<StreamLimiter>,
    kind: StreamKind,
    side: Side,
    factor: Option<(FactorSid, Arc<Signal>)>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.open();
        open.total -= 1;
        if let Some(count) = open.accounts.get_mut(&self.side) {
            *count -= 1;
            if *count == 0 {
                open.accounts.remove(&self.side);
            }
        }
        if let Some((sid, own)) = &self.factor
            && let Some(signals) = open.factors.get_mut(sid)
        {
            signals.retain(|signal| !Arc::ptr_eq(signal, own));
            if signals.is_empty() {
                open.factors.remove(sid);
            }
        }
        METRICS.streams_open.get_or_create(&StreamKindLabels { kind: self.kind }).dec();
    }
}

impl StreamLimiter {
    /// Creates a limiter without open streams.
    pub(crate) fn new(limits: StreamLimits) -> Self {
        let (open, is_draining) = (Mutex::default(), AtomicBool::new(false));
        Self { limits, open, reads: Semaphore::new(MAX_READS), is_draining }
    }

    /// Admits a stream. If it is one of the streams of the factor `counted` and there are too many, the oldest ends, or
    /// a long poll is refused.
    ///
    /// # Errors
    /// Fails with 20501 if streams are off, 20503 if the process has too many streams or stops, and 20429 if the
    /// account, or the factor of a long poll, has too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        kind: StreamKind,
        side: Side,
        counted: Option<FactorSid>,
        signal: &Arc<Signal>,
        now: Timestamp,
    ) -> Result<StreamPermit, Problem> {
        if !self.limits.are_on() {
            let advice = "streams are disabled on this server (max_streams is 0)";
            return Err(Problem::with_advice(Code::NotImplemented, advice));
        }
        let retry_at = now.plus_seconds(RETRY_AFTER_SECONDS);
        if self.is_draining() {
            return Err(Problem::new(Code::Unavailable).retry_at(retry_at, now));
        }
        let mut open = self.open();
        if open.total >= self.limits.total {
            count_refusal(StreamLimit::Total);
            let advice = "too many streams are open on this server";
            return Err(Problem::with_advice(Code::Unavailable, advice).retry_at(retry_at, now));
        }
        let of_account = open.accounts.get(&side).copied().unwrap_or_default();
        if let Some(most) = self.limits.per_account
            && of_account >= most.get()
        {
            count_refusal(StreamLimit::Account);
            let advice = format_args!("{most} streams of this account are open");
            return Err(Problem::with_advice(Code::TooManyRequests, advice).retry_at(retry_at, now));
        }
        let of_factor = counted.and_then(|sid| open.factors.get(&sid)).map_or(0, VecDeque::len);
        if kind == StreamKind::Poll && of_factor >= MAX_FACTOR_STREAMS {
            count_refusal(StreamLimit::Factor);
            let advice = format_args!("{of_factor} streams of this factor are open");
            return Err(Problem::with_advice(Code::TooManyRequests, advice).retry_at(retry_at, now));
        }
        *open.accounts.entry(side).or_default() += 1;
        open.total += 1;
        if let Some(sid) = counted {
            let signals = open.factors.entry(sid).or_default();
            signals.push_back(Arc::clone(signal));
            if signals.len() > MAX_FACTOR_STREAMS
                && let Some(oldest) = signals.pop_front()
            {
                count_refusal(StreamLimit::Factor);
                oldest.replace();
            }
        }
        drop(open);
        METRICS.streams_open.get_or_create(&StreamKindLabels { kind }).inc();
        let factor = counted.map(|sid| (sid, Arc::clone(signal)));
        Ok(StreamPermit { limiter: Arc::clone(self), kind, side, factor })
    }

    /// Waits until the stream may read from the database. It may do so until the returned permit is dropped.
    pub(super) async fn permit_to_read(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so this always returns a permit.
        self.reads.acquire().await.ok()
    }

    /// Makes all streams end, and refuses new ones.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Returns whether the server stops.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Locks the counters, even if the lock is poisoned: no code panics while it holds the lock.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_refusal(limit: StreamLimit) {
    METRICS.streams_refused.get_or_create(&StreamLimitLabels { limit }).inc();
}
