//! Checks the machine: the limit on open files, the free space and speed of the disk, and the permissions of secret
//! files.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;
use store::Location;

use super::Report;
use crate::open_files::{self, ConnectionCapacity};
use crate::options::ServeOptions;

/// Free disk space, in bytes, below which the doctor warns.
const LOW_SPACE_BYTES: u64 = 1 << 30;

/// Free disk space, in bytes, below which the doctor reports a problem.
const CRITICAL_SPACE_BYTES: u64 = 100 << 20;

/// Number of syncs whose duration is measured.
const SYNC_SAMPLES: usize = 9;

/// Duration of a sync above which the doctor warns. Each commit waits for a sync, so a slow sync delays every commit.
const SLOW_SYNC: Duration = Duration::from_millis(20);

pub(super) fn check(report: &mut Report, options: &ServeOptions) {
    check_open_files(report, options);
    if options.ephemeral {
        report.ok("data folder", "none: all data is in memory");
        return;
    }
    let data_dir = &options.storage.data_dir;
    if data_dir.is_dir() {
        check_permissions(report, "data folder", data_dir);
        check_free_space(report, "space in the data folder", data_dir);
        check_sync_speed(report, data_dir);
    } else if options.storage.is_master_key_given()
        && matches!(options.storage.location(), Ok(Location::Postgres(_)))
    {
        report.ok("data folder", "not needed: the options give the database and the master key");
    } else {
        report.warning(
            "data folder",
            format!("{} does not exist", data_dir.display()),
            "`countersign serve` creates it; if it should exist already, set its path with --data-dir",
        );
    }
    check_free_space(report, "space for temporary files", &std::env::temp_dir());
    for file in secret_files(options) {
        check_permissions(report, "secret file", &file);
    }
}

/// Checks that the limit on open files is sufficient for `max_connections`. The server's limit, in a systemd unit or a
/// container, may differ from the limit of this process.
fn check_open_files(report: &mut Report, options: &ServeOptions) {
    let subject = "open files";
    let limit = open_files::reachable_limit();
    let capacity = ConnectionCapacity::new(options, limit);
    match (capacity.shortage(), limit) {
        (Some(shortage), _) => {
            report.warning(subject, format!("in this process {shortage}"), open_files::ADVICE)
        }
        (None, Some(limit)) => {
            report.ok(subject, format!("this process may open {limit}, {} are needed", capacity.needed))
        }
        (None, None) => report.ok(subject, "this process has no limit"),
    }
}

/// Returns the paths of the files that contain secrets.
fn secret_files(options: &ServeOptions) -> Vec<PathBuf> {
    let storage = &options.storage;
    let given = [
        &storage.master_key_file,
        &storage.master_key_old_file,
        &storage.database_url_file,
        &options.auth_token_file,
        &options.tls_key,
    ];
    let generated =
        Some(storage.master_key_file().path()).filter(|file| !storage.is_master_key_given() && file.exists());
    given.into_iter().flatten().cloned().chain(generated).collect()
}

fn check_permissions(report: &mut Report, subject: &'static str, path: &Path) {
    let name = path.display();
    match path.metadata().map(|metadata| metadata.permissions().mode() & 0o777) {
        // A secret that is mounted into a container usually belongs to another user there. The server then needs the
        // permission of other users to read it.
        Ok(mode) if mode & 0o007 != 0 && is_read_only(path) => {
            report.ok(subject, format!("{name} (mode {mode:o}, mounted read-only)"));
        }
        Ok(mode) if mode & 0o007 != 0 => report.warning(
            subject,
            format!("{name} is accessible to every user of this machine (mode {mode:o})"),
            format!("make sure that it belongs to the server's user, then run chmod o-rwx {name}"),
        ),
        Ok(mode) => report.ok(subject, format!("{name} (mode {mode:o})")),
        Err(error) => {
            report.problem(subject, format!("{name}: {error}"), "make it readable to the server's user")
        }
    }
}

/// Returns whether the file system that contains `path` is mounted read-only.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|file_system| file_system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn check_free_space(report: &mut Report, subject: &'static str, folder: &Path) {
    let name = folder.display();
    let advice = "free some space: with a full disk every write fails";
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{name}: {} MiB free", free >> 20);
            match free {
                0..CRITICAL_SPACE_BYTES => report.problem(subject, found, advice),
                CRITICAL_SPACE_BYTES..LOW_SPACE_BYTES => report.warning(subject, found, advice),
                LOW_SPACE_BYTES.. => report.ok(subject, found),
            }
        }
        Err(error) => report.warning(subject, format!("{name}: {error}"), advice),
    }
}

/// Checks how long a sync takes on the disk that contains `folder`. The duration matters because each commit waits for
/// a sync.
fn check_sync_speed(report: &mut Report, folder: &Path) {
    let subject = "speed of the disk";
    match median_sync(folder) {
        Ok(median) => {
            let found = format!("a sync takes {:.1} ms", median.as_secs_f64() * 1000.0);
            if median > SLOW_SYNC {
                let advice = "each commit waits for a sync: use a disk with a power-loss protected cache";
                report.warning(subject, found, advice);
            } else {
                report.ok(subject, found);
            }
        }
        Err(error) => report.problem(
            subject,
            format!("{}: {error}", folder.display()),
            "give the server's user write permission in this folder",
        ),
    }
}

fn median_sync(folder: &Path) -> std::io::Result<Duration> {
    // Use an unnamed file, which disappears with this process.
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..SYNC_SAMPLES {
        file.write_all(&[7; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[SYNC_SAMPLES / 2])
}
