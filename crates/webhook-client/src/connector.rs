//! Opens connections: name resolution, address check, TCP, and TLS. Nothing else in this crate opens
//! connections, so the [guard](crate::guard) cannot be bypassed.

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
use crate::outcome::{Failure, Outcome};
use crate::timeouts::Deadlines;
use crate::tls;

/// Maximum number of addresses tried per host name. Without a limit, a name with hundreds of addresses would
/// turn one delivery into a port scan.
const MAX_ADDRESSES: usize = 8;

/// Delay before the next address is tried in parallel with the previous ones (RFC 8305 section 5).
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Opens connections to addresses that the guard permits.
pub(crate) struct Connector {
    guard: Guard,
    resolver: Box<dyn Resolver>,
    tls: TlsConnector,
}

impl Connector {
    pub(crate) fn new(guard: Guard, tls: TlsConnector) -> Self {
        Self { guard, resolver: Box::new(SystemResolver), tls }
    }

    /// Opens a connection to the host and port of `url`, with TLS if the scheme is `https`.
    ///
    /// The connect timeout covers name resolution and TCP. The read timeout covers the TLS handshake,
    /// because a handshake, like a request, waits for data from the receiver.
    ///
    /// # Errors
    /// Returns the outcome of the attempt if the host cannot be resolved, is forbidden or unreachable, or if
    /// the TLS handshake fails.
    pub(crate) async fn connect(&self, url: &Url, deadlines: &Deadlines) -> Result<Connection, Failure> {
        let socket = deadlines.connect(self.connect_tcp(url)).await??;
        let connection = if url.scheme() == "https" {
            let handshake = deadlines.read(self.tls.connect(server_name(url)?, socket)).await;
            let stream = handshake
                .map_err(|timed_out| Failure { outcome: Outcome::HandshakeFailed, ..timed_out })?
                .map_err(|error| Failure::because(tls::outcome(&error), &error))?;
            Connection::open(stream).await
        } else {
            Connection::open(socket).await
        };
        connection.map_err(|error| Failure::because(Outcome::ConnectFailed, &error))
    }

    /// Resolves the host of `url` and opens a TCP connection to one of its permitted addresses.
    async fn connect_tcp(&self, url: &Url) -> Result<TcpStream, Failure> {
        let addresses = match url.host() {
            Some(Host::Domain(name)) => self
                .resolver
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
        let socket = connect_to_first(permitted)
            .await
            .map_err(|error| Failure::because(Outcome::ConnectFailed, &error))?;
        // Only an optimization, so a failure is ignored. A request is written in one piece and need not wait
        // for more data.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }
}

/// Connects to the first of `addresses` that accepts a connection. The next address is tried as soon as one
/// fails, or in parallel after [`CONNECTION_ATTEMPT_DELAY`] (RFC 8305). If all fail, returns the last error.
async fn connect_to_first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut untried = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        running.extend(untried.next().map(TcpStream::connect));
        tokio::select! {
            finished = running.next() => match finished {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(CONNECTION_ATTEMPT_DELAY), if untried.len() > 0 => {}
        }
    }
}

/// Returns the host name or address that the receiver's certificate must be valid for.
fn server_name(url: &Url) -> Result<ServerName<'static>, Failure> {
    let host = match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()),
        Some(Host::Ipv4(address)) => Ok(IpAddr::from(address).into()),
        Some(Host::Ipv6(address)) => Ok(IpAddr::from(address).into()),
        None => return Err(Outcome::NameUnresolved.into()),
    };
    host.map_err(|error| Failure::because(Outcome::NameUnresolved, &error))
}

/// Resolves host names to addresses. Tests replace the system's resolver.
trait Resolver: Send + Sync {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
struct SystemResolver;

impl Resolver for SystemResolver {
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
    use crate::settings::Settings;

    /// A resolver that calls a function. If the function returns `None`, name resolution never finishes.
    struct FakeResolver<F>(F);

    impl<F: Fn(&str) -> Option<Vec<&'static str>> + Send + Sync> Resolver for FakeResolver<F> {
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

    /// Creates a connector that permits 127.0.0.0/8 in addition to public addresses.
    fn connector<F>(resolve: F) -> Connector
    where
        F: Fn(&str) -> Option<Vec<&'static str>> + Send + Sync + 'static,
    {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Connector { guard, resolver: Box::new(FakeResolver(resolve)), tls: tls::tls_connector(None).unwrap() }
    }

    fn url(port: u16) -> Url {
        format!("http://receiver.example:{port}/").parse().unwrap()
    }

    fn default_deadlines() -> Deadlines {
        Deadlines::new(&Settings::default(), &Overrides::default())
    }

    async fn outcome(connector: &Connector, url: &Url) -> Outcome {
        connector
            .connect(url, &default_deadlines())
            .await
            .err()
            .map_or(Outcome::Delivered, |failure| failure.outcome)
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn forbidden_addresses_of_a_host_name_are_skipped() {
        let (_listener, port) = listener().await;
        let mixed = connector(|_| Some(vec!["169.254.169.254", "::1", "::ffff:10.0.0.1", "127.0.0.1"]));
        let socket = mixed.connect_tcp(&url(port)).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn host_name_with_only_forbidden_addresses_is_reported_as_forbidden_not_as_unresolved() {
        let internal = connector(|_| Some(vec!["10.0.0.1", "fd00::1", "64:ff9b::a00:1"]));
        assert_eq!(outcome(&internal, &url(80)).await, Outcome::AddressForbidden);
        let unresolved = connector(|_| Some(Vec::new()));
        assert_eq!(outcome(&unresolved, &url(80)).await, Outcome::NameUnresolved);
    }

    #[tokio::test]
    async fn host_name_rebound_to_a_private_address_is_forbidden() {
        let (_listener, port) = listener().await;
        let is_rebound = AtomicBool::new(false);
        let rebinding = connector(move |_| {
            Some(vec![if is_rebound.swap(true, Ordering::Relaxed) { "192.168.0.1" } else { "127.0.0.1" }])
        });
        assert_eq!(outcome(&rebinding, &url(port)).await, Outcome::Delivered);
        assert_eq!(outcome(&rebinding, &url(port)).await, Outcome::AddressForbidden);
    }

    #[tokio::test]
    async fn ip_address_in_the_url_is_checked_without_name_resolution() {
        let connector = connector(|name| panic!("resolved {name}"));
        for host in ["10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "0xa.1", "167772161", "012.0.0.1", "10.0.0.1."]
        {
            let url = format!("http://{host}/").parse().unwrap();
            assert_eq!(outcome(&connector, &url).await, Outcome::AddressForbidden, "{host}");
        }
    }

    #[tokio::test]
    async fn name_resolution_counts_against_the_connect_timeout() {
        let unresponsive = connector(|_| None);
        let overrides = Overrides { connect: Some(Duration::from_millis(20)), ..Overrides::default() };
        let deadlines = Deadlines::new(&Settings::default(), &overrides);
        let failure = unresponsive.connect(&url(80), &deadlines).await.err().unwrap();
        assert_eq!(failure.outcome, Outcome::ConnectTimedOut);
    }

    #[tokio::test]
    async fn address_that_refuses_or_is_unresponsive_is_skipped() {
        let (_listener, port) = listener().await;
        // The kernel drops new connections while the backlog is full, so this listener becomes unresponsive.
        let unresponsive = TcpSocket::new_v4().unwrap();
        unresponsive.bind(SocketAddr::new("127.0.0.3".parse().unwrap(), port)).unwrap();
        let unresponsive = unresponsive.listen(0).unwrap();
        let mut backlog = Vec::new();
        let connect = || timeout(CONNECTION_ATTEMPT_DELAY, TcpStream::connect(("127.0.0.3", port)));
        while let Ok(connected) = connect().await {
            backlog.push(connected.unwrap());
        }

        let several = connector(|_| Some(vec!["127.0.0.2", "127.0.0.3", "127.0.0.1"]));
        let socket = several.connect_tcp(&url(port)).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().ip().to_string(), "127.0.0.1");
        drop((unresponsive, backlog));
    }

    #[tokio::test]
    async fn addresses_beyond_the_maximum_number_are_not_tried() {
        let (_listener, port) = listener().await;
        let scan = connector(|_| Some([["127.0.0.2"; MAX_ADDRESSES].as_slice(), &["127.0.0.1"]].concat()));
        assert_eq!(outcome(&scan, &url(port)).await, Outcome::ConnectFailed);
    }
}
