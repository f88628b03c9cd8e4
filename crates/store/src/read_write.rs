//! [`Read`] and [`Write`]: what a closure gets to read from and to write to a database.

use std::borrow::Cow;

use crate::connection::Connection;
use crate::error::Error;
use crate::values::{Row, Value};

/// Access to a database for reading. Its queries are methods in the file of the resource that they read.
pub struct Read {
    pub(crate) connection: Connection,
    /// The first statement that failed.
    pub(crate) failure: Option<Error>,
}

/// A transaction, in which a closure writes and reads. The first statement that fails aborts it.
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

    /// Runs a statement and ignores its rows.
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

    /// Runs a statement that returns at most one row.
    pub(crate) async fn fetch_optional(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Runs a statement and parses all its rows.
    pub(crate) async fn fetch_all_as<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.fetch_all(sql, values).await?.iter().map(parse).collect()
    }

    /// Runs a statement that returns at most one row, and parses it.
    pub(crate) async fn fetch_optional_as<T>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.fetch_optional(sql, values).await?.as_ref().map(parse).transpose()
    }
}
