//! A way to PostgreSQL that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::Secret;
use sqlx::postgres::PgConnectOptions;
use store::Location;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Passes on what is said between a store and its database, until told not to.
pub(crate) struct Proxy {
    /// The database, through the proxy.
    pub(crate) location: Location,
    away: Arc<AtomicBool>,
    lines: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    pub(crate) async fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let server = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let separator = if url.contains('?') { '&' } else { '?' };
        let location = format!("{url}{separator}host=127.0.0.1&port={port}");
        let proxy = Self {
            location: Location::Postgres(Secret::new(location)),
            away: Arc::default(),
            lines: Arc::default(),
        };

        let (away, lines) = (Arc::clone(&proxy.away), Arc::clone(&proxy.lines));
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if away.load(Ordering::Relaxed) {
                    continue;
                }
                let server = server.clone();
                lines.lock().await.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either may end it as it likes.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        proxy
    }

    /// Cuts all connections. There can be new ones.
    pub(crate) async fn cut(&self) {
        self.lines.lock().await.shutdown().await;
    }

    /// Cuts all connections, and refuses new ones.
    pub(crate) async fn go_away(&self) {
        self.away.store(true, Ordering::Relaxed);
        self.cut().await;
    }

    /// There can be connections again.
    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }
}
