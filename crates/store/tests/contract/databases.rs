//! Creates a new database for each test, and defines the `contract!` macro, which runs a test on several databases.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use domain::Secret;
use harness::Database;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::Value;
use store::{Location, OldSchema, Store};
use tempfile::TempDir;

/// Declares the listed async functions as tests. Without a prefix, each takes an empty [`Store`] and runs on all four
/// databases. With the prefix `on disk:`, each takes a [`TestDatabase`], opens the store itself, and runs on a SQLite
/// file, PostgreSQL and PgBouncer. With `on sqlite:`, `on memory:` or `on postgres:`, it also takes a
/// [`TestDatabase`], but runs only on that database.
macro_rules! contract {
    (on disk: $($test:ident),+ $(,)?) => {$(
        mod $test {
            contract!(@test sqlite, $test, crate::databases::run);
            contract!(@test postgres, $test, crate::databases::run);
            contract!(@test pgbouncer, $test, crate::databases::run);
        }
    )+};
    (on $database:ident: $($test:ident),+ $(,)?) => {$(
        mod $test {
            contract!(@test $database, $test, crate::databases::run);
        }
    )+};
    (@test $database:ident, $test:ident, $run:path) => {
        #[test]
        fn $database() {
            let test = concat!(module_path!(), "::", stringify!($database));
            if let Some(database) = crate::databases::TestDatabase::$database(test) {
                $run(database, super::$test);
            }
        }
    };
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            contract!(@test sqlite, $test, crate::databases::run_with_store);
            contract!(@test memory, $test, crate::databases::run_with_store);
            contract!(@test postgres, $test, crate::databases::run_with_store);
            contract!(@test pgbouncer, $test, crate::databases::run_with_store);
        }
    )+};
}

/// Returns the hexadecimal digits of a SID or a delivery ID, as [`TestDatabase::sql`] returns them on SQLite.
pub(crate) fn hex_digits(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

/// Maximum duration of a test. A test that runs longer fails instead of hanging.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// Runs `test` with `database` in a new multi-threaded runtime.
///
/// # Panics
/// Panics if the test panics or exceeds [`TEST_TIMEOUT`].
pub(crate) fn run<F: Future<Output = ()>>(database: TestDatabase, test: impl FnOnce(TestDatabase) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let result = tokio::time::timeout(TEST_TIMEOUT, test(database)).await;
        result.unwrap_or_else(|_| panic!("test did not finish within {TEST_TIMEOUT:?}"));
    });
}

/// Like [`run`], but opens the empty store in `database` and runs `test` with that store.
pub(crate) fn run_with_store<F: Future<Output = ()>>(database: TestDatabase, test: impl FnOnce(Store) -> F) {
    run(database, async move |database| test(database.open().await).await);
}

/// A database for one test. It has no tables until a store is opened, and it is deleted when this value is dropped.
pub(crate) struct TestDatabase {
    /// The location with which a store opens the database.
    pub(crate) location: Location,
    resource: Resource,
}

/// The resource that holds the database and is deleted with it.
enum Resource {
    Memory,
    Folder(TempDir),
    Postgres(Database),
}

impl TestDatabase {
    /// Returns a database in memory, of which every [`TestDatabase::open`] creates an independent one. Never returns
    /// `None`.
    pub(crate) fn memory(_test: &str) -> Option<Self> {
        Some(Self { location: Location::Memory, resource: Resource::Memory })
    }

    /// Returns a SQLite database in a new temporary folder. Its file does not exist yet. Never returns `None`.
    pub(crate) fn sqlite(_test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("countersign.db"));
        Some(Self { location, resource: Resource::Folder(folder) })
    }

    /// Returns a new PostgreSQL database for `test`. Returns `None` and prints a message if PostgreSQL is not
    /// installed.
    pub(crate) fn postgres(test: &str) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let location = Location::Postgres(Secret::new(database.url.clone()));
        Some(Self { location, resource: Resource::Postgres(database) })
    }

    /// Returns a new PostgreSQL database for `test`, accessed through PgBouncer in transaction mode. Returns `None` and
    /// prints a message if PostgreSQL or PgBouncer is not installed.
    pub(crate) fn pgbouncer(test: &str) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let location = Location::Postgres(Secret::new(database.pooled_url_or_skip(test)?));
        Some(Self { location, resource: Resource::Postgres(database) })
    }

    /// Opens the store in this database, first applying all missing migrations.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.location, OldSchema::Migrate).await.unwrap().0
    }

    /// Returns the URL at which the PostgreSQL database is reached directly, without PgBouncer.
    ///
    /// # Panics
    /// Panics if the database is a SQLite database.
    pub(crate) fn url(&self) -> &str {
        match &self.resource {
            Resource::Postgres(database) => &database.url,
            Resource::Memory | Resource::Folder(_) => panic!("not a PostgreSQL database"),
        }
    }

    /// Returns the path of the SQLite file.
    ///
    /// # Panics
    /// Panics if the database is not a SQLite file.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.resource {
            Resource::Folder(folder) => folder.path().join("countersign.db"),
            Resource::Memory | Resource::Postgres(_) => panic!("not a SQLite file"),
        }
    }

    /// Opens a connection to the SQLite file outside the store, as another process would.
    pub(crate) fn connect_directly(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection
    }

    /// Returns the SQL text of the 16 bytes of a SID or a delivery ID.
    pub(crate) fn literal(&self, id: [u8; 16]) -> String {
        let digits = hex_digits(id);
        match self.resource {
            Resource::Postgres(_) => format!("CAST('{digits}' AS UUID)"),
            Resource::Memory | Resource::Folder(_) => format!("X'{digits}'"),
        }
    }

    /// Returns the SQL text of a blob that is neither a SID nor a MAC.
    pub(crate) fn invalid_bytes(&self) -> &'static str {
        match self.resource {
            Resource::Postgres(_) => "CAST('invalid' AS BYTEA)",
            Resource::Memory | Resource::Folder(_) => "CAST('invalid' AS BLOB)",
        }
    }

    /// Runs `sql` on a connection outside the store. Returns one line per row, with columns separated by `|`, `NULL` as
    /// an empty string, and binary values in hexadecimal.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        if let Resource::Postgres(database) = &self.resource {
            return database.psql(sql);
        }
        let connection = self.connect_directly();
        let mut lines = Vec::new();
        let mut statements = rusqlite::Batch::new(&connection, sql);
        while let Some(mut statement) = statements.next().unwrap() {
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let column = |index| match row.get(index).unwrap() {
                    Value::Null => String::new(),
                    Value::Integer(value) => value.to_string(),
                    Value::Real(value) => value.to_string(),
                    Value::Text(value) => value,
                    Value::Blob(value) => {
                        value.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
                    }
                };
                lines.push((0..columns).map(column).collect::<Vec<_>>().join("|"));
            }
        }
        lines.join("\n")
    }
}
