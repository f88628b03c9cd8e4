//! The plans of all statements: none may read or sort a whole table that grows with use, because its duration would
//! grow with the table.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::databases::TestDatabase;
use crate::every_statement::run_every_statement;

contract! {
    on sqlite:
    sqlite_reads_growing_tables_with_an_index,
    foreign_keys_of_growing_tables_have_an_index,
    duration_is_independent_of_rows_that_do_not_match,
}

contract! {
    on postgres:
    postgres_reads_growing_tables_with_an_index,
    postgres_reads_the_first_rows_in_the_order_of_an_index,
}

/// The tables that grow with use.
const GROWING_TABLES: [&str; 18] = [
    "entities",
    "factors",
    "push_factors",
    "totp_factors",
    "passkey_factors",
    "challenges",
    "passkey_challenges",
    "access_tokens",
    "notifications",
    "deliveries",
    "delivery_attempts",
    "alerts",
    "audit_log",
    "factor_creations",
    "bucket_hits",
    "safe_numbers",
    "verifications",
    "verification_attempts",
];

/// Partial indexes that contain only a few rows of a growing table, such as the pending deliveries. Reading a whole one
/// is fast, and so is sorting its rows.
const SMALL_INDEXES: [&str; 7] = [
    "entities_deleted",
    "factors_unverified",
    "push_factors_unreachable",
    "deliveries_due",
    "deliveries_redirectable",
    "deliveries_undelivered",
    "audit_log_unchained",
];

/// Parts of statements that may read or sort many rows, each with the reason.
const EXCEPTIONS: [(&str, &str); 17] = [
    ("AS repeated_sid", "the verification of the audit log reads all of it"),
    ("AS key_id, count(*) AS sealed FROM access_tokens", "only commands count sealed values"),
    ("AS key_id, count(*) AS sealed FROM totp_factors", "only commands count sealed values"),
    ("AS key_id, count(*) AS sealed FROM verifications", "only commands count sealed values"),
    ("ORDER BY expires_at DESC LIMIT 1 OFFSET", "sorts the pending challenges of one factor"),
    ("SELECT created_at FROM audit_log ORDER BY sid DESC LIMIT 1", "reads one record"),
    ("SET destination = $2", "PostgreSQL prefers another small index while the table is empty"),
    ("WHERE true ORDER BY", "reads the newest rows until the limit is reached"),
    ("AND kind = 'webhook' ORDER BY id", "reads the newest webhooks until the limit is reached"),
    ("WHERE true AND state = $2 ORDER BY id", "reads the newest deliveries: most are delivered"),
    ("WHERE true AND event_type || ''", "reads the newest rows: most have this type"),
    ("account_sid IS NULL AND", "only a command asks for records of the server itself, which are few"),
    ("DELETE FROM challenges WHERE entity_sid IS NULL", "only test servers erase all rows"),
    ("DELETE FROM deliveries WHERE true", "only test servers erase all rows"),
    ("DELETE FROM alerts WHERE true", "only test servers erase all rows"),
    ("DELETE FROM bucket_hits WHERE true", "only test servers erase all rows"),
    ("DELETE FROM safe_numbers WHERE true", "only test servers erase all rows"),
];

/// A statement that the store ran, and whether it ran on PostgreSQL.
type Statement = (bool, String);

/// All statements that the tests of this process have run.
static STATEMENTS: Mutex<BTreeSet<Statement>> = Mutex::new(BTreeSet::new());

/// A subscriber that collects the statements that the store logs.
struct StatementCollector;

/// The fields of a logged statement.
#[derive(Default)]
struct StatementFields {
    is_postgres: bool,
    sql: String,
}

impl Visit for StatementFields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "postgres" {
            self.is_postgres = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "sql" {
            value.clone_into(&mut self.sql);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Subscriber for StatementCollector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "store::statement"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = StatementFields::default();
        event.record(&mut fields);
        let mut statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert((fields.is_postgres, fields.sql));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs every statement of the store on `database`, and returns the statements that have a query plan.
async fn collect_statements(database: &TestDatabase, is_postgres: bool) -> Vec<String> {
    // Another test of this process may have installed the collector.
    let _ = tracing::subscriber::set_global_default(StatementCollector);
    let store = database.open().await;
    run_every_statement(&store).await;
    store.close().await;
    let statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let has_plan =
        |sql: &str| ["SELECT", "WITH", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
    let of_database =
        statements.into_iter().filter(|(postgres, sql)| *postgres == is_postgres && has_plan(sql));
    of_database.map(|(_, sql)| sql).collect()
}

/// A step of a plan: its text, the growing table that it reads, and whether it finds the rows with an index.
struct Step {
    text: String,
    table: Option<&'static str>,
    is_indexed: bool,
}

impl Step {
    fn is_small(&self) -> bool {
        SMALL_INDEXES.iter().any(|index| self.text.contains(index))
    }
}

/// Returns a message for each step of a statement's plan that reads or sorts a whole growing table. `is_sort` returns
/// whether the text of a step describes a sort.
fn violations(sql: &str, steps: &[Step], is_sort: impl Fn(&str) -> bool) -> Vec<String> {
    if EXCEPTIONS.iter().any(|(part, _)| sql.contains(part)) {
        return Vec::new();
    }
    let is_large = |step: &&Step| step.table.is_some() && !step.is_small();
    let scans = steps.iter().filter(is_large).filter(|step| !step.is_indexed);
    let has_large = steps.iter().any(|step| is_large(&step));
    let sorts = steps.iter().filter(|step| has_large && is_sort(&step.text));
    scans.chain(sorts).map(|step| format!("{}\n    in {sql}", step.text)).collect()
}

/// Returns the growing table that `text` names after `keyword`.
fn growing_table(text: &str, keyword: &str) -> Option<&'static str> {
    let name = text.split(keyword).nth(1)?.split_whitespace().next()?;
    GROWING_TABLES.into_iter().find(|table| *table == name)
}

async fn sqlite_reads_growing_tables_with_an_index(database: TestDatabase) {
    let statements = collect_statements(&database, false).await;
    assert!(statements.len() > 100, "{}", statements.len());
    let connection = database.connect_directly();
    let mut found = Vec::new();
    for sql in &statements {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let details = explain.raw_query().mapped(|row| row.get(3)).collect::<Result<Vec<String>, _>>();
        let step = |text: String| Step {
            table: growing_table(&text, "SCAN ").or_else(|| growing_table(&text, "SEARCH ")),
            is_indexed: text.starts_with("SEARCH "),
            text,
        };
        let steps: Vec<_> = details.unwrap().into_iter().map(step).collect();
        found.extend(violations(sql, &steps, |text| text.contains("TEMP B-TREE")));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

async fn postgres_reads_growing_tables_with_an_index(database: TestDatabase) {
    let statements = collect_statements(&database, true).await;
    assert!(statements.len() > 100, "{}", statements.len());
    let mut found = Vec::new();
    for sql in &statements {
        let parameters = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
        let nulls = vec!["NULL"; parameters].join(", ");
        let execute = if nulls.is_empty() { "statement".to_owned() } else { format!("statement ({nulls})") };
        // With these settings, a plan contains a scan or a sort only if there is no index that avoids it.
        let plan = database
            .sql(&format!(
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
                 SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 PREPARE statement AS {sql}; EXPLAIN EXECUTE {execute}"
            ))
            .await;
        let lines: Vec<_> = plan.lines().collect();
        let step = |(index, line): (usize, &&str)| Step {
            table: growing_table(line, "Scan on ")
                .or_else(|| line.contains("Index").then(|| growing_table(line, " on ")).flatten()),
            is_indexed: lines.get(index + 1).is_some_and(|next| next.contains("Index Cond:")),
            text: (*line).to_owned(),
        };
        let steps: Vec<_> = lines.iter().enumerate().map(step).collect();
        found.extend(violations(sql, &steps, |text| {
            text.trim_start_matches([' ', '-', '>']).starts_with("Sort ")
        }));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Statements whose limit needs no order, because only a few rows fulfill their condition.
const UNORDERED: [(&str, &str); 2] = [
    ("OR scheduled_at > $2) LIMIT 1", "has a small index"),
    ("WHERE entity_sid = ANY", "reads the rows of a few entities"),
];

/// Without an order, PostgreSQL may read a table from its start until it has found enough rows. When rows are removed in
/// batches, each batch would again read all rows before its first one.
async fn postgres_reads_the_first_rows_in_the_order_of_an_index(database: TestDatabase) {
    let statements = collect_statements(&database, true).await;
    let mut found = Vec::new();
    for sql in statements.iter().filter(|sql| UNORDERED.iter().all(|(part, _)| !sql.contains(part))) {
        let limits = sql.match_indices(" LIMIT ").map(|(at, _)| &sql[..at]);
        let is_ordered =
            |before: &str| before.rsplit_once(" FROM ").is_some_and(|(_, from)| from.contains("ORDER BY"));
        found.extend(limits.filter(|before| !is_ordered(before)));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A statement whose duration must not depend on rows that it does not return. A plan does not show this: an index may
/// begin with the rows of another account.
struct Selective {
    /// A part of the statement's text.
    part: &'static str,
    /// The values of its parameters, in their order.
    values: Vec<rusqlite::types::Value>,
}

/// Adds audit records, attempts and due deliveries until there are `rows` of each, all of one account and to one
/// destination.
fn fill(connection: &rusqlite::Connection, rows: usize) {
    let account = "X'02020202020202020202020202020202'";
    let service = "X'03030303030303030303030303030303'";
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    for (table, columns, values) in [
        (
            "audit_log",
            "sid, account_sid, created_at, actor_type, actor, event_type, address, data",
            format!(
                "randomblob(16), {account}, i, 'operator', 'ann', 'service.created', '192.0.2.1', '{{}}'"
            ),
        ),
        (
            "verification_attempts",
            "sid, account_sid, service_sid, verification_sid, recipient, recipient_key, channel, code_length, \
             is_converted, expires_at, created_at, updated_at",
            format!("randomblob(16), {account}, {service}, randomblob(16), '', '', 'sms', 6, 0, i, i, i"),
        ),
        (
            "deliveries",
            "id, account_sid, created_at, due_at, give_up_at, scheduled_at, attempts, kind, state, subject, \
             destination, work",
            format!(
                "randomblob(16), {account}, 0, 1000, 9000, 0, 0, 'webhook', 'owed', '', 'down.example:443', '{{}}'"
            ),
        ),
    ] {
        let sql = format!(
            "WITH RECURSIVE n (i) AS (SELECT count(*) + 1 FROM {table} UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO {table} ({columns}) SELECT {values} FROM n"
        );
        connection.execute(&sql, []).unwrap();
    }
}

async fn duration_is_independent_of_rows_that_do_not_match(database: TestDatabase) {
    let statements = collect_statements(&database, false).await;
    let connection = database.connect_directly();
    let text = |text: &str| rusqlite::types::Value::Text(text.to_owned());
    let id = |byte| rusqlite::types::Value::Blob(vec![byte; 16]);
    let number = rusqlite::types::Value::Integer;
    let (account, far) = (id(1), number(i64::MAX));
    let selective = [
        Selective {
            part: "account_sid = $1 AND event_type NOT IN",
            values: vec![account.clone(), text("service.created")],
        },
        Selective { part: "account_sid = $1 AND actor = $2", values: vec![account.clone(), text("ann")] },
        Selective {
            part: "account_sid = $1 AND address = $2",
            values: vec![account.clone(), text("192.0.2.1")],
        },
        Selective {
            part: "service_sid = (SELECT sid FROM services WHERE sid = $2 AND account_sid = $3) AND created_at >= $4 \
                   ORDER BY created_at DESC",
            values: vec![account.clone(), id(3), account, number(0)],
        },
        Selective {
            part: "SELECT MIN(due_at) AS due_at",
            values: vec![number(2_000), far.clone(), text(r#"["down.example:443"]"#)],
        },
        Selective {
            part: "SELECT MIN(due_at) AS due_at",
            values: vec![number(0), number(500), text(r#"["down.example:443"]"#)],
        },
        Selective {
            part: "destination = $5 ORDER BY destination, due_at",
            values: vec![text("worker"), number(3_000), far.clone(), number(9), text("other.example:443")],
        },
        // This destination has many deliveries that are due later.
        Selective {
            part: "destination = $5 ORDER BY destination, due_at",
            values: vec![text("worker"), number(500), far, number(9), text("down.example:443")],
        },
    ];
    let mut steps = [Vec::new(), Vec::new()];
    for (rows, steps) in [500, 5_000].into_iter().zip(&mut steps) {
        fill(&connection, rows);
        for Selective { part, values } in &selective {
            let found = statements.iter().filter(|sql| sql.contains(part));
            let mut found = found.map(|sql| connection.prepare(sql).unwrap());
            let mut statement = found.find(|found| found.parameter_count() == values.len()).expect(part);
            for (number, value) in (1..).zip(values) {
                let index = statement.parameter_index(&format!("${number}")).unwrap().unwrap();
                statement.raw_bind_parameter(index, value).unwrap();
            }
            assert!(
                statement
                    .raw_query()
                    .next()
                    .unwrap()
                    .is_none_or(|row| row.get::<_, Option<i64>>(0) == Ok(None))
            );
            steps.push((statement.get_status(rusqlite::StatementStatus::VmStep), *part));
        }
    }
    for ((few, part), (many, _)) in steps[0].iter().zip(&steps[1]) {
        assert!(*many < 2 * few, "{many} steps instead of {few} for: {part}");
    }
}

/// Without such an index, each deletion of a parent reads the whole table. PostgreSQL has the same indexes.
async fn foreign_keys_of_growing_tables_have_an_index(database: TestDatabase) {
    database.open().await.close().await;
    let sql = "SELECT t.name || '.' || f.\"from\" FROM sqlite_schema t, pragma_foreign_key_list(t.name) f \
               WHERE NOT EXISTS (SELECT 1 FROM pragma_index_list(t.name) i, pragma_index_info(i.name) c \
               WHERE c.seqno = 0 AND c.name = f.\"from\" AND i.partial = 0)";
    assert_eq!(database.sql(sql).await, "");
}
