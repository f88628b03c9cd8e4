//! The folders that hold PostgreSQL's programs on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of a program of PostgreSQL: from the PATH, else from Debian's folder of the newest version,
/// which is not on the PATH, else from the folder that `pg_config` names.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(debian_folders())
        .chain(pg_config_folder())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Returns the folder that has `initdb` and `postgres`. The program on the PATH may be a link to it.
pub(super) fn server_folder() -> Option<PathBuf> {
    let folder = find_program("initdb")?.canonicalize().ok()?.parent()?.to_owned();
    folder.join("postgres").is_file().then_some(folder)
}

/// Returns all folders `/usr/lib/postgresql/VERSION/bin`, the newest version first.
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
