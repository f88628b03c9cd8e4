//! A connection on which requests can be sent, one after the other.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How much a receiver may write before the end of its headers.
const MAX_HEAD: usize = 64 * 1024;

/// How long an exchange may take to come to its end when the answer is already there.
const SETTLING: Duration = Duration::from_millis(100);

/// An HTTP/1.1 connection. To drop it is to close it at once: a receiver that neither reads nor hangs up
/// can't keep it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    /// Speaks HTTP on a stream that stands.
    pub(crate) async fn open<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            // `X-Twilio-Signature`, not `x-twilio-signature`: some receivers are particular.
            .title_case_headers(true)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        let driver = tokio::spawn(async move {
            // What goes wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: driver.abort_handle() })
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Whether another request can be sent. Known at once, as a rule; but a receiver that answers before
    /// it has read all of a request may never read the rest.
    pub(crate) async fn settles(&mut self) -> bool {
        matches!(timeout(SETTLING, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Whether it is known to have ended.
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

    /// The other side neither reads nor writes, and does not even let go, as behind TLS it need not.
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
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
    async fn nobody_can_keep_a_connection() {
        let mut connection = Connection::open(Stuck).await.unwrap();
        let request = hyper::Request::post("/").body(Full::from("form")).unwrap();
        assert!(timeout(Duration::from_millis(10), connection.send(request)).await.is_err());
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        drop(connection);
        let gone = async {
            while Handle::current().metrics().num_alive_tasks() > 0 {
                yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok());
    }
}
