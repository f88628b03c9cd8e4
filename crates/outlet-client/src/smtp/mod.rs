//! Outlets that are mail servers.
//!
//! The crate `lettre` writes mails and speaks SMTP. Its own pool of connections is not used: it would give a connection
//! back after a timeout in the middle of a command, and the next mail would get the reply to that command.

mod line_stream;
mod mail;
mod pool;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authorities::Authorities;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailCommand, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use tokio::net::TcpStream;

use self::line_stream::LineStream;
use self::mail::Mail;
pub(crate) use self::mail::parse_address;
use self::pool::{Pool, PoolCache};
use crate::codes;
use crate::message::{Message, Outcome};
use crate::redaction::Redactor;
use crate::settings::{Encryption, SmtpSettings};

/// Replies about a user who is unknown, or who must authenticate (RFC 4954 section 6).
const LOGIN_REPLIES: [&str; 4] = ["530", "534", "535", "538"];

/// Maximum time for the reply to the command that tests a connection before it is used again. A firewall may have
/// forgotten the connection, and then there is no reply.
const IDLE_TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends mails, and keeps connections between two of them.
pub(crate) struct SmtpClient {
    authorities: Authorities,
    pools: PoolCache,
    timeout: Duration,
    connect_timeout: Duration,
}

impl SmtpClient {
    /// Creates a client without connections.
    pub(crate) fn new(authorities: Authorities, timeout: Duration, connect_timeout: Duration) -> Self {
        Self { authorities, pools: PoolCache::default(), timeout, connect_timeout }
    }

    /// Makes one attempt to send `message`. Messages with the same `key` share connections.
    pub(crate) async fn send(&self, key: &str, settings: &SmtpSettings, message: &Message) -> Outcome {
        let redactor = Redactor::new(message, settings.login().map(|login| &login.password));
        let mail = match Mail::compose(settings, message) {
            Ok(mail) => mail,
            Err(reason) => return Outcome::Refused { code: codes::MAIL_NOT_SENT, reason },
        };
        match tokio::time::timeout(self.timeout, self.deliver(key, settings, &mail)).await {
            Ok(Ok(reply)) => Outcome::Accepted { provider_id: queue_id(&reply, &redactor) },
            Ok(Err(failure)) => failure.outcome(&redactor),
            Err(_) => Outcome::Retry {
                after: None,
                code: codes::MAIL_NOT_SENT,
                reason: "timed out waiting for the mail server".to_owned(),
            },
        }
    }

    async fn deliver(&self, key: &str, settings: &SmtpSettings, mail: &Mail) -> Result<Response, Failure> {
        let pool =
            self.pools.get_or_create(key, || self.create_pool(settings)).map_err(Failure::to_connect)?;
        let mut connection = match take_connected(&pool).await {
            Some(connection) => connection,
            None => self.connect(settings, &pool).await?,
        };
        // After a failure the connection is dropped, because its state is unknown.
        let reply = transfer(&mut connection, mail).await.map_err(Failure::to_send)?;
        pool.put(connection);
        Ok(reply)
    }

    fn create_pool(&self, settings: &SmtpSettings) -> Result<Pool, SmtpError> {
        let mut tls =
            TlsParameters::builder(settings.host().to_owned()).certificate_store(CertificateStore::None);
        for certificate in self.authorities.certificates() {
            tls = tls.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
        }
        Ok(Pool::new(tls.build()?))
    }

    /// Opens a connection, encrypts it as the settings demand, and authenticates.
    async fn connect(&self, settings: &SmtpSettings, pool: &Pool) -> Result<AsyncSmtpConnection, Failure> {
        let resolved = tokio::net::lookup_host((settings.host(), settings.port()));
        let resolved = within(self.connect_timeout, resolved).await.map_err(Failure::without_connection)?;
        let addresses: Vec<_> = resolved.collect();
        // An address that does not answer must leave time for the others.
        let share = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        // Mail servers expect the name of the client, and a server in a container has no useful name of its own.
        let hello = ClientId::Domain(mail::domain_of(settings.from()));
        let mut connection = if settings.encryption() == Encryption::Implicit {
            let (timeout, tls) = (Some(share), Some(pool.tls().clone()));
            let opened =
                AsyncSmtpConnection::connect_tokio1(&addresses[..], timeout, &hello, tls, None).await;
            opened.map_err(Failure::to_connect)?
        } else {
            let stream = connect_to_first(&addresses, share).await;
            let stream = Box::new(LineStream::new(stream.map_err(Failure::without_connection)?));
            let greeted = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
            greeted.map_err(Failure::to_connect)?
        };
        let starts_tls = match settings.encryption() {
            Encryption::Required => true,
            Encryption::Opportunistic => connection.can_starttls(),
            Encryption::Implicit | Encryption::None => false,
        };
        if starts_tls {
            connection.starttls(pool.tls().clone(), &hello).await.map_err(Failure::to_connect)?;
        }
        if let Some(login) = settings.login() {
            let credentials = Credentials::new(login.user.clone(), login.password.expose().clone());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&mechanisms, &credentials).await.map_err(Failure::to_log_in)?;
        }
        Ok(connection)
    }
}

/// Connects to the first address that accepts a connection within `timeout`.
async fn connect_to_first(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the host has no address");
    for address in addresses {
        match within(timeout, TcpStream::connect(address)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Returns the result of `work`, or the error of a timeout.
async fn within<T>(timeout: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Returns a connection of the pool that is still open, or `None` if there is none.
async fn take_connected(pool: &Arc<Pool>) -> Option<AsyncSmtpConnection> {
    while let Some(mut connection) = pool.take() {
        match tokio::time::timeout(IDLE_TEST_TIMEOUT, connection.test_connected()).await {
            Ok(true) => return Some(connection),
            Ok(false) => {}
            // The others are probably lost in the same way, and testing each of them would take too long.
            Err(_) => pool.clear(),
        }
    }
    None
}

/// Sends a mail over a connection, and returns the reply with which the server accepted it.
async fn transfer(connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<Response, SmtpError> {
    connection.command(MailCommand::new(Some(mail.from.clone()), Vec::new())).await?;
    connection.command(Rcpt::new(mail.to.clone(), Vec::new())).await?;
    connection.command(Data).await?;
    connection.message(&mail.content).await
}

/// Returns the ID under which the server queued a mail, if its reply contains it in the usual words.
fn queue_id(reply: &Response, redactor: &Redactor) -> Option<String> {
    let text = reply.message().collect::<Vec<_>>().join(" ");
    let (_, after) = text.split_once("queued as ")?;
    after.split_whitespace().next().map(|id| redactor.reason(id))
}

/// Why a mail was not sent.
struct Failure {
    /// Whether the server refused the user, or can't authenticate one.
    is_of_login: bool,
    /// Whether another attempt may succeed.
    is_temporary: bool,
    reason: String,
}

impl Failure {
    fn to_connect(error: SmtpError) -> Self {
        Self::new(&error, false, "cannot connect")
    }

    fn to_log_in(error: SmtpError) -> Self {
        // The server may be lost also while it checks a password.
        let is_of_login = error.status().is_some() || error.is_client();
        Self::new(&error, is_of_login, "cannot authenticate")
    }

    fn to_send(error: SmtpError) -> Self {
        Self::new(&error, false, "cannot send")
    }

    fn without_connection(error: io::Error) -> Self {
        Self { is_of_login: false, is_temporary: true, reason: format!("cannot connect: {error}") }
    }

    /// Creates the failure for an error. A reply of the server speaks for itself; other errors need the name of what
    /// failed.
    fn new(error: &SmtpError, is_of_login: bool, attempt: &str) -> Self {
        let status = error.status().map(|code| code.to_string());
        let is_of_login =
            is_of_login || status.as_ref().is_some_and(|code| LOGIN_REPLIES.contains(&code.as_str()));
        let cause = innermost_cause(error);
        let reason = match status {
            Some(code) => format!("{code} {cause}"),
            None => format!("{attempt}: {cause}"),
        };
        Self { is_of_login, is_temporary: !error.is_permanent() && !error.is_client(), reason }
    }

    fn outcome(self, redactor: &Redactor) -> Outcome {
        let code = if self.is_of_login { codes::MAIL_LOGIN_REFUSED } else { codes::MAIL_NOT_SENT };
        let reason = redactor.reason(&self.reason);
        if self.is_temporary {
            Outcome::Retry { after: None, code, reason }
        } else {
            Outcome::Refused { code, reason }
        }
    }
}

/// Returns the text of the innermost cause. The others repeat it, or only say that there was an error.
fn innermost_cause(error: &SmtpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use harness::SilentPort;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn address_that_does_not_answer_leaves_time_for_the_next() {
        let silent = SilentPort::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answering = listener.local_addr().unwrap();
        let (began, timeout) = (Instant::now(), Duration::from_millis(300));
        let stream = connect_to_first(&[silent.address, answering], timeout).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answering);
        assert!((timeout..Duration::from_secs(10)).contains(&began.elapsed()));
        let failure = connect_to_first(&[silent.address], timeout).await.unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        assert!(connect_to_first(&[], timeout).await.is_err());
    }
}
