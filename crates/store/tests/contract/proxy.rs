//! A way to PostgreSQL that can be cut.

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

/// Passes on what is said between a store and its database, until told not to.
pub(crate) struct Proxy {
    /// The database, through the proxy.
    pub(crate) location: Location,
    lines: Arc<Mutex<JoinSet<()>>>,
    hangs_up: Arc<AtomicBool>,
    port: Port,
    listening: Mutex<JoinHandle<()>>,
    server: (String, u16),
}

impl Proxy {
    pub(crate) async fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let port = Port::new();
        let number = port.address.port();
        let separator = if url.contains('?') { '&' } else { '?' };
        let proxy = Self {
            location: Location::Postgres(Secret::new(format!(
                "{url}{separator}host=127.0.0.1&port={number}"
            ))),
            lines: Arc::default(),
            hangs_up: Arc::default(),
            port,
            listening: Mutex::new(tokio::spawn(async {})),
            server: (options.get_host().to_owned(), options.get_port()),
        };
        proxy.listen().await;
        proxy
    }

    async fn listen(&self) {
        let listener = self.port.listen();
        let (lines, hangs_up) = (Arc::clone(&self.lines), Arc::clone(&self.hangs_up));
        let server = self.server.clone();
        let listen = async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if hangs_up.load(Ordering::Relaxed) {
                    continue;
                }
                let server = server.clone();
                lines.lock().await.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either may end it as it likes.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        };
        *self.listening.lock().await = tokio::spawn(listen);
    }

    /// Cuts all connections. There can be new ones.
    pub(crate) async fn cut(&self) {
        self.lines.lock().await.shutdown().await;
    }

    /// Cuts all connections, and takes new ones only to hang up, as a load balancer does whose server is
    /// away.
    pub(crate) async fn hang_up(&self) {
        self.hangs_up.store(true, Ordering::Relaxed);
        self.cut().await;
    }

    /// Cuts all connections, and lets new ones be refused, as a machine does whose server is away.
    pub(crate) async fn stop(&self) {
        let listening = mem::replace(&mut *self.listening.lock().await, tokio::spawn(async {}));
        listening.abort();
        let _ = listening.await;
        self.cut().await;
    }

    /// There can be connections again.
    pub(crate) async fn resume(&self) {
        if self.hangs_up.swap(false, Ordering::Relaxed) {
            return;
        }
        self.listen().await;
    }
}
