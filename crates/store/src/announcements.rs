//! Announcements between the processes on one PostgreSQL: a new delivery is pending (`LISTEN`/`NOTIFY`).

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

/// The channel of PostgreSQL on which processes announce pending deliveries.
const CHANNEL: &str = "countersign_deliveries";

/// Silence after which the listener checks that its connection still works.
const LISTEN_KEEPALIVE: Duration = Duration::from_secs(30);

/// The stream of announcements that other processes send.
pub struct Announcements {
    received: mpsc::Receiver<()>,
    listener: JoinSet<Result<Infallible, Error>>,
}

impl Announcements {
    /// Starts to listen on `server`, and returns once the connection listens.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no connection can be opened.
    pub(crate) async fn listen(server: Server, writer: &Writer) -> Result<Self, Error> {
        let (sender, received) = mpsc::channel(1);
        // Connections belong to the runtime in which they were opened, so this one lives on the store's own thread.
        let listener = writer.spawn(async move {
            // After a restart of the database, every pooled connection may be stale.
            let mut retries = Retries::at_most(POSTGRES_POOL_SIZE);
            loop {
                match listen(&server.pool_of_one(), &sender, &mut retries).await.map_err(Error::from) {
                    Err(error) if retries.allow(&error).await => {}
                    ended => return ended,
                }
            }
        });
        let mut announcements = Self { received, listener };
        // The first one means that the connection listens.
        announcements.next().await?;
        Ok(announcements)
    }

    /// Waits for the next announcement. Several that arrive before the call count as one. Announcements sent while
    /// the connection was lost are not repeated, so a new connection counts as an announcement too.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if a lost connection cannot be replaced; then every later call fails too.
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

/// Forwards notifications to `sender` until the connection is lost. Sends one at the start as well, since earlier
/// notifications may have been missed.
async fn listen(
    pool: &PgPool,
    sender: &mpsc::Sender<()>,
    retries: &mut Retries,
) -> Result<Infallible, sqlx::Error> {
    // A connection outside the store's pool, so that a lost listener takes no slot there.
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    retries.reset();
    loop {
        // Announcements coalesce: a full channel already holds an unread one.
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
    /// Notifies all listening processes.
    pub(crate) async fn announce(&mut self) -> Result<(), Error> {
        self.execute("SELECT pg_notify($1, '')", bind![CHANNEL]).await
    }
}
