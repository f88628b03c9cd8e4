//! The schema: how it comes about, and that there is only one.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use domain::Secret;
use domain::challenges::Answer;
use domain::deliveries::Next;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use store::{
    AlertFilter, AuditFilter, DeliveryFilter, Error, Filter, Location, Migrated, OldSchema, Store, Write,
};

use crate::fixtures::*;
use crate::pages::ALL;
use crate::places::{Place, run};
use crate::together::at_once;

contract! {
    on disk:
    a_schema_that_is_too_old_is_refused_by_name,
    each_migration_is_applied_once_and_named,
    servers_that_start_together_migrate_once,
    an_altered_migration_is_refused,
    what_is_missing_is_told_and_left,
    a_schema_that_can_not_be_read_is_not_taken_for_an_empty_one,
    a_schema_that_became_old_is_not_ready,
    a_schema_that_is_newer_is_good_enough,
    a_store_goes_on_while_the_schema_grows,
}

contract! {
    on memory:
    a_memory_is_migrated_in_any_case,
    each_memory_is_another,
}

contract! {
    on postgres:
    a_role_that_may_not_make_tables_can_serve,
    a_migration_gives_way_to_servers_that_run,
}

contract! {
    on sqlite:
    what_is_no_database_is_not_opened,
    a_file_is_copied_before_it_is_migrated,
    the_last_copies_are_kept,
    a_file_that_can_not_be_copied_is_not_migrated,
    tables_are_strict_and_the_log_is_written_ahead,
}

/// The names of the migrations, in order: those of the files that there are for this database.
fn migrations(database: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(database);
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.map(|name| name.strip_suffix(".sql").unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn a_schema_that_is_too_old_is_refused_by_name(place: Place) {
    // Twice: being refused changes nothing.
    for _ in 0..2 {
        let error = Store::open(&place.location, OldSchema::Refuse).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("0001_verify_push"), "{error}");
        assert_refused!(Err::<(), _>(error), Error::OldSchema(missing) if missing == migrations("sqlite"));
    }
}

async fn each_migration_is_applied_once_and_named(place: Place) {
    let (store, migrated) = Store::open(&place.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated, Migrated { applied: migrations("sqlite"), ..Migrated::default() });
    let account = account();
    add(&store, [account]).await;
    store.close().await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        let (store, migrated) = Store::open(&place.location, old).await.unwrap();
        assert_eq!(migrated, Migrated::default());
        assert_same!(read!(store, |db| db.account(account.sid)).unwrap(), Some(account));
        store.close().await;
    }
}

async fn servers_that_start_together_migrate_once(place: Place) {
    let location = &place.location;
    let stores = at_once(6, |_| {
        let location = location.clone();
        async move { Store::open(&location, OldSchema::Migrate).await.unwrap().0 }
    });
    for store in stores.await {
        add(&store, [account()]).await;
    }
    assert_eq!(place.sql("SELECT count(*) FROM accounts").await, "6");
    let applied = place.sql("SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(applied, migrations("sqlite").len().to_string());
}

async fn an_altered_migration_is_refused(place: Place) {
    place.open().await.close().await;
    place.sql("UPDATE _sqlx_migrations SET checksum = substr(checksum, 2)").await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        let opened = Store::open(&place.location, old).await.map(|_| ());
        assert_refused!(opened, Error::Migration(_));
    }
}

async fn what_is_missing_is_told_and_left(place: Place) {
    let missing = async || {
        let missing = Store::missing(&place.location).await.unwrap();
        for migration in &missing {
            assert!(migration.sql.contains("CREATE") || migration.sql.contains("ALTER"), "{migration:?}");
        }
        missing.iter().map(|migration| migration.name.to_owned()).collect::<Vec<_>>()
    };
    // Twice: being asked changes nothing.
    for _ in 0..2 {
        assert_eq!(missing().await, migrations("sqlite"));
    }
    if let Location::Sqlite(file) = &place.location {
        assert_eq!(neighbours(file), [""; 0]);
    }
    let store = place.open().await;
    assert_eq!(missing().await, [""; 0]);
    store.close().await;
    if let Location::Sqlite(file) = &place.location {
        let before = neighbours(file);
        assert_eq!(missing().await, [""; 0]);
        assert_eq!(neighbours(file), before);
    }
}

async fn a_schema_that_can_not_be_read_is_not_taken_for_an_empty_one(place: Place) {
    place.open().await.close().await;
    place.sql("ALTER TABLE _sqlx_migrations RENAME COLUMN checksum TO sum").await;
    for old in [OldSchema::Migrate, OldSchema::Refuse] {
        assert_refused!(Store::open(&place.location, old).await.map(|_| ()), Error::Database(_));
    }
    assert_refused!(Store::missing(&place.location).await, Error::Database(_));
}

async fn a_schema_that_became_old_is_not_ready(place: Place) {
    let store = place.open().await;
    read!(store, |db| db.ready()).unwrap();
    let last = migrations("sqlite").pop().unwrap();
    place.sql("CREATE TABLE kept AS SELECT * FROM _sqlx_migrations").await;
    place.sql("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM kept)").await;
    assert_refused!(read!(store, |db| db.ready()), Error::OldSchema(missing) if missing == [last.clone()]);
    place
        .sql(
            "INSERT INTO _sqlx_migrations SELECT * FROM kept WHERE version = (SELECT max(version) FROM kept)",
        )
        .await;
    read!(store, |db| db.ready()).unwrap();
    place.sql("DROP TABLE _sqlx_migrations").await;
    let all = migrations("sqlite");
    assert_refused!(read!(store, |db| db.ready()), Error::OldSchema(missing) if missing == all);
}

async fn a_schema_that_is_newer_is_good_enough(place: Place) {
    let store = place.open().await;
    place
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
              SELECT 9999, 'of a newer program', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    place.sql("ALTER TABLE accounts ADD COLUMN of_a_newer_program TEXT").await;
    let (account, later) = (account(), account());
    add(&store, [account]).await;
    let (store, migrated) = Store::open(&place.location, OldSchema::Refuse).await.unwrap();
    assert_eq!(migrated, Migrated::default());
    add(&store, [later]).await;
    assert_same!(read!(store, |db| db.accounts()).unwrap(), [account, later]);
}

async fn a_store_goes_on_while_the_schema_grows(place: Place) {
    /// Runs every statement that there is.
    async fn use_everything(store: &Store) {
        let clan = Clan::settle(store).await;
        let Family { account, service, entity, path, factor } = clan.family;
        let (key, ring_key) = (api_key(account), enrollment_key(&account.sid.to_string()));
        let metadata = keep(string_map(&[]));
        let Clan { webhook, credential, alert, delivery, .. } = clan;
        let (challenge_sid, token_sid) = (clan.challenge.sid, clan.token.grant.sid);
        let write = async move |tx: &mut Write| {
            tx.insert_api_key(key).await?;
            tx.update_auth_token(account.sid, &account.auth_token, NOW).await?;
            tx.lock_enrollment_keys().await?;
            tx.insert_enrollment_key(ring_key, NOW).await?;
            let secret = domain::Sealed::<RingKey>::from_bytes(b"sealed server key".to_vec());
            tx.insert_server_key(&ring_key.kid, &secret, NOW).await?;
            tx.reseal(store::Kind::ServerKeys, &ring_key.kid, &secret, &secret).await?;
            tx.delete_replaced_enrollment_keys(FIRST).await?;
            tx.lock_service(account.sid, service.sid).await?;
            tx.update_service(service).await?;
            tx.ensure_entity(entity).await?;
            tx.lock_factor(path, factor.sid).await?;
            tx.hold_factor(path, factor.sid).await?;
            tx.update_factor(factor).await?;
            tx.set_challenge_metadata(path, challenge_sid, metadata, NOW).await?;
            tx.answer_challenge(challenge_sid, Answer::Approved, DIGEST, NOW).await?;
            tx.spend_access_token(token_sid, factor.sid).await?;
            tx.set_debugger_webhook(account.sid, Some(&webhook.url), NOW).await?;
            tx.lock_webhook(account.sid, service.sid, webhook.sid).await?;
            tx.update_webhook(webhook).await?;
            tx.update_credential(credential).await?;
            tx.ending_credentials(7, NOW).await?;
            tx.mark_unreachable(factor.sid, "token", NOW).await?;
            for service_sid in [None, Some(service.sid)] {
                tx.forget_unreachable(account.sid, service_sid).await?;
            }
            tx.count_webhooks(service.sid).await?;
            for full in [&[][..], &["elsewhere:443".to_owned()]] {
                let leased = tx.lease_deliveries("lease", full, 1, NOW, LAST).await?;
                let ids: Vec<_> = leased.iter().map(|delivery| delivery.id).collect();
                assert_eq!(ids, [delivery.id]);
                tx.renew_leases("lease", &ids, LAST).await?;
                tx.release_deliveries("lease", &ids, NOW).await?;
            }
            for leased in tx.lease_deliveries("lease", &[], 1, NOW, LAST).await? {
                let attempt = attempt(&leased, "delivered");
                assert!(tx.record_attempt("lease", &leased, attempt, Next::Delivered, NOW).await?);
            }
            Ok::<_, Error>(())
        };
        store.write(write).await.unwrap();
        assert_eq!(clan.remains(store).await, Clan::ALL);
        let read = async move |db: &mut store::Read| {
            db.accounts().await?;
            db.api_key(key.sid).await?;
            db.api_keys(account.sid).await?;
            db.enrollment_keys::<RingKey>().await?;
            db.server_key::<RingKey>(&ring_key.kid).await?;
            for kind in store::Kind::ALL {
                db.seals(kind).await?;
                db.sealed_otherwise::<RingKey>(kind, b"12345678", "", 10).await?;
            }
            db.services(account.sid, &ALL).await?;
            db.entities(account.sid, service.sid, &ALL).await?;
            db.factor_by_credential(factor.credential_sid).await?;
            db.factors(entity.sid, &ALL).await?;
            db.count_factors(entity.sid).await?;
            db.challenges(entity.sid, Filter::default(), &ALL, NOW).await?;
            db.webhooks(account.sid, service.sid, &ALL).await?;
            db.enabled_webhooks(service.sid).await?;
            db.all_webhooks().await?;
            db.credentials(account.sid, &ALL).await?;
            db.all_credentials().await?;
            db.alerts(account.sid, AlertFilter::default(), &ALL).await?;
            db.deliveries(&DeliveryFilter::default(), 10).await?;
            db.audit_lines(&AuditFilter::default(), 10).await?;
            db.audit_chain::<RingKey>().await?;
            db.next_due().await?;
            db.entity_back(service.sid, NOW..NOW, NonZeroU32::MIN).await?;
            db.factor_creation_back(entity.sid, NOW..NOW, NonZeroU32::MIN).await?;
            db.challenge_back(factor.sid, NOW..NOW, NonZeroU32::MIN).await?;
            db.pending_until(factor.sid, NonZeroU32::MIN, NOW).await?;
            Ok::<_, Error>(())
        };
        store.read(read).await.unwrap();
        let delete = async move |tx: &mut Write| {
            assert!(tx.owe_again(delivery.id, NOW, LAST).await?.is_some());
            let arrived = attempt(delivery, "delivered").clone();
            tx.record_delivered("nobody", &[(delivery.id, arrived, NOW)]).await?;
            tx.delete_webhook(account.sid, service.sid, webhook.sid).await?;
            tx.delete_credential(account.sid, credential.sid).await?;
            tx.delete_old_alerts(alert.created_at.plus_seconds(1), 1).await?;
            for leased in tx.lease_deliveries("lease", &[], 1, NOW, LAST).await? {
                let attempt = attempt(&leased, "failed");
                tx.record_attempt("lease", &leased, attempt, Next::Failed, NOW).await?;
            }
            tx.delete_old_deliveries(LAST, 1).await?;
            tx.take_lease("lease", "holder", NOW, LAST).await?;
            tx.delete_unverified_factors(FIRST, 1).await?;
            tx.note_factor_creation(factor).await?;
            tx.delete_old_factor_creations(FIRST, 1).await?;
            tx.limit_service(service.sid, None, None).await?;
            tx.delete_old_challenges(FIRST, 1).await?;
            tx.delete_old_access_tokens(FIRST, 1).await?;
            tx.delete_factor(path, factor.sid, NOW).await?;
            tx.delete_entity(path, NOW).await?;
            tx.delete_service(account.sid, service.sid, NOW).await?;
            while tx.remove_deleted(100).await? > 0 {}
            tx.count_deleted().await?;
            tx.delete_api_key(key.sid).await
        };
        store.write(delete).await.unwrap();
    }

    let store = place.open().await;
    // Often enough that each connection has prepared each statement.
    for _ in 0..10 {
        use_everything(&store).await;
    }
    let tables = [
        "accounts",
        "api_keys",
        "enrollment_keys",
        "server_keys",
        "services",
        "entities",
        "factors",
        "challenges",
        "access_tokens",
        "webhooks",
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
    ];
    for table in tables {
        place.sql(&format!("ALTER TABLE {table} ADD COLUMN of_a_newer_program TEXT")).await;
    }
    for _ in 0..10 {
        use_everything(&store).await;
    }
}

async fn a_role_that_may_not_make_tables_can_serve(place: Place) {
    place.open().await.close().await;
    let role = place.sql("SELECT 'server_' || md5(current_database())").await;
    place.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    place.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public";
    place.sql(&format!("GRANT {rights} TO {role}")).await;

    let separator = if place.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}user={role}&password=secret", place.url());
    for old in [OldSchema::Refuse, OldSchema::Migrate] {
        let opened = Store::open(&Location::Postgres(Secret::new(url.clone())), old).await;
        let (store, migrated) = opened.unwrap();
        assert_eq!(migrated, Migrated::default());
        assert_eq!(Clan::settle(&store).await.remains(&store).await, Clan::ALL);
        store.close().await;
    }
    place.sql(&format!("DROP OWNED BY {role}")).await;
    place.sql(&format!("DROP ROLE {role}")).await;
}

async fn a_migration_gives_way_to_servers_that_run(place: Place) {
    place.open().await.close().await;
    let is_before_the_limits = "DROP INDEX challenges_by_expiry, access_tokens_by_expiry, factors_unverified; \
         DROP TABLE leases, factor_creations; ALTER TABLE services DROP COLUMN max_pending_challenges, \
         DROP COLUMN challenges_per_minute; DELETE FROM _sqlx_migrations WHERE version = 4";
    place.sql(is_before_the_limits).await;

    // A server in the midst of a transaction: it holds what the migration comes to last, and wants what that has
    // taken first.
    let options: PgConnectOptions = place.url().parse().unwrap();
    let (mut server, mut next) = (options.connect().await.unwrap(), options.connect().await.unwrap());
    sqlx::raw_sql("BEGIN; LOCK TABLE services IN ROW EXCLUSIVE MODE").execute(&mut server).await.unwrap();
    let location = place.location.clone();
    let migration = tokio::spawn(async move { Store::open(&location, OldSchema::Migrate).await });
    for expected in ["taken", "free"] {
        loop {
            let wants = "BEGIN; LOCK TABLE challenges IN ROW EXCLUSIVE MODE NOWAIT";
            let gets = sqlx::raw_sql(wants).execute(&mut next).await.is_ok();
            sqlx::raw_sql("ROLLBACK").execute(&mut next).await.unwrap();
            if gets == (expected == "free") {
                break;
            }
            assert!(!migration.is_finished());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut server).await.unwrap();
    let (store, migrated) = migration.await.unwrap().unwrap();
    assert_eq!(migrated.applied, ["0004_limits"]);
    store.close().await;
}

async fn a_memory_is_migrated_in_any_case(place: Place) {
    for old in [OldSchema::Refuse, OldSchema::Migrate] {
        let (store, migrated) = Store::open(&place.location, old).await.unwrap();
        assert_eq!(migrated.applied, migrations("sqlite"));
        family(&store).await;
    }
}

async fn each_memory_is_another(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    family(&one).await;
    assert_same!(read!(other, |db| db.accounts()).unwrap(), Vec::<domain::Account>::new());
}

/// The names of the files in the folder of this one.
fn neighbours(file: &Path) -> Vec<String> {
    let files = file.parent().unwrap().read_dir().unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes the database of a program that knew no more than the first migration, with one account in it.
async fn make_old(place: &Place) {
    let newest = Place::sqlite("").unwrap();
    newest.open().await.close().await;
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite/0001_verify_push.sql");
    let newest = newest.file();
    std::fs::write(place.file(), "").unwrap();
    place
        .sql(&format!(
            "PRAGMA journal_mode = WAL; {}; ATTACH '{}' AS newest; \
             CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
               installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
               execution_time BIGINT NOT NULL); \
             INSERT INTO _sqlx_migrations SELECT * FROM newest._sqlx_migrations WHERE version = 1; \
             INSERT INTO accounts VALUES ('AC1', 'Owl Bank', X'00', 1, 1)",
            std::fs::read_to_string(first).unwrap(),
            newest.display(),
        ))
        .await;
}

async fn a_file_is_copied_before_it_is_migrated(place: Place) {
    make_old(&place).await;
    let (store, migrated) = Store::open(&place.location, OldSchema::Migrate).await.unwrap();
    let second = &migrations("sqlite")[1];
    assert_eq!(migrated.applied, migrations("sqlite")[1..]);
    let copy = migrated.copy.unwrap();
    assert_eq!(copy, place.file().with_file_name(format!("countersign.db.before-{second}")));
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store.close().await;

    // The copy is what was there: once it is put in its place, the same can be done again.
    std::fs::rename(&copy, place.file()).unwrap();
    assert_eq!(place.sql("SELECT version FROM _sqlx_migrations").await, "1");
    assert_eq!(place.sql("SELECT friendly_name FROM accounts").await, "Owl Bank");
    let (_, migrated) = Store::open(&place.location, OldSchema::Migrate).await.unwrap();
    assert_eq!(migrated.copy, Some(copy));
}

async fn the_last_copies_are_kept(place: Place) {
    make_old(&place).await;
    let name = |migration: &str| format!("countersign.db.before-{migration}");
    let second = migrations("sqlite")[1].clone();
    let others = ["0000_a", "0000_b", "0000_c", "restore"].map(name);
    for other in &others {
        std::fs::write(place.file().with_file_name(other), "").unwrap();
    }
    place.open().await.close().await;
    let mut left = neighbours(&place.file());
    left.retain(|file| file.contains("before"));
    assert_eq!(left, [name("0000_b"), name("0000_c"), name(&second), name("restore")]);
}

async fn a_file_that_can_not_be_copied_is_not_migrated(place: Place) {
    make_old(&place).await;
    let copy = place.file().with_file_name(format!("countersign.db.before-{}", migrations("sqlite")[1]));
    std::fs::create_dir(&copy).unwrap();
    let error = Store::open(&place.location, OldSchema::Migrate).await.map(|_| ()).unwrap_err();
    assert_refused!(Err::<(), _>(error), Error::NotCopied(_));
    assert_eq!(place.sql("SELECT version FROM _sqlx_migrations").await, "1");
    assert!(neighbours(&place.file()).iter().all(|file| !file.contains(".draft")));
    std::fs::remove_dir(&copy).unwrap();
    place.open().await;
}

async fn what_is_no_database_is_not_opened(place: Place) {
    std::fs::write(place.file(), "Dear diary, ".repeat(1000)).unwrap();
    let nowhere = Location::Sqlite(place.file().join("in a file"));
    for location in [&place.location, &nowhere] {
        let opened = Store::open(location, OldSchema::Migrate).await.map(|_| ());
        assert_refused!(opened, Error::Database(_) | Error::File(..));
    }
}

async fn tables_are_strict_and_the_log_is_written_ahead(place: Place) {
    place.open().await;
    assert_eq!(place.sql("PRAGMA journal_mode").await, "wal");
    let lax = "SELECT name FROM pragma_table_list \
               WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_sqlx%'";
    assert_eq!(place.sql(lax).await, "");
}

#[test]
fn both_databases_have_the_same_migrations() {
    assert_eq!(migrations("sqlite"), migrations("postgres"));
}

#[test]
fn both_databases_have_the_same_schema() {
    let test = "schema::both_databases_have_the_same_schema";
    let (Some(sqlite), Some(postgres)) = (Place::sqlite(test), Place::postgres(test)) else { return };
    run(sqlite, async |sqlite| {
        sqlite.open().await;
        postgres.open().await;
        for (on_sqlite, on_postgres) in [COLUMNS, INDEXES, REFERENCES] {
            let lines = async |place: &Place, sql| {
                let rows = place.sql(sql).await;
                rows.lines().map(str::to_owned).collect::<BTreeSet<_>>()
            };
            let (found, expected) = (lines(&sqlite, on_sqlite).await, lines(&postgres, on_postgres).await);
            assert!(!found.is_empty());
            assert_eq!(found, expected, "\n{on_sqlite}\n{on_postgres}");
        }
    });
}

/// Table, place, name, type and whether it can be null of each column; for SQLite and for PostgreSQL.
const COLUMNS: (&str, &str) = (
    "SELECT t.name, c.cid + 1, c.name, \
            CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE lower(c.type) END, \
            CASE c.\"notnull\" WHEN 1 THEN 'NO' ELSE 'YES' END \
     FROM sqlite_schema t, pragma_table_info(t.name) c \
     WHERE t.type = 'table' AND t.name NOT LIKE '_sqlx%'",
    "SELECT table_name, ordinal_position, column_name, data_type, is_nullable \
     FROM information_schema.columns \
     WHERE table_schema = 'public' AND table_name NOT LIKE '_sqlx%'",
);

/// Table, columns, and whether it is unique and partial of each index, those of keys included.
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

/// Table, column, referenced table, and what a deletion does of each reference.
const REFERENCES: (&str, &str) = (
    "SELECT t.name, f.\"from\", f.\"table\", f.on_delete FROM sqlite_schema t, pragma_foreign_key_list(t.name) f",
    "SELECT t.relname, c.attname, f.confrelid::regclass, \
            CASE f.confdeltype WHEN 'c' THEN 'CASCADE' ELSE 'something else' END \
     FROM pg_constraint f \
     JOIN pg_class t ON t.oid = f.conrelid \
     JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = ALL (f.conkey) \
     WHERE f.contype = 'f'",
);
