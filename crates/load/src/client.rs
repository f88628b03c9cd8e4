//! An HTTP/1.1 client that sends one request at a time on a connection that it keeps.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::target::{Request, Stream, Target};

/// Maximum time from sending a request until its response has been received completely, as in the SDKs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client with at most one connection, which is opened by the first request and again after it was closed.
pub(crate) struct Client<'a> {
    target: &'a Target,
    connection: Option<Connection>,
}

/// A response, completely received.
pub(crate) struct Reply {
    /// HTTP status code.
    pub(crate) status: StatusCode,
    /// The response headers.
    pub(crate) headers: HeaderMap,
    /// The response body; empty if there is none.
    pub(crate) body: Bytes,
}

impl Reply {
    /// Returns the response if its status is a success.
    pub(crate) fn require_success(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(Failure::refused(self.status.as_u16(), &self.body))
        }
    }
}

impl<'a> Client<'a> {
    /// Creates a client without a connection.
    pub(crate) const fn new(target: &'a Target) -> Self {
        Self { target, connection: None }
    }

    /// Sends a request and returns the response, with any status.
    ///
    /// # Errors
    /// Returns [`Failure::NoResponse`] if no complete response is received within 30 seconds. The next request opens a
    /// new connection then.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Reply, Failure> {
        // The connection is put back only after a complete response.
        let kept = self.connection.take();
        let exchange = async {
            let mut connection = match Connection::if_usable(kept).await {
                Some(connection) => connection,
                None => Connection::open(self.target).await?,
            };
            let reply = connection.exchange(request).await.map_err(|error| Failure::no_response(&error))?;
            Ok::<_, Failure>((connection, reply))
        };
        let timed_out = |_| Failure::NoResponse(format!("timed out after {} s", REQUEST_TIMEOUT.as_secs()));
        let (connection, reply) = timeout(REQUEST_TIMEOUT, exchange).await.map_err(timed_out)??;
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// An open connection. The task of the request also drives the connection: a task of its own would cost each request
/// two more switches between tasks.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>,
    /// Whether the driver has finished. It must not be polled again then.
    is_closed: bool,
}

impl Connection {
    async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = target.connect().await.map_err(|error| Failure::no_response(&error))?;
        let (sender, driver) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::no_response(&error))?;
        Ok(Self { sender, driver, is_closed: false })
    }

    /// Returns the connection if it can carry another request. The server may have closed it in the meantime.
    async fn if_usable(connection: Option<Self>) -> Option<Self> {
        let mut connection = connection?;
        let is_usable = poll_fn(|context| {
            connection.drive(context);
            if connection.is_closed {
                return Poll::Ready(false);
            }
            Poll::Ready(ready!(connection.sender.poll_ready(context)).is_ok())
        });
        is_usable.await.then_some(connection)
    }

    async fn exchange(&mut self, request: Request) -> hyper::Result<Reply> {
        let response = self.sender.send_request(request);
        let mut reply = pin!(async {
            let (head, body) = response.await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply { status: head.status, headers: head.headers, body })
        });
        poll_fn(|context| {
            // An error of the connection is returned by `response` or `body` too.
            self.drive(context);
            reply.as_mut().poll(context)
        })
        .await
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.is_closed {
            self.is_closed = Pin::new(&mut self.driver).poll(context).is_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;
    use hyper::header::HeaderValue;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Reads one request without a body, and returns its text.
    async fn read_request(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    fn request(target: &Target) -> Request {
        target.request(Method::GET, "/v2/Services", HeaderValue::from_static("Basic x"), None).unwrap()
    }

    #[tokio::test]
    async fn connection_is_kept_and_opened_again_after_the_server_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async {
            // The first connection only checks that the server can be reached.
            drop(listener.accept().await.unwrap());
            let mut requests = Vec::new();
            for responses in [2, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                for _ in 0..responses {
                    requests.push(read_request(&mut stream).await);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
                }
            }
            requests
        };
        let client = async {
            let target = Target::resolve(&url).await.unwrap();
            let mut client = Client::new(&target);
            for _ in 0..3 {
                let reply = client.send(request(&target)).await.unwrap().require_success().unwrap();
                assert_eq!(reply.body, "{}");
            }
        };
        let (requests, ()) = tokio::join!(server, client);
        assert_eq!(requests.len(), 3);
        assert!(requests[0].starts_with("GET /v2/Services HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", requests[0]);
        assert!(requests[0].contains("\r\nAuthorization: Basic x\r\n"), "{}", requests[0]);
    }

    #[tokio::test]
    async fn response_that_ends_early_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").await.unwrap();
        };
        let client = async {
            let target = Target::resolve(&url).await.unwrap();
            Client::new(&target).send(request(&target)).await.err()
        };
        let ((), failure) = tokio::join!(server, client);
        assert!(matches!(failure, Some(Failure::NoResponse(_))), "{failure:?}");
    }
}
