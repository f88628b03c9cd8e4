//! Connections to either database.

use std::borrow::Cow;

use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::pool::PooledConnection;
use crate::sqlite::SqliteConnection;
use crate::values::{Row, Value};

/// A connection to either database, inside or outside a transaction.
pub(crate) enum Connection {
    /// A SQLite connection.
    Sqlite(Box<SqliteConnection>),
    /// A PostgreSQL connection, for reads or for one transaction.
    Postgres(PooledConnection),
}

/// How long a statement may take on PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimeLimit {
    /// Up to 8 seconds, for everything that a server does.
    Short,
    /// Up to an hour, for statements of commands that read whole tables.
    Long,
}

impl Connection {
    /// Returns whether the database is PostgreSQL. Used where the two databases need different statements.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs a statement, and calls `each` for each row that it returns. Returns the number of these rows. `sql` may
    /// consist only of constants of this crate; external input must be passed in `values`.
    ///
    /// `sql` must name its columns and never use `*`. Statements stay prepared: if a newer version's migration added
    /// columns to the result of `*`, the prepared statement would fail from then on.
    pub(crate) async fn query(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        limit: TimeLimit,
        each: &mut dyn FnMut(&Row<'_>),
    ) -> Result<usize, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.query(&sql.into(), &values, each),
            Self::Postgres(pooled) => {
                let sql = match sql.into() {
                    Cow::Borrowed(sql) => sql.into_sql_str(),
                    Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
                };
                let rows = match limit {
                    TimeLimit::Short => pooled.rows(sql, values).await?,
                    TimeLimit::Long => pooled.rows_of_long_statement(sql, values).await?,
                };
                rows.iter().for_each(|row| each(&Row::Postgres(row)));
                Ok(rows.len())
            }
        }
    }

    /// Runs a statement that takes no parameters, and ignores the rows that it returns.
    pub(crate) async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        self.query(sql, Vec::new(), TimeLimit::Short, &mut |_| {}).await.map(drop)
    }

    /// Commits the current transaction.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.execute("COMMIT").await,
            Self::Postgres(pooled) => pooled.commit().await,
        }
    }

    /// Rolls back the current transaction. Ignores an error, because the database then rolls back by itself.
    pub(crate) async fn roll_back(&mut self) {
        match self {
            Self::Sqlite(_) => drop(self.execute("ROLLBACK").await),
            Self::Postgres(pooled) => pooled.roll_back().await,
        }
    }
}
