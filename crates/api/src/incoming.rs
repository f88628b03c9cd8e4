//! Reads request bodies.
//!
//! A small body is read before anything else is decided, wanted or not: a body that is left unread ends the connection,
//! and with it the next request of a client that was only refused. A large one is kept only for a caller whose
//! credentials are good; of any other one it is read and dropped.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use domain::{Code, Problem};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::under_way::Room;

/// Largest body, in bytes.
pub(crate) const MAX: usize = 64 * 1024;

/// What is read and dropped of a body that is too large, in bytes and for how long, so that its sender
/// gets the answer instead of a broken connection.
const MAX_DROPPED: usize = 1024 * 1024;
const DROPPING: Duration = Duration::from_secs(1);

/// How long a body may take to arrive, and how much longer each byte that has arrived lets it take: 1 KiB a second.
const GRACE: Duration = Duration::from_secs(10);
const PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / 1024);

/// Largest body, in bytes, that is kept in memory before the credentials are checked: enough for almost every one.
const SMALL: usize = 4 * 1024;

/// A body, or why there is none: 20413 for one of over 64 KiB, 20408 for one that arrived too slowly,
/// 60306 for one with malformed chunks or that ended too soon, 20503 for a large one when there is no room for it, 20003 for a large one of a caller
/// without good credentials. The caller's credentials are checked before this is told.
pub(crate) type Body = Result<Bytes, Problem>;

/// What came of reading a body.
pub(crate) struct Received {
    pub(crate) body: Body,
    /// Whether the body was read to its end. Otherwise the connection is of no more use.
    pub(crate) is_whole: bool,
    /// Memory that a large body has, until this is dropped.
    pub(crate) _room: Option<Room>,
}

impl Received {
    /// The absence of a body.
    pub(crate) fn nothing() -> Self {
        Self { body: Ok(Bytes::new()), is_whole: true, _room: None }
    }
}

/// Whether a large body is kept.
pub(crate) enum Large {
    Keep(Room),
    /// Its caller has no good credentials, or there is nothing at this address that takes one.
    Drop,
}

/// Reads a body to its end, which is after `length` bytes if that is given. `admit` decides about a large one.
pub(crate) async fn read(
    payload: &mut Payload,
    length: Option<usize>,
    admit: impl AsyncFnOnce() -> Result<Large, Code>,
) -> Received {
    let mut reading = Reading { payload, length, received: 0, began: Instant::now() };
    let mut room = None;
    let body = reading.body(admit, &mut room).await;
    let is_refused = |code| body.as_ref().is_err_and(|problem| problem.code() == code);
    if is_refused(Code::PayloadTooLarge) || is_refused(Code::Unavailable) {
        let _ = timeout(DROPPING, reading.drop_some()).await;
    }
    let is_whole = body.is_ok() || is_refused(Code::Authenticate);
    Received { body, is_whole, _room: room }
}

/// A body that is being read.
struct Reading<'a> {
    payload: &'a mut Payload,
    length: Option<usize>,
    received: usize,
    began: Instant,
}

impl Reading<'_> {
    async fn body(
        &mut self,
        admit: impl AsyncFnOnce() -> Result<Large, Code>,
        room: &mut Option<Room>,
    ) -> Body {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > SMALL {
                return match admit().await? {
                    Large::Keep(kept) => {
                        *room = Some(kept);
                        self.rest(bytes).await
                    }
                    Large::Drop => {
                        drop(bytes);
                        while self.chunk().await?.is_some() {}
                        Err(Code::Authenticate.into())
                    }
                };
            }
        }
        Ok(bytes.freeze())
    }

    async fn rest(&mut self, mut bytes: BytesMut) -> Body {
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// The next part of the body; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.length.is_some_and(|length| self.received >= length) {
            return Ok(None);
        }
        let received = u32::try_from(self.received).unwrap_or(u32::MAX);
        let chunk = timeout_at(self.began + GRACE + PER_BYTE * received, self.payload.next()).await;
        let Some(chunk) = chunk.map_err(|_| Code::RequestTimeout)? else { return Ok(None) };
        let mut chunk =
            chunk.map_err(|_| Problem::with(Code::InvalidRequest, "the body is incomplete or malformed"))?;
        if let Some(length) = self.length {
            chunk.truncate(length - self.received);
        }
        self.received += chunk.len();
        if self.received > MAX {
            return Err(Code::PayloadTooLarge.into());
        }
        Ok(Some(chunk))
    }

    async fn drop_some(&mut self) {
        let mut length = 0;
        while let Some(Ok(chunk)) = self.payload.next().await {
            length += chunk.len();
            if length > MAX_DROPPED {
                break;
            }
        }
    }
}

/// The body of an answer to a request whose own has not come to its end. The library ends the connection after the
/// answer if what is left is still held then; else it would wait for the rest of a chunked one, for ever.
pub(crate) struct Unread {
    body: BoxBody,
    _left: Payload,
}

impl Unread {
    /// Holds what is left until the answer is sent.
    pub(crate) fn after(body: BoxBody, left: Payload) -> BoxBody {
        Self { body, _left: left }.boxed()
    }
}

impl MessageBody for Unread {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use app::Caller;
    use domain::{AccountSid, Sid as _};
    use futures_util::{Stream, stream};

    use crate::under_way::UnderWay;

    use super::*;

    fn payload(chunks: Vec<Result<Bytes, PayloadError>>) -> Payload {
        let chunks: Pin<Box<dyn Stream<Item = _>>> = Box::pin(stream::iter(chunks));
        Payload::Stream { payload: chunks }
    }

    async fn received(
        chunks: &[usize],
        admit: impl AsyncFnOnce() -> Result<Large, Code>,
    ) -> (Result<usize, Code>, bool) {
        let chunks = chunks.iter().map(|length| Ok(Bytes::from(vec![b'a'; *length]))).collect();
        let received = read(&mut payload(chunks), None, admit).await;
        (received.body.map(|body| body.len()).map_err(|problem| problem.code()), received.is_whole)
    }

    #[actix_web::test]
    async fn a_large_body_is_kept_only_if_it_is_admitted() {
        let under_way = UnderWay::default();
        let account = Caller::Account(AccountSid::from_bytes([1; 16]));
        let keep = async || under_way.room(&account, MAX).map(Large::Keep).ok_or(Code::Unavailable);
        let strange = async || Ok::<_, Code>(Large::Drop);
        let full = async || Err::<Large, _>(Code::Unavailable);
        assert_eq!(received(&[SMALL, 1], &keep).await, (Ok(SMALL + 1), true));
        assert_eq!(received(&[MAX], &keep).await, (Ok(MAX), true));
        assert_eq!(received(&[MAX, 1], &keep).await, (Err(Code::PayloadTooLarge), false));
        assert_eq!(received(&[SMALL, 1], &strange).await, (Err(Code::Authenticate), true));
        assert_eq!(received(&[MAX, 1], &strange).await, (Err(Code::PayloadTooLarge), false));
        assert_eq!(received(&[MAX], &full).await, (Err(Code::Unavailable), false));
    }

    #[actix_web::test]
    async fn a_small_body_needs_no_admission() {
        let outcome = received(&[1, SMALL - 1], async || panic!("admission of a small body")).await;
        assert_eq!(outcome, (Ok(SMALL), true));
    }

    #[actix_web::test]
    async fn a_body_ends_at_its_length_though_the_stream_goes_on() {
        let chunks = vec![Ok(Bytes::from_static(b"A=1")), Err(PayloadError::Overflow)];
        let received = read(&mut payload(chunks), Some(3), async || Ok(Large::Drop)).await;
        assert_eq!(received.body, Ok(Bytes::from_static(b"A=1")));
    }
}
