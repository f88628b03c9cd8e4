//! Connections to SQLite databases, through `rusqlite`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, ToSql};
use tracing::warn;

use crate::error::{Error, sqlite_error};
use crate::limits::ACQUIRE_TIMEOUT;
use crate::values::{Row, SqliteRow, Value};

/// Size in bytes to which SQLite truncates the write-ahead log after a checkpoint (64 MiB). The log may grow larger
/// while a long read, such as a backup, keeps SQLite from restarting it.
const WAL_SIZE_LIMIT_BYTES: i64 = 64 << 20;

/// Maximum size of a connection's page cache, in KiB. SQLite expects it as a negative number.
const CACHE_SIZE_KIB: i64 = 8000;

/// Maximum number of prepared statements that a connection keeps. More than the store has, so that each is compiled
/// once per connection.
const MAX_PREPARED_STATEMENTS: usize = 256;

/// Duration from which a statement is logged as slow. `sqlx` uses the same value for PostgreSQL.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// Characters that keep their meaning in the path of a `file:` URI.
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// How a SQLite file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads and writes; creates the file if it does not exist.
    Create,
    /// Reads and writes an existing file.
    Write,
    /// Reads an existing file.
    Read,
    /// Reads an existing file that no process changes. Creates no files.
    ReadImmutable,
}

/// A connection to a SQLite database. Calls block the thread until SQLite has finished.
pub(crate) struct SqliteConnection(rusqlite::Connection);

impl SqliteConnection {
    /// Opens a new, empty database in memory.
    pub(crate) fn open_in_memory() -> Result<Self, sqlx::Error> {
        let connection = rusqlite::Connection::open_in_memory().map_err(sqlite_error)?;
        Self(connection).configured()
    }

    /// Opens a file. Files that this creates or writes use WAL mode with synchronous mode `FULL`, so that
    /// acknowledged writes survive power loss.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self, sqlx::Error> {
        let flags = match access {
            Access::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::Read | Access::ReadImmutable => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        // A connection is used by one thread at a time, so SQLite needs no mutex for it.
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match access {
            Access::ReadImmutable => {
                let path = percent_encode(path.as_os_str().as_bytes(), URI_PATH);
                let uri = format!("file:{path}?immutable=1");
                rusqlite::Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
            }
            _ => rusqlite::Connection::open_with_flags(path, flags),
        };
        let connection = Self(opened.map_err(sqlite_error)?).configured()?;
        match access {
            Access::Create | Access::Write => {
                let set_journal =
                    format!("PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = {WAL_SIZE_LIMIT_BYTES}");
                connection.execute_batch(&set_journal)?;
            }
            Access::Read | Access::ReadImmutable => {}
        }
        Ok(connection)
    }

    fn configured(self) -> Result<Self, sqlx::Error> {
        self.set_busy_timeout(ACQUIRE_TIMEOUT)?;
        self.0.set_prepared_statement_cache_capacity(MAX_PREPARED_STATEMENTS);
        self.execute_batch(&format!(
            "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA cache_size = -{CACHE_SIZE_KIB}"
        ))?;
        Ok(self)
    }

    /// Sets the maximum time to wait for a lock of another connection.
    pub(crate) fn set_busy_timeout(&self, timeout: Duration) -> Result<(), sqlx::Error> {
        self.0.busy_timeout(timeout).map_err(sqlite_error)
    }

    /// Keeps copies of pages that savepoints and statements may have to restore in memory. SQLite would write them to a
    /// temporary file, which takes a fifth of the time of creating a challenge. Call this after migrations, because
    /// SQLite also sorts in memory from then on, for example the entries of a new index.
    pub(crate) fn restore_from_memory(&self) -> Result<(), sqlx::Error> {
        self.execute_batch("PRAGMA temp_store = MEMORY")
    }

    /// Keeps SQLite from running functions with side effects that the schema calls, such as those in triggers.
    pub(crate) fn distrust_schema(&self) -> Result<(), sqlx::Error> {
        self.execute_batch("PRAGMA trusted_schema = OFF")
    }

    /// Runs one or more statements that take no parameters, and ignores the rows that they return.
    pub(crate) fn execute_batch(&self, sql: &str) -> Result<(), sqlx::Error> {
        self.0.execute_batch(sql).map_err(sqlite_error)
    }

    /// Runs a statement, and calls `each` for each row that it returns. Returns the number of these rows. The statement
    /// stays prepared for the next call with the same text.
    pub(crate) fn query(
        &self,
        sql: &str,
        values: &[Value],
        each: &mut dyn FnMut(&Row<'_>),
    ) -> Result<usize, sqlx::Error> {
        let began = Instant::now();
        let mut statement = self.0.prepare_cached(sql).map_err(sqlite_error)?;
        for index in 1..=statement.parameter_count() {
            // SQLite numbers parameters in the order of their appearance. Their names are `$1`, `$2` and so on.
            let number = statement.parameter_name(index).and_then(|name| name[1..].parse::<usize>().ok());
            let value = number.and_then(|number| values.get(number.checked_sub(1)?));
            let value =
                value.ok_or_else(|| sqlx::Error::Protocol(format!("no value for parameter {index}")))?;
            statement.raw_bind_parameter(index, value).map_err(sqlite_error)?;
        }
        let mut rows = statement.raw_query();
        let mut count = 0;
        while let Some(row) = rows.next().map_err(sqlite_error)? {
            each(&Row::Sqlite(SqliteRow::new(row)));
            count += 1;
        }
        let duration = began.elapsed();
        if duration >= SLOW_STATEMENT {
            warn!(
                rows = count,
                milliseconds = duration.as_secs_f64() * 1000.0,
                "slow statement finished: {sql}"
            );
        }
        Ok(count)
    }

    /// Runs a query that takes no parameters, and collects its rows, converted with `parse`.
    pub(crate) fn rows<T, C: FromIterator<T>>(
        &self,
        sql: &str,
        parse: impl Fn(&Row<'_>) -> Result<T, Error>,
    ) -> Result<C, Error> {
        let mut rows = Vec::new();
        self.query(sql, &[], &mut |row| rows.push(parse(row)))?;
        rows.into_iter().collect()
    }

    /// Runs a query, and returns the values of the first column of its rows.
    pub(crate) fn column<T: FromSql>(&self, sql: &str) -> Result<Vec<T>, sqlx::Error> {
        let mut statement = self.0.prepare(sql).map_err(sqlite_error)?;
        let values = statement.query_map((), |row| row.get(0)).map_err(sqlite_error)?;
        values.collect::<Result<_, _>>().map_err(sqlite_error)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(value)) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(Some(value)) => ValueRef::Blob(value),
            Self::Id(Some(value)) => ValueRef::Blob(value),
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) | Self::Id(None) => ValueRef::Null,
        }))
    }
}
