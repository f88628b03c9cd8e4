//! Migrating a database to this version's schema.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr};

use crate::error::Error;
use crate::schema::{
    AppliedMigrations, EmbeddedMigration, FOR_POSTGRES, FOR_SQLITE, MIGRATIONS, SqlText, applied_on_postgres,
    applied_on_sqlite, differences_on_sqlite, migration_names, missing, newer_on_sqlite,
};
use crate::sqlite_files;

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

fn migrator(text: SqlText) -> Migrator {
    let migration = |migration: &EmbeddedMigration| {
        let (version, name) = (migration.version, Cow::Borrowed(migration.name));
        let sql = AssertSqlSafe(text(migration)).into_sql_str();
        sqlx::migrate::Migration::new(version, name, MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    // During a rolling upgrade, an older version works on a newer schema, because migrations only add to the schema.
    migrator.set_ignore_missing(true);
    migrator
}

/// Migrates a SQLite database, or fails with [`Error::OldSchema`] if `old_schema` forbids that. A file is copied first
/// unless it is empty; `file` is `None` for an in-memory database.
pub(crate) async fn migrate_sqlite(
    connection: &mut sqlx::SqliteConnection,
    file: Option<&Path>,
    old_schema: OldSchema,
) -> Result<MigrationReport, Error> {
    // This transaction makes other processes wait, because `sqlx` takes no lock of its own on SQLite.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let applied = applied_on_sqlite(&mut transaction).await?;
    let missing = missing(FOR_SQLITE, |version| applied.contains_key(&version));
    let mut report =
        MigrationReport { applied: migration_names(&missing), copy: None, differences: Vec::new() };
    if let Some(first) = missing.first() {
        if old_schema == OldSchema::Refuse {
            return Err(Error::OldSchema(report.applied));
        }
        if let Some(file) = file.filter(|_| !applied.is_empty()) {
            // The copy is made inside the transaction, so that no write reaches the database after it.
            let copy = sqlite_files::copy_before(file, first.name).await;
            report.copy = Some(copy.map_err(|error| Error::NotCopied(Box::new(error)))?);
        }
    }
    let migrator = migrator(FOR_SQLITE);
    let is_applied = |migration: &sqlx::migrate::Migration| {
        applied.get(&migration.version).is_some_and(|checksum| *checksum == *migration.checksum)
    };
    if !migrator.iter().all(is_applied) {
        migrator.run_direct(None, &mut *transaction, false).await?;
    }
    transaction.commit().await?;
    if newer_on_sqlite(connection).await?.is_empty() {
        report.differences = differences_on_sqlite(connection).await?;
    }
    Ok(report)
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
    for migration in migrator(FOR_POSTGRES).iter() {
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
    if let Some(checksum) = applied.get(&migration.version) {
        let is_same = *checksum == *migration.checksum;
        return is_same.then_some(()).ok_or(MigrateError::VersionMismatch(migration.version).into());
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

/// Returns whether a migration failed because of a deadlock or a lock timeout.
fn is_lock_conflict(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40P01", "55P03"].contains(&code.as_ref()))
}
