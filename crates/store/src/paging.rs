//! Keyset pagination of lists, by creation time and SID.

use domain::paging::{Listed, Page, PageRequest};

use crate::error::Error;
use crate::read_write::Read;
use crate::values::{Row, Value};

/// A SQL query for one page of a list, with its values.
pub(crate) struct ListQuery {
    sql: String,
    values: Vec<Value>,
}

impl ListQuery {
    /// Starts a query that selects `columns` from `table`.
    pub(crate) fn select(columns: &str, table: &str) -> Self {
        Self { sql: format!("SELECT {columns} FROM {table} WHERE"), values: Vec::new() }
    }

    /// Adds a condition that every row must meet. `condition` contains one `?` for each of `values`.
    pub(crate) fn filter(mut self, condition: &'static str, values: Vec<Value>) -> Self {
        if !self.values.is_empty() {
            self.sql.push_str(" AND");
        }
        self.sql.push(' ');
        self.sql.push_str(&number_placeholders(condition, self.values.len() + 1));
        self.values.extend(values);
        self
    }

    /// Runs the query, which selects at most one row, and returns that row, converted with `parse`, or `None` if there
    /// is none.
    pub(crate) async fn single<T>(
        self,
        read: &mut Read,
        parse: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        read.fetch_optional(self.sql, self.values, parse).await
    }

    /// Runs the query and returns the requested page. `parse` converts a row into an item.
    pub(crate) async fn page<T: Listed>(
        mut self,
        read: &mut Read,
        request: &PageRequest,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Page<T>, Error> {
        let backward = request.reads_backward();
        if let Some(position) = request.position() {
            let beyond = if backward { "(created_at, sid) < (?, ?)" } else { "(created_at, sid) > (?, ?)" };
            self = self.filter(beyond, vec![Value::from(position.created_at), Value::Id(Some(position.sid))]);
        }
        let direction = if backward { "DESC" } else { "ASC" };
        // One additional row shows whether there is a next page.
        let limit = request.size + 1;
        self.sql.push_str(&format!(" ORDER BY created_at {direction}, sid {direction} LIMIT {limit}"));
        Ok(request.page(read.fetch_all(self.sql, self.values, parse).await?))
    }
}

/// Replaces each `?` in `sql` by a numbered placeholder, `$first` and so on.
pub(crate) fn number_placeholders(sql: &str, first: usize) -> String {
    let mut pieces = sql.split('?');
    let mut numbered = pieces.next().unwrap_or_default().to_owned();
    for (number, piece) in (first..).zip(pieces) {
        numbered.push_str(&format!("${number}{piece}"));
    }
    numbered
}
