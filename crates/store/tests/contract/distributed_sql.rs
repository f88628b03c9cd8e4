//! The SQL for PostgreSQL stays inside the subset that Citus, CockroachDB and YugabyteDB accept.
//!
//! docs/scaling.md explains how the tables would be distributed by service, and names every exception in this file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use store::{Announcement, Changes, OldSchema, ProcessTag, Store};

use crate::databases::TestDatabase;
use crate::every_statement::{run_every_statement, source_files};
use crate::statement_recorder::StatementRecorder;

contract! {
    on postgres:
    statements_use_no_construct_that_distributed_engines_lack,
    statements_on_distributed_tables_name_the_service_or_are_exceptions,
    every_table_has_a_place_on_a_distributed_engine,
    keys_that_lack_the_service_are_exceptions,
}

/// A construct that at least one of the engines lacks: words of SQL in their order. A word that ends with `*` matches
/// all words with that beginning.
struct Construct {
    words: &'static str,
    reason: &'static str,
}

const fn construct(words: &'static str, reason: &'static str) -> Construct {
    Construct { words, reason }
}

const NO_SEQUENCE: &str = "a sequence makes all writers wait for one node, or hands out colliding numbers";
const NO_TRIGGER: &str = "Citus refuses triggers on distributed tables, CockroachDB supports a part of them";
const NO_VOLATILE: &str = "Citus refuses volatile functions in UPDATE, and the clock is the server's";
const NO_MODIFYING_CTE: &str = "Citus refuses a modification inside WITH that reaches more than one shard";
const NO_SESSION: &str = "the session ends when a pooler or a node moves the connection";
const NO_PUSH_DOWN: &str = "Citus supports it in queries of one shard only";

const FORBIDDEN: &[Construct] = &[
    construct("pg_advisory*", "CockroachDB and YugabyteDB have them only in their newest releases"),
    construct("pg_try_advisory*", "CockroachDB and YugabyteDB have them only in their newest releases"),
    construct("lock table", "CockroachDB and older releases of YugabyteDB lack it"),
    construct("listen", "CockroachDB lacks it"),
    construct("unlisten", "CockroachDB lacks it"),
    construct("notify", "CockroachDB lacks it"),
    construct("pg_notify", "CockroachDB lacks it"),
    construct("create trigger", NO_TRIGGER),
    construct("create function", NO_TRIGGER),
    construct("create rule", NO_TRIGGER),
    construct("create sequence", NO_SEQUENCE),
    construct("nextval", NO_SEQUENCE),
    construct("serial", NO_SEQUENCE),
    construct("bigserial", NO_SEQUENCE),
    construct("generated", NO_SEQUENCE),
    construct("as ( insert", NO_MODIFYING_CTE),
    construct("as ( update", NO_MODIFYING_CTE),
    construct("as ( delete", NO_MODIFYING_CTE),
    construct("materialized ( insert", NO_MODIFYING_CTE),
    construct("materialized ( update", NO_MODIFYING_CTE),
    construct("materialized ( delete", NO_MODIFYING_CTE),
    construct("now (", NO_VOLATILE),
    construct("current_timestamp", NO_VOLATILE),
    construct("clock_timestamp", NO_VOLATILE),
    construct("random (", NO_VOLATILE),
    construct("gen_random_uuid", NO_VOLATILE),
    construct("recursive", NO_PUSH_DOWN),
    construct("tablesample", NO_PUSH_DOWN),
    construct("grouping sets", NO_PUSH_DOWN),
    construct("rollup", NO_PUSH_DOWN),
    construct("merge into", NO_PUSH_DOWN),
    construct("deferrable", "YugabyteDB and CockroachDB lack deferrable constraints"),
    construct("exclude using", "YugabyteDB and CockroachDB lack exclusion constraints"),
    construct("inherits", "YugabyteDB and CockroachDB lack inheritance"),
    construct("using gist", "YugabyteDB lacks GiST indexes"),
    construct("ctid", "the position of a row means nothing outside of its node"),
    construct("xmin", "CockroachDB and YugabyteDB number transactions otherwise"),
    construct("declare", NO_SESSION),
    construct("temporary", NO_SESSION),
    construct("temp", NO_SESSION),
    construct("prepare transaction", "Citus itself uses two-phase commit"),
    construct("copy", "copying bypasses the checks of the application"),
    construct("set service_sid", "the column that places a row never changes"),
    construct(", service_sid =", "the column that places a row never changes"),
];

/// The clauses that lock the rows of a query.
const LOCKS: [&str; 4] = ["for update", "for no key update", "for share", "for key share"];

/// The origin of statements that are not in the source, because the driver `sqlx` sends them.
const DRIVER: &str = "sqlx";

/// A place that may contain a forbidden construct. docs/scaling.md contains each `words` as code.
struct Exception {
    /// The file in `crates/store/src` or `migrations/postgres`, or [`DRIVER`].
    file: &'static str,
    words: &'static str,
}

const fn exception(file: &'static str, words: &'static str) -> Exception {
    Exception { file, words }
}

const EXCEPTIONS: &[Exception] = &[
    exception("migrate.rs", "pg_advisory*"),
    exception("migrate.rs", "now ("),
    exception("migrate.rs", "current_timestamp"),
    exception("accounts.rs", "lock table"),
    exception("announcements.rs", "pg_notify"),
    exception(DRIVER, "listen"),
    exception(DRIVER, "unlisten"),
    exception("inspect.rs", "clock_timestamp"),
    exception("0003_audit.sql", "create trigger"),
    exception("0003_audit.sql", "create function"),
];

/// Where the rows of a table are on an engine that distributes tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    /// On the node to which the hash of the service leads.
    ByService,
    /// On every node: small, read by most requests, seldom written.
    Everywhere,
    /// On one node: written by one server at a time, or read without a service.
    OneNode,
}

const PLACEMENTS: &[(&str, Placement)] = &[
    ("access_tokens", Placement::ByService),
    ("accounts", Placement::Everywhere),
    ("alerts", Placement::OneNode),
    ("api_keys", Placement::Everywhere),
    ("audit_chain", Placement::OneNode),
    ("audit_log", Placement::OneNode),
    ("bucket_hits", Placement::ByService),
    ("buckets", Placement::Everywhere),
    ("challenges", Placement::ByService),
    ("clock_record", Placement::OneNode),
    ("credentials", Placement::Everywhere),
    ("deliveries", Placement::OneNode),
    ("delivery_attempts", Placement::OneNode),
    ("enrollment_keys", Placement::Everywhere),
    ("entities", Placement::ByService),
    ("factor_creations", Placement::ByService),
    ("factors", Placement::ByService),
    ("leases", Placement::OneNode),
    ("messaging_configurations", Placement::Everywhere),
    ("notifications", Placement::ByService),
    ("outlets", Placement::Everywhere),
    ("passkey_challenges", Placement::ByService),
    ("passkey_factors", Placement::ByService),
    ("push_factors", Placement::ByService),
    ("rate_limits", Placement::Everywhere),
    ("safe_numbers", Placement::Everywhere),
    ("server_keys", Placement::Everywhere),
    ("services", Placement::Everywhere),
    ("template_translations", Placement::Everywhere),
    ("templates", Placement::Everywhere),
    ("totp_factors", Placement::ByService),
    ("verification_attempts", Placement::ByService),
    ("verifications", Placement::ByService),
    ("webhooks", Placement::Everywhere),
];

/// Why a statement does not name the service of the rows that it reaches. docs/scaling.md contains each as code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unrouted {
    /// The row is found by the SID of itself or of its parent, although the caller knows the service.
    BySid,
    /// The challenge is routed, but its factor is found by SID in a subquery.
    FactorOfChallenge,
    /// The caller knows only the credential SID of a factor.
    ByCredential,
    /// A report is about all services of an account.
    ByAccount,
    /// Housekeeping searches all services for old or deleted rows.
    Housekeeping,
    /// An operator's command reads a whole table, or a test server erases its data.
    WholeTable,
    /// The table has no column for the service.
    NoColumn,
}

/// Statements that reach a table of [`Placement::ByService`] without naming the service for each mention of such a
/// table. Each statement contains the text.
const UNROUTED: &[(&str, Unrouted)] = &[
    ("SELECT COUNT(*) AS number FROM factors WHERE entity_sid = $1", Unrouted::BySid),
    ("SELECT created_at FROM challenges", Unrouted::BySid),
    ("SELECT expires_at FROM challenges", Unrouted::BySid),
    ("SELECT sid FROM challenges WHERE sid = $1 AND answer_digest", Unrouted::BySid),
    ("WHERE factors.entity_sid = $1", Unrouted::BySid),
    ("attempts FROM challenges WHERE entity_sid = $1", Unrouted::BySid),
    ("updated_at FROM challenges WHERE entity_sid = $1", Unrouted::BySid),
    ("UPDATE access_tokens SET spent_on = $2", Unrouted::BySid),
    ("UPDATE challenges SET status = $2", Unrouted::BySid),
    ("UPDATE challenges SET status = 'voided'", Unrouted::BySid),
    ("UPDATE factors SET friendly_name = $2", Unrouted::BySid),
    ("UPDATE passkey_factors SET credential_id = $2", Unrouted::BySid),
    ("UPDATE push_factors SET sdk_version = $2", Unrouted::BySid),
    ("UPDATE push_factors SET unreachable = 1", Unrouted::BySid),
    ("UPDATE totp_factors SET algorithm = $2", Unrouted::BySid),
    ("UPDATE verifications SET channel = $2", Unrouted::BySid),
    ("UPDATE verification_attempts SET message = NULL", Unrouted::BySid),
    ("FROM verification_attempts WHERE verification_sid = $1", Unrouted::BySid),
    ("UPDATE verification_attempts SET is_converted = 1", Unrouted::BySid),
    ("UPDATE verification_attempts SET message_status = $2", Unrouted::BySid),
    ("DELETE FROM factors WHERE entity_sid = $1", Unrouted::BySid),
    ("attempts FROM challenges WHERE sid = $1 AND service_sid = $2", Unrouted::FactorOfChallenge),
    ("updated_at FROM challenges WHERE sid = $1 AND service_sid = $2", Unrouted::FactorOfChallenge),
    ("FROM challenges JOIN passkey_challenges", Unrouted::FactorOfChallenge),
    ("UPDATE challenges SET metadata = $5", Unrouted::FactorOfChallenge),
    ("WHERE push_factors.credential_sid = $1", Unrouted::ByCredential),
    ("FROM verification_attempts WHERE account_sid = $1", Unrouted::ByAccount),
    ("FROM verification_attempts WHERE COALESCE(account_sid, account_sid) = $1", Unrouted::ByAccount),
    ("FROM verification_attempts WHERE sid = $1 AND account_sid = $2", Unrouted::ByAccount),
    ("DELETE FROM access_tokens WHERE sid IN", Unrouted::Housekeeping),
    ("DELETE FROM challenges WHERE sid IN", Unrouted::Housekeeping),
    ("DELETE FROM entities WHERE sid = ANY", Unrouted::Housekeeping),
    ("DELETE FROM factors WHERE sid IN", Unrouted::Housekeeping),
    ("DELETE FROM factors WHERE status = 'unverified'", Unrouted::Housekeeping),
    ("DELETE FROM bucket_hits WHERE (service_sid", Unrouted::Housekeeping),
    ("DELETE FROM verifications WHERE sid IN", Unrouted::Housekeeping),
    ("UPDATE verifications SET closed_at = expires_at", Unrouted::Housekeeping),
    ("SELECT COUNT(*) AS expired FROM challenges", Unrouted::Housekeeping),
    ("SELECT sid FROM entities WHERE deleted_at IS NOT NULL", Unrouted::Housekeeping),
    ("SELECT COUNT(*) FROM entities WHERE deleted_at IS NOT NULL", Unrouted::Housekeeping),
    ("AS sealed FROM access_tokens", Unrouted::WholeTable),
    ("AS sealed FROM totp_factors", Unrouted::WholeTable),
    ("DELETE FROM bucket_hits WHERE true", Unrouted::WholeTable),
    ("AS sealed FROM verifications", Unrouted::WholeTable),
    ("DELETE FROM challenges WHERE entity_sid IS NULL", Unrouted::WholeTable),
    ("DELETE FROM factor_creations", Unrouted::NoColumn),
    ("INSERT INTO factor_creations", Unrouted::NoColumn),
    ("FROM factor_creations WHERE entity_sid = $1", Unrouted::NoColumn),
    ("INSERT INTO notifications", Unrouted::NoColumn),
    ("FROM notifications WHERE challenge_sid = $1", Unrouted::NoColumn),
];

/// Tables of [`Placement::ByService`] without a column for the service. docs/scaling.md contains each name as code.
const TABLES_WITHOUT_SERVICE: &[&str] = &["factor_creations", "notifications"];

/// Unique keys of tables of [`Placement::ByService`], and foreign keys between two of them, that do not contain the
/// service. docs/scaling.md contains each name as code.
const KEYS_WITHOUT_SERVICE: &[&str] = &[
    "access_tokens_pkey",
    "challenges_entity_sid_fkey",
    "challenges_pkey",
    "entities_pkey",
    "factor_creations_entity_sid_fkey",
    "factor_creations_pkey",
    "factors_entity_sid_fkey",
    "factors_pkey",
    "notifications_challenge_sid_fkey",
    "notifications_pkey",
    "passkey_challenges_challenge_sid_fkey",
    "passkey_challenges_pkey",
    "passkey_factors_credential",
    "passkey_factors_factor_sid_fkey",
    "passkey_factors_pkey",
    "push_factors_credential",
    "push_factors_factor_sid_fkey",
    "push_factors_key",
    "push_factors_pkey",
    "totp_factors_factor_sid_fkey",
    "totp_factors_pkey",
    "verification_attempts_pkey",
    "verification_attempts_verification_sid_fkey",
    "verifications_pkey",
];

/// Splits SQL into lower-case words and punctuation. Omits comments; string literals become `''`.
fn words(sql: &str) -> Vec<String> {
    let sql =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut words = Vec::new();
    let mut characters = sql.chars().peekable();
    while let Some(character) = characters.next() {
        let is_word = |character: char| character.is_alphanumeric() || "_$".contains(character);
        if character == '\'' {
            // Two quotes in a row stand for one; they begin another literal here, which makes no difference.
            let _ = characters.by_ref().find(|character| *character == '\'');
            words.push("''".to_owned());
        } else if is_word(character) {
            let mut word = character.to_lowercase().to_string();
            while let Some(next) = characters.next_if(|next| is_word(*next)) {
                word.extend(next.to_lowercase());
            }
            words.push(word);
        } else if !character.is_whitespace() {
            words.push(character.to_string());
        }
    }
    words
}

/// Returns whether `text` contains the words of `pattern` in a row.
fn contains(text: &[String], pattern: &str) -> bool {
    let pattern: Vec<_> = pattern.split(' ').collect();
    let is_match = |(word, wanted): (&String, &&str)| match wanted.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word == wanted,
    };
    text.windows(pattern.len()).any(|window| window.iter().zip(&pattern).all(is_match))
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the names and contents of the files in a folder, and in the folders within it, with this extension.
fn files(of: &str, extension: &str) -> Vec<(String, String)> {
    let paths = source_files(&folder(of)).into_iter();
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// Returns the string literals of Rust code that contain SQL keywords, which this project writes in capitals.
fn sql_literals(code: &str) -> Vec<String> {
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("'\"'", "");
    // Every second piece between quotes is a literal, once escaped quotes are gone.
    let literals =
        code.replace("\\\"", "").split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let is_sql = |text: &String| {
        let keywords =
            ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "LOCK", "LISTEN", "SET", "WITH", "FOR"];
        keywords.iter().any(|keyword| text.split_whitespace().any(|word| word == *keyword))
    };
    literals.into_iter().filter(is_sql).map(|text| text.replace("\\\n", " ")).collect()
}

/// Returns the contents of docs/scaling.md.
fn document() -> String {
    fs::read_to_string(folder("../../docs/scaling.md")).unwrap()
}

/// Requires that docs/scaling.md contains each text as code.
fn require_documented<'a>(texts: impl IntoIterator<Item = &'a str>) {
    let document = document();
    let missing: Vec<_> = texts.into_iter().filter(|text| !document.contains(&format!("`{text}`"))).collect();
    assert!(missing.is_empty(), "docs/scaling.md does not name {missing:?}");
}

#[test]
fn words_are_found_in_sql_but_not_in_comments_and_literals() {
    let text = words("SELECT pg_notify($1, 'listen') -- lock table\nFROM a.b");
    assert_eq!(text.join(" "), "select pg_notify ( $1 , '' ) from a . b");
    assert!(contains(&text, "pg_not*") && contains(&text, "from a . b"));
    assert!(!contains(&text, "listen") && !contains(&text, "lock table") && !contains(&text, "pg_not"));
}

#[test]
fn source_and_migrations_contain_no_forbidden_construct_except_the_documented_ones() {
    let mut texts: Vec<_> = files("../../migrations/postgres", "sql");
    for (file, code) in files("src", "rs") {
        texts.extend(sql_literals(&code).into_iter().map(|sql| (file.clone(), sql)));
    }
    assert!(texts.len() > 100, "the source has statements");
    let mut used = BTreeSet::new();
    let mut found = Vec::new();
    for (file, sql) in &texts {
        let text = words(sql);
        for Construct { words, reason } in
            FORBIDDEN.iter().filter(|construct| contains(&text, construct.words))
        {
            match EXCEPTIONS.iter().position(|known| known.file == file && known.words == *words) {
                Some(known) => drop(used.insert(known)),
                None => found.push(format!("{file}: `{words}`: {reason}: {sql}")),
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let unused = EXCEPTIONS.iter().enumerate().filter(|(known, _)| !used.contains(known));
    let unused: Vec<_> =
        unused.filter(|(_, known)| known.file != DRIVER).map(|(_, known)| known.words).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs: {unused:?}");
    require_documented(EXCEPTIONS.iter().map(|known| known.words));
}

/// Runs most statements of a store, with announcements, and returns their texts.
async fn recorded_statements(database: &TestDatabase) -> Vec<String> {
    database.open().await.close().await;
    let recorder = StatementRecorder::start(database.url());
    let (store, _) = Store::open(&recorder.location, OldSchema::Refuse).await.unwrap();
    run_every_statement(&store).await;
    let announcements = store.announcements(ProcessTag(1)).await.unwrap();
    store
        .announce(Announcement { has_deliveries: true, changes: Changes::OfAny }, ProcessTag(2))
        .await
        .unwrap();
    drop(announcements);
    store.close().await;
    let statements = recorder.statements();
    assert!(statements.len() > 80, "{} statements were recorded", statements.len());
    statements
}

async fn statements_use_no_construct_that_distributed_engines_lack(database: TestDatabase) {
    let is_exception = |words: &str| EXCEPTIONS.iter().any(|known| known.words == words);
    let mut found = Vec::new();
    for sql in recorded_statements(&database).await {
        let text = words(&sql);
        let constructs = FORBIDDEN.iter().filter(|construct| contains(&text, construct.words));
        found.extend(
            constructs
                .filter(|construct| !is_exception(construct.words))
                .map(|construct| format!("`{}`: {}: {sql}", construct.words, construct.reason)),
        );
        // Citus finds the rows of a lock and of a conflict on one node only.
        let is_locking = LOCKS.iter().any(|clause| contains(&text, clause));
        if is_locking && !is_routed(&text) && !is_known(&sql, Unrouted::Housekeeping) {
            found.push(format!("a lock without the service: {sql}"));
        }
        if contains(&text, "on conflict") && !distributed_tables(&text).is_empty() {
            let names_service = contains(&text, "on conflict ( service_sid");
            found.extend((!names_service).then(|| format!("a conflict without the service: {sql}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Returns the tables of [`Placement::ByService`] that a statement mentions, once for each mention.
fn distributed_tables(text: &[String]) -> Vec<&'static str> {
    let by_service = PLACEMENTS.iter().filter(|(_, placement)| *placement == Placement::ByService);
    let is_mention = |index: usize, table: &str| {
        let before = index.checked_sub(1).map_or("", |before| text[before].as_str());
        let is_column = text.get(index + 1).is_some_and(|next| next == ".");
        text[index] == table && !is_column && ["from", "join", "into", "update", ","].contains(&before)
    };
    let mentions = by_service.flat_map(|(table, _)| {
        (0..text.len()).filter(move |index| is_mention(*index, table)).map(move |_| *table)
    });
    mentions.collect()
}

/// Returns whether a statement names the service once for each mention of a table of [`Placement::ByService`]: as a
/// parameter, by comparison with another of these tables, or among the columns of a new row.
fn is_routed(text: &[String]) -> bool {
    let comparisons = text.windows(3).enumerate().filter(|(index, window)| {
        let is_parameter = window[2].starts_with('$');
        let is_other_table = text.get(index + 4).is_some_and(|column| column == "service_sid");
        window[0] == "service_sid" && window[1] == "=" && (is_parameter || is_other_table)
    });
    let is_insert = contains(text, "insert into") && contains(text, "service_sid");
    comparisons.count() + usize::from(is_insert) >= distributed_tables(text).len()
}

/// Returns whether a statement is an exception of this kind.
fn is_known(sql: &str, kind: Unrouted) -> bool {
    UNROUTED.iter().any(|(text, known)| *known == kind && sql.contains(text))
}

async fn statements_on_distributed_tables_name_the_service_or_are_exceptions(database: TestDatabase) {
    let statements = recorded_statements(&database).await;
    let unrouted: Vec<_> = statements.iter().filter(|sql| !is_routed(&words(sql))).collect();
    let is_exception = |sql: &str| UNROUTED.iter().any(|(text, _)| sql.contains(text));
    let unknown: Vec<_> = unrouted.iter().filter(|sql| !is_exception(sql)).map(|sql| sql.as_str()).collect();
    assert!(unknown.is_empty(), "statements without the service:\n{}", unknown.join("\n"));
    let kinds: BTreeSet<_> = UNROUTED.iter().map(|(_, kind)| format!("{kind:?}")).collect();
    require_documented(kinds.iter().map(String::as_str));
}

async fn every_table_has_a_place_on_a_distributed_engine(database: TestDatabase) {
    database.open().await.close().await;
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' \
                  ORDER BY tablename";
    let tables = database.sql(tables).await;
    let placed: Vec<_> = PLACEMENTS.iter().map(|(table, _)| *table).collect();
    assert_eq!(tables.lines().collect::<Vec<_>>(), placed);
    require_documented(placed);
}

async fn keys_that_lack_the_service_are_exceptions(database: TestDatabase) {
    database.open().await.close().await;
    let by_service = PLACEMENTS.iter().filter(|(_, placement)| *placement == Placement::ByService);
    let by_service = by_service.map(|(table, _)| format!("'{table}'")).collect::<Vec<_>>().join(", ");
    let tables = format!(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ({by_service}) \
         AND NOT EXISTS (SELECT 1 FROM information_schema.columns \
         WHERE table_name = tablename AND column_name = 'service_sid' AND is_nullable = 'NO') ORDER BY tablename"
    );
    let tables = database.sql(&tables).await;
    assert_eq!(tables.lines().collect::<Vec<_>>(), TABLES_WITHOUT_SERVICE);
    require_documented(TABLES_WITHOUT_SERVICE.iter().copied());

    // The keys of rows that are placed by service, and the references between two such tables.
    let keys = format!(
        "SELECT conname FROM pg_constraint WHERE conrelid::regclass::text IN ({by_service}) \
         AND (contype IN ('p', 'u') OR (contype = 'f' AND confrelid::regclass::text IN ({by_service}))) \
         AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey) \
         AND attname = 'service_sid') ORDER BY conname"
    );
    let keys = database.sql(&keys).await;
    assert_eq!(keys.lines().collect::<Vec<_>>(), KEYS_WITHOUT_SERVICE);
    require_documented(KEYS_WITHOUT_SERVICE.iter().copied());
}
