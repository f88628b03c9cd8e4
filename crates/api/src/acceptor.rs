//! Serves an accepted socket: connection limits, TLS, HTTP/1.1, and an orderly close.

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
use app::App;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::application::application;
use crate::connection::Connection;
use crate::connection_limits::ConnectionLimiter;
use crate::draining::Draining;
use crate::state::Settings;

/// Time for a TLS handshake.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that actix-web gives a client to read the rest of a response whose request was not read to its end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections of a listener share.
#[derive(Clone)]
pub struct Acceptor {
    /// Limits the open connections.
    pub connection_limiter: Arc<ConnectionLimiter>,
    /// The TLS configuration; `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The use cases.
    pub app: Arc<App>,
    /// The operator's settings.
    pub settings: Settings,
    /// Whether the server accepts new requests.
    pub draining: Arc<Draining>,
}

impl Acceptor {
    /// Returns the service of a worker thread, which serves each socket until its connection is closed. Idle
    /// connections are closed when `stopped` completes.
    pub fn service<F: Future<Output = ()> + 'static>(
        self,
        stopped: impl Fn() -> F + 'static,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
    {
        let Self { connection_limiter, tls, app, settings, draining } = self;
        let application = application(app, settings, draining);
        let http = HttpService::build()
            // All deadlines are in `connection.rs`.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(stopped)
            .on_connect_ext(|connection: &Connection, data| drop(data.insert(connection.clone())))
            .finish(map_config(
                application.into_factory().map_err(|error: actix_web::Error| error.error_response()),
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

/// Applies the connection limits and performs the TLS handshake.
///
/// # Errors
/// Returns an error if the connection must be closed at once, or the handshake fails or takes too long.
async fn accept(
    socket: TcpStream,
    connection_limiter: Arc<ConnectionLimiter>,
    tls: Option<TlsAcceptor>,
) -> Result<(Connection, SocketAddr), DispatchError> {
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
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
