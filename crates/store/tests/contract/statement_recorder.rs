//! A TCP proxy to PostgreSQL that records the text of every statement.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use domain::Secret;
use harness::Port;
use sqlx::postgres::PgConnectOptions;
use store::Location;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Length in bytes of the type and the length of a message.
const HEADER_BYTES: usize = 5;

/// A proxy between a store and its PostgreSQL database that records statements.
pub(crate) struct StatementRecorder {
    /// The location with which a store connects to the database through the proxy.
    pub(crate) location: Location,
    statements: Arc<Mutex<BTreeSet<String>>>,
}

impl StatementRecorder {
    /// Starts a recorder in front of the PostgreSQL database at `url`. It runs until the test's runtime ends.
    pub(crate) fn start(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let server = (options.get_host().to_owned(), options.get_port());
        let port = Port::new();
        let number = port.address.port();
        let separator = if url.contains('?') { '&' } else { '?' };
        // With TLS the proxy could not read the statements.
        let url = format!("{url}{separator}host=127.0.0.1&port={number}&sslmode=disable");
        let statements = Arc::<Mutex<BTreeSet<String>>>::default();
        let recorded = Arc::clone(&statements);
        let listener = port.listen();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server.clone()).await.unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                tokio::spawn(record(from_client, to_server, Arc::clone(&recorded)));
                tokio::spawn(async move {
                    // An error is ignored, because either side may close the connection.
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
            }
        });
        Self { location: Location::Postgres(Secret::new(url)), statements }
    }

    /// Returns the different statements so far, sorted, with single spaces between their words.
    pub(crate) fn statements(&self) -> Vec<String> {
        self.statements.lock().unwrap().iter().cloned().collect()
    }
}

/// Forwards the messages of a client and records the statements in them, until the connection is closed.
async fn record(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    statements: Arc<Mutex<BTreeSet<String>>>,
) {
    let (mut pending, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    let mut is_started = false;
    while let Ok(length @ 1..) = client.read(&mut chunk).await {
        if server.write_all(&chunk[..length]).await.is_err() {
            return;
        }
        pending.extend_from_slice(&chunk[..length]);
        while let Some((message, body)) = take_message(&mut pending, is_started) {
            is_started = true;
            // The text follows the name of the statement in `Parse`, and is the whole of `Query`.
            let text = match message {
                b'P' => body.split(|byte| *byte == 0).nth(1),
                b'Q' => body.split(|byte| *byte == 0).next(),
                _ => None,
            };
            if let Some(text) = text {
                let text = String::from_utf8_lossy(text);
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                statements.lock().unwrap().insert(text);
            }
        }
    }
}

/// Takes the first complete message from `pending`. Returns its type and its body, or `None` if it is incomplete. The
/// first message of a connection has no type; the type returned for it is 0.
fn take_message(pending: &mut Vec<u8>, is_started: bool) -> Option<(u8, Vec<u8>)> {
    let type_bytes = usize::from(is_started);
    let header = pending.get(type_bytes..type_bytes + HEADER_BYTES - 1)?;
    let length = type_bytes + u32::from_be_bytes(header.try_into().unwrap()) as usize;
    if pending.len() < length {
        return None;
    }
    let message: Vec<u8> = pending.drain(..length).collect();
    let kind = if is_started { message[0] } else { 0 };
    Some((kind, message[type_bytes + HEADER_BYTES - 1..].to_vec()))
}
