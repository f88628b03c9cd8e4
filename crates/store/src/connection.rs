//! A connection of either database, and how SQLite connections are configured.

use std::borrow::Cow;
use std::path::Path;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlSafeStr, Sqlite};

use crate::limits::ACQUIRE_TIMEOUT;
use crate::pool::PooledConnection;
use crate::values::{Row, Value, bound};

/// Size in bytes to which the write-ahead log shrinks after a checkpoint. It grows beyond that while a long read, such
/// as a backup, keeps SQLite from restarting it.
const WAL_SIZE_LIMIT_BYTES: &str = "67108864";

/// Returns the options for a SQLite file, or for a database in memory if `path` is `None`. Always `FULL` and WAL, so
/// that acknowledged writes survive power loss.
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

/// A connection of either database, inside or outside a transaction.
pub(crate) enum Connection {
    /// The write connection, or the only one of a database in memory.
    Sqlite(Box<SqliteConnection>),
    /// A read connection.
    SqliteReader(PoolConnection<Sqlite>),
    /// A connection for reads or for one transaction.
    Postgres(PooledConnection),
}

impl Connection {
    /// Returns whether the database is PostgreSQL, for statements that must differ.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs a statement and returns all its rows. The text consists of constants of this crate only; external input
    /// belongs in `values`.
    ///
    /// The text must name its columns and never use `*`. Statements stay prepared, and one whose result gains columns
    /// when a newer version migrates the database would fail from then on.
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

    /// Commits the transaction.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) | Self::SqliteReader(_) => self.rows("COMMIT", Vec::new()).await.map(drop),
            Self::Postgres(pooled) => pooled.commit().await,
        }
    }

    /// Rolls the transaction back. Ignores a failure, after which the database rolls back by itself.
    pub(crate) async fn roll_back(&mut self) {
        match self {
            Self::Sqlite(_) | Self::SqliteReader(_) => drop(self.rows("ROLLBACK", Vec::new()).await),
            Self::Postgres(pooled) => pooled.roll_back().await,
        }
    }
}
