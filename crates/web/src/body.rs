//! Reads request bodies.
//!
//! A small body is always read first, before any other check. If it were left unread, the connection would have to be
//! closed after the response, and a refused request could make the client's next request fail too. A large body is kept
//! only for an authenticated caller; otherwise it is read and discarded.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use domain::{Code, Problem};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::load_shedding::BodyPermit;

/// Maximum length of a request body in bytes, unless a route sets another one.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Maximum number of body bytes that are kept in memory before authentication, without a permit for large bodies.
/// Almost every request body fits.
const UNMETERED_BODY_BYTES: usize = 4 * 1024;

/// Maximum number of bytes of a refused body that are read and discarded. Reading them lets the client receive the
/// response instead of a connection reset.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;

/// Maximum time during which a refused body is read and discarded.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time for a body to arrive, before [`BODY_TIMEOUT_PER_BYTE`] is added for each byte that has arrived.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time added to [`BODY_TIMEOUT`] for each byte of a body that has arrived. Beyond the first ten seconds, a client must
/// therefore send at least 1 KiB per second on average.
const BODY_TIMEOUT_PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / 1024);

/// A request body, or the problem that prevented its use:
///
/// - Error code 20413: the body is longer than the route permits. Error code 20408: it arrived too slowly.
/// - Error code 60306: its chunks are malformed, or it ended too soon.
/// - Error code 20503: it is large, and the server is overloaded or has too little memory for it. Error code 20003: it
///   is large, and its caller is not authenticated.
///
/// Such a problem is reported only after the caller has been authenticated, unless it must be reported at once
/// (`is_urgent` in `middleware.rs`).
pub type Body = Result<Bytes, Problem>;

/// The result of reading a request body.
pub(crate) struct ReceivedBody {
    pub(crate) body: Body,
    /// Whether the body was read to its end. If not, the connection cannot be used for another request.
    pub(crate) is_complete: bool,
    /// Reserves the memory of a large body until dropped. `None` for a small body.
    pub(crate) _permit: Option<BodyPermit>,
}

impl ReceivedBody {
    /// Returns the result for a request that has no body.
    pub(crate) fn empty() -> Self {
        Self { body: Ok(Bytes::new()), is_complete: true, _permit: None }
    }
}

/// The decision whether to keep a large body.
pub(crate) enum LargeBody {
    /// Keep the body in memory that this permit reserves.
    Keep(BodyPermit),
    /// Read the body and discard it, because the caller is not authenticated or the route takes no body.
    Discard,
}

/// Reads a body of at most `max_bytes` to its end, or only its first `length` bytes if `length` is given. If the body
/// exceeds [`UNMETERED_BODY_BYTES`], calls `admit` once to decide whether to keep it.
pub(crate) async fn read(
    payload: &mut Payload,
    length: Option<usize>,
    max_bytes: usize,
    admit: impl AsyncFnOnce() -> Result<LargeBody, Code>,
) -> ReceivedBody {
    let mut reader = Reader { payload, length, max_bytes, received: 0, began: Instant::now() };
    let mut permit = None;
    let body = reader.read(admit, &mut permit).await;
    let is_refused_with = |code| body.as_ref().is_err_and(|problem| problem.code() == code);
    if is_refused_with(Code::PayloadTooLarge) || is_refused_with(Code::Unavailable) {
        let _ = timeout(DRAIN_TIMEOUT, reader.drain()).await;
    }
    let is_complete = body.is_ok() || is_refused_with(Code::Unauthenticated);
    ReceivedBody { body, is_complete, _permit: permit }
}

/// The reader of one request body. `received` is the number of bytes read so far.
struct Reader<'a> {
    payload: &'a mut Payload,
    length: Option<usize>,
    max_bytes: usize,
    received: usize,
    began: Instant,
}

impl Reader<'_> {
    async fn read(
        &mut self,
        admit: impl AsyncFnOnce() -> Result<LargeBody, Code>,
        permit: &mut Option<BodyPermit>,
    ) -> Body {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > UNMETERED_BODY_BYTES {
                return match admit().await? {
                    LargeBody::Keep(kept) => {
                        *permit = Some(kept);
                        self.read_rest(bytes).await
                    }
                    LargeBody::Discard => {
                        drop(bytes);
                        while self.next_chunk().await?.is_some() {}
                        Err(Code::Unauthenticated.into())
                    }
                };
            }
        }
        Ok(bytes.freeze())
    }

    async fn read_rest(&mut self, mut bytes: BytesMut) -> Body {
        while let Some(chunk) = self.next_chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Returns the next chunk of the body, or `None` at its end.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.length.is_some_and(|length| self.received >= length) {
            return Ok(None);
        }
        let received = u32::try_from(self.received).unwrap_or(u32::MAX);
        let deadline = self.began + BODY_TIMEOUT + BODY_TIMEOUT_PER_BYTE * received;
        let chunk = timeout_at(deadline, self.payload.next()).await;
        let Some(chunk) = chunk.map_err(|_| Code::RequestTimeout)? else { return Ok(None) };
        let mut chunk = chunk
            .map_err(|_| Problem::with_advice(Code::InvalidRequest, "the body is incomplete or malformed"))?;
        if let Some(length) = self.length {
            chunk.truncate(length - self.received);
        }
        self.received += chunk.len();
        if self.received > self.max_bytes {
            return Err(Code::PayloadTooLarge.into());
        }
        Ok(Some(chunk))
    }

    /// Reads and discards the rest of the body, up to [`MAX_DRAINED_BYTES`].
    async fn drain(&mut self) {
        let mut length = 0;
        while let Some(Ok(chunk)) = self.payload.next().await {
            length += chunk.len();
            if length > MAX_DRAINED_BYTES {
                break;
            }
        }
    }
}

/// A response body that keeps the unread rest of the request body alive until the response has been sent. actix-web
/// closes the connection after the response only if the rest still exists at that time. Otherwise it would wait without
/// limit for the end of a chunked body.
pub(crate) struct UnreadBody {
    body: BoxBody,
    _rest: Payload,
}

impl UnreadBody {
    /// Wraps the response `body` so that the unread `rest` of the request is kept alive until the response has been
    /// sent.
    pub(crate) fn hold_until_sent(body: BoxBody, rest: Payload) -> BoxBody {
        Self { body, _rest: rest }.boxed()
    }
}

impl MessageBody for UnreadBody {
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
    use futures_util::{Stream, stream};

    use crate::load_shedding::{BodyMemory, LoadShedder};

    use super::*;

    fn payload(chunks: Vec<Result<Bytes, PayloadError>>) -> Payload {
        let chunks: Pin<Box<dyn Stream<Item = _>>> = Box::pin(stream::iter(chunks));
        Payload::Stream { payload: chunks }
    }

    /// Reads a body that arrives in chunks of these lengths, in bytes. Returns the length of the body or the error
    /// code, and whether the body was read to its end.
    async fn read_chunks(
        lengths: &[usize],
        admit: impl AsyncFnOnce() -> Result<LargeBody, Code>,
    ) -> (Result<usize, Code>, bool) {
        let chunks = lengths.iter().map(|length| Ok(Bytes::from(vec![b'a'; *length]))).collect();
        let received = read(&mut payload(chunks), None, MAX_BODY_BYTES, admit).await;
        (received.body.map(|body| body.len()).map_err(|problem| problem.code()), received.is_complete)
    }

    #[actix_web::test]
    async fn large_body_is_kept_only_if_admitted() {
        let load_shedder = LoadShedder::default();
        let keep = async || {
            let permit = load_shedder.reserve_body(BodyMemory::Backends, MAX_BODY_BYTES);
            permit.map(LargeBody::Keep).ok_or(Code::Unavailable)
        };
        let discard = async || Ok::<_, Code>(LargeBody::Discard);
        let refuse = async || Err::<LargeBody, _>(Code::Unavailable);
        let (unmetered, max) = (UNMETERED_BODY_BYTES, MAX_BODY_BYTES);
        assert_eq!(read_chunks(&[unmetered, 1], &keep).await, (Ok(unmetered + 1), true));
        assert_eq!(read_chunks(&[max], &keep).await, (Ok(max), true));
        assert_eq!(read_chunks(&[max, 1], &keep).await, (Err(Code::PayloadTooLarge), false));
        assert_eq!(read_chunks(&[unmetered, 1], &discard).await, (Err(Code::Unauthenticated), true));
        assert_eq!(read_chunks(&[max, 1], &discard).await, (Err(Code::PayloadTooLarge), false));
        assert_eq!(read_chunks(&[max], &refuse).await, (Err(Code::Unavailable), false));
    }

    #[actix_web::test]
    async fn small_body_needs_no_admission() {
        let outcome =
            read_chunks(&[1, UNMETERED_BODY_BYTES - 1], async || panic!("small body requested admission"))
                .await;
        assert_eq!(outcome, (Ok(UNMETERED_BODY_BYTES), true));
    }

    #[actix_web::test]
    async fn body_ends_at_its_length_even_if_the_stream_continues() {
        let chunks = vec![Ok(Bytes::from_static(b"A=1")), Err(PayloadError::Overflow)];
        let received =
            read(&mut payload(chunks), Some(3), MAX_BODY_BYTES, async || Ok(LargeBody::Discard)).await;
        assert_eq!(received.body, Ok(Bytes::from_static(b"A=1")));
    }
}
