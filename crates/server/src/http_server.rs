//! The HTTP server of the API: binds its address, accepts connections, and drains them when it stops.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use api::{Acceptor, ConnectionLimiter, ConnectionLimits, Draining, MAX_REFUSED_CONNECTIONS, Settings};
use app::App;
use socket2::{Domain, Protocol, Socket, Type};
use terminal::CliError;

use crate::tls::Certificate;

/// Seconds that pending requests have to finish when the server stops.
const DRAIN_TIMEOUT_SECONDS: u64 = 30;

/// Connections that the kernel queues until they are accepted, as many as the standard library chooses.
const LISTEN_BACKLOG: i32 = 128;

/// Time after which a connection is closed whose peer does not read or acknowledge what it was sent.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the server listens, and how.
pub(crate) struct ServerConfig {
    /// The bound socket, from [`bind`].
    pub(crate) socket: Socket,
    /// Limits of open connections.
    pub(crate) limits: ConnectionLimits,
    /// The certificate for TLS; without one the server speaks plain HTTP.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Binds a socket to `address`. Connections are refused until the server starts.
///
/// # Errors
/// Returns an error if another program listens on the address, or it is not one of this machine.
pub(crate) fn bind(address: SocketAddr) -> Result<Socket, CliError> {
    let bound =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
            // As the standard library does: a restart must not wait for connections of the previous process.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        });
    bound.map_err(|error| listen_error(address, &error))
}

fn listen(socket: Socket) -> Result<TcpListener, CliError> {
    let address = socket.local_addr()?.as_socket().ok_or_else(|| CliError::new("expected an IP address"))?;
    // This fails if two servers bound the address at the same time: only one of them can listen.
    socket.listen(LISTEN_BACKLOG).map_err(|error| listen_error(address, &error))?;
    Ok(socket.into())
}

fn listen_error(address: SocketAddr, error: &std::io::Error) -> CliError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; stop the program that listens there, or choose another address with --listen"
        }
        ErrorKind::PermissionDenied => {
            "; ports below 1024 are for root and for processes with CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    CliError::new(format!("can't listen on {address}: {error}{advice}"))
}

/// A running HTTP server.
pub(crate) struct HttpServer {
    /// The address on which it listens, with the port that was picked for port 0.
    pub(crate) address: SocketAddr,
    /// Whether the server is shutting down, which /readyz reports.
    pub(crate) draining: Arc<Draining>,
    handle: ServerHandle,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    /// Starts to listen and to serve requests.
    ///
    /// # Errors
    /// Returns an error if the address is already in use, or TLS can't be configured.
    pub(crate) fn start(app: Arc<App>, settings: Settings, config: ServerConfig) -> Result<Self, CliError> {
        // Accepted connections inherit this. Without it, a client that stops reading keeps its buffers indefinitely.
        #[cfg(target_os = "linux")]
        config.socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        let listener = listen(config.socket)?;
        let address = listener.local_addr()?;
        let draining = Arc::new(Draining::default());
        let tls = config.certificate.as_ref().map(|certificate| certificate.tls_config()).transpose()?;
        let acceptor = Acceptor {
            connection_limiter: Arc::new(ConnectionLimiter::new(
                config.limits,
                settings.trusted_proxies.clone(),
            )),
            tls: tls.map(Arc::new),
            app,
            settings,
            draining: Arc::clone(&draining),
        };
        let workers = std::thread::available_parallelism()?.get();
        let server = Server::build()
            .workers(workers)
            // This limit is per worker; `ConnectionLimiter` enforces the limit of all workers together.
            .max_concurrent_connections(config.limits.total + MAX_REFUSED_CONNECTIONS)
            .shutdown_timeout(DRAIN_TIMEOUT_SECONDS)
            .disable_signals();
        let shutdown = server.graceful_shutdown_signal();
        let service = move || {
            let shutdown = shutdown.clone();
            acceptor.clone().service(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
        };
        let server = server.listen("http", listener, service)?.run();
        Ok(Self { address, draining, handle: server.handle(), task: tokio::spawn(server) })
    }

    /// Makes /readyz return 503 while requests are still served.
    pub(crate) fn announce_stop(&self) {
        self.draining.announce();
    }

    /// Finishes pending requests, refuses new ones, and stops.
    pub(crate) async fn stop(self) {
        self.draining.begin();
        self.handle.stop(true).await;
        let _ = self.task.await;
    }
}
