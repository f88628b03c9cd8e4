//! `countersign backup`: a copy of the SQLite database, also while the server runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use store::Location;

use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// File to write
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    storage: Storage,
}

/// What is said of PostgreSQL.
pub(crate) const POSTGRES: &str = "PostgreSQL is backed up with its own tools, also while servers run: \
     pg_dump --format=custom --file=FILE DATABASE_URL, and pg_restore into a new database; \
     keep the master key too, in another place";

pub(crate) async fn run(options: Backup) -> Result<(), Failure> {
    let Location::Sqlite(database) = options.storage.location()? else {
        return Err(Failure::new(POSTGRES));
    };
    options.storage.existing_database()?;
    let file = options.file;
    if is_ours(&file, &database) {
        return Err(Failure::new(format!("{} belongs to the server; name another file", file.display())));
    }
    if !options.force && file.exists() {
        return Err(Failure::new(format!("{} is there already; --force replaces it", file.display())));
    }
    let begun = Instant::now();
    let bytes = store::back_up(&database, &file).await?;
    say(format_args!("wrote {}, {bytes} bytes, in {:.2} s", file.display(), begun.elapsed().as_secs_f64()))?;
    say("the master key is not in it, and without that it is of no use: keep the key too, in another place")
}

/// Whether this is a file that the server works with.
fn is_ours(file: &Path, database: &Path) -> bool {
    let folder =
        |file: &Path| file.parent().and_then(|folder| Path::new(".").join(folder).canonicalize().ok());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let ours = ["countersign.db", "countersign.db-wal", "countersign.db-shm", "master.key"];
    ours.contains(&name.as_ref()) && folder(file) == folder(database)
}
