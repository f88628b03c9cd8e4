//! `countersign migrate`: applies pending database migrations, or lists them.

use clap::Args;
use store::{Error, Location, OldSchema, Store};
use terminal::{CliError, say, say_text};

use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only check whether migrations are pending, and list them; exits with code 1 if there are any
    #[arg(long)]
    check: bool,
    /// Only list the migrations that would be applied
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// With --dry-run: also print the SQL of each migration
    #[arg(long, short, requires = "dry_run")]
    verbose: bool,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Message that is printed if no migration is pending.
const UP_TO_DATE: &str = "the database is up to date";

pub(super) async fn run(arguments: &Arguments) -> Result<(), CliError> {
    let location = arguments.storage.location()?;
    if arguments.check || arguments.dry_run {
        let missing = Store::missing_migrations(&location).await?;
        if missing.is_empty() {
            say(UP_TO_DATE)?;
        } else if arguments.check {
            let names = missing.iter().map(|migration| migration.name.to_owned());
            return Err(Error::OldSchema(names.collect()).into());
        }
        for migration in missing {
            say(format_args!("would apply {}", migration.name))?;
            if arguments.verbose {
                say_text(format_args!("\n{}", migration.sql))?;
            }
        }
        return Ok(());
    }
    apply(&arguments.storage, &location).await
}

async fn apply(storage: &StorageOptions, location: &Location) -> Result<(), CliError> {
    storage.require_no_lost_database(location)?;
    if let Location::Sqlite(_) = location {
        let data_dir = storage.data_dir();
        // Create the master key together with a new database. A database without a master key would later count as one
        // that has lost its key.
        if !data_dir.has_data() {
            storage.master_keys()?;
        }
        data_dir.create_database_file().await?;
    }
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
