//! From an accepted socket to requests: admission, TLS, HTTP/1.1, and an orderly close.

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

use crate::admission::Admission;
use crate::connection::Connection;
use crate::{Draining, Settings, application};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the library waits for a client to take the rest of an answer whose request was not read to its end.
const LINGER: Duration = Duration::from_secs(1);

/// What every connection to a listener shares.
#[derive(Clone)]
pub struct Acceptor {
    /// Which connections are admitted.
    pub admission: Arc<Admission>,
    /// The certificate, where the server itself speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The use cases.
    pub app: Arc<App>,
    /// What the operator decides.
    pub settings: Settings,
    /// Whether the server takes new requests.
    pub draining: Arc<Draining>,
}

impl Acceptor {
    /// The service of a worker: takes sockets, and is done with each when its connection is closed. Idle connections
    /// are closed when `stopped` is ready.
    pub fn service<F: Future<Output = ()> + 'static>(
        self,
        stopped: impl Fn() -> F + 'static,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
    {
        let Self { admission, tls, app, settings, draining } = self;
        let application = application(app, settings, draining);
        let http = HttpService::build()
            // `connection.rs` has all deadlines.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
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
        fn_service(move |socket| accept(socket, Arc::clone(&admission), tls.clone())).and_then(http)
    }
}

/// Admits a connection and makes the TLS handshake.
async fn accept(
    socket: TcpStream,
    admission: Arc<Admission>,
    tls: Option<TlsAcceptor>,
) -> Result<(Connection, SocketAddr), DispatchError> {
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
    let admitted =
        admission.admit(peer.ip()).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
    let connection = match tls {
        None => Connection::new(socket, false, local, admitted),
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await;
            let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Connection::new(stream, true, local, admitted)
        }
    };
    Ok((connection, peer))
}
