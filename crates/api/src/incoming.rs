//! Bodies, as they come in.
//!
//! A body is read before anybody looks at the request, wanted or not: one that is left unread ends the
//! connection, and with it the next request of a client that was only told that something is wrong.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use domain::Code;
use futures_util::StreamExt as _;

/// Largest body, in bytes.
const MAX: usize = 64 * 1024;

/// What is read and dropped of a body that is too large, in bytes and for how long, so that its sender
/// gets to hear of it instead of a broken connection.
const MAX_DROPPED: usize = 1024 * 1024;
const DROPPING: Duration = Duration::from_secs(1);

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// A body, or why there is none: 20413 for one of over 64 KiB, 20408 for one that did not arrive in time, or
/// not whole. The connection is of no more use then. Kept until it is known who calls.
pub(crate) type Body = Result<Bytes, Code>;

/// Reads a body to its end.
pub(crate) async fn read(mut payload: Payload) -> Body {
    let body = tokio::time::timeout(PATIENCE, whole(&mut payload)).await.unwrap_or(Err(Code::RequestTimeout));
    if body == Err(Code::PayloadTooLarge) {
        let _ = tokio::time::timeout(DROPPING, drop_some(&mut payload)).await;
    }
    body
}

async fn whole(payload: &mut Payload) -> Body {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        // The connection broke, or the chunks are malformed: nobody will read the answer.
        let chunk = chunk.map_err(|_| Code::RequestTimeout)?;
        if bytes.len() + chunk.len() > MAX {
            return Err(Code::PayloadTooLarge);
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
