//! Measures the database part of a cycle without Countersign: its statements on SQLite, as directly as possible. The
//! figure is the CPU time of one cycle, because `docs/performance.md` compares it with the CPU time of the server.
//!
//! A cycle creates a challenge, lists it, gets it, answers it and reads its status. The statements, rows and indexes
//! resemble those of the real schema. Both transactions of a cycle are durable, and share their commits with those of
//! other cycles, as under load.
#![allow(clippy::unwrap_used, reason = "a bench ends with a panic when something is wrong")]

use std::time::Duration;

use criterion::Criterion;
use rusqlite::{Connection, OptionalExtension as _, params};

/// Number of cycles whose transactions share a commit. With 32 concurrent users, a commit joins between 2 and 16.
const GROUP_SIZE: u64 = 8;

/// Number of factors, each of one entity, among which the cycles take turns.
const FACTOR_COUNT: u64 = 1000;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8000; PRAGMA foreign_keys = ON;
    CREATE TABLE accounts (id BLOB PRIMARY KEY, auth_token BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE services (id BLOB PRIMARY KEY, account_id BLOB NOT NULL, settings TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE factors (
        id BLOB PRIMARY KEY, service_id BLOB NOT NULL, identity TEXT NOT NULL, credential_id BLOB NOT NULL UNIQUE,
        public_key BLOB NOT NULL, UNIQUE (service_id, identity)) STRICT;
    CREATE TABLE webhooks (id BLOB PRIMARY KEY, service_id BLOB NOT NULL, url TEXT NOT NULL) STRICT;
    CREATE INDEX webhooks_of_service ON webhooks (service_id);
    CREATE TABLE challenges (
        id BLOB PRIMARY KEY, account_id BLOB NOT NULL, service_id BLOB NOT NULL, factor_id BLOB NOT NULL,
        identity TEXT NOT NULL, status TEXT NOT NULL, responded_at INTEGER, answer_digest BLOB, details TEXT NOT NULL,
        hidden_details TEXT, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL) STRICT;
    CREATE INDEX challenges_of_factor ON challenges (factor_id, created_at, id);
    CREATE INDEX challenges_pending ON challenges (factor_id, created_at, id) WHERE status = 'pending';
    CREATE INDEX challenges_by_expiry ON challenges (expires_at);
    CREATE TABLE audit_log (
        id BLOB PRIMARY KEY, number INTEGER NOT NULL UNIQUE, mac BLOB NOT NULL, event_type TEXT NOT NULL,
        account_id BLOB NOT NULL, resource_id BLOB NOT NULL, data TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
    CREATE INDEX audit_log_of_account ON audit_log (account_id, created_at, id);
    CREATE INDEX audit_log_of_resource ON audit_log (resource_id, created_at, id);";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::create(&folder.path().join("bench.db"));
    let mut group = criterion.benchmark_group("alone");
    group.bench_function("sqlite_cycle", |bencher| {
        bencher.iter_custom(|count| {
            let groups = count.div_ceil(GROUP_SIZE);
            let before = thread_cpu_time();
            for _ in 0..groups {
                database.run_group();
            }
            (thread_cpu_time() - before).mul_f64(count as f64 / (groups * GROUP_SIZE) as f64)
        });
    });
    group.finish();
    criterion.final_summary();
}

/// Returns the CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

type Id = [u8; 16];

fn id(kind: u8, number: u64) -> Id {
    (u128::from(kind) << 120 | u128::from(number)).to_be_bytes()
}

struct Database {
    writer: Connection,
    reader: Connection,
    /// Number of cycles that have run.
    cycles: u64,
}

impl Database {
    fn create(path: &std::path::Path) -> Self {
        let mut writer = Connection::open(path).unwrap();
        writer.execute_batch(SCHEMA).unwrap();
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO accounts VALUES (?, ?)", params![id(0, 0), [7_u8; 64]]).unwrap();
        let settings = "{}".repeat(200);
        tx.execute("INSERT INTO services VALUES (?, ?, ?)", params![id(1, 0), id(0, 0), settings]).unwrap();
        for number in 0..FACTOR_COUNT {
            tx.execute(
                "INSERT INTO factors VALUES (?, ?, ?, ?, ?)",
                params![id(2, number), id(1, 0), identity(number), id(3, number), [4_u8; 91]],
            )
            .unwrap();
        }
        tx.commit().unwrap();
        let reader = Connection::open(path).unwrap();
        reader.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000;").unwrap();
        Self { writer, reader, cycles: 0 }
    }

    /// Runs [`GROUP_SIZE`] cycles step by step, so that the same step of all of them shares a commit.
    fn run_group(&mut self) {
        let numbers = self.cycles..self.cycles + GROUP_SIZE;
        self.cycles = numbers.end;
        for number in numbers.clone() {
            self.read_account();
            self.read_factor_of_path(number);
        }
        self.commit(numbers.clone(), insert_challenge);
        for number in numbers.clone() {
            self.read_factor_of_device(number);
            self.list_pending(number);
            self.read_factor_of_device(number);
            self.read_challenge(number);
            self.read_factor_of_device(number);
            self.read_challenge(number);
        }
        self.commit(numbers.clone(), answer_challenge);
        for number in numbers {
            self.read_account();
            self.read_challenge(number);
        }
    }

    fn commit(&mut self, numbers: std::ops::Range<u64>, work: fn(&Connection, u64)) {
        self.writer.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
        for number in numbers {
            work(&self.writer, number);
        }
        self.writer.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
    }

    fn read_account(&self) {
        let sql = "SELECT auth_token FROM accounts WHERE id = ?";
        let mut statement = self.reader.prepare_cached(sql).unwrap();
        let token: Vec<u8> = statement.query_row(params![id(0, 0)], |row| row.get(0)).unwrap();
        assert_eq!(token.len(), 64);
    }

    fn read_factor_of_path(&self, number: u64) {
        let sql = "SELECT factors.id, credential_id, public_key, settings FROM factors \
                   JOIN services ON services.id = service_id WHERE service_id = ? AND identity = ?";
        let mut statement = self.reader.prepare_cached(sql).unwrap();
        let found = statement.query_row(params![id(1, 0), identity(number % FACTOR_COUNT)], |row| {
            Ok((
                row.get::<_, Id>(0)?,
                row.get::<_, Id>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, String>(3)?,
            ))
        });
        assert_eq!(found.unwrap().0, id(2, number % FACTOR_COUNT));
    }

    fn read_factor_of_device(&self, number: u64) {
        let sql = "SELECT id, service_id, identity, public_key FROM factors WHERE credential_id = ?";
        let mut statement = self.reader.prepare_cached(sql).unwrap();
        let found = statement.query_row(params![id(3, number % FACTOR_COUNT)], |row| {
            Ok((
                row.get::<_, Id>(0)?,
                row.get::<_, Id>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Vec<u8>>(3)?,
            ))
        });
        assert_eq!(found.unwrap().0, id(2, number % FACTOR_COUNT));
    }

    fn list_pending(&self, number: u64) {
        let sql = "SELECT id, identity, status, responded_at, details, hidden_details, expires_at, created_at \
                   FROM challenges WHERE factor_id = ? AND status = 'pending' AND expires_at > ? \
                   ORDER BY created_at DESC, id DESC LIMIT 20";
        let mut statement = self.reader.prepare_cached(sql).unwrap();
        let rows = statement.query_map(params![id(2, number % FACTOR_COUNT), 0], challenge).unwrap();
        assert!(rows.count() >= 1);
    }

    fn read_challenge(&self, number: u64) {
        let sql = "SELECT id, identity, status, responded_at, details, hidden_details, expires_at, created_at \
                   FROM challenges WHERE id = ? AND service_id = ? AND identity = ? AND account_id = ?";
        let mut statement = self.reader.prepare_cached(sql).unwrap();
        let values = params![id(4, number), id(1, 0), identity(number % FACTOR_COUNT), id(0, 0)];
        assert_eq!(statement.query_row(values, challenge).unwrap().0, id(4, number));
    }
}

fn identity(number: u64) -> String {
    format!("user-{number:08}")
}

type Challenge = (Id, String, String, Option<i64>, String, Option<String>, i64, i64);

fn challenge(row: &rusqlite::Row<'_>) -> rusqlite::Result<Challenge> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

fn insert_challenge(connection: &Connection, number: u64) {
    let factor = number % FACTOR_COUNT;
    let now = i64::try_from(number).unwrap();
    let details = r#"{"message":"Sign in?","fields":[{"label":"IP","value":"203.0.113.9"}]}"#;
    connection
        .prepare_cached("INSERT INTO challenges VALUES (?, ?, ?, ?, ?, 'pending', NULL, NULL, ?, NULL, ?, ?)")
        .unwrap()
        .execute(params![
            id(4, number),
            id(0, 0),
            id(1, 0),
            id(2, factor),
            identity(factor),
            details,
            now + 300_000_000,
            now
        ])
        .unwrap();
    insert_audit_record(connection, 2 * number, "challenge.created");
}

fn answer_challenge(connection: &Connection, number: u64) {
    let sql = "UPDATE challenges SET status = 'approved', answer_digest = ?, responded_at = ? \
               WHERE id = ? AND status = 'pending' AND expires_at > ? RETURNING id";
    let now = i64::try_from(number).unwrap();
    let mut statement = connection.prepare_cached(sql).unwrap();
    let answered: Id =
        statement.query_row(params![[9_u8; 32], now, id(4, number), now], |row| row.get(0)).unwrap();
    assert_eq!(answered, id(4, number));
    let sql = "SELECT id, url FROM webhooks WHERE service_id = ?";
    let mut statement = connection.prepare_cached(sql).unwrap();
    let webhook: Option<Id> = statement.query_row(params![id(1, 0)], |row| row.get(0)).optional().unwrap();
    assert_eq!(webhook, None);
    insert_audit_record(connection, 2 * number + 1, "challenge.approved");
}

fn insert_audit_record(connection: &Connection, number: u64, event_type: &str) {
    let at = i64::try_from(number).unwrap();
    let data = r#"{"service_sid":"VA22222222222222222222222222222222","identity":"user-00000001"}"#;
    connection
        .prepare_cached("INSERT INTO audit_log VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .unwrap()
        .execute(params![id(5, number), at, [5_u8; 32], event_type, id(0, 0), id(4, number / 2), data, at])
        .unwrap();
}
