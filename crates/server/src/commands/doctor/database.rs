//! Checks the database: its settings, schema and contents, and whether the master key opens its sealed values.

use std::collections::BTreeMap;

use app::{SealedCount, SystemClock};
use crypto::MasterKeys;
use domain::{Clock as _, Timestamp};
use store::{DatabaseInfo, Error, Location, MAX_POSTGRES_CONNECTIONS, Read, Store};
use terminal::CliError;

use super::super::keys;
use super::{Arguments, Report, network, outlets};

/// Oldest supported PostgreSQL version, in the form of `server_version_num`.
const MIN_POSTGRES_VERSION: i64 = 130_000;

/// Maximum acceptable difference between the clocks of this machine and the database, in seconds.
const MAX_CLOCK_SKEW_SECONDS: i64 = 2;

/// Number of seconds past its due time after which a pending delivery counts as late.
const LATE_DELIVERY_SECONDS: i64 = 300;

pub(super) async fn check(report: &mut Report, arguments: &Arguments, now: Timestamp) {
    let options = arguments.serve.as_ref();
    if options.ephemeral {
        return;
    }
    // An error here was already reported by the configuration check.
    let Ok(location) = options.storage.location() else { return };
    if let Location::Sqlite(path) = &location
        && !path.exists()
    {
        report.warning(
            "database",
            format!("{} does not exist", path.display()),
            "`countersign serve` creates it; if it should exist already, set its folder with --data-dir",
        );
        return;
    }
    if let Location::Sqlite(path) = &location {
        match store::uses_wal(path) {
            Ok(true) => report.ok("journal", "write-ahead log, synced at each commit"),
            Ok(false) | Err(_) => report.warning(
                "journal",
                "no write-ahead log",
                "the next start of the server enables it; check which other program opens this file",
            ),
        }
    }
    let checked = check_contents(report, arguments, &location, now).await;
    if let Err(error) = checked {
        report.problem(
            "database",
            error.to_string(),
            "check that the database is running, and that its address, user and password are correct",
        );
    }
}

async fn check_contents(
    report: &mut Report,
    arguments: &Arguments,
    location: &Location,
    now: Timestamp,
) -> Result<(), CliError> {
    let options = arguments.serve.as_ref();
    let mut db = store::open_read_only(location).await?;
    // The database reads its clock between these two instants.
    let before = SystemClock.now();
    let found = db.database_info().await?;
    check_condition(report, &found, before, SystemClock.now());
    if arguments.deep && matches!(found, DatabaseInfo::Sqlite { .. }) {
        check_integrity(report, &mut db).await?;
    }
    if matches!(&found, DatabaseInfo::Postgres { settings, .. } if !is_utf8(settings)) {
        // Skip the other checks: neither a server nor another command can use this database.
        return Ok(());
    }
    let missing = Store::missing_migrations(location).await?;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|migration| migration.name).collect();
        let found = format!("pending: {}", names.join(", "));
        match location {
            Location::Postgres(_) => report.problem("migrations", found, "run `countersign migrate`"),
            _ => report.warning("migrations", found, "the next start copies the file and applies them"),
        }
        return Ok(());
    }
    report.ok("migrations", "all applied");
    if let Location::Sqlite(path) = location {
        check_schema(report, &store::schema_differences(path)?);
    }
    check_master_key(report, options.storage.present_master_keys(), &mut db).await?;
    network::check_credentials(report, &db.all_credentials().await?, now);
    let (webhooks, accounts) = (db.all_webhooks().await?, db.accounts().await?);
    network::check_webhooks(report, &webhooks, &accounts, options, arguments.online).await;
    outlets::check_stored(report, options, &db.all_outlets().await?);
    outlets::check_messaging_configurations(report, &db.messaging_configurations_without_outlet().await?);
    check_late_deliveries(report, &mut db, now).await?;
    check_clock_trust(report, &mut db, now).await?;
    Ok(())
}

/// Checks the integrity of a SQLite file. Its duration grows with the file.
async fn check_integrity(report: &mut Report, db: &mut Read) -> Result<(), Error> {
    let damage = db.file_damage().await?;
    if damage.is_empty() {
        report.ok("database file", "undamaged");
    } else {
        let advice = "restore a backup with `countersign restore`, and check the disk for errors";
        report.problem("database file", format!("it is damaged: {}", damage.join("; ")), advice);
    }
    Ok(())
}

/// Checks whether housekeeping trusts the clock, or would trust it if a server started now.
async fn check_clock_trust(report: &mut Report, db: &mut Read, now: Timestamp) -> Result<(), Error> {
    let Some(record) = db.clock_record().await? else { return Ok(()) };
    let subject = "clock and housekeeping";
    let advice =
        "correct the clock; if it is correct, run `countersign clock trust` to resume housekeeping at once";
    if record.doubted.is_some() {
        let found = format!("housekeeping is paused: the clock jumped after {}", record.trusted_at);
        report.warning(subject, found, advice);
    } else if record.after(now, None).doubted.is_some() {
        let found = format!(
            "it is {now}, and housekeeping last ran at {}: a server that starts now pauses housekeeping for six hours",
            record.trusted_at
        );
        report.warning(subject, found, advice);
    } else {
        report.ok(subject, format!("consistent with the last run of housekeeping at {}", record.trusted_at));
    }
    Ok(())
}

fn check_schema(report: &mut Report, differences: &[String]) {
    if differences.is_empty() {
        report.ok("schema", "as created by the migrations");
    } else {
        let advice = "find out who changed it: an added trigger or view can change the server's decisions; \
                      drop the additions, or restore a backup that precedes them";
        report.problem("schema", differences.join("; "), advice);
    }
}

/// Returns whether the encoding of a PostgreSQL database is UTF-8, so that it can store every text.
fn is_utf8(settings: &BTreeMap<String, String>) -> bool {
    settings.get("server_encoding").is_none_or(|encoding| encoding == "UTF8")
}

fn check_condition(report: &mut Report, condition: &DatabaseInfo, before: Timestamp, after: Timestamp) {
    match condition {
        DatabaseInfo::Sqlite { version } => report.ok("database", format!("SQLite {version}")),
        DatabaseInfo::Postgres { version, version_number, settings, now: theirs } => {
            if *version_number < MIN_POSTGRES_VERSION {
                let advice = "upgrade to a supported version, 13 or later";
                report.problem("database", format!("PostgreSQL {version} is too old"), advice);
            } else {
                report.ok("database", format!("PostgreSQL {version}"));
            }
            if !is_utf8(settings) {
                let encoding = &settings["server_encoding"];
                let advice = "create another database with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and \
                              copy the data to it with pg_dump and pg_restore";
                report.problem("database", format!("its encoding is {encoding}, not UTF8"), advice);
            }
            check_postgres_settings(report, settings);
            let skew = (before.seconds() - theirs.seconds()).max(theirs.seconds() - after.seconds());
            if skew > MAX_CLOCK_SKEW_SECONDS {
                report.warning(
                    "clock",
                    format!("differs from the database's clock by {skew} seconds"),
                    "synchronize both machines with a time server: the server's clock decides when challenges expire",
                );
            } else {
                report.ok("clock", "agrees with the database's clock");
            }
        }
    }
}

fn check_postgres_settings(report: &mut Report, settings: &BTreeMap<String, String>) {
    let value = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        if value(name) == "off" {
            let advice = format!(
                "set {name} to on; otherwise a crash can lose acknowledged writes or damage the database"
            );
            report.problem("setting of PostgreSQL", format!("{name} is off"), advice);
        } else {
            report.ok("setting of PostgreSQL", format!("{name} is {}", value(name)));
        }
    }
    let (name, expected) = ("default_transaction_isolation", "read committed");
    if value(name) == expected {
        report.ok("setting of PostgreSQL", format!("{name} is {expected}"));
    } else {
        let advice =
            format!("set it to {expected} for this database; other levels make writes wait and retry");
        report.warning("setting of PostgreSQL", format!("{name} is {}", value(name)), advice);
    }
    let number = |name: &str| value(name).parse::<i64>().unwrap_or(0);
    let servers = (number("max_connections") - number("superuser_reserved_connections"))
        / i64::from(MAX_POSTGRES_CONNECTIONS);
    let found = format!(
        "max_connections is {}, enough for {servers} servers with {MAX_POSTGRES_CONNECTIONS} connections each",
        number("max_connections")
    );
    if servers < 2 {
        report.warning("setting of PostgreSQL", found, "raise it, or use a connection pooler");
    } else {
        report.ok("setting of PostgreSQL", found);
    }
}

async fn check_master_key(
    report: &mut Report,
    keys: Result<Option<MasterKeys>, CliError>,
    db: &mut Read,
) -> Result<(), CliError> {
    let (subject, advice) = ("master key", "provide the key of this database; see docs/operations.md");
    let keys = match keys {
        Ok(Some(keys)) => keys,
        Ok(None) => {
            report.problem(subject, "there is no master key", advice);
            return Ok(());
        }
        Err(error) => {
            report.problem(subject, error.to_string(), advice);
            return Ok(());
        }
    };
    let seals = app::count_sealed_values(db).await?;
    let missing: Vec<_> = keys::under_missing_keys(&keys, &seals).collect();
    for sealed in &missing {
        let (values, key) = (keys::describe(sealed), keys::key_name(sealed));
        let found = format!("{values} sealed under key {key}, which is missing");
        report.problem(subject, found, advice);
    }
    if let Err(error) = app::check_master_keys(db, &keys).await
        && missing.is_empty()
    {
        report.problem(
            subject,
            CliError::from(error).to_string(),
            "restore a backup: sealed values were altered",
        );
    } else if missing.is_empty() {
        let current = keys.current().key_id();
        let old = |sealed: &&SealedCount| sealed.key != Some(current);
        let left: Vec<_> = seals.iter().filter(old).map(keys::describe).collect();
        if left.is_empty() {
            report.ok(subject, format!("all values are sealed under {current}"));
        } else {
            let found = format!("{} still sealed under an old key", left.join(", "));
            report.warning(subject, found, "complete the rotation with `countersign keys rotate`");
        }
    }
    Ok(())
}

async fn check_late_deliveries(report: &mut Report, db: &mut Read, now: Timestamp) -> Result<(), Error> {
    match db.next_delivery_due_at(Timestamp::MIN..=Timestamp::MAX, &[]).await? {
        Some(due) if due.plus_seconds(LATE_DELIVERY_SECONDS) < now => report.warning(
            "deliveries",
            format!("one is pending since {due}"),
            "check that a server runs; `countersign webhooks attempts --all --state pending` lists pending deliveries",
        ),
        _ => report.ok("deliveries", "none is late"),
    }
    Ok(())
}
