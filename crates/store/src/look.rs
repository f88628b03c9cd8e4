//! Looking at a database without changing anything: what it is, and how it is set up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use domain::Timestamp;

use crate::error::Error;
use crate::pool::Pooled;
use crate::postgres::{Server, Sessions};
use crate::sql::{Connection, bind};
use crate::{Location, Read, files, schema, sqlite};

/// What a database is, and how it is set up.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A SQLite file.
    Sqlite {
        /// SQLite's version.
        version: String,
        /// What is wrong with the file, if anything is.
        damage: Vec<String>,
    },
    /// PostgreSQL.
    Postgres {
        /// Its version, such as `15.4`.
        version: String,
        /// The same as a number, such as 150004.
        version_number: i64,
        /// Settings by name, as `SHOW` tells them.
        settings: BTreeMap<String, String>,
        /// What time it is there.
        now: Timestamp,
    },
}

/// The settings of PostgreSQL that matter.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', \
     'synchronous_commit', 'default_transaction_isolation', 'max_connections', \
     'superuser_reserved_connections', 'server_version_num', 'server_encoding')";

/// A look at a database, whatever its schema.
///
/// # Errors
/// When it can't be reached or opened.
pub async fn look(location: &Location) -> Result<Read, Error> {
    Ok(Read::on(match location {
        Location::Sqlite(path) => Connection::Sqlite(Box::new(files::look_at(path).await?)),
        Location::Memory => {
            use sqlx::Connection as _;
            Connection::Sqlite(Box::new(sqlx::SqliteConnection::connect_with(&sqlite(None)).await?))
        }
        Location::Postgres(url) => {
            let connection = Server::parse(url)?.connect().await?;
            // As on a pooler, where that alone keeps every statement from changing something.
            Connection::Postgres(Pooled::alone(connection, Sessions::Shared, "BEGIN READ ONLY"))
        }
    }))
}

/// Whether a SQLite file has a log that is written ahead, which it says in its head.
///
/// # Errors
/// When it can't be read.
pub fn writes_ahead(file: &Path) -> std::io::Result<bool> {
    let mut head = [0; 20];
    File::open(file)?.read_exact(&mut head)?;
    Ok(head[18..] == [2, 2])
}

/// How the schema of a SQLite file differs from what its migrations make; empty where a newer program has migrated it.
///
/// # Errors
/// When it can't be read.
pub async fn differences(file: &Path) -> Result<Vec<String>, Error> {
    let mut connection = files::look_at(file).await?;
    if schema::newer_on_sqlite(&mut connection).await?.is_empty() {
        return schema::differences_on_sqlite(&mut connection).await;
    }
    Ok(Vec::new())
}

impl Read {
    /// What this database is, and how it is set up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn condition(&mut self) -> Result<Condition, Error> {
        let nothing = || Error::Corrupt("settings".to_owned());
        if self.connection.is_postgres() {
            let mut settings = BTreeMap::new();
            for row in self.all(SETTINGS, bind![]).await? {
                settings.insert(row.text("name")?, row.text("setting")?);
            }
            let version = settings.get("server_version_num").and_then(|number| number.parse().ok());
            let sql = "SELECT current_setting('server_version') AS version, \
                       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
            let row = self.one(sql, bind![]).await?.ok_or_else(nothing)?;
            return Ok(Condition::Postgres {
                version: row.text("version")?,
                version_number: version.ok_or_else(nothing)?,
                settings,
                now: row.timestamp("now")?,
            });
        }
        let row = self.one("SELECT sqlite_version() AS version", bind![]).await?.ok_or_else(nothing)?;
        let mut damage = Vec::new();
        for row in self.all("SELECT quick_check FROM pragma_quick_check LIMIT 3", bind![]).await? {
            damage.extend(Some(row.text("quick_check")?).filter(|found| found != "ok"));
        }
        Ok(Condition::Sqlite { version: row.text("version")?, damage })
    }
}
