//! Announcements between processes that share a PostgreSQL database. An announcement says that a new delivery is
//! pending. It is sent with `NOTIFY` and received with `LISTEN`.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{ACQUIRE_TIMEOUT, POSTGRES_POOL_SIZE};
use crate::postgres::Server;
use crate::read_write::Read;
use crate::retry::Retries;
use crate::values::bind;
use crate::writer::Writer;

/// The PostgreSQL notification channel on which processes announce pending deliveries.
const CHANNEL: &str = "countersign_deliveries";

/// Time without notifications after which the listener checks whether its connection still works.
const LISTEN_KEEPALIVE: Duration = Duration::from_secs(30);

/// A stream of announcements from the other processes that share the database.
pub struct Announcements {
    received: mpsc::Receiver<()>,
    listener: JoinSet<Result<Infallible, Error>>,
}

impl Announcements {
    /// Starts listening for announcements on `server`. Returns once the connection is listening.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no connection can be opened.
    pub(crate) async fn listen(server: Server, writer: &Writer) -> Result<Self, Error> {
        let (sender, received) = mpsc::channel(1);
        // A connection belongs to the runtime in which it was opened, so the listener runs on the store's writer
        // thread.
        let listener = writer.spawn(async move {
            // Allows one retry for each connection of a pool: after a database restart, every pooled connection may be
            // stale.
            let mut retries = Retries::at_most(POSTGRES_POOL_SIZE);
            loop {
                match listen(&server.pool_of_one(), &sender, &mut retries).await.map_err(Error::from) {
                    Err(error) if retries.allow(&error).await => {}
                    ended => return ended,
                }
            }
        });
        let mut announcements = Self { received, listener };
        // The first announcement signals that the connection is listening.
        announcements.next().await?;
        Ok(announcements)
    }

    /// Waits for the next announcement. Announcements that arrived since the previous call are combined into one. A new
    /// connection also counts as an announcement, because announcements sent while the connection was down are lost.
    ///
    /// # Errors
    /// Returns an error, such as [`Error::Unavailable`], if a lost connection cannot be replaced. Every later call then
    /// fails too.
    pub async fn next(&mut self) -> Result<(), Error> {
        if self.received.recv().await.is_some() {
            return Ok(());
        }
        match self.listener.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => Err(Error::Unavailable(None)),
        }
    }
}

/// Listens on a new connection and forwards each notification to `sender`. Also sends one announcement at the start,
/// because earlier notifications may have been missed. Returns an error once the connection is lost.
async fn listen(
    pool: &PgPool,
    sender: &mpsc::Sender<()>,
    retries: &mut Retries,
) -> Result<Infallible, sqlx::Error> {
    // Uses a connection outside the store's pool, so that a lost listener occupies no slot in the pool.
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    retries.reset();
    loop {
        // A full channel already holds an unread announcement, so this one can be dropped.
        let _ = sender.try_send(());
        loop {
            match timeout(LISTEN_KEEPALIVE, listener.try_recv()).await {
                Ok(received) => break drop(received?),
                // Silence alone does not show whether the connection still works.
                Err(_) => match timeout(ACQUIRE_TIMEOUT, listener.execute("SELECT 1")).await {
                    Ok(response) => response.map(drop)?,
                    Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                },
            }
        }
    }
}

impl Read {
    /// Notifies all processes that listen for announcements.
    pub(crate) async fn announce(&mut self) -> Result<(), Error> {
        self.execute("SELECT pg_notify($1, '')", bind![CHANNEL]).await
    }
}
