//! A webhook receiver whose replies, mostly faulty ones, are chosen by the test.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;

use crate::Port;

/// The reaction of a receiver to one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Sends these bytes and keeps the connection open.
    Words(String),
    /// Sends these bytes and then nothing until the client closes the connection.
    Stall(String),
    /// Sends these bytes, then one more every few milliseconds until the client closes the connection.
    Trickle(String),
    /// Sends these bytes, then further bytes for as long as the client reads.
    Flood(String),
    /// Sends these bytes and closes the connection.
    HangUp(String),
}

impl Answer {
    /// Returns a complete response. Each line in `headers` ends with CR LF.
    pub fn of(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Words(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// Returns a response with status 200 and the body `ok`.
    pub fn ok() -> Self {
        Self::of("200 OK", "", "ok")
    }

    /// Sends nothing until the client closes the connection.
    pub fn silence() -> Self {
        Self::Stall(String::new())
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The number of its connection, counted from 1 in the order of arrival.
    pub connection: usize,
    /// The time at which the request had been received completely.
    pub at: Instant,
    /// The request line.
    pub line: String,
    /// Header names and values, spelled as received.
    pub headers: Vec<(String, String)>,
    /// The body, with each byte as the Unicode character of that code.
    pub body: String,
}

impl Call {
    /// Returns the body as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.body.chars().map(|byte| u8::try_from(byte).unwrap()).collect()
    }

    /// Returns the value of a header. Panics unless it occurs exactly once, in this exact spelling.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(values.next().is_none(), "{name} twice");
        &value.1
    }

    /// Returns the URL as a receiver's web framework would reconstruct it.
    pub fn url(&self) -> String {
        let target = self.line.split(' ').nth(1).unwrap();
        format!("http://{}{target}", self.find("Host").unwrap())
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the parameters of a form body.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// Returns the value of a parameter of the form body, if it is there.
    pub fn value(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

type Reaction = dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A webhook receiver on a port of its own. It runs on its own thread, so it responds even while the test's
/// thread waits for a command. Stops when dropped.
pub struct Receiver {
    /// The port on which it listens.
    pub port: u16,
    reserved: Port,
    tls: Option<TlsAcceptor>,
    state: State,
    ends: UnboundedReceiver<usize>,
    /// The number of calls that [`call`](Self::call) has returned.
    given: usize,
    listening: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

/// The state that all connections of the receiver share.
#[derive(Clone)]
struct State {
    reaction: Arc<Reaction>,
    calls: Arc<Mutex<Vec<Call>>>,
    connections: Arc<Mutex<usize>>,
    ends: UnboundedSender<usize>,
}

impl Receiver {
    /// Starts a receiver that responds with each of `answers` in turn, and repeats the last one.
    pub fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", None, answers)
    }

    /// Starts a receiver as [`start`](Self::start) does, but with TLS.
    pub fn with_tls(config: ServerConfig, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", Some(config), answers)
    }

    /// Starts a receiver as [`start`](Self::start) does, on the local address `ip`, with TLS if `tls` is
    /// given.
    pub fn listen(ip: &str, tls: Option<ServerConfig>, answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Mutex::new(answers.into_iter().collect::<VecDeque<_>>());
        let next = move || {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
        };
        let reaction = move |_| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            let answer = next();
            Box::pin(async { answer })
        };
        Self::open(ip.parse().unwrap(), tls, Arc::new(reaction))
    }

    /// Starts a receiver that passes each call to `react` and responds with the result.
    pub fn reacting<F>(react: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let reaction = move |call| -> Pin<Box<dyn Future<Output = Answer> + Send>> { Box::pin(react(call)) };
        Self::open("127.0.0.1".parse().unwrap(), None, Arc::new(reaction))
    }

    fn open(ip: IpAddr, tls: Option<ServerConfig>, reaction: Arc<Reaction>) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let reserved = Port::at(ip);
        let (ended, ends) = unbounded_channel();
        let state = State { reaction, calls: Arc::default(), connections: Arc::default(), ends: ended };
        let mut receiver = Self {
            port: reserved.address.port(),
            reserved,
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            state,
            ends,
            given: 0,
            listening: None,
            runtime: Some(runtime),
        };
        receiver.up();
        receiver
    }

    /// Listens on the same port again.
    pub fn up(&mut self) {
        let runtime = self.runtime.as_ref().unwrap();
        let _inside = runtime.enter();
        let listener = self.reserved.listen();
        self.listening = Some(runtime.spawn(accept(listener, self.tls.clone(), self.state.clone())));
    }

    /// Stops listening and closes all connections; new ones are refused.
    pub async fn down(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// Returns the URL of this path on the receiver.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.reserved.address)
    }

    /// Returns all requests received so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// Returns the next request that this method has not returned yet.
    ///
    /// # Panics
    ///
    /// If none arrives within a minute.
    pub async fn call(&mut self) -> Call {
        let given = self.given;
        let next = async || self.state.calls.lock().unwrap().get(given).cloned();
        let call = crate::wait_until("the receiver is called", Duration::from_secs(60), next).await;
        self.given += 1;
        call
    }

    /// Returns the number of received requests that [`call`](Self::call) has not returned yet.
    pub fn calls_left(&self) -> usize {
        self.state.calls.lock().unwrap().len() - self.given
    }

    /// Waits until the client or this receiver's answer ends a connection, and returns the connection's number.
    /// Connections that [`down`](Self::down) cut do not count.
    pub async fn end(&mut self) -> usize {
        self.ends.recv().await.unwrap()
    }

    /// Returns the number of ended connections that [`end`](Self::end) has not returned yet.
    pub fn ends_left(&self) -> usize {
        self.ends.len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which a test's async thread must not do.
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: State) {
    // Connections are aborted when this future is dropped.
    let mut serving = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let connection = {
            let mut connections = state.connections.lock().unwrap();
            *connections += 1;
            *connections
        };
        let (tls, line) = (tls.clone(), Line { connection, state: state.clone() });
        serving.spawn(async move {
            match tls {
                None => line.serve(socket).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(stream) => line.serve(stream).await,
                    Err(_) => None,
                },
            };
            let _ = line.state.ends.send(connection);
        });
        while serving.try_join_next().is_some() {}
    }
}

struct Line {
    connection: usize,
    state: State,
}

impl Line {
    /// Serves one connection until the client closes it, which returns `None`.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Option<()> {
        loop {
            let call = read_call(&mut stream, self.connection).await?;
            self.state.calls.lock().unwrap().push(call.clone());
            match (self.state.reaction)(call).await {
                Answer::Words(words) => say(&mut stream, &words).await?,
                Answer::Stall(words) => {
                    say(&mut stream, &words).await?;
                    read_until(&mut stream, |_| false).await?;
                }
                Answer::Trickle(words) => {
                    say(&mut stream, &words).await?;
                    loop {
                        say(&mut stream, "1\r\n.\r\n").await?;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                Answer::Flood(words) => {
                    say(&mut stream, &words).await?;
                    let much = "x".repeat(1 << 16);
                    loop {
                        say(&mut stream, &much).await?;
                    }
                }
                Answer::HangUp(words) => {
                    say(&mut stream, &words).await?;
                    stream.shutdown().await.ok()?;
                    return None;
                }
            }
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn read_until<S: AsyncRead + Unpin>(stream: &mut S, enough: impl Fn(&str) -> bool) -> Option<String> {
    let mut text = String::new();
    while !enough(&text) {
        let mut part = vec![0; 1 << 16];
        let length = stream.read(&mut part).await.ok().filter(|length| *length > 0)?;
        text.extend(part[..length].iter().copied().map(char::from));
    }
    Some(text)
}

async fn read_call<S: AsyncRead + Unpin>(stream: &mut S, connection: usize) -> Option<Call> {
    let parse = |text: &str| -> Option<Call> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines().map(str::to_owned);
        let line = lines.next()?;
        let headers = lines.map(|line| line.split_once(": ").map(|(n, v)| (n.into(), v.into())).unwrap());
        let headers = headers.collect();
        let call = Call { connection, at: Instant::now(), line, headers, body: body.into() };
        let length: usize = call.find("Content-Length").map_or(0, |length| length.parse().unwrap());
        (body.chars().count() == length).then_some(call)
    };
    let text = read_until(stream, |text| parse(text).is_some()).await?;
    parse(&text)
}
