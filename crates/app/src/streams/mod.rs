//! Streams: what a client receives while it follows a challenge, a factor, or a service. How the events reach the
//! client is up to the crate `api`.
//!
//! The stream of a challenge or a factor is state-based: it sends the state at its start and each later one, as the
//! database has it. It needs no memory of what it sent before, so a client that reconnects misses nothing that is still
//! true. The stream of a service is log-based: it sends records of the audit log, and its cursor is the number in the
//! audit chain, which has no gaps.
//!
//! A stream reads when the feed (`feed.rs`) sends a notice, when a challenge expires, and every 15 seconds. It holds no
//! connection to the database while it waits.

mod challenge;
mod factor;
mod limiter;
mod service;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::challenges::{ChallengeSummary, Version};
use domain::streams::{EventSelection, LoggedEvent, PollSeconds};
use domain::{
    Challenge, ChallengeSid, EntitySid, EventSid, Factor, FactorSid, Identity, Service, ServiceSid, Timestamp,
};
use store::Topic;
use telemetry::metrics::{METRICS, StreamKind};
use tokio::time::Instant;
use tracing::{debug, error};

use crate::App;
use crate::error::{Error, Fault};
use crate::streams::challenge::ChallengeSource;
use crate::streams::factor::FactorSource;
pub(crate) use crate::streams::limiter::StreamLimiter;
pub use crate::streams::limiter::StreamLimits;
use crate::streams::service::ServiceSource;
pub use crate::streams::session::StreamCaller;
use crate::streams::session::{Session, Wake};

/// Maximum life of a stream. A client that still needs it connects again.
const MAX_LIFE: Duration = Duration::from_secs(600);

/// Time after which a stream reads again without a notice, and sends a sign of life if it has nothing else to send.
const TICK_INTERVAL: Duration = Duration::from_secs(15);

/// Delay before the next attempt after the database failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a stream sends.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// Nothing has happened for a while. Proxies close connections on which nothing is sent.
    KeepAlive,
    /// A challenge has reached this version, or had it when the stream began.
    Challenge(ChallengeSummary, Version),
    /// All challenges that were pending when the stream of a factor began; each has been sent before.
    Pending(Vec<ChallengeSid>),
    /// A record of the audit log.
    Record(LoggedRecord),
    /// All records with chain numbers up to this one have been sent.
    Position(i64),
    /// Records between the client's position and the present are not sent.
    Resync(ResyncReason),
    /// The stream ends.
    End(EndReason),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The challenge is no longer pending.
    Final,
    /// The stream has reached its maximum life.
    MaxAge,
    /// The server stops.
    Draining,
    /// The credentials of the request are no longer valid.
    Unauthorized,
    /// Newer streams of the factor take its place.
    Overload,
    /// The resource was deleted.
    Gone,
}

impl EndReason {
    /// Returns the word for the reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::MaxAge => "max-age",
            Self::Draining => "draining",
            Self::Unauthorized => "unauthorized",
            Self::Overload => "overload",
            Self::Gone => "gone",
        }
    }
}

/// Why a service's stream skips records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResyncReason {
    /// The client's position is too far back.
    TooFar,
    /// Records after the client's position were removed at the end of their retention.
    Removed,
    /// The audit log has no such position.
    Unknown,
}

impl ResyncReason {
    /// Returns the word for the reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooFar => "too-far",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }
}

/// A record of the audit log, with what it is about.
#[derive(Clone, Debug)]
pub struct LoggedRecord {
    /// SID of the audit record.
    pub sid: EventSid,
    /// Kind of the event.
    pub event: LoggedEvent,
    /// Time of the event.
    pub at: Timestamp,
    /// Service of the resource.
    pub service_sid: ServiceSid,
    /// Identity of the entity; `None` if it is not known or was deleted.
    pub identity: Option<Identity>,
    /// The resource that was created or has changed.
    pub resource: LoggedResource,
}

/// The resource of a [`LoggedRecord`].
#[derive(Clone, Debug)]
pub enum LoggedResource {
    /// A challenge.
    Challenge {
        /// SID of the challenge.
        sid: ChallengeSid,
        /// Factor of the challenge; `None` as long as a passkey challenge is for several.
        factor_sid: Option<FactorSid>,
        /// Expiry of the challenge; `None` if the challenge was removed.
        expires_at: Option<Timestamp>,
    },
    /// A factor.
    Factor {
        /// SID of the factor.
        sid: FactorSid,
        /// Entity of the factor.
        entity_sid: Option<EntitySid>,
        /// Status after the event, or before the deletion.
        status: String,
    },
}

/// What a stream has found by reading.
#[derive(Debug, Default)]
struct Look {
    events: Vec<StreamEvent>,
    /// Why the stream ends after the events.
    end: Option<EndReason>,
    /// Whether there is more to read at once.
    is_behind: bool,
}

impl Look {
    fn end(reason: EndReason) -> Self {
        Self { end: Some(reason), ..Self::default() }
    }
}

/// Where a stream reads.
enum Source {
    Challenge(ChallengeSource),
    Factor(FactorSource),
    Service(Box<ServiceSource>),
}

impl Source {
    async fn look(&mut self, app: &App) -> Result<Look, Error> {
        match self {
            Self::Challenge(challenge) => challenge.look(app).await,
            Self::Factor(factor) => factor.look(app).await,
            Self::Service(service) => service.look(app).await,
        }
    }

    /// Returns when a challenge of the stream expires next.
    fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Challenge(challenge) => challenge.expires_at(),
            Self::Factor(factor) => factor.expires_at(),
            Self::Service(_) => None,
        }
    }

    /// Returns the minimum time between two reads.
    const fn min_interval(&self) -> Duration {
        match self {
            Self::Challenge(_) | Self::Factor(_) => Duration::ZERO,
            Self::Service(_) => service::MIN_INTERVAL,
        }
    }
}

/// An open stream.
pub struct EventStream {
    session: Session,
    source: Source,
    queue: VecDeque<StreamEvent>,
    /// Result of the last read, if the stream has not found out yet whether the caller may still receive it.
    unchecked: Option<Look>,
    /// When to read again although there is no notice.
    again_at: Option<Instant>,
    read_at: Option<Instant>,
    is_failing: bool,
    is_ended: bool,
}

impl EventStream {
    fn new(session: Session, source: Source) -> Self {
        let again_at = Some(Instant::now());
        let (queue, unchecked, read_at) = (VecDeque::new(), None, None);
        Self { session, source, queue, unchecked, again_at, read_at, is_failing: false, is_ended: false }
    }

    /// Waits for the next event and returns it. Returns `None` after [`StreamEvent::End`].
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            // A client that reads slowly must not receive for long what it may no longer receive.
            if !self.queue.is_empty() && !self.is_ended {
                self.check_queue().await;
            }
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.is_ended {
                return None;
            }
            let read_at = self.next_read_at();
            let wake = self.session.wait(read_at).await;
            if let Wake::End(reason) = wake {
                self.end(reason);
                continue;
            }
            self.again_at = None;
            // Boxed, because this memory is needed only while the stream reads.
            let result = Box::pin(self.read()).await;
            self.report(&result);
            if result.is_err() {
                self.again_at = Some(Instant::now() + RETRY_DELAY);
            }
            if wake == Wake::Tick && self.queue.is_empty() {
                return Some(StreamEvent::KeepAlive);
            }
        }
    }

    /// Discards the queue and ends the stream if its time is over or the caller is no longer permitted.
    async fn check_queue(&mut self) {
        let reason = loop {
            if let Some(reason) = self.session.end_reason(Instant::now()) {
                break reason;
            }
            if !self.session.is_check_due() {
                return;
            }
            let result = self.session.check().await;
            self.report(&result);
            match result {
                Ok(true) => return,
                Ok(false) => break EndReason::Unauthorized,
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        };
        self.queue.clear();
        self.end(reason);
    }

    /// Returns when to read although there is no notice.
    fn next_read_at(&self) -> Option<Instant> {
        if self.is_failing {
            // The expiry of the challenge may have passed without being read.
            return self.again_at;
        }
        let until_expiry = self.source.expires_at().map(|at| self.session.app.now().until(at));
        let expires_at = until_expiry.map(|until| Instant::now() + until);
        [self.again_at, expires_at].into_iter().flatten().min()
    }

    /// Reads, and enqueues what was found if the caller may still receive it.
    async fn read(&mut self) -> Result<(), Error> {
        if let Some(read_at) = self.read_at {
            tokio::time::sleep_until(read_at + self.source.min_interval()).await;
        }
        let app = Arc::clone(&self.session.app);
        let _permit = app.streams.permit_to_read().await;
        // At a stop, many streams may have waited for the permit.
        if app.streams.is_draining() {
            self.end(EndReason::Draining);
            return Ok(());
        }
        let mut is_old = false;
        let look = match self.unchecked.take() {
            Some(look) => {
                is_old = true;
                look
            }
            None => self.source.look(&app).await?,
        };
        self.read_at = Some(Instant::now());
        let must_check = !look.events.is_empty() || self.session.is_check_due();
        self.unchecked = Some(look);
        if must_check && !self.session.check().await? {
            self.end(EndReason::Unauthorized);
            return Ok(());
        }
        let Some(look) = self.unchecked.take() else { return Ok(()) };
        self.queue.extend(look.events);
        // The notice that led to this read may concern a change after an old look.
        if look.is_behind || is_old {
            self.again_at = Some(Instant::now());
        }
        if let Some(reason) = look.end {
            self.end(reason);
        }
        Ok(())
    }

    /// Logs the first of several failures. Requests log that the database is unavailable.
    fn report<T>(&mut self, result: &Result<T, Error>) {
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        match result {
            Err(Error::Fault(Fault::Unavailable(_))) | Ok(_) => {}
            Err(error) if was_failing => debug!("stream still cannot read: {}", error.report()),
            Err(error) => error!("stream could not read, will retry: {}", error.report()),
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.queue.push_back(StreamEvent::End(reason));
        self.is_ended = true;
    }
}

/// A long poll: waits until a challenge is no longer pending, or for a given time.
pub struct ChallengePoll {
    stream: EventStream,
    /// The challenge as it was read last.
    latest: Option<(ChallengeSummary, Version)>,
}

/// What a long poll sends.
#[derive(Clone, Debug)]
pub enum PollEvent {
    /// The challenge is still pending.
    Waiting,
    /// The challenge as it is at the end of the wait.
    Challenge(ChallengeSummary, Version),
    /// The wait ended, but the state of the challenge is unknown, or the caller is no longer permitted to see it.
    Failed,
}

impl ChallengePoll {
    /// Waits for the next event and returns it. Every event except [`PollEvent::Waiting`] is the last one.
    pub async fn next(&mut self) -> PollEvent {
        loop {
            match self.stream.next().await {
                Some(StreamEvent::KeepAlive) => return PollEvent::Waiting,
                Some(StreamEvent::Challenge(summary, version)) => self.latest = Some((summary, version)),
                Some(StreamEvent::End(EndReason::Unauthorized | EndReason::Gone)) => {
                    return PollEvent::Failed;
                }
                Some(StreamEvent::End(_)) | None => {
                    let latest = self.latest.take();
                    return latest.map_or(PollEvent::Failed, |(summary, version)| {
                        PollEvent::Challenge(summary, version)
                    });
                }
                Some(_) => {}
            }
        }
    }
}

impl App {
    /// Opens a stream that follows a challenge until it is no longer pending. `last_event_id` is the version that the
    /// client has received last; the stream leaves it out if it is the current one.
    ///
    /// # Errors
    /// Fails with 20501 if streams are off, 20503 if the process has too many streams or stops, and 20429 if the
    /// account has too many.
    pub fn challenge_stream(
        self: &Arc<Self>,
        caller: StreamCaller,
        challenge: &Challenge,
        last_event_id: Option<String>,
    ) -> Result<EventStream, Error> {
        let source = ChallengeSource::new(challenge, last_event_id);
        self.open_challenge(StreamKind::Challenge, caller, challenge, source, MAX_LIFE)
    }

    /// Opens a long poll, which waits at most `wait` until a challenge is no longer pending.
    ///
    /// # Errors
    /// Fails like [`challenge_stream`](Self::challenge_stream), and with 20429 if the factor has too many streams.
    pub fn challenge_poll(
        self: &Arc<Self>,
        caller: StreamCaller,
        challenge: &Challenge,
        wait: PollSeconds,
    ) -> Result<ChallengePoll, Error> {
        let source = ChallengeSource::new(challenge, None);
        let life = Duration::from_secs(wait.get().unsigned_abs());
        let stream = self.open_challenge(StreamKind::Poll, caller, challenge, source, life)?;
        Ok(ChallengePoll { stream, latest: None })
    }

    fn open_challenge(
        self: &Arc<Self>,
        kind: StreamKind,
        caller: StreamCaller,
        challenge: &Challenge,
        source: ChallengeSource,
        life: Duration,
    ) -> Result<EventStream, Error> {
        let factor_sid = challenge.target().map(|target| target.factor_sid);
        // The deletion of a factor is a change of its challenges, but its notice has only the topic of the factor.
        let topics = [Some(Topic::Challenge(challenge.sid)), factor_sid.map(Topic::Factor)];
        let topics = topics.into_iter().flatten().collect();
        let counted = factor_sid.filter(|_| caller.is_device());
        let session = Session::open(self, kind, caller, counted, topics, life)?;
        Ok(EventStream::new(session, Source::Challenge(source)))
    }

    /// Opens a stream that follows the challenges of a factor.
    ///
    /// # Errors
    /// Fails like [`challenge_stream`](Self::challenge_stream).
    pub fn factor_stream<Kind>(
        self: &Arc<Self>,
        caller: StreamCaller,
        factor: &Factor<Kind>,
    ) -> Result<EventStream, Error> {
        let topics = vec![Topic::Factor(factor.sid)];
        let session = Session::open(self, StreamKind::Factor, caller, Some(factor.sid), topics, MAX_LIFE)?;
        Ok(EventStream::new(session, Source::Factor(FactorSource::new(factor))))
    }

    /// Opens a stream of the `selected` events of a service. It begins after the position `last_event_id` of the audit
    /// log, or now if there is none.
    ///
    /// # Errors
    /// Fails like [`challenge_stream`](Self::challenge_stream).
    pub fn service_stream(
        self: &Arc<Self>,
        caller: StreamCaller,
        service: &Service,
        selected: EventSelection,
        last_event_id: Option<&str>,
    ) -> Result<EventStream, Error> {
        let topics = vec![Topic::Account(service.account_sid)];
        let mut session = Session::open(self, StreamKind::Service, caller, None, topics, MAX_LIFE)?;
        session.follow_chain();
        let source = ServiceSource::new(service, selected, last_event_id);
        Ok(EventStream::new(session, Source::Service(Box::new(source))))
    }

    /// Makes all streams of this process read again, because the clock has moved.
    pub fn refresh_streams(&self) {
        self.feed.wake_all();
    }

    /// Ends all streams, and refuses new ones. Call this when the server stops.
    pub fn end_streams(&self) {
        self.streams.drain();
        self.feed.wake_all();
    }
}

/// Counts the time from a change until a stream has read it.
fn observe_delay(at: Timestamp, now: Timestamp) {
    METRICS.stream_delay.observe(at.until(now).as_secs_f64());
}
