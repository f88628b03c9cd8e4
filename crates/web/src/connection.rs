//! A client connection that enforces deadlines.
//!
//! actix-web limits only the time for the first request head. This module sets a deadline for every wait for the
//! client: for a request head to arrive, for the next request to begin, and for the client to read a response.
//! `body.rs` enforces the deadline for request bodies.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::connection_limits::ConnectionPermit;

/// Maximum time for a request head to arrive, measured from its first byte. It also limits how long a new connection
/// may take to send that byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for a request head to arrive on a connection on which every request is refused. It replaces
/// [`HEAD_TIMEOUT`].
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept open for the next request.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// Maximum time that a client may go without reading any of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(75);

/// Minimum average rate at which a client must read a response once it has fallen behind.
const MIN_READ_BYTES_PER_SECOND: f64 = 1024.0;

/// Maximum time to wait for the client to close its side after the last response. Closing a socket with unread input
/// resets the connection, and the client may lose the response (RFC 9112, section 9.6).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The response sent if a request head did not arrive in time. It has no request ID because no request exists yet.
const HEAD_TIMEOUT_RESPONSE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A byte stream to the client: a TCP socket with or without TLS.
pub(crate) trait Socket: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Socket for T {}

/// A client connection. Clones refer to the same connection.
#[derive(Clone)]
pub(crate) struct Connection(Rc<Shared>);

struct Shared {
    local: SocketAddr,
    is_secure: bool,
    permit: ConnectionPermit,
    stream: RefCell<Pin<Box<dyn Socket>>>,
    deadlines: RefCell<Deadlines>,
    is_half_closed: Cell<bool>,
}

/// The connection's current phase and the deadlines that apply to it.
struct Deadlines {
    phase: Phase,
    head_timeout: Duration,
    /// Number of guards that keep the connection busy: of the request, and of a body that is being sent.
    busy: u32,
    /// The instant by which the client must read more of the response; `None` unless the client has fallen behind.
    write: Option<Instant>,
    /// Whether the connection ends after the response to the current request.
    is_last: bool,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte of the next request has arrived yet; the first one must arrive before this instant.
    Idle(Instant),
    /// Part of a request head has arrived. The rest must arrive before this instant.
    Head(Instant),
    /// A request is being handled; no deadline for input applies.
    Busy,
    /// A deadline has passed, so the connection is ending.
    Expired,
}

impl Deadlines {
    fn new(head_timeout: Duration) -> Self {
        let phase = Phase::Idle(Instant::now() + head_timeout);
        let timer = Box::pin(sleep(head_timeout));
        Self { phase, head_timeout, busy: 0, write: None, is_last: false, timer }
    }

    /// Starts the deadline for the request head if the bytes that have just arrived are the first of a new request.
    fn on_received(&mut self) {
        if matches!(self.phase, Phase::Idle(_)) {
            self.phase = Phase::Head(Instant::now() + self.head_timeout);
        }
    }

    /// Starts the deadline for reading the response, because the client has fallen behind. Keeps a deadline that is
    /// already running.
    fn on_blocked(&mut self) {
        self.write.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
    }

    /// Extends the deadlines after `bytes` bytes of a response were sent.
    fn on_sent(&mut self, bytes: usize) {
        let now = Instant::now();
        if let Some(until) = &mut self.write {
            let earned = Duration::from_secs_f64(bytes as f64 / MIN_READ_BYTES_PER_SECOND);
            *until = (*until + earned).min(now + WRITE_TIMEOUT);
        }
        match &mut self.phase {
            Phase::Idle(until) => *until = (*until).max(now + KEEP_ALIVE_TIMEOUT),
            // The rest of the head may already have arrived, but the server reads it only after sending the response.
            Phase::Head(until) => *until = (*until).max(now + self.head_timeout),
            Phase::Busy | Phase::Expired => {}
        }
    }

    /// Returns the instant at which the connection expires, or `None` while the connection waits for the server rather
    /// than for the client.
    fn deadline(&self) -> Option<Instant> {
        match (self.write, self.phase) {
            (Some(until), _) | (None, Phase::Idle(until) | Phase::Head(until)) => Some(until),
            (None, Phase::Busy | Phase::Expired) => None,
        }
    }

    /// Returns `Ready` once the current deadline has passed. Until then, returns `Pending` and schedules the task to be
    /// woken at the deadline or earlier.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        // The deadline is extended with every request. Setting the timer is expensive, so a timer that is too early is
        // set again only when it fires.
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Marks a request as being handled, or its response as being sent. When the last guard is dropped, the timeout for the
/// next request starts.
pub(crate) struct BusyGuard(Connection);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut deadlines = self.0.0.deadlines.borrow_mut();
        deadlines.busy -= 1;
        if deadlines.busy == 0 {
            deadlines.phase = Phase::Idle(Instant::now() + KEEP_ALIVE_TIMEOUT);
        }
    }
}

impl Connection {
    /// Wraps the socket `stream`. `local` is the local (server-side) address of the connection.
    pub(crate) fn new(
        stream: impl Socket + 'static,
        is_secure: bool,
        local: SocketAddr,
        permit: ConnectionPermit,
    ) -> Self {
        let head_timeout = if permit.refusal().is_some() { REFUSED_HEAD_TIMEOUT } else { HEAD_TIMEOUT };
        let deadlines = RefCell::new(Deadlines::new(head_timeout));
        let stream: Pin<Box<dyn Socket>> = Box::pin(stream);
        let (stream, is_half_closed) = (RefCell::new(stream), Cell::new(false));
        Self(Rc::new(Shared { local, is_secure, permit, stream, deadlines, is_half_closed }))
    }

    /// Returns the local (server-side) address of the connection.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.0.local
    }

    /// Returns whether this server terminates TLS for the connection.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.is_secure
    }

    /// Returns the error code with which to refuse every request on this connection, or `None` if requests are served.
    pub(crate) fn refusal(&self) -> Option<Code> {
        self.0.permit.refusal()
    }

    /// Suspends the deadlines for receiving a request until the returned guard is dropped. The caller must call this
    /// method once the request head is complete. A response whose body takes long holds a guard of its own.
    pub(crate) fn begin_request(&self) -> BusyGuard {
        let mut deadlines = self.0.deadlines.borrow_mut();
        deadlines.phase = Phase::Busy;
        deadlines.busy += 1;
        drop(deadlines);
        BusyGuard(self.clone())
    }

    /// Returns whether the client has closed its side of the connection.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.0.is_half_closed.get()
    }

    /// Marks the connection to be closed after the response to the current request.
    pub(crate) fn end_after_response(&self) {
        self.0.deadlines.borrow_mut().is_last = true;
    }

    /// Returns whether an earlier request was the last one on this connection. Any requests that the client sent after
    /// it must not be processed (RFC 9112, section 9.6).
    pub(crate) fn ends_after_response(&self) -> bool {
        self.0.deadlines.borrow().is_last
    }

    /// Closes the connection in a way that lets the client receive the last response. Waits at most [`CLOSE_TIMEOUT`]
    /// for the client to close its side.
    pub(crate) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, async {
            self.0.deadlines.borrow_mut().phase = Phase::Busy;
            self.shutdown().await?;
            let mut dropped = [0; 4096];
            while self.read(&mut dropped).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }

    /// Returns an error of kind `TimedOut` once the client has read too little of a response for too long, and
    /// `Pending` until then.
    fn poll_write_deadline<T>(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut deadlines = self.0.deadlines.borrow_mut();
        deadlines.on_blocked();
        deadlines.poll_deadline(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends the connection when its deadline has passed. Sends a 408 response if part of a request head has arrived and
    /// no response is being sent.
    fn expire(&self, cx: &mut Context<'_>) {
        let mut deadlines = self.0.deadlines.borrow_mut();
        if matches!(deadlines.phase, Phase::Head(_)) && deadlines.write.is_none() {
            // The response fits into the empty send buffer of any socket.
            let _ = self.0.stream.borrow_mut().as_mut().poll_write(cx, HEAD_TIMEOUT_RESPONSE);
        }
        deadlines.phase = Phase::Expired;
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.deadlines.borrow().phase == Phase::Expired {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = self.0.stream.borrow_mut().as_mut().poll_read(cx, buf);
        if buf.filled().len() > before {
            self.0.deadlines.borrow_mut().on_received();
        } else if matches!(read, Poll::Ready(Ok(()))) && buf.remaining() > 0 {
            self.0.is_half_closed.set(true);
        }
        if read.is_pending() && self.0.deadlines.borrow_mut().poll_deadline(cx).is_ready() {
            self.expire(cx);
            // Reading zero bytes signals the end of the input.
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.stream.borrow_mut().as_mut().poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.0.deadlines.borrow_mut().on_sent(bytes);
        }
        if written.is_pending() { self.poll_write_deadline(cx) } else { written }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.0.stream.borrow_mut().as_mut().poll_flush(cx);
        if flushed.is_pending() {
            return self.poll_write_deadline(cx);
        }
        let mut deadlines = self.0.deadlines.borrow_mut();
        deadlines.write = None;
        // Check the deadline here too: the phase may have changed since the last read, and that alone would not wake
        // the task.
        if deadlines.poll_deadline(cx).is_ready() {
            drop(deadlines);
            self.expire(cx);
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = self.0.stream.borrow_mut().as_mut().poll_shutdown(cx);
        if shut_down.is_pending() { self.poll_write_deadline(cx) } else { shut_down }
    }
}
