//! The files of SQLite databases: copies, also of one that is in use.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};

use crate::error::Error;
use crate::sqlite;

/// Copies from before a migration that are kept.
const COPIES: usize = 3;

/// What stands between a database's name and that of the migration before which it was copied.
const BEFORE: &str = ".before-";

/// Copies a database before it is migrated, and removes all but the last few such copies.
pub(crate) async fn copy_before(database: &Path, migration: &str) -> Result<PathBuf, Error> {
    let copy = beside(database, &format!("{BEFORE}{migration}"));
    self::copy(database, &copy).await?;
    // What can't be tidied up is no reason not to start.
    let _ = remove_old_copies(database);
    Ok(copy)
}

fn remove_old_copies(database: &Path) -> io::Result<()> {
    let start = beside(database, BEFORE);
    let start = start.file_name().unwrap_or_default().to_string_lossy();
    let mut copies = Vec::new();
    for file in folder_of(database).read_dir()? {
        let name = file?.file_name().to_string_lossy().into_owned();
        // Names of migrations begin with their number, so they sort by age.
        if name
            .strip_prefix(&*start)
            .is_some_and(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        {
            copies.push(name);
        }
    }
    copies.sort();
    copies.truncate(copies.len().saturating_sub(COPIES));
    copies.iter().try_for_each(|name| fs::remove_file(folder_of(database).join(name)))
}

/// Copies a database as it is at one moment, also while others write to it. The copy appears when it is
/// whole and durable, in place of whatever had its name; only its owner can read it.
///
/// # Errors
/// When the database can't be read, or the copy not be written; [`Error::Damaged`] when it is not whole.
pub(crate) async fn copy(database: &Path, copy: &Path) -> Result<(), Error> {
    let draft = beside(copy, ".draft");
    let written = write(database, &draft).await.and_then(|()| put_in_place(&draft, copy));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

async fn write(database: &Path, draft: &Path) -> Result<(), Error> {
    // SQLite writes into a file that is there as long as it is empty, and leaves its mode alone.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft);
    let file = file.map_err(|error| at(draft, error))?;
    let name = draft.to_str().ok_or_else(|| at(draft, io::ErrorKind::InvalidFilename.into()))?;
    let options = sqlite(Some(database)).read_only(true).create_if_missing(false);
    let mut source = SqliteConnection::connect_with(&options).await?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut source).await?;
    source.close().await?;
    check(draft).await?;
    file.sync_all().map_err(|error| at(draft, error))
}

/// Gives a file another name, durably.
fn put_in_place(draft: &Path, name: &Path) -> Result<(), Error> {
    let folder = folder_of(name);
    fs::rename(draft, name).map_err(|error| at(name, error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| at(folder, error))
}

/// Checks that a file that nobody uses is a database, and whole.
async fn check(file: &Path) -> Result<(), Error> {
    let mut connection = look_at(file).await?;
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut connection).await?;
    connection.close().await?;
    if found == ["ok"] { Ok(()) } else { Err(Error::Damaged(file.to_owned(), found.join("; "))) }
}

/// A connection that changes nothing, and makes no file.
pub(crate) async fn look_at(file: &Path) -> Result<SqliteConnection, Error> {
    let options = sqlite(Some(file)).read_only(true).create_if_missing(false);
    // A reader makes the files that belong to a log that is written ahead, unless it is told that nobody
    // writes; where there is no log, nobody does.
    let options = options.immutable(!beside(file, "-wal").exists());
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// A file in the same folder, whose name begins like this one's.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn at(path: &Path, error: io::Error) -> Error {
    Error::File(path.to_owned(), Arc::new(error))
}
