//! [`Read`] and [`Write`]: the database access that closures receive.

use std::borrow::Cow;

use crate::connection::Connection;
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
        self.fetch_all(sql, values).await.map(drop)
    }

    /// Runs a statement and returns all its rows.
    pub(crate) async fn fetch_all(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let result = self.connection.rows(sql, values).await.map_err(|error| Error::from(error).counted());
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// Runs a statement that returns at most one row. Returns that row, or `None` if there is none.
    pub(crate) async fn fetch_optional(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Runs a statement and returns all its rows, converted with `parse`.
    pub(crate) async fn fetch_all_as<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.fetch_all(sql, values).await?.iter().map(parse).collect()
    }

    /// Runs a statement that returns at most one row. Returns that row, converted with `parse`, or `None` if there is
    /// none.
    pub(crate) async fn fetch_optional_as<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.fetch_optional(sql, values).await?.as_ref().map(parse).transpose()
    }
}
