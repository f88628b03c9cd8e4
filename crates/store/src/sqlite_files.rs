//! The files of SQLite databases: creating, copying, verifying and measuring them.
//!
//! A new file is written under a temporary name (a draft) and renamed once it is complete and durable.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::schema;
use crate::sqlite::{Access, SqliteConnection};
use crate::values::Value;

/// Maximum number of pre-migration copies to keep; older ones are deleted.
const MAX_MIGRATION_COPIES: usize = 3;

/// Infix in the names of pre-migration copies: `countersign.db.before-<migration>`.
const BEFORE_INFIX: &str = ".before-";

/// Infix in the names of drafts, between the name of the final file and a random suffix.
const DRAFT_INFIX: &str = ".draft-";

/// Checks that `file` is a regular file or a link to one. Opening a pipe, for example, could block indefinitely.
///
/// # Errors
/// Returns [`Error::File`] if `file` is anything else or cannot be examined.
pub fn require_regular(file: &Path) -> Result<(), Error> {
    let kind = fs::metadata(file).map_err(|error| file_error(file, error))?.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(file_error(file, io::Error::other(format!("expected a regular file, found {found}"))))
}

/// Creates a database without tables, unless the file already exists. Only the file's owner can read it.
///
/// The file appears together with its header, so that a file of 0 bytes always indicates a damaged database.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn create_empty(database: &Path) -> Result<(), Error> {
    let draft = create_draft(database)?;
    drop(SqliteConnection::open(draft.path(), Access::Create)?);
    draft.as_file().sync_all().map_err(|error| file_error(draft.path(), error))?;
    match draft.persist_noclobber(database) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
            Err(file_error(database, error.error))
        }
        _ => sync_folder(database),
    }
}

/// Copies a database before the migration called `migration`, and returns the path of the copy. Deletes all but the
/// newest [`MAX_MIGRATION_COPIES`] such copies.
pub(crate) fn copy_before(database: &Path, migration: &str) -> Result<PathBuf, Error> {
    let copy = with_suffix(database, &format!("{BEFORE_INFIX}{migration}"));
    self::copy(database, &copy)?;
    // Old copies that cannot be deleted must not keep the server from starting.
    let _ = delete_old_copies(database);
    Ok(copy)
}

fn delete_old_copies(database: &Path) -> io::Result<()> {
    let start = with_suffix(database, BEFORE_INFIX);
    let start = start.file_name().unwrap_or_default().to_string_lossy();
    let mut copies = Vec::new();
    for file in folder_of(database).read_dir()? {
        let name = file?.file_name().to_string_lossy().into_owned();
        // Migration names begin with their number, so sorting by name sorts the copies by age.
        if name.strip_prefix(&*start).is_some_and(|name| {
            name.starts_with(|first: char| first.is_ascii_digit()) && !name.contains(DRAFT_INFIX)
        }) {
            copies.push(name);
        }
    }
    copies.sort();
    copies.truncate(copies.len().saturating_sub(MAX_MIGRATION_COPIES));
    copies.iter().try_for_each(|name| fs::remove_file(folder_of(database).join(name)))
}

/// Copies a consistent snapshot of `database` to the file `copy`, even while other processes write to the database.
pub(crate) fn copy(database: &Path, copy: &Path) -> Result<(), Error> {
    let source = SqliteConnection::open(database, Access::Read)?;
    put_in_place(write_draft(source, copy)?, copy)
}

/// Writes a verified and durable copy of the database behind `source` as a draft in the folder of `name`. Only the
/// draft's owner can read it. Dropping the draft before it is renamed deletes it.
pub(crate) fn write_draft(source: SqliteConnection, name: &Path) -> Result<NamedTempFile, Error> {
    let draft = create_draft(name)?;
    let path = draft.path();
    let text = path.to_str().ok_or_else(|| file_error(path, io::ErrorKind::InvalidFilename.into()))?;
    // SQLite accepts an existing target file if the file is empty, and keeps its permissions.
    source.query("VACUUM INTO $1", &[Value::from(text)], &mut |_| {})?;
    drop(source);
    verify(path)?;
    draft.as_file().sync_all().map_err(|error| file_error(path, error))?;
    Ok(draft)
}

/// Creates an empty draft in the folder of `name`, with a unique file name.
fn create_draft(name: &Path) -> Result<NamedTempFile, Error> {
    let mut prefix = name.file_name().map(OsString::from).unwrap_or_default();
    prefix.push(DRAFT_INFIX);
    let folder = folder_of(name);
    tempfile::Builder::new().prefix(&prefix).tempfile_in(folder).map_err(|error| file_error(folder, error))
}

/// Renames a draft to `name`, and makes the renaming durable.
pub(crate) fn put_in_place(draft: NamedTempFile, name: &Path) -> Result<(), Error> {
    draft.persist(name).map_err(|error| file_error(name, error.error))?;
    sync_folder(name)
}

/// If root owns `file`, changes its owner to the owner of `other`, or to the owner of the folder if `other` does not
/// exist. Otherwise, a server that runs as another user could not read the file.
///
/// # Errors
/// Returns an error if an owner cannot be read or changed.
pub fn give_to_owner_of(file: &File, other: &Path) -> io::Result<()> {
    let owner = fs::metadata(other).or_else(|_| fs::metadata(folder_of(other)))?;
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Returns the sizes of a database file and of its write-ahead log, in bytes. The size of a missing file is 0.
pub(crate) fn sizes(database: &Path) -> Result<(u64, u64), Error> {
    let log = with_suffix(database, "-wal");
    let bytes = |file: &Path| match fs::metadata(file) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(file_error(file, error)),
    };
    Ok((bytes(database)?, bytes(&log)?))
}

/// Makes the creation, renaming or removal of `file` durable by syncing its folder.
pub(crate) fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = folder_of(file);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| file_error(folder, error))
}

/// Verifies that `file` is an intact Countersign database. No process may have the file open.
fn verify(file: &Path) -> Result<(), Error> {
    let connection = open_read_only(file)?;
    let found: Vec<String> = connection.column("PRAGMA integrity_check(3)")?;
    let missing = schema::missing_on_sqlite(&connection)?;
    drop(connection);
    if found != ["ok"] {
        return Err(Error::Damaged(file.to_owned(), found.join("; ")));
    }
    if missing.len() == schema::missing_on_empty_sqlite().len() {
        return Err(Error::Damaged(file.to_owned(), schema::NO_TABLES.to_owned()));
    }
    Ok(())
}

/// Opens a SQLite file with a connection that changes nothing and creates no files.
pub(crate) fn open_read_only(file: &Path) -> Result<SqliteConnection, Error> {
    // A reader creates the files of a write-ahead log unless the database is declared immutable. Declaring that is safe
    // here: without a log, no process is writing to the database.
    let access = if with_suffix(file, "-wal").exists() { Access::Read } else { Access::ReadImmutable };
    let connection = SqliteConnection::open(file, access)?;
    connection.distrust_schema()?;
    Ok(connection)
}

/// Returns the path of `file` with `suffix` appended to the file name.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the folder of `file`, or `.` if `file` is a bare name.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns an [`Error::File`] for `path`, caused by `error`.
pub(crate) fn file_error(path: &Path, error: io::Error) -> Error {
    Error::File(path.to_owned(), Arc::new(error))
}
