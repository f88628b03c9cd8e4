//! [`Read`] and [`Write`]: the database access that closures receive.

use std::borrow::Cow;

use crate::connection::{Connection, TimeLimit};
use crate::error::Error;
use crate::values::{Row, Value};

/// Read access to a database. Each query is a method, defined in the file of the resource that it reads.
pub struct Read {
    pub(crate) connection: Connection,
    /// Error of the first statement that failed; `None` if none has failed.
    pub(crate) failure: Option<Error>,
}

/// A transaction in which a closure reads and writes. The first statement that fails aborts the transaction.
pub struct Write(pub(crate) Read);

impl std::ops::Deref for Write {
    type Target = Read;

    fn deref(&self) -> &Read {
        &self.0
    }
}

impl std::ops::DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Read {
        &mut self.0
    }
}

impl Read {
    pub(crate) const fn new(connection: Connection) -> Self {
        Self { connection, failure: None }
    }

    /// Runs a statement and ignores the rows that it returns.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<(), Error> {
        self.count_rows(sql, values).await.map(drop)
    }

    /// Runs a statement and returns the number of rows that it returns.
    pub(crate) async fn count_rows(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<usize, Error> {
        self.query(sql, values, TimeLimit::Short, &mut |_| {}).await
    }

    /// Runs a statement and returns all its rows, converted with `parse`.
    pub(crate) async fn fetch_all<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.fetch_within(TimeLimit::Short, sql, values, parse).await
    }

    /// Runs a statement that reads a whole table, and returns all its rows, converted with `parse`. On PostgreSQL it may
    /// take up to an hour, so only commands may call this.
    pub(crate) async fn fetch_all_of_large_table<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.fetch_within(TimeLimit::Long, sql, values, parse).await
    }

    async fn fetch_within<T>(
        &mut self,
        limit: TimeLimit,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        mut parse: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut parsed = Vec::new();
        self.query(sql, values, limit, &mut |row| parsed.push(parse(row))).await?;
        parsed.into_iter().collect()
    }

    /// Runs a statement that returns at most one row. Returns that row, converted with `parse`, or `None` if there is
    /// none.
    pub(crate) async fn fetch_optional<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        mut parse: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut parsed = None;
        self.query(sql, values, TimeLimit::Short, &mut |row| {
            parsed.get_or_insert_with(|| parse(row));
        })
        .await?;
        parsed.transpose()
    }

    /// Runs a statement, and calls `each` for each row that it returns. Returns the number of these rows.
    async fn query(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        limit: TimeLimit,
        each: &mut dyn FnMut(&Row<'_>),
    ) -> Result<usize, Error> {
        let sql = sql.into();
        let postgres = self.connection.is_postgres();
        tracing::trace!(target: "store::statement", postgres, sql = &*sql, "statement started");
        let result = self.connection.query(sql, values, limit, each).await;
        let result = result.map_err(|error| Error::from(error).counted());
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}
