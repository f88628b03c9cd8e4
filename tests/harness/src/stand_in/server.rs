//! HTTP/2 over TLS on a free port of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Response, Uri};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A completely received request.
pub struct Request {
    /// The number of its connection, counted from 1.
    pub connection: usize,
    /// The method.
    pub method: Method,
    /// The complete URI.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The client certificate of the TLS handshake, in DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Request {
    /// Returns the value of a header that occurs once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }
}

/// The reaction to a request.
pub enum Reply {
    /// Sends a response.
    Answer(Answer),
    /// Sends nothing until the client gives up.
    Silence,
    /// Breaks the connection.
    HangUp,
    /// Closes the connection with GOAWAY and refuses this request.
    GoAway,
}

/// A response.
#[derive(Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Returns a response without headers.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Returns the same response with one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running server, stopped when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// The state that all connections share.
struct Shared {
    acceptor: TlsAcceptor,
    streams: u32,
    handler: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    go_away: watch::Sender<()>,
}

impl Server {
    /// Starts on a free port. Accepts at most `streams` concurrent requests on each connection.
    pub async fn start(
        tls: rustls::ServerConfig,
        streams: u32,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            streams,
            handler: Box::new(handler),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            go_away: watch::Sender::new(()),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut tasks = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    tasks.spawn(serve(socket, shared.clone()));
                }
            }
        });
        Self { address, shared, task }
    }

    /// Returns `https://localhost:port`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Returns the number of TLS connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes all connections with GOAWAY, as a server does at shutdown, and returns once there are none.
    pub async fn go_away(&self) {
        self.shared.go_away.send_replace(());
        self.shared.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A guard that counts a connection as open until it is dropped.
struct Open<'s>(&'s Shared);

impl<'s> Open<'s> {
    fn new(shared: &'s Shared) -> (Self, usize) {
        shared.open.send_modify(|open| *open += 1);
        (Self(shared), shared.connections.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// An action on the connection of a request.
enum Command {
    HangUp,
    GoAway,
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let mut go_away = shared.go_away.subscribe();
    // Responses are small, so do not delay them to collect more data.
    let _ = socket.set_nodelay(true);
    let Ok(tls) = shared.acceptor.accept(socket).await else { return };
    let (_open, number) = Open::new(&shared);
    let client_certificate =
        tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
    let handshake = h2::server::Builder::new().max_concurrent_streams(shared.streams).handshake(tls);
    let Ok(mut connection) = handshake.await else { return };
    let (commands, mut commanded) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let (parts, body) = request.into_parts();
                let request = Request {
                    connection: number,
                    method: parts.method,
                    uri: parts.uri,
                    headers: parts.headers,
                    body: Bytes::new(),
                    client_certificate: client_certificate.clone(),
                };
                streams.spawn(answer(shared.clone(), request, body, respond, commands.clone()));
            }
            Some(command) = commanded.recv() => match command {
                Command::HangUp => return,
                Command::GoAway => connection.graceful_shutdown(),
            },
            Ok(()) = go_away.changed() => connection.graceful_shutdown(),
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    mut request: Request,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    commands: mpsc::UnboundedSender<Command>,
) {
    let Some(body) = read(body).await else { return };
    request.body = body;
    match (shared.handler)(&request) {
        Reply::Answer(answer) => send(answer, respond),
        Reply::Silence => drop(std::future::poll_fn(|context| respond.poll_reset(context)).await),
        Reply::HangUp => drop(commands.send(Command::HangUp)),
        Reply::GoAway => {
            respond.send_reset(Reason::REFUSED_STREAM);
            drop(commands.send(Command::GoAway));
        }
    }
}

async fn read(mut body: RecvStream) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        body.flow_control().release_capacity(chunk.len()).ok()?;
        whole.extend_from_slice(&chunk);
    }
    Some(whole.freeze())
}

/// Sends a response. The client may have disconnected already, which is fine.
fn send(answer: Answer, mut respond: SendResponse<Bytes>) {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    if let Ok(mut body) = respond.send_response(response.body(()).unwrap(), answer.body.is_empty())
        && !answer.body.is_empty()
    {
        drop(body.send_data(answer.body.into(), true));
    }
}
