//! Connections to either database, and the configuration of SQLite connections.

use std::borrow::Cow;
use std::path::Path;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlSafeStr, Sqlite};

use crate::limits::ACQUIRE_TIMEOUT;
use crate::pool::PooledConnection;
use crate::values::{Row, Value, bound};

/// Size in bytes to which SQLite truncates the write-ahead log after a checkpoint (64 MiB). The log may grow larger
/// while a long read, such as a backup, keeps SQLite from restarting it.
const WAL_SIZE_LIMIT_BYTES: &str = "67108864";

/// Returns the connection options for a SQLite file, or for an in-memory database if `path` is `None`. Files always use
/// WAL mode with synchronous mode `FULL`, so that acknowledged writes survive power loss.
pub(crate) fn sqlite_options(path: Option<&Path>) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-8000");
    match path {
        None => options.in_memory(true),
        Some(path) => options
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("journal_size_limit", WAL_SIZE_LIMIT_BYTES),
    }
}

/// A connection to either database, inside or outside a transaction.
pub(crate) enum Connection {
    /// A SQLite connection outside the pool, such as the write connection or the only connection of an in-memory
    /// database.
    Sqlite(Box<SqliteConnection>),
    /// A SQLite read connection from the pool.
    SqliteReader(PoolConnection<Sqlite>),
    /// A PostgreSQL connection, for reads or for one transaction.
    Postgres(PooledConnection),
}

impl Connection {
    /// Returns whether the database is PostgreSQL. Used where the two databases need different statements.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs a statement and returns all its rows. `sql` may consist only of constants of this crate; external input
    /// must be passed in `values`.
    ///
    /// `sql` must name its columns and never use `*`. Statements stay prepared: if a newer version's migration added
    /// columns to the result of `*`, the prepared statement would fail from then on.
    pub(crate) async fn rows(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let sql = match sql.into() {
            Cow::Borrowed(sql) => sql.into_sql_str(),
            Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
        };
        macro_rules! fetch {
            ($database:ident, $connection:expr) => {
                async {
                    let rows = bound!($database, sql, values).fetch_all($connection).await?;
                    Ok(rows.into_iter().map(Row::$database).collect())
                }
            };
        }
        match self {
            Self::Sqlite(connection) => fetch!(Sqlite, &mut **connection).await,
            Self::SqliteReader(connection) => fetch!(Sqlite, &mut **connection).await,
            Self::Postgres(pooled) => pooled.rows(sql, values).await,
        }
    }

    /// Commits the current transaction.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) | Self::SqliteReader(_) => self.rows("COMMIT", Vec::new()).await.map(drop),
            Self::Postgres(pooled) => pooled.commit().await,
        }
    }

    /// Rolls back the current transaction. Ignores an error, because the database then rolls back by itself.
    pub(crate) async fn roll_back(&mut self) {
        match self {
            Self::Sqlite(_) | Self::SqliteReader(_) => drop(self.rows("ROLLBACK", Vec::new()).await),
            Self::Postgres(pooled) => pooled.roll_back().await,
        }
    }
}
