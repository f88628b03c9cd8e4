//! The time of the last backup, stored in a file in the data folder and reported by the server's metrics.
//!
//! The time is not stored in the database, because `countersign backup` must not modify the database that it copies.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use domain::{Parameter as _, Timestamp};
use terminal::CliError;

use crate::error::file_error;

/// Name of the file in the data folder. The file contains a single line with a UTC time, such as
/// `2026-01-01T00:00:00Z`.
pub(crate) const FILE_NAME: &str = "last-backup";

/// Records that a backup of the database in `data_dir` has succeeded. `started_at` is the time at which the backup
/// started.
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

/// Returns the time at which the last successful backup started, or `None` if no valid time is recorded.
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
    fn latest_recorded_backup_time_is_returned() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        for seconds in [1_767_225_600, 1_767_312_000] {
            record(folder.path(), Timestamp::from_seconds(seconds)).unwrap();
            assert_eq!(read(folder.path()), Some(Timestamp::from_seconds(seconds)));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn backup_time_written_by_another_program_is_accepted_if_valid() {
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
