//! The files of SQLite databases: copies, also of one that is in use, and what is put in a database's place.
//!
//! Whoever has a database open holds its folder, together with others (`flock`, which ends with the
//! process however that does). Whoever puts another file in its place holds it alone.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tempfile::NamedTempFile;

use crate::error::Error;
use crate::sql::Connection;
use crate::{Read, Size, schema, sqlite};

/// Copies from before a migration that are kept.
const COPIES: usize = 3;

/// Infix of the copies made before a migration: `countersign.db.before-<migration>`.
const BEFORE: &str = ".before-";

/// What stands between a file's name and what tells its draft from all others.
const DRAFT: &str = ".draft-";

/// The folder of a database, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold(File);

impl Drop for Hold {
    fn drop(&mut self) {
        // To close the file is not enough: a process that this one is just starting has it too, until it
        // runs its own program.
        let _ = self.0.unlock();
    }
}

/// How often somebody who finds a folder held alone looks again, and how long after: who only asked
/// [whether it is in use](is_in_use) has let it go by then.
const LOOKS: u32 = 25;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Holds the folder of a database together with all others who have it open.
///
/// # Errors
/// [`Error::InUse`] while somebody replaces the database.
pub(crate) async fn share(database: &Path) -> Result<Hold, Error> {
    let folder = folder_of(database);
    let held = File::open(folder).map_err(|error| at(folder, error))?;
    for _ in 0..LOOKS {
        match held.try_lock_shared() {
            Ok(()) => return Ok(Hold(held)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(BETWEEN_LOOKS).await,
            Err(TryLockError::Error(error)) => return Err(at(folder, error)),
        }
    }
    Err(Error::InUse(format!(
        "a backup is being restored to {}; try again when that is done",
        database.display()
    )))
}

/// Whether anybody has a database open.
///
/// # Errors
/// When its folder can't be read.
pub fn is_in_use(database: &Path) -> Result<bool, Error> {
    match claim(database) {
        Ok(_) => Ok(false),
        Err(Error::InUse(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Holds it alone.
fn claim(database: &Path) -> Result<Hold, Error> {
    let folder = folder_of(database);
    let held = File::open(folder).map_err(|error| at(folder, error))?;
    match held.try_lock() {
        Ok(()) => Ok(Hold(held)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(format!(
            "a server or another command uses {}; stop it first",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => Err(at(folder, error)),
    }
}

/// Copies a database as it is at one moment to `file`, also while a server writes to it. The copy appears
/// when it was checked and is durable, in place of whatever had its name; only its owner can read it.
/// Returns its size in bytes.
///
/// # Errors
/// When the database can't be read or the copy not be written, and [`Error::Damaged`].
pub async fn back_up(database: &Path, file: &Path) -> Result<u64, Error> {
    if file.exists() {
        require_regular(file)?;
    }
    let _hold = share(database).await?;
    copy(database, file).await?;
    Ok(fs::metadata(file).map_err(|error| at(file, error))?.len())
}

/// A database that is to be put in the place of another, whose folder is held alone meanwhile. Dropped, it
/// leaves everything as it was.
#[derive(Debug)]
pub struct Replacement {
    draft: NamedTempFile,
    database: PathBuf,
    _hold: Hold,
}

/// What a database says of itself, before anything is done with it.
#[derive(Debug)]
pub struct Origin {
    /// The migrations in it that this program doesn't know.
    pub newer: Vec<String>,
    /// How its schema differs from what its migrations make, a phrase for each object. It says nothing where there are
    /// newer migrations.
    pub differences: Vec<String>,
}

/// Opens a file that is to be restored, and inspects it. Changes nothing, and runs nothing that its schema says.
///
/// # Errors
/// [`Error::Damaged`] when it is no database of Countersign; [`Error::File`] when it can't be read, or is no regular file.
pub async fn inspect(file: &Path) -> Result<(Read, Origin), Error> {
    require_regular(file)?;
    let inspected = async {
        let mut connection = look_at(file).await?;
        let missing = schema::missing_on_sqlite(&mut connection).await?;
        if missing.len() == schema::missing_on_empty_sqlite().len() {
            return Err(Error::Damaged(file.to_owned(), "it has none of the tables".to_owned()));
        }
        let newer = schema::newer_on_sqlite(&mut connection).await?;
        let differences = schema::differences_on_sqlite(&mut connection).await?;
        Ok((Read::on(Connection::Sqlite(Box::new(connection))), Origin { newer, differences }))
    };
    inspected.await.map_err(|error| damaged(file, error))
}

/// What SQLite says of a file that it can't make sense of.
fn damaged(file: &Path, error: Error) -> Error {
    match error {
        Error::Database(error) => Error::Damaged(file.to_owned(), error.to_string()),
        Error::Damaged(_, why) => Error::Damaged(file.to_owned(), why),
        error => error,
    }
}

/// Requires a regular file, or a link to one: to open a pipe could take as long as its other end likes.
///
/// # Errors
/// [`Error::File`] when it is none, or can't be seen.
pub fn require_regular(file: &Path) -> Result<(), Error> {
    let kind = fs::metadata(file).map_err(|error| at(file, error))?.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(at(file, io::Error::other(format!("expected a regular file, found {found}"))))
}

/// Makes a database that has no tables yet; does nothing where there is one. The file appears when it has its header:
/// one of 0 bytes is never a new database, but what is left of another. Only its owner can read it.
///
/// # Errors
/// When it can't be written.
pub async fn make(database: &Path) -> Result<(), Error> {
    let draft = draft_beside(database)?;
    SqliteConnection::connect_with(&sqlite(Some(draft.path()))).await?.close().await?;
    draft.as_file().sync_all().map_err(|error| at(draft.path(), error))?;
    match draft.persist_noclobber(database) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(at(database, error.error)),
        _ => sync_folder(database),
    }
}

impl Replacement {
    /// Copies `backup` beside `database`, and checks the copy.
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::Damaged`] when it is no database of Countersign, or not whole; and when a
    /// file can't be read or written.
    pub async fn prepare(backup: &Path, database: &Path) -> Result<Self, Error> {
        let hold = claim(database)?;
        require_regular(backup)?;
        let draft = Self::fill(backup, database).await.map_err(|error| damaged(backup, error))?;
        Ok(Self { draft, database: database.to_owned(), _hold: hold })
    }

    async fn fill(backup: &Path, database: &Path) -> Result<NamedTempFile, Error> {
        let draft = write(look_at(backup).await?, database).await?;
        give_to_owner_of(draft.as_file(), database).map_err(|error| at(draft.path(), error))?;
        Ok(draft)
    }

    /// [Inspects](inspect) the copy: what was copied may have changed since it was inspected itself.
    ///
    /// # Errors
    /// As [`inspect`].
    pub async fn inspect(&self) -> Result<(Read, Origin), Error> {
        inspect(self.draft.path()).await
    }

    /// Puts it in place. What was there before has the name `kept` from then on, if anything was. At each
    /// moment the one or the other is in place, whole, also when the power fails.
    ///
    /// # Errors
    /// [`Error::InUse`], with nothing changed, while another program reads or writes what is there; when a file
    /// can't be written, and either is in place then.
    pub async fn put_in_place(self, kept: &Path) -> Result<bool, Error> {
        let was_there = self.database.exists();
        if was_there {
            // With its log merged into it a file is whole under any name. One that is damaged may refuse
            // that; it keeps its log.
            if let Err(Error::InUse(_) | Error::Unavailable(_)) = merge_log(&self.database).await {
                return Err(another_program(&self.database));
            }
            for end in ["", "-wal"] {
                let (from, to) = (beside(&self.database, end), beside(kept, end));
                if from.exists() {
                    fs::hard_link(&from, &to).map_err(|error| at(&to, error))?;
                }
            }
            sync_folder(&self.database)?;
        }
        // A log that belongs to another file would be taken for the new one's.
        for end in ["-wal", "-shm"] {
            let file = beside(&self.database, end);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&file, error)),
                _ => {}
            }
        }
        sync_folder(&self.database)?;
        put_in_place(self.draft, &self.database)?;
        Ok(was_there)
    }
}

/// Merges the log of a database that none of us uses into its file.
async fn merge_log(database: &Path) -> Result<(), Error> {
    let options = sqlite(Some(database)).create_if_missing(false).busy_timeout(Duration::from_secs(1));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // The first column tells whether somebody stood in the way.
    let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
    connection.close().await?;
    match busy {
        0 => Ok(()),
        _ => Err(another_program(database)),
    }
}

fn another_program(database: &Path) -> Error {
    Error::InUse(format!("another program works with {}; end it first", database.display()))
}

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
        if name.strip_prefix(&*start).is_some_and(|name| {
            name.starts_with(|first: char| first.is_ascii_digit()) && !name.contains(DRAFT)
        }) {
            copies.push(name);
        }
    }
    copies.sort();
    copies.truncate(copies.len().saturating_sub(COPIES));
    copies.iter().try_for_each(|name| fs::remove_file(folder_of(database).join(name)))
}

/// Copies a database as it is at one moment, also while others write to it.
pub(crate) async fn copy(database: &Path, copy: &Path) -> Result<(), Error> {
    let options = sqlite(Some(database)).read_only(true).create_if_missing(false);
    let source = SqliteConnection::connect_with(&options).await?;
    put_in_place(write(source, copy).await?, copy)
}

/// Writes what is in a database into a file beside `name`, under one that nobody else has; only its owner can read
/// it. Dropped before it is put in place, it goes.
async fn write(mut source: SqliteConnection, name: &Path) -> Result<NamedTempFile, Error> {
    let draft = draft_beside(name)?;
    let path = draft.path();
    let text = path.to_str().ok_or_else(|| at(path, io::ErrorKind::InvalidFilename.into()))?;
    // SQLite writes into a file that is there as long as it is empty, and leaves its mode alone.
    sqlx::query("VACUUM INTO $1").bind(text).execute(&mut source).await?;
    source.close().await?;
    check(path).await?;
    draft.as_file().sync_all().map_err(|error| at(path, error))?;
    Ok(draft)
}

/// Makes an empty file beside `name`, under a name that nobody else has.
fn draft_beside(name: &Path) -> Result<NamedTempFile, Error> {
    let mut beginning = name.file_name().map(OsString::from).unwrap_or_default();
    beginning.push(DRAFT);
    let folder = folder_of(name);
    tempfile::Builder::new().prefix(&beginning).tempfile_in(folder).map_err(|error| at(folder, error))
}

/// Gives a file its name, durably.
fn put_in_place(draft: NamedTempFile, name: &Path) -> Result<(), Error> {
    draft.persist(name).map_err(|error| at(name, error.error))?;
    sync_folder(name)
}

/// Gives a file that root makes in place of another to whom that belongs, or else its folder: the server may run as
/// somebody who could not read it otherwise.
///
/// # Errors
/// When that can't be seen or done.
pub fn give_to_owner_of(file: &File, other: &Path) -> io::Result<()> {
    let owner = fs::metadata(other).or_else(|_| fs::metadata(folder_of(other)))?;
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Returns the size of a database and of its log, which need not be there.
pub(crate) fn size(database: &Path) -> Result<Size, Error> {
    let log = beside(database, "-wal");
    let bytes = |file: &Path| match fs::metadata(file) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(at(file, error)),
    };
    Ok(Size { database: bytes(database)?, write_ahead_log: bytes(&log)? })
}

fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = folder_of(file);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| at(folder, error))
}

/// Checks that a file that nobody uses is a database of ours, and whole.
async fn check(file: &Path) -> Result<(), Error> {
    let mut connection = look_at(file).await?;
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut connection).await?;
    let missing = schema::missing_on_sqlite(&mut connection).await?;
    connection.close().await?;
    if found != ["ok"] {
        return Err(Error::Damaged(file.to_owned(), found.join("; ")));
    }
    if missing.len() == schema::missing_on_empty_sqlite().len() {
        return Err(Error::Damaged(file.to_owned(), "it has none of the tables".to_owned()));
    }
    Ok(())
}

/// A connection that changes nothing, and makes no file.
pub(crate) async fn look_at(file: &Path) -> Result<SqliteConnection, Error> {
    let options = sqlite(Some(file)).read_only(true).create_if_missing(false);
    // A reader makes the files that belong to a log that is written ahead, unless it is told that nobody
    // writes; where there is no log, nobody does.
    let options = options.immutable(!beside(file, "-wal").exists()).pragma("trusted_schema", "OFF");
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
