//! A TCP proxy to PostgreSQL that can close its connections, to simulate network failures.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::Secret;
use harness::Port;
use sqlx::postgres::PgConnectOptions;
use store::Location;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// A TCP proxy between a store and its PostgreSQL database.
pub(crate) struct Proxy {
    /// The location with which a store connects to the database through the proxy.
    pub(crate) location: Location,
    connections: Arc<Mutex<JoinSet<()>>>,
    /// Whether the proxy closes new connections immediately.
    hangs_up: Arc<AtomicBool>,
    port: Port,
    listening: Mutex<JoinHandle<()>>,
    server: (String, u16),
}

impl Proxy {
    /// Starts a proxy to the PostgreSQL database at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let port = Port::new();
        let number = port.address.port();
        let separator = if url.contains('?') { '&' } else { '?' };
        let proxy = Self {
            location: Location::Postgres(Secret::new(format!(
                "{url}{separator}host=127.0.0.1&port={number}"
            ))),
            connections: Arc::default(),
            hangs_up: Arc::default(),
            port,
            listening: Mutex::new(tokio::spawn(async {})),
            server: (options.get_host().to_owned(), options.get_port()),
        };
        proxy.listen().await;
        proxy
    }

    /// Starts a task that accepts connections and forwards them to the database.
    async fn listen(&self) {
        let listener = self.port.listen();
        let (connections, hangs_up) = (Arc::clone(&self.connections), Arc::clone(&self.hangs_up));
        let server = self.server.clone();
        let listen = async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if hangs_up.load(Ordering::Relaxed) {
                    continue;
                }
                let server = server.clone();
                connections.lock().await.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // An error is ignored, because either side may close the connection.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        };
        *self.listening.lock().await = tokio::spawn(listen);
    }

    /// Closes all connections. New connections are still accepted.
    pub(crate) async fn cut(&self) {
        self.connections.lock().await.shutdown().await;
    }

    /// Closes all connections, and closes new ones immediately after accepting them, like a load balancer without
    /// backends.
    pub(crate) async fn hang_up(&self) {
        self.hangs_up.store(true, Ordering::Relaxed);
        self.cut().await;
    }

    /// Closes all connections and refuses new ones, like a machine on which PostgreSQL is not running.
    pub(crate) async fn stop(&self) {
        let listening = mem::replace(&mut *self.listening.lock().await, tokio::spawn(async {}));
        listening.abort();
        let _ = listening.await;
        self.cut().await;
    }

    /// Accepts and forwards new connections again, after [`Proxy::hang_up`] or [`Proxy::stop`].
    pub(crate) async fn resume(&self) {
        if self.hangs_up.swap(false, Ordering::Relaxed) {
            return;
        }
        self.listen().await;
    }
}
