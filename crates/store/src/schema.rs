//! The migrations: embedded, forward only, the same names on both sides.

use std::borrow::Cow;
use std::collections::HashMap;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqlSafeStr};

use crate::error::Error;

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        /// Version, name, and the text for SQLite and PostgreSQL.
        const MIGRATIONS: &[Entry] = &[$((
            $version,
            $name,
            include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        )),*];
    };
}

migrations! {
    1 "0001_verify_push";
    2 "0002_deliveries";
    3 "0003_audit";
    4 "0004_limits";
}

/// What to do when the schema is older than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSchema {
    /// Migrate it.
    Migrate,
    /// Refuse to work with it.
    Refuse,
}

type Entry = (i64, &'static str, &'static str, &'static str);

fn migrator(text: fn(&Entry) -> &'static str) -> Migrator {
    let migration = |entry: &Entry| {
        let &(version, name, ..) = entry;
        let sql = AssertSqlSafe(text(entry)).into_sql_str();
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    // During a rolling upgrade an older program works on a newer schema: migrations only ever expand.
    migrator.set_ignore_missing(true);
    migrator
}

macro_rules! brought_up {
    ($connection:expr, $text:expr, $old:expr) => {{
        let migrator = migrator($text);
        // Where the table does not exist yet, nothing was applied.
        let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut *$connection)
            .await
            .or_else(|error| match error {
                sqlx::Error::Database(_) => Ok(Vec::new()),
                other => Err(other),
            })?;
        let mut applied: HashMap<i64, Vec<u8>> = HashMap::new();
        for row in &rows {
            applied.insert(row.try_get("version")?, row.try_get("checksum")?);
        }
        let is_missing = |migration: &&Migration| !applied.contains_key(&migration.version);
        let names = migrator.iter().filter(is_missing).map(|migration| migration.description.to_string());
        let missing: Vec<String> = names.collect();
        if $old == OldSchema::Refuse && !missing.is_empty() {
            return Err(Error::OldSchema(missing));
        }
        // A role that may not make tables can serve all the same, once somebody else has migrated.
        let is_as_applied = |migration: &Migration| {
            applied.get(&migration.version).is_some_and(|checksum| *checksum == *migration.checksum)
        };
        if !migrator.iter().all(is_as_applied) {
            migrator.run_direct(None, &mut *$connection, false).await?;
        }
        missing
    }};
}

/// Brings a SQLite database up to date; returns the names of the migrations that it lacked.
pub(crate) async fn bring_up_sqlite(
    connection: &mut sqlx::SqliteConnection,
    old: OldSchema,
) -> Result<Vec<String>, Error> {
    // Other processes wait: on PostgreSQL `sqlx` sees to that with a lock, on SQLite it doesn't.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let missing = brought_up!(transaction, |(_, _, sqlite, _)| sqlite, old);
    transaction.commit().await?;
    Ok(missing)
}

/// Brings a PostgreSQL database up to date; returns the names of the migrations that it lacked.
pub(crate) async fn bring_up_postgres(
    connection: &mut sqlx::PgConnection,
    old: OldSchema,
) -> Result<Vec<String>, Error> {
    Ok(brought_up!(connection, |(_, _, _, postgres)| postgres, old))
}
