//! How a name becomes a connection. Nothing else in this crate connects, so that nothing gets past the
//! [guard](crate::guard).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::connection::Connection;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::outcome::{Failure, Outcome};
use crate::tls;

/// How many of a name's addresses are tried. A name can be given hundreds, and would make of one
/// delivery a scan of other people's ports.
const MAX_ADDRESSES: usize = 8;

/// How long an address is tried alone before the next is tried beside it (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Makes connections.
pub(crate) struct Dialer {
    guard: Guard,
    names: Box<dyn Names>,
    tls: TlsConnector,
}

impl Dialer {
    pub(crate) fn new(guard: Guard, tls: TlsConnector) -> Self {
        Self { guard, names: Box::new(SystemNames), tls }
    }

    /// A new connection to the host and port of `url`, with TLS where the scheme asks for it.
    ///
    /// The connect timeout is for what comes before the first byte: the name and TCP. A handshake waits
    /// for the receiver's words as a request does, so it has the read timeout.
    pub(crate) async fn dial(&self, url: &Url, limits: &Limits) -> Result<Connection, Failure> {
        let socket = limits.connect(self.reach(url)).await??;
        let connection = if url.scheme() == "https" {
            let handshake = limits.read(self.tls.connect(server_name(url)?, socket)).await;
            let stream = handshake
                .map_err(|late| Failure { outcome: Outcome::HandshakeFailed, ..late })?
                .map_err(|error| Failure::because(tls::outcome(&error), &error))?;
            Connection::open(stream).await
        } else {
            Connection::open(socket).await
        };
        connection.map_err(|error| Failure::because(Outcome::ConnectFailed, &error))
    }

    async fn reach(&self, url: &Url) -> Result<TcpStream, Failure> {
        let addresses = match url.host() {
            Some(Host::Domain(name)) => self
                .names
                .addresses(name)
                .await
                .map_err(|error| Failure::because(Outcome::NameUnresolved, &error))?,
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            None => Vec::new(),
        };
        if addresses.is_empty() {
            return Err(Outcome::NameUnresolved.into());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let permitted = addresses.iter().filter(|address| self.guard.permits(**address));
        let permitted: Vec<_> =
            permitted.take(MAX_ADDRESSES).map(|address| SocketAddr::new(*address, port)).collect();
        if permitted.is_empty() {
            let cause = addresses.first().map(ToString::to_string);
            return Err(Failure { outcome: Outcome::AddressForbidden, cause });
        }
        let socket =
            race(permitted).await.map_err(|error| Failure::because(Outcome::ConnectFailed, &error))?;
        // A request is written at once; if the system won't hear of it, it is only slower.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }
}

/// The first address that answers. One that fails makes way for the next at once; one that is silent
/// gets company (RFC 8305).
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        running.extend(waiting.next().map(TcpStream::connect));
        tokio::select! {
            finished = running.next() => match finished {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, Failure> {
    let host = match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()),
        Some(Host::Ipv4(address)) => Ok(IpAddr::from(address).into()),
        Some(Host::Ipv6(address)) => Ok(IpAddr::from(address).into()),
        None => return Err(Outcome::NameUnresolved.into()),
    };
    host.map_err(|error| Failure::because(Outcome::NameUnresolved, &error))
}

/// Who knows where names lead.
trait Names: Send + Sync {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
struct SystemNames;

impl Names for SystemNames {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use domain::webhooks::Overrides;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;
    use crate::sender::Settings;

    /// A name service that answers at once, or never.
    struct Answers<F>(F);

    impl<F: Fn(&str) -> Option<Vec<&'static str>> + Send + Sync> Names for Answers<F> {
        fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            match (self.0)(name) {
                Some(addresses) => {
                    let addresses = addresses.into_iter().map(|address| address.parse().unwrap()).collect();
                    Box::pin(async { Ok(addresses) })
                }
                None => Box::pin(std::future::pending()),
            }
        }
    }

    /// Allows 127.0.0.0/8 and nothing else that is special.
    fn dialer<F>(answers: F) -> Dialer
    where
        F: Fn(&str) -> Option<Vec<&'static str>> + Send + Sync + 'static,
    {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Dialer { guard, names: Box::new(Answers(answers)), tls: tls::connector(None).unwrap() }
    }

    fn url(port: u16) -> Url {
        format!("http://receiver.example:{port}/").parse().unwrap()
    }

    fn patient() -> Limits {
        Limits::new(&Settings::default(), &Overrides::default())
    }

    async fn outcome(dialer: &Dialer, url: &Url) -> Outcome {
        dialer.dial(url, &patient()).await.err().map_or(Outcome::Delivered, |failure| failure.outcome)
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn forbidden_answers_are_passed_over() {
        let (_listener, port) = listener().await;
        let mixed = dialer(|_| Some(vec!["169.254.169.254", "::1", "::ffff:10.0.0.1", "127.0.0.1"]));
        let socket = mixed.reach(&url(port)).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn only_forbidden_answers_are_told_from_none() {
        let inside = dialer(|_| Some(vec!["10.0.0.1", "fd00::1", "64:ff9b::a00:1"]));
        assert_eq!(outcome(&inside, &url(80)).await, Outcome::AddressForbidden);
        let nowhere = dialer(|_| Some(Vec::new()));
        assert_eq!(outcome(&nowhere, &url(80)).await, Outcome::NameUnresolved);
    }

    #[tokio::test]
    async fn a_name_that_turns_inwards_is_refused() {
        let (_listener, port) = listener().await;
        let turned = AtomicBool::new(false);
        let rebinding = dialer(move |_| {
            Some(vec![if turned.swap(true, Ordering::Relaxed) { "192.168.0.1" } else { "127.0.0.1" }])
        });
        assert_eq!(outcome(&rebinding, &url(port)).await, Outcome::Delivered);
        assert_eq!(outcome(&rebinding, &url(port)).await, Outcome::AddressForbidden);
    }

    #[tokio::test]
    async fn literal_addresses_are_not_looked_up() {
        let dialer = dialer(|name| panic!("looked up {name}"));
        for host in ["10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "0xa.1", "167772161", "012.0.0.1", "10.0.0.1."]
        {
            let url = format!("http://{host}/").parse().unwrap();
            assert_eq!(outcome(&dialer, &url).await, Outcome::AddressForbidden, "{host}");
        }
    }

    #[tokio::test]
    async fn a_slow_name_counts_against_the_connect_timeout() {
        let silent = dialer(|_| None);
        let overrides = Overrides { connect: Some(Duration::from_millis(20)), ..Overrides::default() };
        let limits = Limits::new(&Settings::default(), &overrides);
        let failure = silent.dial(&url(80), &limits).await.err().unwrap();
        assert_eq!(failure.outcome, Outcome::ConnectTimedOut);
    }

    #[tokio::test]
    async fn addresses_that_refuse_or_are_silent_make_way() {
        let (_listener, port) = listener().await;
        // With a full backlog the kernel drops who knocks.
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind(SocketAddr::new("127.0.0.3".parse().unwrap(), port)).unwrap();
        let deaf = deaf.listen(0).unwrap();
        let mut knocking = Vec::new();
        let knock = || timeout(HEAD_START, TcpStream::connect(("127.0.0.3", port)));
        while let Ok(connected) = knock().await {
            knocking.push(connected.unwrap());
        }

        let several = dialer(|_| Some(vec!["127.0.0.2", "127.0.0.3", "127.0.0.1"]));
        let socket = several.reach(&url(port)).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().ip().to_string(), "127.0.0.1");
        drop((deaf, knocking));
    }

    #[tokio::test]
    async fn only_so_many_addresses_are_tried() {
        let (_listener, port) = listener().await;
        let scan = dialer(|_| Some([["127.0.0.2"; MAX_ADDRESSES].as_slice(), &["127.0.0.1"]].concat()));
        assert_eq!(outcome(&scan, &url(port)).await, Outcome::ConnectFailed);
    }
}
