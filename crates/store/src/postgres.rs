//! Connecting to PostgreSQL: what a URL says, how long it may take, and whose the sessions are.

use std::sync::Arc;
use std::time::Duration;

use domain::Secret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;
use url::Url;

use crate::PATIENCE;
use crate::error::Error;

/// Limits of every session, in milliseconds. A statement or a lock that takes too long fails. Locks of a server
/// that died, or whose line is broken, are free again soon.
const SESSION_LIMITS: &str = "SET statement_timeout = 8000; SET lock_timeout = 4000; \
     SET idle_in_transaction_session_timeout = 15000; SET tcp_user_timeout = 15000";

/// How often two connections are asked in turn which process serves them.
const ROUNDS: usize = 4;

/// The encoding that a database must have.
const ENCODING: &str = "UTF8";

/// Which session of PostgreSQL serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Always the same: statements stay prepared, and settings stay set.
    Own,
    /// Another one in each transaction, as a pooler in transaction mode assigns them: nothing outlives a
    /// transaction.
    Shared,
}

/// A PostgreSQL database, as a URL names it.
#[derive(Clone)]
pub(crate) struct Server {
    options: PgConnectOptions,
    /// How long connecting may take.
    patience: Duration,
    /// Host, port and database, for messages.
    place: Arc<str>,
}

impl Server {
    /// Reads a URL. `connect_timeout`, in seconds, is ours: `sqlx` does not know it.
    ///
    /// # Errors
    /// When it is none, or a parameter can't be read.
    pub(crate) fn parse(url: &Secret<String>) -> Result<Self, Error> {
        let invalid = |error: url::ParseError| sqlx::Error::Configuration(error.into());
        let mut url = Url::parse(url.expose()).map_err(invalid)?;
        let (mut patience, mut others) = (PATIENCE, Vec::new());
        for (name, value) in url.query_pairs().into_owned() {
            if name != "connect_timeout" {
                others.push((name, value));
            } else if let Some(seconds) = value.parse().ok().filter(|&seconds: &u64| seconds > 0) {
                patience = Duration::from_secs(seconds);
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        let mut options = PgConnectOptions::from_url(&url)?
            .application_name("countersign")
            // No column is a float, and poolers refuse parameters that they do not know.
            .extra_float_digits(None);
        // In a URL an IPv6 address has brackets, which are not part of it.
        let address = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(address) = address.map(str::to_owned) {
            options = options.host(&address);
        }
        let place = place(&options).into();
        Ok(Self { options, patience, place })
    }

    /// Host, port and database, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        let connected = timeout(self.patience, PgConnection::connect_with(&self.options)).await;
        let connected = connected.unwrap_or_else(|_| {
            let why = format!("no answer within {} seconds", self.patience.as_secs());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why).into())
        });
        connected.map_err(|reason| self.unreachable(reason))
    }

    /// Makes a connection that is ready for reads and writes.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) async fn connect_for(&self, sessions: Sessions) -> Result<PgConnection, Error> {
        let mut connection = self.connect().await?;
        if sessions == Sessions::Own {
            connection.execute(SESSION_LIMITS).await.map_err(|reason| self.unreachable(reason))?;
        }
        Ok(connection)
    }

    /// A pool for what insists on one: with one connection, which is not replaced while it works.
    pub(crate) fn pool_of_one(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        pool.acquire_timeout(self.patience).connect_lazy_with(self.options.clone())
    }

    /// Finds out whose the sessions are. Two connections are asked in turn which process serves them: with
    /// sessions of their own, each always names the same, and never that of the other. On a quiet pooler both are
    /// served by the same, on a busy one the answers change.
    ///
    /// # Errors
    /// When PostgreSQL can't be reached or does not answer.
    pub(crate) async fn sessions(&self, one: &mut PgConnection) -> Result<Sessions, Error> {
        let mut other = self.connect().await?;
        let (first, second) = (process(one).await?, process(&mut other).await?);
        let mut are_own = first != second;
        for _ in 1..ROUNDS {
            are_own &= process(one).await? == first && process(&mut other).await? == second;
        }
        // It has done its duty.
        let _ = other.close().await;
        Ok(if are_own { Sessions::Own } else { Sessions::Shared })
    }

    /// Checks that the database can hold every character.
    ///
    /// # Errors
    /// [`Error::Encoding`] when it can't.
    pub(crate) async fn check_encoding(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let encoding = sqlx::raw_sql("SHOW server_encoding").fetch_one(connection).await?;
        match encoding.try_get::<String, _>(0)? {
            encoding if encoding == ENCODING => Ok(()),
            encoding => Err(Error::Encoding { place: Arc::clone(&self.place), encoding }),
        }
    }

    fn unreachable(&self, reason: sqlx::Error) -> Error {
        Error::Unreachable { place: Arc::clone(&self.place), reason: Arc::new(reason) }
    }
}

/// Host, port and database. Not the user, and never the password.
fn place(options: &PgConnectOptions) -> String {
    let socket = options.get_socket().map(|socket| socket.display().to_string());
    let host = socket.unwrap_or_else(|| options.get_host().to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    // PostgreSQL's own default is the name of the user.
    let database = options.get_database().unwrap_or(options.get_username());
    format!("PostgreSQL at {host}:{}, database {database}", options.get_port())
}

/// The process that serves a connection at this moment.
async fn process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Server {
        Server::parse(&Secret::new(url.to_owned())).unwrap()
    }

    #[test]
    fn a_place_names_host_port_and_database_and_no_secret() {
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
    fn connect_timeout_is_taken_in_seconds() {
        let url = "postgres://owl@db.example.com/bank";
        for (query, expected) in [
            ("", PATIENCE),
            ("?connect_timeout=2", Duration::from_secs(2)),
            ("?sslmode=require&connect_timeout=12&options[geqo]=off", Duration::from_secs(12)),
            ("?connect_timeout=0", PATIENCE),
        ] {
            assert_eq!(parse(&format!("{url}{query}")).patience, expected, "{query}");
        }
        assert_eq!(parse(&format!("{url}?options[geqo]=off")).options.get_options(), Some("-c geqo=off"));
    }
}
