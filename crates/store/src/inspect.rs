//! Inspecting a database's version, settings and schema without changing anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use domain::Timestamp;

use crate::connection::Connection;
use crate::error::Error;
use crate::pool::PooledConnection;
use crate::postgres::{Server, Sessions};
use crate::read_write::Read;
use crate::sqlite::SqliteConnection;
use crate::store::Location;
use crate::values::{Row, bind};
use crate::{schema, sqlite_files};

/// The version of a database, with the settings and current time of a PostgreSQL server.
#[derive(Clone, Debug)]
pub enum DatabaseInfo {
    /// A SQLite database.
    Sqlite {
        /// Version of the SQLite library.
        version: String,
    },
    /// A PostgreSQL database.
    Postgres {
        /// Version of the PostgreSQL server, such as `15.4`.
        version: String,
        /// Version of the PostgreSQL server as a number, such as 150004.
        version_number: i64,
        /// The server's settings by name, with values in the units of `pg_settings`.
        settings: BTreeMap<String, String>,
        /// Current time on the database server.
        now: Timestamp,
    },
}

/// SQL query for the PostgreSQL settings that affect durability, isolation and connections.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', \
     'synchronous_commit', 'default_transaction_isolation', 'max_connections', \
     'superuser_reserved_connections', 'server_version_num', 'server_encoding')";

/// Opens a database for reading only, without migrating or checking its schema.
///
/// # Errors
/// Returns an error if the database cannot be reached or opened.
pub async fn open_read_only(location: &Location) -> Result<Read, Error> {
    Ok(Read::new(match location {
        Location::Sqlite(path) => Connection::Sqlite(Box::new(sqlite_files::open_read_only(path)?)),
        Location::Memory => Connection::Sqlite(Box::new(SqliteConnection::open_in_memory()?)),
        Location::Postgres(url) => {
            let connection = Server::parse(url)?.connect().await?;
            // The connection is treated as a shared session, so that every statement runs in a read-only transaction of
            // its own.
            Connection::Postgres(PooledConnection::without_pool(
                connection,
                Sessions::Shared,
                "BEGIN READ ONLY",
            ))
        }
    }))
}

/// Returns whether the header of a SQLite file selects WAL mode, in which the database has a write-ahead log.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn uses_wal(file: &Path) -> std::io::Result<bool> {
    let mut header = [0; 20];
    File::open(file)?.read_exact(&mut header)?;
    Ok(header[18..] == [2, 2])
}

/// Compares the schema of a SQLite file with the result of its migrations. Returns one phrase for each object that
/// differs, or an empty list if a newer version of Countersign has migrated the file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn schema_differences(file: &Path) -> Result<Vec<String>, Error> {
    let connection = sqlite_files::open_read_only(file)?;
    if schema::newer_on_sqlite(&connection)?.is_empty() {
        return schema::differences_on_sqlite(&connection);
    }
    Ok(Vec::new())
}

impl Read {
    /// Returns the database's version, and on PostgreSQL also the server's settings and current time.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn database_info(&mut self) -> Result<DatabaseInfo, Error> {
        let corrupt = || Error::Corrupt("settings".to_owned());
        if self.connection.is_postgres() {
            let setting = |row: &Row<'_>| Ok((row.text("name")?, row.text("setting")?));
            let settings = BTreeMap::from_iter(self.fetch_all(SETTINGS, bind![], setting).await?);
            let version_number = settings.get("server_version_num").and_then(|number| number.parse().ok());
            let sql = "SELECT current_setting('server_version') AS version, \
                       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
            let parse = |row: &Row<'_>| Ok((row.text("version")?, row.timestamp("now")?));
            let server = self.fetch_optional(sql, bind![], parse).await?;
            let ((version, now), version_number) = server.zip(version_number).ok_or_else(corrupt)?;
            return Ok(DatabaseInfo::Postgres { version, version_number, settings, now });
        }
        let sql = "SELECT sqlite_version() AS version";
        let version = self.fetch_optional(sql, bind![], |row| row.text("version")).await?;
        Ok(DatabaseInfo::Sqlite { version: version.ok_or_else(corrupt)? })
    }

    /// Checks the integrity of a SQLite file, and returns up to three findings; none if the file is intact. The check
    /// reads the whole file, so that its duration grows with the database. PostgreSQL has no such check.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn file_damage(&mut self) -> Result<Vec<String>, Error> {
        if self.connection.is_postgres() {
            return Ok(Vec::new());
        }
        let sql = "SELECT quick_check FROM pragma_quick_check LIMIT 3";
        let mut damage = self.fetch_all(sql, bind![], |row| row.text("quick_check")).await?;
        damage.retain(|found| found != "ok");
        Ok(damage)
    }
}
