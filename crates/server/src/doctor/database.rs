//! The database: how it is set up, what is in it, whether the master key opens it.

use std::collections::BTreeMap;

use app::{SealedUnder, SystemClock};
use crypto::MasterKeys;
use domain::{Clock as _, Timestamp};
use store::{Condition, Error, Location, POSTGRES_CONNECTIONS, Read, Store};

use super::{Report, outside};
use crate::cli::Serve;
use crate::failure::Failure;
use crate::keys;

/// The oldest PostgreSQL that is good enough, as it counts its versions.
const OLDEST: i64 = 130_000;

/// Seconds that clocks may be apart.
const APART: i64 = 2;

/// Seconds after which a delivery that is due is late.
const LATE: i64 = 300;

pub(super) async fn look(report: &mut Report, options: &Serve, now: Timestamp, online: bool) {
    if options.ephemeral {
        return;
    }
    // The configuration check has already reported what is wrong with it.
    let Ok(location) = options.storage.location() else { return };
    if let Location::Sqlite(path) = &location
        && !path.exists()
    {
        report.warning(
            "database",
            format!("there is none: {}", path.display()),
            "`countersign serve` makes it; if there should be one, name its folder with --data-dir",
        );
        return;
    }
    if let Location::Sqlite(path) = &location {
        match store::writes_ahead(path) {
            Ok(true) => report.ok("journal", "written ahead, synchronous at each commit"),
            Ok(false) | Err(_) => report.warning(
                "journal",
                "not written ahead",
                "the next start of the server mends it; see who else opens this file",
            ),
        }
    }
    let looked = inside(report, options, &location, now, online).await;
    if let Err(failure) = looked {
        report.problem(
            "database",
            failure.to_string(),
            "see whether it runs, and whether its address, user and password are right",
        );
    }
}

async fn inside(
    report: &mut Report,
    options: &Serve,
    location: &Location,
    now: Timestamp,
    online: bool,
) -> Result<(), Failure> {
    let mut db = store::look(location).await?;
    // Between these the database looks at its clock.
    let before = SystemClock.now();
    let found = db.condition().await?;
    condition(report, &found, before, SystemClock.now());
    if matches!(&found, Condition::Postgres { settings, .. } if !is_utf8(settings)) {
        // No server would start, and no command work.
        return Ok(());
    }
    let missing = Store::missing(location).await?;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|migration| migration.name).collect();
        let found = format!("lacks {}", names.join(", "));
        match location {
            Location::Postgres(_) => report.problem("migrations", found, "run `countersign migrate`"),
            _ => {
                report.warning("migrations", found, "the next start applies them, and copies the file before")
            }
        }
        return Ok(());
    }
    report.ok("migrations", "all applied");
    if let Location::Sqlite(path) = location {
        schema(report, &store::differences(path).await?);
    }
    master_key(report, options.storage.present_master_keys(), &mut db).await?;
    outside::credentials(report, &db.all_credentials().await?, now);
    outside::webhooks(report, &db.all_webhooks().await?, options, online).await;
    late(report, &mut db, now).await?;
    clock_trust(report, &mut db, now).await?;
    Ok(())
}

/// Whether housekeeping trusts the clock, or will when a server starts now.
async fn clock_trust(report: &mut Report, db: &mut Read, now: Timestamp) -> Result<(), Error> {
    let Some(record) = db.clock_record().await? else { return Ok(()) };
    let subject = "clock and housekeeping";
    let advice =
        "set the clock right; if it is right, `countersign clock trust` lets housekeeping go on at once";
    if record.doubted.is_some() {
        let found = format!("nothing is removed: the clock jumped after {}", record.trusted_at);
        report.warning(subject, found, advice);
    } else if record.after(now, None).doubted.is_some() {
        let found = format!(
            "it is {now}, and housekeeping last ran at {}: a server that starts now removes nothing for six hours",
            record.trusted_at
        );
        report.warning(subject, found, advice);
    } else {
        report.ok(subject, format!("as when housekeeping last ran, at {}", record.trusted_at));
    }
    Ok(())
}

fn schema(report: &mut Report, differences: &[String]) {
    if differences.is_empty() {
        report.ok("schema", "as the migrations make it");
    } else {
        let advice = "find out who changed it: a trigger or a view can change what the server decides; \
                      drop what is foreign, or restore a backup from before";
        report.problem("schema", differences.join("; "), advice);
    }
}

/// Whether a PostgreSQL database can hold every text.
fn is_utf8(settings: &BTreeMap<String, String>) -> bool {
    settings.get("server_encoding").is_none_or(|encoding| encoding == "UTF8")
}

fn condition(report: &mut Report, condition: &Condition, before: Timestamp, after: Timestamp) {
    match condition {
        Condition::Sqlite { version, damage } => {
            if damage.is_empty() {
                report.ok("database", format!("SQLite {version}, whole"));
            } else {
                let advice = "restore a backup with `countersign restore`; look after the disk";
                report.problem("database", format!("it is damaged: {}", damage.join("; ")), advice);
            }
        }
        Condition::Postgres { version, version_number, settings, now: theirs } => {
            if *version_number < OLDEST {
                let advice = "upgrade to a version that is still supported, 13 at least";
                report.problem("database", format!("PostgreSQL {version} is too old"), advice);
            } else {
                report.ok("database", format!("PostgreSQL {version}"));
            }
            if !is_utf8(settings) {
                let encoding = &settings["server_encoding"];
                let advice = "make another one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move \
                              what is in this one there with pg_dump and pg_restore";
                report.problem("database", format!("its encoding is {encoding}, not UTF8"), advice);
            }
            postgres_settings(report, settings);
            let apart = (before.seconds() - theirs.seconds()).max(theirs.seconds() - after.seconds());
            if apart > APART {
                report.warning(
                    "clock",
                    format!("{apart} seconds apart from the database's"),
                    "let both machines follow a time server: expiry is decided by the server's clock",
                );
            } else {
                report.ok("clock", "as the database's");
            }
        }
    }
}

fn postgres_settings(report: &mut Report, settings: &BTreeMap<String, String>) {
    let value = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        if value(name) == "off" {
            let advice = format!(
                "set it to on: what was acknowledged can be lost, or the database be damaged ({name})"
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
        let advice = format!("set it to {expected} for this database: others make writes wait and run again");
        report.warning("setting of PostgreSQL", format!("{name} is {}", value(name)), advice);
    }
    let number = |name: &str| value(name).parse::<i64>().unwrap_or(0);
    let servers = (number("max_connections") - number("superuser_reserved_connections"))
        / i64::from(POSTGRES_CONNECTIONS);
    let found = format!(
        "max_connections is {}, enough for {servers} servers with {POSTGRES_CONNECTIONS} each",
        number("max_connections")
    );
    if servers < 2 {
        report.warning("setting of PostgreSQL", found, "raise it, or put a pooler in front");
    } else {
        report.ok("setting of PostgreSQL", found);
    }
}

async fn master_key(
    report: &mut Report,
    keys: Result<Option<MasterKeys>, Failure>,
    db: &mut Read,
) -> Result<(), Failure> {
    let (subject, advice) =
        ("master key", "give the key that belongs to this database; see docs/operations.md");
    let keys = match keys {
        Ok(Some(keys)) => keys,
        Ok(None) => {
            report.problem(subject, "there is none", advice);
            return Ok(());
        }
        Err(failure) => {
            report.problem(subject, failure.to_string(), advice);
            return Ok(());
        }
    };
    let seals = app::seals(db).await?;
    let missing: Vec<_> = keys::missing(&keys, &seals).collect();
    for sealed in &missing {
        let found =
            format!("{} sealed under key {}, which is not there", keys::words(sealed), keys::name(sealed));
        report.problem(subject, found, advice);
    }
    if let Err(error) = app::check_master_keys(db, &keys).await
        && missing.is_empty()
    {
        report.problem(
            subject,
            Failure::from(error).to_string(),
            "restore a backup: what is sealed was altered",
        );
    } else if missing.is_empty() {
        let current = keys.current().key_id();
        let old = |sealed: &&SealedUnder| sealed.key != Some(current);
        let left: Vec<_> = seals.iter().filter(old).map(keys::words).collect();
        if left.is_empty() {
            report.ok(subject, format!("all that is sealed is sealed under {current}"));
        } else {
            let found = format!("{} still sealed under an old key", left.join(", "));
            report.warning(subject, found, "finish the change with `countersign keys rotate`");
        }
    }
    Ok(())
}

async fn late(report: &mut Report, db: &mut Read, now: Timestamp) -> Result<(), Error> {
    match db.next_due().await? {
        Some(due) if due.plus_seconds(LATE) < now => report.warning(
            "deliveries",
            format!("one has been due since {due}"),
            "see whether a server runs; `countersign webhooks attempts --all --state owed` shows what waits",
        ),
        _ => report.ok("deliveries", "none is late"),
    }
    Ok(())
}
