//! Responses whose body follows over a long time.

use std::io;
use std::task::Poll;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::Stream;
use futures_util::stream::poll_fn;

use crate::connection::Connection;

/// Makes nginx pass on each chunk at once, instead of waiting until a buffer is full.
const UNBUFFERED: (&str, &str) = ("X-Accel-Buffering", "no");

/// Returns a response of this media type whose chunks are sent as they come. Neither the time limit of handlers nor the
/// limit on concurrent requests applies to the body.
///
/// While the body is sent, the connection waits for the server, so it does not end for lack of a next request. The body
/// is dropped as soon as the client closes its side of the connection.
pub fn streaming_response(
    request: &HttpRequest,
    media_type: &str,
    body: impl Stream<Item = io::Result<Bytes>> + 'static,
) -> HttpResponse {
    let connection = request.conn_data::<Connection>().cloned();
    let busy = connection.as_ref().map(Connection::begin_request);
    let mut body = Box::pin(body);
    let body = poll_fn(move |cx| {
        // The closure owns the guard.
        let _ = &busy;
        match connection.as_ref().is_some_and(Connection::is_half_closed) {
            true => Poll::Ready(None),
            false => body.as_mut().poll_next(cx),
        }
    });
    streaming_head(media_type).streaming(body)
}

/// Returns the response to a `HEAD` request for which [`streaming_response`] would answer a `GET` request.
pub fn streaming_response_head(media_type: &str) -> HttpResponse {
    streaming_head(media_type).finish()
}

fn streaming_head(media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((header::CONTENT_TYPE, media_type)).insert_header(UNBUFFERED);
    head
}
