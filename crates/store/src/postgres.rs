//! Connecting to PostgreSQL: parsing the URL, opening connections, and detecting a connection pooler in front of the
//! database.

use std::sync::Arc;
use std::time::Duration;

use domain::Secret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;
use url::Url;

use crate::error::Error;
use crate::limits::ACQUIRE_TIMEOUT;

/// Statements that set the limits of a session, in milliseconds. With these limits, a statement or a lock wait that
/// takes too long fails, and PostgreSQL soon releases the locks of a Countersign server that died or lost its
/// connection.
const SESSION_LIMITS: &str = "SET statement_timeout = 8000; SET lock_timeout = 4000; \
     SET idle_in_transaction_session_timeout = 15000; SET tcp_user_timeout = 15000";

/// Number of rounds in which two connections are asked in turn for the PostgreSQL process that serves them, to detect a
/// pooler.
const PROBE_ROUNDS: usize = 4;

/// The encoding that a PostgreSQL database must have.
const REQUIRED_ENCODING: &str = "UTF8";

/// How PostgreSQL sessions are assigned to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// The connection always has the same session: prepared statements and settings persist.
    Own,
    /// Each transaction may run in a different session, assigned by a pooler in transaction mode: nothing outlives a
    /// transaction.
    Shared,
}

/// The address of a PostgreSQL database, parsed from a URL.
#[derive(Clone)]
pub(crate) struct Server {
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// Host, port and database name, for messages.
    place: Arc<str>,
}

impl Server {
    /// Parses a PostgreSQL URL. The URL's parameter `connect_timeout`, in seconds, is handled here because `sqlx` does
    /// not support it.
    ///
    /// # Errors
    /// Returns an error if `url` is not a URL or has an invalid parameter.
    pub(crate) fn parse(url: &Secret<String>) -> Result<Self, Error> {
        let invalid = |error: url::ParseError| sqlx::Error::Configuration(error.into());
        let mut url = Url::parse(url.expose()).map_err(invalid)?;
        let (mut connect_timeout, mut others) = (ACQUIRE_TIMEOUT, Vec::new());
        for (name, value) in url.query_pairs().into_owned() {
            if name != "connect_timeout" {
                others.push((name, value));
            } else if let Some(seconds) = value.parse().ok().filter(|&seconds: &u64| seconds > 0) {
                connect_timeout = Duration::from_secs(seconds);
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        let mut options = PgConnectOptions::from_url(&url)?
            .application_name("countersign")
            // This parameter is not sent, because no column is a float and poolers refuse parameters that they do not
            // know.
            .extra_float_digits(None);
        // The brackets around an IPv6 address belong to the URL, not to the address.
        let address = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(address) = address.map(str::to_owned) {
            options = options.host(&address);
        }
        let place = place(&options).into();
        Ok(Self { options, connect_timeout, place })
    }

    /// Returns the host, port and database name, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Opens a connection without session limits.
    ///
    /// # Errors
    /// Returns [`Error::Unreachable`] if the connection cannot be opened in time.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        let connected = timeout(self.connect_timeout, PgConnection::connect_with(&self.options)).await;
        let connected = connected.unwrap_or_else(|_| {
            let reason = format!("no answer within {} seconds", self.connect_timeout.as_secs());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason).into())
        });
        connected.map_err(|reason| self.unreachable(reason))
    }

    /// Opens a connection for reads and writes. Sets the session's limits, unless the session is shared.
    ///
    /// # Errors
    /// Returns [`Error::Unreachable`] if the connection cannot be opened in time.
    pub(crate) async fn connect_for(&self, sessions: Sessions) -> Result<PgConnection, Error> {
        let mut connection = self.connect().await?;
        if sessions == Sessions::Own {
            connection.execute(SESSION_LIMITS).await.map_err(|reason| self.unreachable(reason))?;
        }
        Ok(connection)
    }

    /// Returns a `sqlx` pool with one connection that never expires, for APIs that require such a pool.
    pub(crate) fn pool_of_one(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        pool.acquire_timeout(self.connect_timeout).connect_lazy_with(self.options.clone())
    }

    /// Detects whether a pooler in transaction mode shares sessions among connections. `one` is an open connection.
    ///
    /// Asks two connections in turn for the PostgreSQL process that serves them. Without a pooler, each connection
    /// always reports the same process, and the two processes differ. Behind an idle pooler, both connections report
    /// the same process; behind a busy one, the responses change. The sessions therefore count as unshared only if the
    /// two processes differ and stay the same in all rounds.
    ///
    /// # Errors
    /// Returns an error if PostgreSQL cannot be reached or does not respond.
    pub(crate) async fn detect_sessions(&self, one: &mut PgConnection) -> Result<Sessions, Error> {
        let mut other = self.connect().await?;
        let (first, second) = (backend_pid(one).await?, backend_pid(&mut other).await?);
        let mut are_own = first != second;
        for _ in 1..PROBE_ROUNDS {
            are_own &= backend_pid(one).await? == first && backend_pid(&mut other).await? == second;
        }
        let _ = other.close().await;
        Ok(if are_own { Sessions::Own } else { Sessions::Shared })
    }

    /// Checks that the database can store every character, which requires the encoding UTF-8.
    ///
    /// # Errors
    /// Returns [`Error::Encoding`] if the database's encoding is not UTF-8, or another error if PostgreSQL cannot be
    /// queried.
    pub(crate) async fn check_encoding(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let encoding = sqlx::raw_sql("SHOW server_encoding").fetch_one(connection).await?;
        match encoding.try_get::<String, _>(0)? {
            encoding if encoding == REQUIRED_ENCODING => Ok(()),
            encoding => Err(Error::Encoding { place: Arc::clone(&self.place), encoding }),
        }
    }

    fn unreachable(&self, reason: sqlx::Error) -> Error {
        Error::Unreachable { place: Arc::clone(&self.place), reason: Arc::new(reason) }
    }
}

/// Returns the host, port and database name, but not the user and password.
fn place(options: &PgConnectOptions) -> String {
    let socket = options.get_socket().map(|socket| socket.display().to_string());
    let host = socket.unwrap_or_else(|| options.get_host().to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    // By default, PostgreSQL uses the user's name as the name of the database.
    let database = options.get_database().unwrap_or(options.get_username());
    format!("PostgreSQL at {host}:{}, database {database}", options.get_port())
}

/// Returns the ID of the PostgreSQL process that currently serves a connection.
async fn backend_pid(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Server {
        Server::parse(&Secret::new(url.to_owned())).unwrap()
    }

    #[test]
    fn database_description_contains_host_port_and_name_but_no_password() {
        for (url, expected) in [
            ("postgres://owl:hoot@db.example.com/bank", "PostgreSQL at db.example.com:5432, database bank"),
            ("postgres://owl:hoot@[::1]:6432", "PostgreSQL at [::1]:6432, database owl"),
            (
                "postgres://owl@x/bank?host=/run/postgresql&password=hoot",
                "PostgreSQL at /run/postgresql:5432, database bank",
            ),
        ] {
            assert_eq!(parse(url).place(), expected);
        }
        assert_eq!(parse("postgres://owl@[::1]/bank").options.get_host(), "::1");
    }

    #[test]
    fn connect_timeout_in_url_is_parsed_as_positive_seconds() {
        let url = "postgres://owl@db.example.com/bank";
        for (query, expected) in [
            ("", ACQUIRE_TIMEOUT),
            ("?connect_timeout=2", Duration::from_secs(2)),
            ("?sslmode=require&connect_timeout=12&options[geqo]=off", Duration::from_secs(12)),
            ("?connect_timeout=0", ACQUIRE_TIMEOUT),
        ] {
            assert_eq!(parse(&format!("{url}{query}")).connect_timeout, expected, "{query}");
        }
        assert_eq!(parse(&format!("{url}?options[geqo]=off")).options.get_options(), Some("-c geqo=off"));
    }
}
