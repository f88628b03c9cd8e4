//! A receiver of webhooks that answers as the test wants it to, badly for the most part.

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

/// What happens after a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes; the connection stays.
    Words(String),
    /// These bytes, and nothing more, until the other side hangs up.
    Stall(String),
    /// These bytes, then one more every few milliseconds, until the other side hangs up.
    Trickle(String),
    /// These bytes, then as many as the other side will take.
    Flood(String),
    /// These bytes, and the end.
    HangUp(String),
}

impl Answer {
    /// A whole answer. `headers` are lines, each with its end.
    pub fn of(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Words(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// All is well.
    pub fn ok() -> Self {
        Self::of("200 OK", "", "ok")
    }

    /// Nothing at all, until the other side hangs up.
    pub fn silence() -> Self {
        Self::Stall(String::new())
    }
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// The how manieth connection brought it.
    pub connection: usize,
    /// When it had come.
    pub at: Instant,
    /// Its first line.
    pub line: String,
    /// Names and values, as they were written.
    pub headers: Vec<(String, String)>,
    /// What came after the headers, each byte as the character of that number.
    pub body: String,
}

impl Call {
    /// What came after the headers, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.body.chars().map(|byte| u8::try_from(byte).unwrap()).collect()
    }

    /// The value of a header that must be there once, in these very letters.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(values.next().is_none(), "{name} twice");
        &value.1
    }

    /// The address as the receiver's framework would put it together.
    pub fn url(&self) -> String {
        let target = self.line.split(' ').nth(1).unwrap();
        format!("http://{}{target}", self.find("Host").unwrap())
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as a form.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// The value of a parameter in the form, if it is there.
    pub fn value(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

type Reaction = dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A receiver, on a port of its own and a thread of its own: it answers even while the test's thread waits
/// for a command to end. Gone when dropped.
pub struct Receiver {
    /// Where it listens.
    pub port: u16,
    reserved: Port,
    tls: Option<TlsAcceptor>,
    state: State,
    ends: UnboundedReceiver<usize>,
    /// How many calls [`call`](Self::call) has given.
    given: usize,
    listening: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

/// What the receiver's connections share.
#[derive(Clone)]
struct State {
    reaction: Arc<Reaction>,
    calls: Arc<Mutex<Vec<Call>>>,
    connections: Arc<Mutex<usize>>,
    ends: UnboundedSender<usize>,
}

impl Receiver {
    /// Answers with each of `answers` in turn, and with the last for good.
    pub fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", None, answers)
    }

    /// The same, with TLS.
    pub fn with_tls(config: ServerConfig, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", Some(config), answers)
    }

    /// The same, on this address of the machine.
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

    /// Does with each call what the test says, and answers with what comes of it.
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

    /// Listens again, on the same port.
    pub fn up(&mut self) {
        let runtime = self.runtime.as_ref().unwrap();
        let _inside = runtime.enter();
        let listener = self.reserved.listen();
        self.listening = Some(runtime.spawn(accept(listener, self.tls.clone(), self.state.clone())));
    }

    /// Stops listening and ends all connections. From now on connections are refused.
    pub async fn down(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// The address of this path here.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.reserved.address)
    }

    /// All that have come so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The next call that this has not given yet.
    ///
    /// # Panics
    ///
    /// If none comes within a minute.
    pub async fn call(&mut self) -> Call {
        let given = self.given;
        let next = async || self.state.calls.lock().unwrap().get(given).cloned();
        let call = crate::wait_until("the receiver is called", Duration::from_secs(60), next).await;
        self.given += 1;
        call
    }

    /// How many calls have come that [`call`](Self::call) has not given.
    pub fn calls_left(&self) -> usize {
        self.state.calls.lock().unwrap().len() - self.given
    }

    /// Waits for the end of a connection, other than by [`down`](Self::down), and says which.
    pub async fn end(&mut self) -> usize {
        self.ends.recv().await.unwrap()
    }

    /// How many connections have ended that [`end`](Self::end) has not told of.
    pub fn ends_left(&self) -> usize {
        self.ends.len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A test's thread may not wait for it.
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: State) {
    // Dropped with this future, and the connections with it.
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
    /// Ends, with `None`, when the other side does.
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

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, words: &str) -> Option<()> {
    stream.write_all(words.as_bytes()).await.ok()?;
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
