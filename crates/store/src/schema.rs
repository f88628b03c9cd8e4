//! Database schemas: the known migrations, the migrations applied to a database, and how its schema differs from the
//! result of those migrations.
//!
//! Migrations are embedded in the program. They only go forward, and have the same names for both databases.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Connection as _, Row as _};

use crate::error::Error;
use crate::read_write::Read;
use crate::sqlite::SqliteConnection;
use crate::values::bind;

/// A migration that is embedded in this version of Countersign.
pub(crate) struct EmbeddedMigration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        /// All migrations that this version of Countersign knows, oldest first.
        pub(crate) const MIGRATIONS: &[EmbeddedMigration] = &[$(EmbeddedMigration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        }),*];
    };
}

migrations! {
    1 "0001_verify_push";
    2 "0002_deliveries";
    3 "0003_audit";
    4 "0004_operation";
    5 "0005_verifications";
}

/// A migration that has not been applied to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The migration's name, which begins with its version.
    pub name: &'static str,
    /// The migration's SQL statements.
    pub sql: &'static str,
}

/// A function that returns a migration's SQL text for one of the two databases.
pub(crate) type SqlText = fn(&EmbeddedMigration) -> &'static str;

/// Returns a migration's SQL text for SQLite.
pub(crate) const FOR_SQLITE: SqlText = |migration| migration.sqlite;

/// Returns a migration's SQL text for PostgreSQL.
pub(crate) const FOR_POSTGRES: SqlText = |migration| migration.postgres;

/// The reason in [`Error::Damaged`] for a file to which no migration has been applied.
pub(crate) const NO_TABLES: &str = "it has none of the tables";

/// SQL query that counts the tables that record applied migrations in a SQLite database: 1, or 0 if the database is
/// empty.
const TABLE_ON_SQLITE: &str =
    "SELECT count(*) AS tables FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";

/// SQL query that counts the tables that record applied migrations in a PostgreSQL database: 1, or 0 if the database is
/// empty.
const TABLE_ON_POSTGRES: &str = "SELECT count(to_regclass('_sqlx_migrations')) AS tables";

/// SQL query for the version and the checksum of each applied migration.
const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";

/// The checksums of the applied migrations, by version.
pub(crate) type AppliedMigrations = HashMap<i64, Vec<u8>>;

/// Returns the migrations for which `is_applied`, called with their version, returns `false`. Their SQL text is the one
/// for the database that `text` selects.
pub(crate) fn missing(text: SqlText, is_applied: impl Fn(i64) -> bool) -> Vec<Migration> {
    let missing = MIGRATIONS.iter().filter(|migration| !is_applied(migration.version));
    missing.map(|migration| Migration { name: migration.name, sql: text(migration) }).collect()
}

pub(crate) fn migration_names(migrations: &[Migration]) -> Vec<String> {
    migrations.iter().map(|migration| migration.name.to_owned()).collect()
}

/// Returns the migrations that a SQLite database lacks.
pub(crate) fn missing_on_sqlite(connection: &SqliteConnection) -> Result<Vec<Migration>, Error> {
    let applied = applied_on_sqlite(connection)?;
    Ok(missing(FOR_SQLITE, |version| applied.contains_key(&version)))
}

/// Returns the migrations that a PostgreSQL database lacks.
pub(crate) async fn missing_on_postgres(
    connection: &mut sqlx::PgConnection,
) -> Result<Vec<Migration>, Error> {
    let applied = applied_on_postgres(connection).await?;
    Ok(missing(FOR_POSTGRES, |version| applied.contains_key(&version)))
}

/// Returns the checksums of the migrations that are applied to a SQLite database, by version.
pub(crate) fn applied_on_sqlite(connection: &SqliteConnection) -> Result<AppliedMigrations, Error> {
    let tables: Vec<i64> = connection.column(TABLE_ON_SQLITE)?;
    if tables == [0] {
        return Ok(AppliedMigrations::new());
    }
    connection.rows(APPLIED, |row| Ok((row.int("version")?, row.bytes("checksum")?)))
}

/// Returns the checksums of the migrations that are applied to a PostgreSQL database, by version. Reads them in one
/// transaction: behind a pooler, the next transaction may run in another session, without the statements prepared in
/// this one.
pub(crate) async fn applied_on_postgres(
    connection: &mut sqlx::PgConnection,
) -> Result<AppliedMigrations, Error> {
    let mut transaction = connection.begin().await?;
    let mut applied = AppliedMigrations::new();
    let tables: i64 =
        sqlx::query_scalar(TABLE_ON_POSTGRES).persistent(false).fetch_one(&mut *transaction).await?;
    if tables > 0 {
        for row in sqlx::query(APPLIED).persistent(false).fetch_all(&mut *transaction).await? {
            applied.insert(row.try_get("version")?, row.try_get("checksum")?);
        }
    }
    transaction.commit().await?;
    Ok(applied)
}

/// Returns the names of the migrations that are applied to a SQLite database but unknown to this version of
/// Countersign.
pub(crate) fn newer_on_sqlite(connection: &SqliteConnection) -> Result<Vec<String>, Error> {
    let sql = "SELECT version, description FROM _sqlx_migrations ORDER BY version";
    let mut applied: Vec<(i64, String)> =
        connection.rows(sql, |row| Ok((row.int("version")?, row.text("description")?)))?;
    applied.retain(|(version, _)| MIGRATIONS.iter().all(|known| known.version != *version));
    Ok(applied.into_iter().map(|(_, name)| name).collect())
}

/// The objects of a SQLite schema by name: type, table, and SQL text without white space.
type SchemaObjects = BTreeMap<String, (String, String, String)>;

/// Reads the objects of a SQLite schema, except SQLite's own tables and the table that records applied migrations.
fn schema_objects(connection: &SqliteConnection) -> Result<SchemaObjects, Error> {
    let sql = "SELECT name, type, tbl_name, COALESCE(sql, '') AS sql FROM sqlite_schema \
               WHERE NOT (type = 'table' \
                 AND name IN ('_sqlx_migrations', 'sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4')) \
               AND NOT (name = 'sqlite_autoindex__sqlx_migrations_1' AND sql IS NULL)";
    connection.rows(sql, |row| {
        let text = row.text("sql")?.split_whitespace().collect();
        Ok((row.text("name")?, (row.text("type")?, row.text("tbl_name")?, text)))
    })
}

/// Compares the schema of a SQLite database with the result of its applied migrations. Returns one phrase for each
/// object that differs, such as `trigger approve_all is unexpected`.
pub(crate) fn differences_on_sqlite(connection: &SqliteConnection) -> Result<Vec<String>, Error> {
    let applied = applied_on_sqlite(connection)?;
    let model = SqliteConnection::open_in_memory()?;
    for migration in MIGRATIONS.iter().filter(|migration| applied.contains_key(&migration.version)) {
        model.execute_batch(migration.sqlite)?;
    }
    let (found, expected) = (schema_objects(connection)?, schema_objects(&model)?);
    let differing = found.iter().filter_map(|(name, object)| match expected.get(name) {
        Some(expected) if expected == object => None,
        Some(_) => Some(format!("{} {name} was changed", object.0)),
        None => Some(format!("{} {name} is unexpected", object.0)),
    });
    let missing = expected.iter().filter(|(name, _)| !found.contains_key(*name));
    let missing = missing.map(|(name, object)| format!("{} {name} is missing", object.0));
    Ok(differing.chain(missing).collect())
}

/// Returns the migrations that an empty SQLite database lacks, which are all migrations for SQLite.
pub(crate) fn missing_on_empty_sqlite() -> Vec<Migration> {
    missing(FOR_SQLITE, |_| false)
}

impl Read {
    /// Returns whether the schema has the table `name`. An older schema may lack it.
    pub(crate) async fn has_table(&mut self, name: &str) -> Result<bool, Error> {
        let sql = if self.connection.is_postgres() {
            "SELECT count(to_regclass($1)) AS tables"
        } else {
            "SELECT count(*) AS tables FROM sqlite_schema WHERE type = 'table' AND name = $1"
        };
        let tables = self.fetch_optional(sql, bind![name], |row| row.int("tables")).await?;
        Ok(tables > Some(0))
    }

    /// Checks that the database responds and has all migrations of this version of Countersign.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the database does not respond, and [`Error::OldSchema`] if it lacks
    /// migrations.
    pub async fn require_current_schema(&mut self) -> Result<(), Error> {
        let (table, text) = if self.connection.is_postgres() {
            (TABLE_ON_POSTGRES, FOR_POSTGRES)
        } else {
            (TABLE_ON_SQLITE, FOR_SQLITE)
        };
        let mut applied = Vec::new();
        if self.fetch_optional(table, Vec::new(), |row| row.int("tables")).await? > Some(0) {
            applied = self.fetch_all(APPLIED, Vec::new(), |row| row.int("version")).await?;
        }
        match missing(text, |version| applied.contains(&version)) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(Error::OldSchema(migration_names(&missing))),
        }
    }
}
