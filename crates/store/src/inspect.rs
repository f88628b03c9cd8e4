//! Inspecting a database without changing anything: its version, its settings and its schema.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use domain::Timestamp;

use crate::connection::{Connection, sqlite_options};
use crate::error::Error;
use crate::pool::PooledConnection;
use crate::postgres::{Server, Sessions};
use crate::read_write::Read;
use crate::store::Location;
use crate::values::bind;
use crate::{schema, sqlite_files};

/// Which version a database has, and how it is configured.
#[derive(Clone, Debug)]
pub enum DatabaseInfo {
    /// A SQLite file.
    Sqlite {
        /// SQLite's version.
        version: String,
        /// Up to three findings of the integrity check; empty for an intact file.
        damage: Vec<String>,
    },
    /// PostgreSQL.
    Postgres {
        /// Its version, such as `15.4`.
        version: String,
        /// The version as a number, such as 150004.
        version_number: i64,
        /// Settings by name, in the units of `pg_settings`.
        settings: BTreeMap<String, String>,
        /// The time on the database server.
        now: Timestamp,
    },
}

/// Selects the settings that affect durability, isolation and connections.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', \
     'synchronous_commit', 'default_transaction_isolation', 'max_connections', \
     'superuser_reserved_connections', 'server_version_num', 'server_encoding')";

/// Opens a database for reading only, whatever its schema.
///
/// # Errors
/// Returns an error if the database cannot be reached or opened.
pub async fn open_read_only(location: &Location) -> Result<Read, Error> {
    Ok(Read::new(match location {
        Location::Sqlite(path) => Connection::Sqlite(Box::new(sqlite_files::open_read_only(path).await?)),
        Location::Memory => {
            use sqlx::Connection as _;
            Connection::Sqlite(Box::new(sqlx::SqliteConnection::connect_with(&sqlite_options(None)).await?))
        }
        Location::Postgres(url) => {
            let connection = Server::parse(url)?.connect().await?;
            // Treated as a shared session, so that every statement runs in a read-only transaction of its own.
            Connection::Postgres(PooledConnection::without_pool(
                connection,
                Sessions::Shared,
                "BEGIN READ ONLY",
            ))
        }
    }))
}

/// Returns whether the header of a SQLite file selects a write-ahead log.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn uses_wal(file: &Path) -> std::io::Result<bool> {
    let mut header = [0; 20];
    File::open(file)?.read_exact(&mut header)?;
    Ok(header[18..] == [2, 2])
}

/// Compares the schema of a SQLite file with the result of its migrations. Returns a phrase for each object that
/// differs, and nothing if a newer version of Countersign has migrated the file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub async fn schema_differences(file: &Path) -> Result<Vec<String>, Error> {
    let mut connection = sqlite_files::open_read_only(file).await?;
    if schema::newer_on_sqlite(&mut connection).await?.is_empty() {
        return schema::differences_on_sqlite(&mut connection).await;
    }
    Ok(Vec::new())
}

impl Read {
    /// Returns the version and the settings of the database.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn database_info(&mut self) -> Result<DatabaseInfo, Error> {
        let corrupt = || Error::Corrupt("settings".to_owned());
        if self.connection.is_postgres() {
            let mut settings = BTreeMap::new();
            for row in self.fetch_all(SETTINGS, bind![]).await? {
                settings.insert(row.text("name")?, row.text("setting")?);
            }
            let version = settings.get("server_version_num").and_then(|number| number.parse().ok());
            let sql = "SELECT current_setting('server_version') AS version, \
                       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
            let row = self.fetch_optional(sql, bind![]).await?.ok_or_else(corrupt)?;
            return Ok(DatabaseInfo::Postgres {
                version: row.text("version")?,
                version_number: version.ok_or_else(corrupt)?,
                settings,
                now: row.timestamp("now")?,
            });
        }
        let row =
            self.fetch_optional("SELECT sqlite_version() AS version", bind![]).await?.ok_or_else(corrupt)?;
        let mut damage = Vec::new();
        for row in self.fetch_all("SELECT quick_check FROM pragma_quick_check LIMIT 3", bind![]).await? {
            damage.extend(Some(row.text("quick_check")?).filter(|found| found != "ok"));
        }
        Ok(DatabaseInfo::Sqlite { version: row.text("version")?, damage })
    }
}
