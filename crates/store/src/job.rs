//! Jobs: closures that wait in a queue for a database thread, which runs them and sends back their results.
//!
//! A job does not depend on its caller: a client that disconnects or a handler that is dropped never leaves a
//! half-finished operation behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use telemetry::metrics::GaugeGuard;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::error::Error;
use crate::limits::ACQUIRE_TIMEOUT;

/// Maximum time that a job waits in the queue. Shorter than [`ACQUIRE_TIMEOUT`]: if a write fails after that full
/// timeout, the writes that were queued when it began have waited too long by then, and are refused at once instead of
/// after another full timeout.
const MAX_QUEUE_WAIT: Duration = Duration::from_millis(ACQUIRE_TIMEOUT.as_millis() as u64 * 9 / 10);

/// The decision whether a queued job begins. It can be taken only once: by the database thread, to begin the job, or by
/// the caller, to withdraw the job, whichever comes first.
#[derive(Clone, Default)]
struct Decision(Arc<AtomicBool>);

impl Decision {
    /// Takes the decision. Returns `false` if it was already taken.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A queued closure that uses the database through `A`, with its result and the channel to its caller.
pub(crate) trait Job<A>: Send {
    /// Returns how long ago the job was queued.
    fn waited(&self) -> Duration;

    /// Takes the [`Decision`] about the job, and returns whether the job may begin. Returns `false` if the caller has
    /// withdrawn the job, or if it has waited for [`MAX_QUEUE_WAIT`].
    fn start(&mut self) -> bool;

    /// Runs the closure and keeps its result. Returns whether the closure succeeded, so that its transaction may
    /// commit.
    fn run<'a>(&'a mut self, access: &'a mut A) -> LocalBoxFuture<'a, bool>;

    /// Sends the result to the caller: the closure's error if it returned one, otherwise `failure` if there is one,
    /// otherwise the closure's value.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct QueuedJob<F, T, E> {
    queued_at: Instant,
    decision: Decision,
    /// Counts the job in a metric until the job begins.
    waiting: Option<GaugeGuard>,
    /// The caller's span, for log messages.
    span: Span,
    trace: telemetry::traces::Span,
    work: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<A, F, T, E> Job<A> for QueuedJob<F, T, E>
where
    A: 'static,
    F: AsyncFn(&mut A) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn waited(&self) -> Duration {
        self.queued_at.elapsed()
    }

    fn start(&mut self) -> bool {
        self.waiting = None;
        self.decision.take() && self.queued_at.elapsed() < MAX_QUEUE_WAIT
    }

    fn run<'a>(&'a mut self, access: &'a mut A) -> LocalBoxFuture<'a, bool> {
        Box::pin(async move {
            // A closure that panics must not end the thread, because one bug would then stop all jobs. The closure is
            // called inside the caught future, because a closure that is not `async` runs before it returns a future.
            let work =
                self.trace.clone().run(async { (self.work)(access).await }).instrument(self.span.clone());
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(Error::Panicked.into()));
            self.result.insert(result).is_ok()
        })
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            (Some(result @ Err(_)), _) | (Some(result), None) => result,
            (_, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::Unavailable(None).into()),
        };
        // The caller's future may have been dropped; a write takes effect all the same.
        let _ = self.reply.send(result);
    }
}

/// Passes a closure as a job to `enqueue`, and returns its result. `enqueue` returns whether a queue accepted the job.
/// `waiting` counts the job in a metric until the job begins.
///
/// # Errors
/// Returns the closure's error, or [`Error::Unavailable`] if the job was not accepted or waited too long.
pub(crate) async fn submit<A, F, T, E>(
    work: F,
    waiting: Option<GaugeGuard>,
    enqueue: impl FnOnce(Box<dyn Job<A>>) -> bool,
) -> Result<T, E>
where
    A: 'static,
    F: AsyncFn(&mut A) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let (reply, mut result) = oneshot::channel();
    let decision = Decision::default();
    let job = QueuedJob {
        queued_at: Instant::now(),
        decision: decision.clone(),
        waiting,
        span: Span::current(),
        trace: telemetry::traces::Span::current(),
        work,
        result: None,
        reply,
    };
    if !enqueue(Box::new(job)) {
        return Err(Error::Unavailable(None).counted().into());
    }
    let result = match timeout(MAX_QUEUE_WAIT, &mut result).await {
        Ok(result) => result,
        // The job was still queued and is now withdrawn. The database thread counts the failure when it takes the job
        // from the queue.
        Err(_) if decision.take() => return Err(Error::Unavailable(None).into()),
        // The job has already begun, and a write may be committed: only the database thread knows the result.
        Err(_) => result.await,
    };
    result.unwrap_or_else(|_| Err(Error::Unavailable(None).into()))
}

/// Returns the job if it may begin. Otherwise, reports [`Error::Unavailable`] to its caller and returns `None`.
pub(crate) fn start_or_refuse<A>(mut job: Box<dyn Job<A>>) -> Option<Box<dyn Job<A>>> {
    if job.start() {
        return Some(job);
    }
    job.finish(Some(Error::Unavailable(None).counted()));
    None
}
