//! Pages of lists, by keyset on creation and SID.

use domain::Sid;
use domain::paging::{Listed, Page, PageRequest};

use crate::Read;
use crate::error::Error;
use crate::sql::{Row, Value, bind};

/// A list: what is selected, and what it is filtered by.
pub(crate) struct List {
    sql: String,
    values: Vec<Value>,
}

impl List {
    /// These columns of a table.
    pub(crate) fn of(columns: &'static str, table: &'static str) -> Self {
        Self { sql: format!("SELECT {columns} FROM {table} WHERE"), values: Vec::new() }
    }

    /// Adds a condition that every row must fulfil. A `?` stands for each value.
    pub(crate) fn only(mut self, condition: &'static str, values: Vec<Value>) -> Self {
        if !self.values.is_empty() {
            self.sql.push_str(" AND");
        }
        self.sql.push(' ');
        let mut number = self.values.len();
        for piece in condition.split_inclusive('?') {
            match piece.strip_suffix('?') {
                Some(text) => {
                    number += 1;
                    self.sql.push_str(&format!("{text}${number}"));
                }
                None => self.sql.push_str(piece),
            }
        }
        self.values.extend(values);
        self
    }

    /// Reads one page. `S` is the kind of SID that the rows have.
    pub(crate) async fn page<S: Sid, T: Listed>(
        mut self,
        read: &mut Read,
        request: &PageRequest,
        parse: fn(&Row) -> Result<T, Error>,
    ) -> Result<Page<T>, Error> {
        let backward = request.reads_backward();
        if let Some(position) = request.position() {
            let beyond = if backward { "(created_at, sid) < (?, ?)" } else { "(created_at, sid) > (?, ?)" };
            let sid = S::from_bytes(position.sid).to_string();
            self = self.only(beyond, bind![position.created_at, sid]);
        }
        let direction = if backward { "DESC" } else { "ASC" };
        // One row too many tells whether the list goes on.
        let limit = request.size + 1;
        self.sql.push_str(&format!(" ORDER BY created_at {direction}, sid {direction} LIMIT {limit}"));
        let rows = read.all(self.sql, self.values).await?;
        Ok(request.page(rows.iter().map(parse).collect::<Result<_, _>>()?))
    }
}
