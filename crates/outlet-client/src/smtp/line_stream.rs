//! A TCP stream that never gives more than one line to a reader.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Maximum number of bytes read at once.
const MAX_BYTES: usize = 1024;

/// A TCP stream of which each read ends with the end of a line at the latest.
///
/// `lettre` reads replies through a buffer, and keeps it when the connection is encrypted. An attacker on the network
/// could therefore append lines to the reply to STARTTLS, which would count as replies to encrypted commands. With this
/// stream they reach TLS instead, whose handshake then fails. RFC 3207 section 5 requires that they be discarded.
#[derive(Debug)]
pub(super) struct LineStream(TcpStream);

impl LineStream {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl AsyncRead for LineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; MAX_BYTES];
        let limit = MAX_BYTES.min(buffer.remaining());
        let mut peeked = ReadBuf::new(&mut bytes[..limit]);
        ready!(self.0.poll_peek(context, &mut peeked))?;
        let found = peeked.filled();
        let length = found.iter().position(|byte| *byte == b'\n').map_or(found.len(), |end| end + 1);
        if length == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut line = ReadBuf::new(&mut bytes[..length]);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut line))?;
        buffer.put_slice(line.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncTokioStream for LineStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn each_read_ends_with_a_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = LineStream::new(listener.accept().await.unwrap().0);
        client.write_all(b"220 one\r\n220 two\r\nrest").await.unwrap();
        client.shutdown().await.unwrap();
        let mut reads = Vec::new();
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes).await.unwrap() {
                0 => break,
                length => reads.push(String::from_utf8(bytes[..length].to_vec()).unwrap()),
            }
        }
        assert_eq!(reads, ["220 one\r\n", "220 two\r\n", "rest"]);
    }
}
