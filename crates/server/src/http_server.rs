//! The HTTP server of the API and of other faces: binds an address, accepts connections, and drains them when it stops.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use api::Api;
use app::App;
use domain::RequestSid;
use socket2::{Domain, Protocol, Socket, Type};
use terminal::CliError;
use web::{
    Acceptor, Application, ConnectionLimiter, ConnectionLimits, Draining, MAX_REFUSED_CONNECTIONS, Settings,
};
use webphone::WebPhone;

use crate::tls::Certificate;

/// Maximum time, in seconds, for pending requests to finish when the server stops.
const DRAIN_TIMEOUT_SECONDS: u64 = 30;

/// Maximum number of connections that the kernel queues until the server accepts them. The standard library uses the
/// same value.
const LISTEN_BACKLOG: i32 = 128;

/// Time after which a connection is closed if its peer does not read or acknowledge the data sent to it.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The socket, connection limits and certificate of an HTTP server.
pub(crate) struct ServerConfig {
    /// The bound socket, created by [`bind`].
    pub(crate) socket: Socket,
    /// Limits on the number of open connections.
    pub(crate) limits: ConnectionLimits,
    /// The TLS certificate; if `None`, the server speaks plain HTTP.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Binds a TCP socket to `address`. Connections are refused until the server starts listening on the socket.
///
/// # Errors
/// Returns an error if another program listens on the address, the address does not belong to this machine, or the port
/// requires more privileges.
pub(crate) fn bind(address: SocketAddr) -> Result<Socket, CliError> {
    let bound =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
            // The standard library sets this option too. Without it, a restarted server could not bind its address
            // while connections of the previous process are still closing.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        });
    bound.map_err(|error| listen_error(address, &error))
}

fn listen(socket: Socket) -> Result<TcpListener, CliError> {
    let address = socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| CliError::new("the socket to listen on has no IP address"))?;
    // This fails if two servers have bound the address at the same time, because only one of them can listen.
    socket.listen(LISTEN_BACKLOG).map_err(|error| listen_error(address, &error))?;
    Ok(socket.into())
}

fn listen_error(address: SocketAddr, error: &std::io::Error) -> CliError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; stop the program that listens there, or choose another address with --listen"
        }
        ErrorKind::PermissionDenied => {
            "; ports below 1024 require root or the capability CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    CliError::new(format!("can't listen on {address}: {error}{advice}"))
}

/// Returns the application that serves the API of `app`, and the browser phone if wanted. Other faces can be mounted
/// beside them.
pub(crate) fn application(app: Arc<App>, settings: Settings, browser_phone: bool) -> Application {
    let api = Api::new(Arc::clone(&app), settings.clone());
    let application = Application::new(settings, move || RequestSid::generate(app.now(), app.entropy()), api);
    if browser_phone { application.mount(webphone::PREFIX, WebPhone::new()) } else { application }
}

/// A running HTTP server.
pub(crate) struct HttpServer {
    /// The address on which the server listens, with the actual port if port 0 was requested.
    pub(crate) address: SocketAddr,
    /// Whether the server is shutting down, as reported by /readyz.
    pub(crate) draining: Arc<Draining>,
    handle: ServerHandle,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    /// Starts listening and serving requests.
    ///
    /// # Errors
    /// Returns an error if the address is already in use, or if TLS can't be configured.
    pub(crate) fn start(application: Application, config: ServerConfig) -> Result<Self, CliError> {
        // Accepted connections inherit this option. Without it, a client that stops reading would occupy its buffers
        // indefinitely.
        #[cfg(target_os = "linux")]
        config.socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        let listener = listen(config.socket)?;
        let address = listener.local_addr()?;
        let settings = application.settings();
        let draining = Arc::clone(&settings.draining);
        let tls = config.certificate.as_ref().map(|certificate| certificate.tls_config()).transpose()?;
        let acceptor = Acceptor {
            connection_limiter: Arc::new(ConnectionLimiter::new(
                config.limits,
                settings.trusted_proxies.clone(),
            )),
            tls: tls.map(Arc::new),
            application,
        };
        let workers = std::thread::available_parallelism()?.get();
        let server = Server::build()
            .workers(workers)
            // This limit applies per worker; `ConnectionLimiter` enforces the limit across all workers.
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

    /// Makes /readyz return 503, while all requests are still served.
    pub(crate) fn announce_stop(&self) {
        self.draining.announce();
    }

    /// Refuses new requests, waits up to [`DRAIN_TIMEOUT_SECONDS`] for pending ones to finish, and stops the server.
    pub(crate) async fn stop(self) {
        self.draining.begin();
        self.handle.stop(true).await;
        let _ = self.task.await;
    }
}
