//! One connection of a client, and its deadlines.
//!
//! The HTTP library bounds only the time for the first request head. Here every wait for the client has a deadline: for
//! a head, for the next request, and for the client to read an answer. The deadline of a body is in `incoming.rs`.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::admission::Admitted;

/// How long a request head may take to arrive, from its first byte. Also how long a new connection may stay silent.
const HEAD: Duration = Duration::from_secs(10);

/// The same on a connection on which every request is refused.
const HEAD_WHEN_REFUSED: Duration = Duration::from_secs(2);

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(75);

/// How long a client may read nothing of an answer.
const UNREAD: Duration = Duration::from_secs(75);

/// Bytes a second that a client must read on average, once it has fallen behind.
const READ_RATE: f64 = 1024.0;

/// How long to wait for the client to close its side after the last answer. A socket that is closed while input is
/// unread resets the connection, and the client may lose the answer (RFC 9112 section 9.6).
const CLOSING: Duration = Duration::from_secs(1);

/// The answer to a request head that did not arrive in time. There is no request yet that could have an id.
const LATE_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A socket, with TLS or without.
pub(crate) trait Socket: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Socket for T {}

/// A client's connection. Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Connection(Rc<Shared>);

struct Shared {
    local: SocketAddr,
    is_secure: bool,
    admitted: Admitted,
    stream: RefCell<Pin<Box<dyn Socket>>>,
    waiting: RefCell<Waiting>,
}

/// What the server waits for, and until when.
struct Waiting {
    phase: Phase,
    head: Duration,
    /// The instant until which the client must go on reading, while it has fallen behind.
    unread: Option<Instant>,
    /// Whether an answer has announced the end of the connection.
    is_last: bool,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of the next request has arrived.
    Idle(Instant),
    /// A part of a request head has arrived.
    Head(Instant),
    /// The application has a request.
    Busy,
    /// The deadline has passed.
    Over,
}

impl Waiting {
    fn new(head: Duration) -> Self {
        let phase = Phase::Idle(Instant::now() + head);
        Self { phase, head, unread: None, is_last: false, timer: Box::pin(sleep(head)) }
    }

    /// Notes that bytes have arrived.
    fn received(&mut self) {
        if matches!(self.phase, Phase::Idle(_)) {
            self.phase = Phase::Head(Instant::now() + self.head);
        }
    }

    /// Notes that the client has fallen behind with reading.
    fn blocked(&mut self) {
        self.unread.get_or_insert_with(|| Instant::now() + UNREAD);
    }

    /// Notes that the client has made room for `bytes` more.
    fn sent(&mut self, bytes: usize) {
        let now = Instant::now();
        if let Some(until) = &mut self.unread {
            *until = (*until + Duration::from_secs_f64(bytes as f64 / READ_RATE)).min(now + UNREAD);
        }
        match &mut self.phase {
            Phase::Idle(until) => *until = (*until).max(now + IDLE),
            // The rest of the head may be waiting behind the answer.
            Phase::Head(until) => *until = (*until).max(now + self.head),
            Phase::Busy | Phase::Over => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match (self.unread, self.phase) {
            (Some(until), _) | (None, Phase::Idle(until) | Phase::Head(until)) => Some(until),
            (None, Phase::Busy | Phase::Over) => None,
        }
    }

    /// Ready once the deadline has passed. Otherwise the task is woken then.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// A request that the application has; the wait for the next one begins when this is dropped.
pub(crate) struct Begun(Connection);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.waiting.borrow_mut().phase = Phase::Idle(Instant::now() + IDLE);
    }
}

impl Connection {
    /// The connection of this socket, of which `local` is the server's end.
    pub(crate) fn new(
        stream: impl Socket + 'static,
        is_secure: bool,
        local: SocketAddr,
        admitted: Admitted,
    ) -> Self {
        let head = if admitted.refusal().is_some() { HEAD_WHEN_REFUSED } else { HEAD };
        let waiting = RefCell::new(Waiting::new(head));
        let stream: Pin<Box<dyn Socket>> = Box::pin(stream);
        Self(Rc::new(Shared { local, is_secure, admitted, stream: RefCell::new(stream), waiting }))
    }

    /// The server's end.
    pub(crate) fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Whether the connection is encrypted by this server.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.is_secure
    }

    /// Why every request of the connection is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Code> {
        self.0.admitted.refusal()
    }

    /// Notes that a request head is complete.
    pub(crate) fn begin(&self) -> Begun {
        self.0.waiting.borrow_mut().phase = Phase::Busy;
        Begun(self.clone())
    }

    /// Notes that no request after this one is answered.
    pub(crate) fn end(&self) {
        self.0.waiting.borrow_mut().is_last = true;
    }

    /// Whether an earlier request was the last one: requests that were sent behind it must not be processed
    /// (RFC 9112 section 9.6).
    pub(crate) fn has_ended(&self) -> bool {
        self.0.waiting.borrow().is_last
    }

    /// Closes the connection, so that the client gets what was sent to it.
    pub(crate) async fn close(mut self) {
        let _ = timeout(CLOSING, async {
            self.0.waiting.borrow_mut().phase = Phase::Busy;
            self.shutdown().await?;
            let mut dropped = [0; 4096];
            while self.read(&mut dropped).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }

    /// Pending until the client has left an answer unread for too long, and an error then.
    fn poll_unread<T>(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut waiting = self.0.waiting.borrow_mut();
        waiting.blocked();
        waiting.poll_deadline(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Answers a head that did not arrive in time, if anything of it did and nothing else is being sent.
    fn expire(&self, cx: &mut Context<'_>) {
        let mut waiting = self.0.waiting.borrow_mut();
        if matches!(waiting.phase, Phase::Head(_)) && waiting.unread.is_none() {
            // It fits into the buffer of any socket that nothing else is in.
            let _ = self.0.stream.borrow_mut().as_mut().poll_write(cx, LATE_HEAD);
        }
        waiting.phase = Phase::Over;
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.waiting.borrow().phase == Phase::Over {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = self.0.stream.borrow_mut().as_mut().poll_read(cx, buf);
        if buf.filled().len() > before {
            self.0.waiting.borrow_mut().received();
        }
        if read.is_pending() && self.0.waiting.borrow_mut().poll_deadline(cx).is_ready() {
            self.expire(cx);
            // The end of the input.
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.stream.borrow_mut().as_mut().poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.0.waiting.borrow_mut().sent(bytes);
        }
        if written.is_pending() { self.poll_unread(cx) } else { written }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.0.stream.borrow_mut().as_mut().poll_flush(cx);
        if flushed.is_pending() {
            return self.poll_unread(cx);
        }
        let mut waiting = self.0.waiting.borrow_mut();
        waiting.unread = None;
        // The phase may have changed since the last read, which alone would not wake the task.
        if waiting.poll_deadline(cx).is_ready() {
            drop(waiting);
            self.expire(cx);
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = self.0.stream.borrow_mut().as_mut().poll_shutdown(cx);
        if shut_down.is_pending() { self.poll_unread(cx) } else { shut_down }
    }
}
