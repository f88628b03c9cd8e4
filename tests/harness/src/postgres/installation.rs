//! Where this machine keeps PostgreSQL's programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of this name: on the PATH; else where Debian keeps those of the newest PostgreSQL, which it
/// does not put there; else where `pg_config` says.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(debian_folders())
        .chain(pg_config_folder())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The folder that has `initdb` and, next to it, `postgres`. What is on the PATH may be a link to it.
pub(super) fn server_folder() -> Option<PathBuf> {
    let folder = find_program("initdb")?.canonicalize().ok()?.parent()?.to_owned();
    folder.join("postgres").is_file().then_some(folder)
}

/// `/usr/lib/postgresql/VERSION/bin`, the newest first.
fn debian_folders() -> Vec<PathBuf> {
    let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<f64>().ok();
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|folder| Some((version(&folder)?, folder.join("bin"))))
        .collect();
    versions.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn pg_config_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().into())
}
