//! A receiver of webhooks that answers as the test wants it to, badly for the most part.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::accounts::AuthToken;
use domain::{CallbackUrl, Parameter, Timestamp};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;
use webhooks::{Attempt, Request, Sender, Settings};

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

pub fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Words(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

pub fn ok() -> Answer {
    answer("200 OK", "", "ok")
}

/// One request, as it came.
#[derive(Debug)]
pub struct Call {
    /// The how manieth connection brought it.
    pub connection: usize,
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(values.next().is_none(), "{name} twice");
        &value.1
    }

    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

pub struct Receiver {
    pub port: u16,
    calls: UnboundedReceiver<Call>,
    ends: UnboundedReceiver<usize>,
}

impl Receiver {
    /// Answers with each of `answers` in turn, and with the last for good.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", None, answers).await
    }

    pub async fn with_tls(config: ServerConfig, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1", Some(TlsAcceptor::from(Arc::new(config))), answers).await
    }

    pub async fn listen(
        host: &str,
        tls: Option<TlsAcceptor>,
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let (calls_in, calls) = unbounded_channel();
        let (ends_in, ends) = unbounded_channel();
        tokio::spawn(async move {
            for connection in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                let line = Line { connection, script: script.clone(), calls: calls_in.clone() };
                let (tls, ends) = (tls.clone(), ends_in.clone());
                tokio::spawn(async move {
                    match tls {
                        None => line.serve(socket).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(stream) => line.serve(stream).await,
                            Err(_) => None,
                        },
                    };
                    let _ = ends.send(connection);
                });
            }
        });
        Self { port, calls, ends }
    }

    pub fn url(&self, path: &str) -> CallbackUrl {
        url(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// The next request.
    pub async fn call(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    /// How many requests have come that nobody has asked for.
    pub fn calls_left(&self) -> usize {
        self.calls.len()
    }

    /// Waits for the end of a connection.
    pub async fn end(&mut self) -> usize {
        self.ends.recv().await.unwrap()
    }
}

struct Line {
    connection: usize,
    script: Arc<Mutex<VecDeque<Answer>>>,
    calls: UnboundedSender<Call>,
}

impl Line {
    /// Ends, with `None`, when the other side does.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Option<()> {
        loop {
            let call = read_call(&mut stream, self.connection).await?;
            let _ = self.calls.send(call);
            match self.next() {
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

    fn next(&self) -> Answer {
        let mut script = self.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
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
        text += std::str::from_utf8(&part[..length]).unwrap();
    }
    Some(text)
}

async fn read_call<S: AsyncRead + Unpin>(stream: &mut S, connection: usize) -> Option<Call> {
    let parse = |text: &str| -> Option<Call> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines().map(str::to_owned);
        let line = lines.next()?;
        let headers = lines.map(|line| line.split_once(": ").map(|(n, v)| (n.into(), v.into())).unwrap());
        let call = Call { connection, line, headers: headers.collect(), body: body.into() };
        (call.header("Content-Length").parse() == Ok(body.len())).then_some(call)
    };
    let text = read_until(stream, |text| parse(text).is_some()).await?;
    parse(&text)
}

pub fn url(text: &str) -> CallbackUrl {
    CallbackUrl::from_parameter(text).unwrap()
}

/// Loopback allowed, and patience enough for a busy machine.
pub fn settings() -> Settings {
    let allow = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).into();
    Settings { allow, ..Settings::default() }
}

pub fn sender() -> Sender {
    Sender::new(settings()).unwrap()
}

pub fn auth_token() -> AuthToken {
    AuthToken::parse("0123456789abcdef0123456789abcdef").unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_seconds(1_767_225_600)
}

/// Sends an event of no importance.
pub async fn send(sender: &Sender, url: &CallbackUrl) -> Attempt {
    let parameters = [("type".to_owned(), "factor.verified".to_owned())];
    let request = Request {
        url,
        parameters: &parameters,
        auth_token: &auth_token(),
        idempotency_token: "one-delivery",
    };
    sender.send(&request, now()).await
}
