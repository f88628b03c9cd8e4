//! Where the behaviours are tried out: a fresh database for each.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use domain::Secret;
use harness::Database;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use store::{Location, OldSchema, Store};
use tempfile::TempDir;

/// Makes tests out of behaviours: async functions that take an empty [`Store`], or the [`Place`] of one
/// if they open it themselves.
macro_rules! contract {
    (on disk: $($behaviour:ident),+ $(,)?) => {$(
        mod $behaviour {
            contract!(@test sqlite, $behaviour, crate::places::run);
            contract!(@test postgres, $behaviour, crate::places::run);
            contract!(@test pgbouncer, $behaviour, crate::places::run);
        }
    )+};
    (on $database:ident: $($behaviour:ident),+ $(,)?) => {$(
        mod $behaviour {
            contract!(@test $database, $behaviour, crate::places::run);
        }
    )+};
    (@test $database:ident, $behaviour:ident, $run:path) => {
        #[test]
        fn $database() {
            let test = concat!(module_path!(), "::", stringify!($database));
            if let Some(place) = crate::places::Place::$database(test) {
                $run(place, super::$behaviour);
            }
        }
    };
    ($($behaviour:ident),+ $(,)?) => {$(
        mod $behaviour {
            contract!(@test sqlite, $behaviour, crate::places::run_with_store);
            contract!(@test memory, $behaviour, crate::places::run_with_store);
            contract!(@test postgres, $behaviour, crate::places::run_with_store);
            contract!(@test pgbouncer, $behaviour, crate::places::run_with_store);
        }
    )+};
}

/// Longer than any behaviour takes: one that hangs is a failure, not a test run without an end.
const PATIENCE: Duration = Duration::from_secs(180);

/// Tries out a behaviour at a place of its own.
pub(crate) fn run<F: Future<Output = ()>>(place: Place, behaviour: impl FnOnce(Place) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let in_time = tokio::time::timeout(PATIENCE, behaviour(place)).await;
        in_time.unwrap_or_else(|_| panic!("still not done after {PATIENCE:?}"));
    });
}

/// The same for a behaviour that only needs an empty store.
pub(crate) fn run_with_store<F: Future<Output = ()>>(place: Place, behaviour: impl FnOnce(Store) -> F) {
    run(place, async move |place| behaviour(place.open().await).await);
}

/// A database of one's own: empty at first, gone with this value.
pub(crate) struct Place {
    pub(crate) location: Location,
    ground: Ground,
}

enum Ground {
    Memory,
    Folder(TempDir),
    Postgres(Database),
}

impl Place {
    pub(crate) fn memory(_test: &str) -> Option<Self> {
        Some(Self { location: Location::Memory, ground: Ground::Memory })
    }

    pub(crate) fn sqlite(_test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("countersign.db"));
        Some(Self { location, ground: Ground::Folder(folder) })
    }

    /// `None` where there is no PostgreSQL, which has been said then.
    pub(crate) fn postgres(test: &str) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let location = Location::Postgres(Secret::new(database.url.clone()));
        Some(Self { location, ground: Ground::Postgres(database) })
    }

    /// PostgreSQL through PgBouncer in transaction mode; `None` where there is none, which has been said then.
    pub(crate) fn pgbouncer(test: &str) -> Option<Self> {
        let pooled = harness::pooled_postgres_or_skip(test)?;
        let location = Location::Postgres(Secret::new(pooled.url));
        Some(Self { location, ground: Ground::Postgres(pooled.database) })
    }

    /// Opens the store, migrating it if need be.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.location, OldSchema::Migrate).await.unwrap().0
    }

    /// PostgreSQL's URL.
    pub(crate) fn url(&self) -> &str {
        match &self.ground {
            Ground::Postgres(database) => &database.url,
            Ground::Memory | Ground::Folder(_) => panic!("not a place of PostgreSQL"),
        }
    }

    /// SQLite's file.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.ground {
            Ground::Folder(folder) => folder.path().join("countersign.db"),
            Ground::Memory | Ground::Postgres(_) => panic!("not a place of a file"),
        }
    }

    /// A connection to SQLite's file that is not the store's, as another process has one.
    pub(crate) async fn stranger(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.file()).connect().await.unwrap()
    }

    /// Runs `sql` past the store and returns the rows: one a line, `|` between columns.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        if let Ground::Postgres(database) = &self.ground {
            return database.psql(sql);
        }
        let mut connection = self.stranger().await;
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let rows = sql.fetch_all(&mut connection).await.unwrap();
        let lines = rows.iter().map(|row| {
            let column = |index| row.try_get_unchecked::<Option<String>, _>(index).unwrap();
            (0..row.len()).map(|index| column(index).unwrap_or_default()).collect::<Vec<_>>().join("|")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
