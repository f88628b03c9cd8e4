//! `countersign migrate`.

use clap::Args;
use store::{Error, Location, OldSchema, Store};

use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::{say, say_text};

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Only say whether migrations are missing, and which; exits with 1 if some are
    #[arg(long)]
    check: bool,
    /// Only say what would be applied
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// With --dry-run: the SQL too
    #[arg(long, short, requires = "dry_run")]
    verbose: bool,
    #[command(flatten)]
    storage: Storage,
}

/// What is said when there is nothing to do.
const UP_TO_DATE: &str = "the database is up to date";

/// Applies the migrations that the database lacks, and names them; or says which these are.
pub(crate) async fn run(options: &Migrate) -> Result<(), Failure> {
    let location = options.storage.location()?;
    if options.check || options.dry_run {
        let missing = Store::missing(&location).await?;
        if missing.is_empty() {
            say(UP_TO_DATE)?;
        } else if options.check {
            let names = missing.iter().map(|migration| migration.name.to_owned());
            return Err(Error::OldSchema(names.collect()).into());
        }
        for migration in missing {
            say(format_args!("would apply {}", migration.name))?;
            if options.verbose {
                say_text(format_args!("\n{}", migration.sql))?;
            }
        }
        return Ok(());
    }
    apply(&options.storage, &location).await
}

async fn apply(storage: &Storage, location: &Location) -> Result<(), Failure> {
    // Create the master key together with a new database; a database without one would later be reported as having lost it.
    storage.require_no_lost_database(location)?;
    if matches!(location, Location::Sqlite(_)) && !storage.has_data() {
        storage.master_keys()?;
    }
    storage.make_private(location).await?;
    let (store, migrated) = Store::open(location, OldSchema::Migrate).await?;
    store.close().await;
    if let Some(copy) = migrated.copy {
        say(format_args!("copied the database to {}", copy.display()))?;
    }
    if migrated.applied.is_empty() {
        say(UP_TO_DATE)?;
    }
    for name in migrated.applied {
        say(format_args!("applied {name}"))?;
    }
    Ok(())
}
