//! The `psql` client, which makes a driver unnecessary.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::environment::remove_variables;

/// A way to run `psql`.
#[derive(Debug)]
pub(super) struct Psql {
    pub(super) program: PathBuf,
    /// Whether `psql` inherits the developer's `PG*` variables: they may hold the password of a given cluster,
    /// but must not redirect connections to a throw-away one.
    pub(super) inherits_settings: bool,
}

impl Psql {
    /// Runs `sql` in the database at `url`, and returns the rows or the error text.
    pub(super) fn run(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        if !self.inherits_settings {
            remove_variables(&mut command, |name| name.starts_with("PG"));
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
