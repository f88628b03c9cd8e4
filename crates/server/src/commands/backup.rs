//! `countersign backup`: copies the SQLite database to a file, even while the server is running.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use app::SystemClock;
use clap::Args;
use domain::Clock as _;
use store::Location;
use terminal::{CliError, say, warn};

use crate::last_backup;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File to which the backup is written
    file: PathBuf,
    /// Replace the file if it exists and is a backup or empty
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Error text of `backup` and `restore` for a PostgreSQL database.
pub(super) const POSTGRES_ADVICE: &str = "this command supports SQLite only; for PostgreSQL, use its own tools, even \
     while servers are running: pg_dump --format=custom --file=FILE DATABASE_URL, and pg_restore into a new \
     database; back up the master key separately";

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let Location::Sqlite(database) = arguments.storage.location()? else {
        return Err(CliError::new(POSTGRES_ADVICE));
    };
    arguments.storage.require_existing_database()?;
    let file = arguments.file;
    if belongs_to_server(&file, &database) {
        return Err(CliError::new(format!(
            "{} is a file of the server itself; choose another file for the backup",
            file.display()
        )));
    }
    if fs::symlink_metadata(&file).is_ok() {
        if !arguments.force {
            return Err(CliError::new(format!(
                "{} already exists; use --force to replace it",
                file.display()
            )));
        }
        require_replaceable(&file).await?;
    }
    let (start, started_at) = (Instant::now(), SystemClock.now());
    let bytes = store::back_up(&database, &file).await?;
    say(format_args!("wrote {}, {bytes} bytes, in {:.2} s", file.display(), start.elapsed().as_secs_f64()))?;
    say("the backup does not contain the master key, and is useless without it: back up the key separately")?;
    // The backup itself succeeded, so this is a warning only.
    if let Err(error) = last_backup::record(&arguments.storage.data_dir, started_at) {
        warn(format_args!(
            "countersign: could not record the time of this backup, so the server's metrics will not show it: {error}"
        ));
    }
    Ok(())
}

/// Checks that `--force` may replace `file`, which must be a backup or empty. Returns an error otherwise.
async fn require_replaceable(file: &Path) -> Result<(), CliError> {
    store::require_regular(file)?;
    let is_empty = fs::metadata(file).is_ok_and(|file| file.len() == 0);
    if !is_empty && let Err(error) = store::inspect_backup(file) {
        return Err(CliError::new(format!(
            "{} is not replaced because it is not a backup ({}); choose another file, or remove this one",
            file.display(),
            CliError::from(error)
        )));
    }
    Ok(())
}

/// Returns whether `file` is used by the server: either it is in the data folder and has a name that the server uses,
/// or it is a link to such a file.
fn belongs_to_server(file: &Path, database: &Path) -> bool {
    let folder =
        |file: &Path| file.parent().and_then(|folder| Path::new(".").join(folder).canonicalize().ok());
    let Some(data_dir) = folder(database) else { return false };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if is_server_file_name(&name) && folder(file).as_ref() == Some(&data_dir) {
        return true;
    }
    let Ok(file) = fs::metadata(file) else { return false };
    let mut files = data_dir.read_dir().into_iter().flatten().flatten();
    files.any(|ours| {
        is_server_file_name(&ours.file_name().to_string_lossy())
            && fs::metadata(ours.path())
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (file.dev(), file.ino()))
    })
}

/// Returns whether the server uses files named `name` in the data folder. These are the database, the files that SQLite
/// and Countersign create for it, the master keys, and the time of the last backup.
fn is_server_file_name(name: &str) -> bool {
    if let Some(end) = name.strip_prefix("countersign.db") {
        return end.is_empty()
            || ["-wal", "-shm", "-journal"].contains(&end)
            || [".before-", ".draft-"].iter().any(|kind| end.starts_with(kind));
    }
    name.starts_with("master.key") || name == last_backup::FILE_NAME
}
