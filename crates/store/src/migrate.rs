//! Migrating a database to this version's schema.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, MigrationType};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr};

use crate::error::Error;
use crate::schema::{
    AppliedMigrations, EmbeddedMigration, FOR_POSTGRES, FOR_SQLITE, MIGRATIONS, SqlText, applied_on_postgres,
    applied_on_sqlite, differences_on_sqlite, migration_names, missing, newer_on_sqlite,
};
use crate::sqlite::SqliteConnection;
use crate::sqlite_files;
use crate::values::bind;

/// Maximum number of attempts to run a PostgreSQL migration while locks of running servers block it.
const MAX_MIGRATION_ATTEMPTS: u32 = 240;

/// Delay between attempts to run a PostgreSQL migration.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Statements that run before each PostgreSQL migration, in the same transaction.
///
/// Servers of the previous version keep running during a migration. While a migration waits for their locks, it blocks
/// all requests behind it and may deadlock with them. It therefore gives up after 2 seconds and is retried. The
/// advisory lock, whose number is arbitrary, lets only one process migrate at a time.
const BEGIN_MIGRATION: &str = "SET LOCAL lock_timeout = 2000; \
     SELECT pg_advisory_xact_lock(4850237514068492163); \
     CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
     installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
     execution_time BIGINT NOT NULL)";

/// Statement that creates the table of applied migrations in a SQLite database. Its name and columns are those of
/// `sqlx`.
const MIGRATIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, \
     description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
     success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";

/// Statement that records an applied migration.
const RECORD_MIGRATION: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     VALUES ($1, $2, TRUE, $3, $4)";

/// What to do with a database whose schema is older than this version of Countersign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSchema {
    /// Migrate the older schema to this version.
    Migrate,
    /// Leave the older schema unchanged, and fail with [`Error::OldSchema`].
    Refuse,
}

/// A report of what was done to the schema when the database was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Names of the migrations that were applied, oldest first.
    pub applied: Vec<String>,
    /// Path of the copy of a SQLite file that was made before the migration. `None` if nothing was migrated, if the
    /// file was empty, or if the database is not a SQLite file.
    pub copy: Option<PathBuf>,
    /// Differences between the schema of a SQLite database and the result of its migrations, one phrase for each
    /// object. Empty on PostgreSQL, and if a newer version has migrated the database.
    pub differences: Vec<String>,
}

fn migrations(text: SqlText) -> Vec<sqlx::migrate::Migration> {
    let migration = |migration: &EmbeddedMigration| {
        let (version, name) = (migration.version, Cow::Borrowed(migration.name));
        let sql = AssertSqlSafe(text(migration)).into_sql_str();
        sqlx::migrate::Migration::new(version, name, MigrationType::Simple, sql, false)
    };
    MIGRATIONS.iter().map(migration).collect()
}

/// Migrates a SQLite database, or fails with [`Error::OldSchema`] if `old_schema` forbids that. A file is copied first
/// unless it is empty; `file` is `None` for an in-memory database.
pub(crate) fn migrate_sqlite(
    connection: &SqliteConnection,
    file: Option<&Path>,
    old_schema: OldSchema,
) -> Result<MigrationReport, Error> {
    // This transaction makes other processes wait. Dropping the connection after an error rolls it back.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let applied = applied_on_sqlite(connection)?;
    let missing = missing(FOR_SQLITE, |version| applied.contains_key(&version));
    let mut report =
        MigrationReport { applied: migration_names(&missing), copy: None, differences: Vec::new() };
    if let Some(first) = missing.first() {
        if old_schema == OldSchema::Refuse {
            return Err(Error::OldSchema(report.applied));
        }
        if let Some(file) = file.filter(|_| !applied.is_empty()) {
            // The copy is made inside the transaction, so that no write reaches the database after it.
            let copy = sqlite_files::copy_before(file, first.name);
            report.copy = Some(copy.map_err(|error| Error::NotCopied(Box::new(error)))?);
        }
    }
    for migration in &migrations(FOR_SQLITE) {
        apply_on_sqlite(connection, migration, &applied)?;
    }
    connection.execute_batch("COMMIT")?;
    if newer_on_sqlite(connection)?.is_empty() {
        report.differences = differences_on_sqlite(connection)?;
    }
    Ok(report)
}

/// Applies one migration, unless it is already applied.
fn apply_on_sqlite(
    connection: &SqliteConnection,
    migration: &sqlx::migrate::Migration,
    applied: &AppliedMigrations,
) -> Result<(), Error> {
    if is_applied(migration, applied)? {
        return Ok(());
    }
    let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
    let began = Instant::now();
    connection.execute_batch(MIGRATIONS_TABLE).map_err(failed)?;
    connection.execute_batch(migration.sql.as_str()).map_err(failed)?;
    let values = bind![
        migration.version,
        &*migration.description,
        &*migration.checksum,
        i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    ];
    connection.query(RECORD_MIGRATION, &values, &mut |_| {}).map_err(failed)?;
    Ok(())
}

/// Returns whether a migration is applied.
///
/// # Errors
/// Returns an error if the applied migration differs from the one in this version of Countersign.
fn is_applied(migration: &sqlx::migrate::Migration, applied: &AppliedMigrations) -> Result<bool, Error> {
    match applied.get(&migration.version) {
        None => Ok(false),
        Some(checksum) if *checksum == *migration.checksum => Ok(true),
        Some(_) => Err(Error::ChangedMigration(migration.description.to_string())),
    }
}

/// Migrates a PostgreSQL database, or fails with [`Error::OldSchema`] if `old_schema` forbids that. Retries a migration
/// that locks of running servers block.
pub(crate) async fn migrate_postgres(
    connection: &mut sqlx::PgConnection,
    old_schema: OldSchema,
) -> Result<MigrationReport, Error> {
    let applied = applied_on_postgres(connection).await?;
    let missing = missing(FOR_POSTGRES, |version| applied.contains_key(&version));
    let report = MigrationReport { applied: migration_names(&missing), copy: None, differences: Vec::new() };
    if old_schema == OldSchema::Refuse && !missing.is_empty() {
        return Err(Error::OldSchema(report.applied));
    }
    for migration in &migrations(FOR_POSTGRES) {
        let mut attempts = 0;
        while let Err(error) = apply_on_postgres(connection, migration, &applied).await {
            attempts += 1;
            match error {
                Error::Migration(error) if is_lock_conflict(&error) && attempts < MAX_MIGRATION_ATTEMPTS => {
                    tracing::info!(
                        migration = migration.description.as_ref(),
                        "migration blocked by locks of running servers, will retry"
                    );
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                error => return Err(error),
            }
        }
    }
    Ok(report)
}

/// Applies one migration, unless it is already applied or another process applies it in the meantime.
///
/// Does not use the migrator of `sqlx`, which keeps its lock and its prepared statements in the session. A pooler in
/// transaction mode may run each transaction in a different session.
async fn apply_on_postgres(
    connection: &mut sqlx::PgConnection,
    migration: &sqlx::migrate::Migration,
    applied: &AppliedMigrations,
) -> Result<(), Error> {
    // This check precedes the transaction, so that a role without the right to create tables can use a migrated
    // database.
    if is_applied(migration, applied)? {
        return Ok(());
    }
    let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
    let began = Instant::now();
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(BEGIN_MIGRATION).execute(&mut *transaction).await.map_err(failed)?;
    let exists = sqlx::query("SELECT version FROM _sqlx_migrations WHERE version = $1").persistent(false);
    if exists.bind(migration.version).fetch_optional(&mut *transaction).await?.is_some() {
        return Ok(transaction.commit().await?);
    }
    sqlx::raw_sql(migration.sql.clone()).execute(&mut *transaction).await.map_err(failed)?;
    sqlx::query(RECORD_MIGRATION)
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

/// Returns whether a migration failed because of a deadlock or a lock timeout.
fn is_lock_conflict(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40P01", "55P03"].contains(&code.as_ref()))
}
