//! `countersign backup`: a copy of the SQLite database, also while the server runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use app::SystemClock;
use clap::Args;
use domain::Clock as _;
use store::Location;

use crate::cli::Storage;
use crate::failure::Failure;
use crate::last_backup;
use crate::terminal::{say, warn};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// File to write
    file: PathBuf,
    /// Replace the file if it is there and a backup
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
    if belongs_to_server(&file, &database) {
        return Err(Failure::new(format!("{} belongs to the server; name another file", file.display())));
    }
    if fs::symlink_metadata(&file).is_ok() {
        if !options.force {
            return Err(Failure::new(format!("{} is there already; --force replaces it", file.display())));
        }
        require_replaceable(&file).await?;
    }
    let (begun, begun_at) = (Instant::now(), SystemClock.now());
    let bytes = store::back_up(&database, &file).await?;
    say(format_args!("wrote {}, {bytes} bytes, in {:.2} s", file.display(), begun.elapsed().as_secs_f64()))?;
    say("the master key is not in it, and without that it is of no use: keep the key too, in another place")?;
    // The backup is made all the same.
    if let Err(failure) = last_backup::record(&options.storage.data_dir, begun_at) {
        warn(format_args!(
            "countersign: the time of this backup was not recorded, so the server's metrics do not show it: {failure}"
        ));
    }
    Ok(())
}

/// Requires what `--force` may replace: a backup, or an empty file.
async fn require_replaceable(file: &Path) -> Result<(), Failure> {
    store::require_regular(file)?;
    let is_empty = fs::metadata(file).is_ok_and(|file| file.len() == 0);
    if !is_empty && let Err(error) = store::inspect(file).await {
        return Err(Failure::new(format!(
            "{} is not replaced, since it is no backup ({}); name another file, or remove this one",
            file.display(),
            Failure::from(error)
        )));
    }
    Ok(())
}

/// Whether this is a file that the server works with, or another name of one.
fn belongs_to_server(file: &Path, database: &Path) -> bool {
    let folder =
        |file: &Path| file.parent().and_then(|folder| Path::new(".").join(folder).canonicalize().ok());
    let Some(data_dir) = folder(database) else { return false };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if is_name_of_server(&name) && folder(file).as_ref() == Some(&data_dir) {
        return true;
    }
    let Ok(file) = fs::metadata(file) else { return false };
    let mut files = data_dir.read_dir().into_iter().flatten().flatten();
    files.any(|ours| {
        is_name_of_server(&ours.file_name().to_string_lossy())
            && fs::metadata(ours.path())
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (file.dev(), file.ino()))
    })
}

/// Whether a file of the data folder with this name is the server's: the database with all that SQLite and Countersign put
/// beside it, and master keys.
fn is_name_of_server(name: &str) -> bool {
    if let Some(end) = name.strip_prefix("countersign.db") {
        return end.is_empty()
            || ["-wal", "-shm", "-journal"].contains(&end)
            || [".before-", ".draft-"].iter().any(|kind| end.starts_with(kind));
    }
    name.starts_with("master.key") || name == last_backup::NAME
}
