//! Bodies, as they come in.
//!
//! A body is read before anybody looks at the request, wanted or not: one that is left unread ends the
//! connection, and with it the next request of a client that was only told that something is wrong.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use domain::Code;
use futures_util::StreamExt as _;

use crate::under_way::{Room, UnderWay};

/// Largest body, in bytes.
const MAX: usize = 64 * 1024;

/// What is read and dropped of a body that is too large, in bytes and for how long, so that its sender
/// gets to hear of it instead of a broken connection.
const MAX_DROPPED: usize = 1024 * 1024;
const DROPPING: Duration = Duration::from_secs(1);

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a body may have of the memory without asking for room, in bytes: enough for almost every one, so that
/// strangers who send large ones at leisure keep nobody else's out.
const SMALL: usize = 4 * 1024;

/// A body, or why there is none: 20413 for one of over 64 KiB, 20408 for one that did not arrive in time, or
/// not whole, 20503 for a large one when there is no room for it. The connection is of no more use then. Kept until
/// it is known who calls.
pub(crate) type Body = Result<Bytes, Code>;

/// Reads a body to its end. It has its room until that is dropped.
pub(crate) async fn read(payload: &mut Payload, under_way: &UnderWay) -> (Body, Option<Room>) {
    let mut room = None;
    let whole = tokio::time::timeout(PATIENCE, whole(payload, under_way, &mut room));
    let body = whole.await.unwrap_or(Err(Code::RequestTimeout));
    if matches!(body, Err(Code::PayloadTooLarge | Code::Unavailable)) {
        let _ = tokio::time::timeout(DROPPING, drop_some(payload)).await;
    }
    (body, room)
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

async fn whole(payload: &mut Payload, under_way: &UnderWay, room: &mut Option<Room>) -> Body {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        // The connection broke, or the chunks are malformed: nobody will read the answer.
        let chunk = chunk.map_err(|_| Code::RequestTimeout)?;
        let length = bytes.len() + chunk.len();
        if length > MAX {
            return Err(Code::PayloadTooLarge);
        }
        if length > SMALL && room.is_none() {
            // For the largest at once, since nobody knows what is still to come.
            *room = Some(under_way.room(MAX).ok_or(Code::Unavailable)?);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn drop_some(payload: &mut Payload) {
    let mut length = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        length += chunk.len();
        if length > MAX_DROPPED {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use futures_util::{Stream, stream};

    use super::*;

    async fn received(chunks: &[usize], under_way: &UnderWay) -> (Result<usize, Code>, Option<Room>) {
        let chunks: Vec<_> =
            chunks.iter().map(|length| Ok::<_, PayloadError>(Bytes::from(vec![b'a'; *length]))).collect();
        let chunks: Pin<Box<dyn Stream<Item = _>>> = Box::pin(stream::iter(chunks));
        let mut payload = Payload::Stream { payload: chunks };
        let (body, room) = read(&mut payload, under_way).await;
        (body.map(|body| body.len()), room)
    }

    #[actix_web::test]
    async fn large_bodies_share_their_room_and_small_ones_need_none() {
        let under_way = UnderWay::default();
        let mut large = Vec::new();
        let refused = loop {
            match received(&[SMALL, 1], &under_way).await {
                (Ok(length), Some(room)) => {
                    assert_eq!(length, SMALL + 1);
                    large.push(room);
                }
                (refused, room) => {
                    assert!(room.is_none());
                    break refused;
                }
            }
        };
        assert_eq!((refused, large.len()), (Err(Code::Unavailable), 512));
        assert_eq!(received(&[1, SMALL - 1], &under_way).await.0, Ok(SMALL));
        large.pop();
        assert_eq!(received(&[MAX], &under_way).await.0, Ok(MAX));
        assert_eq!(received(&[MAX, 1], &under_way).await.0, Err(Code::PayloadTooLarge));
    }
}
