//! PostgreSQL's own client, which spares us a driver.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::environment::forget_environment;

/// How to call `psql`.
#[derive(Debug)]
pub(super) struct Psql {
    pub(super) program: PathBuf,
    /// Whether the developer's `PG*` variables count: they may hold the password of a cluster that we were
    /// given, but must not redirect us away from one of our own.
    pub(super) inherits_settings: bool,
}

impl Psql {
    /// Runs `sql` in the database at `url`; the rows, or what went wrong.
    pub(super) fn run(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        if !self.inherits_settings {
            forget_environment(&mut command, "PG");
        }
        let output = command
            .args(["--no-psqlrc", "--no-password", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set", "ON_ERROR_STOP=1", "--dbname", url, "--command", sql])
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }
}
