//! An HTTP/1.1 connection that carries one request at a time.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Maximum size of a response's status line and headers, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Maximum time to wait until a connection is ready for the next request after the response was read.
const READY_TIMEOUT: Duration = Duration::from_millis(100);

/// An HTTP/1.1 connection. Dropping this value closes the connection immediately, even if the receiver
/// neither reads nor closes.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    /// Starts HTTP/1.1 on a connected stream.
    ///
    /// # Errors
    /// Returns the HTTP library's error if the connection cannot be set up.
    pub(crate) async fn open<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            // Some receivers require the spelling `X-Twilio-Signature` rather than `x-twilio-signature`.
            .title_case_headers(true)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let driver = tokio::spawn(async move {
            // Ignored here because `send_request` returns the same error.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: driver.abort_handle() })
    }

    /// Sends a request and waits for the response's status and headers. The body is read later.
    ///
    /// # Errors
    /// Returns an error if the connection is closed or the response is not valid HTTP.
    pub(crate) async fn send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Returns whether the connection can carry another request. Waits up to 100 ms for the request to be
    /// sent completely: a receiver that responded early may never read the rest.
    pub(crate) async fn is_reusable(&mut self) -> bool {
        matches!(timeout(READY_TIMEOUT, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Returns whether the connection is known to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;
    use tokio::runtime::Handle;
    use tokio::task::yield_now;

    use super::*;

    /// A stream whose peer neither reads, writes, nor closes. Even closing such a stream can hang, as with
    /// TLS.
    struct StuckStream;

    impl AsyncRead for StuckStream {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for StuckStream {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn dropped_connection_is_closed_even_if_the_receiver_hangs() {
        let mut connection = Connection::open(StuckStream).await.unwrap();
        let request = hyper::Request::post("/").body(Full::from("form")).unwrap();
        assert!(timeout(Duration::from_millis(10), connection.send(request)).await.is_err());
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        drop(connection);
        let task_ended = async {
            while Handle::current().metrics().num_alive_tasks() > 0 {
                yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(10), task_ended).await.is_ok());
    }
}
