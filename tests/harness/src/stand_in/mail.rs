//! A mail server that keeps what it receives, and whose replies a test can choose.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The encryption that a mail server offers.
#[derive(Clone)]
pub enum MailTls {
    /// None.
    None,
    /// STARTTLS, before which clients cannot authenticate.
    Starttls(Arc<ServerConfig>),
    /// TLS from the beginning.
    Implicit(Arc<ServerConfig>),
}

/// What a mail server offers and demands.
#[derive(Clone)]
pub struct MailServerOptions {
    /// Encryption.
    pub tls: MailTls,
    /// The only user with the password. Without one, the server does not offer authentication.
    pub login: Option<(&'static str, &'static str)>,
    /// The mechanisms of authentication, such as `PLAIN LOGIN`.
    pub mechanisms: &'static str,
}

impl Default for MailServerOptions {
    fn default() -> Self {
        Self { tls: MailTls::None, login: None, mechanisms: "PLAIN LOGIN" }
    }
}

/// The reaction to a command.
#[derive(Clone, Debug)]
pub enum MailReaction {
    /// Sends this text, and goes on as if it had been the usual reply.
    Reply(&'static str),
    /// Sends nothing, and keeps the connection open.
    Silence,
    /// Closes the connection.
    HangUp,
}

/// A mail that a mail server accepted.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    /// The number of its connection, counted from 1.
    pub connection: usize,
    /// The name that the client gave in its greeting.
    pub hello: String,
    /// The user who authenticated.
    pub user: Option<String>,
    /// Whether the connection was encrypted.
    pub is_encrypted: bool,
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and body.
    pub content: String,
}

/// A running mail server on a thread of its own, stopped when dropped.
pub struct MailServer {
    port: u16,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    options: MailServerOptions,
    reactions: Mutex<HashMap<&'static str, VecDeque<MailReaction>>>,
    mails: Mutex<Vec<ReceivedMail>>,
    commands: Mutex<Vec<String>>,
    connections: Mutex<usize>,
}

impl MailServer {
    /// Starts on a free port.
    pub fn start(options: MailServerOptions) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            options,
            reactions: Mutex::default(),
            mails: Mutex::default(),
            commands: Mutex::default(),
            connections: Mutex::default(),
        });
        runtime.spawn({
            let state = state.clone();
            async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut sessions = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    sessions.spawn(Session::run(socket, state.clone()));
                }
            }
        });
        Self { port, state, runtime: Some(runtime) }
    }

    /// Returns the port on which the server listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Chooses the reaction to the next command with this verb, in addition to those that were chosen before. `CONNECT`
    /// is the connection itself, and `.` is the end of a mail.
    pub fn react(&self, verb: &'static str, reaction: MailReaction) {
        self.state.reactions.lock().unwrap().entry(verb).or_default().push_back(reaction);
    }

    /// Returns all mails accepted so far.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.state.mails.lock().unwrap().clone()
    }

    /// Returns the verbs of all commands so far, of all connections.
    pub fn commands(&self) -> Vec<String> {
        self.state.commands.lock().unwrap().clone()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }
}

impl State {
    /// Returns the usual reply to a command, or what the test chose.
    async fn choose_reply(&self, verb: &str, usual: &str) -> Option<String> {
        let chosen = self.reactions.lock().unwrap().get_mut(verb).and_then(VecDeque::pop_front);
        match chosen {
            None => Some(usual.to_owned()),
            Some(MailReaction::Reply(text)) => Some(text.to_owned()),
            Some(MailReaction::HangUp) => None,
            Some(MailReaction::Silence) => std::future::pending().await,
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which a test's async thread must not do.
        self.runtime.take().unwrap().shutdown_background();
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
struct Session {
    state: Arc<State>,
    stream: BufReader<Box<dyn Stream>>,
    connection: usize,
    is_encrypted: bool,
    hello: Option<String>,
    user: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

impl Session {
    /// Serves a connection until it is closed, which returns `None`.
    async fn run(socket: TcpStream, state: Arc<State>) -> Option<()> {
        let connection = {
            let mut connections = state.connections.lock().unwrap();
            *connections += 1;
            *connections
        };
        let (stream, is_encrypted): (Box<dyn Stream>, bool) = match &state.options.tls {
            MailTls::Implicit(config) => {
                (Box::new(TlsAcceptor::from(config.clone()).accept(socket).await.ok()?), true)
            }
            MailTls::None | MailTls::Starttls(_) => (Box::new(socket), false),
        };
        let mut session = Self {
            state,
            stream: BufReader::new(stream),
            connection,
            is_encrypted,
            hello: None,
            user: None,
            from: None,
            to: Vec::new(),
        };
        session.reply("CONNECT", "220 mail.test ESMTP").await?;
        loop {
            let line = session.read_line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = verb.to_ascii_uppercase();
            session.state.commands.lock().unwrap().push(verb.clone());
            session.command(&verb, rest).await?;
        }
    }

    async fn command(&mut self, verb: &str, rest: &str) -> Option<()> {
        let options = self.state.options.clone();
        match verb {
            "EHLO" => {
                self.hello = Some(rest.to_owned());
                let mut reply = "250-mail.test\r\n250-8BITMIME\r\n".to_owned();
                match (&options.tls, self.is_encrypted) {
                    (MailTls::Starttls(_), false) => reply.push_str("250-STARTTLS\r\n"),
                    _ if options.login.is_some() => {
                        reply.push_str(&format!("250-AUTH {}\r\n", options.mechanisms));
                    }
                    _ => {}
                }
                self.reply("EHLO", &format!("{reply}250 SIZE 1000000")).await.map(drop)
            }
            "STARTTLS" => {
                let MailTls::Starttls(config) = options.tls else {
                    return self.reply("STARTTLS", "502 not offered").await.map(drop);
                };
                self.reply("STARTTLS", "220 go ahead").await?;
                assert!(self.stream.buffer().is_empty(), "the client sent commands before TLS");
                let plain = std::mem::replace(
                    &mut self.stream,
                    BufReader::new(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink()))),
                );
                let tls = TlsAcceptor::from(config).accept(plain.into_inner()).await.ok()?;
                self.stream = BufReader::new(Box::new(tls));
                (self.is_encrypted, self.hello) = (true, None);
                Some(())
            }
            "AUTH" => {
                let given = self.read_login(rest).await?;
                let is_right = options
                    .login
                    .is_some_and(|(user, password)| given == Some((user.to_owned(), password.to_owned())));
                if !is_right {
                    return self.reply("AUTH", "535 5.7.8 authentication failed").await.map(drop);
                }
                if self.reply("AUTH", "235 2.7.0 welcome").await? {
                    self.user = given.map(|(user, _)| user);
                }
                Some(())
            }
            "MAIL" if self.hello.is_none() => self.reply("MAIL", "503 say hello").await.map(drop),
            "MAIL" if options.login.is_some() && self.user.is_none() => {
                self.reply("MAIL", "530 5.7.0 authentication required").await.map(drop)
            }
            "MAIL" => {
                self.from = address(rest, "FROM:");
                self.to.clear();
                self.reply("MAIL", "250 2.1.0 ok").await.map(drop)
            }
            "RCPT" if self.from.is_some() => {
                if self.reply("RCPT", "250 2.1.5 ok").await? {
                    self.to.extend(address(rest, "TO:"));
                }
                Some(())
            }
            "DATA" if !self.to.is_empty() => {
                if self.reply("DATA", "354 go on").await? {
                    self.read_mail().await?;
                }
                Some(())
            }
            "NOOP" | "RSET" => self.reply("NOOP", "250 2.0.0 ok").await.map(drop),
            "QUIT" => {
                self.reply("QUIT", "221 2.0.0 bye").await?;
                None
            }
            _ => self.reply("", "503 bad sequence of commands").await.map(drop),
        }
    }

    /// Sends the usual reply to a command, or what the test chose. Returns whether it accepts the command.
    async fn reply(&mut self, verb: &str, usual: &str) -> Option<bool> {
        let text = self.state.choose_reply(verb, usual).await?;
        self.send(&text).await?;
        Some(is_positive(&text))
    }

    async fn send(&mut self, text: &str) -> Option<()> {
        self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
        self.stream.get_mut().flush().await.ok()
    }

    async fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    }

    /// Reads the user and the password of a command `AUTH`.
    async fn read_login(&mut self, rest: &str) -> Option<Option<(String, String)>> {
        let decode = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        Some(match rest.split_once(' ') {
            Some(("PLAIN", response)) => {
                let text = decode(response);
                let mut parts = text.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            _ if rest == "LOGIN" => {
                self.reply("LOGIN", &format!("334 {}", STANDARD.encode("Username:"))).await?;
                let user = decode(&self.read_line().await?);
                self.reply("LOGIN", &format!("334 {}", STANDARD.encode("Password:"))).await?;
                Some((user, decode(&self.read_line().await?)))
            }
            _ => None,
        })
    }

    async fn read_mail(&mut self) -> Option<()> {
        let mut content = String::new();
        loop {
            let line = self.read_line().await?;
            if line == "." {
                break;
            }
            // A line that begins with a dot has another one in front (RFC 5321 section 4.5.2).
            content.push_str(line.strip_prefix('.').unwrap_or(&line));
            content.push_str("\r\n");
        }
        let reply = self.state.choose_reply(".", "250 2.0.0 Ok: queued as 4F2A91").await?;
        // The mail is recorded before the client learns of it.
        if is_positive(&reply) {
            let mail = ReceivedMail {
                connection: self.connection,
                hello: self.hello.clone().unwrap(),
                user: self.user.clone(),
                is_encrypted: self.is_encrypted,
                from: self.from.take().unwrap(),
                to: std::mem::take(&mut self.to),
                content,
            };
            self.state.mails.lock().unwrap().push(mail);
        }
        self.send(&reply).await
    }
}

fn is_positive(reply: &str) -> bool {
    reply.starts_with(['2', '3'])
}

/// Returns the address in the parameters of a command, such as `FROM:<ann@example.com> BODY=8BITMIME`.
fn address(rest: &str, keyword: &str) -> Option<String> {
    let (address, _) = rest.strip_prefix(keyword)?.strip_prefix('<')?.split_once('>')?;
    Some(address.to_owned())
}
