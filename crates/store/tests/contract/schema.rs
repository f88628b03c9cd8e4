//! Migrations, and the comparison of the SQLite and PostgreSQL schemas.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use domain::Secret;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use store::{Error, Location, MigrationReport, OldSchema, Store};

use crate::concurrency::run_concurrently;
use crate::databases::{TestDatabase, run};
use crate::every_statement::run_every_statement;
use crate::fixtures::*;

contract! {
    on disk:
    error_for_an_old_schema_names_the_missing_migrations,
    every_migration_is_applied_once_and_reported,
    servers_that_start_concurrently_apply_each_migration_once,
    database_with_a_different_migration_checksum_is_refused,
    listing_missing_migrations_changes_nothing,
    opening_fails_if_the_migration_table_is_unreadable,
    store_is_not_ready_when_a_migration_is_missing,
    newer_schema_is_accepted,
    statements_still_work_after_columns_were_added_to_every_table,
}

contract! {
    on memory:
    in_memory_store_is_migrated_even_if_old_schemas_are_refused,
    in_memory_stores_do_not_share_data,
}

contract! {
    on postgres:
    store_works_with_a_role_without_the_create_privilege,
    migration_releases_its_locks_if_they_conflict_with_a_running_transaction,
}

contract! {
    on sqlite:
    file_that_is_not_a_database_is_refused,
    database_file_is_copied_before_migration,
    only_the_three_latest_migration_copies_are_kept,
    database_file_that_cannot_be_copied_is_not_migrated,
    sqlite_tables_are_strict_and_the_journal_mode_is_wal,
}

/// Returns the sorted names of the migrations for `database`, which is `sqlite` or `postgres`: the names of their files
/// without `.sql`.
fn migrations(database: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(database);
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.map(|name| name.strip_suffix(".sql").unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn error_for_an_old_schema_names_the_missing_migrations(database: TestDatabase) {
    // Open twice: the second result must be the same, because a refusal changes nothing.
    for _ in 0..2 {
        let error = Store::open(&database.location, OldSchema::Refuse).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("0001_verify_push"), "{error}");
        assert_refused!(Err::<(), _>(error), Error::OldSchema(missing) if missing == migrations("sqlite"));
    }
}

async fn every_migration_is_applied_once_and_reported(database: TestDatabase) {
    let (store, migrated) = Store::open(&database.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated, MigrationReport { applied: migrations("sqlite"), ..MigrationReport::default() });
    let account = account();
    add(&store, [account]).await;
    store.close().await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        let (store, migrated) = Store::open(&database.location, old).await.unwrap();
        assert_eq!(migrated, MigrationReport::default());
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
        store.close().await;
    }
}

async fn servers_that_start_concurrently_apply_each_migration_once(database: TestDatabase) {
    let location = &database.location;
    let stores = run_concurrently(6, |_| {
        let location = location.clone();
        async move { Store::open(&location, OldSchema::Migrate).await.unwrap().0 }
    });
    for store in stores.await {
        add(&store, [account()]).await;
    }
    assert_eq!(database.sql("SELECT count(*) FROM accounts").await, "6");
    let applied = database.sql("SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(applied, migrations("sqlite").len().to_string());
}

async fn database_with_a_different_migration_checksum_is_refused(database: TestDatabase) {
    database.open().await.close().await;
    database.sql("UPDATE _sqlx_migrations SET checksum = substr(checksum, 2)").await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        let opened = Store::open(&database.location, old).await.map(|_| ());
        assert_refused!(opened, Error::ChangedMigration(name) if name == migrations("sqlite")[0]);
    }
}

async fn listing_missing_migrations_changes_nothing(database: TestDatabase) {
    let missing = async || {
        let missing = Store::missing_migrations(&database.location).await.unwrap();
        for migration in &missing {
            assert!(migration.sql.contains("CREATE") || migration.sql.contains("ALTER"), "{migration:?}");
        }
        missing.iter().map(|migration| migration.name.to_owned()).collect::<Vec<_>>()
    };
    // List twice: the second result must be the same, because listing changes nothing.
    for _ in 0..2 {
        assert_eq!(missing().await, migrations("sqlite"));
    }
    if let Location::Sqlite(file) = &database.location {
        assert_eq!(files_beside(file), [""; 0]);
    }
    let store = database.open().await;
    assert_eq!(missing().await, [""; 0]);
    store.close().await;
    if let Location::Sqlite(file) = &database.location {
        let before = files_beside(file);
        assert_eq!(missing().await, [""; 0]);
        assert_eq!(files_beside(file), before);
    }
}

async fn opening_fails_if_the_migration_table_is_unreadable(database: TestDatabase) {
    database.open().await.close().await;
    database.sql("ALTER TABLE _sqlx_migrations RENAME COLUMN checksum TO sum").await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        assert_refused!(Store::open(&database.location, old).await.map(|_| ()), Error::Database(_));
    }
    assert_refused!(Store::missing_migrations(&database.location).await, Error::Database(_));
}

async fn store_is_not_ready_when_a_migration_is_missing(database: TestDatabase) {
    let store = database.open().await;
    read!(store, |db| db.require_current_schema()).unwrap();
    let last = migrations("sqlite").pop().unwrap();
    database.sql("CREATE TABLE kept AS SELECT * FROM _sqlx_migrations").await;
    database.sql("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM kept)").await;
    assert_refused!(read!(store, |db| db.require_current_schema()), Error::OldSchema(missing) if missing == [last.clone()]);
    database
        .sql(
            "INSERT INTO _sqlx_migrations SELECT * FROM kept WHERE version = (SELECT max(version) FROM kept)",
        )
        .await;
    read!(store, |db| db.require_current_schema()).unwrap();
    database.sql("DROP TABLE _sqlx_migrations").await;
    let all = migrations("sqlite");
    assert_refused!(read!(store, |db| db.require_current_schema()), Error::OldSchema(missing) if missing == all);
}

async fn newer_schema_is_accepted(database: TestDatabase) {
    let store = database.open().await;
    database
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
              SELECT 9999, 'of a newer program', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    database.sql("ALTER TABLE accounts ADD COLUMN of_a_newer_program TEXT").await;
    let (account, later) = (account(), account());
    add(&store, [account]).await;
    let (store, migrated) = Store::open(&database.location, OldSchema::Refuse).await.unwrap();
    assert_eq!(migrated, MigrationReport::default());
    add(&store, [later]).await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account, later]);
}

/// The names of all tables in the schema.
const TABLES: [&str; 34] = [
    "accounts",
    "api_keys",
    "enrollment_keys",
    "server_keys",
    "services",
    "entities",
    "factors",
    "push_factors",
    "totp_factors",
    "passkey_factors",
    "challenges",
    "passkey_challenges",
    "access_tokens",
    "webhooks",
    "rate_limits",
    "buckets",
    "bucket_hits",
    "messaging_configurations",
    "safe_numbers",
    "credentials",
    "notifications",
    "deliveries",
    "delivery_attempts",
    "alerts",
    "leases",
    "factor_creations",
    "audit_log",
    "audit_chain",
    "clock_record",
    "outlets",
    "verifications",
    "verification_attempts",
    "templates",
    "template_translations",
];

async fn statements_still_work_after_columns_were_added_to_every_table(database: TestDatabase) {
    let store = database.open().await;
    // Run the statements often enough that every connection has prepared each of them.
    for _ in 0..10 {
        run_every_statement(&store).await;
    }
    for table in TABLES {
        database.sql(&format!("ALTER TABLE {table} ADD COLUMN of_a_newer_program TEXT")).await;
    }
    for _ in 0..10 {
        run_every_statement(&store).await;
    }
}

async fn store_works_with_a_role_without_the_create_privilege(database: TestDatabase) {
    database.open().await.close().await;
    let role = database.sql("SELECT 'server_' || md5(current_database())").await;
    database.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
    database.sql(&format!("GRANT {rights} TO {role}")).await;

    let separator = if database.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}user={role}&password=secret", database.url());
    for old in [OldSchema::Refuse, OldSchema::Migrate] {
        let opened = Store::open(&Location::Postgres(Secret::new(url.clone())), old).await;
        let (store, migrated) = opened.unwrap();
        assert_eq!(migrated, MigrationReport::default());
        assert_eq!(AccountTree::create(&store).await.remaining(&store).await, AccountTree::ALL);
        store.close().await;
    }
    database.sql(&format!("DROP OWNED BY {role}")).await;
    database.sql(&format!("DROP ROLE {role}")).await;
}

async fn migration_releases_its_locks_if_they_conflict_with_a_running_transaction(database: TestDatabase) {
    database.open().await.close().await;
    let undo_migration = "DROP TABLE webhooks, credentials, notifications, delivery_attempts, deliveries, alerts; \
         DELETE FROM _sqlx_migrations WHERE version = 2";
    database.sql(undo_migration).await;

    // `server` is in the middle of a transaction and has locked a table to which a foreign key of the migration refers.
    // `observer` checks whether a table to which an earlier foreign key refers is locked: first it must be, then it
    // must be free again.
    let options: PgConnectOptions = database.url().parse().unwrap();
    let (mut server, mut observer) = (options.connect().await.unwrap(), options.connect().await.unwrap());
    sqlx::raw_sql("BEGIN; LOCK TABLE challenges IN ROW EXCLUSIVE MODE").execute(&mut server).await.unwrap();
    let location = database.location.clone();
    let migration = tokio::spawn(async move { Store::open(&location, OldSchema::Migrate).await });
    for expected in ["taken", "free"] {
        loop {
            let lock = "BEGIN; LOCK TABLE services IN ROW EXCLUSIVE MODE NOWAIT";
            let is_free = sqlx::raw_sql(lock).execute(&mut observer).await.is_ok();
            sqlx::raw_sql("ROLLBACK").execute(&mut observer).await.unwrap();
            if is_free == (expected == "free") {
                break;
            }
            assert!(!migration.is_finished());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut server).await.unwrap();
    let (store, migrated) = migration.await.unwrap().unwrap();
    assert_eq!(migrated.applied, ["0002_deliveries"]);
    store.close().await;
}

async fn in_memory_store_is_migrated_even_if_old_schemas_are_refused(database: TestDatabase) {
    for old in [OldSchema::Refuse, OldSchema::Migrate] {
        let (store, migrated) = Store::open(&database.location, old).await.unwrap();
        assert_eq!(migrated.applied, migrations("sqlite"));
        enrolled_user(&store).await;
    }
}

async fn in_memory_stores_do_not_share_data(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    enrolled_user(&one).await;
    assert_same!(read!(other, |db| db.accounts()).unwrap(), Vec::<domain::Account>::new());
}

/// Returns the sorted names of all files in the folder that contains `file`.
fn files_beside(file: &Path) -> Vec<String> {
    let files = file.parent().unwrap().read_dir().unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Creates a SQLite database to which only the first migration has been applied, with one account.
async fn create_old_database(database: &TestDatabase) {
    let newest = TestDatabase::sqlite("").unwrap();
    newest.open().await.close().await;
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite/0001_verify_push.sql");
    let newest = newest.file();
    std::fs::write(database.file(), "").unwrap();
    database
        .sql(&format!(
            "PRAGMA journal_mode = WAL; {}; ATTACH '{}' AS newest; \
             CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
               installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
               execution_time BIGINT NOT NULL); \
             INSERT INTO _sqlx_migrations SELECT * FROM newest._sqlx_migrations WHERE version = 1; \
             INSERT INTO accounts (sid, friendly_name, auth_token, created_at, updated_at) \
               VALUES (X'00', 'Owl Bank', X'00', 1, 1)",
            std::fs::read_to_string(first).unwrap(),
            newest.display(),
        ))
        .await;
}

async fn database_file_is_copied_before_migration(database: TestDatabase) {
    create_old_database(&database).await;
    let (store, migrated) = Store::open(&database.location, OldSchema::Migrate).await.unwrap();
    let second = &migrations("sqlite")[1];
    assert_eq!(migrated.applied, migrations("sqlite")[1..]);
    let copy = migrated.copy.unwrap();
    assert_eq!(copy, database.file().with_file_name(format!("countersign.db.before-{second}")));
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store.close().await;

    // The copy contains the database as it was before the migration, so it can be moved back and migrated again.
    std::fs::rename(&copy, database.file()).unwrap();
    assert_eq!(database.sql("SELECT version FROM _sqlx_migrations").await, "1");
    assert_eq!(database.sql("SELECT friendly_name FROM accounts").await, "Owl Bank");
    let (_, migrated) = Store::open(&database.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.copy, Some(copy));
}

async fn only_the_three_latest_migration_copies_are_kept(database: TestDatabase) {
    create_old_database(&database).await;
    let name = |migration: &str| format!("countersign.db.before-{migration}");
    let second = migrations("sqlite")[1].clone();
    let others = ["0000_a", "0000_b", "0000_c", "restore"].map(name);
    for other in &others {
        std::fs::write(database.file().with_file_name(other), "").unwrap();
    }
    database.open().await.close().await;
    let mut left = files_beside(&database.file());
    left.retain(|file| file.contains("before"));
    assert_eq!(left, [name("0000_b"), name("0000_c"), name(&second), name("restore")]);
}

async fn database_file_that_cannot_be_copied_is_not_migrated(database: TestDatabase) {
    create_old_database(&database).await;
    let copy = database.file().with_file_name(format!("countersign.db.before-{}", migrations("sqlite")[1]));
    std::fs::create_dir(&copy).unwrap();
    let error = Store::open(&database.location, OldSchema::Migrate).await.map(|_| ()).unwrap_err();
    assert_refused!(Err::<(), _>(error), Error::NotCopied(_));
    assert_eq!(database.sql("SELECT version FROM _sqlx_migrations").await, "1");
    assert!(files_beside(&database.file()).iter().all(|file| !file.contains(".draft")));
    std::fs::remove_dir(&copy).unwrap();
    database.open().await;
}

async fn file_that_is_not_a_database_is_refused(database: TestDatabase) {
    std::fs::write(database.file(), "not a database, ".repeat(1000)).unwrap();
    let unreachable = Location::Sqlite(database.file().join("in a file"));
    for location in [&database.location, &unreachable] {
        let opened = Store::open(location, OldSchema::Migrate).await.map(|_| ());
        assert_refused!(opened, Error::Database(_) | Error::File(..));
    }
}

async fn sqlite_tables_are_strict_and_the_journal_mode_is_wal(database: TestDatabase) {
    database.open().await;
    assert_eq!(database.sql("PRAGMA journal_mode").await, "wal");
    let not_strict = "SELECT name FROM pragma_table_list \
               WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_sqlx%'";
    assert_eq!(database.sql(not_strict).await, "");
}

#[test]
fn sqlite_and_postgres_have_the_same_migrations() {
    assert_eq!(migrations("sqlite"), migrations("postgres"));
}

#[test]
fn sqlite_and_postgres_have_the_same_schema() {
    let test = "schema::sqlite_and_postgres_have_the_same_schema";
    let (Some(sqlite), Some(postgres)) = (TestDatabase::sqlite(test), TestDatabase::postgres(test)) else {
        return;
    };
    run(sqlite, async |sqlite| {
        sqlite.open().await;
        postgres.open().await;
        for (on_sqlite, on_postgres) in [COLUMNS, INDEXES, REFERENCES] {
            let lines = async |database: &TestDatabase, sql| {
                let rows = database.sql(sql).await;
                rows.lines().map(str::to_owned).collect::<BTreeSet<_>>()
            };
            let (found, expected) = (lines(&sqlite, on_sqlite).await, lines(&postgres, on_postgres).await);
            assert!(!found.is_empty());
            assert_eq!(found, expected, "\n{on_sqlite}\n{on_postgres}");
        }
    });
}

/// Two queries, for SQLite and for PostgreSQL, that return every column's table, position, name, type and nullability.
const COLUMNS: (&str, &str) = (
    "SELECT t.name, c.cid + 1, c.name, \
            CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE lower(c.type) END, \
            CASE c.\"notnull\" WHEN 1 THEN 'NO' ELSE 'YES' END \
     FROM sqlite_schema t, pragma_table_info(t.name) c \
     WHERE t.type = 'table' AND t.name NOT LIKE '_sqlx%'",
    "SELECT table_name, ordinal_position, column_name, replace(data_type, 'uuid', 'bytea'), is_nullable \
     FROM information_schema.columns \
     WHERE table_schema = 'public' AND table_name NOT LIKE '_sqlx%'",
);

/// Two queries, for SQLite and for PostgreSQL, that return every index's table and columns, and whether the index is
/// unique and partial. They include the indexes of keys.
const INDEXES: (&str, &str) = (
    "SELECT t.name, (SELECT group_concat(c.name) FROM pragma_index_info(i.name) c), i.\"unique\", i.partial \
     FROM sqlite_schema t, pragma_index_list(t.name) i \
     WHERE t.type = 'table' AND t.name NOT LIKE '_sqlx%'",
    "SELECT t.relname, (SELECT string_agg(c.attname, ',' ORDER BY n) \
                        FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n) \
                        JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = k.attnum), \
            i.indisunique::int, (i.indpred IS NOT NULL)::int \
     FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid \
     WHERE t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE '_sqlx%'",
);

/// Two queries, for SQLite and for PostgreSQL, that return every foreign key's table, column, referenced table and
/// deletion rule.
const REFERENCES: (&str, &str) = (
    "SELECT t.name, f.\"from\", f.\"table\", f.on_delete FROM sqlite_schema t, pragma_foreign_key_list(t.name) f",
    "SELECT t.relname, c.attname, f.confrelid::regclass, \
            CASE f.confdeltype WHEN 'c' THEN 'CASCADE' ELSE 'something else' END \
     FROM pg_constraint f \
     JOIN pg_class t ON t.oid = f.conrelid \
     JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = ALL (f.conkey) \
     WHERE f.contype = 'f'",
);
