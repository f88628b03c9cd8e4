//! The migrations: embedded, forward only, the same names on both sides.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqlSafeStr};

use crate::error::Error;
use crate::sql::bind;
use crate::{Read, files, sqlite};

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
    5 "0005_keys";
    6 "0006_audit_and_clock";
    7 "0007_answer_digest";
    8 "0008_deliveries";
    9 "0009_deletion";
}

/// How often a migration of PostgreSQL is begun that running servers stand in the way of, and the pause between.
const TRIES: u32 = 240;
const BREATHER: Duration = Duration::from_millis(250);

/// What to do when the schema is older than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSchema {
    /// Migrate it.
    Migrate,
    /// Refuse to work with it.
    Refuse,
}

/// A migration that a database lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its name, which begins with its version.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
}

/// What was done to the schema when the database was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were applied.
    pub applied: Vec<String>,
    /// Where the database is as it was before; none of one that was empty, and none of PostgreSQL.
    pub copy: Option<PathBuf>,
    /// How the schema of a SQLite file differs from what its migrations make; empty where a newer program has migrated
    /// it, and of PostgreSQL.
    pub differences: Vec<String>,
}

type Entry = (i64, &'static str, &'static str, &'static str);
type Text = fn(&Entry) -> &'static str;

/// The text for each database.
const FOR_SQLITE: Text = |&(_, _, sqlite, _)| sqlite;
const FOR_POSTGRES: Text = |&(_, _, _, postgres)| postgres;

/// Whether the table of what was applied is there, which it is not in a database that is empty.
const TABLE_ON_SQLITE: &str =
    "SELECT count(*) AS tables FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
const TABLE_ON_POSTGRES: &str = "SELECT count(to_regclass('_sqlx_migrations')) AS tables";

/// Before each migration of PostgreSQL, in its transaction. Servers of the former version go on meanwhile. A
/// migration that waits for their locks keeps everyone behind it waiting too, and can stand against them in a
/// deadlock: so it soon gives up, and begins anew. The lock (of a number that stands for nothing else) lets one
/// process migrate at a time.
const BEFORE_ON_POSTGRES: &str = "SET LOCAL lock_timeout = 2000; \
     SELECT pg_advisory_xact_lock(4850237514068492163); \
     CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
     installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
     execution_time BIGINT NOT NULL)";

/// What was applied, as a version each.
const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";

/// Checksums of what was applied, by version.
type Applied = HashMap<i64, Vec<u8>>;

fn migrator(text: Text) -> Migrator {
    let migration = |entry: &Entry| {
        let &(version, name, ..) = entry;
        let sql = AssertSqlSafe(text(entry)).into_sql_str();
        sqlx::migrate::Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    // During a rolling upgrade an older program works on a newer schema: migrations only ever expand.
    migrator.set_ignore_missing(true);
    migrator
}

/// What a database lacks that has these versions.
fn missing(text: Text, is_there: impl Fn(i64) -> bool) -> Vec<Migration> {
    let lacking = MIGRATIONS.iter().filter(|&&(version, ..)| !is_there(version));
    lacking.map(|entry| Migration { name: entry.1, sql: text(entry) }).collect()
}

fn names(migrations: &[Migration]) -> Vec<String> {
    migrations.iter().map(|migration| migration.name.to_owned()).collect()
}

macro_rules! applied {
    ($connection:expr, $table:expr) => {{
        let mut applied = Applied::new();
        let tables: i64 = sqlx::query_scalar($table).persistent(false).fetch_one(&mut *$connection).await?;
        if tables > 0 {
            for row in sqlx::query(APPLIED).persistent(false).fetch_all(&mut *$connection).await? {
                applied.insert(row.try_get("version")?, row.try_get("checksum")?);
            }
        }
        applied
    }};
}

macro_rules! run {
    ($connection:expr, $text:expr, $applied:expr) => {{
        let migrator = migrator($text);
        // A role that may not make tables can serve all the same, once somebody else has migrated.
        let is_as_applied = |migration: &sqlx::migrate::Migration| {
            $applied.get(&migration.version).is_some_and(|checksum| *checksum == *migration.checksum)
        };
        if !migrator.iter().all(is_as_applied) {
            migrator.run_direct(None, &mut *$connection, false).await?;
        }
    }};
}

/// What this SQLite database lacks.
pub(crate) async fn missing_on_sqlite(
    connection: &mut sqlx::SqliteConnection,
) -> Result<Vec<Migration>, Error> {
    let applied = applied!(connection, TABLE_ON_SQLITE);
    Ok(missing(FOR_SQLITE, |version| applied.contains_key(&version)))
}

/// What this PostgreSQL database lacks.
pub(crate) async fn missing_on_postgres(
    connection: &mut sqlx::PgConnection,
) -> Result<Vec<Migration>, Error> {
    let applied = applied_on_postgres(connection).await?;
    Ok(missing(FOR_POSTGRES, |version| applied.contains_key(&version)))
}

/// What was applied to this PostgreSQL database. In one transaction, since behind a pooler the next one may be in
/// another session, which lacks what was prepared in this one.
async fn applied_on_postgres(connection: &mut sqlx::PgConnection) -> Result<Applied, Error> {
    let mut transaction = connection.begin().await?;
    let applied = applied!(transaction, TABLE_ON_POSTGRES);
    transaction.commit().await?;
    Ok(applied)
}

/// What was applied to this SQLite database that this program doesn't know.
pub(crate) async fn newer_on_sqlite(connection: &mut sqlx::SqliteConnection) -> Result<Vec<String>, Error> {
    let sql = "SELECT version, description FROM _sqlx_migrations ORDER BY version";
    let mut newer = Vec::new();
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let version: i64 = row.try_get("version")?;
        if MIGRATIONS.iter().all(|&(known, ..)| known != version) {
            newer.push(row.try_get("description")?);
        }
    }
    Ok(newer)
}

/// The objects of a SQLite schema by name: kind, table, and text without white space.
type Objects = BTreeMap<String, (String, String, String)>;

/// Reads the objects of a schema, without SQLite's own tables and that of the migrations.
async fn objects(connection: &mut sqlx::SqliteConnection) -> Result<Objects, Error> {
    let sql = "SELECT name, type, tbl_name, COALESCE(sql, '') AS sql FROM sqlite_schema \
               WHERE NOT (type = 'table' \
                 AND name IN ('_sqlx_migrations', 'sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4')) \
               AND NOT (name = 'sqlite_autoindex__sqlx_migrations_1' AND sql IS NULL)";
    let mut objects = Objects::new();
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let text: String = row.try_get("sql")?;
        let object = (row.try_get("type")?, row.try_get("tbl_name")?, text.split_whitespace().collect());
        objects.insert(row.try_get("name")?, object);
    }
    Ok(objects)
}

/// How the schema of a SQLite database differs from what those of our migrations make that it has: a phrase for each
/// object, such as `trigger approve_all is foreign`.
pub(crate) async fn differences_on_sqlite(
    connection: &mut sqlx::SqliteConnection,
) -> Result<Vec<String>, Error> {
    let applied = applied!(connection, TABLE_ON_SQLITE);
    let mut model = sqlx::SqliteConnection::connect_with(&sqlite(None)).await?;
    for entry in MIGRATIONS.iter().filter(|(version, ..)| applied.contains_key(version)) {
        sqlx::raw_sql(AssertSqlSafe(FOR_SQLITE(entry))).execute(&mut model).await?;
    }
    let (found, expected) = (objects(connection).await?, objects(&mut model).await?);
    let foreign = found.iter().filter_map(|(name, object)| match expected.get(name) {
        Some(ours) if ours == object => None,
        Some(_) => Some(format!("{} {name} was changed", object.0)),
        None => Some(format!("{} {name} is foreign", object.0)),
    });
    let missing = expected.iter().filter(|(name, _)| !found.contains_key(*name));
    let missing = missing.map(|(name, object)| format!("{} {name} is missing", object.0));
    Ok(foreign.chain(missing).collect())
}

/// What an empty SQLite database lacks.
pub(crate) fn missing_on_empty_sqlite() -> Vec<Migration> {
    missing(FOR_SQLITE, |_| false)
}

/// Brings a SQLite database up to date. One in a file that has anything in it is copied before.
pub(crate) async fn bring_up_sqlite(
    connection: &mut sqlx::SqliteConnection,
    file: Option<&Path>,
    old: OldSchema,
) -> Result<Migrated, Error> {
    // Other processes wait: on PostgreSQL `sqlx` sees to that with a lock, on SQLite it doesn't.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let applied = applied!(transaction, TABLE_ON_SQLITE);
    let missing = missing(FOR_SQLITE, |version| applied.contains_key(&version));
    let mut migrated = Migrated { applied: names(&missing), copy: None, differences: Vec::new() };
    if let Some(first) = missing.first() {
        if old == OldSchema::Refuse {
            return Err(Error::OldSchema(migrated.applied));
        }
        if let Some(file) = file.filter(|_| !applied.is_empty()) {
            // Inside the transaction: nobody writes what would be in the database and not in the copy.
            let copy = files::copy_before(file, first.name).await;
            migrated.copy = Some(copy.map_err(|error| Error::NotCopied(Box::new(error)))?);
        }
    }
    run!(transaction, FOR_SQLITE, applied);
    transaction.commit().await?;
    if newer_on_sqlite(connection).await?.is_empty() {
        migrated.differences = differences_on_sqlite(connection).await?;
    }
    Ok(migrated)
}

/// Brings a PostgreSQL database up to date.
pub(crate) async fn bring_up_postgres(
    connection: &mut sqlx::PgConnection,
    old: OldSchema,
) -> Result<Migrated, Error> {
    let applied = applied_on_postgres(connection).await?;
    let missing = missing(FOR_POSTGRES, |version| applied.contains_key(&version));
    let migrated = Migrated { applied: names(&missing), copy: None, differences: Vec::new() };
    if old == OldSchema::Refuse && !missing.is_empty() {
        return Err(Error::OldSchema(migrated.applied));
    }
    for migration in migrator(FOR_POSTGRES).iter() {
        let mut tries = 0;
        while let Err(error) = apply_on_postgres(connection, migration, &applied).await {
            tries += 1;
            match error {
                Error::Migration(error) if stood_in_the_way(&error) && tries < TRIES => {
                    tracing::info!("a migration waited in vain for running servers, and begins anew");
                    tokio::time::sleep(BREATHER).await;
                }
                error => return Err(error),
            }
        }
    }
    Ok(migrated)
}

/// Applies one migration, unless it is or another process does it meanwhile.
///
/// Not with `sqlx`, which keeps its lock and its statements in the session: a pooler in transaction mode may give
/// each transaction another one.
async fn apply_on_postgres(
    connection: &mut sqlx::PgConnection,
    migration: &sqlx::migrate::Migration,
    applied: &Applied,
) -> Result<(), Error> {
    // A role that may not make tables can serve all the same, once another one has migrated.
    if let Some(checksum) = applied.get(&migration.version) {
        let is_the_same = *checksum == *migration.checksum;
        return is_the_same.then_some(()).ok_or(MigrateError::VersionMismatch(migration.version).into());
    }
    let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
    let began = Instant::now();
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(BEFORE_ON_POSTGRES).execute(&mut *transaction).await.map_err(failed)?;
    let is_there = sqlx::query("SELECT version FROM _sqlx_migrations WHERE version = $1").persistent(false);
    if is_there.bind(migration.version).fetch_optional(&mut *transaction).await?.is_some() {
        return Ok(transaction.commit().await?);
    }
    sqlx::raw_sql(migration.sql.clone()).execute(&mut *transaction).await.map_err(failed)?;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ($1, $2, TRUE, $3, $4)",
    )
    .persistent(false)
    .bind(migration.version)
    .bind(&*migration.description)
    .bind(&*migration.checksum)
    .bind(i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX))
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    Ok(transaction.commit().await?)
}

/// Whether a migration failed over locks: a deadlock, or a wait that took too long.
fn stood_in_the_way(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40P01", "55P03"].contains(&code.as_ref()))
}

impl Read {
    /// Whether the schema has this table, which an old one may lack.
    pub(crate) async fn has_table(&mut self, name: &str) -> Result<bool, Error> {
        let sql = if self.connection.is_postgres() {
            "SELECT count(to_regclass($1)) AS tables"
        } else {
            "SELECT count(*) AS tables FROM sqlite_schema WHERE type = 'table' AND name = $1"
        };
        let tables = self.one(sql, bind![name]).await?.map(|row| row.int("tables")).transpose()?;
        Ok(tables > Some(0))
    }

    /// Whether the database answers, and has all that this program needs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer, [`Error::OldSchema`] when it lacks migrations.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let (table, text) = if self.connection.is_postgres() {
            (TABLE_ON_POSTGRES, FOR_POSTGRES)
        } else {
            (TABLE_ON_SQLITE, FOR_SQLITE)
        };
        let mut applied = Vec::new();
        if self.one(table, Vec::new()).await?.map(|row| row.int("tables")).transpose()? > Some(0) {
            for row in self.all(APPLIED, Vec::new()).await? {
                applied.push(row.int("version")?);
            }
        }
        match missing(text, |version| applied.contains(&version)) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(Error::OldSchema(names(&missing))),
        }
    }
}
