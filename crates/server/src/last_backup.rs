//! The time of the last backup, in a file of the data folder, for the server's metrics.
//!
//! It is not in the database, because `countersign backup` must not change the database that it copies.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use domain::{Parameter as _, Timestamp};
use terminal::CliError;

use crate::error::file_error;

/// Name of the file in the data folder. It has one line, such as `2026-01-01T00:00:00Z`.
pub(crate) const FILE_NAME: &str = "last-backup";

/// Records that a backup of the database in `data_dir`, which started at `started_at`, has succeeded.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(crate) fn record(data_dir: &Path, started_at: Timestamp) -> Result<(), CliError> {
    let path = path(data_dir);
    let at = |error: std::io::Error| file_error(&path, &error);
    // Replace the file atomically, so that a server never reads half a line.
    let mut draft =
        tempfile::Builder::new().prefix("last-backup.draft-").tempfile_in(data_dir).map_err(at)?;
    writeln!(draft, "{started_at}")
        .and_then(|()| store::give_to_owner_of(draft.as_file(), &path))
        .map_err(at)?;
    draft.persist(&path).map(drop).map_err(|error| at(error.error))
}

/// Returns when the last backup started, or `None` if none was recorded.
pub(crate) fn read(data_dir: &Path) -> Option<Timestamp> {
    let text = fs::read_to_string(path(data_dir)).ok()?;
    Timestamp::from_parameter(text.trim()).ok()
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_recorded_time_is_returned() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        for seconds in [1_767_225_600, 1_767_312_000] {
            record(folder.path(), Timestamp::from_seconds(seconds)).unwrap();
            assert_eq!(read(folder.path()), Some(Timestamp::from_seconds(seconds)));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn time_written_by_another_program_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let expected = Some(Timestamp::from_seconds(1_767_225_600));
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", expected),
            ("2026-01-01T01:00:00+01:00\n\n", expected),
            ("yesterday\n", None),
            ("", None),
        ] {
            fs::write(folder.path().join(FILE_NAME), text).unwrap();
            assert_eq!(read(folder.path()), expected, "{text:?}");
        }
    }
}
