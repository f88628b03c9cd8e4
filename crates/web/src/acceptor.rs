//! Serves an accepted socket: applies connection limits, negotiates TLS, speaks HTTP/1.1, and closes the connection in
//! an orderly way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{
    IntoServiceFactory as _, Service as _, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory,
    fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::application::Application;
use crate::connection::Connection;
use crate::connection_limits::ConnectionLimiter;

/// Maximum duration of a TLS handshake.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time that actix-web waits for a client to read the rest of a response, if the request was not read to its
/// end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The configuration and state that all connections of a listener share.
#[derive(Clone)]
pub struct Acceptor {
    /// Limits the number of open connections.
    pub connection_limiter: Arc<ConnectionLimiter>,
    /// The TLS configuration; `None` serves plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The faces that serve the requests.
    pub application: Application,
}

impl Acceptor {
    /// Returns the service that each worker thread runs. The service handles each socket until its connection is
    /// closed. It closes idle connections once the future that `stopped` returns has completed.
    pub fn service<F: Future<Output = ()> + 'static>(
        self,
        stopped: impl Fn() -> F + 'static,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
    {
        let Self { connection_limiter, tls, application } = self;
        let http = HttpService::build()
            // `connection.rs` enforces all deadlines, so those of actix-web are disabled.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(stopped)
            .on_connect_ext(|connection: &Connection, data| drop(data.insert(connection.clone())))
            .finish(map_config(
                application
                    .into_app()
                    .into_factory()
                    .map_err(|error: actix_web::Error| error.error_response()),
                |()| AppConfig::default(),
            ));
        let http = apply_fn_factory(http, |(connection, peer): (Connection, SocketAddr), http| {
            let served = http.call((connection.clone(), Protocol::Http1, Some(peer)));
            async move {
                let outcome = served.await;
                connection.close().await;
                outcome
            }
        });
        let tls = tls.map(TlsAcceptor::from);
        fn_service(move |socket| accept(socket, Arc::clone(&connection_limiter), tls.clone())).and_then(http)
    }
}

/// Applies the connection limits and performs the TLS handshake, if TLS is configured. Returns the connection and the
/// peer's address.
///
/// # Errors
/// Returns an error if the connection must be closed without a response, or if the handshake fails or exceeds
/// [`TLS_HANDSHAKE_TIMEOUT`].
async fn accept(
    socket: TcpStream,
    connection_limiter: Arc<ConnectionLimiter>,
    tls: Option<TlsAcceptor>,
) -> Result<(Connection, SocketAddr), DispatchError> {
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
    // Otherwise the kernel holds back an event until the client has acknowledged the previous one.
    socket.set_nodelay(true)?;
    let permit = connection_limiter
        .admit(peer.ip())
        .ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
    let connection = match tls {
        None => Connection::new(socket, false, local, permit),
        Some(tls) => {
            let handshake = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(socket)).await;
            let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Connection::new(stream, true, local, permit)
        }
    };
    Ok((connection, peer))
}
