//! The machine: room on its disks, how fast they are, who may read the keys.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;
use store::Location;

use super::Report;
use crate::cli::Serve;
use crate::open_files::{self, Capacity};

/// Free bytes below which there is a warning, and a problem.
const LITTLE: u64 = 1 << 30;
const TOO_LITTLE: u64 = 100 << 20;

/// How often a file is synced to learn how long that takes.
const SYNCS: usize = 9;

/// Above this, each commit is slow.
const SLOW: Duration = Duration::from_millis(20);

pub(super) fn look(report: &mut Report, options: &Serve) {
    open_files(report, options);
    if options.ephemeral {
        report.ok("data folder", "none: everything is kept in memory");
        return;
    }
    let data_dir = &options.storage.data_dir;
    if data_dir.is_dir() {
        permissions(report, "data folder", data_dir);
        room(report, "room in the data folder", data_dir);
        syncs(report, data_dir);
    } else if options.storage.is_master_key_given()
        && matches!(options.storage.location(), Ok(Location::Postgres(_)))
    {
        report.ok("data folder", "none is needed: the database and the master key are elsewhere");
    } else {
        report.warning(
            "data folder",
            format!("{} is not there", data_dir.display()),
            "`countersign serve` makes it; if there should be one, name it with --data-dir",
        );
    }
    room(report, "room for temporary files", &std::env::temp_dir());
    for file in secrets(options) {
        permissions(report, "secret file", &file);
    }
}

/// Whether as many files may be open as `max_connections` needs. A unit or a container may have another limit.
fn open_files(report: &mut Report, options: &Serve) {
    let subject = "open files";
    let limit = open_files::reachable_limit();
    let capacity = Capacity::of(options, limit);
    match (capacity.shortage(), limit) {
        (Some(shortage), _) => report.warning(subject, format!("here {shortage}"), open_files::ADVICE),
        (None, Some(limit)) => {
            report.ok(subject, format!("{limit} are permitted here, {} needed", capacity.needed))
        }
        (None, None) => report.ok(subject, "no limit here"),
    }
}

/// The files that hold secrets.
fn secrets(options: &Serve) -> Vec<PathBuf> {
    let storage = &options.storage;
    let given = [
        &storage.master_key_file,
        &storage.master_key_old_file,
        &storage.database_url_file,
        &options.auth_token_file,
        &options.tls_key,
    ];
    let kept = Some(storage.key_file()).filter(|file| !storage.is_master_key_given() && file.exists());
    given.into_iter().flatten().cloned().chain(kept).collect()
}

fn permissions(report: &mut Report, subject: &'static str, path: &Path) {
    let name = path.display();
    match path.metadata().map(|metadata| metadata.permissions().mode() & 0o777) {
        // What an engine mounts into a container is another's there, and others' rights are those by which it is read.
        Ok(mode) if mode & 0o007 != 0 && is_read_only(path) => {
            report.ok(subject, format!("{name} (mode {mode:o}, mounted read-only)"));
        }
        Ok(mode) if mode & 0o007 != 0 => report.warning(
            subject,
            format!("{name} can be used by every user of this machine (mode {mode:o})"),
            format!("see that it belongs to the server's user, then chmod o-rwx {name}"),
        ),
        Ok(mode) => report.ok(subject, format!("{name} (mode {mode:o})")),
        Err(error) => report.problem(subject, format!("{name}: {error}"), "make it readable to the server"),
    }
}

/// Whether it lies where nothing can be written.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|place| place.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn room(report: &mut Report, subject: &'static str, folder: &Path) {
    let name = folder.display();
    let advice = "make room: a full disk lets nothing be written";
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{name}: {} MiB free", free >> 20);
            match free {
                0..TOO_LITTLE => report.problem(subject, found, advice),
                TOO_LITTLE..LITTLE => report.warning(subject, found, advice),
                LITTLE.. => report.ok(subject, found),
            }
        }
        Err(error) => report.warning(subject, format!("{name}: {error}"), advice),
    }
}

/// How long a commit takes on this disk, as far as that waits for it.
fn syncs(report: &mut Report, folder: &Path) {
    let subject = "speed of the disk";
    match median_sync(folder) {
        Ok(median) => {
            let found = format!("a sync takes {:.1} ms", median.as_secs_f64() * 1000.0);
            if median > SLOW {
                let advice = "each commit waits for one: use a disk with a cache that outlives power loss";
                report.warning(subject, found, advice);
            } else {
                report.ok(subject, found);
            }
        }
        Err(error) => report.problem(
            subject,
            format!("{}: {error}", folder.display()),
            "let the server's user write into this folder",
        ),
    }
}

fn median_sync(folder: &Path) -> std::io::Result<Duration> {
    // It has no name, and is gone with this process.
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[SYNCS / 2])
}
